"""A study file is read whole or refused with the place and the cause."""

from pathlib import Path

import pytest

from cytolabe.config import read_study
from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.errors import UsageError

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_study_and_can_be_overridden(tmp_path):
    path = write(tmp_path, '[study]\nname = "s"\ndata = "files"\n[[dataset]]\npath = "a.h5ad"\ndonor = "d"\n')
    assert read_study(path).datasets[0].path == tmp_path / "files" / "a.h5ad"
    assert read_study(path, data=Path("other")).datasets[0].path == Path("other/a.h5ad")
    assert read_study(path).datasets[0].manifest.donor == "d"


def test_a_checkpoint_of_a_model_is_relative_to_the_study(tmp_path):
    path = write(
        tmp_path, '[study]\nname = "s"\n[[model]]\nname = "scgpt"\noptions = {checkpoint = "human", ties = "mid"}\n'
    )
    assert read_study(path).models[0].options == {"checkpoint": tmp_path / "human", "ties": "mid"}


def test_without_models_every_model_of_the_registry_that_a_study_needs_is_run(tmp_path):
    names = [model.name for model in read_study(write(tmp_path, '[study]\nname = "s"\n')).models]
    assert names == ["majority", "metadata_only", "pca", "harmony", "scvi"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "name must be given", id="no name"),
        pytest.param('[study]\nname="s"\nsead = 1', "Did you mean 'seed'", id="a typo in [study]"),
        pytest.param('[study]\nname="s"\nseed = "one"', "whole number", id="a seed that is no number"),
        pytest.param('[study]\nname="s"\nseed = true', "whole number", id="a seed that is a truth value"),
        pytest.param('[study]\nname="s"\ngene_policies = ["unoin"]', "unoin", id="a gene policy nobody knows"),
        pytest.param('[study]\nname="s"\n[[dataset]]\ndonor="d"', "either path", id="a data set without a file"),
        pytest.param(
            '[study]\nname="s"\n[[dataset]]\npath="x"\nsource="cellxgene:y"',
            "either path",
            id="a file and a remote source",
        ),
        pytest.param('[study]\nname="s"\n[[level]]\nname="mid"', "terms must be given", id="a level without terms"),
        pytest.param(
            '[study]\nname="s"\n[[model]]\nname="x"\nkind="precomputed"', "go together", id="precomputed without a file"
        ),
        pytest.param('[study]\nname="s"\n[dataset]\npath="x"', "double brackets", id="single brackets"),
        pytest.param('[study]\nname="s"\n[[modle]]\nname="x"', "Did you mean 'model'", id="an unknown section"),
    ],
)
def test_a_wrong_study_is_refused_with_its_cause(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_study(write(tmp_path, text))


def test_few_labels_are_read_and_absent_where_nobody_asks(tmp_path):
    asked = read_study(write(tmp_path, '[study]\nname = "s"\n[study.limited_labels]\ncells_per_type = [1, 5]\n'))
    assert asked.limited_labels == LimitedLabels(cells_per_type=(1, 5), donors=(), n_draws=3)
    assert read_study(write(tmp_path, '[study]\nname = "s"\n')).limited_labels is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "asks for nothing"),
        ("cells = [1]", "cells_per_type"),
        ("cells_per_type = [5, 1]", "the smallest first"),
        ("cells_per_type = [1, 1]", "write each number once"),
        ("donors = [0, 2]", "whole numbers from 1 on"),
        ("donors = 2", "must be a list"),
        ("donors = [true]", "whole numbers"),
        ("donors = [1]\nn_draws = 0", "n_draws must be a whole number from 1"),
        ("donors = [1]\nannotators = 'scanvi'", "annotators must be a list of models"),
        ("donors = [1]\nannotator = ['scanvi']", "Did you mean 'annotators'"),
    ],
)
def test_few_labels_that_mean_nothing_are_refused(tmp_path, text, message):
    path = write(tmp_path, f'[study]\nname = "s"\n[study.limited_labels]\n{text}\n')
    with pytest.raises(UsageError, match=message):
        read_study(path)


def test_the_shipped_study_reads():
    study = read_study(ROOT / "studies" / "pbmc.toml")
    assert {level.name for level in study.levels} >= {"broad", "mid", "fine"}
    assert study.decision_level in {level.name for level in study.levels}
    named = {context.dataset for context in study.context} | {name for join in study.joined for name in join.datasets}
    assert named <= {dataset.path.stem.lower() for dataset in study.datasets}


def test_a_data_set_may_lie_elsewhere(tmp_path):
    (tmp_path / "study.toml").write_text('[study]\nname="s"\n[[dataset]]\nsource="cellxgene:abc"\nid="lung"')
    (dataset,) = read_study(tmp_path / "study.toml").datasets
    assert (dataset.source, dataset.path, dataset.manifest.id) == ("cellxgene:abc", None, "lung")
