"""Barcodes on both sides of a fold: weak evidence that one library was contributed twice.

Two unrelated libraries of one chemistry share some barcodes, because both draw from one list. What counts is how many
more they share than chance would give; and even then it is a suspicion, for the counts to confirm (rule R9).
"""

import math
import re

import numpy as np
import pandas as pd
from scipy.stats import poisson

from cytolabe.audit.copies import Outcome
from cytolabe.records import Finding, Fold, Severity

__all__ = ["BARCODE", "CERTAIN", "LEAST_RATIO", "SMALLEST_LIST", "barcodes_of", "shared_barcodes"]

BARCODE = re.compile(r"[ACGT]{12,24}")
"""What a barcode looks like inside the name of a cell."""
SMALLEST_LIST = 737_280
"""Barcodes of the shortest published list of 10x (v1 and v2; v3 has 6.8 M). A shorter one, as of spatial slides, makes chance larger."""
LEAST_RATIO = 2
"""How many times more barcodes than by chance are reported: large libraries use a list unevenly, and share a tenth more."""
CERTAIN = 1e-6
"""Probability under chance below which a number of shared barcodes is reported."""
_EXAMPLES = 5


def barcodes_of(cell_ids: pd.Series) -> np.ndarray:
    """Return the barcode in the name of each cell (its longest run of bases), empty where there is none."""
    names = cell_ids.astype(str).str.partition(":")[2]
    return np.array([max(BARCODE.findall(name), key=len, default="") for name in names], dtype=object)


def shared_barcodes(cells: pd.DataFrame, fold: Fold) -> Outcome:
    """Compare, for each training and test data set, how many barcodes both have with what chance would give.

    Data sets of one assay on slides or plates, whose lists are short and used again, are suspected wrongly; nothing is refused for it.
    Libraries of one data set are not compared with each other: their barcodes are told apart by suffixes that mean nothing here.
    """
    barcodes, datasets = barcodes_of(cells["cell_id"]), cells["dataset_id"].to_numpy(dtype=object)
    known = barcodes != ""
    sides = [
        {str(name): set(part) for name, part in pd.Series(barcodes[rows]).groupby(datasets[rows])}
        for rows in (fold.train_rows[known[fold.train_rows]], fold.test_rows[known[fold.test_rows]])
    ]
    found: list[Finding] = []
    pairs = []
    for train, own in sides[0].items():
        for test, other in sides[1].items():
            if train == test:
                continue
            shared = sorted(own & other)
            expected = len(own) * len(other) / SMALLEST_LIST
            pairs.append({"train": train, "test": test, "shared": len(shared), "by_chance": float(f"{expected:.3g}")})
            if len(shared) >= LEAST_RATIO * expected and shared and poisson.sf(len(shared) - 1, expected) < CERTAIN:
                found.append(_finding((train, test), shared, expected=expected, n_cells=len(other)))
    told = {
        "test": "shared barcodes", "n_tested": int(known[fold.test_rows].sum()), "n_found": len(found), "pairs": pairs,
        "n_without": int((~known[fold.test_rows]).sum()),
        "power": "suspicion only: more equal barcodes between two data sets than lists of barcodes give by chance",
    }  # fmt: skip
    return Outcome(test=told, findings=tuple(found))


def _finding(names: tuple[str, str], shared: list[str], *, expected: float, n_cells: int) -> Finding:
    return Finding(
        code="W-LEAK-07",
        severity=Severity.WARNING,
        where=f"{names[0]} and {names[1]}",
        message=f"{len(shared)} barcodes are in both, where {math.ceil(expected)} would be by chance: probably one library, "
        "contributed twice",
        remedy="look whether these cells are copies (findings of identical and near-identical cells); if the counts cannot "
        "tell, declare both as one study or hold them out together",
        rule="R9",
        n_affected=len(shared),
        n_total=n_cells,
        examples=tuple(shared[:_EXAMPLES]),
    )
