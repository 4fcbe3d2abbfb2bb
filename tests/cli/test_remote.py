"""Sources of CELLxGENE Discover on the command line and in a study; a server on this machine stands for it."""

import re
import warnings
from pathlib import Path

import anndata
import numpy as np
import pytest

from cytolabe.config import read_study
from cytolabe.ingest.cellxgene import API_VARIABLE
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.resolutions import DeclaredLevel, build_resolutions
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.testing.discover import SimulatedDataset, publish_collection, simulated_id
from cytolabe.testing.web_server import WebServer

STUDIES = Path(__file__).resolve().parents[2] / "studies"
RECIPES = ("aida_v2", "hlca_core", "tabula_sapiens")
DATASET, VERSION = simulated_id(2, 5), simulated_id(3, 500)


@pytest.fixture(scope="module")
def published(simulated, tmp_path_factory):
    """Return the bytes of a file of Discover's schema: the lab that labels with the names of the ontology."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's notes on future defaults
        adata = anndata.read_h5ad(simulated / "fir.h5ad")
        adata.obs["is_primary_data"] = np.arange(adata.n_obs) % 10 != 0
        path = tmp_path_factory.mktemp("published") / "file.h5ad"
        adata.write_h5ad(path)
    return path.read_bytes()


@pytest.fixture
def discover(published, monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CYTOLABE_CACHE", str(tmp_path / "cache"))
    web = WebServer()
    monkeypatch.setenv(API_VARIABLE, f"{web.address}/curation/v1")
    publish_collection(web, 3, (SimulatedDataset(number=5, title="Blood", versions=(published,)),))
    yield web
    web.close()


def test_a_data_set_of_discover_enters_with_its_citation_and_only_once(discover, call, tmp_path):
    called = call("ingest", tmp_path / "atlas", f"cellxgene:{DATASET}", "--json")
    assert called.code == 0
    assert [(row["dataset_id"], row["status"]) for row in called.document["datasets"]] == [(DATASET, "accepted")]
    atlas = open_atlas(tmp_path / "atlas")
    declared = atlas.entry(DATASET).record.declared
    assert declared["version"] == VERSION
    assert declared["doi"] == "10.1234/simulated.3"
    assert declared["citation"].startswith("Publication: https://doi.org/10.1234/simulated.3 Dataset Version: ")
    assert atlas.entry(DATASET).record.title == "Blood"
    assert "is_primary_data" in atlas.contributed(DATASET).columns
    again = call("ingest", tmp_path / "atlas", f"cellxgene:{DATASET}", "--json")
    assert again.code == 0
    assert [row["status"] for row in again.document["datasets"]] == ["unchanged"]
    assert discover.ranges_of(f"/{VERSION}.h5ad") == [""]


def test_a_download_that_broke_off_goes_on_where_it_stopped(discover, call, published, tmp_path):
    half = len(published) // 2
    discover.faults[f"/{VERSION}.h5ad"] = [f"truncated:{half}"]
    called = call("ingest", tmp_path / "atlas", f"cellxgene:{DATASET}", "--json")
    assert [row["status"] for row in called.document["datasets"]] == ["accepted"]
    assert discover.ranges_of(f"/{VERSION}.h5ad") == ["", f"bytes={half}-"]


def test_what_discover_does_not_have_stops_the_call_and_makes_no_atlas(discover, call, tmp_path):
    called = call("ingest", tmp_path / "atlas", f"cellxgene:{simulated_id(2, 77)}", "--json")
    assert called.code == 3
    assert called.document["error"]["type"] == "UnreachableSourceError"
    assert not (tmp_path / "atlas").exists()


@pytest.mark.slow
def test_a_recipe_runs_from_fetching_to_scores(discover, call, tmp_path):
    recipe = (STUDIES / "aida_v2.toml").read_text(encoding="utf-8").partition("[[model]]")[0]
    recipe = re.sub(r"cellxgene:[0-9a-f-]+", f"cellxgene:{DATASET}", recipe).replace(
        "ceilings = true", "ceilings = false"
    )
    (tmp_path / "recipe.toml").write_text(f'{recipe}[[model]]\nname = "majority"\n\n[[model]]\nname = "pca"\n')
    called = call("benchmark", tmp_path / "recipe.toml", "--out", tmp_path / "out", "--json")
    assert called.code == 0, called.err[-2000:]
    assert called.document["scores"]
    assert {row["model"].partition("+")[0] for row in called.document["scores"]} >= {"majority", "pca"}
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_one_data_set_and_levels_that_the_ontology_has(name):
    study = read_study(STUDIES / f"{name}.toml")
    (dataset,) = study.datasets
    assert re.fullmatch(r"cellxgene:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", dataset.source)
    assert dataset.manifest.label == "cell_type"
    declared = tuple(DeclaredLevel(name=level.name, terms=level.terms) for level in study.levels)
    terms = {term: 10 for level in study.levels for term in level.terms}
    ontology = load_ontology("CL")
    built = build_resolutions(terms, ontology=ontology, declared=declared)
    assert study.decision_level in {level.name for level in built.levels}
    assert not [term for term in terms if ontology.is_obsolete(term)]


@pytest.mark.parametrize("name", RECIPES)
def test_the_comments_of_a_recipe_name_its_terms_as_the_ontology_does(name):
    ontology = load_ontology("CL")
    written = re.findall(r'"(CL:\d{7})",  # (.+)', (STUDIES / f"{name}.toml").read_text(encoding="utf-8"))
    assert written
    assert [(term, ontology.name(term)) for term, _ in written] == written
