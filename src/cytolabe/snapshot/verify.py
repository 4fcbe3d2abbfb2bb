"""Re-hash an atlas: the log, the documents, the tables, and every count.

Walked from the log down, so that a finding can say where it stands: revisions (seal, chain of parents, no gap but what
was expired, no end before the one that was witnessed), then the snapshots, artifacts and entries that they name, then
tables and partitions, by bytes and by meaning. Damage never stops the walk. What was purged is a note. What no revision
names is not looked at: it is what an interrupted ingest left.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from cytolabe.errors import CytolabeError, IntegrityError
from cytolabe.files import Place, place_of, sha256_of_file
from cytolabe.provenance import digest_of
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.reach import stub_of, stub_path
from cytolabe.snapshot.withdrawals import WITHDRAWALS
from cytolabe.store.documents import documents_in, read_sealed
from cytolabe.store.expiry import ExpiredRevision, read_expired
from cytolabe.store.manifest import WITNESS, Revision, read_revision, revision_numbers
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
        expired = self._expired()
        witness = self._witnessed()
        revisions = list(self._revisions(expired))
        self._compare_witness(witness, {revision.number: revision.seal for revision in revisions}, expired)
        for revision in revisions:
            for name, table in sorted(revision.overlays.items()):
                self._table(self.layout.overlay(name), table)
            for _, digest in sorted(revision.datasets.items()):
                self._entry(digest)
        if any(WITHDRAWALS in revision.overlays for revision in revisions):
            self._document(self.layout.pseudonym_key, partial(read_sealed, self.layout.pseudonym_key))
        named = {name for revision in revisions for name in (revision.frozen, *revision.tags.values()) if name}
        named |= {*self._artifacts(), *self._runs()} - {""}
        for snapshot_id in sorted(named):
            path = self.layout.document(self.layout.snapshots, snapshot_id)
            self._document(path, partial(self._snapshot, snapshot_id))
        self._unnamed_snapshots(named | {gone.frozen for gone in expired.values()})

    def _expired(self) -> dict[int, ExpiredRevision]:
        """Return the revisions that were dropped legally; one that is there again is told."""
        for path in documents_in(self.layout.expired):
            self._document(path, partial(read_sealed, path))
        try:
            expired = read_expired(self.layout.expired)
        except IntegrityError:
            return {}
        for number in sorted(set(expired) & set(revision_numbers(self.layout.revisions))):
            message = "was expired and is there again: an old copy was restored, or `expire` was interrupted"
            self._warn("W-INTEGRITY-02", f"revisions/{number}.json", message)
        return expired

    def _witnessed(self) -> dict[str, object] | None:
        """Return the witness of the last revision. Atlases of older versions have none until they are changed."""
        path = self.layout.root / WITNESS
        if not path.is_file():
            if revision_numbers(self.layout.revisions)[-1:] in ([], [0]):
                # An atlas that was only created has nothing to witness yet.
                return None
            message = "is missing: nothing would tell that the last revisions were removed"
            self._note("N-INTEGRITY-01", WITNESS, message, remedy="none: the next change of the atlas writes it")
            return None
        return self._document(path, partial(read_sealed, path))

    def _compare_witness(
        self, witness: dict[str, object] | None, seals: dict[int, str], expired: dict[int, ExpiredRevision]
    ) -> None:
        """Tell of a log that ends too early, or holds another revision than the one that was witnessed."""
        if witness is None or not seals:
            return
        number = int(str(witness["number"]))
        last = max(seals)
        known = {**{n: gone.seal for n, gone in expired.items()}, **seals}
        if last < number:
            message = f"the log ends with revision {last}, and revision {number} was published: it was rolled back"
            self.findings.append(integrity_finding("E-INTEGRITY-07", f"revisions/{number}.json", message))
        elif number in known and known[number] != witness["revision"]:
            message = f"is not the revision {number} that was witnessed: the log was rewritten"
            self.findings.append(integrity_finding("E-INTEGRITY-06", f"revisions/{number}.json", message))

    def _artifacts(self) -> Iterator[str]:
        """Yield the snapshots that artifacts name."""
        for path in documents_in(self.layout.artifacts):
            document = self._document(path, partial(read_sealed, path))
            if document is None:
                continue
            content = {key: value for key, value in document.items() if key != "seal"}
            if digest_of(content) != f"sha256:{path.stem}":
                message = "holds another artifact than its name says"
                self.findings.append(integrity_finding("E-INTEGRITY-05", f"artifacts/{path.name}", message))
            yield str(document["snapshot_id"])

    def _runs(self) -> Iterator[str]:
        """Yield the snapshots that records of runs name."""
        for path in documents_in(self.layout.runs):
            document = self._document(path, partial(read_sealed, path))
            if document is None:
                continue
            content = {key: value for key, value in document.items() if key != "seal"}
            if digest_of(content) != f"sha256:{path.stem}":
                message = "holds another record than its name says"
                self.findings.append(integrity_finding("E-INTEGRITY-05", f"runs/{path.name}", message))
            record = document["record"]
            yield str(record["snapshot_id"]) if isinstance(record, dict) else ""

    def _revisions(self, expired: dict[int, ExpiredRevision]) -> Iterator[Revision]:
        """Yield the readable revisions; say what is edited, missing or out of the chain."""
        directory = self.layout.revisions
        numbers = sorted(int(path.stem) for path in directory.glob("*.json") if path.stem.isdigit())
        if not numbers:
            self.findings.append(integrity_finding("E-INTEGRITY-01", "revisions", "the log of the atlas is missing"))
        parent = ""
        for number in range(numbers[-1] + 1 if numbers else 0):
            path = directory / f"{number}.json"
            if number in expired and not path.is_file():
                if number and parent and expired[number].parent != parent:
                    message = f"names another parent than revision {number - 1}: the log was rewritten"
                    self.findings.append(integrity_finding("E-INTEGRITY-06", f"revisions/{path.name}", message))
                parent = expired[number].seal
                continue
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
        if self._is_purged(path):
            return
        entry = self._document(path, partial(read_entry, self.layout, digest))
        if entry is None:
            return
        for name, table in entry.tables.items():
            self._table(self.layout.overlay("genes") if name == "alignment" else self.layout.tables, table)
        self._partitions(entry)

    def _partitions(self, entry: DatasetEntry) -> None:
        for partition in entry.partitions:
            directory = partition_path(self.layout.partitions, partition.digest)
            if not self._is_purged(directory) and self._is_new(directory):
                where = f"partitions/{directory.name} of {entry.dataset_id}"
                root_sha256 = partition.files.get(ROOT_NAME, "")
                self.findings.extend(verify_partition(directory, root_sha256=root_sha256, where=where))

    def _table(self, directory: Place, table: TableEntry) -> None:
        path = directory / table.file
        if self._is_purged(path) or not self._is_new(path):
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
        if any(stub_of(self.layout, self.layout.document(self.layout.datasets, digest)) for digest in digests):
            return None
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
            message = "no revision names this snapshot: revisions were removed, or a freeze was interrupted"
            self._warn("W-INTEGRITY-01", f"snapshots/{name}", message)

    def _is_purged(self, path: Place) -> bool:
        """Tell whether an object was purged, and say so once: it is gone on purpose, or should be."""
        if not stub_of(self.layout, path):
            return False
        if self._is_new(path):
            where = self.layout.name_of(path)
            stub = stub_path(self.layout, path)
            self._document(stub, partial(read_sealed, stub))
            if path.exists():
                self._warn("W-INTEGRITY-03", where, "was purged and is still there: the purge was interrupted")
            else:
                message = "was purged: it held cells of persons who withdrew"
                self._note("N-INTEGRITY-02", where, message, remedy="none: snapshots over it cannot be opened")
        return True

    def _warn(self, code: str, where: str, message: str) -> None:
        remedy = {
            "W-INTEGRITY-01": "if revisions are missing, restore them from a copy; else freeze again, or run `recover`",
            "W-INTEGRITY-02": "run `cytolabe snapshot recover`, which removes it again",
            "W-INTEGRITY-03": "run `cytolabe snapshot recover`, which finishes the purge",
        }[code]
        self.findings.append(_finding(code, Severity.WARNING, where, message=message, remedy=remedy))

    def _note(self, code: str, where: str, message: str, *, remedy: str) -> None:
        self.findings.append(_finding(code, Severity.NOTE, where, message=message, remedy=remedy))

    def _is_new(self, path: Place) -> bool:
        is_new = path not in self._seen
        self._seen.add(path)
        return is_new


def _finding(code: str, severity: Severity, where: str, *, message: str, remedy: str) -> Finding:
    return Finding(
        code=code,
        severity=severity,
        where=where,
        message=message,
        remedy=remedy,
        rule="cytolabe/integrity",
        n_affected=1,
        n_total=1,
    )
