"""Streams: every cell once, the same again from anywhere, and the counts that the snapshot has."""

import itertools
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode import RankRule, keys_of, rank_tokens, value_bins
from cytolabe.errors import IntegrityError, RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.epoch import CellLayout, EpochOrder, Reader
from cytolabe.snapshot.stream_options import StreamOptions
from cytolabe.store import array_spec, shards

GENES = ("G-CD3D", "G-MS4A1", "G-NKG7")
SMALL = {"unit_chunks": 1, "pool_entries": 60}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory, make):
    """Two data sets of 150 and 90 cells in small chunks, so that there are many units and pools."""
    rng = np.random.default_rng(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_spec, "SHARD_VALUES", 64)
        patch.setattr(array_spec, "CHUNK_VALUES", 8)
        atlas = create_atlas(tmp_path_factory.mktemp("stream") / "atlas")
        kang = rng.integers(0, 3, size=(150, 5)) * (rng.random((150, 5)) < 0.8)
        kang[7] = 0
        zheng = rng.integers(0, 70_000, size=(90, 3))
        for name, matrix in (("kang", kang), ("zheng", zheng)):
            atlas.publish([write_dataset(atlas.path, content=make.content(name, csr_matrix(matrix)))])
    return atlas.freeze()


def drawn(stream):
    return [minibatch.copy() for minibatch in stream]


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("rows", "indptr", "columns", "counts")
    )


# --- the order of an epoch ----------------------------------------------------------------------------------------

layouts = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=25).map(
    lambda units: CellLayout(
        np.arange(sum(len(unit) for unit in units)) * 3,
        np.concatenate([[0], np.cumsum([len(unit) for unit in units])]),
        np.array([entries for unit in units for entries in unit]),
    )
)


