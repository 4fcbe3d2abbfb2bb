import dataclasses

import numpy as np
import pytest

from cytolabe.errors import UnmeasuredGeneError
from cytolabe.models.baselines.variable_genes import VariableGenesEmbedder
from cytolabe.models.protocols import Embedder, FittedEmbedder
from cytolabe.provenance import cells_digest


def test_cells_are_the_log_of_counts_per_ten_thousand_of_all_genes(make_train, make_query, without_counts):
    train, query = make_train(), make_query(20)
    query = dataclasses.replace(query, counts=without_counts(query.counts, [4]))
    fitted = VariableGenesEmbedder(n_top_genes=12).fit(train, query=None, seed=0)
    counts = query.counts.toarray()
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(fitted.embed(query), np.log1p(counts / totals * 1e4)[:, fitted.columns], rtol=1e-5)
    assert fitted.embed(query).shape == (20, 12)
    assert (fitted.embed(query)[4] == 0).all()
    assert isinstance(VariableGenesEmbedder(), Embedder)
    assert isinstance(fitted, FittedEmbedder)


def test_genes_are_chosen_on_training_cells_and_others_are_refused(make_train, make_query):
    train, query = make_train(), make_query(20)
    fitted = VariableGenesEmbedder().fit(train, query=None, seed=0)
    assert [(scope.step, scope.cells_digest) for scope in fitted.scopes] == [
        ("hvg/genes", cells_digest(train.cell_ids))
    ]
    assert any("genes used" in note for note in fitted.notes)
    with pytest.raises(UnmeasuredGeneError):
        fitted.embed(dataclasses.replace(query, genes=query.genes[:-1], counts=query.counts[:, :-1]))
