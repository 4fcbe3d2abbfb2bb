"""Re-hash an atlas: the log, the documents, the tables, and every count.

Walked from the log down, so that a finding can say where it stands: revisions (seal, chain of parents, no gap), then
the snapshots and entries that they name, then tables and partitions, by bytes and by meaning. Damage never stops the
walk. What no revision names is not looked at: it is what an interrupted ingest left.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from cytolabe.errors import CytolabeError, IntegrityError
from cytolabe.files import Place, place_of, sha256_of_file
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.layout import Layout
from cytolabe.store.documents import read_sealed
from cytolabe.store.manifest import Revision, read_revision
from cytolabe.store.partitions import partition_path, verify_partition
from cytolabe.store.physical import ROOT_NAME, integrity_finding
from cytolabe.store.tables import TableEntry, read_table

__all__ = ["verify_atlas"]

T = TypeVar("T")


def verify_atlas(path: str | Place) -> tuple[int, tuple[Finding, ...]]:
    """Re-hash everything that a revision of an atlas names.

    Returns
    -------
    :
        The number of objects that were checked, and what was found; an intact atlas has no findings.

    Raises
    ------
    UsageError
        If there is no atlas.
    """
    layout = Layout(place_of(path))
    if not layout.marker.exists():
        open_atlas(path)
    walk = _Walk(layout)
    walk.run()
    return walk.n_checked, tuple(walk.findings)


class _Walk:
    """One pass over an atlas; each object is checked once, whoever names it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.findings: list[Finding] = []
        self._seen: set[Place] = set()

    @property
    def n_checked(self) -> int:
        return len(self._seen)

    def run(self) -> None:
        self._document(self.layout.marker, partial(read_sealed, self.layout.marker))
        revisions = list(self._revisions())
        for revision in revisions:
            for name, table in sorted(revision.overlays.items()):
                self._table(self.layout.overlay(name), table)
            for _, digest in sorted(revision.datasets.items()):
                self._entry(digest)
        named = {name for revision in revisions for name in (revision.frozen, *revision.tags.values()) if name}
        for snapshot_id in sorted(named):
            path = self.layout.document(self.layout.snapshots, snapshot_id)
            self._document(path, partial(self._snapshot, snapshot_id))
        self._unnamed_snapshots(named)

    def _revisions(self) -> Iterator[Revision]:
        """Yield the readable revisions; say what is edited, missing or out of the chain."""
        directory = self.layout.revisions
        numbers = sorted(int(path.stem) for path in directory.glob("*.json") if path.stem.isdigit())
        if not numbers:
            self.findings.append(integrity_finding("E-INTEGRITY-01", "revisions", "the log of the atlas is missing"))
        parent = ""
        for number in range(numbers[-1] + 1 if numbers else 0):
            path = directory / f"{number}.json"
            revision = self._document(path, partial(read_revision, directory, number))
            if revision is None:
                parent = ""
                continue
            if number and parent and revision.parent != parent:
                message = f"names another parent than revision {number - 1}: the log was rewritten"
                self.findings.append(integrity_finding("E-INTEGRITY-06", f"revisions/{path.name}", message))
            parent = revision.seal
            yield revision

    def _entry(self, digest: str) -> None:
        path = self.layout.document(self.layout.datasets, digest)
        entry = self._document(path, partial(read_entry, self.layout, digest))
        if entry is None:
            return
        for name, table in entry.tables.items():
            self._table(self.layout.overlay("genes") if name == "alignment" else self.layout.tables, table)
        self._partitions(entry)

    def _partitions(self, entry: DatasetEntry) -> None:
        for partition in entry.partitions:
            directory = partition_path(self.layout.partitions, partition.digest)
            if self._is_new(directory):
                where = f"partitions/{directory.name} of {entry.dataset_id}"
                root_sha256 = partition.files.get(ROOT_NAME, "")
                self.findings.extend(verify_partition(directory, root_sha256=root_sha256, where=where))

    def _table(self, directory: Place, table: TableEntry) -> None:
        path = directory / table.file
        if not self._is_new(path):
            return
        where = self.layout.name_of(path)
        try:
            read_table(directory, table)
        except IntegrityError as error:
            if not path.exists():
                code = "E-INTEGRITY-01"
            else:
                code = "E-INTEGRITY-02" if sha256_of_file(path) != table.sha256 else "E-INTEGRITY-04"
            self.findings.append(integrity_finding(code, where, str(error)))

    def _snapshot(self, snapshot_id: str) -> Snapshot | None:
        """Open a snapshot; damage of what it names has its own finding already."""
        document = read_sealed(self.layout.document(self.layout.snapshots, snapshot_id))
        datasets = document["datasets"]
        digests = sorted(datasets.values()) if isinstance(datasets, dict) else []
        for digest in digests:
            self._entry(digest)
        damaged = {finding.where for finding in self.findings}
        if any(f"datasets/{self.layout.document(self.layout.datasets, digest).name}" in damaged for digest in digests):
            return None
        return Snapshot(self.layout, snapshot_id)

    def _document(self, path: Place, read: Callable[[], T]) -> T | None:
        """Read a sealed document once; None where it is damaged or was read before."""
        if not self._is_new(path):
            return None
        try:
            return read()
        except CytolabeError as error:
            where = self.layout.name_of(path)
            code = "E-INTEGRITY-05" if path.exists() else "E-INTEGRITY-01"
            self.findings.append(integrity_finding(code, where, str(error)))
            return None

    def _unnamed_snapshots(self, named: set[str]) -> None:
        """Warn of snapshots that no revision knows: the log was rolled back, or a freeze was interrupted."""
        for name in sorted(path.name for path in self.layout.snapshots.glob("*.json")):
            if f"sha256:{name.removesuffix('.json')}" in named:
                continue
            self.findings.append(
                Finding(
                    code="W-INTEGRITY-01",
                    severity=Severity.WARNING,
                    where=f"snapshots/{name}",
                    message="no revision names this snapshot: revisions were removed, or a freeze was interrupted",
                    remedy="if revisions are missing, restore them from a copy; else freeze again",
                    rule="cytolabe/integrity",
                    n_affected=1,
                    n_total=1,
                )
            )

    def _is_new(self, path: Place) -> bool:
        is_new = path not in self._seen
        self._seen.add(path)
        return is_new
