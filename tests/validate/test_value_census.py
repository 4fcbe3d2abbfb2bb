"""Cells that are equal to another one, found among their prints a part at a time: as many and the same as one by one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.records import Block
from cytolabe.validate import marks
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
