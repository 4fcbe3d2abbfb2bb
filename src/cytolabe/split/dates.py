"""The day that divides the groups of a split into older and younger ones, where nobody names one."""

import numpy as np

from cytolabe.snapshot.strata import N_CELLS
from cytolabe.split.plan import SplitPlan
from cytolabe.split.sides import class_names, days_of

__all__ = ["dividing_day"]


def dividing_day(plan: SplitPlan, *, test_share: float) -> str:
    """Return the day after which about a share of the labelled cells is younger, as a split `after` it sees them.

    Parameters
    ----------
    plan
        A split of the same groups whose rule tells the dates.
    test_share
        Test cells among the labelled cells of both sides, above 0 and below 1. The day that comes nearest is taken,
        where a cell that it leaves on neither side counts as one off the share; of equals the last.

    Returns
    -------
    A day of ISO 8601, on which some cells begin or end; empty where none leaves labelled cells on both sides.
    """
    table = plan.strata.table
    if table.empty or "time" not in table:
        return ""
    first, last = (np.array(days, dtype=object) for days in zip(*map(days_of, table["time"]), strict=True))
    weights = np.where(class_names(table) != "", table[N_CELLS], 0)
    _, groups = np.unique(plan.components.label_of_row.astype(str), return_inverse=True)
    # A group is as old as its oldest cell, and of no age where one of its cells has none.
    begin = [min(first[groups == number]) for number in range(groups.max() + 1)]
    begin_of_row = np.array(begin, dtype=object)[groups]
    found: list[tuple[float, str]] = []
    for day in sorted({*last.tolist(), *begin} - {""}, reverse=True):
        n_test, n_train = (int(weights[of].sum()) for of in (begin_of_row > day, (last != "") & (last <= day)))
        if n_test and n_train:
            n_left = int(weights.sum()) - n_test - n_train
            found.append((abs(n_test / (n_test + n_train) - test_share) + n_left / int(weights.sum()), day))
    return min(found, key=lambda one: one[0])[1] if found else ""
