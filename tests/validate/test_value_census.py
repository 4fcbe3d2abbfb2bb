"""Cells that are equal to another one, found among their prints a part at a time: as many and the same as one by one."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix

from cytolabe.records import Block
from cytolabe.validate import marks
from cytolabe.validate.cell_sums import Entries
from cytolabe.validate.value_census import ValueCensus

CELLS = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(cells=CELLS, first_bits=st.sampled_from([1, 4]), chunk=st.sampled_from([1, 4, 1 << 16]), size=st.integers(1, 30))
def test_cells_equal_to_another_one_are_counted_and_the_first_are_named(cells, first_bits, chunk, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "_FIRST_BITS", first_bits)
        patch.setattr(marks, "_CHUNK", chunk)
        census = ValueCensus(len(cells), 3)
        for start in range(0, len(cells), size):
            part = csr_matrix(np.array(cells[start : start + size], dtype=np.float32))
            names = tuple(f"cell{start + row}" for row in range(part.shape[0]))
            census.add(Block(dataset_id="", start=start, cell_names=names, counts=part))
        facts = census.facts(encoding="csr", dtype="float32", names=lambda row: f"cell{row}")
    n_like = Counter(cells)
    copies = [f"cell{row}" for row, cell in enumerate(cells) if n_like[cell] > 1]
    assert facts.n_repeated == len(copies)
    assert facts.repeated_examples == tuple(copies[:5])


VALUES = st.lists(
    st.lists(st.sampled_from([0, 0, 1, 2, 4, 6, 0.5, -1]), min_size=11, max_size=11), min_size=1, max_size=8
)


def facts_of(census):
    return census.facts(encoding="", dtype="", names=lambda row: f"cell{row}")


@settings(max_examples=100, deadline=None)
@given(rows=VALUES, slice_size=st.integers(1, 40))
def test_a_matrix_that_lies_by_features_is_found_to_hold_what_it_holds_by_cells(rows, slice_size):
    values = np.array(rows, dtype=np.float32)
    n_cells, n_genes = values.shape
    names = tuple(f"cell{row}" for row in range(n_cells))
    by_cells, by_features = ValueCensus(n_cells, n_genes), ValueCensus(n_cells, n_genes)
    by_cells.add(Block(dataset_id="", start=0, cell_names=names, counts=csr_matrix(values)))
    turned = csc_matrix(values)
    features = np.repeat(np.arange(n_genes), np.diff(turned.indptr))
    slices = [slice(low, low + slice_size) for low in range(0, turned.nnz, slice_size)]
    entries = [Entries(cells=turned.indices[at], features=features[at], values=turned.data[at]) for at in slices]
    by_features.add_by_features(n_cells, entries, name_of=lambda row: names[row])
    one, other = facts_of(by_cells), facts_of(by_features)
    unordered = {"invalid_examples": (), "n_testable": 0, "n_without_ones": 0, "n_divisible": 0}
    if one.n_invalid:  # then which of them are shown depends on the order, and nobody asks whether they were scaled
        one, other = dataclasses.replace(one, **unordered), dataclasses.replace(other, **unordered)
    assert one == other
