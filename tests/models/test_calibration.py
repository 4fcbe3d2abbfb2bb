"""Miscalibrated scores are mended on cells that trained nothing; a coarser term never has less than one below it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from cytolabe.errors import RefusedError
from cytolabe.metrics import expected_calibration_error
from cytolabe.models.calibration import Calibration, fit_calibration
from cytolabe.models.novelty import MAX_REFERENCE_CELLS, N_NEAREST, novelty_rank, novelty_reference
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of

T, CD4, CD8, B, NK = "CL:0000084", "CL:0000624", "CL:0000625", "CL:0000236", "CL:0000623"
TREE = hierarchy_of((T, CD4, CD8, B, NK), ontology=load_ontology())


def planted(n_cells=6000, *, temperature=0.3, shift=(0.0, 1.5, 0.0, -1.0), seed=0):
    """Return scores that are overconfident and pushed to some classes, and the class of each cell."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n_cells, 4)) * 2
    probability = softmax(honest, axis=1)
    classes = (probability.cumsum(axis=1) < rng.uniform(size=(n_cells, 1))).sum(axis=1)
    codes = np.array([TREE.labels.index(TREE.classes[k]) for k in classes])
    return (honest - np.array(shift)) / temperature, codes, classes


def test_planted_overconfidence_and_shift_are_found_and_mended_on_other_cells():
    scores, codes, classes = planted()
    fitted = fit_calibration(scores[:3000], codes[:3000], TREE)
    assert fitted.temperature == pytest.approx(1 / 0.3, rel=0.1)
    assert np.allclose(fitted.offset - fitted.offset[0], [0.0, 1.5, 0.0, -1.0], atol=0.25)
    unseen, truth = scores[3000:], classes[3000:]

    def error(calibration):
        p = calibration.probability(unseen)
        return expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == truth)

    assert error(Calibration.identity(TREE.classes)) > 0.15
    assert error(fitted) < 0.03


def test_a_coarse_label_says_what_it_can():
    scores, codes, classes = planted()
    in_t = np.isin(classes, [TREE.classes.index(CD4), TREE.classes.index(CD8)])
    coarse = np.where(in_t & (np.arange(len(codes)) % 2 == 0), TREE.labels.index(T), codes)
    assert fit_calibration(scores, coarse, TREE).temperature == pytest.approx(1 / 0.3, rel=0.15)


def test_a_class_without_a_held_out_cell_keeps_its_offset():
    scores, codes, classes = planted(2000)
    known = classes != 3
    free = np.array([True, True, True, False])
    fitted = fit_calibration(scores[known], codes[known], TREE, is_free=free)
    assert fitted.offset[3] == 0.0
    assert fitted.offset[:3].any()


def test_a_cell_of_a_class_that_its_model_never_saw_cannot_be_calibrated_on():
    scores, codes, classes = planted(200)
    scores[:, 2] = -np.inf
    with pytest.raises(RefusedError, match=f"{int((classes == 2).sum())} of 200 cells"):
        fit_calibration(scores, codes, TREE)
    known = classes != 2
    fitted = fit_calibration(scores[known], codes[known], TREE)
    assert np.isfinite(fitted.temperature)
    assert not fitted.probability(scores)[:, 2].any()
    with pytest.raises(RefusedError, match="No held-out cell"):
        fit_calibration(scores[:0], codes[:0], TREE)


@settings(deadline=None, max_examples=25)
@given(
    scores=st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=1, max_size=12).map(np.array),
    temperature=st.floats(0.05, 20),
    offset=st.lists(st.floats(-8, 8), min_size=4, max_size=4).map(np.array),
)
def test_probabilities_lie_in_their_range_and_cells_do_not_see_each_other(scores, temperature, offset):
    fitted = Calibration(classes=TREE.classes, temperature=temperature, offset=offset, n_cells=1)
    p = fitted.probability(scores)
    assert ((p >= 0) & (p <= 1 + 1e-12)).all()
    assert np.allclose(p.sum(axis=1), 1)
    assert np.array_equal(fitted.probability(scores[::-1]), p[::-1])


