"""An atlas, its revisions, and the frozen snapshots that every later stage reads. Names are loaded on first use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cytolabe.snapshot.atlas import Atlas, create_atlas, open_atlas
    from cytolabe.snapshot.build import DatasetContent, write_dataset
    from cytolabe.snapshot.diff import SnapshotDiff, diff_snapshots
    from cytolabe.snapshot.embeddings import EmbeddingSpec, EmbeddingStore
    from cytolabe.snapshot.entries import DatasetEntry
    from cytolabe.snapshot.frozen import Snapshot
    from cytolabe.snapshot.lazy import LazyCells
    from cytolabe.snapshot.takeout import export_cells
    from cytolabe.snapshot.verify import verify_atlas
    from cytolabe.snapshot.view import CELL_COLUMNS, SnapshotView

__all__ = [
    "CELL_COLUMNS",
    "Atlas",
    "DatasetContent",
    "DatasetEntry",
    "EmbeddingSpec",
    "EmbeddingStore",
    "LazyCells",
    "Snapshot",
    "SnapshotDiff",
    "SnapshotView",
    "create_atlas",
    "diff_snapshots",
    "export_cells",
    "open_atlas",
    "verify_atlas",
    "write_dataset",
]

_MODULE_OF = {
    "CELL_COLUMNS": "view",
    "Atlas": "atlas",
    "DatasetContent": "build",
    "DatasetEntry": "entries",
    "EmbeddingSpec": "embeddings",
    "EmbeddingStore": "embeddings",
    "LazyCells": "lazy",
    "Snapshot": "frozen",
    "SnapshotDiff": "diff",
    "SnapshotView": "view",
    "create_atlas": "atlas",
    "diff_snapshots": "diff",
    "export_cells": "takeout",
    "open_atlas": "atlas",
    "verify_atlas": "verify",
    "write_dataset": "build",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _MODULE_OF:
        msg = f"module 'cytolabe.snapshot' has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(f"cytolabe.snapshot.{_MODULE_OF[name]}"), name)
