"""Genes of a fold: unmeasured is never zero, and what a policy costs is printed."""

import numpy as np
import pytest

from cytolabe.evaluate.gene_space import LINEAGE_MARKERS, gene_spaces, gene_spaces_table

T, B = "CL:0000084", "CL:0000236"


def _rows(study, name):
    return np.flatnonzero(study.snapshot.cells["dataset_id"] == name)


@pytest.fixture(scope="module")
def study(simulated_study, lab):
    return simulated_study(
        lab_a=lab(types={T: 10, B: 10}, genes=range(300)),
        lab_b=lab(types={T: 10, B: 10}, genes=range(100, 400)),
        lab_c=lab(types={T: 10, B: 10}, genes=range(250, 500)),
    )


def _spaces(study, policy, labelled=("lab_a", "lab_b")):
    train = np.concatenate([_rows(study, "lab_a"), _rows(study, "lab_b")])
    chosen = np.concatenate([_rows(study, name) for name in labelled])
    return gene_spaces(
        study.snapshot, policy, split="s", train_rows=train, labelled_rows=chosen, query_rows=_rows(study, "lab_c")
    )


def test_the_intersection_is_what_all_labelled_sides_measure(study):
    (space,) = _spaces(study, "intersection")
    assert space.n_genes == 50
    assert space.is_panel
    for name in ("lab_a", "lab_b", "lab_c"):
        assert set(space.genes) <= set(study.snapshot.measured_genes(name))


def test_an_unlabelled_data_set_never_narrows_the_genes_and_is_listed(study):
    (space,) = _spaces(study, "intersection", labelled=("lab_b",))
    assert space.n_genes == 150
    assert space.left_out == ("lab_a",)
    assert space.train_datasets == ("lab_b",)


def test_pairwise_makes_one_space_per_reference(study):
    spaces = _spaces(study, "pairwise")
    assert [(space.train_datasets, space.n_genes) for space in spaces] == [(("lab_a",), 50), (("lab_b",), 150)]


def test_the_share_of_counts_kept_is_computed_from_the_counts(study):
    (space,) = _spaces(study, "intersection")
    row = next(row for row in space.rows if row.dataset_id == "lab_a")
    matrix = study.snapshot.matrices["lab_a"].toarray()
    assert row.counts_kept_fraction == pytest.approx(matrix[:, 250:300].sum() / matrix.sum())
    assert row.median_counts_left == np.median(matrix[:, 250:300].sum(axis=1))
    assert len(gene_spaces_table([space])) == 3


def test_absent_lineage_markers_are_named(study):
    (space,) = _spaces(study, "intersection")
    assert space.absent_markers == tuple(LINEAGE_MARKERS)


def test_native_has_no_common_space(study):
    assert _spaces(study, "native") == ()
