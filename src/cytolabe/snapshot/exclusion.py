"""Which cells stand in no snapshot any more because a person withdrew.

Data sets are looked through once for each person: for their donors, then for copies of their cells. What is found is
kept as facts (`snapshot.withdrawals`). A data set that was not looked through yet still never shows the donor's own
rows; its copies are found before it is frozen.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cytolabe.errors import WithdrawnError
from cytolabe.snapshot.copies import GeneView, copies_of, fingerprints_of
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.overlays import persons_of
from cytolabe.snapshot.reach import entries_of_snapshot, excluded_rows, stub_of
from cytolabe.snapshot.withdrawals import Withdrawals, own_rows, pseudonyms, read_withdrawals
from cytolabe.store.manifest import Revision, head_revision
from cytolabe.store.tables import read_table

__all__ = ["looked_through", "remaining_cells", "require_no_withdrawn"]


def remaining_cells(layout: Layout, state: Revision, entry: DatasetEntry) -> pd.DataFrame:
    """Return the cells of a data set without those of persons who withdrew; copies in new data sets are found later."""
    cells = read_table(layout.tables, entry.tables["cells"])
    facts = read_withdrawals(layout, state)
    if not facts.ids:
        return cells
    gone = [facts.rows(entry.digest)]
    if not all(facts.is_covered(entry.digest, name) for name in facts.ids):
        gone += own_rows(entry, cells, persons_of(layout, state), facts=facts, key=pseudonyms(layout)).values()
    kept = np.setdiff1d(np.arange(len(cells)), np.concatenate(gone))
    return cells.iloc[kept].reset_index(drop=True)


def require_no_withdrawn(layout: Layout, snapshot_id: str, *, as_recorded: bool) -> None:
    """Refuse a snapshot that holds somebody who withdrew since, and one of which cells were purged.

    Raises
    ------
    WithdrawnError
        Always where objects were purged; else unless it is asked for `as_recorded`.
    """
    entries = entries_of_snapshot(layout, snapshot_id)
    purged = [name for name, digest in entries.items() if stub_of(layout, layout.document(layout.datasets, digest))]
    if purged:
        msg = (
            f"snapshot {snapshot_id[:19]} held cells of persons who withdrew, and these were purged from "
            f"{len(purged)} data set(s): {', '.join(sorted(purged)[:5])}. It cannot be read any more; freeze a new one."
        )
        raise WithdrawnError(msg)
    head = head_revision(layout.revisions)
    facts = read_withdrawals(layout, head)
    if as_recorded or not facts.ids:
        return
    excluded = excluded_rows(layout, snapshot_id)
    n_held = 0
    for name, digest in entries.items():
        gone = facts.rows(digest)
        if not all(facts.is_covered(digest, who) for who in facts.ids):
            gone = np.union1d(gone, _by_donor(layout, read_entry(layout, digest), facts))
        n_held += len(np.setdiff1d(gone, excluded.get(name, np.zeros(0, dtype=np.int64))))
    if n_held:
        msg = (
            f"snapshot {snapshot_id[:19]} holds {n_held} cell(s) of persons who withdrew since. Freeze a new one with "
            "`cytolabe snapshot ATLAS`; to reproduce a number as it was, open this one --as-recorded."
        )
        raise WithdrawnError(msg)


def _by_donor(layout: Layout, entry: DatasetEntry, facts: Withdrawals) -> np.ndarray:
    cells = read_table(layout.tables, entry.tables["cells"], columns=["donor_id"])
    nobody = pd.DataFrame({name: [] for name in ("dataset_id", "donor_id", "person_id", "person_state")}, dtype=object)
    found = own_rows(entry, cells, nobody, facts=facts, key=pseudonyms(layout))
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found.values()]))


def looked_through(
    layout: Layout, facts: Withdrawals, *, entries: Sequence[DatasetEntry], persons: pd.DataFrame
) -> Withdrawals:
    """Return the facts with the rows of every entry that was not looked through yet."""
    new = [(entry, name) for entry in entries for name in facts.ids if not facts.is_covered(entry.digest, name)]
    if not new:
        return facts
    key = pseudonyms(layout)
    views = {entry.digest: GeneView(layout, entry) for entry in entries}
    is_new = {(entry.digest, name) for entry, name in new}
    own: dict[tuple[str, str], np.ndarray] = {}
    added: list[tuple[str, str, str, str, int]] = []
    for entry in {entry.digest: entry for entry, _ in new}.values():
        cells = read_table(layout.tables, entry.tables["cells"], columns=["donor_id"])
        for name, rows in own_rows(entry, cells, persons, facts=facts, key=key).items():
            if (entry.digest, name) not in is_new:
                continue
            own[entry.digest, name] = rows
            added += [(name, "row", entry.dataset_id, entry.digest, int(row)) for row in rows]
            view = views[entry.digest]
            prints = fingerprints_of(view, rows, view.genes)
            added += [(name, "cell", "", view.genes_digest, int(value)) for value in prints]
    known = facts.with_facts(added)
    for target in entries:
        for name in facts.ids:
            rows = _copies(target, name, known=known, views=views, own=own, is_new=(target.digest, name) in is_new)
            added += [(name, "row", target.dataset_id, target.digest, int(row)) for row in rows]
    added += [(name, "covered", entry.dataset_id, entry.digest, 0) for entry, name in new]
    return facts.with_facts(added)


def _copies(
    target: DatasetEntry,
    name: str,
    *,
    known: Withdrawals,
    views: dict[str, GeneView],
    own: dict[tuple[str, str], np.ndarray],
    is_new: bool,
) -> np.ndarray:
    """Return the rows of `target` that are copies of one person's cells in the other data sets."""
    view = views[target.digest]
    found = [np.zeros(0, dtype=np.int64)]
    for digest, source in views.items():
        rows = own.get((digest, name), np.zeros(0, dtype=np.int64))
        if is_new and not len(rows):
            # Its own cells were found before; a copy of a copy is one of them as well.
            rows = known.rows(digest, name)
        if digest == target.digest or not len(rows):
            continue
        shared = tuple(sorted(set(view.genes) & set(source.genes)))
        prints = fingerprints_of(source, rows, shared)
        among = view.candidates(source, rows, shared) if len(prints) else None
        found.append(copies_of(prints, view, shared, among=among))
    if is_new:
        # What was purged is known by its fingerprints alone, on all genes of its data set.
        found.append(copies_of(known.cells(name, view.genes_digest), view, view.genes))
    return np.unique(np.concatenate(found))
