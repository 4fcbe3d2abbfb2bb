"""Copies of cells across the two sides of a fold (rule R9), and whether any clean labelled test cell is left (R11).

Copies reach across a fold directly or through a third cell, so whole classes of copies are compared, not
single pairs. Comparisons that could not be made are counted, not taken for clean.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cytolabe.audit.duplicates import DuplicateReport
from cytolabe.records import Finding, Fold, Severity
from cytolabe.split.keys import is_labelled

__all__ = ["Outcome", "cells_copied_across", "identical_cells", "n_testable", "nothing_clean", "pair_examples"]

_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one test gives."""

    test: Mapping[str, object]
    findings: tuple[Finding, ...] = ()
    not_testable: Mapping[str, int] | None = None


def cells_copied_across(
    duplicates: DuplicateReport | None, fold: Fold, n_cells: int, *, kinds: Collection[str] = ("identical", "near")
) -> Bool[np.ndarray, " cells"]:
    """Tell which cells have a copy of these kinds on the other side, directly or through a third one."""
    copied = np.zeros(n_cells, dtype=bool)
    if duplicates is None or duplicates.pairs.empty:
        return copied
    pairs = duplicates.pairs[duplicates.pairs["kind"].isin(list(kinds))]
    a, b = pairs["a_row"].to_numpy(), pairs["b_row"].to_numpy()
    graph = coo_matrix((np.ones(len(a), dtype=np.int8), (a, b)), shape=(n_cells, n_cells))
    classes = connected_components(graph, directed=False)[1]
    both = np.intersect1d(classes[fold.train_rows], classes[fold.test_rows])
    copied[np.isin(classes, both)] = True
    return copied


def identical_cells(
    cells: pd.DataFrame, fold: Fold, *, duplicates: DuplicateReport | None, copied: Bool[np.ndarray, " cells"]
) -> Outcome:
    """Test for identical cells across the fold; `copied` is what `cells_copied_across` says of these."""
    n_test = len(fold.test_rows)
    if duplicates is None:
        test = {"test": "identical cells", "n_tested": 0, "n_found": 0, "power": "not run"}
        return Outcome(test=test, not_testable={"identical cells, test side": n_test})
    n_copied = int(copied[fold.test_rows].sum())
    found: tuple[Finding, ...] = ()
    if n_copied:
        found = (
            Finding(
                code="E-LEAK-02",
                severity=Severity.ERROR,
                where=fold.split_id,
                message=f"{n_copied} test cell(s) are identical to training cells on all genes that both data sets "
                "measure; their score would measure memory",
                remedy="give the pairs to the split (duplicates=...), which keeps both sides of a pair together",
                rule="R9",
                n_affected=n_copied,
                n_total=n_test,
                examples=pair_examples(duplicates.pairs, fold, copied),
            ),
        )
    blind = _blind_comparisons(cells, fold, duplicates)
    power = (
        f"exact on shared genes, for the test cells (of {n_test}) that keep enough of those shared with a training data "
        "set"
    )
    test = {
        "test": "identical cells", "n_tested": n_testable(cells, fold, duplicates), "n_found": n_copied, "power": power,
        "min_shared_nonzero": duplicates.min_shared_nonzero,
    }  # fmt: skip
    return Outcome(test=test, findings=found, not_testable=blind)


def n_testable(
    cells: pd.DataFrame, fold: Fold, duplicates: DuplicateReport, *, among: Collection[tuple[str, str]] | None = None
) -> int:
    """Count the test cells that could be compared with a training data set; `among` some comparisons, if given."""
    train = set(cells["dataset_id"].to_numpy(dtype=object)[fold.train_rows].tolist())
    is_testable = np.zeros(len(cells), dtype=bool)
    for pair, rows in duplicates.testable.items():
        if pair[1] in train and (among is None or pair in among):
            is_testable[rows] = True
    return int(is_testable[fold.test_rows].sum())


def _blind_comparisons(cells: pd.DataFrame, fold: Fold, duplicates: DuplicateReport) -> dict[str, int]:
    """Keep the comparisons that reach across this fold."""
    datasets = cells["dataset_id"].to_numpy(dtype=object)
    train, test = set(datasets[fold.train_rows].tolist()), set(datasets[fold.test_rows].tolist())
    blind = {}
    for name, n_cells in sorted(duplicates.not_testable.items()):
        a, _, b = name.partition("|")
        if (a in train and b in test) or (b in train and a in test):
            blind[f"identical cells, {name}"] = n_cells
    return blind


def nothing_clean(cells: pd.DataFrame, fold: Fold, copied: Bool[np.ndarray, " cells"]) -> Finding:
    """Report that every labelled test cell has a copy in training."""
    labelled = fold.test_rows[is_labelled(cells)[fold.test_rows]]
    return Finding(
        code="E-LEAK-05",
        severity=Severity.ERROR,
        where=fold.split_id,
        message=f"no clean labelled test cell is left: all {len(labelled)} labelled ones are copies of training cells",
        remedy="hold both data sets out together (by component, with the duplicates given to the split)",
        rule="R11",
        n_affected=int(copied[labelled].sum()),
        n_total=len(fold.test_rows),
        examples=tuple(cells["cell_id"].to_numpy(dtype=object)[labelled[:_EXAMPLES]].tolist()),
    )


def pair_examples(pairs: pd.DataFrame, fold: Fold, copied: np.ndarray) -> tuple[str, ...]:
    """Name the first pairs with one cell on each side; `copied` has one entry per cell of the snapshot."""
    in_test = np.zeros(len(copied), dtype=bool)
    in_test[fold.test_rows] = True
    inside = in_test | np.isin(np.arange(len(copied)), fold.train_rows)
    a, b = pairs["a_row"].to_numpy(), pairs["b_row"].to_numpy()
    across = pairs[(in_test[a] != in_test[b]) & inside[a] & inside[b]].head(_EXAMPLES)
    return tuple(
        f"train {row.cell_b}, test {row.cell_a}"
        if in_test[int(str(row.a_row))]
        else f"train {row.cell_a}, test {row.cell_b}"
        for row in across.itertuples()
    )
