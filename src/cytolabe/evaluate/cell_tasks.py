"""Several questions about the same cells (type, tissue, disease, ...), each judged as a study judges cell types.

A task is a label per cell, empty where nobody said; such a cell is masked in that task and stays in the others. Which cells count
follows `folds` and `labels`: test cells with a copy in training are not scored, the label of a cell that was contributed
twice counts once, and a label that expression decided is no truth.

Whether a number may be believed is asked of each task by itself: what the fold has against it (`verdicts`), then the claim. A
test side with one level refuses: an answer that never changes would be right. Cell types are judged by library
(`audit.claims`); what is constant within donors by donor; what varies within donors by the designs of `audit.confounding`
among training cells, and by library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cytolabe.audit.claims import ClaimVerdict, cell_type_claim, donor_claim
from cytolabe.audit.confounding import audit_confounding
from cytolabe.audit.leakage import FoldAudit
from cytolabe.audit.units import donor_keys, is_known
from cytolabe.evaluate.folds import COPY_IN_TRAINING, FoldData, fold_data
from cytolabe.evaluate.labels import LevelLabels, class_sets, counted_labels, rows_with_copy
from cytolabe.evaluate.measures import HEADLINE, Cells, confusion_tensor, measures_of
from cytolabe.evaluate.scoring import RowContext
from cytolabe.evaluate.verdicts import fold_verdict
from cytolabe.metrics.classification import confusion_macro_f1
from cytolabe.metrics.intervals import DonorInterval, Interval, donor_interval
from cytolabe.randomness import rng_for
from cytolabe.records import Finding, Fold, ScoreStatus
from cytolabe.snapshot.view import SnapshotView

__all__ = [
    "CELL_TYPE",
    "GENE_POLICY",
    "CellTaskLabels",
    "Gain",
    "TaskFold",
    "confounding_findings",
    "gain_over",
    "task_claim",
    "task_context",
    "task_fold",
]

CELL_TYPE = "cell_type"
GENE_POLICY = "measured"
"""Each data set is read over the genes that it measures itself: an unmeasured gene has no rank."""

_ACROSS = ("dataset_id", "assay", "suspension_type", "site")
"""Technical columns that may tell what varies within donors; a library has one tissue by construction."""


@dataclass(frozen=True, kw_only=True)
class CellTaskLabels:
    """One question: a label per cell of the snapshot, empty where missing. `column` is what findings call it."""

    name: str
    column: str
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class TaskFold:
    """The cells of a fold that count for a task. `train_rows` are the labelled training cells that are learned from."""

    task: CellTaskLabels
    data: FoldData
    train_rows: np.ndarray

    @property
    def train_labels(self) -> np.ndarray:
        """Label of each cell of the snapshot that is learned from; empty for every other one."""
        found = np.full(len(self.task.labels), "", dtype=object)
        found[self.train_rows] = self.data.train_terms[self.task.name][self.train_rows]
        return found


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Macro-F1 of one model minus that of another, on the same cells; above 0 the first says more."""

    value: float
    interval: Interval | None
    points: Mapping[str, float]
    """Of each donor, where there are too few for an interval."""


def task_fold(snapshot: SnapshotView, fold: Fold, task: CellTaskLabels, *, pairs: pd.DataFrame) -> TaskFold:
    """Work out which cells of a fold count for a task.

    Parameters
    ----------
    pairs
        Duplicates, with columns a_row and b_row.
    """
    if task.column == CELL_TYPE:
        level = LevelLabels(level=task.name, terms=task.labels, excluded=pd.DataFrame())
        data = fold_data(snapshot, fold, levels=[level], pairs=pairs)
    else:
        data = _data_of(snapshot, fold, task, pairs=pairs)
    # A cell without a label of this task may have one that counts: it is then masked here, and learned from elsewhere.
    return TaskFold(task=task, data=data, train_rows=data.labelled_rows)


