"""A program that is asked by files, in a study: the rows, the kept fits and the record of any other model."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

from cytolabe.config.study import read_study
from cytolabe.errors import UsageError
from cytolabe.evaluate import ModelPlan, evaluate_study, kept_fits
from cytolabe.evaluate.results import ALL_FOLDS
from cytolabe.flow.recording import model_parents, parameters_of
from cytolabe.flow.restoring import restored_study
from cytolabe.provenance import canonical_json

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats" / "external.md"


@pytest.fixture
def program(tmp_path):
    """The program of the documentation."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    path = tmp_path / "svd.py"
    path.write_text(code)
    return path


def options(program, task, **changes):
    protocol = "supervised" if task == "predict_labels" else "self_supervised"
    return {
        "task": task, "command": [sys.executable], "program": program, "pretraining": [], "protocol": protocol, **changes,
    }  # fmt: skip


def evaluated(study, *, folder=None, models=None, lines=None):
    plan = dataclasses.replace(study.plan, kept_fits=folder, models=models or study.plan.models)
    say = (lines if lines is not None else []).append
    return evaluate_study(study.snapshot, **study.arguments(plan=plan, on_progress=say))


def test_a_probe_on_a_program_that_names_cells_is_refused(program, simulated_study):
    models = (ModelPlan(name="external:names+knn", options=options(program, "predict_labels")),)
    with pytest.raises(UsageError, match=r"external:names names cells itself and takes no probe. Leave out \+knn"):
        evaluated(simulated_study(models=models))


def test_programs_stand_among_the_scores_of_a_study(program, simulated_study):
    models = (
        ModelPlan(name="external:names", options=options(program, "predict_labels")),
        ModelPlan(name="external:embeds+knn", options=options(program, "embed_cells", settings={"n_dims": 8})),
        ModelPlan(
            name="external:past+knn",
            options=options(program, "embed_cells", protocol="unknown", pretraining=["unknown"]),
        ),
    )
    rows = evaluated(simulated_study(models=models)).scores
    rows = [row for row in rows if row.metric == "macro_f1" and row.stratum == "all" and row.split != ALL_FOLDS]
    fine = {row.model: row for row in rows if row.resolution == "fine"}
    names, embeds, past = (fine[name] for name in ("external:names", "external:embeds+knn", "external:past+knn"))
    assert names.value > names.floor + 0.2
    assert embeds.value > embeds.floor + 0.2
    assert any("by its own word: svd 1" in note for note in names.notes)
    # It said [] where the study says that nobody knows.
    assert (past.status, past.value) == ("REFUSED", None)
    assert "write pretraining = []" in past.reason


def test_a_fit_of_another_program_command_or_setting_is_not_taken_up(program, simulated_study, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_fits, "LEAST_SECONDS", 0.0)
    study = simulated_study(models=())

    def taken(**changes):
        lines: list[str] = []
        plan = ModelPlan(name="external:e+knn", options=options(program, "embed_cells", **changes))
        evaluated(study, folder=tmp_path / "fits", models=(plan,), lines=lines)
        return sum(int(line.split()[0]) for line in lines if "were taken up" in line)

    assert taken() == 0
    others = taken(settings={"n_dims": 3})
    assert taken() == taken(settings={"n_dims": 3}) == others + 1
    assert taken(command=[sys.executable, "-B"]) == others
    program.write_text(program.read_text() + "# mended\n")
    assert taken() == others


def test_the_record_of_a_run_has_the_program_by_its_bytes_and_no_place(program, tmp_path):
    text = """
[study]
name = "s"
[[model]]
name = "external:svd"
[model.options]
task = "embed_cells"
command = ["python3"]
program = "svd.py"
"""
    (tmp_path / "study.toml").write_text(text)
    study = read_study(tmp_path / "study.toml")
    assert study.models[0].options["program"] == program
    before = {one.role: one for one in model_parents(study.models)}
    assert (before["model"].name, before["program"].name) == ("external", "svd.py")
    recorded = json.loads(canonical_json(parameters_of(study)))
    assert str(tmp_path) not in json.dumps(recorded)
    assert restored_study(recorded, data=[tmp_path]).models[0].options["program"] == program
    program.write_text(program.read_text() + "# mended\n")
    assert {one.role: one for one in model_parents(study.models)}["program"].digest != before["program"].digest
