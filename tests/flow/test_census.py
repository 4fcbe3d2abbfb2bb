"""Cells of a SOMA experiment enter an atlas as the same cells do from their own files, data set by data set."""

import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import (
    IntegrityError,
    MissingExtraError,
    RefusedError,
    UnreachableSourceError,
    UnreadableInputError,
    UsageError,
)
from cytolabe.flow.remote import CACHE_VARIABLE, gather_sources, is_remote
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ingest.census_experiment import CensusExperiment
from cytolabe.ingest.census_query import DIRECTORY_VARIABLE, URI_VARIABLE, describe_query
from cytolabe.ingest.source import open_source
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.testing.web_server import WebServer

soma = pytest.importorskip("tiledbsoma", reason="the [soma] extra is not installed")
soma_io = pytest.importorskip("tiledbsoma.io", reason="the [soma] extra is not installed")

GENES = sorted(load_reference().protein_coding)
IDS = ("11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002")
LUNG = "tissue_general == 'lung' and is_primary_data == True"


def lab(number):
    """Return 60 cells of one data set; the two measured genes that overlap in part."""
    rng = np.random.default_rng(number)
    counts = rng.negative_binomial(0.4, 0.08, size=(60, 700)).astype(np.float32)
    counts[:, 0] += 1
    obs = pd.DataFrame({
        "dataset_id": IDS[number],
        "donor_id": np.array(["d1", "d2"])[np.arange(60) % 2],
        "assay": "10x 3' v3",
        "cell_type": pd.Categorical(np.array(["B cell", "natural killer cell"])[np.arange(60) // 5 % 2]),
        "cell_type_ontology_term_id": np.array(["CL:0000236", "CL:0000623"])[np.arange(60) // 5 % 2],
        "tissue": "lung parenchyma",
        "tissue_general": np.where(np.arange(60) < 50, "lung", "blood"),
        "is_primary_data": np.arange(60) != 7,
        "observation_joinid": [f"join{number}_{i}" for i in range(60)],
    })  # fmt: skip
    obs.index = obs["observation_joinid"].to_numpy()
    genes = GENES[number * 300 : number * 300 + 700]
    return anndata.AnnData(X=csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Descriptors go nowhere else."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def labs():
    return lab(0), lab(1)


@pytest.fixture(scope="module")
def experiment(labs, tmp_path_factory):
    """Return an experiment with both data sets, without a presence matrix."""
    uri = tmp_path_factory.mktemp("soma") / "experiment"
    write_experiment(uri, labs)
    return uri


def write_experiment(uri, labs):
    mapping = soma_io.register_anndatas(
        None, labs, measurement_name="RNA", obs_field_name="obs_id", var_field_name="feature_id"
    )
    for number, adata in enumerate(labs):
        if number:
            mapping.prepare_experiment(str(uri))
        soma_io.from_anndata(str(uri), adata.copy(), "RNA", registration_mapping=mapping, X_layer_name="raw")


@pytest.fixture(scope="module")
def census(labs, tmp_path_factory):
    """Return a census: the experiment with a presence matrix, below census_data, beside census_info."""
    pa = pytest.importorskip("pyarrow")
    root = tmp_path_factory.mktemp("census")
    uri = root / "cell-census" / "2025-01-30" / "soma"
    (uri.parent).mkdir(parents=True)
    write_experiment(root / "experiment", labs)
    with soma.Experiment.open(str(root / "experiment")) as made:
        names = made.ms["RNA"].var.read().concat().to_pandas().set_index("var_id")["soma_joinid"]
    with soma.Experiment.open(str(root / "experiment"), "w") as made:
        presence = made.ms["RNA"].add_new_sparse_ndarray(
            "feature_dataset_presence_matrix", type=pa.uint8(), shape=(6, len(names))
        )
        for number, adata in enumerate(labs):
            columns = np.sort(names[list(adata.var_names)].to_numpy())
            ones = pa.array(np.ones(len(columns)), type=pa.uint8())
            rows = pa.array(np.full(len(columns), 5 - number), type=pa.int64())
            presence.write(pa.table({"soma_dim_0": rows, "soma_dim_1": columns, "soma_data": ones}))
    told = pa.table(
        {
            "soma_joinid": pa.array([5, 4], type=pa.int64()),
            "dataset_id": list(IDS),
            "dataset_title": ["Lung A", "Lung B"],
            "collection_doi": ["10.1234/a", "10.1234/b"],
            "citation": ["Cite A.", "Cite B."],
            "dataset_version_id": ["v-a", "v-b"],
        }
    )
    with soma.Collection.create(str(uri)) as whole:
        info = whole.add_new_collection("census_info")
        info.add_new_dataframe("datasets", schema=told.schema, domain=[(0, 9)]).write(told)
        whole.add_new_collection("census_data").set(
            "homo_sapiens", soma.Experiment.open(str(root / "experiment")), use_relative_uri=False
        )
    return root


def content(atlas):
    """Return of each data set its features, and of each of its cells the counts in their order."""
    snapshot = open_atlas(atlas).freeze()
    held = {}
    for name in IDS:
        rows = np.flatnonzero((snapshot.cells["dataset_id"] == name).to_numpy())
        genes = sorted(snapshot.features(name))
        counts = snapshot.counts(rows, genes).toarray()
        held[name] = (genes, dict(zip(snapshot.cells.index[rows], counts.tolist(), strict=True)))
    return held


def test_a_query_holds_the_counts_of_the_equal_files(labs, census, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for adata in labs:
        kept = adata[(adata.obs["tissue_general"] == "lung") & adata.obs["is_primary_data"]].copy()
        kept.write_h5ad(folder / f"{kept.obs['dataset_id'].iloc[0]}.h5ad")
    ingest_sources(tmp_path / "of_files", [folder])
    where = f"census[{census / 'cell-census' / '2025-01-30' / 'soma'}]:{LUNG}"
    said = []
    outcomes, findings, _ = ingest_sources(tmp_path / "of_census", [where], on_progress=said.append)
    # The file that stands for a data set is small; what it stands for is not.
    assert any(f"{len(outcomes)} data set(s) of a SOMA experiment come on top" in line for line in said)
    assert [(outcome.dataset_id, outcome.status) for outcome in outcomes] == [(name, "accepted") for name in IDS]
    assert findings == ()
    assert content(tmp_path / "of_census") == content(tmp_path / "of_files")
    record = open_atlas(tmp_path / "of_census").entry(IDS[0]).record
    assert (record.title, record.n_cells) == ("Lung A", 49)
    contributed = open_atlas(tmp_path / "of_census").contributed(IDS[0])
    assert set(labs[0].obs) | {"soma_joinid"} <= set(contributed.columns)
    again, _, _ = ingest_sources(tmp_path / "of_census", [where])
    assert {outcome.status for outcome in again} == {"unchanged"}


def test_without_a_presence_matrix_all_genes_count_as_measured_and_that_is_told(experiment, tmp_path):
    outcomes, _, _ = ingest_sources(tmp_path / "atlas", [f"census[{experiment}]:dataset_id == '{IDS[0]}'"])
    assert [(outcome.dataset_id, outcome.status) for outcome in outcomes] == [(IDS[0], "accepted")]
    assert "W-CENSUS-02" in {finding.code for finding in outcomes[0].findings}
    assert len(open_atlas(tmp_path / "atlas").freeze().features(IDS[0])) == 1000


@pytest.mark.parametrize(
    ("where", "words"),
    [
        pytest.param("tissue_general == 'moon'", "no cell of", id="nothing fits"),
        pytest.param("tissu == 'lung'", "tissu.*Columns: .*tissue_general", id="no such column"),
        pytest.param("tissue_general = 'lung'", "parse.*Write conditions", id="no condition at all"),
        pytest.param("tissue_general == lung", "quote", id="a word without quotes"),
        pytest.param("dataset_id == 3", "Write conditions", id="a number for a text"),
    ],
)
def test_a_filter_that_is_wrong_or_finds_nothing_stops_at_once(where, words, experiment, tmp_path):
    with pytest.raises(UsageError, match=words):
        ingest_sources(tmp_path / "atlas", [f"census[{experiment}]:{where}"])
    assert not (tmp_path / "atlas").exists()


def test_what_is_no_experiment_is_told(tmp_path):
    with pytest.raises(UnreachableSourceError, match="no SOMA experiment"):
        gather_sources([f"census[{tmp_path / 'gone'}]:{LUNG}"], cache=tmp_path)


def test_the_presence_matrix_is_not_guessed_without_the_census_that_explains_it(census, tmp_path):
    (source, _) = describe_query(f"census[{census / 'experiment'}]:{LUNG}", tmp_path)
    with pytest.raises(UsageError, match="Name the census itself"), open_source(source.path):
        pass


def test_a_release_is_found_in_the_directory_and_its_counts_are_hashed_once(census, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    web = WebServer()
    web.documents["/v1/release.json"] = {
        "stable": "2025-01-30",
        "2025-01-30": {"soma": {"relative_uri": "/cell-census/2025-01-30/soma/"}},
    }
    web.documents["/v1/mirrors.json"] = {"default": "here", "here": {"base_uri": f"{census}/"}}
    monkeypatch.setenv(DIRECTORY_VARIABLE, f"{web.address}/v1")
    try:
        one = describe_query(f"census:{LUNG}", tmp_path)
        monkeypatch.setattr("cytolabe.ingest.census_experiment.CensusExperiment.digest_of_counts", None)
        assert describe_query(f"census[2025-01-30]:{LUNG}", tmp_path) == one
        with pytest.raises(UsageError, match=r"no such release.*2025-01-30"):
            describe_query(f"census[2020-01-01]:{LUNG}", tmp_path)
        with pytest.raises(UsageError, match="no organism"):
            describe_query(f"census[#mus_musculus]:{LUNG}", tmp_path)
    finally:
        web.close()
    assert {source.manifest.doi for source in one} == {"10.1234/a", "10.1234/b"}
    assert {source.manifest.organism for source in one} == {"Homo sapiens"}


def test_an_experiment_that_changed_after_the_question_is_not_read(labs, tmp_path):
    write_experiment(tmp_path / "soma", labs[:1])
    (source,) = describe_query(f"census[{tmp_path / 'soma'}]:{LUNG}", tmp_path)
    with soma.Experiment.open(str(tmp_path / "soma")) as made:
        cells = made.obs.read().concat()
    with soma.Experiment.open(str(tmp_path / "soma"), "w") as made:
        column = cells.column("donor_id").to_pylist()
        made.obs.write(cells.set_column(cells.schema.get_field_index("donor_id"), "donor_id", [column[::-1]]))
    with pytest.raises(IntegrityError, match="holds other cells"), open_source(source.path):
        pass


def test_a_changed_count_is_another_source(labs, tmp_path):
    write_experiment(tmp_path / "soma", labs[:1])
    query = f"census[{tmp_path / 'soma'}]:{LUNG}"
    (source,) = describe_query(query, tmp_path)
    before = source.path.read_bytes()
    assert describe_query(query, tmp_path) == (source,)
    assert source.path.read_bytes() == before
    with soma.Experiment.open(str(tmp_path / "soma"), "w") as made:
        counts = made.ms["RNA"].X["raw"]
        counts.write(_one_count(cell=0, feature=0, value=99.0))
    describe_query(query, tmp_path)
    assert source.path.read_bytes() != before


def _one_count(*, cell, feature, value):
    pa = pytest.importorskip("pyarrow")
    return pa.table(
        {
            "soma_dim_0": pa.array([cell], type=pa.int64()),
            "soma_dim_1": pa.array([feature], type=pa.int64()),
            "soma_data": pa.array([value], type=pa.float32()),
        }
    )


def test_counts_of_a_gene_that_was_not_measured_are_refused_and_not_dropped(experiment, tmp_path, monkeypatch):
    (source,) = describe_query(f"census[{experiment}]:dataset_id == '{IDS[0]}'", tmp_path)
    whole = CensusExperiment.features_of
    monkeypatch.setattr(CensusExperiment, "features_of", lambda self, name: (whole(self, name)[0].iloc[1:], True))
    with open_source(source.path) as opened, pytest.raises(RefusedError, match=r"E-CENSUS-03.*60 counts"):
        opened.read_cells(opened.matrices[0], start=0, stop=60)


def test_entries_that_the_table_of_cells_tells_bound_what_is_read_at_once(labs, tmp_path):
    adata = labs[0].copy()
    adata.obs["nnz"] = np.diff(adata.X.indptr).astype(np.int64)
    write_experiment(tmp_path / "soma", (adata,))
    (source,) = describe_query(f"census[{tmp_path / 'soma'}]:is_primary_data == True", tmp_path)
    with open_source(source.path) as opened:
        (matrix,) = opened.matrices
        kept = adata[adata.obs["is_primary_data"]]
        assert matrix.n_nonzero == kept.X.nnz
        blocks = list(opened.iter_blocks(matrix, dataset_id="x", max_nonzero=2000))
        names = tuple(name for block in blocks for name in block.cell_names)
        column = {gene: at for at, gene in enumerate(opened.features(matrix))}
        read = np.concatenate([block.counts.toarray() for block in blocks])
    assert len(blocks) > 3
    assert max(block.counts.nnz for block in blocks) <= 2000
    assert names == tuple(kept.obs["observation_joinid"])
    assert (read[:, [column[gene] for gene in kept.var_names]] == kept.X.toarray()).all()


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "cytolabe/census/1", "uri": "x"}'])
def test_a_damaged_descriptor_is_told(text, tmp_path):
    path = tmp_path / "x.census.json"
    path.write_text(f"{text}\n" if "format" in text else f"{text} cytolabe/census/1")
    with pytest.raises(UnreadableInputError, match="E-CENSUS-01"), open_source(path):
        pass


def test_a_descriptor_that_somebody_delivers_is_not_followed(experiment, tmp_path):
    (source,) = describe_query(f"census[{experiment}]:dataset_id == '{IDS[0]}'", tmp_path)
    sources, findings = gather_sources([source.path])
    assert sources == ()
    assert [finding.code for finding in findings] == ["E-REMOTE-02"]
    delivered = tmp_path / "lab.h5ad"
    delivered.write_bytes(source.path.read_bytes())
    outcomes, _, _ = ingest_sources(tmp_path / "atlas", [delivered])
    assert [outcome.status for outcome in outcomes] == ["refused"]


def test_without_tiledbsoma_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiledbsoma", None)
    monkeypatch.setenv(URI_VARIABLE, str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"cytolabe\[soma\]"):
        gather_sources([f"census:{LUNG}"], cache=tmp_path)


@pytest.mark.parametrize(
    ("text", "remote"),
    [("census:a == 1", True), ("census[/x]:a == 1", True), ("census.h5ad", False), ("census_data", False)],
)
def test_only_a_query_is_a_query(text, remote):
    assert is_remote(text) == remote
