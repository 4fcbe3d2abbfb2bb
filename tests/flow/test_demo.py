"""The whole flow on simulated contributions: every planted fault is caught, and nothing depends on order or workers."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytolabe.config.study import ModelSpec
from cytolabe.errors import CytolabeError, UsageError
from cytolabe.flow.certificates import write_counts
from cytolabe.flow.demo import planted_faults, run_demo
from cytolabe.flow.publish import publish_run
from cytolabe.flow.runs import finished_run
from cytolabe.flow.study import run_study
from cytolabe.flow.verify import verify_path
from cytolabe.ingest.sources import find_sources
from cytolabe.models import registry
from cytolabe.snapshot.artifacts import read_artifacts
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.layout import Layout
from cytolabe.testing.simulate import simulate_contributions


def test_every_planted_fault_is_caught(demo):
    _, finished = demo
    missed = [fault.title for fault in finished.content.planted_faults if not fault.caught]
    assert missed == []
    assert len(finished.content.planted_faults) >= 6
    assert finished.exit_code == 0


def test_the_normalized_files_are_refused_and_the_others_let_in(demo):
    _, finished = demo
    truth_refused = {"iris_log", "iris_ceiling"}
    refused = {row.dataset_id for row in finished.content.sources if row.status == "refused"}
    assert refused == truth_refused
    assert {row.dataset_id for row in finished.content.sources} > truth_refused


def test_other_workers_and_another_order_give_the_same_bytes(demo, tmp_path, quick_study):
    out, _ = demo
    run_demo(
        tmp_path, study=quick_study, scale=0.5, n_workers=2,
        arranged=lambda sources: [*sources[3:], *reversed(sources[:3])],
    )  # fmt: skip
    for name in ("scores.json", "split.json", "certificate.json", "mappings.sssom.tsv", "report.html"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name
    # Costs are of one run each: they stand beside what two runs share, and no record names them.
    costs = [json.loads((folder / "costs.json").read_bytes()) for folder in (out, tmp_path)]
    assert [cost["n_workers"] for cost in costs] == [1, 2]
    what = [{(row["split"], row["model"], row["step"], row["resolution"]) for row in cost["rows"]} for cost in costs]
    assert what[0] == what[1]
    first, second = (json.loads((folder / "run.json").read_bytes()) for folder in (out, tmp_path))
    assert first["snapshot_id"] == second["snapshot_id"]
    assert not [item for item in first["outputs"] if item["name"].startswith("costs")]
    assert {item["sha256"] for item in first["outputs"]} == {item["sha256"] for item in second["outputs"]}


def test_another_seed_gives_another_snapshot(demo, tmp_path):
    out, finished = demo
    simulate_contributions(tmp_path, seed=1, scale=0.5)
    names = sorted(path.name for path in tmp_path.glob("*.h5ad"))
    assert names == sorted(path.name for path in (out / "contributions").glob("*.h5ad"))
    assert finished.content.snapshot_id.startswith("sha256:")
    one, other = ((folder / names[0]).read_bytes() for folder in (tmp_path, out / "contributions"))
    assert one != other


def test_an_absent_model_is_not_run_and_never_missing(two_lab_files, tmp_path, quick_study, monkeypatch):
    real = registry.is_installed
    monkeypatch.setattr(registry, "is_installed", lambda module: module != "scvi" and real(module))
    models = tuple(dataclasses.replace(quick_study.models[0], name=name) for name in ("majority", "scvi"))
    study = dataclasses.replace(quick_study, models=models, limited_labels=None)
    evidence = run_study(study, tmp_path, sources=find_sources([two_lab_files])[0])
    content = finished_run(evidence, publish_run(evidence, tmp_path)).content
    rows = [score for score in content.scores if score.model.startswith("scvi")]
    assert rows
    assert {str(score.status) for score in rows} <= {"NOT_RUN", "REFUSED"}
    assert any("cytolabe[models]" in score.reason for score in rows)
    assert all(score.value is None for score in rows)


@pytest.mark.parametrize(
    ("name", "told"),
    [("totalvi", "no counts of proteins"), ("scvii", "did you mean scvi"), ("pca+tree", "knn, logistic"), ("majority+knn", "takes no probe")],
)  # fmt: skip
def test_a_model_that_no_study_can_have_is_told_before_a_file_is_read(tmp_path, quick_study, name, told):
    models = (*quick_study.models, dataclasses.replace(quick_study.models[0], name=name))
    with pytest.raises(UsageError, match=told):
        run_study(dataclasses.replace(quick_study, models=models), tmp_path / "out", sources=())
    assert not (tmp_path / "out").exists()


def test_a_probe_on_a_file_that_names_cells_is_told_before_a_file_of_the_study_is_read(tmp_path, quick_study):
    given, embedded = tmp_path / "names.parquet", tmp_path / "embedded.parquet"
    pq.write_table(pa.table({"cell_id": ["a:1"], "term": ["CL:0000084"]}), given)
    pq.write_table(pa.table({"cell_id": ["a:1"], "d0": [0.5]}), embedded)
    for path, told in (
        (given, r"mine names cells itself and takes no probe. Leave out \+knn"),
        (embedded, "None of 0"),
    ):
        mine = ModelSpec(name="mine+knn", kind="precomputed", path=path)
        with pytest.raises(CytolabeError, match=told):
            run_study(dataclasses.replace(quick_study, models=(mine,)), tmp_path / "out", sources=())


def test_every_score_stands_under_a_certificate_of_the_run(demo):
    out, _ = demo
    certificates = {c["digest"] for c in json.loads((out / "certificate.json").read_bytes())["certificates"]}
    scored = [
        row for row in json.loads((out / "scores.json").read_bytes())["scores"]
        if row["status"] in {"SCORED", "QUALIFIED"} and row["split"] != "all folds"
    ]  # fmt: skip
    assert scored
    assert all(row["certificate"] in certificates for row in scored)


def test_the_verifier_beside_a_run_agrees_with_its_certificates_and_finds_its_copies_in_the_counts(demo, tmp_path):
    out, _ = demo
    counts = write_counts(open_atlas(out / "atlas").snapshot("latest"), tmp_path)
    names = ("certificate.json", "split.json", "cells.tsv", "scores.json")
    command = [sys.executable, "-I", "-S", str(out / "verify_certificate.py"), *(str(out / name) for name in names)]
    done = subprocess.run([*command, *map(str, counts)], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "0 disagreement(s)" in done.stdout
    not_again = [line for line in done.stdout.splitlines() if line.startswith("not computed again")]
    # Folds with more pairs of cells than are all compared anew are named.
    assert all(line.endswith("near-identical cells") for line in not_again if "identical cells" in line)
    assert not any(line.endswith(": identical cells") for line in not_again)


def test_few_labels_have_rows_in_every_fold_and_a_drawing(demo):
    out, finished = demo
    rows = [row for row in json.loads((out / "scores.json").read_bytes())["scores"] if row["task"] == "limited_labels"]
    folds = {fold.split_id for fold in finished.content.folds}
    assert {(row["split"], row["stratum"]) for row in rows} == {
        (split, stratum) for split in folds for stratum in ("cells_per_type=1", "cells_per_type=5", "donors=2")
    }
    assert {row["model"] for row in rows} == {"pca+knn", "pca+logistic"}
    assert any(row["value"] is not None for row in rows)
    assert "Macro-F1 over cells of each type" in (out / "report.html").read_text(encoding="utf-8")


def test_scores_hold_no_path_and_no_time(demo):
    out, _ = demo
    for name in ("scores.json", "run.json", "certificate.json", "report.html", "split.json"):
        assert str(out) not in (out / name).read_text(encoding="utf-8"), name


def test_a_fault_that_is_not_reported_counts_as_missed(demo_evidence, tmp_path):
    truth = simulate_contributions(tmp_path, scale=0.5)
    evidence = demo_evidence
    silent = dataclasses.replace(
        evidence,
        outcomes=tuple(dataclasses.replace(o, findings=(), status="accepted") for o in evidence.outcomes),
        findings=(),
        duplicates=dataclasses.replace(evidence.duplicates, pairs=evidence.duplicates.pairs.iloc[1:]),
    )
    caught = {fault.title: fault.caught for fault in planted_faults(silent, truth)}
    still = [title for title, was in caught.items() if was]
    # The leak is judged from the snapshot itself, so silence about files cannot hide it.
    assert still == ["One person in two data sets of a study"]


def test_verify_finds_each_output_that_was_changed(demo, tmp_path):
    out, _ = demo
    n_checked, findings = verify_path(out, data=[out / "contributions"])
    assert findings == ()
    assert n_checked > 10
    for name in ("scores.json", "report.html", "predictions.parquet", "mappings.sssom.tsv"):
        copy = tmp_path / name
        shutil.copytree(out, copy, ignore=shutil.ignore_patterns("atlas", "contributions"))
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(bytes(content))
        assert name in {finding.where for finding in verify_path(copy)[1]}


def test_what_the_page_stands_on_is_whole_in_a_file_beside_it(demo):
    out, finished = demo
    evidence = json.loads((out / "evidence.json").read_bytes())
    assert {row["dataset_id"] for row in evidence["quality"]} == {
        row["dataset_id"] for row in evidence["sources"] if row["status"] != "refused"
    }
    assert "With and without flagged cells" in (out / "report.html").read_text(encoding="utf-8")
    assert len(evidence["duplicates"]) == 40
    assert {source["dataset_id"] for source in evidence["sources"]} == {s.dataset_id for s in finished.content.sources}
    assert evidence["support"]
    assert evidence["gene_spaces"]
    assert all(fault["caught"] for fault in evidence["planted_faults"])


def test_the_run_record_names_everything_that_numbers_depend_on_by_digest(demo):
    out, _ = demo
    record = json.loads((out / "run.json").read_bytes())
    assert len(record["inputs"]) == 11
    assert all(len(source["sha256"]) == 64 for source in (*record["inputs"], *record["outputs"]))
    assert record["ontology_digest"].startswith("sha256:")
    assert len(record["gene_reference_digest"].removeprefix("sha256:")) == 64
    assert len(record["code"]["source_sha256"]) == 64
    assert record["environment"]["numpy"]
    assert record["parameters"]["seed"] == 0


def test_the_atlas_of_a_run_records_the_run_so_that_a_withdrawal_finds_it(demo):
    out, finished = demo
    (made,) = [found for found in read_artifacts(Layout(out / "atlas")) if found.kind == "run"]
    assert made.digest == f"sha256:{hashlib.sha256((out / 'run.json').read_bytes()).hexdigest()}"
    assert made.snapshot_id == finished.document["snapshot_id"]
