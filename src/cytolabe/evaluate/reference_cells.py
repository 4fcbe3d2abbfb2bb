"""The cells of an atlas that an annotation learns from and is held to, and the groups of them that are held out.

In this order: of real and simulated cells the real ones; cells whose label has a live term; of copies one (R4); a label that expression decided teaches and is
never truth (R6b). Held out are whole persons. A data set whose persons are not known is divided by library where its
libraries are not nested with the label (a library per sort gate would hold out a type, not a person), else it is one unit. Units
that share a person or a cell are one. Random cells are never held out: neighbors of one droplet run would vouch for each other.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cytolabe.audit.evidence import decided_by_expression
from cytolabe.errors import RefusedError, UsageError
from cytolabe.evaluate.batches import merged_batches
from cytolabe.evaluate.labels import counted_labels
from cytolabe.evaluate.verdicts import simulated_datasets
from cytolabe.ontology.graph import Ontology
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.view import SnapshotView

__all__ = ["HELD_OUT", "MAX_FOLDS", "ReferenceCells", "reference_cells"]

HELD_OUT = ("person", "dataset")
"""What may be held out."""

MAX_FOLDS = 5

_WORDS = {"library": ("library", "libraries"), "dataset": ("data set", "data sets")}

_CIRCULAR = ("automated", "transferred")
"""Origins of labels that a program gave: held to them, another program is held to a guess (rule R7)."""


_ALL_SIMULATED = (
    "all cells that are learned from are simulated: what they teach was never measured, and says nothing of real cells"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceCells:
    """Labelled cells in the order of the snapshot: position, term, unit and fold of each.

    `is_truth` says which may judge; `kinds` counts units by what they are (person, library, dataset); `left_out` counts cells by reason.
    """

    rows: np.ndarray
    terms: np.ndarray
    units: np.ndarray
    folds: np.ndarray
    is_truth: np.ndarray
    kinds: Mapping[str, int]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def n_folds(self) -> int:
        """Number of folds, 2 or more."""
        return int(self.folds.max()) + 1

    @property
    def n_units(self) -> int:
        """Number of units that are held out whole."""
        return len(set(self.units.tolist()))


def reference_cells(
    snapshot: SnapshotView, *, rows: np.ndarray, pairs: pd.DataFrame, ontology: Ontology, held_out: str = "person"
) -> ReferenceCells:
    """Choose the labelled cells among `rows`, and divide them into folds of whole units.

    Parameters
    ----------
    rows
        Positions in `snapshot.cells` that may be used.
    pairs
        Copies: columns a_row and b_row.
    held_out
        `person`, with libraries and data sets where persons are not known; or `dataset`.

    Raises
    ------
    UsageError
        If `held_out` is another word.
    RefusedError
        If no cell has a label with a term, or all are of one unit: then nothing can be held out.
    """
    if held_out not in HELD_OUT:
        msg = f"--hold-out {held_out}: held out are whole persons or data sets. Say one of {', '.join(HELD_OUT)}."
        raise UsageError(msg)
    cells = snapshot.cells
    is_simulated = _are_simulated(snapshot, rows)
    n_simulated = int(is_simulated.sum())
    if n_simulated < len(rows):
        # Simulated cells carry the real ones that their profiles were read from: neither may judge the other.
        rows = rows[~is_simulated]
    own = cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    live = {str(term) for term in set(own[rows]) if str(term) in ontology}
    counts = counted_labels(cells, pairs, rows)
    is_labelled = (cells["contributor_label"] != "").to_numpy(dtype=bool)
    has_term = np.array([term in live for term in own], dtype=bool)
    termed = np.sort(rows[is_labelled[rows] & has_term[rows]])
    left_out = {
        "unlabelled": int((~is_labelled[rows]).sum()),
        "label without a term": int((is_labelled[rows] & ~has_term[rows]).sum()),
        "label counted in its copy": int((is_labelled[rows] & has_term[rows] & ~counts[rows]).sum()),
        "simulated, beside real cells": n_simulated if n_simulated < len(is_simulated) else 0,
    }
    if not len(termed):
        msg = (
            f"None of {len(rows):,} atlas cells has a label with a term: there is nothing to learn from. Reconcile the atlas "
            "(cytolabe reconcile), freeze it again, and annotate from that snapshot."
        )
        raise RefusedError(msg)
    units, kinds = _units(cells, termed, own, held_out=held_out)
    # A copy that does not count still says that two units are one.
    units = _joined(cells, units, termed, pairs=pairs)[counts[termed]]
    kept = termed[counts[termed]]
    if len(set(units.tolist())) < 2:
        what = next(iter(kinds))
        msg = (
            f"All {len(kept):,} labelled cells are of one {what} ({units[0]}). Confidence can only be calibrated on others than those "
            "that a model learned from, and random cells of one unit are not others. Ingest cells of another person or data set."
        )
        raise RefusedError(msg)
    is_truth = ~decided_by_expression(cells, snapshot.mappings)[kept]
    return ReferenceCells(
        rows=kept,
        terms=own[kept],
        units=units,
        folds=_folds(units, own[kept]),
        is_truth=is_truth,
        kinds=kinds,
        left_out={reason: n for reason, n in left_out.items() if n},
        notes=(
            *((_ALL_SIMULATED,) if n_simulated == len(is_simulated) else ()),
            *_notes(cells, kept, kinds=kinds, n_expression=int((~is_truth).sum())),
        ),
    )


def _units(
    cells: pd.DataFrame, rows: np.ndarray, terms: np.ndarray, *, held_out: str
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the unit of each row, and how many units there are of each kind, the most first."""
    part = cells.iloc[rows]
    datasets = part["dataset_id"].to_numpy(dtype=object)
    is_person = ((part["person_state"] == "resolved") & (part["person_id"] != UNKNOWN)).to_numpy(dtype=bool)
    labels = np.full(len(cells), "", dtype=object)
    labels[rows] = terms[rows]
    nested = merged_batches(cells, [labels])
    units, kind_of = np.empty(len(rows), dtype=object), dict[str, str]()
    for name in sorted(set(datasets)):
        own = datasets == name
        batches = part["batch"].to_numpy(dtype=object)[own]
        if held_out == "person" and is_person[own].all():
            kind, named = "person", part["person_id"].to_numpy(dtype=object)[own]
        elif held_out == "person" and len(set(batches)) > 1 and name not in nested:
            kind, named = "library", np.array([f"{name}:{batch}" for batch in batches], dtype=object)
        else:
            kind, named = "dataset", np.full(int(own.sum()), name, dtype=object)
        units[own] = named
        kind_of |= dict.fromkeys(named.tolist(), kind)
    return units, dict(Counter(kind_of.values()).most_common())


