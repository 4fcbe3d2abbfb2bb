"""Training caches: the same cells and counts as the stream that they were written from, or an error."""

import shutil

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.epoch import Reader
from cytolabe.snapshot.purge import purge_withdrawn
from cytolabe.snapshot.upkeep import expire_revisions, free_unreachable
from cytolabe.snapshot.withdraw import withdraw_person

GENES = ("G-CD3D", "G-MS4A1", "G-NKG7")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory, make):
    rng = np.random.default_rng(5)
    atlas = create_atlas(tmp_path_factory.mktemp("caches") / "atlas")
    kang = rng.integers(0, 3, size=(150, 5))
    kang[7] = 0
    for name, matrix in (("kang", kang), ("zheng", rng.integers(0, 60_000, size=(90, 3)))):
        atlas.publish([write_dataset(atlas.path, content=make.content(name, csr_matrix(matrix)))])
    return atlas.freeze()


def drawn(stream):
    return [minibatch.copy() for minibatch in stream]


@pytest.mark.parametrize("kind", ["packed", "raw"])
@pytest.mark.parametrize("genes", [None, GENES[::-1], GENES[1:]])
def test_a_cache_holds_the_counts_of_the_snapshot_in_the_genes_of_the_stream(snapshot, tmp_path, kind, genes):
    cells = np.arange(3, 240, 2)
    stream = snapshot.cached_stream(snapshot.stream(cells, genes, minibatch_size=25), kind=kind, path=tmp_path)
    rows = []
    for minibatch in stream:
        expected = snapshot.counts(minibatch.rows, stream.genes)
        assert np.array_equal(minibatch.to_csr().toarray(), expected.toarray())
        assert np.array_equal(minibatch.n_counts, snapshot.cells["n_counts"].to_numpy()[minibatch.rows])
        assert (np.diff(minibatch.columns)[np.diff(minibatch.columns) < 0].size) < minibatch.n_cells
        rows += minibatch.rows.tolist()
    assert sorted(rows) == cells.tolist()
    assert rows != sorted(rows)


@pytest.mark.parametrize("kind", ["packed", "raw"])
def test_what_is_asked_of_a_stream_is_asked_of_its_cache(snapshot, tmp_path, kind):
    weights = np.where(np.arange(240) < 100, 1.0, 0.0)
    plain = snapshot.stream(minibatch_size=20, weights=weights, n_draws=300, layout="value_bins", n_bins=5)
    cached = snapshot.cached_stream(plain, kind=kind, path=tmp_path)
    steps = drawn(cached)
    assert sum(minibatch.n_cells for minibatch in steps) == 300
    assert max(minibatch.rows.max() for minibatch in steps) < 100
    bins = {int(m.rows[0]): m.bins[: m.indptr[1]].tolist() for m in steps}
    for minibatch in drawn(plain):
        row = int(minibatch.rows[0])
        if row in bins:
            assert minibatch.bins[: minibatch.indptr[1]].tolist() == bins[row]
    unweighted = snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    parts = [drawn(unweighted.for_reader(Reader(number=number, n_readers=2))) for number in range(2)]
    assert sorted(row for part in parts for step in part for row in step.rows.tolist()) == list(range(240))


@pytest.mark.parametrize("kind", ["packed", "raw"])
def test_a_cache_is_written_once_and_another_question_is_another_cache(snapshot, tmp_path, kind):
    first = snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    (directory,) = tmp_path.iterdir()
    before = (directory / "cache.json").stat().st_mtime_ns
    again = snapshot.cached_stream(snapshot.stream(minibatch_size=60, layout="dense"), kind=kind, path=tmp_path)
    assert (directory / "cache.json").stat().st_mtime_ns == before
    assert len(list(tmp_path.iterdir())) == 1
    assert again.shuffle_quality()["ratio"] > 0.9
    for other in (snapshot.stream(seed=1), snapshot.stream(np.arange(50)), snapshot.stream(None, GENES[:2])):
        snapshot.cached_stream(other, kind=kind, path=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    state = first.state_dict()
    again = snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    again.load_state_dict(state)


@pytest.mark.parametrize(("kind", "name"), [("raw", "entries.bin"), ("packed", "X/data/c/0"), ("raw", "rows.bin")])
def test_a_flipped_bit_of_a_cache_is_an_error(snapshot, tmp_path, kind, name):
    snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    (path,) = [path for path in tmp_path.rglob(name.rsplit("/", maxsplit=1)[-1]) if path.as_posix().endswith(name)]
    content = bytearray(path.read_bytes())
    content[21] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        drawn(snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path))


@pytest.mark.parametrize("kind", ["packed", "raw"])
def test_a_cache_without_its_document_or_cut_off_is_an_error_and_can_be_written_again(snapshot, tmp_path, kind):
    snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    (directory,) = tmp_path.iterdir()
    (directory / "cache.json").unlink()
    with pytest.raises(IntegrityError, match="no readable"):
        snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    shutil.rmtree(directory)
    snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)


def test_raw_caches_refuse_what_16_bits_do_not_hold(make, tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    atlas.publish([write_dataset(atlas.path, content=make.content("zheng", csr_matrix(np.full((20, 3), 70_000))))])
    snapshot = atlas.freeze()
    with pytest.raises(UsageError, match="holds 16 bits"):
        snapshot.cached_stream(snapshot.stream(), kind="raw")
    assert list((tmp_path / "atlas" / "cache").iterdir()) == [], "a refused cache leaves nothing behind"
    stream = snapshot.cached_stream(snapshot.stream(), kind="packed")
    assert np.concatenate([minibatch.counts for minibatch in drawn(stream)]).max() == 70_000
    with pytest.raises(UsageError, match="packed or raw"):
        snapshot.cached_stream(snapshot.stream(), kind="fast")


def test_a_cache_goes_when_its_cells_are_purged_and_when_nobody_names_its_snapshot(make, tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    for name in ("kang", "zheng"):
        atlas.publish([write_dataset(atlas.path, content=make.content(name))])
    first = atlas.freeze()
    first.cached_stream(first.stream(), kind="raw")
    caches = tmp_path / "atlas" / "cache"
    assert free_unreachable(atlas, grace_seconds=0.0).objects == ()
    expire_revisions(atlas, keep=1)
    atlas.publish([write_dataset(atlas.path, content=make.content("zheng", make.matrix("zheng", 5)))])
    second = atlas.freeze()
    second.cached_stream(second.stream(), kind="packed")
    expire_revisions(atlas, keep=1)
    freed = free_unreachable(atlas, grace_seconds=0.0).objects
    assert sum(name.startswith("cache/") for name in freed) == 1
    assert len(list(caches.iterdir())) == 1
    withdraw_person(atlas, donor=("kang", "d1"))
    purge_withdrawn(atlas)
    assert not caches.exists(), "a cache would keep the counts of a person who is purged"


def test_a_stream_of_another_snapshot_is_refused(make, snapshot, tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    atlas.publish([write_dataset(atlas.path, content=make.content("kang"))])
    with pytest.raises(UsageError, match="other cells in the other"):
        atlas.freeze().cached_stream(snapshot.stream())
