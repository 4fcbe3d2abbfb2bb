"""cytolabe annotate: from a file and an atlas to an annotated copy, a page and a record in the ledger."""

import json
import shutil

import anndata
import numpy as np
import pytest

from cytolabe.snapshot.artifacts import read_artifacts
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import read_runs


@pytest.fixture(scope="module")
def annotated(call, frozen, simulated, tmp_path_factory):
    """Return the folder of an annotation, the atlas, and what the command printed."""
    folder = tmp_path_factory.mktemp("annotated")
    atlas = shutil.copytree(frozen, folder / "atlas")
    words = [
        "annotate",
        simulated / "gale.h5ad",
        "--atlas",
        atlas,
        "-o",
        folder / "gale.h5ad",
        "--report",
        folder / "gale.html",
    ]
    return folder, atlas, call(*words, "--open-types", 1, "--option", "n_dims=20", "--json")


def test_every_cell_has_an_answer_or_says_why_not(annotated, simulated):
    folder, _, called = annotated
    assert called.code == 0, called.err
    found, before = anndata.read_h5ad(folder / "gale.h5ad"), anndata.read_h5ad(simulated / "gale.h5ad")
    assert found.obs[list(before.obs)].equals(before.obs)
    status = found.obs["cytolabe_status"].value_counts().to_dict()
    told = called.document["answers"]["status"]
    assert {name: n for name, n in told.items() if n} == {name: n for name, n in status.items() if n}
    assert sum(told.values()) == found.n_obs
    unknown = found.obs["cytolabe_status"] == "unknown"
    assert (found.obs.loc[unknown, "cytolabe_reason"].astype(str) != "").all()
    confidence = found.obs["cytolabe_confidence"].to_numpy()
    assert ((confidence[~np.isnan(confidence)] >= 0) & (confidence[~np.isnan(confidence)] <= 1)).all()


def test_the_record_in_the_file_is_the_document(annotated):
    folder, _, called = annotated
    record = json.loads(anndata.read_h5ad(folder / "gale.h5ad", backed="r").uns["cytolabe_annotation"])
    assert {**record, "out": str(folder / "gale.h5ad"), "report": str(folder / "gale.html")} == called.document
    assert record["reference"]["units"].keys() <= {"person", "library", "dataset"}
    assert len(record["open_set"]) == 1
    assert record["not_evaluated"]
    assert (folder / "gale.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_ledger_names_query_model_and_what_was_made(annotated):
    _, atlas, called = annotated
    runs = [run for run in read_runs(Layout(atlas)) if run.kind == "annotate"]
    assert len(runs) == 1
    names = {parent.role: parent.name for parent in runs[0].parents}
    assert names["model"] == "pca"
    assert {artifact.kind for artifact in read_artifacts(Layout(atlas))} >= {"annotation"}
    assert called.document["snapshot_id"] in {parent.digest for parent in runs[0].parents}


def test_a_taken_name_and_a_wrong_word_stop_before_the_work(annotated, call, simulated):
    folder, atlas, _ = annotated
    called = call("annotate", simulated / "gale.h5ad", "--atlas", atlas, "-o", folder / "gale.h5ad")
    assert (called.code, "is there already" in called.err) == (2, True)
    assert "reading" not in called.err
    query = folder / "gale.h5ad"
    assert "another --prefix" in call("annotate", query, "--atlas", atlas, "-o", folder / "x.h5ad").err
    refused = call("annotate", simulated / "iris_log.h5ad", "--atlas", atlas, "-o", folder / "y.h5ad", "--json")
    assert refused.code == 1
    assert "E-COUNTS-01" in refused.document["error"]["message"]
    assert not (folder / "y.h5ad").exists()


def test_an_atlas_without_labels_says_what_to_do(call, ingested, simulated, tmp_path):
    atlas = shutil.copytree(ingested, tmp_path / "atlas")
    assert call("snapshot", atlas).code == 0
    called = call("annotate", simulated / "gale.h5ad", "--atlas", atlas, "-o", tmp_path / "x.h5ad")
    assert called.code == 1
    assert "cytolabe reconcile" in called.err
