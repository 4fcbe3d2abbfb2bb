"""Withdrawing a person: from now on no snapshot holds their cells, nor copies of these in other data sets.

Counts and tables stay as they are (`snapshot.purge` removes them): a withdrawal is an overlay of rows. Everything that
is in force or frozen is looked through at once; what arrives later is looked through when it is frozen. So a withdrawal
that races with an ingest is not lost, whoever is first.
"""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from cytolabe.errors import ConflictError, UsageError
from cytolabe.provenance import digest_of
from cytolabe.snapshot.artifacts import ArtifactRecord, artifacts_of
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.exclusion import looked_through
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.overlays import write_persons
from cytolabe.snapshot.reach import entries_of_snapshot, snapshots_of
from cytolabe.snapshot.run_ledger import LedgerRun, descendants, read_runs
from cytolabe.snapshot.withdrawals import (
    WITHDRAWALS,
    Withdrawals,
    donors_of,
    pseudonym_of,
    pseudonyms,
    read_withdrawals,
)
from cytolabe.store.leases import held_lease
from cytolabe.store.manifest import Change, read_revisions

__all__ = ["Withdrawal", "withdraw_person"]

_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """What a withdrawal found. `n_cells` counts rows by data set in force; the rest descends from these cells."""

    withdrawal: str
    revision: int
    n_cells: dict[str, int]
    snapshots: tuple[str, ...]
    artifacts: tuple[ArtifactRecord, ...]
    runs: tuple[LedgerRun, ...] = ()


def withdraw_person(
    atlas: Atlas, *, person_id: str = "", donor: tuple[str, str] | None = None, author: str = ""
) -> Withdrawal:
    """Withdraw a person, named by person id or by a donor (data set id, donor id); the name is written nowhere.

    Raises
    ------
    UsageError
        If nobody is called so, or the person has no cell in this atlas.
    ConflictError
        If others kept withdrawing at the same time.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _withdraw_once(atlas.refresh(), person_id=person_id, donor=donor, author=author)
        except ConflictError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _withdraw_once(atlas: Atlas, *, person_id: str, donor: tuple[str, str] | None, author: str) -> Withdrawal:
    layout, persons = atlas.layout, atlas.persons()
    who = donors_of(persons, person_id=person_id, donor=donor)
    with held_lease(layout.leases, "write"):
        key = pseudonyms(layout, create=True)
        words = ("person", who.person_id) if who.person_id else ("donor", *who.donors[0])
        name = pseudonym_of(key, *words)
        facts = [(name, "donor", "", pseudonym_of(key, "donor", *pair), 0) for pair in who.donors]
        if who.person_id:
            facts.append((name, "person", "", pseudonym_of(key, "person", who.person_id), 0))
        found = looked_through(
            layout,
            read_withdrawals(layout, atlas.state).with_facts(facts),
            entries=_scope(atlas),
            persons=persons,
        )
        if not any(len(found.rows(digest, name)) for digest in found.entries()):
            msg = "the donor has no cell in this atlas: look for the data set id and the donor id in `donor_id`."
            raise UsageError(msg)
        is_theirs = pd.Series(list(zip(persons["dataset_id"], persons["donor_id"], strict=True)), dtype=object)
        left = persons[~is_theirs.isin(who.donors).to_numpy(dtype=bool)]
        overlays = {WITHDRAWALS: found.write(layout)}
        if len(left) < len(persons):
            overlays["persons"] = write_persons(left, layout.overlay("persons"))
        revision = atlas.publish_change(Change(overlays=overlays), author=author, message=f"withdraw {name}")
    return _told(atlas, found, name, revision=revision.number)


def _scope(atlas: Atlas) -> list[DatasetEntry]:
    """Return every data set that is in force now or in a revision or snapshot that is kept, and was not purged."""
    layout, revisions = atlas.layout, read_revisions(atlas.layout.revisions)
    digests = {digest for revision in revisions for digest in revision.datasets.values()}
    for snapshot_id in snapshots_of(layout, revisions):
        digests |= set(entries_of_snapshot(layout, snapshot_id).values())
    there = [digest for digest in sorted(digests) if layout.document(layout.datasets, digest).is_file()]
    return [read_entry(layout, digest) for digest in there]


def _told(atlas: Atlas, facts: Withdrawals, name: str, *, revision: int) -> Withdrawal:
    layout = atlas.layout
    holding = {digest for digest in facts.entries() if len(facts.rows(digest, name))}
    snapshots = tuple(
        snapshot_id
        for snapshot_id in snapshots_of(layout, read_revisions(layout.revisions))
        if holding & set(entries_of_snapshot(layout, snapshot_id).values())
    )
    n_cells = {dataset_id: len(facts.rows(atlas.entry(dataset_id).digest, name)) for dataset_id in atlas.dataset_ids}
    return Withdrawal(
        withdrawal=name,
        revision=revision,
        n_cells={dataset_id: n for dataset_id, n in n_cells.items() if n},
        snapshots=snapshots,
        artifacts=artifacts_of(layout, set(snapshots)),
        runs=_runs_of(layout, holding, snapshots),
    )


def _runs_of(layout: Layout, holding: Collection[str], snapshots: Collection[str]) -> tuple[LedgerRun, ...]:
    """Return the runs that rest on a person's cells: on a data set that holds them, a snapshot of it, or a result of either."""
    there = [digest for digest in sorted(holding) if layout.document(layout.datasets, digest).is_file()]
    datasets = {digest_of(read_entry(layout, digest).logical()) for digest in there}
    # What ingest made is the data set itself; what made it does not descend from it.
    return descendants(read_runs(layout), {*snapshots, *datasets})
