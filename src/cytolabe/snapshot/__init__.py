"""An atlas, its revisions, and the frozen snapshots that every later stage reads. Names are loaded on first use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cytolabe.snapshot.atlas import Atlas, create_atlas, open_atlas
    from cytolabe.snapshot.build import DatasetContent, write_dataset
    from cytolabe.snapshot.diff import SnapshotDiff, diff_snapshots
    from cytolabe.snapshot.entries import DatasetEntry
    from cytolabe.snapshot.frozen import Snapshot
    from cytolabe.snapshot.verify import verify_atlas
    from cytolabe.snapshot.view import CELL_COLUMNS, SnapshotView

__all__ = [
    "CELL_COLUMNS",
    "Atlas",
    "DatasetContent",
    "DatasetEntry",
    "Snapshot",
    "SnapshotDiff",
    "SnapshotView",
    "create_atlas",
    "diff_snapshots",
    "open_atlas",
    "verify_atlas",
    "write_dataset",
]

_MODULE_OF = {
    "CELL_COLUMNS": "view",
    "Atlas": "atlas",
    "DatasetContent": "build",
    "DatasetEntry": "entries",
    "Snapshot": "frozen",
    "SnapshotDiff": "diff",
    "SnapshotView": "view",
    "create_atlas": "atlas",
    "diff_snapshots": "diff",
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
