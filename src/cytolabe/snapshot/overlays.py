"""Interpretations as tables: label mappings and persons, each whole, revisable, and joined only on reading.

Mappings join on (dataset_id, contributor_label), persons on (dataset_id, donor_id). Only the decisions `auto` and
`reviewed` set a term: everything else leaves the cell `unknown`, with the decision beside it.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cytolabe.errors import UnresolvedLabelError, UsageError
from cytolabe.files import Place
from cytolabe.records import UNKNOWN, LabelMapping, MemoryRow, Predicate
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.manifest import Revision
from cytolabe.store.tables import TableEntry, read_table, write_table

__all__ = [
    "DECIDING",
    "MEMORY",
    "ORTHOLOGS",
    "PERSON_COLUMNS",
    "decided_terms",
    "join_overlays",
    "ontology_release_of",
    "persons_of",
    "read_mappings",
    "read_memory",
    "write_mappings",
    "write_memory",
    "write_persons",
]

DECIDING = ("auto", "reviewed")
"""Decisions of a mapping that give its cells a term."""

MEMORY = "memory"
"""Overlay of what curators elsewhere said. It helps to make mappings, so it is no part of what a snapshot means."""

ORTHOLOGS = "orthologs"
"""Overlay of what a user's table says of genes of another organism. No gene of a snapshot follows from it."""

DECISIONS = (*DECIDING, "review", "abstained", "reserved")
PERSON_COLUMNS = ("dataset_id", "donor_id", "person_id", "person_state", "evidence")
PERSON_STATES = ("resolved", "unknown", "pooled")


def write_mappings(mappings: Sequence[LabelMapping], directory: Place) -> TableEntry:
    """Write label mappings in canonical order.

    Raises
    ------
    UnresolvedLabelError
        If a label is mapped twice, a decision is unknown, or a deciding mapping has no term.
    UsageError
        If the mappings speak of several ontology releases.
    """
    ordered = sorted(mappings, key=lambda mapping: (mapping.dataset_id, mapping.contributor_label))
    keys = [(mapping.dataset_id, mapping.contributor_label) for mapping in ordered]
    doubled = sorted({key for key, after in itertools.pairwise(keys) if key == after})
    if doubled:
        msg = (
            f"{len(doubled)} label(s) have two mappings, first {doubled[0][1]!r} of {doubled[0][0]}. Keep one of them."
        )
        raise UnresolvedLabelError(msg)
    for mapping in ordered:
        _check_mapping(mapping)
    ontology_release_of(ordered)
    columns = [field.name for field in dataclasses.fields(LabelMapping)]
    rows = {column: [getattr(mapping, column) for mapping in ordered] for column in columns}
    frame = pd.DataFrame({**rows, "predicate": [mapping.predicate.value for mapping in ordered]}, columns=columns)
    return write_table(_typed(frame, integers=("confidence", "n_cells")), directory)


def read_mappings(directory: Place, entry: TableEntry) -> tuple[LabelMapping, ...]:
    """Read label mappings in canonical order."""
    rows = read_table(directory, entry).to_dict("records")
    return tuple(
        LabelMapping(**{**{str(key): value for key, value in row.items()}, "predicate": Predicate(row["predicate"])})
        for row in rows
    )


def write_persons(persons: pd.DataFrame, directory: Place) -> TableEntry:
    """Write resolved persons in canonical order.

    Raises
    ------
    UsageError
        If columns are missing, a donor has two persons, or a state is unknown.
    """
    missing = [column for column in PERSON_COLUMNS if column not in persons]
    if missing:
        msg = f"persons: the column(s) {', '.join(missing)} are missing; {', '.join(PERSON_COLUMNS)} are needed."
        raise UsageError(msg)
    frame = persons[list(PERSON_COLUMNS)].sort_values(["dataset_id", "donor_id"], kind="stable")
    doubled = frame[frame.duplicated(["dataset_id", "donor_id"])]
    if len(doubled):
        first = doubled.iloc[0]
        msg = f"persons: {len(doubled)} donor(s) have two rows, first {first['donor_id']} of {first['dataset_id']}."
        raise UsageError(msg)
    unknown = sorted(set(frame["person_state"]) - set(PERSON_STATES))
    if unknown:
        msg = f"persons: person_state {unknown[0]!r} is none of {', '.join(PERSON_STATES)}."
        raise UsageError(msg)
    is_keyless = (frame["person_state"] == "resolved") & frame["person_id"].isin(["", UNKNOWN])
    if is_keyless.any():
        msg = f"persons: {int(is_keyless.sum())} donor(s) are resolved to nobody; give them a person_id."
        raise UsageError(msg)
    return write_table(_typed(frame), directory)


