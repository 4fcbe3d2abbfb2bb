"""What reaches what: the objects that a revision, a snapshot or an entry needs to be read.

Objects are paths inside the atlas. What was purged is gone on purpose: it reaches nothing and is no damage.
"""

import json
from collections.abc import Collection, Sequence
from typing import cast

import numpy as np

from cytolabe.errors import IntegrityError, WithdrawnError
from cytolabe.files import Place, remove
from cytolabe.provenance import digest_of
from cytolabe.snapshot.artifacts import read_artifacts
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.freezing import tables_of
from cytolabe.snapshot.layout import CACHE_FORMAT, Layout
from cytolabe.snapshot.run_ledger import read_runs
from cytolabe.snapshot.withdrawals import read_excluded
from cytolabe.store.documents import documents_in, read_sealed
from cytolabe.store.leases import live_leases
from cytolabe.store.manifest import Revision, read_revisions
from cytolabe.store.partitions import partition_path

__all__ = [
    "all_objects",
    "content_of",
    "entries_of_snapshot",
    "entry_objects",
    "excluded_rows",
    "reachable",
    "require_objects",
    "snapshots_of",
    "stub_of",
    "stub_path",
]


def snapshots_of(layout: Layout, revisions: tuple[Revision, ...]) -> tuple[str, ...]:
    """Return the snapshots that revisions, artifacts, runs and live leases name, in order of their ids."""
    named = {name for revision in revisions for name in (revision.frozen, *revision.tags.values())}
    named |= {artifact.snapshot_id for artifact in read_artifacts(layout)}
    named |= {run.snapshot_id for run in read_runs(layout)}
    named |= {name for lease in live_leases(layout.leases) for name in lease.snapshots}
    return tuple(sorted(named - {""}))


def entries_of_snapshot(layout: Layout, snapshot_id: str) -> dict[str, str]:
    """Return the entry of each data set of a snapshot; nothing where its document is gone."""
    path = layout.document(layout.snapshots, snapshot_id)
    if not path.is_file():
        return {}
    return dict(cast("dict[str, str]", read_sealed(path)["datasets"]))


def content_of(layout: Layout, entry: DatasetEntry) -> set[Place]:
    """Return the objects that hold something of the cells of a data set: all but its gene alignment."""
    found = {partition_path(layout.partitions, partition.digest) for partition in entry.partitions}
    found |= {layout.tables / table.file for name, table in entry.tables.items() if name != "alignment"}
    return {*found, layout.document(layout.datasets, entry.digest)}


def entry_objects(layout: Layout, digest: str) -> set[Place]:
    """Return everything that a data set consists of."""
    path = layout.document(layout.datasets, digest)
    if not path.is_file():
        return set()
    entry = read_entry(layout, digest)
    return {*content_of(layout, entry), layout.overlay("genes") / entry.tables["alignment"].file}


def reachable(layout: Layout) -> set[Place]:
    """Return every object that a revision, a snapshot, an artifact or a live lease reaches."""
    revisions = read_revisions(layout.revisions)
    found: set[Place] = set()
    entries: set[str] = set()
    for revision in revisions:
        entries |= set(revision.datasets.values())
        found |= {layout.overlay(name) / table.file for name, table in revision.overlays.items()}
    for snapshot_id in snapshots_of(layout, revisions):
        path = layout.document(layout.snapshots, snapshot_id)
        if not path.is_file():
            continue
        found.add(path)
        document = read_sealed(path)
        entries |= set(cast("dict[str, str]", document["datasets"]).values())
        overlays = cast("dict[str, dict[str, object]]", document["overlays"])
        found |= {layout.overlay(name) / str(table["file"]) for name, table in overlays.items()}
    for digest in sorted(entries):
        found |= entry_objects(layout, digest)
    return found | _quality_of(layout, entries) | _caches_of(layout, snapshots_of(layout, revisions))


def _quality_of(layout: Layout, entries: Collection[str]) -> set[Place]:
    """Return the documents and tables of quality of data sets; what cannot be read is nobody's."""
    found: set[Place] = set()
    for path in documents_in(layout.quality):
        try:
            document = read_sealed(path)
        except IntegrityError:
            continue
        if document["entry"] in entries:
            table = cast("dict[str, str]", document["table"])
            found |= {path, layout.quality / table["file"]}
    return found


def _caches_of(layout: Layout, snapshot_ids: Sequence[str]) -> set[Place]:
    """Return the training caches of snapshots; one that nobody can read, or that is of another format, is nobody's."""
    found: set[Place] = set()
    for path in layout.caches.iterdir() if layout.caches.is_dir() else ():
        try:
            document = json.loads((path / "cache.json").read_bytes())
            snapshot_id, found_format = document["snapshot_id"], document["format"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if snapshot_id in snapshot_ids and found_format == CACHE_FORMAT:
            found.add(path)
    return found


def require_objects(layout: Layout, entries: Sequence[DatasetEntry]) -> None:
    """Refuse to put data sets in force of which an object is not there.

    Raises
    ------
    IntegrityError
        If something is missing: it was freed since it was written.
    WithdrawnError
        If a data set was purged: it would bring back cells of persons who withdrew.
    """
    has_stubs = bool(documents_in(layout.purged))
    for entry in entries:
        if has_stubs and stub_of(layout, layout.document(layout.datasets, entry.digest)):
            msg = (
                f"{entry.dataset_id} is the data set that was purged, with the cells of persons who withdrew in it. "
                "Ingest a version without them; `cytolabe snapshot recover` removes what this attempt wrote."
            )
            raise WithdrawnError(msg)
        for path in entry_objects(layout, entry.digest) if has_stubs else ():
            # An object of equal content that belongs to somebody else: it is there again, and rightly so.
            remove(stub_path(layout, path))
        missing = [path for path in sorted(entry_objects(layout, entry.digest), key=str) if not path.exists()]
        if missing or not layout.document(layout.datasets, entry.digest).is_file():
            msg = (
                f"{entry.dataset_id}: {len(missing) or 1} object(s) are gone since they were written, first "
                f"{missing[0].name if missing else entry.digest[:19]}: `gc` or `purge` ran in between. Ingest it again."
            )
            raise IntegrityError(msg)


def excluded_rows(layout: Layout, snapshot_id: str) -> dict[str, np.ndarray]:
    """Return the rows of each data set that a snapshot leaves out."""
    document = read_sealed(layout.document(layout.snapshots, snapshot_id))
    return read_excluded(layout, tables_of(document["overlays"]))


def stub_of(layout: Layout, path: Place) -> bool:
    """Tell whether an object was purged: a stub stands for it."""
    return stub_path(layout, path).is_file()


def stub_path(layout: Layout, path: Place) -> Place:
    """Return where the stub of an object lies."""
    name = layout.name_of(path)
    return layout.document(layout.purged, digest_of({"object": name}))


def all_objects(layout: Layout) -> set[Place]:
    """Return every object that is named by its content; what is only staged is none."""
    directories = [layout.partitions, layout.tables, layout.datasets, layout.snapshots, layout.caches, layout.quality]
    overlays = layout.overlay("genes").parent
    if overlays.is_dir():
        directories += [path for path in overlays.iterdir() if path.is_dir()]
    return {
        path
        for directory in directories
        if directory.is_dir()
        for path in directory.iterdir()
        if not path.name.startswith(".")
    }
