"""Everything that a run rests on is named by digest, and what one run made is a parent of the next."""

import dataclasses
import hashlib
import json

import pytest

from cytolabe.config.study import ModelSpec, Study
from cytolabe.flow.recording import model_parents, parameters_of, record_step
from cytolabe.flow.split_records import embed_step, export_step, model_step
from cytolabe.provenance import digest_of
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.entries import read_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import descendants, read_runs, without_persons


@pytest.fixture(scope="session")
def ledger(demo):
    out, _ = demo
    return {run.kind: run for run in read_runs(Layout(out / "atlas"))}


def named(run, role):
    return {parent.name: parent.digest for parent in run.parents if parent.role == role}


def test_a_study_names_all_that_its_scores_rest_on(demo, ledger):
    out, finished = demo
    run = ledger["benchmark"]
    assert named(run, "snapshot").keys() == {finished.document["snapshot_id"][:19]}
    assert set(named(run, "dataset")) == {s.dataset_id for s in finished.content.sources if s.status == "accepted"}
    split = hashlib.sha256((out / "split.json").read_bytes()).hexdigest()
    assert named(run, "split") == {"split.json": f"sha256:{split}"}
    assert set(named(run, "model")) == {"majority", "metadata_only", "pca"}
    for role in ("mapping", "persons", "levels", "config", "code", "ontology", "gene_reference"):
        assert len(named(run, role)) == 1, role
    assert len(named(run, "source")) == 11
    certificates = json.loads((out / "certificate.json").read_bytes())["certificates"]
    assert {one.digest for one in run.results if one.role == "certificate"} == {c["digest"] for c in certificates}


def test_the_record_beside_the_scores_is_the_one_in_the_ledger(demo, ledger):
    out, _ = demo
    body = json.loads((out / "run.json").read_bytes())
    assert body.pop("record_id") == digest_of(body) == ledger["benchmark"].record_id
    assert without_persons(body) == ledger["benchmark"].body


def test_what_one_run_made_is_a_parent_of_the_next(ledger):
    runs = list(ledger.values())
    assert set(ledger) == {"ingest", "map", "persons", "benchmark"}
    for source in named(ledger["benchmark"], "dataset").values():
        assert {run.kind for run in descendants(runs, {source})} >= {"map", "persons", "benchmark"}
    (file,) = [digest for name, digest in named(ledger["ingest"], "source").items() if name == "amber.h5ad"]
    assert {run.kind for run in descendants(runs, {file})} == set(ledger)


def test_a_data_set_is_named_by_what_it_means(demo, ledger):
    layout = Layout(demo[0] / "atlas")
    for path in layout.datasets.glob("*.json"):
        entry = read_entry(layout, f"sha256:{path.stem}")
        assert named(ledger["benchmark"], "dataset")[entry.dataset_id] == digest_of(entry.logical())


@pytest.mark.parametrize(
    ("name", "model"),
    [("weights.parquet", "mine"), ("model.safetensors", "scgpt:mine"), ("model.safetensors", "scgpt+knn")],
)
def test_a_file_of_weights_is_named_by_its_bytes_and_never_by_its_folder(tmp_path, name, model):
    (tmp_path / name).write_bytes(b"one")
    spec = ModelSpec(name=model, kind="precomputed", path=tmp_path / name)
    if name == "model.safetensors":
        spec = ModelSpec(name=model, options={"checkpoint": tmp_path})
    before = {parent.role: parent for parent in model_parents([spec])}
    assert before["weights"].digest == f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    (tmp_path / name).write_bytes(b"two")
    after = {parent.role: parent for parent in model_parents([spec])}
    assert after["weights"] != before["weights"]
    assert after["model"] == before["model"]
    study = dataclasses.replace(Study(name="s"), models=(spec,))
    assert str(tmp_path) not in json.dumps(parameters_of(study))


def test_the_weights_that_training_wrote_are_those_that_an_embedding_rests_on(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    for name in ("split.json", "training.toml", "e.parquet"):
        (tmp_path / name).write_bytes(name.encode())
    split, config = tmp_path / "split.json", tmp_path / "training.toml"
    told = {"split_id": "person=D1", "weights": "sha256:1", "model": "scgpt", "fold": 1, "card": "c", "content": "e"}
    trained = model_step(told, split, config, model="scgpt", out=tmp_path / "model", seed=0)
    embedded = embed_step(told, split, tmp_path / "e.parquet", seed=0, checkpoint=tmp_path / "model")
    layout = create_atlas(tmp_path / "atlas").layout
    for step in (trained, embedded):
        record_step(layout, step)
    first, second = sorted(read_runs(layout), key=lambda run: run.kind != "train")
    used = {parent.digest for parent in second.parents}
    assert {made.digest for made in first.results if made.name == "model.safetensors"} <= used
    assert "D1" not in "".join(path.read_text() for path in layout.runs.glob("*.json"))


def test_an_export_is_named_by_its_cells_and_keeps_what_was_asked_to_itself(tmp_path):
    chosen = {"where": "donor_id = 'D1'", "gene_policy": "shared", "cells": "sha256:1", "genes": ["G1"]}
    step = export_step(chosen, tmp_path / "x.h5ad")
    assert step.made[0].digest == digest_of(chosen)
    assert "D1" not in str(step)
