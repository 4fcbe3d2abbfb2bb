import numpy as np
import pandas as pd
import pytest

from cytolabe.ingest.counts import find_counts
from cytolabe.ingest.h5ad import open_h5ad
from cytolabe.ingest.upstream import upstream_verdict

GENES = ("ACTB", "B2M", "EEF1A1", "FTL", "GAPDH", "MALAT1", "RPLP0", "TMSB4X", "MT-CO1", "MT-CO2", "MT-CO3", "MT-ND1")


def verdict_of(totals, features=GENES, **columns):
    return upstream_verdict(
        pd.DataFrame(columns, index=range(len(totals))), np.asarray(totals, dtype=np.int64), features
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pbmc_10x_3tech_symphony", 0.27), ("pbmc3k_clustifyr", 0.22), ("pbmc_5k10k_citeseq_scvi", 1.0)],
)
def test_what_is_left_of_real_files(real, name, expected):
    with open_h5ad(real / f"{name}.h5ad") as source:
        proof = find_counts(source)
        verdict = upstream_verdict(source.cell_table, proof.cell_totals, source.features(source.matrices[0]))
    assert verdict.fraction == pytest.approx(expected, abs=0.005)
    assert bool(verdict.findings) == (expected < 0.95)


def test_the_total_from_before_the_loss_decides():
    verdict = verdict_of([50, 100, 150], nCount_RNA=[50, 100, 150], n_counts=[100, 200, 300])
    assert (verdict.fraction, verdict.column) == (0.5, "n_counts")
    assert [finding.code for finding in verdict.findings] == ["W-UPSTREAM-01"]


def test_whole_files_have_no_finding():
    verdict = verdict_of([50, 100], nUMI=[50.0, 101.0])
    assert verdict.fraction == pytest.approx(0.995, abs=0.01)
    assert not verdict.findings


def test_totals_of_other_counts_are_said():
    assert [finding.code for finding in verdict_of([50, 100], nUMI=[10, 21]).findings] == ["W-UPSTREAM-03"]


def test_missing_housekeeping_genes_are_weaker_evidence():
    verdict = verdict_of([50, 100], features=("CD3E", "CD19"))
    assert verdict.fraction is None
    assert [finding.code for finding in verdict.findings] == ["N-UPSTREAM-02"]
    assert not verdict_of([50, 100]).findings


def test_a_window_of_ranks_without_rare_genes_is_told():
    rng = np.random.default_rng(0)
    mean = rng.lognormal(-3.5, 2.0, 400)
    counts = rng.poisson(mean, size=(200, 400))
    names = (
        "ACTB",
        "B2M",
        "EEF1A1",
        "FTL",
        "GAPDH",
        "MT-CO1",
        "MT-CO2",
        "MT-CO3",
        "MT-ND1",
        *(f"GENE{i}" for i in range(391)),
    )

    def found(kept):
        features = [name for name, keep in zip(names, kept, strict=True) if keep]
        return upstream_verdict(
            pd.DataFrame(index=range(200)),
            counts[:, kept].sum(axis=1),
            features,
            feature_totals=counts[:, kept].sum(axis=0),
        ).findings

    assert found(np.ones(400, dtype=bool)) == ()
    kept = counts.sum(axis=0) >= 20
    kept[:9] = True
    counts[:, :9] += 1
    (finding,) = found(kept)
    assert finding.code == "N-UPSTREAM-02"
    assert finding.examples == ("features with under 0.01 counts per cell",)
