"""Remembered counts are those of the snapshot, cell for cell, and a reader cannot spoil them for the next one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.apply.counts import RememberedCounts
from cytolabe.errors import UnmeasuredGeneError
from cytolabe.snapshot.view import SnapshotView
from cytolabe.testing.memory import memory_snapshot

GENES = ("g0", "g1", "g2", "g3")


class Watched:
    """A snapshot that counts what is read of it."""

    def __init__(self, snapshot):
        self.snapshot, self.n_read = snapshot, 0

    def __getattr__(self, name):
        return getattr(self.snapshot, name)

    def counts(self, rows, genes):
        self.n_read += len(rows)
        return self.snapshot.counts(rows, genes)


def make_snapshot():
    rng = np.random.default_rng(0)
    matrices = {name: csr_matrix(rng.poisson(0.7, (n, 4))) for name, n in (("a", 5), ("b", 4))}
    cells = pd.DataFrame({"dataset_id": ["a"] * 5 + ["b"] * 4})
    return memory_snapshot(cells, matrices, genes={"a": GENES, "b": GENES[::-1]})


rows = st.lists(st.integers(0, 8), max_size=12).map(lambda found: np.array(found, dtype=np.int64))


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(st.tuples(rows, st.permutations(GENES), st.integers(0, 4)), max_size=6), budget=st.integers(0, 2000)
)
def test_whatever_was_asked_before_the_counts_are_those_of_the_snapshot(asked, budget):
    snapshot = make_snapshot()
    remembered = RememberedCounts(snapshot, budget_bytes=budget)
    for wanted, genes, n_genes in asked:
        found, expected = remembered.counts(wanted, genes[:n_genes]), snapshot.counts(wanted, genes[:n_genes])
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.toarray(), expected.toarray())


def test_each_cell_is_read_once_for_a_list_of_genes():
    watched = Watched(make_snapshot())
    remembered = RememberedCounts(watched)
    for wanted in ([0, 1, 5], [5, 0], [1, 2, 8], [0, 1, 2, 5, 8]):
        remembered.counts(np.array(wanted), GENES)
    assert watched.n_read == 5


def test_a_model_that_is_handed_no_gene_reads_nothing():
    watched = Watched(make_snapshot())
    assert RememberedCounts(watched).counts(np.arange(9), ()).shape == (9, 0)
    assert watched.n_read == 0


def test_what_one_reader_does_to_its_counts_does_not_reach_the_next():
    remembered = RememberedCounts(make_snapshot())
    first = remembered.counts(np.arange(9), GENES)
    expected = first.toarray()
    first.data[:] = 99
    np.testing.assert_array_equal(remembered.counts(np.arange(9), GENES).toarray(), expected)


def test_it_is_a_snapshot_in_all_else_and_refuses_what_the_snapshot_refuses():
    snapshot = make_snapshot()
    remembered = RememberedCounts(snapshot)
    assert isinstance(remembered, SnapshotView)
    for name in ("snapshot_id", "datasets", "mappings", "gene_reference", "ontology_release"):
        assert getattr(remembered, name) == getattr(snapshot, name)
    assert remembered.cells is snapshot.cells
    assert remembered.measured_genes("a") == snapshot.measured_genes("a")
    with pytest.raises(UnmeasuredGeneError):
        remembered.counts(np.arange(9), ("g0", "absent"))
