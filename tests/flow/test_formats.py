"""One laboratory delivers the same cells in two formats: the atlas holds the same counts, by digest."""

import gzip

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(3)
    counts = csr_matrix(rng.negative_binomial(0.4, 0.08, size=(60, 800)).astype(np.float32))
    cells, genes = [f"cell{i}" for i in range(60)], sorted(load_reference().protein_coding)[:800]
    data = anndata.AnnData(X=counts, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))
    data.write_h5ad(folder / "one.h5ad")
    with h5py.File(folder / "two.h5", "w") as file:
        group = file.create_group("matrix")
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(counts, part)
        group["shape"] = np.array([800, 60])
        group["barcodes"], group["features/id"] = np.array(cells, dtype="S"), np.array(genes, dtype="S")
    (folder / "three").mkdir()
    entries = counts.tocoo()
    lines = [f"{g + 1} {c + 1} {v:g}" for c, g, v in zip(entries.row, entries.col, entries.data, strict=True)]
    head = ["%%MatrixMarket matrix coordinate integer general", f"800 60 {counts.nnz}"]
    for name, text in {"matrix.mtx": head + lines, "barcodes.tsv": cells, "features.tsv": genes}.items():
        (folder / "three" / f"{name}.gz").write_bytes(gzip.compress(("\n".join(text) + "\n").encode()))
    return folder


def test_equal_cells_have_equal_digests_whatever_the_format(deliveries, tmp_path):
    outcomes, _, _ = ingest_sources(tmp_path / "atlas", [deliveries, deliveries / "three"])
    assert [(outcome.dataset_id, outcome.status) for outcome in outcomes] == [
        ("one", "accepted"), ("three", "accepted"), ("two", "accepted"),
    ]  # fmt: skip
    digests = {outcome.entry.partitions[0].digest for outcome in outcomes}
    assert len(digests) == 1
    assert all(outcome.n_bytes > 0 and len(outcome.source_sha256) == 64 for outcome in outcomes)


def test_one_organism_of_a_mixture_is_what_the_manifest_says(deliveries, tmp_path):
    content = (deliveries / "two.h5").read_bytes()
    (tmp_path / "mix.h5").write_bytes(content)
    with h5py.File(tmp_path / "mix.h5", "r+") as file:
        file["matrix/features/genome"] = np.array(["GRCh38"] * 780 + ["mm10"] * 20, dtype="S")
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [tmp_path / "mix.h5"])
    assert (outcome.status, outcome.findings[0].code) == ("refused", "E-TENX-01")
    (tmp_path / "manifest.toml").write_text('part = "GRCh38"\n')
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [tmp_path / "mix.h5"])
    assert (outcome.status, outcome.n_genes) == ("accepted", 780)


def test_a_file_that_crashes_its_reader_is_told_and_the_others_go_in(deliveries, tmp_path, monkeypatch):
    (tmp_path / "made_up_child.py").write_text(
        "import os, signal\nfrom cytolabe.ingest.child_limits import run_limited\n"
        "def look(path):\n    if path.name == 'bad.h5ad': os.kill(os.getpid(), signal.SIGSEGV)\n    return ()\n"
        "run_limited(look)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("cytolabe.ingest.source.HDF5_CHILD", "made_up_child")
    (tmp_path / "bad.h5ad").write_bytes((deliveries / "one.h5ad").read_bytes())
    outcomes, _, revision = ingest_sources(tmp_path / "atlas", [tmp_path / "bad.h5ad", deliveries / "one.h5ad"])
    assert [(outcome.status, outcome.unreadable) for outcome in outcomes] == [("refused", True), ("accepted", False)]
    assert [finding.code for finding in outcomes[0].findings] == ["E-PARSE-01"]
    assert revision == 1
