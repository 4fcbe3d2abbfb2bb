"""A contribution goes in once, whole, and the same whoever reads it."""

import os
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.flow.sources import ingest_sources, validate_paths
from cytolabe.flow.study import run_study
from cytolabe.genes.reference import load_reference
from cytolabe.ingest.sources import find_sources
from cytolabe.snapshot.atlas import open_atlas


@pytest.fixture(scope="module")
def contribution(tmp_path_factory):
    """Return a small file as a lab would write it."""
    rng = np.random.default_rng(5)
    genes = sorted(load_reference().protein_coding)[:900]
    counts = csr_matrix(rng.negative_binomial(0.4, 0.08, size=(80, 900)).astype(np.float32))
    labels = np.array(["B cells", "NK", "CD14+ Mono", "CD4 T"])[np.arange(80) % 4]
    table = pd.DataFrame({"cell_type": labels, "donor_id": np.array(["d1", "d2"])[np.arange(80) // 40]})
    table.index = [f"cell{i}" for i in range(80)]
    data = anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=genes))
    path = tmp_path_factory.mktemp("lab") / "lab.h5ad"
    data.write_h5ad(path)
    return path


def test_the_same_file_again_is_unchanged_and_makes_no_revision(contribution, tmp_path):
    (first,), _, revision = ingest_sources(tmp_path / "atlas", [contribution])
    (second,), _, again = ingest_sources(tmp_path / "atlas", [contribution])
    assert (first.status, second.status) == ("accepted", "unchanged")
    assert again == revision


def test_the_same_id_with_other_counts_replaces_the_data_set(contribution, tmp_path):
    ingest_sources(tmp_path / "atlas", [contribution])
    before = open_atlas(tmp_path / "atlas").freeze().snapshot_id
    data = anndata.read_h5ad(contribution)
    data.X[0, data.X[0].indices[0]] += 1
    changed = tmp_path / "lab.h5ad"
    data.write_h5ad(changed)
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [changed])
    atlas = open_atlas(tmp_path / "atlas")
    assert outcome.status == "accepted"
    assert atlas.dataset_ids == ("lab",)
    assert atlas.freeze().snapshot_id != before


def test_counts_come_back_as_the_lab_delivered_them(contribution, tmp_path):
    ingest_sources(tmp_path / "atlas", [contribution])
    snapshot = open_atlas(tmp_path / "atlas").freeze()
    delivered = anndata.read_h5ad(contribution)
    genes = list(delivered.var_names[::7])
    stored = snapshot.counts(np.arange(80), genes)
    assert (stored != csr_matrix(delivered[:, genes].X)).nnz == 0


def test_a_refused_file_leaves_the_atlas_as_it_was(contribution, tmp_path):
    data = anndata.read_h5ad(contribution)
    data.X.data = np.log1p(data.X.data)
    data.write_h5ad(tmp_path / "logged.h5ad")
    outcomes, _, revision = ingest_sources(tmp_path / "atlas", [tmp_path / "logged.h5ad"])
    assert [outcome.status for outcome in outcomes] == ["refused"]
    assert revision == 0
    assert "E-COUNTS-01" in {finding.code for finding in outcomes[0].findings}


def test_the_manifest_of_the_folder_decides_over_what_would_be_inferred(contribution, tmp_path):
    shutil.copy(contribution, tmp_path / "lab.h5ad")
    (tmp_path / "manifest.toml").write_text(
        'study = "ours"\nkit = "10x 3\' v3"\n[[dataset]]\nfile = "lab.h5ad"\nid = "renamed"\n'
    )
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [tmp_path])
    record = open_atlas(tmp_path / "atlas").freeze().datasets["renamed"]
    assert outcome.dataset_id == "renamed"
    assert record.study == "ours"
    assert record.provenance["kit"] == "declared"
    assert record.provenance["reads"] == "unknown"
    assert record.columns["label"] == "cell_type"


def test_validation_of_a_file_and_of_the_atlas_it_went_into_agree(contribution, tmp_path):
    ingest_sources(tmp_path / "atlas", [contribution])
    (of_file,) = validate_paths([contribution])
    (of_atlas,) = validate_paths([tmp_path / "atlas"])
    assert of_file.valid
    assert of_file.findings == of_atlas.findings


