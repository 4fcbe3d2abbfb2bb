"""The source tree, parsed once, for the conventions that are read from it."""

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "cytolabe"


@dataclass(frozen=True)
class Source:
    """One module of the package."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(PACKAGE.parent).as_posix()

    @property
    def module(self) -> str:
        parts = self.path.relative_to(PACKAGE.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def package() -> Path:
    return PACKAGE


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    return [Source(path) for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.fixture(scope="session")
def run_python():
    """Run code in a fresh interpreter and return what it printed."""

    def run(code: str, *, path: Path | None = None) -> str:
        environment = {**os.environ, "PYTHONPATH": str(path or PACKAGE.parent)}
        done = subprocess.run(  # noqa: S603 - our own interpreter, our own text
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
