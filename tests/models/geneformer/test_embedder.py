"""Embeddings against the network written out in numpy, and against themselves in other company."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import ModelFailedError, RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.models.geneformer.checkpoint import network_digest
from cytolabe.models.geneformer.embedder import TOLERANCE
from cytolabe.models.geneformer.minibatches import by_length, length_grouped
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.protocols import DescribedEmbedder, Embedder, FittedEmbedder
from cytolabe.models.registry import make_model
from cytolabe.records import Protocol

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("needs_torch")]

GENES = tuple(f"ENSG{number:011d}" for number in range(320))


@pytest.fixture
def views(make_train, make_query):
    """Return a train and a query view over 320 genes, with cells of very unequal numbers of genes."""

    def counts(n_cells, seed):
        rng = np.random.default_rng(seed)
        mean = rng.uniform(0.003, 0.4, (n_cells, 1)) * np.exp(rng.normal(0, 1, len(GENES)))
        return csr_matrix(rng.poisson(mean) + (np.arange(len(GENES)) < 2), dtype=np.int64)

    train = make_train(40, counts=counts(40, 1), genes=GENES)
    return train, make_query(60, counts=counts(60, 2), genes=GENES)


def in_numpy(weights, tokens, *, n_layers, n_heads):
    """The states of one cell after some layers: BERT with ReLU after its description, in float64."""
    weights = {name: weight.double().numpy() for name, weight in weights.items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    rows = [weights[f"bert.embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")]
    x = norm(rows[0][tokens] + rows[1][: len(tokens)] + rows[2][0], "bert.embeddings.LayerNorm")
    for number in range(n_layers):
        layer = f"bert.encoder.layer.{number}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}").reshape(len(tokens), n_heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weight / weight.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(x.shape)
        x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = np.maximum(linear(x, f"{layer}.intermediate.dense"), 0)
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


def ranked(counts, known, *, length):
    """The tokens of one cell, framed: values in the order of the published rule, ties by token."""
    total = counts.sum()
    genes = [place for place in np.flatnonzero(counts) if GENES[place] in known.tokens]
    value = {
        known.tokens[GENES[place]]: counts[place] / total * 10_000 / known.medians[GENES[place]] for place in genes
    }
    order = sorted(value, key=lambda token: (-value[token], token))
    return [known.tokens["<cls>"], *order[: length - 2], known.tokens["<eos>"]]


def fitted(folder, train, **options):
    return make_model("geneformer", checkpoint=folder, panels="flag", **options).fit(train, query=None, seed=0)


@pytest.mark.parametrize("layer", [0, -1, -2])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_an_embedding_is_that_of_the_network_written_out(folder, views, layer, pooling):
    train, query = views
    model = fitted(folder, train, layer=layer, pooling=pooling)
    assert isinstance(model, FittedEmbedder)
    weights = model.checkpoint.network.state_dict()
    for cell, ours in zip(query.counts.toarray(), model.embed(query), strict=True):
        tokens = ranked(cell, model.checkpoint.dictionaries, length=48)
        states = in_numpy(weights, tokens, n_layers=2 + layer, n_heads=2)
        expected = states[0] if pooling == "cls" else states[1:-1].mean(axis=0)
        assert np.abs(ours - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_layer_minus_one_is_the_second_to_last_and_every_layer_is_another(folder, views):
    train, query = views
    states = {layer: fitted(folder, train, layer=layer) for layer in (0, -1, -2)}
    assert states[-1].facts.layer == "hidden state 1 of 0..2 (layer -1 of the published code)"
    values = [model.embed(query) for model in states.values()]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(values, [*values[1:], values[0]], strict=True))


@pytest.mark.parametrize("tokens_per_minibatch", [1, 200, 100_000])
def test_order_minibatches_and_neighbors_move_a_value_by_rounding_alone(folder, views, tokens_per_minibatch):
    train, query = views
    model = fitted(folder, train, pooling="mean")
    together = model.embed(query)
    order = np.random.default_rng(0).permutation(60)[:23]
    some = dataclasses.replace(
        query, cell_ids=query.cell_ids[order], counts=query.counts[order], technical=query.technical.iloc[order]
    )
    apart = dataclasses.replace(model, tokens_per_minibatch=tokens_per_minibatch).embed(some)
    assert (np.abs(apart - together[order]) <= TOLERANCE * np.abs(together[order]).max(axis=1, keepdims=True)).all()


def test_weights_that_overflow_give_an_error_and_no_embedding(folder, views):
    train, query = views
    model = fitted(folder, train)
    for bias in model.network.bert.embeddings.LayerNorm.parameters():
        bias.data[:] = float("inf")
    with pytest.raises(ModelFailedError, match=r"Geneformer gave values that are not finite for 60 of 60 cells"):
        model.embed(query)


def test_a_cell_without_a_gene_of_the_dictionary_is_zero_and_counted(folder, views):
    train, query = views
    counts = query.counts.toarray()
    counts[[3, 7], :300] = 0
    model = fitted(folder, train)
    embedding = model.embed(dataclasses.replace(query, counts=csr_matrix(counts)))
    assert np.flatnonzero((embedding == 0).all(axis=1)).tolist() == [3, 7]
    assert any(note.startswith("2 of 60 cells have no gene") for note in model.notes)
    assert "20 of 320 genes have no token" in model.notes


def test_the_card_and_the_details_say_what_made_an_embedding(folder, views):
    made = make_model("geneformer", checkpoint=folder, panels="flag", pooling="mean")
    assert isinstance(made, Embedder)
    assert (made.card.protocol, made.card.pretraining) == (Protocol.ZERO_SHOT, ("genecorpus-104m",))
    fitted = made.fit(views[0], query=None, seed=0)
    assert isinstance(fitted, DescribedEmbedder)
    assert (fitted.facts.pooling, fitted.facts.precision) == ("mean over genes", "float32")
    details = fitted.facts.details
    stored = made.checkpoint.card
    assert details["weights"] == made.card.weights_digest == stored.weights
    assert details["dictionary.tokens"] == stored.dictionaries["tokens"]
    assert details["max_length"] == "48"


def test_random_weights_are_a_control_that_another_seed_changes(folder, views):
    train, query = views
    made = make_model("geneformer", checkpoint=folder, panels="flag", weights="random")
    assert (made.card.protocol, made.card.weights_digest) == (Protocol.CONTROL, "")
    controls = [made.fit(train, query=None, seed=seed) for seed in (5, 5, 6)]
    told = [one.facts.details["weights"] for one in controls]
    assert told[0] == told[1] == network_digest(blank_network(made.checkpoint.shape, seed=5)) != told[2]
    first, again, other = (one.embed(query) for one in controls)
    assert (first == again).all()
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - fitted(folder, train).embed(query)).max() > 0.1


def test_half_precision_is_close_and_not_equal(folder, views):
    train, query = views
    exact, half = (fitted(folder, train, precision=one).embed(query) for one in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - half).max() < 0.1
    assert half.dtype == np.float32


def test_a_panel_and_other_genes_than_those_of_the_fit_are_refused(folder, views):
    train, query = views
    with pytest.raises(RefusedError, match="R3"):
        make_model("geneformer", checkpoint=folder).fit(train, query=None, seed=0)
    other = dataclasses.replace(query, genes=query.genes[::-1])
    with pytest.raises(UnmeasuredGeneError):
        fitted(folder, train).embed(other)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layer": 1}, "0 is the last"),
        ({"layer": -3}, "2 layers"),
        ({"pooling": "max"}, "cls, mean"),
        ({"max_length": 49}, "48"),
    ],
)
def test_a_layer_a_pooling_and_a_length_that_the_network_lacks_are_refused(folder, options, told):
    with pytest.raises(UsageError, match=told):
        make_model("geneformer", checkpoint=folder, **options)


def test_the_first_generation_has_no_cls_and_is_pooled_over_all_its_genes(folder, views, make_dictionaries, make_shape):
    embedder = make_model("geneformer", checkpoint=folder, panels="flag")
    first = dataclasses.replace(embedder.checkpoint, dictionaries=make_dictionaries(second=False, n_genes=302))
    with pytest.raises(UsageError, match="no <cls>"):
        dataclasses.replace(embedder, checkpoint=first, pooling="cls")
    model = dataclasses.replace(embedder, checkpoint=first, layer=0).fit(views[0], query=None, seed=0)
    cells = model.tokenizer.tokenize(views[1].counts)
    expected = in_numpy(first.network.state_dict(), cells.tokens[0, : cells.lengths[0]], n_layers=2, n_heads=2).mean(
        axis=0
    )
    assert model.embed(views[1])[0] == pytest.approx(expected, abs=1e-5)


def test_minibatches_hold_every_cell_once_within_their_budget():
    lengths = np.random.default_rng(0).integers(1, 500, 400)
    rows = list(by_length(lengths, tokens_per_minibatch=1000))
    assert sorted(np.concatenate(rows)) == list(range(400))
    assert all(len(one) * lengths[one].max() <= 1000 for one in rows)
    n_padded = sum(int((lengths[one].max() - lengths[one]).sum()) for one in rows)
    assert n_padded < 0.03 * lengths.sum()


def test_grouped_minibatches_hold_every_cell_once_and_little_that_only_fills_up():
    lengths = np.random.default_rng(0).integers(1, 500, 3001)
    epochs = [length_grouped(lengths, size=8, seed=1, epoch=epoch) for epoch in (0, 0, 1)]
    assert all(sorted(np.concatenate(one)) == list(range(3001)) for one in epochs)
    assert all((a == b).all() for a, b in zip(epochs[0], epochs[1], strict=True))
    assert any(set(a) != set(b) for a, b in zip(epochs[0], epochs[2], strict=True))
    n_padded = sum(int((lengths[one].max() - lengths[one]).sum()) for one in epochs[0])
    assert n_padded < 0.1 * lengths.sum()
    longest = [lengths[one].max() for one in epochs[0]]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2
