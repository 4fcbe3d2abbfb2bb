"""Purging: the counts and words of persons who withdrew are removed for good.

Data sets in force are written anew without the rows (`write_dataset`), the result is published, and then every object
that held a row of theirs goes: partitions, tables of cells, entries, tables of persons with their names, also those
that only older revisions and snapshots reach. A stub stands for each removed object, written before the object goes:
`verify` reports it as purged and not as missing, and `recover` finishes what was interrupted. Snapshots over
such objects cannot be opened any more, by anybody.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.files import Place, create_new, remove, remove_directory
from cytolabe.records import Block, Finding
from cytolabe.snapshot.alignments import alignment_of_entry
from cytolabe.snapshot.artifacts import ArtifactRecord, artifacts_of
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.build import DatasetContent, write_dataset
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.overlays import PERSON_COLUMNS, write_persons
from cytolabe.snapshot.reach import content_of, entries_of_snapshot, entry_objects, snapshots_of, stub_path
from cytolabe.snapshot.withdrawals import WITHDRAWALS, Withdrawals, own_rows, pseudonyms, read_withdrawals
from cytolabe.store.documents import documents_in, read_sealed, sealed_bytes
from cytolabe.store.leases import held_lease
from cytolabe.store.manifest import Change, head_revision, read_revisions
from cytolabe.store.partitions import Partition, partition_path
from cytolabe.store.tables import TableEntry, read_table, write_table

__all__ = ["Purge", "finish_purge", "purge_withdrawn", "purged_objects"]

KIND = "cytolabe/purged/1"
_MADE_ANEW = {"alignment", "sketches"}
_NOBODY = pd.DataFrame({name: [] for name in PERSON_COLUMNS}, dtype=object)
"""No person: who is purged is known by donor, also where nobody is resolved to them any more."""


@dataclass(frozen=True, kw_only=True)
class Purge:
    """What was removed, and what was made of it: snapshots that cannot be opened any more, and their artifacts."""

    revision: int
    withdrawals: tuple[str, ...]
    datasets: tuple[str, ...]
    n_cells: int
    objects: tuple[str, ...]
    snapshots: tuple[str, ...]
    artifacts: tuple[ArtifactRecord, ...]


def purge_withdrawn(atlas: Atlas, *, author: str = "") -> Purge:
    """Remove the cells of everybody who withdrew from an atlas, for good.

    Raises
    ------
    UsageError
        If nobody withdrew.
    ConflictError
        If a data set concerned was changed at the same time; nothing is removed then.
    """
    atlas.refresh()
    layout = atlas.layout
    with held_lease(layout.leases, "write"):
        facts = atlas.look_through()
        if not facts.ids:
            msg = "nobody withdrew from this atlas. `cytolabe snapshot withdraw ATLAS --person ID` comes first."
            raise UsageError(msg)
        held = [read_entry(layout, d) for d in facts.entries() if layout.document(layout.datasets, d).is_file()]
        in_force = [entry for entry in held if atlas.state.datasets.get(entry.dataset_id) == entry.digest]
        n_cells = sum(len(facts.rows(entry.digest)) for entry in in_force)
        names = _names_of(layout, held, persons=atlas.persons(), facts=facts)
        # Of a data set that was theirs alone nothing is left.
        left = [entry for entry in in_force if len(facts.rows(entry.digest)) < entry.n_cells]
        emptied = tuple(sorted({entry.dataset_id for entry in in_force} - {entry.dataset_id for entry in left}))
        rewritten = [
            write_dataset(layout.root, content=_without(layout, entry, facts=facts, names=names)) for entry in left
        ]
        snapshots = _snapshots_over(layout, {entry.digest for entry in held})
        overlays = {WITHDRAWALS: _purged_facts(facts, held, rewritten).write(layout)}
        if "persons" in atlas.state.overlays:
            overlays["persons"] = write_persons(_unnamed(atlas.persons(), names), layout.overlay("persons"))
        new = {entry.dataset_id: entry.digest for entry in rewritten}
        change = Change(datasets=new, removed=emptied, overlays=overlays)
        revision = atlas.publish_change(change, author=author, message=f"purge {', '.join(facts.ids)}")
        # From here on the log says what has to go: `recover` goes on where this is interrupted.
        removed = finish_purge(layout)
    return Purge(
        revision=revision.number,
        withdrawals=facts.ids,
        datasets=tuple(sorted(entry.dataset_id for entry in in_force)),
        n_cells=n_cells,
        objects=tuple(removed),
        snapshots=snapshots,
        artifacts=artifacts_of(layout, set(snapshots)),
    )


def purged_objects(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Return the objects that were purged, as paths inside the atlas, and for whom.

    Raises
    ------
    IntegrityError
        If a stub was edited.
    """
    found = {}
    for path in documents_in(layout.purged):
        document = read_sealed(path)
        withdrawals = document["withdrawals"]
        found[str(document["object"])] = tuple(withdrawals) if isinstance(withdrawals, list) else ()
    return found