def _joined(cells: pd.DataFrame, units: np.ndarray, rows: np.ndarray, *, pairs: pd.DataFrame) -> np.ndarray:
    """Make units that share a person, or hold copies of each other's cells, one unit, named by the first of them."""
    place = {int(row): number for number, row in enumerate(rows)}
    names, codes = np.unique(units.astype(str), return_inverse=True)
    shared = [
        (codes[place[int(a)]], codes[place[int(b)]])
        for a, b in zip(pairs["a_row"], pairs["b_row"], strict=True)
        if int(a) in place and int(b) in place
    ]
    part = cells.iloc[rows]
    persons = part["person_id"].where(part["person_state"] == "resolved", UNKNOWN).to_numpy(dtype=object)
    table = pd.DataFrame({"person": persons, "unit": codes}).drop_duplicates()
    for person, own in table.groupby("person", sort=True)["unit"]:
        if person != UNKNOWN:
            shared += [(own.iloc[0], other) for other in own.iloc[1:]]
    if not shared:
        return np.asarray(names[codes], dtype=object)
    first, second = np.array(shared, dtype=np.int64).T
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    group = connected_components(graph, directed=False)[1]
    of_group = {number: str(names[group == number][0]) for number in range(group.max() + 1)}
    return np.array([of_group[int(group[code])] for code in codes], dtype=object)


def _folds(units: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Return the fold of each cell: units one by one, the largest first, where their types are least represented yet."""
    names, unit_codes = np.unique(units.astype(str), return_inverse=True)
    kinds, kind_codes = np.unique(terms.astype(str), return_inverse=True)
    table = np.zeros((len(names), len(kinds)))
    np.add.at(table, (unit_codes, kind_codes), 1.0)
    share = table / table.sum(axis=0)
    n_folds = min(MAX_FOLDS, len(names))
    filled = np.zeros((n_folds, len(kinds)))
    fold_of = np.zeros(len(names), dtype=np.int64)
    order = sorted(range(len(names)), key=lambda unit: (-table[unit].sum(), names[unit]))
    for number, unit in enumerate(order):
        # The first units open a fold each: none may stay empty.
        fold = number if number < n_folds else int(np.lexsort((filled.sum(axis=1), filled @ share[unit]))[0])
        fold_of[unit] = fold
        filled[fold] += share[unit]
    return np.asarray(fold_of[unit_codes])


def _are_simulated(snapshot: SnapshotView, rows: np.ndarray) -> Bool[np.ndarray, " rows"]:
    names = simulated_datasets(snapshot)
    return np.isin(snapshot.cells["dataset_id"].to_numpy(dtype=object)[rows].astype(str), sorted(names))


def _notes(cells: pd.DataFrame, rows: np.ndarray, *, kinds: Mapping[str, int], n_expression: int) -> tuple[str, ...]:
    notes = []
    others = [kind for kind in kinds if kind != "person"]
    if others:
        told = " and ".join(f"{kinds[kind]} {_WORDS[kind][kinds[kind] > 1]}" for kind in others)
        notes.append(f"held out as a whole: {told}; where persons are not known, one may be on both sides")
    origins = cells["label_origin"].to_numpy(dtype=object)[rows]
    n_circular = int(np.isin(origins, _CIRCULAR).sum())
    if n_circular:
        notes.append(
            f"{n_circular} of {len(rows)} labels were given by a program: agreement with them is not truth (R7)"
        )
    if n_expression:
        notes.append(f"{n_expression} labels were decided by expression: they teach and judge nothing (R6b)")
    return tuple(notes)
