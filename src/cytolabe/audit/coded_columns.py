"""Technical columns that hold a code: names of batches, sites or assays that tell the label on both sides of a fold.

A model may read these columns (`TECHNICAL_COLUMNS`), as they were delivered. Where the names are fresh on the test
side they say nothing; where two labels or more have a name of their own, and the same one on both sides, who reads
the name has the answer. Names of libraries are looked at without their data set here: the claims (rule R12) look at
libraries of one data set on both sides, while a name like `B_cells` may come back in another one.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.audit.coded_features import MIN_CODED_CELLS, MIN_CODED_SHARE
from cytolabe.audit.copies import Outcome
from cytolabe.audit.units import is_known
from cytolabe.models.protocols import TECHNICAL_COLUMNS
from cytolabe.records import Finding, Fold, Severity

__all__ = ["CODED_COLUMNS", "coded_columns"]

CODED_COLUMNS = "columns that hold a code"


@dataclass(frozen=True, kw_only=True)
class _Code:
    """A value of a column that stands for one label, and a cell of each side."""

    value: str
    label: str
    train: str
    test: str


def coded_columns(cells: pd.DataFrame, fold: Fold) -> Outcome:
    """Test the technical columns of a fold for values that name the label on both sides.

    Returns
    -------
    A column is found where two labels or more each have a value of their own (nearly all of the label's cells hold
    it, and nearly all that hold it are of the label), and it is the same value on both sides.
    """
    codes = {column: _codes_of(cells, fold, column) for column in TECHNICAL_COLUMNS}
    found = {column: own for column, own in codes.items() if len(own) > 1}
    test = {
        "test": CODED_COLUMNS, "n_tested": len(TECHNICAL_COLUMNS), "n_found": len(found),
        "power": f"values that hold {MIN_CODED_SHARE:.0%} of the cells of one label and few others, on both sides, of labels with "
        f"{MIN_CODED_CELLS} cells or more on each; the columns that a model may read: {', '.join(TECHNICAL_COLUMNS)}",
        "columns": {column: len(own) for column, own in found.items()},
    }  # fmt: skip
    findings = tuple(_finding(column, own) for column, own in found.items())
    return Outcome(test=test, findings=findings)


def _codes_of(cells: pd.DataFrame, fold: Fold, column: str) -> list[_Code]:
    """Return the values that stand for one label on both sides."""
    sides = [_values_of_labels(cells, rows, column) for rows in (fold.train_rows, fold.test_rows)]
    ids = cells["cell_id"].to_numpy(dtype=object)
    return [
        _Code(value=value, label=label, train=str(ids[row]), test=str(ids[sides[1][label, value]]))
        for (label, value), row in sorted(sides[0].items())
        if (label, value) in sides[1]
    ]


def _values_of_labels(cells: pd.DataFrame, rows: np.ndarray, column: str) -> dict[tuple[str, str], int]:
    """Return (label, value) -> a cell of one side, where value and label stand for each other."""
    part = cells[["cell_type_ontology_term_id", "contributor_label", column]].iloc[rows]
    has_term = is_known(part["cell_type_ontology_term_id"])
    labels = np.where(has_term, part["cell_type_ontology_term_id"], part["contributor_label"]).astype(str)
    known = (has_term | is_known(part["contributor_label"])) & is_known(part[column])
    pairs = list(zip(labels[known].tolist(), part[column].astype(str).to_numpy()[known].tolist(), strict=True))
    of_label, of_value, of_pair = Counter(a for a, _ in pairs), Counter(b for _, b in pairs), Counter(pairs)
    first = {pair: int(row) for pair, row in zip(reversed(pairs), rows[known][::-1].tolist(), strict=True)}
    return {
        (label, value): first[label, value]
        for (label, value), n in of_pair.items()
        if n >= MIN_CODED_CELLS and n >= MIN_CODED_SHARE * max(of_label[label], of_value[value])
    }


def _finding(column: str, codes: list[_Code]) -> Finding:
    return Finding(
        code="W-LEAK-10",
        severity=Severity.WARNING,
        where=column,
        message=f"{len(codes)} labels have a value of {column} of their own, the same on both sides: a model that reads "
        f"{column} has the answer, whatever it learned of genes",
        remedy=f"name {column} by what was done, not by what was found; compare with metadata_only, and read no score of a model that corrects for {column}",
        rule="R12",
        n_affected=len(codes),
        n_total=len(codes),
        examples=tuple(f"{one.value} = {one.label}: train {one.train}, test {one.test}" for one in codes[:5]),
    )
