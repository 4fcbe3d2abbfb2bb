"""`benchmark --recipe`: the models of one study file on the data of another."""

import hashlib
import json

import pytest

STUDY = """
[study]
name = "asked"
decision_level = "broad"
n_seeds = 1
claims = ["What the models may claim."]

[study.limited_labels]
cells_per_type = [2]
n_draws = 1
annotators = ["centroid"]

[[dataset]]
path = "a_file_that_is_nowhere.h5ad"

[[model]]
name = "centroid"
"""
RECIPE = """
[study]
name = "labs"
decision_level = "broad"
gene_policies = ["intersection"]
ceilings = false

[[dataset]]
path = "amber.h5ad"

[[dataset]]
path = "birch.h5ad"

[[model]]
name = "pca"
"""


@pytest.fixture
def files(tmp_path):
    for name, text in (("asked", STUDY), ("labs", RECIPE)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path / "asked.toml", tmp_path / "labs.toml"


def test_the_models_of_the_study_are_scored_on_the_data_of_the_recipe_and_both_are_recorded(
    files, call, labs, tmp_path
):
    study, recipe = files
    called = call(
        "benchmark", study, "--recipe", recipe, "--data", labs, "--out", tmp_path / "out", "--workers", 1, "--json"
    )
    assert called.code == 0, called.err
    scores = called.document["scores"]
    assert {row["model"] for row in scores} == {"majority", "metadata_only", "centroid"}
    assert {row["study"] for row in scores} == {"asked_on_labs"}
    assert {row["model"] for row in scores if row["task"] == "limited_labels"} == {"centroid"}
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["parameters"]["combined_from"] == [
        {"role": role, "name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for role, path in (("study", study), ("recipe", recipe))
    ]
    assert [dataset["path"] for dataset in record["parameters"]["datasets"]] == [
        f"{n}.h5ad" for n in ("amber", "birch")
    ]
    assert "data sets, levels and protocol those of labs.toml" in (tmp_path / "out" / "report.html").read_text()
    assert call("verify", tmp_path / "out").code == 0


def test_files_that_contradict_each_other_are_refused_before_anything_is_read(files, call, tmp_path):
    study, recipe = files
    recipe.write_text(RECIPE.replace('name = "labs"', 'name = "asked"'))
    called = call("benchmark", study, "--recipe", recipe, "--out", tmp_path / "out")
    assert called.code == 2
    assert "both have the name 'asked'" in called.err
    assert not (tmp_path / "out" / "atlas").exists()


def test_specifications_of_a_study_are_scored_on_the_data_of_the_recipe(files, call, labs, tmp_path):
    study, recipe = files
    out = tmp_path / "out"
    called = call("specification", study, "--recipe", recipe, "--data", labs, "--out", out, "--workers", 1, "--json")
    assert called.code == 0, called.err
    assert {row["model"] for row in called.document["rows"]} == {"majority", "metadata_only", "centroid"}
    assert called.document["decision_level"] == "broad"