@given(
    layout=layouts,
    room=st.integers(1, 90),
    size=st.integers(1, 17),
    n_readers=st.integers(1, 4),
    key=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
@settings(max_examples=80, deadline=None)
def test_every_cell_is_read_once_by_one_reader_and_all_make_as_many_steps(layout, room, size, n_readers, key):
    n_cells = len(layout.cells)
    if n_cells < -(-n_cells // (n_readers * size)) * n_readers:
        n_readers = 1
    read, n_steps = Counter(), set()
    for number in range(n_readers):
        reader = Reader(number=number, n_readers=n_readers)
        order = EpochOrder(layout, pool_entries=room, minibatch_size=size, key=key, reader=reader)
        n_steps.add(len(order.steps) - 1)
        everything = np.concatenate([order.pool(pool) for pool in range(order.n_pools)])
        for low, high in zip(order.steps[:-1], order.steps[1:], strict=True):
            assert 1 <= high - low <= size
            read.update(everything[low:high].tolist())
    assert len(n_steps) == 1
    assert read == Counter(range(n_cells))


@given(layout=layouts, room=st.integers(1, 90), seed=st.integers(0, 5), data=st.data())
@settings(max_examples=60, deadline=None)
def test_with_repeats_every_cell_is_drawn_as_often_as_said(layout, room, seed, data):
    n_cells = len(layout.cells)
    repeats = np.array(data.draw(st.lists(st.integers(0, 6), min_size=n_cells, max_size=n_cells)))
    order = EpochOrder(layout, pool_entries=room, minibatch_size=4, key=(seed, 0), reader=Reader(), repeats=repeats)
    everything = np.concatenate([order.pool(pool) for pool in range(order.n_pools)])
    assert np.array_equal(np.bincount(everything, minlength=n_cells), repeats)
    assert order.n_draws == repeats.sum() == order.steps[-1]
    assert [order.pool_start(pool + 1) - order.pool_start(pool) for pool in range(order.n_pools)] == [
        len(order.pool(pool)) for pool in range(order.n_pools)
    ]


def test_copies_of_one_cell_are_spread_over_the_epoch():
    layout = CellLayout(np.arange(400), np.arange(0, 401, 4), np.full(400, 10))
    repeats = np.ones(400, dtype=np.int64)
    repeats[17] = 200
    order = EpochOrder(layout, pool_entries=400, minibatch_size=20, key=(0, 0), reader=Reader(), repeats=repeats)
    per_pool = [int((order.pool(pool) == 17).sum()) for pool in range(order.n_pools)]
    assert order.n_pools == 10
    assert max(per_pool) < 50


def test_too_few_cells_for_the_readers_are_refused():
    layout = CellLayout(np.arange(3), np.array([0, 3]), np.ones(3, dtype=np.int64))
    order = EpochOrder(layout, pool_entries=9, minibatch_size=2, key=(0, 0), reader=Reader(number=1, n_readers=4))
    with pytest.raises(UsageError, match="3 cells do not make a minibatch for each of 4 readers"):
        _ = order.steps
    with pytest.raises(UsageError, match="reader 2 is none of 2"):
        Reader(number=2, n_readers=2)


# --- counts -------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 4), size=st.integers(1, 70), room=st.sampled_from([1, 50, 10_000]), reuse=st.booleans(),
    genes=st.permutations(GENES).map(lambda genes: genes[:2]),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_minibatches_hold_the_counts_of_the_snapshot(snapshot, seed, size, room, reuse, genes):
    options = {"seed": seed, "minibatch_size": size, "pool_entries": room, "unit_chunks": 2, "reuse_buffers": reuse}
    stream = snapshot.stream(None, genes, **options)
    seen = []
    for minibatch in stream:
        expected = snapshot.counts(minibatch.rows, genes)
        found = minibatch.to_csr()
        assert found.has_sorted_indices
        assert np.array_equal(found.toarray(), expected.toarray())
        assert np.array_equal(minibatch.n_counts, snapshot.cells["n_counts"].to_numpy()[minibatch.rows])
        seen += minibatch.rows.tolist()
    assert sorted(seen) == list(range(240))


def test_part_of_the_cells_in_any_order_is_streamed(snapshot):
    cells = np.random.default_rng(1).permutation(240)[:77]
    stream = snapshot.stream(cells, minibatch_size=10, **SMALL)
    assert stream.genes == GENES
    assert sorted(np.concatenate([minibatch.rows for minibatch in drawn(stream)])) == sorted(cells)
    with pytest.raises(UsageError, match="0 cells match"):
        snapshot.stream(np.zeros(0, dtype=np.int64))
    with pytest.raises(UsageError, match="each once"):
        snapshot.stream(np.array([3, 3]))


def test_epochs_differ_and_another_seed_is_another_order(snapshot):
    def rows(seed):
        stream = snapshot.stream(minibatch_size=240, seed=seed, **SMALL)
        return [minibatch.rows.tolist() for _ in range(2) for minibatch in drawn(stream)]

    assert rows(0) == rows(0)
    first, second = rows(0)
    assert first != second != sorted(second)
    assert first != rows(1)[0]


@given(stop=st.integers(0, 23), layout=st.sampled_from(["csr", "value_bins"]))
@settings(max_examples=10, deadline=None)
def test_a_stream_goes_on_where_its_state_was_taken(snapshot, stop, layout):
    def make():
        return snapshot.stream(minibatch_size=10, layout=layout, seed=3, **SMALL)

    whole = make()
    expected = drawn(whole) + drawn(whole)
    first = make()
    before = [minibatch.copy() for minibatch in itertools.islice(first, stop)]
    state = json.loads(json.dumps(first.state_dict()))
    second = make()
    second.load_state_dict(state)
    found = before + drawn(second) + drawn(second)
    assert len(found) == len(expected)
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    if layout == "value_bins":
        assert all(np.array_equal(one.bins, other.bins) for one, other in zip(found, expected, strict=True))


def test_the_state_of_another_stream_is_refused(snapshot):
    state = snapshot.stream(minibatch_size=10).state_dict()
    for options in (
        {"minibatch_size": 11},
        {"minibatch_size": 10, "seed": 1},
        {"minibatch_size": 10, "layout": "dense"},
    ):
        with pytest.raises(UsageError, match="another stream"):
            snapshot.stream(**options).load_state_dict(state)


@pytest.mark.parametrize("n_threads", [1, 5])
def test_the_number_of_threads_changes_nothing(snapshot, monkeypatch, n_threads):
    expected = drawn(snapshot.stream(minibatch_size=30, **SMALL))
    monkeypatch.setattr(shards, "_n_threads", lambda: n_threads)
    monkeypatch.setattr(shards, "_CHUNKS_PER_TASK", 1)
    found = drawn(snapshot.stream(minibatch_size=30, **SMALL))
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_without_reuse_minibatches_can_be_kept(snapshot):
    kept = list(snapshot.stream(minibatch_size=20, **SMALL))
    for minibatch in kept:
        assert np.array_equal(minibatch.to_csr().toarray(), snapshot.counts(minibatch.rows, GENES).toarray())


def test_reused_buffers_hold_a_minibatch_until_the_next_one(snapshot):
    for minibatch in snapshot.stream(minibatch_size=20, reuse_buffers=True, **SMALL):
        assert np.array_equal(minibatch.to_csr().toarray(), snapshot.counts(minibatch.rows, GENES).toarray())


# --- weights, readers, labels -------------------------------------------------------------------------------------


def test_cells_are_drawn_in_proportion_to_their_weights(snapshot):
    is_kang = (snapshot.cells["dataset_id"] == "kang").to_numpy()
    weights = np.where(is_kang, 1 / 150, 9 / 90)
    stream = snapshot.stream(minibatch_size=100, weights=weights, n_draws=20_000, **SMALL)
    rows = np.concatenate([minibatch.rows for minibatch in drawn(stream)])
    assert len(rows) == 20_000
    assert abs(is_kang[rows].mean() - 0.1) < 0.01
    early, late = rows[:10_000], rows[10_000:]
    assert abs(is_kang[early].mean() - is_kang[late].mean()) < 0.04, "a class comes evenly over the epoch"
    with pytest.raises(UsageError, match="for each of the 240 cells"):
        snapshot.stream(weights=np.ones(3))
    with pytest.raises(UsageError, match="give weights"):
        snapshot.stream(n_draws=5)


def test_weights_belong_to_the_cells_in_the_order_given(snapshot):
    cells = np.array([200, 3, 100])
    stream = snapshot.stream(cells, weights=np.array([0.0, 0.0, 1.0]), n_draws=40, minibatch_size=40)
    (minibatch,) = drawn(stream)
    assert set(minibatch.rows.tolist()) == {100}


def test_readers_share_an_epoch_without_overlap(snapshot):
    stream = snapshot.stream(minibatch_size=16, **SMALL)
    parts = [drawn(stream.for_reader(Reader(number=number, n_readers=3))) for number in range(3)]
    assert len({len(part) for part in parts}) == 1
    assert sorted(row for part in parts for minibatch in part for row in minibatch.rows.tolist()) == list(range(240))


def test_label_codes_come_with_their_cells(snapshot):
    codes = (snapshot.cells["dataset_id"] == "kang").to_numpy().astype(np.int64)
    for minibatch in snapshot.stream(minibatch_size=50, label_codes={"dataset": codes}, **SMALL):
        assert np.array_equal(minibatch.codes["dataset"], codes[minibatch.rows])


# --- layouts ------------------------------------------------------------------------------------------------------


def test_dense_blocks_are_the_counts(snapshot):
    for minibatch in snapshot.stream(None, GENES[::-1], minibatch_size=33, layout="dense", **SMALL):
        assert np.array_equal(minibatch.dense, snapshot.counts(minibatch.rows, GENES[::-1]).toarray())


def test_ranks_are_those_of_the_rule_over_all_counts_of_the_cell(snapshot):
    rule = RankRule(tokens=np.array([7, -1, 5]), medians=np.array([2.0, 1.0, 0.5]), n_tokens=4)
    for minibatch in snapshot.stream(minibatch_size=33, layout="ranks", rank_rule=rule, panels="flag", **SMALL):
        expected = rank_tokens(
            snapshot.counts(minibatch.rows, GENES), rule, totals=minibatch.n_counts, on_panel="flagged"
        )
        assert np.array_equal(minibatch.tokens, expected[0])
        assert np.array_equal(minibatch.lengths, expected[1])
    with pytest.raises(UsageError, match="no rule was given for 3 genes"):
        snapshot.stream(layout="ranks")


def test_cells_of_a_panel_are_not_ranked_unless_the_stream_says_so(snapshot):
    rule = RankRule(tokens=np.array([7, -1, 5]), medians=np.array([2.0, 1.0, 0.5]), n_tokens=4)
    with pytest.raises(RefusedError, match="it measures 3 genes, and a rank among all genes needs 5,000"):
        snapshot.stream(layout="ranks", rank_rule=rule)
    flagged = snapshot.stream(layout="ranks", rank_rule=rule, panels="flag")
    assert [flag.split(":")[0] for flag in flagged.flags] == list(snapshot.entries)
    plain = snapshot.stream()
    assert plain.flags == ()
    with pytest.raises(RefusedError, match="cannot be ranked"):
        plain.with_options(StreamOptions(layout="ranks", rank_rule=rule))


def test_value_bins_do_not_depend_on_order_or_company(snapshot):
    def bins(seed, size):
        stream = snapshot.stream(minibatch_size=size, layout="value_bins", n_bins=5, seed=seed, **SMALL)
        return {
            int(row): minibatch.bins[minibatch.indptr[at] : minibatch.indptr[at + 1]].tolist()
            for minibatch in drawn(stream)
            for at, row in enumerate(minibatch.rows)
        }

    assert bins(0, 10) == bins(0, 37)
    assert bins(0, 10) != bins(1, 10)


def test_value_bins_are_those_of_the_encoder(snapshot):
    stream = snapshot.stream(minibatch_size=50, layout="value_bins", ties="lower", n_bins=6, **SMALL)
    for minibatch in stream:
        keys = np.zeros(minibatch.n_cells, dtype=np.uint64)
        expected = value_bins(minibatch.to_csr(), cell_keys=keys, gene_keys=keys_of(GENES), n_bins=6, ties="lower")
        assert np.array_equal(minibatch.bins, expected.data)


def test_unmeasured_genes_are_refused_or_skipped_but_never_dense_zeros(snapshot):
    genes = ("G-CD3D", "G-NOWHERE")
    with pytest.raises(UnmeasuredGeneError, match="G-NOWHERE"):
        snapshot.stream(None, genes)
    with pytest.raises(UsageError, match="cannot tell an unmeasured gene"):
        snapshot.stream(None, genes, layout="dense", unmeasured="skip")
    for minibatch in snapshot.stream(None, genes, unmeasured="skip", minibatch_size=100, **SMALL):
        expected = snapshot.counts(minibatch.rows, genes[:1]).toarray()
        assert np.array_equal(minibatch.to_csr().toarray()[:, :1], expected)


def test_unknown_layouts_and_sizes_are_refused(snapshot):
    with pytest.raises(UsageError, match="minibatch_size is 0"):
        drawn(snapshot.stream(minibatch_size=0))


def test_a_number_that_would_not_fit_is_refused_and_never_wrapped_or_rounded(tmp_path, make):
    atlas = create_atlas(tmp_path / "atlas")
    large = np.array([[2**30, 0, 0, 2**30, 0], [2**24 + 1, 0, 0, 0, 0]])
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", csr_matrix(large)))])
    snapshot = atlas.freeze()
    with pytest.raises(UsageError, match=r"over 2,147,483,647 counts \(kang:.*snapshot\.counts"):
        drawn(snapshot.stream())
    (minibatch,) = drawn(snapshot.stream(np.array([1])))
    assert minibatch.counts.tolist() == [2**24 + 1]
    with pytest.raises(UsageError, match="a count is 16,777,217; dense blocks hold float32"):
        drawn(snapshot.stream(np.array([1]), layout="dense"))


@pytest.mark.parametrize("largest", [2**32 + 7, 2**40])
def test_one_count_of_64_bits_keeps_no_other_cell_from_being_streamed(tmp_path, make, largest):
    atlas = create_atlas(tmp_path / "atlas")
    counts = np.array([[3, 0, 1, 0, 2], [largest, 0, 0, 0, 0], [0, 2**31 - 1, 0, 0, 0]])
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", csr_matrix(counts)))])
    snapshot = atlas.freeze()
    with pytest.raises(UsageError, match="over 2,147,483,647 counts"):
        drawn(snapshot.stream())
    genes = snapshot.measured_genes("kang")
    (minibatch,) = drawn(snapshot.stream(np.array([0, 2]), genes=genes))
    assert np.array_equal(minibatch.to_csr().toarray(), snapshot.counts(minibatch.rows, genes).toarray())
    assert minibatch.n_counts.tolist() == [counts[row].sum() for row in minibatch.rows]


# --- quality and damage -------------------------------------------------------------------------------------------


def test_the_shuffle_is_compared_with_a_perfect_one(snapshot):
    good = snapshot.stream(minibatch_size=40, unit_chunks=1, pool_entries=10_000).shuffle_quality()
    assert good["ratio"] > 0.95
    poor = snapshot.stream(minibatch_size=40, unit_chunks=100, pool_entries=1).shuffle_quality()
    assert poor["ratio"] < 0.5, "whole data sets one behind the other must not pass for a shuffle"
    alone = np.flatnonzero((snapshot.cells["dataset_id"] == "kang").to_numpy())
    assert snapshot.stream(alone, minibatch_size=40).shuffle_quality()["ratio"] == 1.0


def test_damage_stops_the_stream_and_is_never_zeros(snapshot, tmp_path):
    shutil.copytree(snapshot.layout.root, tmp_path / "copy")
    again = open_atlas(tmp_path / "copy").snapshot()
    stream = again.stream(minibatch_size=30, **SMALL)
    target = min((tmp_path / "copy" / "partitions").glob("*/X/data/c/1"))
    content = bytearray(target.read_bytes())
    content[20] ^= 1
    target.write_bytes(content)
    with pytest.raises(IntegrityError, match="X/data"):
        drawn(stream)
