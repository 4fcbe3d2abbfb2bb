"""Hold files against rule packs of a schema, each in a process that may die."""

from collections.abc import Sequence
from pathlib import Path

from cytolabe.ingest.inspection import inspect
from cytolabe.records import Finding

__all__ = ["conform_file"]

_CHILD = "cytolabe.flow.conform_child"


def conform_file(path: Path, packs: Sequence[str]) -> tuple[Finding, ...]:
    """Return everything in which a file does not conform to the packs, or why it could not be read."""
    return inspect(path, _CHILD, options=(tuple(packs),))
