"""A command that runs out of memory names step, model and file, the size, and the option that makes it smaller."""

import json
import sys

import h5py
import numpy as np
import pytest

from cytolabe.cli import main as cli


def of_numpy(*_, **__):
    np.empty((2**30, 2**28))


def of_torch(*_, **__):
    pytest.importorskip("torch").empty(2**58)


@pytest.fixture
def told(monkeypatch, capsys):
    """Return what a command says whose work, at a place, asks for too much."""

    def run(place, work, *words):
        monkeypatch.setattr(place, work)
        monkeypatch.setattr(sys, "argv", ["cytolabe", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 3
        return json.loads(capsys.readouterr().out)["error"]

    return run


@pytest.mark.parametrize(("work", "size"), [(of_numpy, "2.00 EiB for an array with shape"), (of_torch, "1 EiB")])
def test_embed_says_model_split_and_option(told, frozen, split_file, tmp_path, work, size):
    error = told(
        "cytolabe.flow.splits.fit_embedder", work,
        "embed", "pca", frozen, "--split", split_file, "--fold", "1", "-o", tmp_path / "e.parquet",
    )  # fmt: skip
    assert error["type"] == "NotEnoughMemoryError"
    assert error["message"].startswith(f"embedding the cells of {split_file.name} by pca: ")
    assert size in error["message"]
    assert "a smaller n_top_genes of the model" in error["message"]


def test_train_says_model_file_and_key(told, frozen, split_file, tmp_path):
    pytest.importorskip("scvi")
    config = tmp_path / "own.toml"
    config.write_text("")
    error = told(
        "cytolabe.flow.pretrain_scvi.pretrain_scvi", of_torch,
        "train", "scvi", frozen, "--split", split_file, "--fold", "1", "--config", config, "-o", tmp_path / "m",
    )  # fmt: skip
    assert "training scvi of own.toml on" in error["message"]
    assert "it asked for 1 EiB" in error["message"]
    assert "Write a smaller n_top_genes or n_hidden into own.toml" in error["message"]


def test_annotate_says_query_model_and_filter(told, frozen, tmp_path):
    query = tmp_path / "query.h5ad"
    with h5py.File(query, "w") as file:
        file.create_group("obs")
    error = told(
        "cytolabe.flow.annotate.annotate_query", of_numpy,
        "annotate", query, "--atlas", frozen, "-o", tmp_path / "o.h5ad",
    )  # fmt: skip
    assert error["message"].startswith("annotating query.h5ad by pca: ")
    assert "--where" in error["message"]


def test_perturb_says_checkpoint_and_options(told, frozen, tmp_path):
    error = told(
        "cytolabe.flow.perturb.perturb_snapshot", of_torch,
        "perturb", frozen, "--checkpoint", tmp_path / "weights", "--delete", "CD3D", "-o", tmp_path / "p.tsv",
    )  # fmt: skip
    assert error["message"].startswith("perturbing cells by geneformer (weights): ")
    assert "fewer --cells (200) or --matched (100)" in error["message"]


def test_omics_says_file_kind_and_options(told, tmp_path):
    file = tmp_path / "cite.h5ad"
    file.touch()
    words = ("omics", file, "--proteins", "p", "-o", tmp_path / "o.parquet", "--model-kind", "scgpt")
    error = told("cytolabe.flow.omics.embed_omics", of_torch, *words)
    assert error["message"].startswith("embedding cite.h5ad by scgpt: ")
    assert "tokens_per_minibatch, max_length or preset below what it was" in error["message"]


def test_network_says_checkpoint_genes_and_cells(told, frozen, tmp_path):
    words = ("network", "geneformer", frozen, "--checkpoint", tmp_path / "weights", "-o", tmp_path / "n")
    error = told("cytolabe.flow.network.network_of_snapshot", of_numpy, *words)
    assert error["message"].startswith("reading genes off geneformer (weights): ")
    assert "--most-frequent (200), fewer --cells (1000; 0 = all)" in error["message"]


def test_a_study_says_its_file_and_workers(told, tmp_path):
    study = tmp_path / "own.toml"
    study.write_text('[study]\nname = "own"\ndata = "."\ndecision_level = "fine"\n[[model]]\nname = "pca+knn"\n')
    error = told("cytolabe.flow.runs.evidence_of_study", of_numpy, "benchmark", study, "--out", tmp_path / "out")
    assert error["message"].startswith("the study own.toml: ")
    assert "fewer --workers (2)" in error["message"]


def test_any_other_command_says_the_size_and_another_runtime_error_is_no_want_of_memory(told, tmp_path, monkeypatch):
    study = tmp_path / "own.toml"
    study.write_text("")
    error = told("cytolabe.config.study.read_study", of_torch, "specification", study, "--out", tmp_path / "out")
    assert error["type"] == "MemoryError"
    assert "this command: there was not enough memory; it asked for 1 EiB" in error["message"]

    def broken(*_, **__):
        raise RuntimeError("a fault of ours")  # noqa: EM101

    monkeypatch.setattr("cytolabe.config.study.read_study", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.main()
