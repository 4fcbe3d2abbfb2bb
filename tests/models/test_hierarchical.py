"""Labels coarser than the classes teach what they know and no more."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from cytolabe.errors import RefusedError, UnresolvedLabelError, UsageError
from cytolabe.models.extras import is_installed
from cytolabe.models.hierarchical import MARGINAL, HierarchicalLogisticRegression, hierarchical_cross_entropy
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of, marginal_probability
from cytolabe.randomness import rng_for

CL = load_ontology()
T, CD4, CD8, NAIVE_CD4, MEMORY_CD4 = "CL:0000084", "CL:0000624", "CL:0000625", "CL:0000895", "CL:0000897"
B, MONO, CLASSICAL, NONCLASSICAL, NEURON = "CL:0000236", "CL:0000576", "CL:0000860", "CL:0000875", "CL:0000540"
FINE = (NAIVE_CD4, MEMORY_CD4, CD8, B, CLASSICAL, NONCLASSICAL)
TREE = hierarchy_of((*FINE, T, CD4, MONO, "CL:0000000"), ontology=CL)
FLAT = hierarchy_of(FINE, ontology=CL)
PARENT = {NAIVE_CD4: CD4, MEMORY_CD4: CD4, CD8: T, B: B, CLASSICAL: MONO, NONCLASSICAL: MONO}

scores_and_codes = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.floats(-30, 30), min_size=6, max_size=6), min_size=n, max_size=n).map(np.array),
        st.lists(st.integers(0, len(TREE.labels) - 1), min_size=n, max_size=n).map(
            lambda x: np.array(x, dtype=np.int64)
        ),
    )
)


def test_the_matrix_is_what_the_ontology_says():
    assert set(TREE.classes) == set(FINE)
    for m, label in enumerate(TREE.labels):
        for k, one in enumerate(TREE.classes):
            assert TREE.covers[m, k] == CL.is_a(one, label)
    assert TREE.covers.any(axis=1).all()


def test_a_term_that_covers_no_class_is_no_label_and_an_unlabelled_cell_is_refused():
    assert NEURON not in hierarchy_of((B, T, NEURON), ontology=CL, classes=(B, CD4)).labels
    with pytest.raises(UsageError, match="no class"):
        TREE.codes(np.array([B, ""]))
    with pytest.raises(UnresolvedLabelError, match="live terms"):
        hierarchy_of(("CL:9999999",), ontology=CL)
    with pytest.raises(UnresolvedLabelError, match="none"):
        hierarchy_of((), ontology=CL)


class TestTheLoss:
    @settings(deadline=None, max_examples=60)
    @given(drawn=scores_and_codes)
    def test_it_is_softmax_times_reachability_then_the_log(self, drawn):
        scores, codes = drawn
        loss, _ = hierarchical_cross_entropy(scores, codes, TREE)
        probability = np.exp(scores - scores.max(axis=1, keepdims=True))
        probability /= probability.sum(axis=1, keepdims=True)
        reached = (probability @ TREE.covers.T.astype(float))[np.arange(len(codes)), codes]
        if (reached > 1e-9).all():
            assert loss == pytest.approx(-np.log(reached).sum(), abs=1e-6)
        assert loss >= -1e-9
        assert np.isfinite(loss)

    @settings(deadline=None, max_examples=40)
    @given(drawn=scores_and_codes)
    def test_a_coarser_label_never_costs_more_and_the_root_costs_nothing(self, drawn):
        scores, _ = drawn

        def cost(label):
            return hierarchical_cross_entropy(scores, TREE.codes(np.array([label] * len(scores))), TREE)[0]

        assert cost(NAIVE_CD4) >= cost(CD4) - 1e-9
        assert cost(CD4) >= cost(T) - 1e-9
        assert cost("CL:0000000") == pytest.approx(0, abs=1e-9)

    @settings(deadline=None, max_examples=25)
    @given(drawn=scores_and_codes, shift=st.floats(-5, 5))
    def test_its_gradient_is_that_of_finite_differences_and_sums_to_zero(self, drawn, shift):
        scores, codes = drawn
        weights = np.linspace(0.5, 2, len(codes))

        def value(flat):
            return hierarchical_cross_entropy(flat.reshape(scores.shape), codes, TREE, weights=weights)[0]

        def slope(flat):
            return hierarchical_cross_entropy(flat.reshape(scores.shape), codes, TREE, weights=weights)[1].ravel()

        assert check_grad(value, slope, scores.ravel()) < 1e-4
        assert slope(scores.ravel()).reshape(scores.shape).sum(axis=1) == pytest.approx(0, abs=1e-9)
        assert value(scores.ravel() + shift) == pytest.approx(value(scores.ravel()), abs=1e-6)

    @pytest.mark.models
    @pytest.mark.skipif(not is_installed("torch"), reason="needs torch")
    def test_torch_gives_the_same_loss_and_gradient(self):
        import torch  # noqa: PLC0415 - an extra

        from cytolabe.models.hierarchical_torch import hierarchical_cross_entropy_torch  # noqa: PLC0415

        rng = rng_for(0, "test")
        scores = rng.normal(size=(20, 6)) * 3
        codes = rng.integers(0, len(TREE.labels), 20)
        ours, gradient = hierarchical_cross_entropy(scores, codes, TREE)
        tensor = torch.tensor(scores, requires_grad=True)
        theirs = hierarchical_cross_entropy_torch(tensor, torch.tensor(codes), TREE)
        theirs.backward()
        assert theirs.item() == pytest.approx(ours / 20)
        assert tensor.grad.numpy() == pytest.approx(gradient / 20)


def cells_of(seed, n_fine, n_coarse, *, n_dims=30):
    """Return cells around class centers that lie near those of their relatives, few labelled finely and many coarsely."""
    rng = rng_for(seed, "simulated")
    lineage = {name: rng.normal(size=n_dims) * 0.45 for name in sorted({*PARENT.values(), T})}
    center = {
        one: lineage[PARENT[one]] + (lineage[T] if PARENT[one] in {CD4, T} else 0) + rng.normal(size=n_dims) * 0.35
        for one in FINE
    }

    def drawn(n_cells):
        truth = np.repeat(FINE, n_cells)
        return np.array([center[one] for one in truth]) + rng.normal(size=(len(truth), n_dims)), truth

    fine, coarse, test = drawn(n_fine), drawn(n_coarse), drawn(150)
    coarse_labels = np.array([PARENT[one] for one in coarse[1]])
    return fine, (coarse[0], coarse_labels), test


class TestTheClassifier:
    def test_with_fine_labels_only_it_is_scikit_learns(self):
        (values, labels), _, (test, _) = cells_of(1, 30, 1)
        for weight in (None, "balanced"):
            ours = HierarchicalLogisticRegression(hierarchy=FLAT, class_weight=weight, tol=1e-7).fit(values, labels)
            theirs = LogisticRegression(C=1.0, class_weight=weight, max_iter=5000, tol=1e-8).fit(values, labels)
            assert ours.classes_.tolist() == theirs.classes_.tolist()
            assert ours.predict_proba(test) == pytest.approx(theirs.predict_proba(test), abs=2e-3)
            assert ours.notes_ == ()

    def test_coarse_labels_teach_the_borders_that_they_cross_and_nothing_within(self):
        lineage = {one: {CD4: T}.get(PARENT[one], PARENT[one]) for one in FINE}

        def lineages(terms):
            return np.array([lineage[str(term)] for term in terms])

        across, within = [], []
        for seed in range(4):
            (values, labels), (more, coarse), (test, truth) = cells_of(seed, 4, 100)
            x, y = np.vstack([values, more]), np.concatenate([labels, coarse])
            alone, both = (
                HierarchicalLogisticRegression(hierarchy=TREE).fit(*data).predict(test)
                for data in ((values, labels), (x, y))
            )
            score = [f1_score(lineages(truth), lineages(found), average="macro") for found in (alone, both)]
            across.append(score[1] - score[0])
            within.append(np.subtract(*(f1_score(truth, found, average="macro") for found in (both, alone))))
        assert min(across) > 0
        assert np.mean(across) > 0.03
        assert abs(np.mean(within)) < 0.05

    def test_the_use_of_coarse_labels_is_named(self):
        (values, labels), (more, coarse), _ = cells_of(0, 6, 10)
        model = HierarchicalLogisticRegression(hierarchy=TREE).fit(
            np.vstack([values, more]), np.concatenate([labels, coarse])
        )
        # B is a class itself, so ten of the sixty added cells are as fine as the classes.
        assert model.n_coarse_ == 50
        assert model.notes_ == (f"{MARGINAL}: 50 of 96 training cells have a label above the classes",)

    def test_a_class_without_a_cell_of_its_own_is_refused(self):
        (values, labels), _, _ = cells_of(0, 6, 1)
        lost = np.where(labels == CD8, T, labels)
        with pytest.raises(RefusedError, match=CD8):
            HierarchicalLogisticRegression(hierarchy=TREE).fit(values, lost)

    def test_a_fit_that_stops_at_the_cap_says_so(self):
        (values, labels), _, _ = cells_of(0, 6, 1)
        model = HierarchicalLogisticRegression(hierarchy=TREE, max_iter=2).fit(values, labels)
        assert model.notes_[0].startswith(NOT_CONVERGED)

    def test_two_fits_are_one_and_sums_over_classes_are_the_labels(self):
        (values, labels), (more, coarse), (test, _) = cells_of(2, 6, 20)
        x, y = np.vstack([values, more]), np.concatenate([labels, coarse])
        one, two = (HierarchicalLogisticRegression(hierarchy=TREE).fit(x, y) for _ in range(2))
        assert (one.coef_ == two.coef_).all()
        marginal = one.predict_label_proba(test)
        at = {label: m for m, label in enumerate(TREE.labels)}
        assert marginal[:, at["CL:0000000"]] == pytest.approx(1)
        assert (marginal[:, at[T]] >= marginal[:, at[CD4]] - 1e-12).all()
        assert marginal[:, at[CD4]] == pytest.approx(marginal[:, at[NAIVE_CD4]] + marginal[:, at[MEMORY_CD4]])

    def test_bad_input_is_refused(self):
        (values, labels), _, _ = cells_of(0, 6, 1)
        model = HierarchicalLogisticRegression(hierarchy=TREE)
        with pytest.raises(UsageError, match="labels"):
            model.fit(values, labels[:-1])
        with pytest.raises(RefusedError, match="finite"):
            model.fit(np.where(values > 2, np.nan, values), labels)
        with pytest.raises(UsageError, match="columns"):
            marginal_probability(np.ones((2, 3)), TREE)
