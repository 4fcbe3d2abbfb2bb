"""What can be asked about cells, and the label of each cell: a column of the atlas, or one of the contributors' own.

`cell_type` is the reconciled term at a level; `disease`, `sex` and `tissue` are columns of `cells`; `contributed.COLUMN` is read
verbatim from the data sets that have it, and the cells of the others are without a label. How a cell was made (assay,
batch, data set) is nothing that a model of biology is asked.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cytolabe.errors import UsageError
from cytolabe.evaluate.cell_tasks import CELL_TYPE, CellTaskLabels
from cytolabe.evaluate.labels import level_labels
from cytolabe.flow.interpret import resolutions_of
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.strata import contributed_columns
from cytolabe.split.keys import CONTRIBUTED

__all__ = ["TASKS", "labels_of_tasks"]

TASKS = (CELL_TYPE, "disease", "sex", "tissue")
_MOST_LEVELS = 200
_NOT_GIVEN = frozenset({"", UNKNOWN, "nan", "none", "<na>", "na", "n/a"})
"""How contributors say that a value is missing, in lower case."""


def labels_of_tasks(frozen: Snapshot, names: Sequence[str], *, level: str) -> tuple[CellTaskLabels, ...]:
    """Return the labels of tasks, each empty for a cell without one.

    Parameters
    ----------
    level
        Of `cell_type`: a level of the snapshot's own, such as `mid`.

    Raises
    ------
    UsageError
        If there is no task, one is named twice or is none, a column is in no data set, or has too many values to be classes.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        told = f"{', '.join(twice)} more than once" if twice else "none"
        msg = f"tasks: {told}. Name each once with --task or tasks = [...], among {_choices()}."
        raise UsageError(msg)
    return tuple(_labels_of(frozen, name, level=level) for name in names)


def _labels_of(frozen: Snapshot, name: str, *, level: str) -> CellTaskLabels:
    if name == CELL_TYPE:
        labels, column = level_labels(frozen.cells, resolutions_of(frozen), level).terms, CELL_TYPE
    elif name in TASKS:
        labels, column = _given(frozen.cells[name]), name
    elif name.startswith(CONTRIBUTED):
        labels, column = _contributed(frozen, name.removeprefix(CONTRIBUTED)), name
    else:
        msg = f"{name!r} is no task. Ask for {_choices()}; how a cell was made is nothing that it is asked."
        raise UsageError(msg)
    n_levels = len(set(labels.tolist()) - {""})
    if n_levels > _MOST_LEVELS:
        msg = f"Task {name!r} has {n_levels:,} different values; a task has classes, at most {_MOST_LEVELS}. A number is no class."
        raise UsageError(msg)
    return CellTaskLabels(name=name, column=column, labels=labels)


def _choices() -> str:
    return f"{', '.join(TASKS)}, {CONTRIBUTED}COLUMN"


def _contributed(frozen: Snapshot, column: str) -> np.ndarray:
    cells = frozen.cells
    own = [name for name in frozen.entries if column in contributed_columns(frozen, name)]
    if not own:
        msg = f"No data set of the snapshot has a column {column!r} of its contributor."
        raise UsageError(msg)
    labels = np.full(len(cells), "", dtype=object)
    of_dataset = cells["dataset_id"].to_numpy(dtype=object)
    for name in own:
        labels[of_dataset == name] = _given(frozen.contributed(name)[column])
    return labels


def _given(values: pd.Series) -> np.ndarray:
    """Return values as words, empty where nothing was given."""
    words = np.array(["" if pd.isna(value) else str(value).strip() for value in values.tolist()], dtype=object)
    return np.where([word.lower() in _NOT_GIVEN for word in words], "", words).astype(object)
