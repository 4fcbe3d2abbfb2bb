"""Access classes of what a snapshot holds: open, registered, managed, as the manifests declare them.

What is made of several data sets has the strictest of their classes. A class is no part of a snapshot's id: it may be
declared after a freeze, so that a data set has the stricter of what the snapshot recorded and what is in force now.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cytolabe.errors import RefusedError
from cytolabe.records import DatasetRecord
from cytolabe.records.access import UNDECLARED, strictest
from cytolabe.snapshot.entries import read_entry
from cytolabe.store.manifest import head_revision

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["access_by_dataset", "access_of", "declared_access", "require_access"]


def access_of(record: DatasetRecord) -> str:
    """Return the class that was declared of a data set, or `undeclared`."""
    return record.declared.get("access", UNDECLARED)


def access_by_dataset(snapshot: "Snapshot") -> dict[str, str]:
    """Return the class of each data set of a snapshot, by data set id."""
    in_force = head_revision(snapshot.layout.revisions).datasets
    found = {}
    for dataset_id, entry in snapshot.entries.items():
        classes = [access_of(entry.record)]
        digest = in_force.get(dataset_id, entry.digest)
        if digest != entry.digest:
            classes.append(access_of(read_entry(snapshot.layout, digest).record))
        found[dataset_id] = strictest(classes)
    return found


def declared_access(snapshot: "Snapshot") -> str:
    """Return the class that what is made of a snapshot has: its strictest, or nothing where it is undeclared."""
    found = strictest(access_by_dataset(snapshot).values())
    return "" if found == UNDECLARED else found


def require_access(n_cells: Mapping[str, int], allowed: str) -> None:
    """Refuse cells that are stricter than what may leave.

    Parameters
    ----------
    n_cells
        Number of cells by access class.
    allowed
        The strictest class that may leave; empty allows open and undeclared cells.

    Raises
    ------
    RefusedError
        If there is a cell of a stricter class; the message counts the cells of every class.
    """
    needed = strictest(n_cells)
    if strictest([needed, allowed or UNDECLARED]) == (allowed or UNDECLARED):
        return
    told = ", ".join(f"{count:,} {word}" for word, count in sorted(n_cells.items()))
    msg = (
        f"These cells are not all open: {told}. A file of them would leave without what their access class asks for. "
        f"Say --access {needed} if you may hand them on, or choose other cells with --where."
    )
    raise RefusedError(msg)