def _data_of(snapshot: SnapshotView, fold: Fold, task: CellTaskLabels, *, pairs: pd.DataFrame) -> FoldData:
    cells, labels = snapshot.cells, task.labels
    # The rule for copies speaks of these two columns; here the label that is asked about stands in both.
    asked = cells.assign(contributor_label=labels, cell_type_ontology_term_id=labels)
    copies = rows_with_copy(pairs, n_cells=len(cells), test_rows=fold.test_rows, train_rows=fold.train_rows)
    test_rows = fold.test_rows[~np.isin(fold.test_rows, copies)]
    train, test = (counted_labels(asked, pairs, rows) for rows in (fold.train_rows, test_rows))
    names = cells["dataset_id"].to_numpy(dtype=object)
    repeated = test_rows[(labels[test_rows] != "") & ~test[test_rows]]
    dropped = [(fold.split_id, str(names[row]), COPY_IN_TRAINING) for row in copies]
    dropped += [(fold.split_id, str(names[row]), "label counted in its copy") for row in repeated]
    table = pd.DataFrame(dropped, columns=["split", "dataset_id", "reason"])
    return FoldData(
        fold=fold, train_rows=np.sort(fold.train_rows), labelled_rows=np.flatnonzero(train), query_rows=np.flatnonzero(test),
        train_terms={task.name: np.where(train, labels, "")}, test_terms={task.name: np.where(test, labels, "")},
        test_datasets=tuple(sorted(set(names[fold.test_rows].tolist()))), train_counts=train,
        dropped=table.groupby(["split", "dataset_id", "reason"], sort=True).size().rename("n_cells").reset_index(),
    )  # fmt: skip


def task_context(
    snapshot: SnapshotView,
    found: TaskFold,
    audit: FoldAudit,
    *,
    rule: tuple[str, bool],
    genes: tuple[int, bool],
    seed: int,
) -> tuple[RowContext, tuple[Finding, ...]]:
    """Fix the rows of a task, and what refuses or qualifies all of them, before any model answers.

    Parameters
    ----------
    rule
        The rule of the split, and whether the rows of the fold follow from it.
    genes
        Genes of the smallest data set that the model has a token for, and whether one of them is a panel.
    """
    name, data = found.task.name, found.data
    verdict = fold_verdict(snapshot, data, audit, rule=rule[0], follows_rule=rule[1])
    is_type = found.task.column == CELL_TYPE
    places, cells = _closed_by(found, *data.cells_at(snapshot, name))
    closed_rows = data.query_rows[places][cells.is_closed]
    claim = task_claim(snapshot.cells, found, test_rows=closed_rows)
    classes = class_sets(found.train_labels[found.train_rows], data.test_terms[name][data.query_rows])
    studies = sorted(set(snapshot.cells["study"].to_numpy(dtype=object)[data.query_rows].tolist()))
    # Who named the types says nothing of tissues.
    told = verdict.qualifications if is_type else [one for one in verdict.qualifications if one not in verdict.circular]
    n_missing = len(data.train_rows) - len(found.train_rows)
    return RowContext(
        study=name, split=data.fold.split_id, resolution=name, gene_policy=GENE_POLICY, n_genes=genes[0], is_panel=genes[1],
        why_none="" if len(places) and len(found.train_rows) else f"no {'test' if len(found.train_rows) else 'training'} cell has a label that counts",
        refusals=(*verdict.refusals, *((claim.reason,) if claim.status is ScoreStatus.REFUSED else ())),
        qualifications=(*told, *((claim.reason,) if claim.status is ScoreStatus.QUALIFIED else ())),
        notes=(*verdict.notes, *claim.notes, *([f"{n_missing} training cells are masked in this task"] if n_missing else [])),
        population=f"donors of {', '.join(studies)}, not labs", seed=seed, cells=cells, places=places, closed_rows=closed_rows,
        n_train_labelled=len(found.train_rows), measures=measures_of(cells, classes, data.test_datasets),
        circular=verdict.circular if is_type else {},
    ), confounding_findings(snapshot.cells, found)  # fmt: skip


def _closed_by(found: TaskFold, places: np.ndarray, cells: Cells) -> tuple[np.ndarray, Cells]:
    """Return the labelled test cells; a class that is learned from is closed, whatever else the training side has."""
    known = set(found.train_labels[found.train_rows].tolist())
    return places, replace(cells, is_closed=np.array([term in known for term in cells.truth], dtype=bool))


