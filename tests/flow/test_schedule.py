"""Enough files go round whole; a file is cut where workers would wait for it, or where it is very large."""

from hypothesis import given
from hypothesis import strategies as st

from cytolabe.flow import schedule
from cytolabe.flow.schedule import files_to_cut

MIB, GIB = 1 << 20, 1 << 30


def test_files_that_go_round_evenly_stay_whole():
    assert files_to_cut([300 * MIB] * 6, 2) == frozenset()
    assert files_to_cut([2 * GIB, 2 * GIB], 2) == frozenset()


def test_a_single_file_is_cut_for_all_workers():
    assert files_to_cut([300 * MIB], 2) == {0}


def test_the_file_that_would_be_waited_for_is_cut_and_the_others_are_not():
    assert files_to_cut([100 * MIB, 3 * GIB, 100 * MIB, 90 * MIB, 99 * MIB], 4) == {1}


def test_a_very_large_file_is_cut_even_where_all_workers_have_one():
    assert files_to_cut([5 * GIB, 5 * GIB], 2) == {0, 1}


def test_one_worker_cuts_what_takes_long_because_it_can_tell_how_far_it_is():
    assert files_to_cut([300 * MIB, 10 * MIB], 1) == {0}


@given(st.lists(st.integers(0, 8 * GIB), max_size=12), st.integers(1, 9))
def test_only_the_largest_files_are_cut_and_never_small_ones(sizes, n_workers):
    cut = files_to_cut(sizes, n_workers)
    whole = [size for place, size in enumerate(sizes) if place not in cut]
    assert all(schedule.SMALL_BYTES <= sizes[place] >= max(whole, default=0) for place in cut)
    assert n_workers == 1 or all(size < schedule.LARGE_BYTES for size in whole)


@given(st.lists(st.integers(1, 2 * GIB), min_size=1, max_size=12), st.integers(2, 9))
def test_the_files_and_not_their_order_decide(sizes, n_workers):
    cut = sorted(sizes[place] for place in files_to_cut(sizes, n_workers))
    backwards = sizes[::-1]
    assert cut == sorted(backwards[place] for place in files_to_cut(backwards, n_workers))
