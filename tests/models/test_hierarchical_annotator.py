"""The hierarchical annotator: logistic regression where labels are flat, sums where a coarser label is asked for."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import UnresolvedLabelError
from cytolabe.models.baselines.pca import PcaEmbedder
from cytolabe.models.baselines.probes import fit_probe
from cytolabe.models.hierarchical import MARGINAL
from cytolabe.models.protocols import Annotator, QueryView, TrainView
from cytolabe.models.registry import make_model
from cytolabe.ontology.graph import PINNED_RELEASES

T, CD4, CD8, B, MONO = "CL:0000084", "CL:0000624", "CL:0000625", "CL:0000236", "CL:0000576"
TYPES = (CD4, CD8, B, MONO)


def views(coarse=0, seed=0):
    """Return training and query cells of four types; the first `coarse` CD4 and CD8 T cells are called T cells."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(TYPES, 40)
    rates = np.random.default_rng(1).gamma(0.5, 2.0, (4, 300))[np.repeat(np.arange(4), 40)]
    counts = csr_matrix(rng.poisson(rates).astype(np.int64))
    labels = kinds.astype(object)
    for term in (CD4, CD8):
        labels[np.flatnonzero(kinds == term)[:coarse]] = T
    shared = {
        "cell_ids": np.array([f"c{seed}-{i}" for i in range(160)], dtype=object),
        "counts": counts,
        "genes": tuple(f"ENSG{i:011d}" for i in range(300)),
        "technical": pd.DataFrame({"dataset_id": ["d"] * 160}),
    }
    return TrainView(**shared, labels=labels, persons=np.array(["p"] * 160)), QueryView(**shared), kinds


def test_the_registry_makes_it_and_its_card_names_the_release_of_the_ontology():
    model = make_model("hierarchical", n_dims=10)
    assert isinstance(model, Annotator)
    assert PINNED_RELEASES["CL"] in model.card.source


def test_with_flat_labels_it_is_the_logistic_probe_on_the_same_components():
    train, _, _ = views()
    _, query, kinds = views(seed=5)
    fitted = make_model("hierarchical", n_dims=10).fit(train, query=None, seed=0)
    pca = PcaEmbedder(n_dims=10).fit(train, query=None, seed=0)
    probe = fit_probe("logistic", pca.embed(train), train.labels, seed=0)
    expected = probe.predict_probability(pca.embed(query))
    found = fitted.predict(query)
    assert found.classes == expected.classes
    np.testing.assert_allclose(found.probability, expected.probability, atol=5e-3)
    assert not [note for note in fitted.notes if MARGINAL in note]
    assert (np.array(found.classes)[found.probability.argmax(axis=1)] == kinds).mean() > 0.9


def test_coarse_labels_are_used_and_named_and_the_probability_of_a_coarse_label_is_the_sum_of_its_classes():
    train, _, _ = views(coarse=30)
    _, query, _ = views(seed=5)
    fitted = make_model("hierarchical", n_dims=10).fit(train, query=None, seed=0)
    assert [note for note in fitted.notes if note.startswith(f"{MARGINAL}: 60 of 160")]
    found = fitted.predict(query)
    assert T not in found.classes
    labels, probability = fitted.predict_labels(query)
    both = [found.classes.index(term) for term in (CD4, CD8)]
    np.testing.assert_allclose(probability[:, labels.index(T)], found.probability[:, both].sum(axis=1))


def test_unlabelled_cells_move_nothing_and_a_label_that_is_no_term_is_refused():
    train, query, _ = views()
    labels = train.labels.copy()
    labels[::4] = ""
    part = TrainView(
        cell_ids=train.cell_ids, counts=train.counts, genes=train.genes, technical=train.technical, labels=labels,
        persons=train.persons,
    )  # fmt: skip
    fitted = make_model("hierarchical").fit(part, query=None, seed=0)
    assert {scope.n_cells for scope in fitted.scopes} == {120}
    labels[1] = "T cells"
    with pytest.raises(UnresolvedLabelError, match="live terms"):
        make_model("hierarchical").fit(part, query=query, seed=0)
