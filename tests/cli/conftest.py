"""Commands run in this process on a small atlas of three simulated labs."""

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import pytest

from cytolabe.cli.main import main
from cytolabe.testing.simulate import simulate_contributions

LABS = ("amber", "birch", "elm")
"""amber and elm share 40 cells, so they are one component; birch is another."""


@dataclass(frozen=True)
class Called:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Return what stands on standard output, which has to be one JSON document and nothing else."""
        found = json.loads(self.out, parse_constant=_no_json)
        assert isinstance(found, dict)
        return found


def _no_json(word: str) -> None:
    message = f"{word} is no JSON"
    raise AssertionError(message)


def _call(*words: object) -> Called:
    out, err = io.StringIO(), io.StringIO()
    argv = ["cytolabe", *map(str, words)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main()
    assert isinstance(left.value.code, int)
    return Called(code=left.value.code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="session")
def call() -> Callable[..., Called]:
    """Return a function that runs `cytolabe` with some words."""
    return _call


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of all simulated labs, two of which are no raw counts."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_contributions(folder, scale=0.5)
    return folder


@pytest.fixture(scope="session")
def labs(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of three labs and a manifest for one of them."""
    folder = tmp_path_factory.mktemp("labs")
    for name in LABS:
        shutil.copy(simulated / f"{name}.h5ad", folder)
    (folder / "manifest.toml").write_text(
        '[[dataset]]\nfile = "birch.h5ad"\ntitle = "Birch blood"\nassay = "10x 3\' v2"\nlabel_origin = "manual"\n'
    )
    return folder


@pytest.fixture(scope="session")
def ingested(labs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an atlas of the three labs, as ingest leaves it. Tests that change it copy it."""
    atlas = tmp_path_factory.mktemp("ingested") / "atlas"
    assert _call("ingest", atlas, labs).code == 0
    return atlas


@pytest.fixture(scope="session")
def frozen(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the atlas with labels reconciled and a snapshot `v1`. Tests that change it copy it."""
    atlas = tmp_path_factory.mktemp("frozen") / "atlas"
    shutil.copytree(ingested, atlas)
    assert _call("reconcile", atlas).code == 0
    assert _call("snapshot", atlas, "--tag", "v1").code == 0
    return atlas


@pytest.fixture
def own_atlas(frozen: Path, tmp_path: Path) -> Path:
    """Return a copy of the frozen atlas that a test may change."""
    return Path(shutil.copytree(frozen, tmp_path / "own"))


@pytest.fixture(scope="session")
def split_file(frozen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a split of the frozen atlas by component: two folds."""
    path = tmp_path_factory.mktemp("split") / "split.json"
    assert _call("split", frozen, "--by", "component", "-o", path).code == 0
    return path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Return a file whose counts lie in another file."""
    path = tmp_path / "hostile.h5ad"
    with h5py.File(path, "w") as file:
        file["X"] = h5py.ExternalLink("/etc/passwd", "/X")
    return path


@pytest.fixture
def cut_off(labs: Path, tmp_path: Path) -> Path:
    """Return the first half of a file."""
    path = tmp_path / "cut_off.h5ad"
    content = (labs / "amber.h5ad").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path