def finish_purge(layout: Layout) -> list[str]:
    """Remove what the log says was purged and is still there; return the objects, as paths inside the atlas."""
    head = head_revision(layout.revisions)
    facts = read_withdrawals(layout, head)
    there = [digest for digest in facts.purged() if layout.document(layout.datasets, digest).is_file()]
    if there:
        held = [read_entry(layout, digest) for digest in there]
        # Objects of entries in force are never removed, whatever else shares them.
        kept = {layout.overlay(name) / table.file for name, table in head.overlays.items()}
        for path in _doomed(layout, held, _names_of(layout, held, persons=_NOBODY, facts=facts), kept=kept):
            stub = {"kind": KIND, "object": layout.name_of(path), "withdrawals": list(facts.ids)}
            create_new(stub_path(layout, path), sealed_bytes(stub))
    live = _of_other_entries(layout, set(facts.purged()))
    left = [name for name in purged_objects(layout) if (layout.root / name).exists()]
    removed = [name for name in left if layout.root / name not in live]
    for derived in (layout.caches, layout.quality) if there or removed else ():
        # A training cache holds counts of cells that are gone, quality their measures; both are made again where they are
        # needed. Before the objects, because what is left of those is how an interrupted purge knows that it is not done.
        if derived.exists():
            remove_directory(derived)
    for name in removed:
        _remove(layout.root / name)
    return removed


def _purged_facts(facts: Withdrawals, held: list[DatasetEntry], rewritten: list[DatasetEntry]) -> Withdrawals:
    """Return the facts after a purge: of the old entries only that they are purged, the new ones are looked through."""
    gone = [(name, "purged", entry.dataset_id, entry.digest, 0) for entry in held for name in facts.ids]
    seen = [(name, "covered", entry.dataset_id, entry.digest, 0) for entry in rewritten for name in facts.ids]
    return facts.without_entries(entry.digest for entry in held).with_facts([*gone, *seen])


def _remove(path: Place) -> None:
    if path.is_dir():
        remove_directory(path)
    else:
        remove(path)


def _snapshots_over(layout: Layout, digests: set[str]) -> tuple[str, ...]:
    named = snapshots_of(layout, read_revisions(layout.revisions))
    return tuple(name for name in named if digests & set(entries_of_snapshot(layout, name).values()))


def _names_of(
    layout: Layout, held: list[DatasetEntry], *, persons: pd.DataFrame, facts: Withdrawals
) -> set[tuple[str, str]]:
    """Return the (data set, donor) whose cells are theirs."""
    names: set[tuple[str, str]] = set()
    key = pseudonyms(layout)
    for entry in held:
        cells = read_table(layout.tables, entry.tables["cells"], columns=["donor_id"])
        for rows in own_rows(entry, cells, persons, facts=facts, key=key).values():
            names |= {(entry.dataset_id, str(donor)) for donor in cells["donor_id"].iloc[rows].unique()}
    return names


def _unnamed(persons: pd.DataFrame, names: set[tuple[str, str]]) -> pd.DataFrame:
    pairs = zip(persons["dataset_id"], persons["donor_id"], strict=True)
    kept = np.array([pair not in names for pair in pairs], dtype=bool)
    return persons[kept].reset_index(drop=True)


