import dataclasses

import numpy as np
import pytest

from cytolabe.errors import LeakageError, ModelFailedError, UnmeasuredGeneError
from cytolabe.models.scopes import batch_levels, fit_scope, refuse_not_finite, refuse_other_genes, refuse_shared_cells
from cytolabe.provenance import cells_digest


def test_scope_digest_is_the_one_that_the_audit_computes():
    scope = fit_scope("step", ["b", "a", "a"])
    assert scope.cells_digest == cells_digest(["a", "b"])
    assert scope.n_cells == 2


def test_batches_of_the_same_name_in_two_data_sets_stay_two(make_train, make_query):
    train, query = make_train(4, batches=("b1",)), make_query(4, batches=("b1",))
    assert set(batch_levels(train.technical)).isdisjoint(batch_levels(query.technical))


def test_cell_in_both_views_is_leakage(make_train, make_query):
    train = make_train(6)
    query = make_query(3, cell_ids=np.array(["lab1:c2", "x:1", "x:2"], dtype=object))
    with pytest.raises(LeakageError, match=r"1 cell\(s\).*lab1:c2"):
        refuse_shared_cells(train, query)


def test_cells_whose_vector_is_not_finite_are_counted_and_refused():
    embedding = np.zeros((4, 2), dtype=np.float32)
    refuse_not_finite(embedding, model="A")
    embedding[[1, 3], [0, 1]] = np.nan, np.inf
    with pytest.raises(ModelFailedError, match=r"^A gave values that are not finite for 2 of 4 cells\.$"):
        refuse_not_finite(embedding, model="A")


def test_missing_gene_is_refused_and_not_read_as_zero(make_query):
    query = make_query(3)
    fewer = dataclasses.replace(query, genes=query.genes[1:], counts=query.counts[:, 1:])
    with pytest.raises(UnmeasuredGeneError, match="1 missing"):
        refuse_other_genes(fewer, query.genes)


def test_genes_in_another_order_are_refused(make_query):
    query = make_query(3)
    with pytest.raises(UnmeasuredGeneError, match="another order"):
        refuse_other_genes(dataclasses.replace(query, genes=query.genes[::-1]), query.genes)
