import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from cytolabe.errors import (
    IntegrityError,
    LeakageError,
    ModelFailedError,
    RefusedError,
    UnmeasuredGeneError,
    UnreadableInputError,
    UnresolvedLabelError,
    UsageError,
)
from cytolabe.models.extras import import_extra
from cytolabe.models.hierarchical import hierarchical_cross_entropy
from cytolabe.models.posterior import load_posterior
from cytolabe.models.protocols import Annotator, FittedAnnotator
from cytolabe.models.registry import make_model
from cytolabe.models.scanvi import ScanviAnnotator
from cytolabe.models.scanvi_files import BASE_NAME, SCANVI_KIND, load_scanvi, save_scanvi
from cytolabe.models.scvi_files import SCVI_KIND, save_scvi
from cytolabe.models.scvi_training import divide_cells
from cytolabe.models.stored import MODEL_CARD_NAME, WEIGHTS_NAME
from cytolabe.provenance import cells_digest

pytestmark = [pytest.mark.models]

TINY = ScanviAnnotator(max_epochs=3, label_epochs=3, query_epochs=2, n_hidden=16, n_latent=4)


@pytest.fixture(autouse=True, scope="module")
def _scvi_tools():
    if not all(importlib.util.find_spec(module) for module in ("scvi", "torch", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    import_extra("scvi")


def test_types_of_a_new_batch_are_found_without_its_labels(make_train, make_query, query_truth):
    rule = dataclasses.replace(TINY, max_epochs=30, label_epochs=30, n_hidden=32)
    query = make_query(batches=("new",))
    fitted = rule.fit(make_train(), query=query, seed=0)
    output = fitted.predict(query)
    found = np.array(output.classes)[output.probability.argmax(axis=1)]
    assert (found == query_truth(60)).mean() > 0.9
    np.testing.assert_allclose(output.probability.sum(axis=1), 1)
    assert isinstance(rule, Annotator)
    assert isinstance(fitted, FittedAnnotator)


def test_same_seed_gives_the_same_bits_and_steps_name_their_cells(make_train, make_query):
    query = make_query(batches=("new",))
    first, second = (TINY.fit(make_train(), query=query, seed=4) for _ in range(2))
    assert first.predict(query).probability.tobytes() == second.predict(query).probability.tobytes()
    digests = {scope.step: scope.cells_digest for scope in first.scopes}
    assert digests.pop("scanvi/query") == cells_digest(query.cell_ids)
    assert set(digests.values()) == {cells_digest(make_train().cell_ids)}
    assert first.weights_digest == second.weights_digest == first.facts.details["weights"] != first.base.weights_digest
    assert first.network_size.n_trained == first.network_size.n_parameters > first.base.network_size.n_parameters


def test_cells_of_known_batches_among_the_query_move_no_answer(make_train, make_query):
    train = make_train()
    mixed = make_query(dataset_id="lab1", batches=("b1", "new"))
    mixed = dataclasses.replace(mixed, cell_ids=np.array([f"q:{name}" for name in mixed.cell_ids], dtype=object))
    before = TINY.fit(train, query=None, seed=0).predict(train)
    mapped = TINY.fit(train, query=mixed, seed=0).predict(train)
    np.testing.assert_allclose(mapped.probability, before.probability, atol=1e-6)


@pytest.mark.parametrize("batches", [("b1", "b2"), ("b1",)], ids=["two batches", "one batch"])
def test_surgery_moves_no_answer_of_a_training_cell(make_train, make_query, batches):
    train = make_train(batches=batches)
    before = TINY.fit(train, query=None, seed=0).predict(train)
    mapped = TINY.fit(train, query=make_query(batches=("new",)), seed=0).predict(train)
    np.testing.assert_allclose(mapped.probability, before.probability, atol=1e-6)


def test_labels_do_move_the_answer_and_empty_ones_are_no_class(make_train):
    train = make_train()
    labels = train.labels.copy()
    labels[::4] = ""
    part = TINY.fit(dataclasses.replace(train, labels=labels), query=None, seed=0)
    assert part.classes == tuple(sorted(set(train.labels)))
    assert not np.allclose(
        part.predict(train).probability, TINY.fit(train, query=None, seed=0).predict(train).probability
    )


def test_what_cannot_be_answered_is_refused(make_train, make_query, without_counts):
    train, query = make_train(), make_query(20, batches=("new",))
    fitted = TINY.fit(train, query=None, seed=0)
    with pytest.raises(RefusedError, match="1 batch"):
        fitted.predict(query)
    with pytest.raises(UnmeasuredGeneError):
        fitted.predict(dataclasses.replace(query, genes=query.genes[1:], counts=query.counts[:, 1:]))
    with pytest.raises(LeakageError):
        TINY.fit(train, query=train, seed=0)
    with pytest.raises(RefusedError, match="use `majority`"):
        TINY.fit(dataclasses.replace(train, labels=np.full(150, "CL:1", dtype=object)), query=None, seed=0)
    empty = dataclasses.replace(train, counts=without_counts(train.counts, [3]))
    np.testing.assert_allclose(fitted.predict(empty).probability[3], fitted.shares)
    assert any("1 of 150 cells have no counts" in note for note in fitted.notes)


def test_epochs_are_not_chosen_on_persons_without_labels(make_train):
    train = make_train()
    labels = train.labels.copy()
    batches = np.array(["lab1|" + batch for batch in train.technical["batch"]], dtype=object)
    labels[divide_cells(train.persons, batches, seed=0)[1]] = ""
    with pytest.raises(RefusedError, match="that choose the epochs of scANVI, one side has no label"):
        TINY.fit(dataclasses.replace(train, labels=labels), query=None, seed=0)


def test_probabilities_that_are_not_finite_are_no_answer(make_train, monkeypatch):
    fitted = TINY.fit(make_train(), query=None, seed=0)
    monkeypatch.setattr("cytolabe.models.fitted_scanvi._class_probability", lambda *_: np.full((150, 3), np.nan))
    with pytest.raises(ModelFailedError, match="scANVI gave values that are not finite for 150 of 150 cells"):
        fitted.predict(make_train())


def test_a_class_none_of_whose_cells_has_a_count_is_never_answered(make_train, without_counts):
    train = make_train(120)
    labels = train.labels.copy()
    labels[:3] = "CL:0000451"
    train = dataclasses.replace(train, labels=labels, counts=without_counts(train.counts, [0, 1, 2]))
    output = TINY.fit(train, query=None, seed=0).predict(train)
    place = output.classes.index("CL:0000451")
    assert (output.probability[3:, place] == 0).all()
    np.testing.assert_allclose(output.probability.sum(axis=1), 1)


def test_a_stored_model_gives_the_same_answers_and_holds_no_pickle(make_train, make_query, tmp_path):
    train, query = make_train(), make_query(batches=("new",))
    labels = train.labels.copy()
    labels[::4] = ""
    fitted = TINY.fit(dataclasses.replace(train, labels=labels), query=query, seed=0)
    card = save_scanvi(fitted, tmp_path / "model")
    assert save_scanvi(fitted, tmp_path / "model") == card
    assert (card.name, card.scopes, card.weights_digest) == ("scanvi", fitted.scopes, fitted.facts.details["weights"])
    loaded = load_scanvi(tmp_path / "model")
    for view in (query, train):
        assert loaded.predict(view).probability.tobytes() == fitted.predict(view).probability.tobytes()
    assert (loaded.classes, loaded.scopes, loaded.batches) == (fitted.classes, fitted.scopes, fitted.batches)
    suffixes = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


@pytest.mark.parametrize("is_hierarchical", [False, True])
def test_a_stored_posterior_answers_for_the_reference_without_its_counts(half_coarse, tmp_path, without_counts, is_hierarchical):  # fmt: skip
    train = dataclasses.replace(half_coarse, counts=without_counts(half_coarse.counts, [3]))
    fitted = dataclasses.replace(TINY, hierarchical=is_hierarchical).fit(train, query=None, seed=0)
    save_scanvi(fitted, tmp_path, reference=train)
    loaded, found = load_scanvi(tmp_path), load_posterior(tmp_path, SCANVI_KIND)
    answers = loaded.predict_posterior(found)
    np.testing.assert_allclose(answers.probability, fitted.predict(train).probability, atol=1e-6)
    assert answers.classes == fitted.classes
    assert found.has_counts.tolist() == (np.arange(150) != 3).tolist()
    of_scvi = load_posterior(tmp_path / BASE_NAME, SCVI_KIND)
    assert of_scvi.mean.tobytes() == fitted.base.embed(train).tobytes()
    assert not np.allclose(of_scvi.mean[found.has_counts], found.mean[found.has_counts])
    with pytest.raises(UsageError, match="not those that the model was trained on"):
        fitted.latent_posterior(dataclasses.replace(train, cell_ids=train.cell_ids + "x"))


def test_a_stored_model_that_was_changed_is_refused(make_train, tmp_path, sign_again):
    fitted = TINY.fit(make_train(), query=None, seed=0)
    save_scanvi(fitted, tmp_path)
    weights, name = tmp_path / WEIGHTS_NAME, SCANVI_KIND.description_name
    whole = json.loads((tmp_path / name).read_bytes())
    (tmp_path / name).write_text(json.dumps({**whole, "genes": whole["genes"][::-1]}))
    with pytest.raises(IntegrityError, match=r"scanvi\.json: genes has the digest"):
        load_scanvi(tmp_path)
    sign_again(tmp_path, name, {**whole, "registered": whole["registered"][1:]})
    with pytest.raises(IntegrityError, match=r"do not fit the .* of the network"):
        load_scanvi(tmp_path)
    sign_again(tmp_path, name, {name: whole[name] for name in whole if name != "classes"})
    with pytest.raises(UnreadableInputError, match="classes"):
        load_scanvi(tmp_path)
    sign_again(tmp_path, name, whole)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"weights\.safetensors has the digest .*, expected was"):
        load_scanvi(tmp_path)


def test_a_stored_model_on_the_scvi_of_another_fit_is_refused(make_train, tmp_path):
    fitted = TINY.fit(make_train(), query=None, seed=0)
    save_scanvi(fitted, tmp_path / "model")
    other = dataclasses.replace(TINY, max_epochs=1).fit(make_train(), query=None, seed=1).base
    save_scvi(other, tmp_path / "other")
    for path in (tmp_path / "other").iterdir():
        path.replace(tmp_path / "model" / BASE_NAME / path.name)
    with pytest.raises(IntegrityError, match=r"holds a scVI with weights .*; this scANVI began with"):
        load_scanvi(tmp_path / "model")


LYMPHOCYTE = "CL:0000542"
"""Above T cell and B cell, and not above monocyte."""


@pytest.fixture
def half_coarse(make_train):
    """Return training cells of which every second T or B cell is called a lymphocyte, and some are unlabelled."""
    train = make_train()
    labels = train.labels.copy()
    labels[::2] = np.where(labels[::2] == "CL:0000576", labels[::2], LYMPHOCYTE)
    labels[5::9] = ""
    return dataclasses.replace(train, labels=labels)


def test_the_hierarchical_loss_is_softmax_times_reachability_over_the_published_logits(half_coarse):
    torch = import_extra("torch")
    fitted = dataclasses.replace(TINY, hierarchical=True).fit(half_coarse, query=None, seed=0)
    tree, module = fitted.hierarchy, fitted.model.module
    registered = [str(label) for label in fitted.model.adata_manager.get_state_registry("labels").categorical_mapping]
    labelled = np.flatnonzero(half_coarse.labels != "")
    names = half_coarse.labels[labelled].astype(str)
    batch = (half_coarse.technical["batch"].to_numpy()[labelled] == "b2").astype(np.int64)[:, None]
    cells = {
        "X": torch.tensor(half_coarse.counts[labelled].toarray().astype(np.float32)),
        "batch": torch.tensor(batch),
        "labels": torch.tensor([[registered.index(name)] for name in names]),
    }
    loss, _, logits = module.classification_loss(cells)
    places = [registered.index(name) for name in tree.classes]
    scores = logits.detach().numpy()[:, places].astype(np.float64)
    codes = tree.codes(names)
    ours = hierarchical_cross_entropy(scores, codes, tree)[0] / len(names)
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    by_hand = -np.log((share * tree.covers[codes]).sum(axis=1)).mean()
    np.testing.assert_allclose([loss.item(), by_hand], ours, rtol=1e-5)
    # Labels that are no class get no share of any cell, in the answer and in the ELBO.
    assert (logits.detach().numpy()[:, registered.index(LYMPHOCYTE)] == -np.inf).all()
    fine = np.flatnonzero(names != LYMPHOCYTE)
    flat, _, _ = module.classification_loss({name: tensor[fine] for name, tensor in cells.items()})
    published, _, _ = super(type(module), module).classification_loss(
        {name: tensor[fine] for name, tensor in cells.items()}
    )
    np.testing.assert_allclose(flat.item(), published.item(), rtol=1e-6)
    loss.backward()
    assert all(torch.isfinite(one.grad).all() for one in module.classifier.parameters())


def test_answers_of_any_depth_are_sums_over_classes_and_stored_as_they_are(half_coarse, make_query, tmp_path):
    query = make_query(batches=("new",))
    fitted = dataclasses.replace(TINY, hierarchical=True).fit(half_coarse, query=query, seed=0)
    assert fitted.classes == ("CL:0000084", "CL:0000236", "CL:0000576")
    output = fitted.predict(query)
    labels, found = fitted.predict_labels(query)
    assert set(labels) == {*fitted.classes, LYMPHOCYTE}
    np.testing.assert_allclose(found[:, labels.index(LYMPHOCYTE)], output.probability[:, :2].sum(axis=1))
    np.testing.assert_allclose(output.probability.sum(axis=1), 1)
    n_coarse, n_labelled = int((half_coarse.labels == LYMPHOCYTE).sum()), int((half_coarse.labels != "").sum())
    told = f"marginal loss: {n_coarse} of {n_labelled} training cells have a label above the 3 classes"
    assert told in fitted.notes
    save_scanvi(fitted, tmp_path)
    loaded = load_scanvi(tmp_path)
    for view in (query, half_coarse):
        assert loaded.predict_labels(view)[1].tobytes() == fitted.predict_labels(view)[1].tobytes()
    card = json.loads((tmp_path / MODEL_CARD_NAME).read_bytes())["card"]
    assert "coarse_labels" in card["capabilities"]


def test_coarse_labels_teach_where_they_would_be_unlabelled_without_a_hierarchy(half_coarse, make_train):
    rule = dataclasses.replace(TINY, max_epochs=20, label_epochs=20, n_hidden=32, hierarchical=True)
    truth = make_train().labels
    fitted = rule.fit(half_coarse, query=None, seed=0)
    output = fitted.predict(half_coarse)
    found = np.array(output.classes)[output.probability.argmax(axis=1)]
    assert (found == truth).mean() > 0.9
    bare = np.where(half_coarse.labels == LYMPHOCYTE, "", half_coarse.labels)
    without = rule.fit(dataclasses.replace(half_coarse, labels=bare), query=None, seed=0)
    assert not np.allclose(without.predict(half_coarse).probability, output.probability)
    assert not any("marginal loss" in note for note in without.notes)


def test_coarse_labels_are_taken_only_where_the_option_says_so_and_classes_have_to_be_told_apart(make_train):
    assert "coarse_labels" in make_model("scanvi", hierarchical=True).card.capabilities
    assert "coarse_labels" not in make_model("scanvi").card.capabilities
    rule = dataclasses.replace(TINY, hierarchical=True)
    train = make_train()
    nested = np.where(train.labels == "CL:0000084", "CL:0000084", LYMPHOCYTE).astype(object)
    with pytest.raises(RefusedError, match="use `majority`"):
        rule.fit(dataclasses.replace(train, labels=nested), query=None, seed=0)
    unknown = np.where(train.labels == "CL:0000084", "CL:9999999", train.labels).astype(object)
    with pytest.raises(UnresolvedLabelError, match="CL:9999999"):
        rule.fit(dataclasses.replace(train, labels=unknown), query=None, seed=0)


def test_a_label_that_means_no_label_is_refused(make_train):
    train = make_train()
    with pytest.raises(RefusedError, match="41 training cells have the label 'unlabelled'"):
        TINY.fit(
            dataclasses.replace(train, labels=np.where(train.labels == "CL:0000084", "unlabelled", train.labels).astype(object)),
            query=None, seed=0,
        )  # fmt: skip