def _doomed(layout: Layout, held: list[DatasetEntry], names: set[tuple[str, str]], *, kept: set[Place]) -> list[Place]:
    """Return the objects to remove: content of the old entries that no other entry shares, and tables with the names."""
    digests = {entry.digest for entry in held}
    others: set[Place] = set(kept)
    for path in layout.datasets.glob("*.json"):
        digest = f"sha256:{path.stem}"
        if digest not in digests:
            others |= entry_objects(layout, digest)
    found = {path for entry in held for path in content_of(layout, entry) if path.exists()} - others
    for revision in read_revisions(layout.revisions):
        if "persons" not in revision.overlays:
            continue
        table = revision.overlays["persons"]
        path = layout.overlay("persons") / table.file
        if path in others or not path.is_file():
            continue
        persons = read_table(layout.overlay("persons"), table)
        if len(_unnamed(persons, names)) < len(persons):
            found.add(path)
    return sorted(found, key=str)


def _of_other_entries(layout: Layout, digests: set[str]) -> set[Place]:
    """Return what the data sets outside of `digests` consist of: equal content is kept once, whoever brought it."""
    others = {f"sha256:{path.stem}" for path in documents_in(layout.datasets)} - digests
    return {path for digest in others for path in entry_objects(layout, digest)}


def _without(layout: Layout, entry: DatasetEntry, *, facts: Withdrawals, names: set[tuple[str, str]]) -> DatasetContent:
    """Return what is left of a data set, its rows counted anew."""
    kept = np.setdiff1d(np.arange(entry.n_cells, dtype=np.int64), facts.rows(entry.digest))
    tables = {name: read_table(layout.tables, t) for name, t in entry.tables.items() if name not in _MADE_ANEW}
    left = {name: _rows_of(table, kept, n_cells=entry.n_cells) for name, table in tables.items()}
    cells = left.pop("cells")
    alignment = alignment_of_entry(layout, entry)
    donors = {donor for dataset_id, donor in names if dataset_id == entry.dataset_id}
    n_nonzero = int(cells["n_genes"].sum())
    return DatasetContent(
        record=dataclasses.replace(entry.record, n_cells=len(kept), n_nonzero=n_nonzero),
        features=alignment.features,
        blocks=lambda: _blocks(layout, entry, kept),
        cells=cells,
        contributed=left.pop("contributed"),
        alignment=alignment,
        findings=tuple(_redacted(finding, donors) for finding in entry.findings),
        derived={name: _derived(layout, entry.tables[name], table) for name, table in left.items()},
    )


def _rows_of(table: pd.DataFrame, kept: np.ndarray, *, n_cells: int) -> pd.DataFrame:
    """Return the kept rows of a table of one row per cell; a table of another length is of no cell and stays."""
    if len(table) != n_cells:
        return table
    left = table.iloc[kept].reset_index(drop=True)
    return left.assign(row=np.arange(len(left), dtype=np.int64)) if "row" in left else left


def _derived(layout: Layout, before: TableEntry, table: pd.DataFrame) -> TableEntry:
    return before if len(table) == before.n_rows else write_table(table, layout.tables)


def _blocks(layout: Layout, entry: DatasetEntry, kept: np.ndarray) -> Iterator[Block]:
    """Yield the kept cells, numbered from 0."""
    first_row = start = 0
    for named in entry.partitions:
        partition = Partition(partition_path(layout.partitions, named.digest))
        for block in partition.iter_blocks(dataset_id=entry.dataset_id, first_row=first_row):
            low, high = np.searchsorted(kept, [block.start, block.start + len(block.cell_names)])
            inside = kept[low:high] - block.start
            if not len(inside):
                continue
            yield Block(
                dataset_id=entry.dataset_id,
                start=start,
                cell_names=tuple(block.cell_names[row] for row in inside),
                counts=csr_matrix(block.counts[inside]),
            )
            start += len(inside)
        first_row += partition.n_cells


def _redacted(finding: Finding, donors: set[str]) -> Finding:
    """Return a finding whose examples do not name a donor who is purged."""
    examples = tuple("(purged)" if example in donors else example for example in finding.examples)
    return finding if examples == finding.examples else dataclasses.replace(finding, examples=examples)
