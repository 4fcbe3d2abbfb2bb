"""Objectives of training: what a cell is shown, what it has to say, and that draws are those of (seed, epoch, cell)."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

from cytolabe.errors import UsageError  # noqa: E402
from cytolabe.models.hierarchical import hierarchical_cross_entropy  # noqa: E402
from cytolabe.models.scgpt.checkpoint import fresh_network  # noqa: E402
from cytolabe.models.scgpt.configuration import ScgptConfig  # noqa: E402
from cytolabe.models.scgpt.embedder import on_device  # noqa: E402
from cytolabe.models.scgpt.hidden_values import gene_means  # noqa: E402
from cytolabe.models.scgpt.tasks import ClassTask, GenerativeTask, MaskedTask, MaskedWeights  # noqa: E402
from cytolabe.models.scgpt.tokens import ScgptTokenizer  # noqa: E402
from cytolabe.models.scgpt.vocabulary import read_scgpt_vocabulary  # noqa: E402
from cytolabe.models.training import Objective, TrainingPlan, train  # noqa: E402
from cytolabe.ontology.graph import load_ontology  # noqa: E402
from cytolabe.ontology.hierarchy import hierarchy_of  # noqa: E402

pytestmark = pytest.mark.models

NAMES = [f"GENE{number}" for number in range(30)]
VOCABULARY = read_scgpt_vocabulary(json.dumps({name: n for n, name in enumerate(NAMES)}).encode(), where="vocab.json")
SIZE = {"n_tokens": 33, "pad_token": 30, "d_model": 16, "n_heads": 2, "d_hidden": 16, "n_layers": 1, "dropout": 0.0}


def cells_of(n_cells=24, *, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.choice([0.2, 1.0, 3.0], (n_cells, 1)), (n_cells, 30))
    counts[:, 0] = 1
    ids = [f"c{number}" for number in range(n_cells)]
    return ScgptTokenizer(vocabulary=VOCABULARY, genes=NAMES).tokenize(csr_matrix(counts), cell_ids=ids, seed=0)


def task_of(kind, *, fields=None, cells=None, **more):
    cells = cells or cells_of()
    n_cells = len(cells.lengths)
    network = fresh_network(ScgptConfig(**{**SIZE, **(fields or {})}), seed=1)
    rows = np.arange(n_cells)
    return kind(
        network=network, cells=cells, fit_rows=rows[: n_cells - 6], held_rows=rows[n_cells - 6 :], seed=2,
        tokens_per_minibatch=128, **more,
    )  # fmt: skip


GENERATES = {"generation": "projected", "mvc_style": "inner product"}
CORRECTS = {
    "mvc_style": "inner product", "n_batches": 3, "batch_input": True, "adversary": True, "batch_norm": "by_batch",
    "explicit_zero": True,
}  # fmt: skip
BATCHES = np.arange(24) % 3


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), epoch=st.integers(0, 5))
def test_each_gene_is_either_perceived_with_its_value_or_generated_without(seed, epoch):
    task = task_of(GenerativeTask, fields=GENERATES, cells=cells_of(seed=seed))
    rows = np.arange(24)
    whole = task._padded(rows)
    cells, targets, is_target = task._split(rows, whole, epoch)
    n_perceived = cells.genes.shape[1] - targets.shape[1]
    assert (cells.genes[:, 0] == VOCABULARY.tokens["<cls>"]).all()
    assert (cells.values[:, n_perceived:] == -2).all()
    shares = set()
    for cell in rows:
        shown = ~cells.padding[cell, 1:n_perceived]
        seen = dict(zip(cells.genes[cell, 1:n_perceived][shown], cells.values[cell, 1:n_perceived][shown], strict=True))
        asked = cells.genes[cell, n_perceived:][is_target[cell]]
        told = dict(zip(asked, targets[cell][is_target[cell]], strict=True))
        real = ~whole.padding[cell, 1:]
        assert not set(seen) & set(told)
        assert {**seen, **told} == dict(zip(whole.genes[cell, 1:][real], whole.values[cell, 1:][real], strict=True))
        shares |= {share for share in (0.25, 0.5, 0.75) if len(told) == int(share * real.sum())}
    assert shares


def test_draws_are_those_of_seed_epoch_and_cell_and_never_of_company():
    task = task_of(GenerativeTask, fields=GENERATES)
    rows = np.array([3, 9, 14])
    draws = task._draws(rows, task._padded(rows), 2)
    wide = task.cells.padded(np.array([9]), width=task._padded(rows).genes.shape[1])
    np.testing.assert_array_equal(task._draws(np.array([9]), wide, 2)[0], draws[1])
    assert (task._draws(rows, task._padded(rows), 3)[draws < 1] != draws[draws < 1]).all()


def test_masked_values_reach_no_network(monkeypatch):
    task = task_of(MaskedTask, fields=CORRECTS, groups=BATCHES)
    rows = np.flatnonzero(BATCHES == 1)[:5]
    shown = []
    forward = task.network.forward
    monkeypatch.setattr(task.network, "forward", lambda tokens: shown.append(tokens) or forward(tokens))
    first = task.loss(rows, epoch=0)[0]
    padded = task._padded(rows)
    masked = task._draws(rows, padded, 0) < 0.4
    assert 0.2 < masked[~padded.padding].mean() < 0.6
    assert not masked[:, 0].any()
    values = shown[0].values.numpy()
    assert (values[masked] == -1).all()
    np.testing.assert_array_equal(values[~masked], padded.values[~masked])
    assert first.requires_grad


@pytest.mark.parametrize("kind", [ClassTask, GenerativeTask, MaskedTask])
def test_an_epoch_shows_each_training_cell_once_and_batches_apart(kind):
    if kind is ClassTask:
        task = task_of(ClassTask, fields={"n_classes": 3}, classes=BATCHES)
    else:
        task = task_of(
            kind,
            fields=GENERATES if kind is GenerativeTask else CORRECTS,
            groups=BATCHES if kind is MaskedTask else None,
        )
    assert isinstance(task, Objective)
    epochs = [task.minibatches(epoch) for epoch in (0, 0, 1)]
    for minibatches in epochs:
        assert sorted(np.concatenate(minibatches).tolist()) == list(range(18))
        assert all(task._padded(rows).genes.size <= 128 or len(rows) == 1 for rows in minibatches)
        if kind is MaskedTask:
            assert all(len(set(BATCHES[rows])) == 1 for rows in minibatches)
    assert [rows.tolist() for rows in epochs[0]] == [rows.tolist() for rows in epochs[1]]
    assert [rows.tolist() for rows in epochs[0]] != [rows.tolist() for rows in epochs[2]]
    assert task.held_out_loss() == task.held_out_loss()


def test_another_cell_or_option_is_another_training():
    tasks = [
        task_of(MaskedTask, fields=CORRECTS, groups=BATCHES),
        task_of(MaskedTask, fields=CORRECTS, groups=BATCHES, cells=cells_of(seed=5)),
        task_of(MaskedTask, fields=CORRECTS, groups=(BATCHES + 1) % 3),
        task_of(MaskedTask, fields=CORRECTS, groups=BATCHES, weights=MaskedWeights(masked=0.3)),
        task_of(MaskedTask, fields={**CORRECTS, "adversary": False}, groups=BATCHES),
    ]
    assert len({task.identity for task in tasks}) == 5
    assert task_of(MaskedTask, fields=CORRECTS, groups=BATCHES).identity == tasks[0].identity


def test_a_weighted_class_counts_as_often_as_its_weight():
    classes = (np.arange(24) % 2).astype(np.int64)
    plain = task_of(ClassTask, fields={"n_classes": 2}, classes=classes)
    weighted = task_of(
        ClassTask, fields={"n_classes": 2}, classes=classes, class_weights=np.array([3.0, 0.0], dtype=np.float32)
    )
    rows = np.array([0, 1, 2, 3])
    expected = 3 * float(plain.loss(np.array([0, 2]), epoch=0)[0].detach())
    assert float(weighted.loss(rows, epoch=0)[0].detach()) == pytest.approx(expected, rel=1e-5)
    assert weighted.loss(rows, epoch=0)[1] == 4


def test_a_label_above_the_classes_costs_what_softmax_times_reachability_says():
    terms = ("CL:0000084", "CL:0000236", "CL:0000576", "CL:0000542")
    tree = hierarchy_of(terms, ontology=load_ontology("CL"))
    codes = tree.codes(np.array(terms)[np.arange(len(BATCHES)) % 4])
    weights = np.array([0.5, 1.0, 2.0, 1.5], dtype=np.float32)
    task = task_of(ClassTask, fields={"n_classes": 3}, classes=codes, class_weights=weights, hierarchy=tree)
    task.network.eval()
    rows = np.arange(4)
    with torch.no_grad():
        cells = task.network.cell_embeddings(on_device(task.network, task._padded(rows)))
        scores = task.network.cls_decoder(cells).double().numpy()
        ours = float(task.loss(rows, epoch=0)[0])
    theirs, _ = hierarchical_cross_entropy(scores, codes[rows], tree, weights=weights[codes[rows]].astype(float))
    assert ours == pytest.approx(theirs, rel=1e-5)
    flat = task_of(ClassTask, fields={"n_classes": 3}, classes=codes, class_weights=weights)
    assert flat.identity != task.identity


def test_generation_of_several_modalities_is_refused():
    with pytest.raises(UsageError, match="masked values"):
        task_of(GenerativeTask, fields=GENERATES, modalities=np.ones(999))


@pytest.mark.parametrize(("kind", "fields"), [(GenerativeTask, GENERATES), (MaskedTask, CORRECTS)])
def test_training_lowers_the_loss_on_cells_that_move_no_weight(kind, fields):
    task = task_of(kind, fields=fields, cells=cells_of(60), groups=np.arange(60) % 3 if kind is MaskedTask else None)
    task.network.eval()
    with torch.no_grad():
        before = task.held_out_loss()
    progress = train(task, TrainingPlan(n_steps=40, learning_rate=5e-3, check_every=20), seed=0)
    assert progress.best_loss < 0.8 * before


def test_the_floor_is_the_mean_of_each_gene_in_training_cells_that_have_it():
    cells = cells_of(8)
    fit = np.array([0, 1, 2, 5])
    means = gene_means(cells, fit, n_tokens=33)
    own = [cells.padded(np.array([row])) for row in fit]
    found = {}
    for cell in own:
        for gene, value in zip(cell.genes[0, 1:], cell.values[0, 1:], strict=True):
            found.setdefault(int(gene), []).append(float(value))
    overall = np.mean([value for values in found.values() for value in values])
    for token in range(33):
        assert means[token] == pytest.approx(np.mean(found[token]) if token in found else overall)
    assert overall == pytest.approx(means[VOCABULARY.tokens["<cls>"]])
    assert len(found) < 30 or (means[:30] != overall).any()


def test_the_floor_is_taken_on_the_very_values_that_are_hidden_in_a_look():
    task = task_of(GenerativeTask, fields=GENERATES)
    task.network.eval()
    errors = task.held_out_errors()
    ways = (errors.from_genes, errors.from_cell, errors.from_embedding)
    assert sum(ways) == pytest.approx(task.held_out_loss(), rel=1e-5)
    assert errors.floor_loss == pytest.approx(3 * errors.gene_means)
    means = gene_means(task.cells, task.fit_rows, n_tokens=33)
    with torch.no_grad():
        # A network that says the mean of each gene, in every way, loses what the floor says.
        def says_means(tokens):
            said = SimpleNamespace(values=torch.as_tensor(means[tokens.genes.numpy()], dtype=torch.float32))
            return SimpleNamespace(gep=said, mvc=said, cells=torch.zeros(len(tokens.genes), 16))

        task.network.forward = says_means
        assert task.held_out_loss() == pytest.approx(errors.floor_loss, rel=1e-5)
        assert task.held_out_errors().from_genes == pytest.approx(errors.gene_means, rel=1e-5)


def test_where_no_cell_is_held_out_there_is_no_loss_and_no_floor():
    alone = task_of(GenerativeTask, fields=GENERATES)
    alone.held_rows = alone.held_rows[:0]
    assert (alone.held_out_loss(), alone.held_out_errors()) == (None, None)


def test_contrast_adds_its_weight_times_what_two_passes_of_a_minibatch_lose():
    rows, losses, passes = np.flatnonzero(BATCHES == 1)[:5], {}, {}
    for weight in (0.0, 10.0):
        weights = MaskedWeights(contrast=weight)
        task = task_of(MaskedTask, fields={**CORRECTS, "dropout": 0.3}, groups=BATCHES, weights=weights)
        encode, seen = task.network.encode, []
        task.network.encode = lambda tokens, encode=encode, seen=seen: seen.append(encode(tokens)) or seen[-1]
        task.network.train()
        torch.manual_seed(5)
        losses[weight], passes[weight] = float(task.loss(rows, epoch=0)[0].detach()), seen
    assert [len(seen) for seen in passes.values()] == [1, 2]
    first, second = (one.cells.detach().double().numpy() for one in passes[10.0])
    assert not np.allclose(first, second)
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (first, second)]
    likeness = unit[0] @ unit[1].T / 0.5
    told = -np.mean(np.diag(likeness) - np.log(np.exp(likeness).sum(axis=1)))
    assert losses[10.0] - losses[0.0] == pytest.approx(10 * told * len(rows), rel=1e-4)


def test_a_look_at_held_out_cells_has_one_pass_and_no_contrast():
    tasks = [
        task_of(MaskedTask, fields=CORRECTS, groups=BATCHES, weights=MaskedWeights(contrast=weight))
        for weight in (0.0, 10.0)
    ]
    looks = [task.network.eval() and task.held_out_loss() for task in tasks]
    assert looks[0] == looks[1]
    assert tasks[0].identity != tasks[1].identity
