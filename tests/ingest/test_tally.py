"""A tally is what a slow look at every value says, however the cells are cut into runs."""

import itertools
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix

from cytolabe.ingest.tally import LARGEST_COUNT, merge_tallies, tally_matrix
from cytolabe.records import Block

VALUES = st.one_of(
    st.integers(0, 12),
    st.integers(0, 2**53),
    st.sampled_from([0.5, -1.0, -0.25, 2.0**60, np.nan, np.inf, -np.inf, 1.5e-3]),
).map(float)
MATRICES = hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 14)), elements=VALUES)
COUNTS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 9), st.integers(10, 30)), elements=st.integers(0, 3).map(float)
)


def blocks_of(values, cuts, start=0):
    edges = [0, *sorted(cut for cut in cuts if cut < len(values)), len(values)]
    for low, high in itertools.pairwise(edges):
        if high > low:
            counts = csr_matrix(values[low:high])
            names = tuple(f"c{cell}" for cell in range(low, high))
            yield Block(dataset_id="d", start=start + low, cell_names=names, counts=counts)


def tally_of(values, cuts=(), start=0):
    return tally_matrix(blocks_of(values, cuts, start), n_cells=len(values), n_features=values.shape[1], start=start)


def contents(tally):
    return {
        found.name: value.tolist() if isinstance(value, np.ndarray) else value
        for found in fields(tally)
        for value in [getattr(tally, found.name)]
    }


@settings(deadline=None)
@given(values=st.one_of(MATRICES, COUNTS), cuts=st.sets(st.integers(1, 8)), blocks=st.sets(st.integers(1, 8)))
def test_wherever_the_cells_are_cut_the_runs_merge_into_the_tally_of_all(values, cuts, blocks):
    whole = tally_of(values)
    edges = [0, *sorted(cut for cut in cuts if cut < len(values)), len(values)]
    parts = [
        tally_of(values[low:high], [cut - low for cut in blocks if low < cut < high], start=low)
        for low, high in itertools.pairwise(edges)
    ]
    np.testing.assert_equal(contents(merge_tallies(parts)), contents(whole))
    left, right = parts[: len(parts) // 2], parts[len(parts) // 2 :]
    if left:
        nested = merge_tallies([merge_tallies(right), merge_tallies(left)])
        np.testing.assert_equal(contents(nested), contents(whole))


@settings(deadline=None)
@given(values=st.one_of(MATRICES, COUNTS))
def test_the_tally_is_what_a_look_at_every_value_says(values):
    found = tally_of(values)
    with np.errstate(invalid="ignore"):
        nonfinite = ~np.isfinite(values)
        negative = np.isfinite(values) & (values < 0)
        fractional = np.isfinite(values) & (values >= 0) & (values != np.floor(values))
        oversized = np.isfinite(values) & (values > LARGEST_COUNT) & ~fractional
    broken = {"nonfinite": nonfinite, "negative": negative, "fractional": fractional, "oversized": oversized}
    assert found.broken == {kind: int(wrong.sum()) for kind, wrong in broken.items() if wrong.any()}
    for kind, (cell, feature, value) in found.first.items():
        assert (cell, feature) == tuple(np.argwhere(broken[kind])[0].tolist())
        np.testing.assert_equal(value, values[cell, feature])
    assert found.n_nonzero == np.count_nonzero(values)
    assert found.n_ones == np.count_nonzero(values == 1)
    assert found.cell_genes.tolist() == np.count_nonzero(values, axis=1).tolist()
    whole = ~np.logical_or.reduce(list(broken.values())).any(axis=1)
    # Integers of any size: sums of floats would lose the last digits.
    exact = [[int(value) for value in row] for row in values[whole]]
    assert found.cell_totals[whole].tolist() == [sum(row) for row in exact]
    assert found.feature_totals.tolist() == [sum(column) for column in zip(*exact, strict=True)] or not exact


def test_runs_that_leave_cells_out_do_not_merge():
    values = np.ones((6, 3))
    with pytest.raises(ValueError, match="no neighbors"):
        merge_tallies([tally_of(values[:2]), tally_of(values[3:], start=3)])


@settings(deadline=None)
@given(values=COUNTS, seed=st.integers(0, 99))
def test_a_fingerprint_knows_its_cell_in_any_order_of_features_and_no_other(values, seed):
    counts = csr_matrix(values)
    order = np.random.default_rng(seed).permutation(values.shape[1])
    shuffled = csr_matrix((counts.data, order[counts.indices], counts.indptr), shape=values.shape)
    back = csr_matrix((shuffled.data, np.argsort(order)[shuffled.indices], counts.indptr), shape=values.shape)
    names = tuple(map(str, range(len(values))))
    one, other = (
        tally_matrix(
            [Block(dataset_id="d", start=0, cell_names=names, counts=matrix)],
            n_cells=len(values), n_features=values.shape[1],
        ).fingerprints
        for matrix in (counts, back)
    )  # fmt: skip
    assert one.tolist() == other.tolist()
    changed = values.copy()
    changed[0, 0] += 1
    assert tally_of(changed).fingerprints[0] != one[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64, np.float32, np.float64])
def test_the_type_of_the_numbers_changes_nothing(dtype):
    values = np.array([[0, 3, 1, 0], [2, 0, 0, 255]])
    matrix = csr_matrix(values).astype(dtype)
    block = Block(dataset_id="d", start=0, cell_names=("a", "b"), counts=matrix)
    found = tally_matrix([block], n_cells=2, n_features=4)
    np.testing.assert_equal(contents(found), contents(tally_of(values.astype(float))))


def test_an_unsigned_number_beyond_the_signed_ones_is_too_large_and_not_negative():
    matrix = csr_matrix(np.array([[2**64 - 1, 1]], dtype=np.uint64))
    block = Block(dataset_id="d", start=0, cell_names=("a",), counts=matrix)
    found = tally_matrix([block], n_cells=1, n_features=2)
    assert found.broken["oversized"] >= 1
    assert "negative" not in found.broken
