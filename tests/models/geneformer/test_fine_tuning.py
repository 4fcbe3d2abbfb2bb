"""Classes of cells by a fine-tuned Geneformer: the published heads, what is learned of whom, and that chance teaches nothing."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.cell_classes import MISSING, CellClassTraining, CellTask, cell_logits
from cytolabe.models.geneformer.checkpoint import CheckpointCard, from_pretrained, save_pretrained
from cytolabe.models.geneformer.fine_tuning import TaskLabels, fit_cell_tasks
from cytolabe.models.geneformer.head_files import save_cell_tasks
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.protocols import Annotator, FittedAnnotator
from cytolabe.models.registry import make_model
from cytolabe.models.training import TrainingPlan, train
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of
from cytolabe.records import FitScope, Protocol

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("needs_torch")]
QUICK = {"panels": "flag", "learning_rate": 1e-2, "warm_up": 5, "n_steps": 40, "minibatch": 16, "check_every": 20}


def annotator(folder, **options):
    return make_model("geneformer_annotator", checkpoint=folder, **{**QUICK, **options})


def part(view, rows):
    fields = {name: getattr(view, name)[rows] for name in ("cell_ids", "labels", "persons")}
    return dataclasses.replace(view, counts=view.counts[rows], technical=view.technical.iloc[rows], **fields)


def by_person(view, *held):
    is_held = np.isin(view.persons, held)
    return part(view, np.flatnonzero(~is_held)), part(view, np.flatnonzero(is_held))


def right(output, labels):
    return float((np.array(output.classes, dtype=object)[output.probability.argmax(axis=1)] == labels).mean())


def tokens_of(n_cells=8, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, 20, n_cells)
    tokens = np.zeros((n_cells, 20), dtype=np.int32)
    for cell, length in enumerate(lengths):
        tokens[cell, :length] = [2, *rng.permutation(np.arange(4, 60))[: length - 2], 3]
    return TokenizedCells(tokens=tokens, lengths=lengths)


def heads_of(network, *sizes, pooling="pooler", weighting="fixed", has_frame=True):
    heads = import_extra("cytolabe.models.geneformer.heads")
    return heads.make_heads(
        heads.CellHeads, network, seed=1, n_classes=sizes, pooling=pooling, weighting=weighting, has_frame=has_frame
    )


def test_the_head_over_the_pooler_is_that_of_transformers(make_shape):
    torch, transformers = import_extra("torch"), import_extra("transformers")
    network = blank_network(make_shape(), seed=0)
    made, cells = heads_of(network, 3), tokens_of()
    config = transformers.BertConfig(**{**network.config.to_dict(), "num_labels": 3})
    other = transformers.BertForSequenceClassification(config).eval()
    other.bert.load_state_dict({**made.bert.state_dict(), "pooler.dense.weight": made.pooler.weight, "pooler.dense.bias": made.pooler.bias})  # fmt: skip
    other.classifier.load_state_dict(made.heads[0].state_dict())
    stands = torch.as_tensor(np.arange(20)[None] < cells.lengths[:, None])
    with torch.inference_mode():
        expected = other(torch.as_tensor(cells.tokens.astype(np.int64)), attention_mask=stands.long()).logits
        (found,) = cell_logits(made, cells, np.arange(8))
    torch.testing.assert_close(found, expected[:, :3], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean", "attention"])
def test_what_fills_a_cell_up_changes_no_pooling(make_shape, pooling):
    torch = import_extra("torch")
    made, cells = heads_of(blank_network(make_shape(), seed=0), 3, pooling=pooling), tokens_of()
    with torch.inference_mode():
        (together,) = cell_logits(made, cells, np.arange(8))
        alone = torch.cat([cell_logits(made, cells, np.array([row]))[0] for row in range(8)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def task(codes, name="t", n=3, weight=1.0):
    return CellTask(
        name=name, labels=tuple("abcdef"[:n]), codes=np.array(codes), weight=weight, label_weights=np.ones(n)
    )


def objective(network, *tasks, cells=None, size=8, held=()):
    cells = tokens_of() if cells is None else cells
    rows = np.setdiff1d(np.arange(len(cells.lengths)), held)
    return CellClassTraining(
        network=network, cells=cells, tasks=tasks, fit_rows=rows, held_out_rows=np.array(held, dtype=np.int64), size=size, seed=0
    )  # fmt: skip


def test_tasks_add_up_the_means_over_their_own_labelled_cells_however_minibatches_are_cut(make_shape):
    torch = import_extra("torch")
    made = heads_of(blank_network(make_shape(), seed=0), 3, 2)
    first, second = task([0, 1, 2, 0, 1, 2, 0, 1]), task([0, MISSING, 1, MISSING, 1, 0, MISSING, 0], "u", 2, 0.5)
    asked = objective(made, first, second)
    with torch.inference_mode():
        whole, n = asked.loss(np.arange(8), epoch=0)
        parts = sum(asked.loss(rows, epoch=0)[0] for rows in (np.arange(3), np.arange(3, 8)))
        logits = cell_logits(made, asked.cells, np.arange(8))
    labelled = second.codes != MISSING
    means = [
        torch.nn.functional.cross_entropy(logits[0], torch.as_tensor(first.codes)),
        torch.nn.functional.cross_entropy(logits[1][labelled], torch.as_tensor(second.codes[labelled])),
    ]
    assert float(whole) / n == pytest.approx(float(means[0] + 0.5 * means[1]), rel=1e-5)
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    held = dataclasses.replace(asked, held_out_rows=np.arange(8))
    assert held.held_out_loss() == pytest.approx(float(whole) / n, rel=1e-5)
    nobody = objective(made, task([0, 1, 0, 1, 0, 1, MISSING, MISSING]), held=(6, 7))
    assert nobody.held_out_loss() is None


def test_learned_weights_are_those_of_the_uncertainty_and_do_not_choose_when_to_stop(make_shape):
    torch = import_extra("torch")
    network = blank_network(make_shape(), seed=0)
    made = heads_of(network, 3, 2, weighting="learned")
    tasks = task([0, 1, 2, 0, 1, 2, 0, 1]), task([0, 1, 1, 0, 1, 0, 1, 0], "u", 2)
    asked = objective(made, *tasks, held=(7,))
    with torch.no_grad():
        made.log_variances.copy_(torch.tensor([0.7, -0.4]))
        total, n = asked.loss(np.arange(7), epoch=0)
        logits = cell_logits(made, asked.cells, np.arange(7))
        costs = [
            torch.nn.functional.cross_entropy(one, torch.as_tensor(t.codes[:7]))
            for one, t in zip(logits, tasks, strict=True)
        ]
    expected = sum(np.exp(-s) * float(cost) + s / 2 for s, cost in zip((0.7, -0.4), costs, strict=True))
    assert float(total) / n == pytest.approx(expected, rel=1e-5)
    fixed = objective(made, *tasks, held=(7,)).held_out_loss()
    with torch.no_grad():
        made.log_variances.zero_()
    assert objective(made, *tasks, held=(7,)).held_out_loss() == fixed


def test_types_are_learned_from_labelled_cells_and_said_of_other_persons(folder, make_train):
    fitted_on, query = by_person(make_train(180), "p4")
    model = annotator(folder)
    assert isinstance(model, Annotator)
    fitted = model.fit(fitted_on, query=None, seed=1)
    assert isinstance(fitted, FittedAnnotator)
    output = fitted.predict(query)
    assert right(output, query.labels) > 0.9
    np.testing.assert_allclose(output.probability.sum(axis=1), 1)
    assert output.classes == tuple(sorted(set(fitted_on.labels)))
    assert any("training person(s)" in note for note in fitted.notes)
    assert [(scope.step, scope.n_cells) for scope in fitted.scopes] == [("geneformer/classes", len(fitted_on.cell_ids))]


def test_shuffled_labels_stay_at_the_floor_on_other_persons(folder, make_train):
    whole = make_train(180)
    shuffled = dataclasses.replace(whole, labels=np.random.default_rng(5).permutation(whole.labels))
    fitted_on, query = by_person(shuffled, "p4")
    output = annotator(folder, check_every=5).fit(fitted_on, query=None, seed=1).predict(query)
    assert right(output, query.labels) < 0.6


def test_cells_without_a_label_move_nothing_and_another_trunk_is_left_alone(folder, make_train, make_query):
    train_view = make_train(90)
    labels = np.where(np.arange(90) % 3 == 0, "", train_view.labels).astype(object)
    other = train_view.counts.toarray()
    other[labels == ""] += 5
    model = annotator(folder, n_steps=6)
    before = model.checkpoint.network.bert.encoder.layer[0].output.dense.weight.clone()
    first, second = (
        model.fit(make_train(90, labels=labels, counts=counts), query=None, seed=0)
        for counts in (train_view.counts, csr_matrix(other))
    )
    np.testing.assert_array_equal(*(one.predict(make_query()).probability for one in (first, second)))
    assert first.scopes[-1].n_cells == int((labels != "").sum())
    assert (model.checkpoint.network.bert.encoder.layer[0].output.dense.weight == before).all()


def test_frozen_layers_stay_and_the_others_move(folder, make_train):
    model = annotator(folder, n_steps=3, frozen_layers=1)
    for frozen in (False, True):
        model = annotator(folder, n_steps=3, frozen_layers=1, frozen_embeddings=frozen)
        trunk = model.fit(make_train(60), query=None, seed=0).fitted.network.bert
        start = model.checkpoint.network.bert
        moved = {
            name: not bool((weight == dict(start.named_parameters())[name]).all())
            for name, weight in trunk.named_parameters()
        }
        assert not any(has for name, has in moved.items() if name.startswith("encoder.layer.0."))
        assert moved["encoder.layer.1.output.dense.weight"]
        assert moved["embeddings.word_embeddings.weight"] is not frozen
    with pytest.raises(UsageError, match="has 2 layers"):
        annotator(folder, frozen_layers=3).fit(make_train(60), query=None, seed=0)


def test_a_rare_class_weighs_as_much_as_a_common_one_only_where_asked(folder, make_train):
    train_view = make_train(90)
    rows = np.concatenate([np.flatnonzero(train_view.labels == term)[:n] for term, n in zip(np.unique(train_view.labels), (4, 20, 20), strict=True)])  # fmt: skip
    few = part(train_view, np.sort(rows))
    shares = {
        balanced: annotator(folder, n_steps=1, balanced=balanced)
        .fit(few, query=None, seed=0)
        .fitted.tasks[0]
        .label_weights
        for balanced in (True, False)
    }
    assert shares[True] * [4, 20, 20] == pytest.approx([44 / 3] * 3)
    assert shares[False].tolist() == [1, 1, 1]


def test_coarse_labels_are_learned_from_and_named(folder, make_train, make_query):
    train_view = make_train(120)
    labels = np.where((train_view.labels == "CL:0000236") & (np.arange(120) % 2 == 0), "CL:0000542", train_view.labels)
    model = annotator(folder, hierarchical=True, n_steps=5)
    assert "coarse_labels" in model.card.capabilities
    fitted = model.fit(make_train(120, labels=labels.astype(object)), query=None, seed=0)
    assert any(note.startswith("marginal loss") for note in fitted.notes)
    names, probability = fitted.predict_labels(make_query())
    output = fitted.predict(make_query())
    assert "CL:0000542" in set(names) - set(output.classes)
    lymphocyte = [output.classes.index(term) for term in ("CL:0000084", "CL:0000236")]
    np.testing.assert_allclose(probability[:, names.index("CL:0000542")], output.probability[:, lymphocyte].sum(axis=1))


def test_without_coarse_labels_the_hierarchical_loss_is_the_cross_entropy(make_shape):
    torch = import_extra("torch")
    made = heads_of(blank_network(make_shape(), seed=0), 3)
    terms = ("CL:0000084", "CL:0000236", "CL:0000576")
    plain = task([0, 1, 2, 0, 1, 2, 0, 1])
    known = dataclasses.replace(plain, labels=terms, hierarchy=hierarchy_of(terms, ontology=load_ontology("CL")))
    with torch.inference_mode():
        first, second = (float(objective(made, one).loss(np.arange(8), epoch=0)[0]) for one in (plain, known))
    assert first == pytest.approx(second, rel=1e-6)


def test_cells_without_a_gene_get_the_shares_of_training(folder, make_train, make_query, without_counts):
    train_view, query = make_train(60), make_query(10)
    fitted = annotator(folder, n_steps=2).fit(train_view, query=None, seed=0)
    output = fitted.predict(dataclasses.replace(query, counts=without_counts(query.counts, [3])))
    shares = [(train_view.labels == term).mean() for term in output.classes]
    np.testing.assert_allclose(output.probability[3], shares)
    assert any("1 cells have no gene" in note for note in fitted.notes)


def test_the_start_decides_the_protocol_and_what_is_inherited(needs_torch, make_dictionaries, make_shape, tmp_path, make_train):  # fmt: skip
    scopes = tuple(
        FitScope(step=f"geneformer/{step}", cells_digest="sha256:0", n_cells=9) for step in ("medians", "weights")
    )
    about = CheckpointCard(weights="", dictionaries={}, protocol=Protocol.SELF_SUPERVISED, pretraining=(), scopes=scopes)  # fmt: skip
    save_pretrained(tmp_path, blank_network(make_shape(), seed=1), shape=make_shape(), dictionaries=make_dictionaries(), about=about)  # fmt: skip
    tuned, control = annotator(tmp_path, n_steps=2), annotator(tmp_path, n_steps=2, weights="random")
    assert (tuned.card.protocol, control.card.protocol) == (Protocol.FINE_TUNED, Protocol.SUPERVISED)
    assert tuned.card.weights_digest == from_pretrained(tmp_path).card.weights
    assert (control.card.weights_digest, control.card.scopes) == ("", ())
    inherited = [
        [scope.step for scope in one.fit(make_train(60), query=None, seed=0).scopes] for one in (tuned, control)
    ]
    assert inherited == [
        ["geneformer/medians", "geneformer/weights", "geneformer/classes"],
        ["geneformer/medians", "geneformer/classes"],
    ]


def test_a_fine_tuned_network_is_named_by_the_digest_of_the_file_it_would_have(folder, make_train, tmp_path):
    model = annotator(folder, n_steps=2)
    first, again, other = (model.fit(make_train(60), query=None, seed=seed) for seed in (0, 0, 1))
    assert first.weights_digest == again.weights_digest != other.weights_digest
    about, heads = {"snapshot": None}, first.fitted.heads
    card = save_cell_tasks(heads, tmp_path, checkpoint=model.checkpoint, card=model.card, about=about)
    assert card.weights_digest == first.weights_digest


def test_a_killed_fine_tuning_goes_on_to_the_same_weights(make_shape, tmp_path):
    torch = import_extra("torch")

    class Killed(BaseException):
        """Stands for a signal."""

    def die(step):
        if step.number == 5:
            raise Killed

    network, plan = blank_network(make_shape(), seed=0), TrainingPlan(n_steps=8, save_every=2, check_every=4)
    tasks = task([0, 1, 2, 0, 1, 2, 0, 1]), task([0, MISSING, 1, 0, 1, 0, 1, 0], "u", 2)

    def asked():
        return objective(heads_of(network, 3, 2, weighting="learned"), *tasks, size=3, held=(6, 7))

    straight, killed, resumed = asked(), asked(), asked()
    curve = train(straight, plan, seed=3).steps
    with pytest.raises(Killed):
        train(killed, plan, seed=3, folder=tmp_path, on_step=die)
    assert train(resumed, plan, seed=3, folder=tmp_path).steps == curve
    weights = straight.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_several_tasks_share_a_trunk_and_each_learns_where_its_labels_are(folder, make_train):
    whole = make_train(180)
    lineage = np.where(whole.labels == "CL:0000576", "myeloid", "lymphoid").astype(object)
    lineage[np.arange(180) % 3 == 0] = ""
    (fitted_on, query), known = by_person(whole, "p4"), dict(zip(whole.cell_ids, lineage, strict=True))
    learning = GeneformerLearning(checkpoint=folder, pooling="cls", task_weighting="learned", **QUICK)
    asked = {
        "cell_type": TaskLabels(labels=fitted_on.labels),
        "lineage": TaskLabels(labels=np.array([known[one] for one in fitted_on.cell_ids], dtype=object), weight=0.5),
    }
    fitted = fit_cell_tasks(learning, from_pretrained(folder), fitted_on, tasks=asked, seed=0)
    output = fitted.predict(query)
    truth = np.where(query.labels == "CL:0000576", "myeloid", "lymphoid")
    assert right(output["cell_type"], query.labels) > 0.9
    assert right(output["lineage"], truth) > 0.9
    labelled = sum(one != "" for one in asked["lineage"].labels)
    assert (fitted.tasks[1].codes != MISSING).sum() == labelled < len(fitted_on.cell_ids)


def test_what_cannot_be_trained_is_refused_by_name(folder, make_train, make_query):
    one_class = make_train(30, labels=np.full(30, "CL:0000084", dtype=object))
    with pytest.raises(RefusedError, match=r"'cell_type' has 1 class.*CL:0000084"):
        annotator(folder).fit(one_class, query=None, seed=0)
    with pytest.raises(RefusedError, match="needs two"):
        annotator(folder).fit(make_train(30, labels=np.full(30, "", dtype=object)), query=None, seed=0)
    with pytest.raises(RefusedError, match="rule R3"):
        annotator(folder, panels="refuse").fit(make_train(30), query=None, seed=0)
    with pytest.raises(UsageError, match="pooling"):
        annotator(folder, pooling="max").fit(make_train(30), query=None, seed=0)
    with pytest.raises(UsageError, match="minibatch = 0"):
        annotator(folder, minibatch=0)
    with pytest.raises(UsageError, match="48 positions"):
        annotator(folder, max_length=49)
    with pytest.raises(IntegrityError, match="expected was"):
        annotator(folder, expected="sha256:00")
    fitted = annotator(folder, n_steps=1).fit(make_train(30), query=None, seed=0)
    with pytest.raises(UnmeasuredGeneError):
        fitted.predict(make_query(genes=make_query().genes[::-1]))
    learning, model = GeneformerLearning(checkpoint=folder, **QUICK), from_pretrained(folder)
    for asked, told in (
        ({}, "no task"),
        ({"t": TaskLabels(labels=np.array(["a"]))}, "1 labels for 30 cells"),
        ({"t": TaskLabels(labels=make_train(30).labels, weight=-1.0)}, "weight -1"),
    ):
        with pytest.raises(UsageError, match=told):
            fit_cell_tasks(learning, model, make_train(30), tasks=asked, seed=0)


def test_a_class_of_nobody_but_those_who_choose_when_to_stop_is_told(folder, make_train):
    lonely = np.array(["CL:0000576" if person == "p3" else "CL:0000084" if cell % 2 else "CL:0000236" for cell, person in enumerate(make_train(120).persons)], dtype=object)  # fmt: skip
    found = [
        any("CL:0000576 only in persons who choose" in note for note in annotator(folder, n_steps=1, held_out_fraction=0.2).fit(make_train(120, labels=lonely), query=None, seed=seed).notes)
        for seed in range(8)
    ]  # fmt: skip
    assert any(found)
    assert not all(found)
