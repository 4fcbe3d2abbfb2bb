"""An atlas: data sets and interpretations that are revised, and snapshots that are not.

Every change publishes the next revision; an `Atlas` looks at one revision, so a reader sees a whole state or the one
before. `freeze` turns that state into a snapshot that is named by what it means. Two writers who change different
things both succeed; of two who change the same thing, the second is told.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cytolabe.errors import ConflictError, UsageError
from cytolabe.files import Place, create_new, place_of
from cytolabe.records import Finding, LabelMapping, MemoryRow
from cytolabe.snapshot.access import declared_access
from cytolabe.snapshot.artifacts import ArtifactRecord, write_artifact
from cytolabe.snapshot.build import FACT_COLUMNS
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.exclusion import looked_through, remaining_cells, require_no_withdrawn
from cytolabe.snapshot.freezing import require_one_organism, snapshot_document
from cytolabe.snapshot.frozen import Snapshot, snapshot_id_of
from cytolabe.snapshot.layout import FORMAT, Layout
from cytolabe.snapshot.moments import LATEST, revision_at, snapshot_called
from cytolabe.snapshot.overlays import (
    MEMORY,
    persons_of,
    read_mappings,
    read_memory,
    write_mappings,
    write_memory,
    write_persons,
)
from cytolabe.snapshot.reach import require_objects
from cytolabe.snapshot.withdrawals import WITHDRAWALS, Withdrawals, read_withdrawals
from cytolabe.store.documents import read_sealed, sealed_bytes
from cytolabe.store.leases import held_lease
from cytolabe.store.manifest import (
    Change,
    Revision,
    first_revision,
    head_revision,
    publish_change,
    read_revisions,
)
from cytolabe.store.tables import read_table

__all__ = ["LATEST", "Atlas", "Snapshot", "create_atlas", "open_atlas"]


def create_atlas(path: str | Place) -> "Atlas":
    """Create an atlas in a directory or at a URL, or open the one that is there.

    Raises
    ------
    UsageError
        If the directory holds other things.
    """
    layout = Layout(place_of(path))
    if not layout.marker.exists():
        if layout.root.exists() and any(layout.root.iterdir()) and not layout.revisions.exists():
            msg = f"{layout.root} is not empty and no atlas. Name a new directory."
            raise UsageError(msg)
        first_revision(layout.revisions)
        # The marker comes last: a directory with it has a log.
        create_new(layout.marker, sealed_bytes({"format": FORMAT}))
    return open_atlas(path)


def open_atlas(path: str | Place) -> "Atlas":
    """Open an atlas at its head.

    Raises
    ------
    UsageError
        If there is none, or it was written in a format that this version does not know.
    IntegrityError
        If its log was edited.
    """
    layout = Layout(place_of(path))
    if not layout.marker.exists():
        msg = f"{layout.root} is no atlas: it has no {layout.marker.name}. `cytolabe ingest` makes one."
        raise UsageError(msg)
    found = read_sealed(layout.marker).get("format")
    if found != FORMAT:
        msg = f"{layout.root} has format {found}; this version of Cytolabe reads {FORMAT}."
        raise UsageError(msg)
    return Atlas(layout, head_revision(layout.revisions))


class Atlas:
    """An atlas at one revision. Get one with `open_atlas` or `create_atlas`; `refresh` moves it to the head."""

    def __init__(self, layout: Layout, revision: Revision) -> None:
        self._layout = layout
        self._revision = revision

    @property
    def path(self) -> Place:
        """Where the atlas lies."""
        return self._layout.root

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        return self._layout

    @property
    def state(self) -> Revision:
        """The revision that this object looks at."""
        return self._revision

    @property
    def revision(self) -> int:
        """Number of the revision that this object looks at."""
        return self._revision.number

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        """The data sets in force, sorted."""
        return tuple(sorted(self._revision.datasets))

    @property
    def tags(self) -> Mapping[str, str]:
        """Tag -> snapshot id, sorted by tag."""
        return dict(sorted(self._revision.tags.items()))

    def refresh(self) -> "Atlas":
        """Look at the head of the log, and return this atlas."""
        self._revision = head_revision(self._layout.revisions)
        return self

    def history(self) -> tuple[Revision, ...]:
        """Return all revisions, the first one first."""
        return read_revisions(self._layout.revisions)

    def at(self, when: str) -> "Atlas":
        """Return this atlas as it was: at revision `@7`, or at the end of a day or second (`2026-11-25`, UTC).

        Raises
        ------
        UsageError
            If that revision never was or was expired, or the atlas is younger.
        """
        return Atlas(self._layout, revision_at(self._layout, when))

    def entry(self, dataset_id: str) -> DatasetEntry:
        """Return the entry of a data set.

        Raises
        ------
        UsageError
            If the atlas has no such data set.
        """
        if dataset_id not in self._revision.datasets:
            msg = f"{dataset_id!r} is no data set of this atlas; it has {', '.join(self.dataset_ids) or 'none'}."
            raise UsageError(msg)
        return read_entry(self._layout, self._revision.datasets[dataset_id])

    def findings(self, dataset_id: str) -> tuple[Finding, ...]:
        """Return what the checks found when a data set was ingested."""
        return self.entry(dataset_id).findings

    def cells(self) -> pd.DataFrame:
        """Return the facts of all cells (`build.FACT_COLUMNS`) by data set id and row, without interpretations.

        Cells of persons who withdrew are left out.
        """
        parts = [remaining_cells(self._layout, self._revision, self.entry(name)) for name in self.dataset_ids]
        if not parts:
            return pd.DataFrame({column: pd.Series([], dtype=object) for column in FACT_COLUMNS})
        return pd.concat(parts, ignore_index=True)

    def contributed(self, dataset_id: str) -> pd.DataFrame:
        """Return the contributor's own columns of a data set, verbatim."""
        return read_table(self._layout.tables, self.entry(dataset_id).tables["contributed"])

    def mappings(self) -> tuple[LabelMapping, ...]:
        """Return the label mappings in force, by data set and label."""
        if "mappings" not in self._revision.overlays:
            return ()
        return read_mappings(self._layout.overlay("mappings"), self._revision.overlays["mappings"])

    def memory(self) -> tuple[MemoryRow, ...]:
        """Return what imported tables say of labels, in canonical order."""
        if MEMORY not in self._revision.overlays:
            return ()
        return read_memory(self._layout.overlay(MEMORY), self._revision.overlays[MEMORY])

    def persons(self) -> pd.DataFrame:
        """Return the persons in force, by data set and donor."""
        return persons_of(self._layout, self._revision)

    def publish(self, entries: Sequence[DatasetEntry], *, author: str = "", message: str = "") -> Revision:
        """Put data sets in force and return the revision; its `changes` say what became of each.

        Equal content under the same id is `unchanged`, other content `replaced`; where everything is unchanged,
        nothing is published and the revision in force is returned with these words.

        Raises
        ------
        UsageError
            If two entries have one data set id.
        RefusedError
            If the atlas would hold more than one organism.
        ConflictError
            If somebody else changed one of these data sets in the meantime.
        """
        ids = sorted(entry.dataset_id for entry in entries)
        doubled = sorted({name for name in ids if ids.count(name) > 1})
        if doubled:
            msg = f"{len(doubled)} data set id(s) name two sources: {', '.join(doubled[:5])}. Rename one with --id."
            raise UsageError(msg)
        kept = [self.entry(name) for name in self.dataset_ids if name not in ids]
        require_one_organism([*kept, *entries])
        now = self._revision.datasets
        new = {entry.dataset_id: entry.digest for entry in entries if now.get(entry.dataset_id) != entry.digest}
        unchanged = tuple(f"datasets/{name}" for name in ids if name not in new)
        with held_lease(self._layout.leases, "write"):
            # Objects that were there already may have been freed since they were found: under the lease they stay.
            require_objects(self._layout, [entry for entry in entries if entry.dataset_id in new])
            return self.publish_change(Change(datasets=new, unchanged=unchanged), author=author, message=message)

    def remove_dataset(self, dataset_id: str, *, author: str = "", message: str = "") -> Revision:
        """Take a data set out of force; snapshots that were frozen before keep it.

        Raises
        ------
        UsageError
            If the atlas has no such data set.
        ConflictError
            If somebody else changed it in the meantime.
        """
        self.entry(dataset_id)
        return self.publish_change(
            Change(removed=(dataset_id,)), author=author, message=message or f"remove {dataset_id}"
        )

    def put_mappings(self, mappings: Sequence[LabelMapping], *, author: str = "", message: str = "") -> Revision:
        """Put label mappings in force in place of those before.

        Raises
        ------
        UnresolvedLabelError
            If a label is mapped twice or a mapping is malformed.
        ConflictError
            If somebody else changed the mappings in the meantime.
        """
        with held_lease(self._layout.leases, "write"):
            table = write_mappings(mappings, self._layout.overlay("mappings"))
            return self.publish_change(Change(overlays={"mappings": table}), author=author, message=message)

    def put_memory(self, rows: Sequence[MemoryRow], *, author: str = "", message: str = "") -> Revision:
        """Put what imported tables say of labels in force in place of what was there.

        Raises
        ------
        ConflictError
            If somebody else imported a table in the meantime.
        """
        with held_lease(self._layout.leases, "write"):
            table = write_memory(rows, self._layout.overlay(MEMORY))
            return self.publish_change(Change(overlays={MEMORY: table}), author=author, message=message)

    def put_persons(self, persons: pd.DataFrame, *, author: str = "", message: str = "") -> Revision:
        """Put resolved persons in force in place of those before.

        Raises
        ------
        UsageError
            If a donor has two persons, or columns are missing.
        ConflictError
            If somebody else changed the persons in the meantime.
        """
        with held_lease(self._layout.leases, "write"):
            table = write_persons(persons, self._layout.overlay("persons"))
            return self.publish_change(Change(overlays={"persons": table}), author=author, message=message)

    def freeze(self, tag: str = "", *, author: str = "", message: str = "") -> Snapshot:
        """Freeze the state of this atlas into a snapshot; a tag may name it. Freezing an equal state changes nothing.

        Raises
        ------
        RefusedError
            If the data sets are aligned to several gene references.
        UsageError
            If the tag is a reserved word.
        ConflictError
            If the tag names another snapshot.
        """
        if tag == LATEST or tag.startswith("sha256:"):
            msg = f"{tag!r} cannot be a tag: it already means something. Choose another word."
            raise UsageError(msg)
        with held_lease(self._layout.leases, "write"):
            # Data sets that arrived after a withdrawal are looked through before anything is frozen.
            facts = self.look_through()
            entries = [self.entry(name) for name in self.dataset_ids]
            document = snapshot_document(self._layout, self._revision, entries=entries, facts=facts)
            snapshot_id = snapshot_id_of(document["body"])  # type: ignore[arg-type]
            if self._revision.tags.get(tag, snapshot_id) != snapshot_id:
                msg = (
                    f"tag {tag!r} names snapshot {self._revision.tags[tag][:19]}. A tag is never moved; choose another."
                )
                raise ConflictError(msg)
            # The same snapshot may be there over other physical files: what its id covers is equal.
            with contextlib.suppress(ConflictError):
                create_new(self._layout.document(self._layout.snapshots, snapshot_id), sealed_bytes(document))
            tags = {tag: snapshot_id} if tag else {}
            # A withdrawal that was published in between must not be left out.
            change = Change(tags=tags, frozen=snapshot_id, expected=(WITHDRAWALS,))
            self.publish_change(change, author=author, message=message or "frozen")
        return Snapshot(self._layout, snapshot_id)

    def snapshots(self) -> tuple[str, ...]:
        """Return the ids of all frozen snapshots in the order in which they were frozen first."""
        return tuple(self.freezes())

    def freezes(self) -> Mapping[str, Revision]:
        """Return the first revision that is kept of each frozen snapshot, in that order."""
        found: dict[str, Revision] = {}
        for revision in self.history():
            if revision.frozen:
                found.setdefault(revision.frozen, revision)
        return found

    def snapshot(self, tag_or_id: str = LATEST, *, as_recorded: bool = False) -> Snapshot:
        """Open a snapshot by tag, by id (12 or more digits of it are enough), or the one that was frozen last.

        `@7` is the one that was in force at revision 7, `2026-11-25` at the end of that day (UTC).

        Parameters
        ----------
        tag_or_id
            Which one.
        as_recorded
            Open it although persons withdrew since: to reproduce a number, never to publish a new one.

        Raises
        ------
        UsageError
            If there is none of that name.
        WithdrawnError
            If it holds cells of a person who withdrew since, or cells of it were purged.
        """
        snapshot_id = self.resolve(tag_or_id)
        require_no_withdrawn(self._layout, snapshot_id, as_recorded=as_recorded)
        return Snapshot(self._layout, snapshot_id)

    def resolve(self, tag_or_id: str = LATEST) -> str:
        """Return the id of a snapshot without opening it; the words are those of `snapshot`.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        return snapshot_called(self._layout, self._revision, tag_or_id, known=self.snapshots)

    def register_artifact(self, kind: str, made: str | Path, snapshot_id: str, *, name: str = "") -> ArtifactRecord:
        """Record what was made of a snapshot (a file, which is hashed, or a digest), so that it can be found again."""
        access = declared_access(Snapshot(self._layout, snapshot_id)) if snapshot_id in self.snapshots() else ""
        return write_artifact(self._layout, kind, made, snapshot_id=snapshot_id, name=name, access=access)

    def publish_change(self, change: Change, *, author: str, message: str) -> Revision:
        """Publish a change that was made for the revision at hand, and look at the revision that it became.

        Raises
        ------
        ConflictError
            If somebody else changed one of its targets in the meantime.
        """
        current = self._revision
        is_news = any(
            getattr(current, kind).get(target) != value
            for kind in ("datasets", "overlays", "tags")
            for target, value in getattr(change, kind).items()
        ) or (change.frozen and change.frozen != current.frozen)
        is_news = is_news or bool(set(change.removed) & set(current.datasets))
        if not is_news:
            # Nothing to write: the words are about this call, the revision is the one in force.
            return current.with_changes(dict.fromkeys(change.unchanged, "unchanged"))
        self._revision = publish_change(self._layout.revisions, change, base=current, author=author, message=message)
        return self._revision

    def look_through(self) -> Withdrawals:
        """Look for persons who withdrew in data sets that arrived since, and publish what is found."""
        before = read_withdrawals(self._layout, self._revision)
        if not before.ids:
            return before
        entries = [self.entry(name) for name in self.dataset_ids]
        found = looked_through(self._layout, before, entries=entries, persons=self.persons())
        if len(found.table) != len(before.table):
            change = Change(overlays={WITHDRAWALS: found.write(self._layout)})
            self.publish_change(change, author="", message="look for persons who withdrew in new data sets")
        return found
