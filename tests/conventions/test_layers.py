"""The two import contracts hold, and each would notice a violation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINTER = Path(sys.executable).with_name("lint-imports")
LAYERS = "Rooms import only rooms below them; siblings never import each other"
HONESTY = "A model sees arrays: never splits, audits, snapshots or files"

pytestmark = [
    pytest.mark.skipif(not LINTER.exists(), reason="import-linter is not installed beside this interpreter"),
]


def lint(folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - the linter of this environment
        [str(LINTER), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    return f"{done.stdout}\n{done.stderr}\nexit {done.returncode}"


@pytest.fixture
def copy(root, tmp_path):
    shutil.copy(root / "pyproject.toml", tmp_path / "pyproject.toml")
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.parquet", "*.tsv*"))
    return tmp_path


def test_both_contracts_are_kept(root):
    told = lint(root)
    assert f"{LAYERS} KEPT" in told, told[-4000:]
    assert f"{HONESTY} KEPT" in told, told[-4000:]
    assert told.endswith("exit 0")


def test_a_room_that_imports_upwards_is_caught(copy):
    (copy / "src/cytolabe/metrics/planted.py").write_text('"""Planted."""\n\nimport cytolabe.report.text\n')
    told = lint(copy)
    assert f"{LAYERS} BROKEN" in told, told[-4000:]
    assert "cytolabe.metrics.planted -> cytolabe.report.text" in told


def test_an_upward_import_inside_a_function_is_caught(copy):
    planted = '"""Planted."""\n\n\ndef f():\n    import cytolabe.evaluate\n'
    (copy / "src/cytolabe/store/planted.py").write_text(planted)
    assert "cytolabe.store.planted -> cytolabe.evaluate" in lint(copy)


def test_siblings_that_import_each_other_are_caught(copy):
    (copy / "src/cytolabe/validate/planted.py").write_text('"""Planted."""\n\nimport cytolabe.ingest\n')
    assert "cytolabe.validate.planted -> cytolabe.ingest" in lint(copy)


@pytest.mark.parametrize("room", ["split", "snapshot", "store"])
def test_a_model_that_looks_at_a_split_or_a_file_is_caught(copy, room):
    (copy / "src/cytolabe/models/planted.py").write_text(f'"""Planted."""\n\nimport cytolabe.{room}\n')
    told = lint(copy)
    assert f"{HONESTY} BROKEN" in told, told[-4000:]
    assert f"cytolabe.models.planted -> cytolabe.{room}" in told


def test_a_room_without_a_layer_is_caught(copy):
    (copy / "src/cytolabe/planted").mkdir()
    (copy / "src/cytolabe/planted/__init__.py").write_text('"""Planted."""\n')
    told = lint(copy)
    assert not told.endswith("exit 0")
    assert "planted" in told
