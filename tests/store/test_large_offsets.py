"""Offsets beyond 32 bits: cells that lie behind more than 2^32 counts are written and read at their place.

The counts before them are a made-up cell whose shards do not exist.
"""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.records import Block
from cytolabe.store import writing
from cytolabe.store.partitions import Partition, partition_path
from cytolabe.store.plan import PartitionPlan, read_plan, write_plan
from cytolabe.store.writing import seal_partition, write_shards

FEATURES = tuple(f"G{number}" for number in range(6))
BEFORE = (1 << 32) + (1 << 31)
"""Counts of the made-up cell: whole shards."""


@pytest.fixture
def partition(tmp_path, monkeypatch):
    counts = np.random.default_rng(5).integers(1, 9, size=(20, len(FEATURES)))
    per_cell = [BEFORE, *[len(FEATURES)] * len(counts)]
    plan = PartitionPlan(
        dataset_id="lab",
        features=FEATURES,
        first_row=0,
        indptr=np.concatenate([[0], np.cumsum(per_cell, dtype=np.int64)]),
        largest=8,
    )
    assert BEFORE % plan.shard_values == 0
    staged = tmp_path / "staged"
    write_plan(staged, plan)
    plan = read_plan(staged)
    last = (plan.n_shards - 1, plan.n_shards)
    assert plan.cells_of_shards(*last) == (1, 21)
    names = tuple(f"cell{row}" for row in range(1, 21))
    block = Block(dataset_id="lab", start=1, cell_names=names, counts=csr_matrix(counts))
    write_shards(staged, plan, shards=last, blocks=[block])
    monkeypatch.setattr(writing, "missing_shards", lambda *_: [])
    entry = seal_partition(tmp_path, staged, plan, digest="sha256:" + "0" * 64, cell_names=["cell0", *names])
    assert entry.n_nonzero == BEFORE + 120
    return Partition(partition_path(tmp_path, entry.digest)), counts


def test_cells_behind_more_counts_than_32_bits_have_are_those_that_were_written(partition):
    stored, counts = partition
    rows = np.array([20, 1, 7])
    assert np.array_equal(stored.rows(rows).toarray(), counts[rows - 1])
    columns, values = np.empty(120, np.int32), np.empty(120, np.int32)
    assert stored.decode(1, 21, columns=columns, counts=values) == 120
    assert np.array_equal(columns.reshape(20, 6), np.tile(np.arange(6), (20, 1)))
    assert np.array_equal(values.reshape(20, 6), counts)
