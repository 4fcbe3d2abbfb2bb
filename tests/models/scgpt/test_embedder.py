"""Embeddings by frozen weights: the state of <cls>, for each cell by itself, with what made them beside."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch")

from cytolabe.errors import IntegrityError, ModelFailedError, RefusedError, UnmeasuredGeneError, UsageError  # noqa: E402
from cytolabe.models.protocols import DescribedEmbedder, Embedder, GeneEmbedder  # noqa: E402
from cytolabe.models.registry import make_model  # noqa: E402
from cytolabe.models.scgpt.checkpoint import fresh_network, load_scgpt  # noqa: E402
from cytolabe.models.scgpt.configuration import ScgptConfig  # noqa: E402
from cytolabe.models.scgpt.network import CellTokens  # noqa: E402
from cytolabe.records import UNKNOWN, Protocol  # noqa: E402

pytestmark = pytest.mark.models


@pytest.fixture
def checkpoint(tmp_path, make_query):
    """A folder as published: args, a vocabulary of most genes of the views, weights."""
    genes = make_query().genes[:50]
    vocabulary = {name: number for number, name in enumerate(genes)}
    arguments = {
        "embsize": 16,
        "nheads": 4,
        "d_hid": 24,
        "nlayers": 2,
        "n_bins": 51,
        "max_seq_len": 1200,
        "pad_value": -2,
    }
    config = ScgptConfig(
        n_tokens=53,
        pad_token=50,
        d_model=16,
        n_heads=4,
        d_hidden=24,
        n_layers=2,
        n_classes=1,
        mvc_style="inner product",
    )
    weights = fresh_network(config, seed=4).state_dict()
    (tmp_path / "args.json").write_text(json.dumps(arguments))
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "model.safetensors").write_bytes(safetensors_torch.save({k: v.clone() for k, v in weights.items()}))
    return tmp_path


def embedded(checkpoint, train, query, *, seed=1, **options):
    model = make_model("scgpt", checkpoint=checkpoint, panels="flag", **options)
    fitted = model.fit(train, query=None, seed=seed)
    return fitted, fitted.embed(query)


def test_an_embedding_is_the_state_of_cls_of_each_cell_alone(checkpoint, make_train, make_query):
    query = make_query(20)
    fitted, found = embedded(checkpoint, make_train(), query)
    network = load_scgpt(checkpoint).network
    cells = fitted.tokenizer.tokenize(query.counts, cell_ids=query.cell_ids, seed=1)
    for cell in range(20):
        part = slice(cells.bounds[cell], cells.bounds[cell + 1])
        genes, values = torch.from_numpy(cells.genes[part])[None], torch.from_numpy(cells.values[part])[None]
        with torch.no_grad():
            tokens = CellTokens(genes=genes, values=values, padding=torch.zeros_like(genes, dtype=torch.bool))
            state = network.encode(tokens).states[0, 0].numpy()
        np.testing.assert_allclose(found[cell], state / np.linalg.norm(state), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_weights_that_overflow_give_an_error_and_no_embedding(checkpoint, make_train, make_query):
    query = make_query(20)
    fitted, _ = embedded(checkpoint, make_train(), query)
    with torch.no_grad():
        fitted.model.network.encoder.embedding.weight[0] = 1e38
        fitted.model.network.encoder.enc_norm.weight[:] = float("inf")
    with pytest.raises(ModelFailedError, match=r"scGPT gave values that are not finite for 20 of 20 cells"):
        fitted.embed(query)


def test_an_embedding_depends_on_neither_order_nor_chunk_nor_neighbors(checkpoint, make_train, make_query):
    query = make_query(60)
    _, together = embedded(checkpoint, make_train(), query, max_length=20)
    order = np.random.default_rng(1).permutation(60)[:17]
    few = make_query(
        60, cell_ids=query.cell_ids[order], counts=query.counts[order], technical=query.technical.iloc[order]
    )
    _, alone = embedded(checkpoint, make_train(), few, max_length=20)
    np.testing.assert_allclose(alone, together[order], atol=1e-6)
    _, other = embedded(checkpoint, make_train(), query, max_length=20, seed=2)
    assert np.abs(other - together).max() > 1e-3


def test_ties_without_chance_give_one_embedding_for_every_seed(checkpoint, make_train, make_query):
    found = [embedded(checkpoint, make_train(), make_query(), ties="mid", seed=seed)[1] for seed in (1, 2)]
    np.testing.assert_array_equal(*found)


def test_card_and_facts_name_weights_vocabulary_and_how_cells_are_read(checkpoint, make_train, make_query):
    model = make_model("scgpt", checkpoint=checkpoint, panels="flag", corpus=("scgpt-human",), max_length=30)
    loaded = load_scgpt(checkpoint)
    assert isinstance(model, Embedder)
    assert (model.card.protocol, model.card.pretraining) == (Protocol.ZERO_SHOT, ("scgpt-human",))
    assert model.card.weights_digest == loaded.weights_digest
    assert make_model("scgpt", checkpoint=checkpoint).card.pretraining == (UNKNOWN,)
    fitted = model.fit(make_train(), query=None, seed=0)
    assert isinstance(fitted, DescribedEmbedder)
    facts = fitted.facts
    assert (facts.layer, facts.pooling, facts.precision) == ("2 (last)", "<cls>, length 1", "float32")
    assert facts.details == {
        "weights": loaded.weights_digest, "vocabulary": loaded.vocabulary.digest, "max_length": "30", "n_bins": "51",
        "ties": "random",
    }  # fmt: skip


def test_scopes_name_the_cells_that_fit_was_handed_and_notes_what_was_read(checkpoint, make_train, make_query):
    train = make_train()
    fitted, _ = embedded(checkpoint, train, make_query(), max_length=10)
    assert [(scope.step, scope.n_cells) for scope in fitted.scopes] == [("scgpt/frozen", len(train.cell_ids))]
    assert any(note.startswith("10 of 60 genes are not in the vocabulary") for note in fitted.notes)
    assert any("more genes than 9" in note for note in fitted.notes)
    assert any(note.startswith("a panel") for note in fitted.notes)


def test_a_cell_without_counts_in_the_vocabulary_is_cls_alone_and_told(checkpoint, make_train, make_query):
    query = make_query(5)
    counts = query.counts.toarray()
    counts[2, :50] = 0
    fitted, found = embedded(checkpoint, make_train(), make_query(5, counts=type(query.counts)(counts)))
    assert np.isfinite(found).all()
    assert any(note.startswith("1 of 5 cells have no counts") for note in fitted.notes)


def test_random_weights_are_a_control_of_the_same_shape_and_of_the_seed(checkpoint, make_train, make_query):
    model = make_model("scgpt", checkpoint=checkpoint, panels="flag", weights="random")
    assert (model.card.protocol, model.card.pretraining, model.card.weights_digest) == (Protocol.CONTROL, (), "")
    found = [model.fit(make_train(), query=None, seed=seed).embed(make_query()) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-2
    assert np.abs(found[0] - embedded(checkpoint, make_train(), make_query())[1]).max() > 1e-2


def test_a_panel_is_refused_and_other_genes_than_those_of_the_fit(checkpoint, make_train, make_query):
    with pytest.raises(RefusedError, match=r"60 genes.*rule R3"):
        make_model("scgpt", checkpoint=checkpoint).fit(make_train(), query=None, seed=0)
    fitted, _ = embedded(checkpoint, make_train(), make_query())
    with pytest.raises(UnmeasuredGeneError):
        fitted.embed(make_query(genes=make_query().genes[::-1]))


def test_a_checkpoint_with_another_digest_is_refused(checkpoint):
    with pytest.raises(IntegrityError, match="expected was sha256:0"):
        make_model("scgpt", checkpoint=checkpoint, expected="sha256:0")


def test_a_network_that_reads_batches_embeds_no_cell_of_unknown_batch(checkpoint, make_train, make_query):
    fitted, _ = embedded(checkpoint, make_train(), make_query())
    loaded = load_scgpt(checkpoint, batch_norm="by_batch", n_batches=2)
    with pytest.raises(UsageError, match="normalizes by batch"):
        dataclasses.replace(fitted, model=loaded).embed(make_query())


def test_gene_embeddings_are_what_enters_the_encoder_and_unknown_genes_are_refused(checkpoint, make_train, make_query):
    fitted, _ = embedded(checkpoint, make_train(), make_query())
    assert isinstance(fitted, GeneEmbedder)
    genes = make_query().genes
    assert fitted.known_genes == genes[:50]
    rows = fitted.embed_genes([genes[7], genes[3]])
    expected = fitted.model.network.encoder(torch.tensor([7, 3])).detach().numpy()
    np.testing.assert_array_equal(rows, expected)
    with pytest.raises(UnmeasuredGeneError, match="2 of 3 genes"):
        fitted.embed_genes([genes[0], genes[55], "nobody"])
