"""From one labelled file to an atlas of many simulated donors, which says of itself that it is simulated."""

import dataclasses
import json
import re

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from cytolabe.config.manifest import Manifest
from cytolabe.config.study import LevelSpec, ModelSpec, Study, StudyDataset
from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.examine import examine
from cytolabe.flow.publish import publish_run
from cytolabe.flow.simulated_donors import simulate_from_study, why_no_profiles
from cytolabe.flow.study import run_study, study_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ingest.sources import SourceFile
from cytolabe.records import DatasetRecord, MatrixKind
from cytolabe.testing.donors import DonorDesign

N_GENES = 5_200
LABELS = {"B cell": 70, "classical monocyte": 70, "natural killer cell": 45}
DESIGN = DonorDesign(n_donors=12, cells_per_donor=24, n_rare=1, rare_share=0.05)


def write_file(path, *, n_genes=N_GENES):
    """Write labelled counts of `n_genes` coding genes, of which each type has some of its own."""
    rng = np.random.default_rng(5)
    genes = sorted(load_reference().protein_coding)[:n_genes]
    pooled = rng.gamma(0.4, 1.0, n_genes) + 1e-3
    names = [label for label, n_cells in LABELS.items() for _ in range(n_cells)]
    places = [list(LABELS).index(name) for name in names]
    shares = np.stack([pooled * np.where(np.arange(n_genes) % 30 == k, 6.0, 1.0) for k in range(len(LABELS))])
    shares /= shares.sum(axis=1, keepdims=True)
    counts = rng.poisson(shares[places] * np.exp(rng.normal(7.6, 0.3, len(names)))[:, None])
    obs = pd.DataFrame({"cell_type": names}, index=[f"cell{k}" for k in range(len(names))])
    file = anndata.AnnData(csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=genes))
    file.write_h5ad(path)


def study_of(path, *, name="origin"):
    manifest = Manifest(
        label="cell_type", label_origin="manual", study="real_lab", tissue="blood", organism="Homo sapiens"
    )
    return Study(name=name, datasets=(StudyDataset(path=path, manifest=manifest),))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    write_file(folder / "real_lab.h5ad")
    truth = simulate_from_study(study_of(folder / "real_lab.h5ad"), "real_lab", folder / "out", design=DESIGN)
    return folder / "out", truth


def test_the_truth_says_what_was_read_and_what_is_like_it(simulated):
    folder, truth = simulated
    assert json.loads((folder / "truth.json").read_text()) == json.loads(json.dumps(truth))
    read = truth["profiles"]["n_cells_read"]
    assert sorted(read) == ["CL:0000236", "CL:0000623", "CL:0000860"]
    for term, alike in truth["likeness"].items():
        assert 0 < read[term] < 70
        assert alike["n_real"] + read[term] in LABELS.values()
        assert alike["r_simulated"] > 0.8 * alike["r_read"] > 0.5
    assert truth["profiles_known"]["macro_f1"] > 0.9
    assert truth["profiles"]["source_digest"].startswith("sha256:")


def test_every_file_says_that_it_is_simulated(simulated):
    folder, _ = simulated
    files = sorted(folder.glob("*.h5ad"))
    assert len(files) == 3
    persons = []
    for path in files:
        file = anndata.read_h5ad(path)
        assert all(name.startswith("simulated_SIM") for name in file.obs_names)
        assert set(file.obs["label_source"]) == {"simulated"}
        assert file.uns["title"].startswith("SIMULATED")
        assert "design" in json.loads(file.uns["simulated"])
        persons += sorted(set(file.obs["donor_id"]))
    assert len(persons) == len(set(persons)) == 12
    assert (folder / "manifest.toml").read_text().count('label_origin = "simulated"') == 3
    answers = pq.read_table(folder / "true_profiles.parquet")
    assert answers.column_names == ["cell_id", "term"]
    assert answers.num_rows == 12 * 24


