"""A study is run again from its record alone, on the files that it read and on no others."""

import json
import shutil
from pathlib import Path

import pytest

from cytolabe.config.study import ModelSpec, Study, read_study
from cytolabe.errors import IntegrityError, UsageError
from cytolabe.flow.judging import judge_models
from cytolabe.flow.publish import publish_run
from cytolabe.flow.recording import parameters_of
from cytolabe.flow.reproduce import conditions_of, reproduce_run
from cytolabe.flow.restoring import restored_study
from cytolabe.flow.run_folder import read_run_folder
from cytolabe.flow.study import run_study
from cytolabe.ingest.sources import find_sources
from cytolabe.provenance import canonical_json, digest_of, jsonable

TABLES = sorted((Path(__file__).resolve().parents[2] / "studies").glob("*.toml"))
STUDIES = [path for path in TABLES if "[study]" in path.read_text(encoding="utf-8")]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, two_lab_files):
    """Return a small finished run of two labs, and the folder of its files."""
    root = tmp_path_factory.mktemp("small")
    study = Study(
        name="small", n_seeds=1, gene_policies=("intersection",), ceilings=False, models=(ModelSpec(name="majority"),)
    )
    evidence = run_study(study, root / "run", sources=find_sources([two_lab_files])[0])
    publish_run(evidence, root / "run")
    return root / "run", two_lab_files


def forge(run, change):
    """Change the scores of a run, and its record with them, so that both agree."""
    scores = json.loads((run / "scores.json").read_bytes())
    change(scores["scores"])
    (run / "scores.json").write_bytes(canonical_json(scores))
    body = json.loads((run / "run.json").read_bytes())
    body.pop("record_id")
    (output,) = [item for item in body["outputs"] if item["name"] == "scores.json"]
    output["sha256"] = digest_of(scores).removeprefix("sha256:")
    (run / "run.json").write_bytes(canonical_json({**body, "record_id": digest_of(body)}))


def test_everything_comes_out_to_the_bit_but_a_score_that_was_made_up(small_run, tmp_path):
    original, files = small_run
    run = shutil.copytree(original, tmp_path / "run", ignore=shutil.ignore_patterns("atlas"))

    def flatter(rows):
        row = next(row for row in rows if row["value"] is not None)
        row["value"] = 0.99

    forge(run, flatter)
    found = reproduce_run(run, data=[files], out=tmp_path / "again")
    assert not found.is_reproduced
    assert found.conditions == ()
    statuses = {component.name: component.status for component in found.components}
    assert {name for name, status in statuses.items() if status != "identical"} == {"model majority", "scores.json"}
    # The run as it was is the run that came out.
    honest, again = read_run_folder(original), read_run_folder(tmp_path / "again")
    assert honest.record_id == again.record_id
    rows = [one.document("scores.json")["scores"] for one in (honest, again)]
    assert {model.status for model in judge_models(*rows)} == {"identical"}


def test_other_bytes_of_a_source_are_refused_before_anything_is_run(small_run, tmp_path):
    run, files = small_run
    changed = shutil.copytree(files, tmp_path / "files")
    content = bytearray((changed / "birch.h5ad").read_bytes())
    content[-1] ^= 1
    (changed / "birch.h5ad").write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=r"first birch\.h5ad.*Nothing was run"):
        reproduce_run(run, data=[changed], out=tmp_path / "again")
    assert not (tmp_path / "again").exists()
    (changed / "birch.h5ad").unlink()
    with pytest.raises(UsageError, match=r"birch\.h5ad, which the run read, is not at hand"):
        reproduce_run(run, data=[changed])


def test_edited_scores_and_a_folder_in_use_are_refused(small_run, tmp_path):
    run, files = small_run
    with pytest.raises(UsageError, match="is not empty"):
        reproduce_run(run, data=[files], out=files)
    with pytest.raises(UsageError, match="made of a folder"):
        reproduce_run(run)
    edited = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("atlas"))
    (edited / "scores.json").write_text((edited / "scores.json").read_text().replace('"floor"', '"flaw"'))
    with pytest.raises(IntegrityError, match="not what the run wrote"):
        reproduce_run(edited, data=[files])


def test_another_library_or_ontology_is_a_condition_that_is_told(small_run):
    body = read_run_folder(small_run[0]).body
    assert conditions_of(body) == ()
    other = {**body, "environment": {**body["environment"], "numpy": "1.0"}, "ontology_release": "v1999"}
    assert {found.path for found in conditions_of(other)} == {"environment.numpy", "ontology_release"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_here_can_be_built_again_from_its_record(path, tmp_path):
    study = read_study(path, data=tmp_path)
    for dataset in study.datasets:
        if dataset.path is not None:
            (tmp_path / dataset.path.name).touch()
    for model in study.models:
        if model.path is not None:
            (tmp_path / model.path.name).touch()
    recorded = json.loads(canonical_json({**parameters_of(study), "levels_digest": "sha256:0"}))
    assert jsonable(parameters_of(restored_study(recorded, data=[tmp_path]))) == {
        key: value for key, value in recorded.items() if key != "levels_digest"
    }


def test_a_record_of_tomorrow_is_refused_by_the_name_of_what_is_unknown():
    recorded = json.loads(canonical_json(parameters_of(Study(name="s"))))
    with pytest.raises(IntegrityError, match="moon_phase"):
        restored_study({**recorded, "moon_phase": "full"}, data=[])