def persons_of(layout: Layout, revision: Revision) -> pd.DataFrame:
    """Return the persons that a revision puts in force, by data set and donor."""
    if "persons" not in revision.overlays:
        return pd.DataFrame({column: pd.Series([], dtype=object) for column in PERSON_COLUMNS})
    return read_table(layout.overlay("persons"), revision.overlays["persons"])


def write_memory(rows: Sequence[MemoryRow], directory: Place) -> TableEntry:
    """Write what curators elsewhere said, each statement once, in canonical order."""
    columns = [field.name for field in dataclasses.fields(MemoryRow)]
    values = sorted({tuple(str(getattr(row, column)) for column in columns) for row in rows})
    return write_table(_typed(pd.DataFrame(values, columns=columns)), directory)


def read_memory(directory: Place, entry: TableEntry) -> tuple[MemoryRow, ...]:
    """Read what curators elsewhere said, in canonical order."""
    rows = read_table(directory, entry).to_dict("records")
    return tuple(
        MemoryRow(**{**{str(key): value for key, value in row.items()}, "predicate": Predicate(row["predicate"])})
        for row in rows
    )


def join_overlays(facts: pd.DataFrame, *, persons: pd.DataFrame, mappings: Sequence[LabelMapping]) -> pd.DataFrame:
    """Return the cells of a snapshot: facts with persons and terms, in `CELL_COLUMNS`, in the order given."""
    cells = facts.reset_index(drop=True)
    cells = cells.merge(persons.drop(columns="evidence"), how="left", on=["dataset_id", "donor_id"])
    for column in ("person_id", "person_state"):
        cells[column] = cells[column].astype(object).fillna(UNKNOWN)
    cells = cells.merge(decided_terms(mappings), how="left", on=["dataset_id", "contributor_label"])
    for column, missing in _MAPPED.items():
        cells[column] = cells[column].astype(object).where(cells[column].notna(), missing)
    cells["mapping_confidence"] = cells["mapping_confidence"].astype(np.int64)
    return cells[list(CELL_COLUMNS)]


def decided_terms(mappings: Sequence[LabelMapping]) -> pd.DataFrame:
    """Return what the mappings give to the cells of each label: one row per (dataset_id, contributor_label)."""
    return pd.DataFrame(
        [_as_columns(mapping) for mapping in mappings if mapping.contributor_label],
        columns=["dataset_id", "contributor_label", *_MAPPED],
    ).astype({"dataset_id": object, "contributor_label": object})


def ontology_release_of(mappings: Sequence[LabelMapping]) -> str:
    """Return the one release that the mappings speak of, or `unknown` where there are none."""
    releases = sorted({mapping.ontology_release for mapping in mappings})
    if len(releases) > 1:
        msg = f"mappings speak of {len(releases)} ontology releases: {', '.join(releases)}. Reconcile all labels with one."
        raise UsageError(msg)
    return releases[0] if releases else UNKNOWN


_MAPPED = {
    "cell_type_ontology_term_id": UNKNOWN,
    "cell_type": UNKNOWN,
    "mapping_decision": "",
    "mapping_confidence": 0,
}
"""Columns that a mapping fills, and what stands there without one."""


def _as_columns(mapping: LabelMapping) -> tuple[str, str, str, str, str, int]:
    is_decided = mapping.decision in DECIDING and bool(mapping.term)
    term, name = (mapping.term, mapping.term_name) if is_decided else (UNKNOWN, UNKNOWN)
    return mapping.dataset_id, mapping.contributor_label, term, name, mapping.decision, mapping.confidence


def _check_mapping(mapping: LabelMapping) -> None:
    where = f"{mapping.contributor_label!r} of {mapping.dataset_id}"
    if mapping.decision not in DECISIONS:
        msg = f"{where}: decision {mapping.decision!r} is none of {', '.join(DECISIONS)}."
        raise UnresolvedLabelError(msg)
    if not 0 <= mapping.confidence <= 1000:
        msg = f"{where}: confidence {mapping.confidence} is outside of 0..1000 (thousandths)."
        raise UnresolvedLabelError(msg)
    if mapping.decision == "auto" and not mapping.term:
        msg = f"{where}: decided automatically, but has no term. Give it one, or the decision 'abstained'."
        raise UnresolvedLabelError(msg)


def _typed(frame: pd.DataFrame, *, integers: Sequence[str] = ()) -> pd.DataFrame:
    """Fix the types, which an empty table would otherwise leave open."""
    return frame.astype({column: np.int64 if column in integers else object for column in frame.columns})
