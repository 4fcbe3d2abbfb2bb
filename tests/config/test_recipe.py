"""One study on the data of a recipe: who gives what, what both may not say, and that both files are named."""

import hashlib

import pytest

from cytolabe.config import read_study, read_study_on_recipe
from cytolabe.errors import UsageError
from cytolabe.flow.recording import parameters_of
from cytolabe.flow.restoring import restored_study
from cytolabe.provenance import canonical_json

STUDY = """
[study]
name = "asked"
title = "What is asked"
decision_level = "broad"
seed = 7
n_seeds = 2
by = ["donor"]
ceilings = false
claims = ["Of the study."]

[study.limited_labels]
cells_per_type = [1, 5]
annotators = ["one_vs_rest"]

[[dataset]]
path = "nowhere.h5ad"

[[person]]
id = "p"
dataset = "nowhere"
evidence = "said so"

[[level]]
name = "broad"
terms = ["CL:0000084"]

[[model]]
name = "one_vs_rest"

[[model]]
name = "scgpt"
options = {checkpoint = "human"}
"""
RECIPE = """
[study]
name = "lung"
title = "A lung"
decision_level = "broad"
seed = 1
data = "files"
by = ["dataset"]
gene_policies = ["pairwise"]
claims = ["Of the recipe."]

[[dataset]]
path = "lung.h5ad"
label = "cell_type"

[[context]]
dataset = "lung"
label = "t"
term = "CL:0000084"
evidence = "said so"

[[joined]]
datasets = ["lung"]
reason = "nobody knows"

[[level]]
name = "broad"
terms = ["CL:0000084", "CL:0000236"]

[[level]]
name = "fine"
terms = ["CL:0000895", "CL:0000236"]

[[model]]
name = "pca"
"""


@pytest.fixture
def files(tmp_path):
    """Return a function that writes both files, with pieces of text replaced."""

    def write(*, study=(), recipe=()):
        paths = []
        for name, text, changes in (("asked.toml", STUDY, study), ("lung.toml", RECIPE, recipe)):
            for old, new in changes:
                assert old in text
                text = text.replace(old, new)  # noqa: PLW2901
            folder = tmp_path / name.removesuffix(".toml")
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(text)
            paths.append(folder / name)
        return paths

    return write


def test_models_seeds_and_few_labels_are_of_the_study_and_all_else_of_the_recipe(files):
    study, recipe = files()
    asked, given = read_study(study), read_study(recipe)
    both = read_study_on_recipe(study, recipe=recipe)
    for field in ("models", "limited_labels", "seed", "n_seeds"):
        assert getattr(both, field) == getattr(asked, field) != getattr(given, field)
    for field in ("datasets", "persons", "joined", "context", "levels", "by", "gene_policies", "ceilings"):
        assert getattr(both, field) == getattr(given, field) != getattr(asked, field) or field == "joined"
    assert both.joined == given.joined
    assert both.decision_level == "broad"
    assert (both.name, both.title) == ("asked_on_lung", "What is asked, on: A lung")
    told, *claims = both.claims
    assert claims == ["Of the study.", "Of the recipe."]
    assert "asked.toml" in told
    assert "lung.toml" in told


def test_each_path_is_relative_to_the_file_that_names_it(files, tmp_path):
    study, recipe = files()
    both = read_study_on_recipe(study, recipe=recipe)
    assert both.datasets[0].path == recipe.parent / "files" / "lung.h5ad"
    assert both.models[1].options["checkpoint"] == study.parent / "human"
    elsewhere = read_study_on_recipe(study, recipe=recipe, data=tmp_path / "other")
    assert elsewhere.datasets[0].path == tmp_path / "other" / "lung.h5ad"


def test_both_files_are_in_what_is_recorded_by_digest_and_are_read_back_from_it(files, tmp_path):
    study, recipe = files()
    both = read_study_on_recipe(study, recipe=recipe)
    named = parameters_of(both)["combined_from"]
    assert named == [
        {"role": role, "name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for role, path in (("study", study), ("recipe", recipe))
    ]
    assert "combined_from" not in parameters_of(read_study(study))
    (tmp_path / "lung.h5ad").touch()
    (tmp_path / "human").mkdir()
    restored = restored_study(parameters_of(both), data=[tmp_path])
    assert restored.combined_from == both.combined_from
    assert canonical_json(parameters_of(restored)) == canonical_json(parameters_of(both))


def test_no_file_may_say_that_it_was_put_together(files):
    study, _ = files(study=[('name = "asked"', 'name = "asked"\ncombined_from = []')])
    with pytest.raises(UsageError, match="unknown key 'combined_from'"):
        read_study(study)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": [('name = "lung"', 'name = "asked"')]}, "both have the name 'asked'"),
        ({"recipe": [('[[dataset]]\npath = "lung.h5ad"\nlabel = "cell_type"', "")]}, "names no data set"),
        (
            {"recipe": [('decision_level = "broad"', 'decision_level = "fine"')]},
            r"decision_level is 'broad' in .*asked\.toml and 'fine' in .*lung\.toml",
        ),
        (
            {"recipe": [('name = "broad"', 'name = "coarse"')]},
            r"decision_level = 'broad', and none of its levels \(coarse, fine\) is called so",
        ),
        (
            {"recipe": [("[[context]]", "[study.limited_labels]\ndonors = [1]\n\n[[context]]")]},
            r"lung\.toml asks for \[study\.limited_labels\]",
        ),
        ({"study": [("seed = 7", 'seed = 7\noverride = "to look"')]}, r"asked\.toml has an override"),
    ],
    ids=["one name", "no data", "two headlines", "a headline without a level", "few labels twice", "an override"],
)
def test_what_contradicts_is_told_with_both_files(files, changes, message):
    study, recipe = files(**changes)
    with pytest.raises(UsageError, match=message) as told:
        read_study_on_recipe(study, recipe=recipe)
    assert "asked.toml cannot be run on" in str(told.value)


def test_all_that_contradicts_is_told_at_once(files):
    study, recipe = files(
        study=[("seed = 7", 'seed = 7\noverride = "to look"')], recipe=[('name = "lung"', 'name = "asked"')]
    )
    with pytest.raises(UsageError, match=r"both have the name .*; .* has an override"):
        read_study_on_recipe(study, recipe=recipe)
