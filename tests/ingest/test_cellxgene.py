"""What an id of CELLxGENE Discover stands for, and what is declared of it; asked of a server in the API's shape."""

import pytest

from cytolabe.config.manifest import Manifest
from cytolabe.errors import IntegrityError, UnreachableSourceError, UsageError
from cytolabe.ingest.cellxgene import API_VARIABLE, fetch_dataset, find_datasets
from cytolabe.ingest.web import WebClient
from cytolabe.testing.discover import SimulatedDataset, publish_collection, simulated_id


@pytest.fixture
def client():
    return WebClient(timeout_seconds=5.0, wait=lambda _: None)


@pytest.fixture
def discover(web, monkeypatch):
    monkeypatch.setenv(API_VARIABLE, f"{web.address}/curation/v1/")
    publish_collection(
        web,
        1,
        (
            SimulatedDataset(number=8, title="Lung", versions=(b"first", b"second one")),
            SimulatedDataset(number=7, title="Heart", versions=(b"heart",)),
        ),
    )
    return web


def bytes_of(identifier, folder, client):
    return {
        dataset.dataset_id: fetch_dataset(dataset, folder, client=client).path.read_bytes()
        for dataset in find_datasets(identifier, client=client)
    }


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        pytest.param(simulated_id(1, 1), {7: b"heart", 8: b"second one"}, id="a collection is all its data sets"),
        pytest.param(simulated_id(4, 1), {7: b"heart", 8: b"second one"}, id="a version of a collection too"),
        pytest.param(simulated_id(2, 8), {8: b"second one"}, id="a data set is its newest version"),
        pytest.param(simulated_id(3, 800), {8: b"first"}, id="a version is that version for ever"),
        pytest.param(simulated_id(3, 801).upper() + " ", {8: b"second one"}, id="letters may be large"),
    ],
)
def test_an_id_of_any_kind_finds_its_files(identifier, expected, discover, tmp_path, client):
    found = bytes_of(identifier, tmp_path, client)
    assert found == {simulated_id(2, number): content for number, content in expected.items()}


def test_what_discover_says_is_declared_and_its_schema_names_the_columns(discover, client):
    (dataset,) = find_datasets(simulated_id(3, 800), client=client)
    url = f"{discover.address}/{simulated_id(3, 800)}.h5ad"
    page = f"https://cellxgene.cziscience.com/collections/{simulated_id(1, 1)}"
    assert dataset.manifest == Manifest(
        id=simulated_id(2, 8),
        title="Lung",
        organism="Homo sapiens",
        study=simulated_id(1, 1),
        licence="CC-BY-4.0",
        citation=(
            f"Publication: https://doi.org/10.1234/simulated.1 Dataset Version: {url} curated and distributed by "
            f"CZ CELLxGENE Discover in Collection: {page}"
        ),
        doi="10.1234/simulated.1",
        collection=f"Collection 1 {page}",
        version=simulated_id(3, 800),
        schema_version="7.0.0",
        source_url=url,
        date="2025-01-02",
        label="cell_type",
        donor="donor_id",
        assay_column="assay",
        suspension_type_column="suspension_type",
        tissue_column="tissue",
        disease_column="disease",
        sex_column="sex",
    )


def test_a_citation_that_discover_gives_is_taken_as_it_is(discover, client):
    path = f"/curation/v1/dataset_versions/{simulated_id(3, 800)}"
    discover.documents[path] = {**discover.documents[path], "citation": "Cite me."}
    assert find_datasets(simulated_id(3, 800), client=client)[0].manifest.citation == "Cite me."


@pytest.mark.parametrize("wrong", ["", "lung", "../etc/passwd", simulated_id(1, 1)[:-1], f"{simulated_id(1, 1)}/x"])
def test_a_text_that_is_no_id_is_never_sent(wrong, discover, client):
    with pytest.raises(UsageError, match="no id of CELLxGENE Discover"):
        find_datasets(wrong, client=client)
    assert discover.requests == []


def test_an_id_that_nobody_has_is_told_after_every_kind_was_asked(discover, client):
    with pytest.raises(UnreachableSourceError, match="no collection, data set or version of this id"):
        find_datasets(simulated_id(9, 9), client=client)
    assert len(discover.requests) == 4


def test_a_withdrawn_id_is_told_as_such(discover, client):
    discover.faults[f"/curation/v1/collections/{simulated_id(1, 1)}"] = ["gone"]
    with pytest.raises(UnreachableSourceError, match="has withdrawn it"):
        find_datasets(simulated_id(1, 1), client=client)


def test_a_page_where_data_belong_is_told_as_such(discover, client):
    discover.faults[f"/curation/v1/collections/{simulated_id(1, 1)}"] = ["page"]
    with pytest.raises(UnreachableSourceError, match=r"web page.*login page"):
        find_datasets(simulated_id(1, 1), client=client)


def test_a_server_that_is_down_for_a_moment_is_asked_again(discover, client):
    discover.faults[f"/curation/v1/collections/{simulated_id(1, 1)}"] = ["unavailable", "busy:1"]
    assert len(find_datasets(simulated_id(1, 1), client=client)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"assets": []}, "no h5ad file", id="a data set without a file"),
        pytest.param({"dataset_id": "../../x"}, "no ids", id="an id that is a path"),
        pytest.param({"dataset_version_id": "a/b"}, "no ids", id="a version that is a path"),
    ],
)
def test_an_answer_is_not_trusted_either(change, words, discover, client):
    path = f"/curation/v1/dataset_versions/{simulated_id(3, 800)}"
    discover.documents[path] = {**discover.documents[path], **change}
    with pytest.raises(UnreachableSourceError, match=words):
        find_datasets(simulated_id(3, 800), client=client)


def test_an_address_that_the_answer_leads_to_must_be_safe(discover, tmp_path, client):
    path = f"/curation/v1/dataset_versions/{simulated_id(3, 800)}"
    asset = {"filetype": "H5AD", "filesize": 5, "url": "file:///etc/passwd"}
    discover.documents[path] = {**discover.documents[path], "assets": [asset]}
    with pytest.raises(UsageError, match="only https"):
        bytes_of(simulated_id(3, 800), tmp_path, client)


def test_a_size_that_discover_does_not_know_is_no_size(discover, tmp_path, client):
    path = f"/curation/v1/dataset_versions/{simulated_id(3, 800)}"
    record = discover.documents[path]
    asset = {**record["assets"][1], "filesize": -1}
    discover.documents[path] = {**record, "assets": [asset]}
    assert bytes_of(simulated_id(3, 800), tmp_path, client) == {simulated_id(2, 8): b"first"}
    discover.documents[path] = {**record, "assets": [{**asset, "filesize": 6}]}
    (tmp_path / "cellxgene" / f"{simulated_id(3, 800)}.h5ad").unlink()
    with pytest.raises(IntegrityError):
        bytes_of(simulated_id(3, 800), tmp_path, client)
