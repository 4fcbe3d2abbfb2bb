"""Masked training: the loss of transformers, and a small network that learns what can be learned."""

import dataclasses

import numpy as np
import pytest

from cytolabe.encode.masking import NOT_CHOSEN
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.masked import MaskedTraining, masked_loss
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.training import TrainingPlan, train

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("needs_torch")]


@pytest.fixture
def objective(make_shape, make_dictionaries):
    """Return cells of two kinds, each with genes of its own: what is hidden can be told from the rest."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 22, 200)
    tokens = np.zeros((200, 48), dtype=np.int32)
    for cell, length in enumerate(lengths):
        first = 4 if cell % 2 else 154
        tokens[cell, :length] = [2, *rng.permutation(np.arange(first, first + 20))[: length - 2], 3]
    return MaskedTraining(
        network=blank_network(make_shape(initializer_range=0.2), seed=0), dictionaries=make_dictionaries(),
        cells=TokenizedCells(tokens=tokens, lengths=lengths), cell_ids=np.array([f"c{n}" for n in range(200)], dtype=object),
        fit_rows=np.arange(160), held_out_rows=np.arange(160, 200), size=16, seed=3,
    )  # fmt: skip


def test_the_loss_over_hidden_positions_is_that_of_transformers(objective):
    torch, network = import_extra("torch"), objective.network
    rng = np.random.default_rng(1)
    hidden, lengths = objective.cells.tokens[:6, :24].astype(np.int64), objective.cells.lengths[:6]
    asked = np.where((rng.random(hidden.shape) < 0.3) & (hidden > 3), hidden, NOT_CHOSEN)
    mask = torch.as_tensor(np.arange(24)[None] < lengths[:, None])
    with torch.inference_mode():
        loss, n_asked = masked_loss(network, hidden, asked, lengths=lengths)
        expected = network(torch.as_tensor(hidden), attention_mask=mask, labels=torch.as_tensor(asked)).loss
    assert n_asked == (asked != NOT_CHOSEN).sum()
    assert float(loss) / n_asked == pytest.approx(float(expected), rel=1e-5)


def test_training_learns_which_genes_stand_together_and_chance_does_not(objective):
    plan = TrainingPlan(n_steps=120, learning_rate=0.005, warm_up=20, check_every=40)
    progress = train(objective, plan, seed=0)
    floor = np.log(len(objective.dictionaries.genes))
    assert progress.steps[0].loss > floor - 0.3
    # Forty genes occur at all, and twenty of them beside the others of a cell: to get below the first needs the others.
    assert progress.best_loss < np.log(40) - 0.4


def test_a_look_at_held_out_cells_depends_on_the_weights_alone(objective):
    first, again = objective.held_out_loss(), objective.held_out_loss()
    turned = dataclasses.replace(objective, held_out_rows=objective.held_out_rows[::-1].copy())
    assert first == again
    assert turned.held_out_loss() == pytest.approx(first, rel=1e-5)
    nobody = dataclasses.replace(objective, held_out_rows=np.arange(0))
    assert nobody.held_out_loss() is None


def test_held_out_cells_are_asked_for_no_gene_that_can_be_copied(objective, monkeypatch):
    looked = []

    def spy(network, hidden, asked, *, lengths):
        looked.append((hidden, asked))
        return masked_loss(network, hidden, asked, lengths=lengths)

    monkeypatch.setattr("cytolabe.models.geneformer.masked.masked_loss", spy)
    objective.held_out_loss()
    is_asked = [asked != NOT_CHOSEN for _, asked in looked]
    assert sum(int(one.sum()) for one in is_asked) > 50
    mask = objective.dictionaries.tokens["<mask>"]
    assert all((hidden[one] == mask).all() for (hidden, _), one in zip(looked, is_asked, strict=True))


def test_cells_without_a_gene_are_in_no_minibatch(objective):
    lengths = objective.cells.lengths.copy()
    lengths[:10] = 2
    bare = dataclasses.replace(objective, cells=dataclasses.replace(objective.cells, lengths=lengths))
    assert sorted(np.concatenate(bare.minibatches(0))) == list(range(10, 160))


def test_other_cells_tokens_or_division_are_another_training(objective):
    tokens = objective.cells.tokens.copy()
    tokens[0, 1] += 1
    others = [
        dataclasses.replace(objective, cells=dataclasses.replace(objective.cells, tokens=tokens)),
        dataclasses.replace(objective, cell_ids=objective.cell_ids[::-1].copy()),
        dataclasses.replace(objective, fit_rows=np.arange(150), held_out_rows=np.arange(150, 200)),
    ]
    assert len({objective.identity, *(other.identity for other in others)}) == 4
