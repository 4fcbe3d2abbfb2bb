"""Training caches: the same cells and counts as the stream that they were written from, or an error."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import sha256_of_file
from cytolabe.snapshot import cache_pools
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


@pytest.fixture(params=["kernel", "python"])
def either_reader(request, monkeypatch):
    """Read blocks as they are read where the kernels find their libraries, and where they do not."""
    if request.param == "python":
        monkeypatch.setattr(cache_pools, "is_native", lambda: False)


@pytest.mark.usefixtures("either_reader")
@pytest.mark.parametrize("n_cells", [1, 15, 16, 17, 240])
def test_blocks_of_a_packed_cache_are_read_whole_and_in_part(snapshot, tmp_path, n_cells):
    weights = np.zeros(n_cells)
    weights[:: max(1, n_cells // 7)] = 1.0
    for plain in (
        snapshot.stream(np.arange(n_cells), minibatch_size=7),
        snapshot.stream(np.arange(n_cells), minibatch_size=7, weights=weights, n_draws=60),
    ):
        steps = drawn(snapshot.cached_stream(plain, path=tmp_path))
        assert sum(step.n_cells for step in steps) == (n_cells if plain.weights is None else 60)
        for step in steps:
            expected = snapshot.counts(step.rows, plain.genes)
            assert np.array_equal(step.to_csr().toarray(), expected.toarray())


@pytest.mark.usefixtures("either_reader")
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("packed", "cells.bin"), ("raw", "entries.bin"), ("packed", "offsets.bin"), ("packed", "crc32c.bin"),
        ("packed", "indptr.bin"), ("raw", "rows.bin"), ("raw", "totals.bin"),
    ],
)  # fmt: skip
def test_a_flipped_bit_of_a_cache_is_an_error(snapshot, tmp_path, kind, name):
    snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    (path,) = tmp_path.rglob(name)
    intact = path.read_bytes()
    for place in (0, 21, len(intact) // 2, len(intact) - 1):
        content = bytearray(intact)
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"remove the directory|changed"):
            drawn(snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path))
    path.write_bytes(intact)
    assert drawn(snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path))


@pytest.mark.parametrize(("kind", "name"), [("packed", "cells.bin"), ("raw", "entries.bin")])
def test_a_cache_that_is_cut_off_is_an_error(snapshot, tmp_path, kind, name):
    stream = snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    (path,) = tmp_path.rglob(name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="missing or cut off"):
        snapshot.cached_stream(snapshot.stream(minibatch_size=20), kind=kind, path=tmp_path)
    if kind == "packed":
        path.unlink()
        with pytest.raises(IntegrityError, match="missing or cut off"):
            drawn(stream)


def test_packed_bytes_that_are_sealed_and_make_no_cells_are_an_error(snapshot, tmp_path):
    snapshot.cached_stream(snapshot.stream(minibatch_size=20), path=tmp_path)
    (path,) = tmp_path.rglob("cells.bin")
    path.write_bytes(bytes(len(path.read_bytes())))
    offsets = np.frombuffer((path.parent / "offsets.bin").read_bytes(), dtype="<i8")
    checks = [cache_pools.crc_of(bytes(high - low)) for low, high in pairwise([*offsets[:-1:16].tolist(), offsets[-1]])]
    (path.parent / "crc32c.bin").write_bytes(np.array(checks, dtype="<u4").tobytes())
    document = json.loads((path.parent / "cache.json").read_bytes())
    document["files"]["crc32c.bin"] = sha256_of_file(path.parent / "crc32c.bin")
    (path.parent / "cache.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="not packed as its format says"):
        drawn(snapshot.cached_stream(snapshot.stream(minibatch_size=20), path=tmp_path))


def test_a_cache_of_another_format_is_refused_with_the_way_out(snapshot, tmp_path):
    snapshot.cached_stream(snapshot.stream(minibatch_size=20), path=tmp_path)
    (path,) = tmp_path.rglob("cache.json")
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "format": "cytolabe/training-cache/1"}))
    with pytest.raises(IntegrityError, match=r"cache/1.*cache/2 is read here; remove the directory"):
        snapshot.cached_stream(snapshot.stream(minibatch_size=20), path=tmp_path)


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
    shutil.copytree(next(caches.iterdir()), old := caches / ("0" * 64))
    document = json.loads((old / "cache.json").read_bytes())
    (old / "cache.json").write_text(json.dumps({**document, "format": "cytolabe/training-cache/1"}))
    assert free_unreachable(atlas, grace_seconds=0.0).objects == (f"cache/{old.name}",), "nobody reads the old format"
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