def task_claim(cells: pd.DataFrame, found: TaskFold, *, test_rows: np.ndarray) -> ClaimVerdict:
    """Judge the claim that a model tells the levels of a task by biology."""
    task, train_rows = found.task, found.train_rows
    levels = set(task.labels[test_rows].tolist())
    if len(levels) < 2:
        told = (
            f"one level of {task.name} ({next(iter(levels))})"
            if levels
            else f"no level of {task.name} that training has"
        )
        return ClaimVerdict(
            status=ScoreStatus.REFUSED,
            reason=f"the test cells have {told}: an answer that never changes would be right",
        )
    asked = cells.assign(**{task.column: task.labels})
    if task.column == CELL_TYPE:
        return cell_type_claim(asked, task.labels, train_rows=found.data.train_rows, test_rows=test_rows)
    if not _varies_within_donors(asked, task.column, train_rows):
        return donor_claim(asked, factor=task.column, train_rows=train_rows, test_rows=test_rows)
    by_library = cell_type_claim(asked, task.labels, train_rows=train_rows, test_rows=test_rows)
    if by_library.status is ScoreStatus.REFUSED:
        return by_library
    rows, _ = audit_confounding(_facts(asked, train_rows, task.column), technical=_ACROSS, biological=(task.column,))
    across = [
        row for row in rows if row.dataset_id is None and row.status in {ScoreStatus.REFUSED, ScoreStatus.QUALIFIED}
    ]
    worst = next((row for row in across if row.status is ScoreStatus.REFUSED), next(iter(across), None))
    if worst is None:
        return by_library
    reason = f"{task.name} in {worst.technical} among training cells: {worst.reason}"
    return ClaimVerdict(status=worst.status, reason=reason, notes=by_library.notes)


def confounding_findings(cells: pd.DataFrame, found: TaskFold) -> tuple[Finding, ...]:
    """Return how far the labels of a task follow technical columns among the training cells (`W-CONF-01`, `W-CONF-02`)."""
    asked = cells.assign(**{found.task.column: found.task.labels})
    part = _facts(asked, found.train_rows, found.task.column)
    return audit_confounding(part, biological=(found.task.column,))[1] if len(part) else ()


def _facts(cells: pd.DataFrame, rows: np.ndarray, column: str) -> pd.DataFrame:
    """Return the different combinations of some cells: no cell more than once."""
    kept = [name for name in cells.columns if name not in {"cell_id", "row", "n_counts", "n_genes"} or name == column]
    return cells[kept].iloc[rows].drop_duplicates()


def _varies_within_donors(cells: pd.DataFrame, column: str, rows: np.ndarray) -> bool:
    part = cells.iloc[rows]
    table = pd.DataFrame({"donor": donor_keys(part), "level": part[column].to_numpy(dtype=object)})[
        is_known(part[column])
    ]
    table = table[table["donor"] != ""]
    return bool((table.groupby("donor")["level"].nunique() > 1).any())


def gain_over(context: RowContext, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Gain | None:
    """Return how much higher the headline of one model is than that of another; None where nothing is scored.

    Parameters
    ----------
    ours, theirs
        Answers to the cells of the closed set, one array per seed.
    """
    closed = context.cells.closed()
    headline = next(measure.classes for measure in context.measures if measure.key == HEADLINE)
    if not headline or not len(closed.truth):
        return None
    classes = sorted({str(term) for terms in (closed.truth, *ours, *theirs) for term in terms})
    scored = [classes.index(name) for name in headline]

    def halved(counts: np.ndarray) -> np.ndarray:
        # A difference lies in [-1, 1], and bounds are cut to [0, 1]: it is halved and moved on the way through.
        f1 = confusion_macro_f1(counts, scored)
        return np.asarray(0.5 + (f1[..., : len(ours)].mean(axis=-1) - f1[..., len(ours) :].mean(axis=-1)) / 2)

    donors, tensor = confusion_tensor(closed.truth, [*ours, *theirs], groups=closed.persons, classes=classes)
    over = DonorInterval()
    if "" not in donors:
        over = donor_interval(
            tensor,
            halved,
            donors=donors,
            rng=rng_for(context.seed, "evaluate", "donor bootstrap"),
            population=context.population,
        )
    interval = over.interval
    return Gain(
        value=_unhalved(float(halved(tensor.sum(axis=0)[None])[0])),
        interval=None
        if interval is None
        else replace(interval, low=_unhalved(interval.low), high=_unhalved(interval.high)),
        points={name: _unhalved(point) for name, point in over.points.items()},
    )


def _unhalved(value: float) -> float:
    return 2 * value - 1
