"""A label among the coordinates of an embedding is told from what a model learned by its width, whatever its scale."""

import numpy as np
import pandas as pd
import pytest

from cytolabe.audit.coded_dimensions import coded_dimensions, dimensions_test
from cytolabe.records import Fold

N = 300
CODE = np.tile([0, 1, 2], N // 3)
CELLS = pd.DataFrame({
    "cell_id": [f"{'ab'[n >= 150]}:c{n}" for n in range(N)], "dataset_id": np.repeat(["a", "b"], 150),
    "contributor_label": np.array(["B", "T", "NK"])[CODE], "cell_type_ontology_term_id": "unknown",
})  # fmt: skip
FOLD = Fold(
    split_id="b", held_out="dataset", groups_train=("a",), groups_test=("b",), train_rows=np.arange(150),
    test_rows=np.arange(150, N),
)  # fmt: skip
ROWS = np.arange(N)
IN_TEST = ROWS >= 150


def learned(seed: int = 0, spread: float = 0.05) -> np.ndarray:
    """Eight dimensions in which labels are as far apart as models ever put them."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 8))[CODE] + spread * rng.normal(size=(N, 8))


def found(column: np.ndarray, cells: pd.DataFrame = CELLS):
    values = np.column_stack([learned(), column]).astype(np.float32).astype(float)
    return coded_dimensions(values, cells, FOLD, rows=ROWS)


def test_labels_that_a_model_put_far_apart_are_no_code():
    for seed in range(20):
        told = coded_dimensions(learned(seed), CELLS, FOLD, rows=ROWS)
        assert (told.both, told.one_side, told.refusal) == ((), (), "")


@pytest.mark.parametrize(
    "column",
    [
        (CODE == 1) * 1.0, (CODE == 1) * 6.3 - 2.1, CODE * 1e-4 + 50, np.array([3.0, -1.0, 0.4])[CODE],
        CODE + 1e-4 * np.random.default_rng(1).normal(size=N),
        np.where(np.random.default_rng(2).random(N) < 0.05, 9.0, CODE), CODE + 4.0 * IN_TEST,
    ],
    ids=["one hot", "scaled one hot", "tiny and far from zero", "numbers", "a touch of noise", "a twentieth lost", "another number on the test side"],
)  # fmt: skip
def test_a_column_of_labels_on_both_sides_refuses_and_names_cells_of_both(column):
    told = found(column)
    assert told.both == (8,)
    assert told.refusal.startswith("E-LEAK-10: 1 of 9 dimensions (d8)")
    (finding,) = told.findings("scgpt")
    assert (finding.code, finding.where, finding.n_affected, finding.n_total) == ("E-LEAK-10", "scgpt", 1, 9)
    assert finding.examples[0].startswith("d8: train a:c")
    assert ", test b:c" in finding.examples[0]
    test = dimensions_test("scgpt", [coded_dimensions(learned(), CELLS, FOLD, rows=ROWS), told])
    assert (test["n_tested"], test["n_found"], test["n_embeddings"]) == (9, 1, 2)


@pytest.mark.parametrize(
    "column",
    [
        np.full(N, 3.0), np.where(CODE == 1, 0.0, np.random.default_rng(3).normal(size=N)),
        np.where(np.random.default_rng(4).random(N) < 0.92 - 0.04 * CODE, 2.0, np.random.default_rng(5).normal(size=N)),
    ],
    ids=["one number", "a unit that never fires in a label", "one number in most cells of all labels"],
)  # fmt: skip
def test_numbers_that_tell_no_label_are_no_code(column):
    assert found(column).both == ()


def test_a_code_on_one_side_is_counted_and_small_labels_are_not_called_clean():
    noise = np.random.default_rng(6).normal(size=N)
    told = found(np.where(IN_TEST, noise, CODE))
    assert (told.both, told.one_side) == ((), (8,))
    few = CELLS.assign(contributor_label=[f"{label} {n // 60}" for n, label in enumerate(CELLS["contributor_label"])])
    assert found(CODE * 1.0, few).n_untested > 0


def test_cells_on_no_side_are_not_looked_at():
    fold = Fold(
        split_id="b", held_out="dataset", groups_train=(), groups_test=(), train_rows=np.arange(150),
        test_rows=np.zeros(0, dtype=np.int64),
    )  # fmt: skip
    values = np.column_stack([learned(), CODE * 1.0])
    assert coded_dimensions(values, CELLS, fold, rows=ROWS).both == ()
