"""The strategies make what they promise, so that a property tested over them is tested over something."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.snapshot.view import CELL_COLUMNS, SnapshotView
from cytolabe.testing.strategies import cell_tables, count_matrices, gene_spaces, snapshots


@settings(deadline=None, max_examples=30)
@given(cells=cell_tables(min_cells=3))
def test_data_sets_are_sorted_and_none_is_empty(cells):
    assert len(cells) >= 3
    assert cells["dataset_id"].is_monotonic_increasing
    assert cells["dataset_id"].iloc[0] == "lab0"


@settings(deadline=None, max_examples=30)
@given(counts=count_matrices(4, 5), genes=gene_spaces(min_genes=2))
def test_no_cell_is_empty_and_genes_are_unique(counts, genes):
    assert counts.shape == (4, 5)
    assert counts.sum(axis=1).min() >= 1
    assert len(set(genes)) == len(genes) >= 2


@settings(deadline=None, max_examples=30)
@given(snapshot=snapshots(), data=st.data())
def test_a_snapshot_answers_as_a_snapshot(snapshot, data):
    assert isinstance(snapshot, SnapshotView)
    assert list(snapshot.cells.columns) == list(CELL_COLUMNS)
    row = data.draw(st.integers(0, len(snapshot.cells) - 1))
    dataset_id = snapshot.cells["dataset_id"].iloc[row]
    counts = snapshot.counts(np.array([row]), snapshot.measured_genes(dataset_id))
    assert counts.sum() == snapshot.cells["n_counts"].iloc[row]
