"""The code of a packed cache: every column and every 32-bit count comes back, and no bytes make it leave its cell."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.snapshot.packed_cells import pack_cells, packed_room, unpack_cells

GUARD = -77
COUNTS = st.one_of(
    st.integers(1, 3), st.sampled_from([0, 14, 15, 16, 17, 143, 144, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1)
)
GAPS = st.one_of(st.integers(0, 12), st.sampled_from([253, 254, 255, 256, 509, 510, 511]), st.integers(0, 70_000))
CELLS = st.lists(st.lists(st.tuples(GAPS, COUNTS), max_size=40), max_size=6)


def as_arrays(cells):
    """Cells of (gap, count) as CSR."""
    columns = [np.cumsum([gap + 1 for gap, _ in cell], dtype=np.int64) - 1 for cell in cells]
    indptr = np.cumsum([0, *(len(cell) for cell in cells)])
    counts = np.array([count for cell in cells for _, count in cell], dtype=np.uint32).view(np.int32)
    return indptr, np.concatenate([np.zeros(0, np.int64), *columns]).astype(np.int32), counts


def packed_of(indptr, columns, counts):
    """Bytes, and where each cell begins in them."""
    offsets = np.empty(len(indptr), dtype=np.int64)
    room = packed_room(len(columns), len(indptr) - 1, int(columns.max(initial=0)) + 1)
    packed = np.full(room + 8, 0xA5, dtype=np.uint8)
    assert pack_cells((indptr, columns, counts), packed, offsets) == -1
    assert (packed[room:] == 0xA5).all(), "packed_room is enough, whatever is tried on the way"
    return packed[: offsets[-1]], offsets


def unpacked(packed, bounds, lengths, *, picked, n_genes):
    """What the kernel says, and the minibatch; nothing may be written behind it."""
    starts, stops = bounds
    n_entries = int(lengths[picked].sum())
    indptr = np.zeros(len(picked) + 1, dtype=np.int64)
    columns, counts = (np.full(n_entries + 8, GUARD, dtype=np.int32) for _ in range(2))
    failed = unpack_cells((packed, starts, stops, lengths), picked, (0, indptr, columns, counts, n_genes))
    assert (columns[n_entries:] == GUARD).all()
    assert (counts[n_entries:] == GUARD).all()
    return failed, indptr, columns[:n_entries], counts[:n_entries]


@settings(deadline=None, max_examples=300)
@given(cells=CELLS, seed=st.integers(0, 2**32 - 1))
def test_every_column_and_count_comes_back_in_any_order_of_cells(cells, seed):
    indptr, columns, counts = as_arrays(cells)
    packed, offsets = packed_of(indptr, columns, counts)
    picked = np.random.default_rng(seed).integers(0, len(cells), 2 * len(cells)) if cells else np.zeros(0, np.int64)
    n_genes = int(columns.max(initial=-1)) + 1
    failed, found, own, values = unpacked(
        packed, (offsets[:-1], offsets[1:]), np.diff(indptr), picked=picked, n_genes=n_genes
    )
    assert failed == -1
    assert np.array_equal(np.diff(found), np.diff(indptr)[picked])
    entries = np.concatenate([np.zeros(0, np.int64), *(np.arange(indptr[cell], indptr[cell + 1]) for cell in picked)])
    assert np.array_equal(own, columns[entries])
    assert np.array_equal(values, counts[entries])


def test_a_column_at_the_end_of_32_bits_comes_back():
    matrix = np.array([0, 2]), np.array([5, 2**31 - 2], dtype=np.int32), np.array([1, -1], dtype=np.int32)
    packed, offsets = packed_of(*matrix)
    bounds = offsets[:-1], offsets[1:]
    failed, _, columns, counts = unpacked(packed, bounds, np.array([2]), picked=np.array([0]), n_genes=2**31 - 1)
    assert (failed, columns.tolist(), counts.tolist()) == (-1, [5, 2**31 - 2], [1, -1])
    assert unpacked(packed, bounds, np.array([2]), picked=np.array([0]), n_genes=2**31 - 2)[0] == 0


def test_a_cell_of_usual_counts_takes_a_byte_and_a_half_a_count():
    rng = np.random.default_rng(0)
    columns = np.sort(rng.choice(20_000, 1_650, replace=False)).astype(np.int32)
    counts = rng.geometric(0.45, 1_650).astype(np.int32)
    packed, _ = packed_of(np.array([0, 1_650]), columns, counts)
    assert len(packed) < 1.51 * 1_650


def test_a_cell_of_deep_sequencing_takes_less_than_three_bytes_a_count():
    rng = np.random.default_rng(1)
    columns = np.sort(rng.choice(20_000, 6_000, replace=False)).astype(np.int32)
    counts = np.exp(rng.normal(5, 2, 6_000)).astype(np.int32) + 1
    packed, offsets = packed_of(np.array([0, 6_000]), columns, counts)
    assert len(packed) < 2.9 * 6_000
    failed, _, own, values = unpacked(
        packed, (offsets[:-1], offsets[1:]), np.array([6_000]), picked=np.array([0]), n_genes=20_000
    )
    assert failed == -1
    assert np.array_equal(own, columns)
    assert np.array_equal(values, counts)


@pytest.mark.parametrize("coded", range(2, 256, 23))
def test_counts_in_an_unknown_code_are_an_error(coded):
    packed, offsets = packed_of(np.array([0, 9]), np.arange(9, dtype=np.int32), np.ones(9, dtype=np.int32))
    changed = packed.copy()
    assert changed[9] == 0, "halves of bytes, behind nine gaps"
    changed[9] = coded
    assert unpacked(changed, (offsets[:-1], offsets[1:]), np.array([9]), picked=np.array([0]), n_genes=9)[0] == 0


@pytest.mark.parametrize("large", [70_000, 2**31 - 1])
@pytest.mark.parametrize("n_entries", [30, 40])
def test_each_prefix_of_a_cell_is_an_error_in_either_code(n_entries, large):
    # Of thirty counts one is large: halves. Of forty all are: whole bytes.
    counts = np.array([large] * 40 if n_entries == 40 else [2, large, *[1] * 28], dtype=np.int32)
    columns = np.arange(n_entries, dtype=np.int32) * 300
    packed, offsets = packed_of(np.array([0, n_entries]), columns, counts)
    assert packed[n_entries + (n_entries - 1)] == (n_entries == 40), "one byte a gap, but for the others of 255"
    lengths, one = np.array([n_entries]), np.array([0])
    assert unpacked(packed, (offsets[:-1], offsets[1:]), lengths, picked=one, n_genes=12_000)[0] == -1
    for end in range(int(offsets[1])):
        assert unpacked(packed, (offsets[:-1], np.array([end])), lengths, picked=one, n_genes=12_000)[0] == 0
    longer = np.append(packed, np.uint8(0))
    assert unpacked(longer, (offsets[:-1], offsets[1:] + 1), lengths, picked=one, n_genes=12_000)[0] == 0


@pytest.mark.parametrize("columns", [[3, 3], [4, 2], [-1]])
def test_columns_that_do_not_ascend_are_not_packed(columns):
    matrix = np.array([0, 0, len(columns)]), np.array(columns, dtype=np.int32), np.ones(len(columns), dtype=np.int32)
    assert pack_cells(matrix, np.empty(64, np.uint8), np.empty(3, np.int64)) == 1


@settings(deadline=None, max_examples=300)
@given(cells=CELLS.filter(any), data=st.data())
def test_a_changed_cell_is_other_counts_of_the_same_genes_or_an_error_and_never_beyond_its_place(cells, data):
    indptr, columns, counts = as_arrays(cells)
    packed, offsets = packed_of(indptr, columns, counts)
    bounds = offsets[:-1].copy(), offsets[1:].copy()
    n_genes = int(columns.max()) + 1
    changed = packed.copy()
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    bounds[1][0] = data.draw(st.integers(0, int(offsets[1])))
    every = np.arange(len(cells))
    failed, _, own, _ = unpacked(changed, bounds, np.diff(indptr), picked=every, n_genes=n_genes)
    if failed == -1:
        for low, high in pairwise(indptr):
            assert (np.diff(own[low:high]) > 0).all()
            assert high == low or (own[low] >= 0 and own[high - 1] < n_genes)
