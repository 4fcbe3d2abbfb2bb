"""A Geneformer from scratch knows the training cells alone, and stands between its floor and its control."""

import re

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import RefusedError
from cytolabe.models.geneformer.checkpoint import network_digest, save_pretrained
from cytolabe.models.geneformer.pretrainer import frequency_loss
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.registry import make_model
from cytolabe.provenance import cells_digest
from cytolabe.records import Protocol

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("needs_torch")]

GENES = tuple(f"ENSG{number:011d}" for number in range(320))
LEARNING = {
    "preset": "tiny",
    "panels": "flag",
    "n_steps": 200,
    "check_every": 50,
    "minibatch": 16,
    "learning_rate": 1e-2,
}


@pytest.fixture
def counts():
    """Cells of three types with genes of their own, so that some genes of a cell tell others."""

    def make(n_cells, seed):
        rng = np.random.default_rng(seed)
        kind = np.arange(n_cells) % 3
        rates = np.full((n_cells, len(GENES)), 0.02)
        for one in range(3):
            rates[np.ix_(kind == one, range(one * 60, one * 60 + 60))] = 1.2
        return csr_matrix(rng.poisson(rates), dtype=np.int64)

    return make


@pytest.fixture
def train(make_train, counts):
    persons = np.array([f"p{cell % 6}" for cell in range(150)], dtype=object)
    return make_train(150, counts=counts(150, 1), genes=GENES, persons=persons)


@pytest.fixture
def trained(train):
    return make_model("geneformer_scratch", **LEARNING).fit(train, query=None, seed=0)


def test_hidden_genes_of_held_out_persons_are_told_better_than_by_frequency(trained):
    (told,) = [note for note in trained.notes if note.startswith("hidden genes")]
    loss, floor = map(float, re.findall(r"[0-9.]+[0-9]", told))
    assert loss < floor - 0.2


def test_it_has_seen_the_training_cells_alone_and_is_never_zero_shot(train, trained):
    digests = {scope.step: scope.cells_digest for scope in trained.scopes}
    assert set(digests) == {"geneformer/medians", "geneformer/weights", "geneformer/frozen"}
    assert set(digests.values()) == {cells_digest(train.cell_ids)}
    card = make_model("geneformer_scratch").card
    assert (card.protocol, card.pretraining) == (Protocol.SELF_SUPERVISED, ())


def test_its_facts_name_the_weights_by_the_digest_of_the_file_they_would_have(trained, tmp_path):
    made = trained.checkpoint
    card = save_pretrained(
        tmp_path / "model", made.network, shape=made.shape, dictionaries=made.dictionaries, about=made.card
    )
    assert trained.facts.details["weights"] == card.weights != made.card.weights


def test_two_trainings_are_equal_and_another_seed_is_another(train, trained, make_query, counts):
    query = make_query(20, counts=counts(20, 2), genes=GENES)
    again = make_model("geneformer_scratch", **LEARNING).fit(train, query=None, seed=0)
    np.testing.assert_array_equal(trained.embed(query), again.embed(query))
    other = make_model("geneformer_scratch", **{**LEARNING, "n_steps": 2}).fit(train, query=None, seed=1)
    assert not np.allclose(trained.embed(query), other.embed(query))


def test_the_control_reads_cells_alike_and_has_learned_nothing(train, trained, make_query, counts):
    query = make_query(20, counts=counts(20, 2), genes=GENES)
    model = make_model("geneformer_random", preset="tiny", panels="flag")
    control = model.fit(train, query=None, seed=0)
    assert model.card.protocol is Protocol.CONTROL
    assert control.tokenizer.dictionaries.medians == trained.tokenizer.dictionaries.medians
    assert control.embed(query).shape == trained.embed(query).shape
    assert not np.allclose(control.embed(query), trained.embed(query))
    assert {scope.step for scope in control.scopes} == {"geneformer/medians", "geneformer/frozen"}
    n_weights = sum(weight.numel() for weight in trained.network.parameters())
    assert (trained.network_size.n_parameters, trained.network_size.n_trained) == (n_weights, n_weights)
    assert (control.network_size.n_parameters, control.network_size.n_trained) == (n_weights, 0)
    told = [one.facts.details["weights"] for one in (control, trained)]
    assert told == [network_digest(one.network) for one in (control, trained)]
    assert told[0] != told[1]


def test_the_floor_is_the_cross_entropy_of_gene_frequencies():
    tokens = np.array([[2, 4, 5, 3, 0], [2, 4, 6, 4, 3], [2, 5, 3, 0, 0]])
    cells = TokenizedCells(tokens=tokens.astype(np.int32), lengths=np.array([4, 5, 3]))
    seen = np.array([1, 1, 1, 1, 4, 2, 2])
    expected = -np.log(seen[5] / seen.sum())
    assert frequency_loss(cells, np.array([0, 1]), np.array([2]), n_tokens=7) == pytest.approx(expected)


def test_a_panel_and_cells_without_counts_are_refused(train, make_train):
    with pytest.raises(RefusedError, match="R3"):
        make_model("geneformer_scratch", preset="tiny").fit(train, query=None, seed=0)
    empty = make_train(150, counts=csr_matrix((150, len(GENES)), dtype=np.int64), genes=GENES)
    with pytest.raises(RefusedError, match="None of 150 training cells has a count"):
        make_model("geneformer_scratch", **LEARNING).fit(empty, query=None, seed=0)