def test_the_snapshot_id_does_not_depend_on_compression_order_or_dtype(contribution, tmp_path):
    data = anndata.read_h5ad(contribution)
    data.X = csr_matrix(data.X, dtype=np.int64)
    data.write_h5ad(tmp_path / "lab.h5ad", compression="gzip")
    ids = set()
    for name, path in (("a", contribution), ("b", tmp_path / "lab.h5ad")):
        ingest_sources(tmp_path / name, [path])
        ids.add(open_atlas(tmp_path / name).freeze().snapshot_id)
    assert len(ids) == 1


def test_one_atlas_has_one_organism_and_the_other_files_are_refused_by_name(contribution, tmp_path):
    rng = np.random.default_rng(6)
    genes = sorted(load_reference("Mus musculus").protein_coding)[:900]
    counts = csr_matrix(rng.negative_binomial(0.4, 0.08, size=(30, 900)).astype(np.float32))
    anndata.AnnData(X=counts, var=pd.DataFrame(index=genes)).write_h5ad(tmp_path / "mouse.h5ad")
    outcomes, _, _ = ingest_sources(tmp_path / "atlas", [tmp_path / "mouse.h5ad", contribution])
    assert {outcome.dataset_id: outcome.status for outcome in outcomes} == {"lab": "accepted", "mouse": "refused"}
    finding = outcomes[1].findings[-1]
    assert finding.code == "E-ORGANISM-04"
    assert "Mus musculus" in finding.message
    assert open_atlas(tmp_path / "atlas").dataset_ids == ("lab",)


@pytest.mark.parametrize("spelling", ["human", "NCBITaxon:9606", "homo sapiens"])
def test_an_organism_has_one_name_however_it_is_spelled(contribution, tmp_path, spelling):
    data = anndata.read_h5ad(contribution)
    data.obs["organism"] = spelling
    data.write_h5ad(tmp_path / "lab.h5ad")
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [tmp_path / "lab.h5ad"])
    assert outcome.status == "accepted"
    assert set(open_atlas(tmp_path / "atlas").freeze().cells["organism"]) == {"Homo sapiens"}


def test_a_study_is_not_built_on_data_sets_that_it_does_not_name(contribution, tmp_path, quick_study):
    ingest_sources(tmp_path / "out" / "atlas", [contribution], dataset_id="somebody_else")
    sources, _ = find_sources([contribution])
    with pytest.raises(UsageError, match="does not name: somebody_else"):
        run_study(quick_study, tmp_path / "out", sources=sources)


def test_a_table_of_older_gene_names_is_recorded_by_its_digest(contribution, tmp_path):
    gene = min(load_reference().protein_coding)
    data = anndata.read_h5ad(contribution)
    data.var_names = ["MY-OLD-NAME", *data.var_names[1:]]
    data.write_h5ad(tmp_path / "lab.h5ad")
    (tmp_path / "aliases.tsv").write_text(f"alias\tgene\nMY-OLD-NAME\t{gene}\n")
    ingest_sources(tmp_path / "atlas", [tmp_path / "lab.h5ad"], aliases=tmp_path / "aliases.tsv")
    snapshot = open_atlas(tmp_path / "atlas").freeze()
    assert gene in snapshot.measured_genes("lab")
    assert snapshot.datasets["lab"].declared["gene_aliases"]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_refused_and_not_read_without_end(tmp_path, kind):
    source = tmp_path / "lab.h5ad"
    os.mkfifo(source) if kind == "pipe" else source.symlink_to("/dev/zero")
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [source])
    assert (outcome.status, outcome.unreadable) == ("refused", True)
    assert [finding.code for finding in outcome.findings] == ["E-FILE-02"]


def test_a_file_that_may_not_be_read_keeps_no_other_one_out(contribution, tmp_path, monkeypatch):
    denied = tmp_path / "denied.h5ad"
    shutil.copy(contribution, denied)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != denied and allowed(path, mode))
    outcomes, _, _ = ingest_sources(tmp_path / "atlas", [denied, contribution])
    by_source = {outcome.source: outcome for outcome in outcomes}
    assert [finding.code for finding in by_source["denied.h5ad"].findings] == ["E-FILE-11"]
    assert by_source[contribution.name].status == "accepted"
