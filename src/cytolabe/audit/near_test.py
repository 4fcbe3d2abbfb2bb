"""Near-identical cells across the two sides of a fold (rule R9): what the search found, and what it could have found."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool

from cytolabe.audit.copies import Outcome, n_testable, pair_examples
from cytolabe.audit.duplicates import DuplicateReport
from cytolabe.audit.planted import KEPT_PERCENT
from cytolabe.records import Finding, Fold, Severity

__all__ = ["NEAR", "near_identical_cells"]

NEAR = "near-identical cells"


def near_identical_cells(
    cells: pd.DataFrame, fold: Fold, *, duplicates: DuplicateReport | None, copied: Bool[np.ndarray, " cells"]
) -> Outcome:
    """Test for near-identical cells across the fold.

    Parameters
    ----------
    cells, fold
        The table of cells, and both sides.
    duplicates
        What `find_copies` found; without its search for near-identical cells nobody looked.
    copied
        Cells with a copy on the other side that have no identical one there.
    """
    n_test = len(fold.test_rows)
    if duplicates is None or duplicates.near is None:
        test = {"test": NEAR, "n_tested": 0, "n_found": 0, "power": "not run"}
        return Outcome(test=test, not_testable={f"{NEAR}, test side": n_test})
    across = _across(cells, fold, duplicates.near.comparisons)
    is_searched = across["is_searched"].to_numpy(dtype=bool)
    searched = {
        pair
        for a, b in zip(across["dataset_a"][is_searched], across["dataset_b"][is_searched], strict=True)
        for pair in ((a, b), (b, a))
    }
    n_near = int(copied[fold.test_rows].sum())
    planted = _planted(across[is_searched])
    test = {
        "test": NEAR, "n_tested": n_testable(cells, fold, duplicates, among=searched), "n_found": n_near,
        "n_direct": _n_direct(duplicates.pairs, fold, len(cells)), "planted": planted, "power": _power(planted),
    }  # fmt: skip
    blind = _blind(cells, fold, across[~is_searched])
    return Outcome(test=test, findings=_found(duplicates.pairs, fold, copied), not_testable=blind)


def _across(cells: pd.DataFrame, fold: Fold, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons that reach across the fold."""
    datasets = cells["dataset_id"].to_numpy(dtype=object)
    train, test = (set(datasets[rows].tolist()) for rows in (fold.train_rows, fold.test_rows))
    a, b = comparisons["dataset_a"], comparisons["dataset_b"]
    return comparisons[(a.isin(train) & b.isin(test)) | (b.isin(train) & a.isin(test))]


def _blind(cells: pd.DataFrame, fold: Fold, left: pd.DataFrame) -> dict[str, int]:
    """Count the test cells of the comparisons that were not searched."""
    of_test = cells["dataset_id"].iloc[fold.test_rows].value_counts().to_dict()
    pairs = zip(left["dataset_a"].astype(str), left["dataset_b"].astype(str), strict=True)
    return {f"{NEAR}, {a}|{b}": sum(int(of_test.get(name, 0)) for name in {a, b}) for a, b in pairs}


def _n_direct(pairs: pd.DataFrame, fold: Fold, n_cells: int) -> int:
    """Count the test cells that are near-identical to a training cell themselves, not through a third one."""
    near = pairs[pairs["kind"] == "near"]
    a, b = near["a_row"].to_numpy(dtype=np.int64), near["b_row"].to_numpy(dtype=np.int64)
    in_train, in_test = np.zeros(n_cells, dtype=bool), np.zeros(n_cells, dtype=bool)
    in_train[fold.train_rows] = in_test[fold.test_rows] = True
    return len(np.unique(np.concatenate([a[in_test[a] & in_train[b]], b[in_test[b] & in_train[a]]])))


def _planted(searched: pd.DataFrame) -> dict[str, list[int]]:
    """Return for each percentage of kept counts how many copies were planted and found, where the search saw least."""
    told = {}
    for percent in KEPT_PERCENT:
        planted, found = (searched[f"{kind}_{percent}"].to_numpy(dtype=np.int64) for kind in ("planted", "found"))
        tried = np.flatnonzero(planted)
        if not len(tried):
            told[str(percent)] = [0, 0]
            continue
        worst = tried[np.argmin(found[tried] / planted[tried])]
        told[str(percent)] = [int(planted[worst]), int(found[worst])]
    return told


def _power(planted: Mapping[str, list[int]]) -> str:
    told = ", ".join(
        f"{found} of {n} that kept {percent} % of their counts" if n else f"none could be planted at {percent} %"
        for percent, (n, found) in planted.items()
    )
    return (
        f"measured with planted copies that were thinned, in the comparison across the fold that sees least: {told}; on cells that hold "
        "enough on shared genes; less is seen of deep cells that another pipeline counted, and changed counts are not searched"
    )


def _found(pairs: pd.DataFrame, fold: Fold, copied: np.ndarray) -> tuple[Finding, ...]:
    n_near = int(copied[fold.test_rows].sum())
    if not n_near:
        return ()
    return (
        Finding(
            code="E-LEAK-06",
            severity=Severity.ERROR,
            where=fold.split_id,
            message=f"{n_near} test cell(s) are near-identical to training cells: one droplet counted twice, or thinned; "
            "their score would measure memory",
            remedy="keep one of the two countings, or give the pairs to the split, which keeps both sides together",
            rule="R9",
            n_affected=n_near,
            n_total=len(fold.test_rows),
            examples=pair_examples(pairs[pairs["kind"] == "near"], fold, copied),
        ),
    )
