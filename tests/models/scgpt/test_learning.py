"""scGPT trained on training cells: it learns, from those cells alone, and says which they were."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

from cytolabe.errors import RefusedError, UnmeasuredGeneError, UnresolvedLabelError  # noqa: E402
from cytolabe.models.protocols import Annotator, Embedder, FittedEmbedder, GeneEmbedder, QueryMapper  # noqa: E402
from cytolabe.models.registry import make_model  # noqa: E402
from cytolabe.models.scgpt.checkpoint import load_scgpt, save_scgpt  # noqa: E402
from cytolabe.models.scgpt.embedder import on_device  # noqa: E402
from cytolabe.models.scgpt.learning import learned  # noqa: E402
from cytolabe.records import Protocol  # noqa: E402

pytestmark = pytest.mark.models

T_CELL, B_CELL, LYMPHOCYTE = "CL:0000084", "CL:0000236", "CL:0000542"
QUICK = {"preset": "tiny", "panels": "flag", "learning_rate": 3e-3, "warm_up": 5, "ties": "mid"}


def annotator(**options):
    return make_model("scgpt_annotator", **{**QUICK, "n_steps": 25, **options})


def right(fitted, query, kind):
    output = fitted.predict(query)
    return (np.array(output.classes, dtype=object)[output.probability.argmax(axis=1)] == kind).mean()


def test_types_are_learned_from_labelled_cells_and_said_of_others(make_train):
    whole = make_train(150)
    train, query = (part(whole, rows) for rows in (np.arange(100), np.arange(100, 150)))
    model = annotator(learning_rate=1e-2)
    assert isinstance(model, Annotator)
    fitted = model.fit(train, query=None, seed=1)
    assert right(fitted, query, whole.labels[100:]) > 0.9
    np.testing.assert_allclose(fitted.predict(query).probability.sum(axis=1), 1)
    assert fitted.classes == tuple(sorted(set(train.labels)))
    assert any("training person(s)" in note for note in fitted.notes)


def part(view, rows):
    fields = {name: getattr(view, name)[rows] for name in ("cell_ids", "labels", "persons")}
    return dataclasses.replace(view, counts=view.counts[rows], technical=view.technical.iloc[rows], **fields)


def test_cells_without_a_label_move_nothing(make_train, make_query):
    train = make_train(90)
    labels = np.where(np.arange(90) % 3 == 0, "", train.labels).astype(object)
    other = train.counts.toarray()
    other[labels == ""] += 5
    first, second = (
        annotator(n_steps=6).fit(make_train(90, labels=labels, counts=counts), query=None, seed=0)
        for counts in (train.counts, csr_matrix(other))
    )
    np.testing.assert_array_equal(*(one.predict(make_query()).probability for one in (first, second)))
    assert [(scope.step, scope.n_cells) for scope in first.scopes] == [("scgpt/classes", int((labels != "").sum()))]


@pytest.fixture
def half_coarse(make_train):
    """Training cells of which every second B cell is a lymphocyte only, which T cells are, too."""
    plain = make_train(150)
    labels = np.where((plain.labels == B_CELL) & (np.arange(150) % 2 == 0), LYMPHOCYTE, plain.labels).astype(object)
    return make_train(150, labels=labels)


def test_labels_of_any_depth_are_learned_from_and_answered(half_coarse, make_train):
    whole, model = make_train(150), annotator(hierarchical=True, learning_rate=1e-2)
    assert "coarse_labels" in model.card.capabilities
    assert "coarse_labels" not in annotator().card.capabilities
    train, query = part(half_coarse, np.arange(100)), part(whole, np.arange(100, 150))
    fitted = model.fit(train, query=None, seed=1)
    n_coarse = int((train.labels == LYMPHOCYTE).sum())
    assert f"marginal loss: {n_coarse} training cells have a label above the classes" in fitted.notes
    assert right(fitted, query, whole.labels[100:]) > 0.9
    names, probability = fitted.predict_labels(query)
    output = fitted.predict(query)
    assert LYMPHOCYTE in set(names) - set(output.classes)
    inside = [output.classes.index(term) for term in (T_CELL, B_CELL)]
    np.testing.assert_allclose(probability[:, names.index(LYMPHOCYTE)], output.probability[:, inside].sum(axis=1))


def test_without_coarse_labels_the_hierarchical_training_is_the_plain_one(make_train, make_query):
    first, second = (
        annotator(n_steps=6, hierarchical=asked, balanced=False).fit(make_train(90), query=None, seed=0)
        for asked in (False, True)
    )
    answers = [one.predict(make_query()) for one in (first, second)]
    assert answers[0].classes == answers[1].classes
    np.testing.assert_allclose(answers[0].probability, answers[1].probability, atol=1e-5)
    assert not any("marginal" in note for note in second.notes)
    assert first.predict_labels(make_query())[0] == first.classes


def test_a_class_without_a_cell_of_its_own_and_a_label_that_is_no_term_are_refused(half_coarse):
    counts = half_coarse.counts.toarray()
    counts[half_coarse.labels == T_CELL] = 0
    with pytest.raises(RefusedError, match="no cell that is labelled as such: CL:0000084"):
        annotator(hierarchical=True).fit(
            dataclasses.replace(half_coarse, counts=csr_matrix(counts)), query=None, seed=0
        )
    labels = np.where(half_coarse.labels == T_CELL, "CL:9999999", half_coarse.labels).astype(object)
    with pytest.raises(UnresolvedLabelError, match="CL:9999999"):
        annotator(hierarchical=True).fit(dataclasses.replace(half_coarse, labels=labels), query=None, seed=0)


def test_one_class_is_refused_and_a_panel(make_train):
    with pytest.raises(RefusedError, match="needs two"):
        annotator().fit(make_train(30, labels=np.full(30, "CL:0000084", dtype=object)), query=None, seed=0)
    with pytest.raises(RefusedError, match="rule R3"):
        annotator(panels="refuse").fit(make_train(30), query=None, seed=0)


def test_steps_that_end_before_the_loss_stops_falling_qualify_the_score(make_train):
    short = annotator(n_steps=4, check_every=2).fit(make_train(60), query=None, seed=0)
    assert any(note.startswith("not converged") for note in short.notes)
    settled = annotator(n_steps=60, check_every=1, patience=1, learning_rate=0.5).fit(
        make_train(60), query=None, seed=0
    )
    assert not any(note.startswith("not converged") for note in settled.notes)


@pytest.fixture(scope="module")
def scratch():
    return make_model("scgpt_scratch", **{**QUICK, "n_steps": 6})


def test_pretraining_reads_no_label_and_names_its_cells(scratch, make_train, make_query):
    train = make_train(60)
    assert isinstance(scratch, Embedder)
    fitted = scratch.fit(train, query=None, seed=2)
    assert isinstance(fitted, FittedEmbedder)
    assert isinstance(fitted, GeneEmbedder)
    shuffled = make_train(60, labels=train.labels[::-1])
    np.testing.assert_array_equal(
        scratch.fit(shuffled, query=None, seed=2).embed(make_query()), fitted.embed(make_query())
    )
    assert [(scope.step, scope.n_cells) for scope in fitted.scopes] == [("scgpt/generation", len(train.cell_ids))]
    assert (scratch.card.protocol, scratch.card.weights_digest) == (Protocol.SELF_SUPERVISED, "")


def test_what_was_pretrained_here_is_never_zero_shot_where_it_is_used_later(scratch, make_train, make_query, tmp_path):
    fitted = scratch.fit(make_train(60), query=None, seed=2)
    digest = save_scgpt(fitted.model, tmp_path)
    frozen = make_model("scgpt", checkpoint=tmp_path, expected=digest, panels="flag", ties="mid")
    assert (frozen.card.protocol, frozen.card.weights_digest) == (Protocol.SELF_SUPERVISED, digest)
    again = frozen.fit(make_train(60), query=None, seed=2)
    assert again.scopes[: len(fitted.scopes)] == fitted.scopes
    np.testing.assert_allclose(again.embed(make_query()), fitted.embed(make_query()), atol=1e-6)


def test_fine_tuning_starts_from_the_checkpoint_and_keeps_its_history(scratch, make_train, make_query, tmp_path):
    pretrained = scratch.fit(make_train(60), query=None, seed=2)
    save_scgpt(pretrained.model, tmp_path)
    model = annotator(checkpoint=tmp_path, n_steps=3)
    assert model.card.protocol is Protocol.FINE_TUNED
    assert model.card.weights_digest == load_scgpt(tmp_path).weights_digest
    fitted = model.fit(make_train(60), query=None, seed=0)
    assert [scope.step for scope in fitted.scopes] == ["scgpt/generation", "scgpt/classes"]
    assert fitted.tokenizer.vocabulary.tokens == pretrained.tokenizer.vocabulary.tokens
    before, after = (one.model.network.encoder.embedding.weight for one in (pretrained, fitted))
    assert 0 < (before - after).abs().max() < 0.1


def integrator(**options):
    return make_model("scgpt_integrator", **{**QUICK, "n_steps": 5, **options})


def test_each_batch_enters_the_encoder_normalized_for_itself(make_train):
    train = make_train(60)
    model = integrator(n_steps=3)
    assert isinstance(model, QueryMapper)
    fitted = model.fit(train, query=None, seed=0)
    network = fitted.model.network.train()
    cells = fitted.tokenizer.tokenize(train.counts, cell_ids=train.cell_ids, seed=0)
    for batch, name in enumerate(("b1", "b2")):
        rows = np.flatnonzero(train.technical["batch"] == name)
        tokens = on_device(network, cells.padded(rows), batches=np.full(len(rows), batch))
        states = network._input(tokens, network.encoder(tokens.genes)).detach()
        torch.testing.assert_close(states.mean(dim=(0, 1)), torch.zeros(32), atol=1e-4, rtol=0)
        assert (states.var(dim=(0, 1)) - 1).abs().max() < 0.05
    assert [(scope.step, scope.n_cells) for scope in fitted.scopes] == [("scgpt/integration", 60)]


def test_an_unseen_batch_is_normalized_by_its_unlabelled_cells_and_moves_no_weight(make_train, make_query):
    train, query = make_train(60), make_query(20, batches=("b9",))
    model = integrator(n_steps=5)
    fitted = model.fit(train, query=None, seed=0)
    with pytest.raises(RefusedError, match="1 batch"):
        fitted.embed(query)
    mapped = model.map_query(fitted, query, seed=0)
    np.testing.assert_array_equal(model.fit(train, query=query, seed=0).embed(query), mapped.embed(query))
    np.testing.assert_array_equal(mapped.embed(train), fitted.embed(train))
    assert [scope.step for scope in mapped.scopes] == ["scgpt/integration", "scgpt/query"]
    norm, states = mapped.model.network.dsbn.bns[-1], []
    network, cells = mapped.model.network, mapped.tokenizer.tokenize(query.counts, cell_ids=query.cell_ids, seed=0)
    for cell in range(len(query.cell_ids)):
        one = slice(cells.bounds[cell], cells.bounds[cell + 1])
        genes, values = torch.from_numpy(cells.genes[one])[None], torch.from_numpy(cells.values[one])[None]
        states.append(network.valued(network.encoder(genes), values)[0].detach())
    torch.testing.assert_close(norm.running_mean, torch.cat(states).mean(dim=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, torch.cat(states).var(dim=0), atol=1e-5, rtol=1e-4)


def test_one_batch_is_refused_and_another_gene_list(make_train, make_query):
    with pytest.raises(RefusedError, match="one batch"):
        integrator().fit(make_train(batches=("b1",)), query=None, seed=0)
    fitted = integrator(n_steps=2).fit(make_train(60), query=None, seed=0)
    with pytest.raises(UnmeasuredGeneError):
        fitted.embed(make_query(genes=make_query().genes[::-1]))


def test_contrast_is_off_unless_an_option_weighs_it(make_train):
    train = make_train(40)
    assert integrator().options.contrast == 0.0
    plain, off, on = (
        integrator(n_steps=2, **options).fit(train, query=None, seed=0)
        for options in ({}, {"contrast": 0.0}, {"contrast": 10.0})
    )
    np.testing.assert_array_equal(plain.embed(train), off.embed(train))
    assert np.abs(plain.embed(train) - on.embed(train)).max() > 1e-4


def test_what_was_trained_here_names_its_weights_by_the_digest_of_the_file_they_would_have(
    make_train, make_query, tmp_path
):
    train = make_train(40)
    scratch = make_model("scgpt_scratch", preset="tiny", panels="flag", n_steps=2)
    first, again = (scratch.fit(train, query=None, seed=seed) for seed in (0, 0))
    digest = first.facts.details["weights"]
    assert digest == again.facts.details["weights"] == save_scgpt(first.model, tmp_path)
    assert digest != scratch.fit(train, query=None, seed=1).facts.details["weights"]
    weight = first.model.network.cls if hasattr(first.model.network, "cls") else next(first.model.network.parameters())
    with torch.no_grad():
        weight.view(-1)[0] += 1.0
    assert learned(first.model, protocol=Protocol.CONTROL, scopes=()).weights_digest != digest
    control = make_model("scgpt_random", preset="tiny", panels="flag").fit(train, query=None, seed=0)
    mixed = integrator(n_steps=2)
    fitted = mixed.fit(train, query=None, seed=0)
    mapped = mixed.map_query(fitted, make_query(20, batches=("b9",)), seed=0)
    told = [one.facts.details["weights"] for one in (control, fitted, mapped)]
    assert all(one.startswith("sha256:") for one in told)
    assert len({digest, *told}) == 4
    named = annotator(n_steps=2).fit(train, query=None, seed=0)
    assert named.weights_digest == save_scgpt(named.model, tmp_path / "named") not in {digest, *told}


def test_zeros_are_read_where_the_tutorial_reads_them(make_train):
    train = make_train(40)
    fitted = integrator(n_steps=2, keeps_zeros=True).fit(train, query=None, seed=0)
    cells = fitted.tokenizer.tokenize(train.counts, cell_ids=train.cell_ids, seed=0)
    assert (cells.lengths == 61).all()


def test_the_control_of_a_network_from_scratch_reads_cells_alike_and_has_learned_nothing(make_train, make_query):
    train, query = make_train(), make_query(20)
    model = make_model("scgpt_random", preset="tiny", panels="flag")
    control = model.fit(train, query=None, seed=0)
    assert model.card.protocol is Protocol.CONTROL
    again = model.fit(train, query=None, seed=0)
    np.testing.assert_array_equal(control.embed(query), again.embed(query))
    assert control.embed(query).shape == (20, 32)
    assert [scope.step for scope in control.scopes] == ["scgpt/vocabulary"]
    assert control.notes[0].startswith("a panel")
    trained = make_model("scgpt_scratch", preset="tiny", panels="flag", n_steps=4).fit(train, query=None, seed=0)
    assert not np.allclose(control.embed(query), trained.embed(query))
    assert control.network_size.n_trained == 0
    assert trained.network_size.n_trained == trained.network_size.n_parameters > 0