def test_a_study_on_them_is_stamped_from_the_first_line_although_nothing_was_declared(simulated, tmp_path):
    folder, _ = simulated
    datasets = tuple(
        StudyDataset(
            path=path,
            manifest=Manifest(
                label="cell_type", label_origin="manual", donor="donor_id", batch="batch", study=path.stem
            ),
        )
        for path in sorted(folder.glob("*.h5ad"))
    )
    study = Study(
        name="on_simulated", decision_level="types", n_seeds=1, gene_policies=("intersection",), ceilings=False,
        datasets=datasets, models=(ModelSpec(name="pca+knn"),),
        levels=(LevelSpec(name="types", terms=("CL:0000236", "CL:0000623", "CL:0000860")),),
    )  # fmt: skip
    evidence = run_study(study, tmp_path, sources=study_sources(study))
    content = publish_run(evidence, tmp_path)
    codes = {finding.code for outcome in evidence.outcomes for finding in outcome.findings}
    assert "W-ORIGIN-02" in codes  # declared manual, and the file says otherwise
    assert content.claims[0].startswith("SIMULATED: All data sets (simulated_east, simulated_north, simulated_south)")
    page = re.sub(r"\s+", " ", (tmp_path / "report.html").read_text())
    assert page.index('<p class="claim">SIMULATED: All data sets') < page.index('<section id="verdict"')
    scores = [s for s in evidence.result.scores if (s.model, s.metric, s.stratum) == ("pca+knn", "macro_f1", "all")]
    assert len(evidence.split.folds) == 3
    for score in scores:
        assert str(score.status) == "QUALIFIED"
        assert "simulated cells" in score.reason
    of_folds = [score for score in scores if score.split != "all folds"]
    assert {score.n_donors for score in of_folds} == {4}


def test_a_panel_carries_no_profiles(tmp_path):
    write_file(tmp_path / "real_lab.h5ad", n_genes=900)
    with pytest.raises(RefusedError, match=r"rule R3.*900 genes"):
        simulate_from_study(study_of(tmp_path / "real_lab.h5ad"), "real_lab", tmp_path / "out", design=DESIGN)
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_the_study_lacks_is_named(tmp_path):
    write_file(tmp_path / "real_lab.h5ad", n_genes=900)
    with pytest.raises(UsageError, match="no data set 'another'; it has real_lab"):
        simulate_from_study(study_of(tmp_path / "real_lab.h5ad"), "another", tmp_path / "out", design=DESIGN)


def test_no_profile_is_read_from_a_simulation_from_unproven_counts_or_from_a_part_of_a_cell():
    good = DatasetRecord(
        dataset_id="lab", title="", source_digest="", matrix="X", matrix_kind=MatrixKind.UMI, n_cells=9, n_features=9,
        n_nonzero=9, organism="Homo sapiens", study="lab",
    )  # fmt: skip
    assert why_no_profiles(good, n_genes=9_000) == ""
    bad = {
        "simulated itself": {"label_origin_suspected": "simulated"},
        "its counts are corrected": {"matrix_kind": MatrixKind.CORRECTED},
        "only 27% of the declared total": {"upstream_fraction_of_counts": 0.27},
    }
    for said, change in bad.items():
        assert said in why_no_profiles(dataclasses.replace(good, **change), n_genes=9_000)


def without_labels(file):
    file.obs = file.obs[["donor_id", "label_source"]]


def with_a_prediction_for_label(file):
    file.obs = file.obs.rename(columns={"cell_type": "predicted_labels"}).drop(columns="cell_type_ontology_term_id")


def with_uns_alone(file):
    file.obs = file.obs.drop(columns="label_source")


def that_is_denied(file):
    file.obs = file.obs.drop(columns="label_source")
    file.uns["simulated"] = False


def beside_real_cells(file):
    file.obs["label_source"] = ["simulated", *["FACS"] * (file.n_obs - 1)]


@pytest.mark.parametrize(
    ("edit", "suspected", "is_accepted"),
    [
        (without_labels, "simulated", True),
        (with_a_prediction_for_label, "simulated", True),
        (with_uns_alone, "simulated", True),
        (that_is_denied, "unknown", True),
        (beside_real_cells, "simulated", False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_stamp_is_read_of_every_file_and_of_a_part_of_its_cells(simulated, tmp_path, edit, suspected, is_accepted):
    folder, _ = simulated
    file = anndata.read_h5ad(min(folder.glob("*.h5ad")))
    edit(file)
    file.write_h5ad(tmp_path / "made.h5ad")
    manifest = Manifest(label_origin="manual", tissue="blood", organism="Homo sapiens")
    found = examine(SourceFile(path=tmp_path / "made.h5ad", manifest=manifest, dataset_id="made"))
    assert found.content.record.label_origin_suspected == suspected
    assert found.accepted == is_accepted, [finding for finding in found.findings if finding.severity == "error"]
    assert ("E-ORIGIN-04" in {finding.code for finding in found.findings}) is not is_accepted
