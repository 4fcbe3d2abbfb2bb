"""May a fold be scored at all? Decided from the cells alone, before any model runs (rule R11).

Checked in this order, hardest first: an empty side, unknown persons under a split between persons, no labelled cell,
and then what only qualifies: unknown persons, persons on both sides, unknown values of what was asked for. What holds
of the cells is read once (`facts_of`), of a table of cells or of strata; each fold only picks rows of it.

A reason names its examples once, in brackets at its end; `brief` is the same without them, for the scores of the fold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer, Shaped

from cytolabe.records import UNKNOWN, Finding, ScoreStatus, Severity
from cytolabe.snapshot.strata import N_CELLS
from cytolabe.split.keys import CONTRIBUTED, is_labelled, is_person_resolved, is_person_split, study_keys

__all__ = ["CellFacts", "FoldFacts", "brief", "facts_of", "fold_status", "persons_unknown", "split_findings"]

_NAMED_VALUES = frozenset({"assay", "suspension_type", "tissue", "disease", "site", "time", "perturbation"})
_EXAMPLES = 5
_PERSONS_UNKNOWN = "persons unknown"
_NO_ENDINGS = str.maketrans("();", "[],")


@dataclass(frozen=True, kw_only=True)
class CellFacts:
    """What the status of a fold follows from, one entry per row of the table; `n_cells` says for how many cells.

    `persons` and `studies` are numbers; a person number is only meaningful where `resolved`. `n_unknown` counts the
    cells without a value for each plain column of `by`.
    """

    by: tuple[str, ...]
    n_cells: Integer[np.ndarray, " cells"]
    labelled: Bool[np.ndarray, " cells"]
    resolved: Bool[np.ndarray, " cells"]
    persons: Integer[np.ndarray, " cells"]
    person_names: Shaped[np.ndarray, " persons"]
    studies: Integer[np.ndarray, " cells"]
    datasets: Shaped[np.ndarray, " cells"]
    n_unknown: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class FoldFacts:
    """What is said of one fold, without its rows."""

    split_id: str
    held_out: str
    groups_train: tuple[str, ...]
    groups_test: tuple[str, ...]
    n_train: int
    n_test: int
    status: str
    reason: str


def facts_of(cells: pd.DataFrame, *, by: Sequence[str]) -> CellFacts:
    """Read what the status of every fold of a split by `by` follows from."""
    person_names, persons = np.unique(cells["person_id"].to_numpy(dtype=object).astype(str), return_inverse=True)
    n_cells = cells[N_CELLS].to_numpy(dtype=np.int64) if N_CELLS in cells else np.ones(len(cells), dtype=np.int64)
    return CellFacts(
        by=tuple(by),
        n_cells=n_cells,
        labelled=is_labelled(cells),
        resolved=is_person_resolved(cells),
        persons=persons,
        person_names=person_names,
        studies=np.unique(study_keys(cells).astype(str), return_inverse=True)[1],
        datasets=cells["dataset_id"].to_numpy(dtype=object),
        n_unknown={
            name: int(n_cells[cells[name].isin(["", UNKNOWN])].sum())
            for name in by
            if name in _NAMED_VALUES or name.startswith(CONTRIBUTED)
        },
    )


def fold_status(
    facts: CellFacts, *, train_rows: Integer[np.ndarray, " train"], test_rows: Integer[np.ndarray, " test"]
) -> tuple[ScoreStatus, str]:
    """Return whether a fold may be scored, and why not or with which reservation."""
    refusal = _refusal(facts, train_rows, test_rows)
    if refusal:
        return ScoreStatus.REFUSED, refusal
    reservations = _reservations(facts, train_rows, test_rows)
    if reservations:
        return ScoreStatus.QUALIFIED, "; ".join(reservations)
    return ScoreStatus.SCORED, ""


def split_findings(facts: CellFacts, folds: Sequence[FoldFacts]) -> tuple[Finding, ...]:
    """Collect what a reader of the split must know, over all of its folds."""
    found = []
    if not facts.resolved.all():
        n_refused = sum(_is_refused_for_persons(fold) for fold in folds)
        found.append(_persons_refused(facts, n_refused) if n_refused else _persons_qualified(facts))
    for fold in folds:
        if not fold.groups_train:
            found.append(_nothing_left(fold, int(facts.n_cells.sum())))
        elif fold.status == ScoreStatus.REFUSED and not _is_refused_for_persons(fold):
            found.append(_refused_fold(fold))
    return tuple(found)


def _refusal(facts: CellFacts, train_rows: np.ndarray, test_rows: np.ndarray) -> str:
    if not len(train_rows) or not len(test_rows):
        return f"the {'training' if not len(train_rows) else 'test'} side has no cell"
    if is_person_split(facts.by):
        # Somebody unknown in the study of a test cell may be the person of that cell.
        touched = np.isin(facts.studies, np.unique(facts.studies[test_rows])) & ~facts.resolved
        if touched.any():
            where = _examples(facts.datasets[touched])
            return f"{_PERSONS_UNKNOWN}: {int(facts.n_cells[touched].sum())} cells may be any person of the test side ({where})"
    for side, rows in (("test", test_rows), ("training", train_rows)):
        if not facts.labelled[rows].any():
            return f"the {side} side has no labelled cell"
    return ""


def _reservations(facts: CellFacts, train_rows: np.ndarray, test_rows: np.ndarray) -> list[str]:
    found = []
    rows = np.concatenate([train_rows, test_rows])
    found += persons_unknown(facts.datasets[rows[~facts.resolved[rows]]])
    train_persons = facts.persons[train_rows][facts.resolved[train_rows]]
    test_persons = facts.persons[test_rows][facts.resolved[test_rows]]
    shared = np.intersect1d(train_persons, test_persons)
    if shared.size:
        found.append(f"{shared.size} person(s) on both sides ({_examples(facts.person_names[shared])})")
    found += [f"{name} unknown for {n_unknown} cells" for name, n_unknown in facts.n_unknown.items() if n_unknown]
    return found


def persons_unknown(datasets: Shaped[np.ndarray, " cells"]) -> list[str]:
    """Return the reservation about cells of unknown persons, given their data sets; nothing where there are none."""
    n_datasets = len(set(datasets.tolist()))
    noun = "data set" if n_datasets == 1 else "data sets"
    return [f"{_PERSONS_UNKNOWN} in {n_datasets} {noun} ({_examples(datasets)})"] if n_datasets else []


def brief(reason: str) -> str:
    """Return the reason of a fold without its examples: what stands in every score of the fold."""
    return "; ".join(part.partition(" (")[0] for part in reason.split("; "))


def _examples(values: np.ndarray) -> str:
    """Name up to five values, without the signs that end an example or a reason."""
    names = sorted(set(values.tolist()))
    shown = ", ".join(str(name).translate(_NO_ENDINGS) for name in names[:_EXAMPLES])
    return f"{shown} and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else shown


def _is_refused_for_persons(fold: FoldFacts) -> bool:
    return fold.status == ScoreStatus.REFUSED and fold.reason.startswith(_PERSONS_UNKNOWN)


def _persons_refused(facts: CellFacts, n_refused: int) -> Finding:
    n_unresolved = int(facts.n_cells[~facts.resolved].sum())
    return Finding(
        code="E-SPLIT-01",
        severity=Severity.ERROR,
        where="+".join(facts.by),
        message=f"{n_unresolved} cells have no known person, so {n_refused} fold(s) between persons are refused: "
        "the same person could be on both sides, and a score would measure memory of that person",
        remedy="name the donor column in the manifest (donor = '...'), or split by component or dataset",
        rule="R11",
        n_affected=n_unresolved,
        n_total=int(facts.n_cells.sum()),
        examples=tuple(sorted(set(facts.datasets[~facts.resolved].tolist()))[:_EXAMPLES]),
    )


def _persons_qualified(facts: CellFacts) -> Finding:
    n_unresolved = int(facts.n_cells[~facts.resolved].sum())
    return Finding(
        code="W-SPLIT-01",
        severity=Severity.WARNING,
        where="+".join(facts.by),
        message=f"{n_unresolved} cells have no known person, so every fold is at best qualified: nobody can say that "
        "no person of theirs is on both sides",
        remedy="name the donor column in the manifest (donor = '...'), or link data sets that may share donors",
        rule="R11",
        n_affected=n_unresolved,
        n_total=int(facts.n_cells.sum()),
        examples=tuple(sorted(set(facts.datasets[~facts.resolved].tolist()))[:_EXAMPLES]),
    )


def _nothing_left(fold: FoldFacts, n_cells: int) -> Finding:
    return Finding(
        code="E-SPLIT-02",
        severity=Severity.ERROR,
        where=fold.split_id,
        message=f"all cells belong to one group by {fold.held_out}: held out, it leaves nothing to train on",
        remedy="add an independent data set, or ask for a finer split (for example by person)",
        rule="R11",
        n_affected=fold.n_test,
        n_total=n_cells,
        examples=fold.groups_test[:_EXAMPLES],
    )


def _refused_fold(fold: FoldFacts) -> Finding:
    return Finding(
        code="W-SPLIT-02",
        severity=Severity.WARNING,
        where=fold.split_id,
        message=f"the fold is refused: {fold.reason}",
        remedy="contribute labels for it; without them its cells serve only unsupervised training in other folds",
        rule="R11",
        n_affected=fold.n_test,
        n_total=fold.n_test + fold.n_train,
        examples=fold.groups_test[:_EXAMPLES],
    )
