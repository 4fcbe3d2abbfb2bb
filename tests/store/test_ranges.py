"""Ranges of objects come back in order, whatever was fetched together, and what is lost is never made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe import files
from cytolabe.errors import IntegrityError
from cytolabe.records import Block
from cytolabe.store import array_spec, ranges, writing
from cytolabe.store.partitions import Partition, partition_path, write_partitions
from cytolabe.store.ranges import fetched

pytest.importorskip("obstore")
CONTENT = np.random.default_rng(0).bytes(5000)


@given(
    cuts=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5000), st.integers(0, 300)), max_size=30),
    bridged=st.integers(0, 400),
    largest=st.integers(1, 1000),
)
def test_every_range_is_returned_in_order(cuts, bridged, largest):
    place = files.place_of("memory://ranges/x")
    for number in range(2):
        files.replace_file(place / str(number), CONTENT[number:])
    wanted = [(place / str(number), start, min(start + length, 5000 - number)) for number, start, length in cuts]
    wanted = [(path, min(start, stop), stop) for path, start, stop in wanted]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranges, "_BRIDGED_BYTES", bridged)
        patched.setattr(ranges, "_REQUEST_BYTES", largest)
        found = list(fetched(wanted))
    assert found == [CONTENT[int(path.name) :][start:stop] for path, start, stop in wanted]


def test_a_lost_or_shortened_object_is_an_integrity_error():
    place = files.place_of("memory://ranges/short")
    files.replace_file(place, b"0123")
    with pytest.raises(IntegrityError, match="cut off"):
        list(fetched([(place, 2, 6)]))
    with pytest.raises(IntegrityError, match="is missing"):
        list(fetched([(place / "lost", 2, 6)]))


def test_a_partition_in_an_object_store_is_read_in_few_requests(tmp_path, monkeypatch):
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 64)
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 64 * 64)
    counts = csr_matrix(np.random.default_rng(1).integers(0, 3, size=(400, 60)))
    names = tuple(f"c{row}" for row in range(400))
    features = tuple(f"g{column:03}" for column in range(60))
    place = files.place_of(f"memory://ranges/{tmp_path.name}")
    block = Block(dataset_id="a", start=0, cell_names=names, counts=counts)
    (entry,) = write_partitions(place, [block], dataset_id="a", features=features)
    partition = Partition(partition_path(place, entry.digest))
    assert partition.features == features
    asked = []
    store = files.objects._store
    monkeypatch.setattr(files.objects, "_store", lambda path: asked.append(path) or store(path))
    rows = np.random.default_rng(2).permutation(400)
    assert (partition.rows(rows) != counts[rows]).nnz == 0
    n_shards = -(-counts.nnz // (64 * 64))
    # Of each of two arrays and each of their shards: its size, its index, its chunks.
    assert len(asked) == 2 * 3 * n_shards
    asked.clear()
    assert (partition.rows(rows[:50]) != counts[rows[:50]]).nnz == 0
    assert len(asked) <= 2 * n_shards
    assert partition.verify() == ()


def test_who_comes_second_with_a_partition_records_the_bytes_of_the_first(monkeypatch, tmp_path):
    """Two writers of equal counts and other codecs: the entry of the second must not name bytes that are not there."""
    counts = csr_matrix(np.eye(4, 3, dtype=np.int64))
    block = Block(dataset_id="a", start=0, cell_names=("a", "b", "c", "d"), counts=counts)
    place = files.place_of(f"memory://ranges/{tmp_path.name}")
    publish, first = writing.publish_directory, []

    def overtaken(staged, target):
        if not first:
            monkeypatch.setattr(writing, "publish_directory", publish)
            with monkeypatch.context() as other:
                other.setattr(array_spec, "CHUNK_VALUES", 64)
                first.extend(write_partitions(place, [block], dataset_id="a", features=("x", "y", "z")))
        return publish(staged, target)

    monkeypatch.setattr(writing, "publish_directory", overtaken)
    (entry,) = write_partitions(place, [block], dataset_id="a", features=("x", "y", "z"))
    assert entry == first[0]
