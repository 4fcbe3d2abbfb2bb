"""Names of batches and sites that spell the label are told where a model could use them: the same on both sides."""

import numpy as np
import pandas as pd
import pytest

from cytolabe.audit.coded_columns import CODED_COLUMNS, coded_columns
from cytolabe.audit.leakage import audit_fold
from cytolabe.records import Fold, ScoreStatus

N = 240
CODE = np.tile([0, 1, 2], N // 3)
IN_TEST = np.arange(N) >= 120
FOLD = Fold(
    split_id="b", held_out="dataset", groups_train=("a",), groups_test=("b",), train_rows=np.flatnonzero(~IN_TEST),
    test_rows=np.flatnonzero(IN_TEST),
)  # fmt: skip


def cells(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({
        "cell_id": [f"c{n}" for n in range(N)], "dataset_id": np.where(IN_TEST, "b", "a"), "batch": "unknown",
        "assay": "10x 3' v3", "suspension_type": "cell", "site": "unknown",
        "contributor_label": np.array(["B", "T", "NK"])[CODE], "cell_type_ontology_term_id": "unknown",
    }).assign(**columns)  # fmt: skip


@pytest.mark.parametrize("column", ["batch", "site", "assay"])
def test_names_that_stand_for_labels_on_both_sides_are_found_with_cells_of_both(column):
    outcome = coded_columns(cells(**{column: np.array(["x1", "x2", "x3"])[CODE]}), FOLD)
    (finding,) = outcome.findings
    assert (finding.code, finding.where, finding.n_affected) == ("W-LEAK-10", column, 3)
    assert finding.examples[0] == "x1 = B: train c0, test c120"
    assert (outcome.test["n_found"], outcome.test["columns"]) == (1, {column: 3})


@pytest.mark.parametrize(
    "batch",
    [
        np.where(IN_TEST, "b", "a"), np.array([f"{'ab'[n >= 120]}{CODE[n]}" for n in range(N)]),
        np.array([str((CODE[n] + (n >= 120)) % 3) for n in range(N)]), np.array([str(n % 4) for n in range(N)]),
        np.where(CODE == 0, "x1", "x2"),
    ],
    ids=["one batch a lab", "fresh names on the test side", "other labels on the test side", "batches across labels",
         "one label alone and the rest together"],
)  # fmt: skip
def test_designs_in_which_a_name_gives_no_answer_are_clean(batch):
    outcome = coded_columns(cells(batch=batch), FOLD)
    assert (outcome.findings, outcome.test["n_found"]) == ((), 0)


def test_a_tenth_of_stray_cells_hides_no_code_and_few_cells_are_none():
    batch = np.array(["x1", "x2", "x3"])[np.where(np.arange(N) % 20 == 0, (CODE + 1) % 3, CODE)]
    assert coded_columns(cells(batch=batch), FOLD).test["n_found"] == 1
    few = cells(batch=np.array(["x1", "x2", "x3"])[CODE])
    few.loc[np.arange(N) % 120 >= 50, "contributor_label"] = ""
    assert coded_columns(few, FOLD).test["n_found"] == 0


def test_the_audit_of_a_fold_tells_it_as_a_warning(overlapping):
    snapshot = overlapping(copies=0)
    fold = Fold(
        split_id="b", held_out="dataset", groups_train=("a",), groups_test=("b",), train_rows=np.arange(6), test_rows=np.arange(6, 12),
    )  # fmt: skip
    audit = audit_fold(snapshot, fold, duplicates=None)
    assert CODED_COLUMNS in {test["test"] for test in audit.tests}
    assert audit.status is not ScoreStatus.REFUSED
