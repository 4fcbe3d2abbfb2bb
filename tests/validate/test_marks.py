"""Rows with the same marks, found a part at a time: as many and the same as over all of them at once."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.validate import marks
from cytolabe.validate.marks import HeldMarks, repeated_marks, rows_alike

FEW = st.sampled_from([0, 1, 2, 1 << 62, 1 << 63, (1 << 63) + 1, (1 << 64) - 1])


def held(values):
    kept = HeldMarks(len(values))
    for start in range(0, len(values), 3):
        kept.append(np.array(values[start : start + 3], dtype=np.uint64))
    return kept


@settings(max_examples=100, deadline=None)
@given(values=st.lists(FEW, max_size=40), first_bits=st.sampled_from([1, 4]), chunk=st.sampled_from([1, 4, 1 << 16]))
def test_rows_with_the_mark_of_another_one_are_those_of_the_whole_table(values, first_bits, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "_FIRST_BITS", first_bits)
        patch.setattr(marks, "_CHUNK", chunk)
        alike, repeated = rows_alike(held(values)), repeated_marks(held(values))
    n_like = Counter(values)
    copies = [row for row, value in enumerate(values) if n_like[value] > 1]
    again = sorted(value for value, n_rows in n_like.items() for _ in range(n_rows - 1))
    assert alike == (len(copies), copies[:5])
    assert repeated == (len(again), tuple(again[:5]))


def test_more_rows_than_were_to_come_are_an_error():
    with pytest.raises(ValueError, match="broadcast"):
        HeldMarks(2).append(np.zeros(3, dtype=np.uint64))


def test_looking_for_equal_cells_takes_little_beside_their_marks():
    values = np.random.default_rng(0).integers(0, 2**64, 300_000, dtype=np.uint64)
    values[-1] = values[7]
    kept = HeldMarks(len(values))
    kept.append(values)
    tracemalloc.start()
    found = rows_alike(kept)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == (2, [7, 299_999])
    # Sorting all of them at once takes 16 bytes for each and more.
    assert peak < 6 * len(values)