def test_a_cell_far_from_all_training_cells_has_a_higher_rank_than_any_held_out_cell():
    rng = np.random.default_rng(3)
    reference = novelty_reference(rng.normal(size=(300, 5)), np.repeat("a", 300), rng=rng)
    held_out = reference.distance(rng.normal(size=(200, 5)))
    far, near = reference.distance(np.vstack([np.full(5, 9.0), np.zeros(5)]))
    assert novelty_rank(np.array([far, near]), held_out).tolist()[0] == 200 / 201
    assert novelty_rank(np.array([near]), held_out)[0] < 0.5
    spread = novelty_rank(reference.distance(rng.normal(size=(2000, 5))), held_out)
    assert spread.mean() == pytest.approx(0.5, abs=0.08)
    assert reference.distance(np.zeros((0, 5))).shape == (0,)


@pytest.mark.parametrize("n_held_out", [19, 20, 40, 300])
def test_of_known_cells_no_more_than_the_asked_share_is_novel_however_few_were_held_out(n_held_out):
    rng = np.random.default_rng(11)
    draws = rng.gamma(3.0, size=(4000, n_held_out + 50))
    ranks = np.array([novelty_rank(one[n_held_out:], one[:n_held_out]) for one in draws])
    # Exactly floor(0.05 (n + 1)) / (n + 1) where nothing is tied; one cell of each draw is independent of the other draws'.
    expected = np.floor(0.05 * (n_held_out + 1)) / (n_held_out + 1)
    assert (ranks >= 0.95).mean() == pytest.approx(expected, abs=0.005)
    assert expected <= 0.05


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30).map(lambda found: np.array(found, dtype=float)))
def test_a_held_out_cell_is_ranked_among_the_others_alone(held_out):
    among = novelty_rank(held_out, held_out, are_held_out=True)
    for k, distance in enumerate(held_out):
        assert among[k] == novelty_rank(np.array([distance]), np.delete(held_out, k))[0]


def test_distances_are_those_of_a_plain_search_in_the_whitened_space():
    rng = np.random.default_rng(4)
    labels = np.repeat(["a", "b"], 25)
    train, asked = rng.normal(size=(50, 3)) * [1.0, 5.0, 0.2], rng.normal(size=(7, 3))
    found = novelty_reference(train, labels, rng=rng)
    residual = train - np.array([train[labels == one].mean(axis=0) for one in labels])
    covariance = residual.T @ residual / len(train)
    inverse = np.linalg.inv(0.95 * covariance + 0.05 * np.trace(covariance) / 3 * np.eye(3))
    brute = [
        np.sort([np.sqrt((one - other) @ inverse @ (one - other)) for other in train])[:N_NEAREST].mean()
        for one in asked
    ]
    assert np.allclose(found.distance(asked), brute)
    assert np.isfinite(novelty_reference(train[:2], np.array(["a", "b"]), rng=rng).distance(asked)).all()


def test_what_varies_inside_types_is_no_novelty():
    rng = np.random.default_rng(6)
    train = rng.normal(size=(400, 2)) * [20.0, 0.5]
    reference = novelty_reference(train, np.repeat("a", 400), rng=rng)
    along, across = reference.distance(np.array([[30.0, 0.0], [0.0, 5.0]]))
    assert across > 3 * along


def test_a_large_reference_is_thinned_and_rare_labels_are_kept_whole():
    n_cells = MAX_REFERENCE_CELLS + 5000
    labels = np.array(["rare"] * 40 + ["often"] * (n_cells - 40))
    is_rare = labels == "rare"
    embedding = np.column_stack([np.arange(n_cells) / n_cells, is_rare])
    one, other = (novelty_reference(embedding, labels, rng=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.cells, other.cells)
    assert len(one.cells) == MAX_REFERENCE_CELLS
    back = one.cells @ np.linalg.inv(one.whitening)
    assert (back[:, 1] > 0.5).sum() == 40
    with pytest.raises(RefusedError, match="No training cell"):
        novelty_reference(embedding[:0], labels[:0], rng=np.random.default_rng(5))
