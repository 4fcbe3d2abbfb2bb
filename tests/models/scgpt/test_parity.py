"""Our network against the published code on the same weights: every head, every style, losses and gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

from cytolabe.models.scgpt import objectives  # noqa: E402
from cytolabe.models.scgpt.configuration import ScgptConfig  # noqa: E402
from cytolabe.models.scgpt.heads import CellDecoder  # noqa: E402
from cytolabe.models.scgpt.network import CellTokens, ScgptNetwork  # noqa: E402

pytestmark = pytest.mark.models

TOLERANCE = 1e-5
SEVERAL, ONE = torch.tensor([0, 2, 1, 1, 0]), torch.full((5,), 1)
CASES = {
    "plain": {},
    "flash_post": {},
    "flash_pre": {"norm": "pre"},
    "zeros_batches": {"explicit_zero": True, "batch_input": True, "n_batches": 3},
    "category": {"value_style": "category", "n_value_levels": 53, "pad_value": 51},
    "scaling": {"value_style": "scaling"},
    "adversary_dsbn": {"adversary": True, "batch_norm": "by_batch", "n_batches": 3},
    "shared_norm": {"batch_norm": "shared"},
    "avg_pool": {"cell_style": "avg-pool"},
    "w_pool": {"cell_style": "w-pool"},
    "modalities": {"n_modalities": 3},
    "modalities_batches": {"n_modalities": 3, "batch_input": True, "n_batches": 3},
}


def network_of(original, **changes):
    network = ScgptNetwork(ScgptConfig(**{**original.shape, **changes}))
    network.load_state_dict(original.weights_of(network))
    return network.eval()


def cells_of(original, case, **more):
    genes, values, padding = original.arrays(padded=not case.endswith("pool"), category=case == "category")
    modalities = torch.from_numpy(np.random.default_rng(3).integers(1, 3, tuple(genes.shape))).masked_fill(padding, 0)
    batches = ONE if case == "adversary_dsbn" else SEVERAL
    return CellTokens(genes=genes, values=values, padding=padding, batches=batches, modalities=modalities, **more)


def same(found, expected, valid=...):
    scale = max(1.0, float(np.abs(expected[valid]).max()))
    np.testing.assert_allclose(found.detach().numpy()[valid] / scale, expected[valid] / scale, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_every_head_answers_as_the_published_code_on_valid_tokens(case, original):
    network, tokens, expected = network_of(original, **CASES[case]), cells_of(original, case), original.golden(case)
    with torch.no_grad():
        answer, states, cells = network(tokens), network.encode(tokens).states, network.cell_embeddings(tokens)
    valid = (~tokens.padding).numpy()
    found = {
        "states": states, "cells": answer.cells, "gep": answer.gep.values, "gep_nonzero": answer.gep.nonzero,
        "mvc": answer.mvc.values, "mvc_nonzero": answer.mvc.nonzero, "classes": answer.classes, "batches": answer.batches,
        "ecs": objectives.elastic_similarity(answer.cells, threshold=0.3), "cce": objectives.contrast(answer.cells, answer.cells),
    }  # fmt: skip
    assert len(expected) >= 5
    for name, values in expected.items():
        same(found[name], values, valid if values.shape == valid.shape or name == "states" else ...)
    same(cells, expected["cells"])


@pytest.mark.parametrize("style", ["sum query", "concat query"])
def test_mvc_asked_by_sum_or_concatenation_answers_as_the_published_decoder(style, original):
    decoder = CellDecoder(ScgptConfig(**{**original.shape, "mvc_style": style}))
    decoder.load_state_dict(
        {name: original.drawn(f"mvc_decoder.{name}", tuple(old.shape)) for name, old in decoder.state_dict().items()}
    )
    rng = np.random.default_rng(5)
    cells, genes = (torch.from_numpy(rng.normal(size=s).astype(np.float32)) for s in ((5, 16), (5, 9, 16)))
    same(decoder(cells, genes).values, original.golden(style.replace(" ", "_"))["mvc"])


def test_losses_and_gradients_of_training_are_those_of_the_published_code(original):
    network = network_of(original, adversary=True, batch_norm="by_batch", n_batches=3, explicit_zero=True).train()
    tokens, expected = cells_of(original, "adversary_dsbn"), original.golden("training")
    answer = network(tokens)
    masked = torch.from_numpy(np.random.default_rng(6).random((5, 9)) < 0.4) & ~tokens.padding
    losses = {
        "gep": objectives.masked_squares(answer.gep.values, tokens.values, masked),
        "nll": objectives.zero_likelihood(answer.gep.nonzero, tokens.values, masked),
        "ecs": objectives.elastic_similarity(answer.cells, threshold=0.3),
        "cce": objectives.contrast(answer.cells, network.encode(tokens).cells),
        "dab": objectives.told_batch(answer.batches, ONE),
    }
    weights = {"ecs": 10, "cce": 10}
    sum(weights.get(name, 1) * loss for name, loss in losses.items()).backward()
    gradients = {
        "g_attention": network.transformer_encoder.layers[0].self_attn.in_proj_weight.grad,
        "g_adversary": network.grad_reverse_discriminator.out_layer.weight.grad,
        "g_values": network.value_encoder.linear1.weight.grad,
        "running_mean": network.dsbn.bns[1].running_mean,
    }
    assert set(expected) == {*losses, *gradients}
    for name, found in {**losses, **gradients}.items():
        same(found, expected[name])


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_generative_pass_answers_as_the_published_layers(norm, original):
    network = network_of(original, generation="original", norm=norm)
    genes, values, padding = original.arrays()
    more = torch.from_numpy(np.random.default_rng(8).integers(2, original.n_genes, (5, 4)))
    no_gene = torch.zeros(5, 4, dtype=torch.bool)
    no_gene[2, 3] = no_gene[4, 1:] = True
    joined = {
        "genes": torch.cat([genes, more.masked_fill(no_gene, 0)], 1),
        "values": torch.cat([values, torch.zeros(5, 4)], 1),
        "padding": torch.cat([padding, no_gene], 1),
    }
    expected = original.golden(f"generated_{norm}")
    with torch.no_grad():
        answer = network(CellTokens(**joined, n_perceived=9))
        again = network(CellTokens(**joined, n_perceived=9, cells=answer.cells))
    valid = (~joined["padding"]).numpy()
    same(answer.gep.values, expected["gep"], valid)
    same(answer.mvc.values, expected["mvc"])
    same(answer.cells, expected["cells"])
    same(again.gep.values[:, 9:], expected["again"], valid[:, 9:])


def test_a_projection_in_generated_tokens_is_told_from_the_published_rule(original):
    network = network_of(original, generation="projected")
    genes, values, padding = original.arrays()
    tokens = CellTokens(genes=genes, values=values, padding=padding, n_perceived=5)
    with torch.no_grad():
        ours = network(tokens).gep.values
        theirs = network_of(original, generation="original")(tokens).gep.values
    torch.testing.assert_close(ours[:, :5], theirs[:, :5])
    assert (ours[0, 5:] - theirs[0, 5:]).abs().max() > 1e-2


def test_generated_genes_see_all_perceived_ones_and_no_other_generated_one(original):
    network = network_of(original, generation="projected")
    genes, values, padding = original.arrays(padded=False)

    def answer(order):
        with torch.no_grad():
            tokens = CellTokens(genes=genes[:, order], values=values[:, order], padding=padding, n_perceived=5)
            return network(tokens).gep.values

    alone = [answer([0, 1, 2, 3, 4, place, 5, 6, 7])[:, 5] for place in (6, 7, 8)]
    together = answer(list(range(9)))
    for place, values_alone in zip((6, 7, 8), alone, strict=True):
        torch.testing.assert_close(values_alone, together[:, place], atol=1e-5, rtol=0)
    moved = CellTokens(genes=genes, values=values + torch.eye(9)[8] * 7, padding=padding, n_perceived=5)
    torch.testing.assert_close(network(moved).gep.values, together, atol=0, rtol=0)


def test_batches_in_one_minibatch_are_normalized_each_for_itself(original):
    network = network_of(original, batch_norm="by_batch", n_batches=3).train()
    genes, values, padding = original.arrays(padded=False)
    rows = SEVERAL == 0

    def states(which):
        tokens = CellTokens(genes=genes[which], values=values[which], padding=padding[which], batches=SEVERAL[which])
        return network.encode(tokens).states

    mixed, alone = states(slice(None)), states(rows)
    torch.testing.assert_close(mixed[rows], alone, atol=1e-5, rtol=0)


def test_attention_of_the_last_layer_sums_to_one_and_gives_nothing_to_padding(original):
    network, tokens = network_of(original), cells_of(original, "plain")
    weights = network.attention(tokens)
    assert weights.shape == (5, 4, 9, 9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 4, 9))
    assert (weights.transpose(1, 3)[tokens.padding] == 0).all()


def test_attention_mixes_values_into_what_the_layer_itself_gathers(original):
    network, tokens = network_of(original, n_layers=1), cells_of(original, "plain")
    with torch.no_grad():
        states = network._input(tokens, network.encoder(tokens.genes))
        layer = network.transformer_encoder.layers[0].self_attn
        value = layer.projected(states)[2]
        mixed = layer.out_proj((network.attention(tokens) @ value).transpose(1, 2).flatten(2))
        whole = layer(states, ~tokens.padding[:, None, None, :], None)
    torch.testing.assert_close(mixed, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"batch_norm": "by_batch", "n_batches": 3}, "batches"),
        ({"batch_input": True, "n_batches": 3}, "batches"),
        ({"n_modalities": 3}, "modalities"),
    ],
)
def test_a_network_that_reads_batches_or_modalities_refuses_cells_without(changes, word, original):
    genes, values, padding = original.arrays()
    with pytest.raises(ValueError, match=f"reads {word}"):
        network_of(original, **changes)(CellTokens(genes=genes, values=values, padding=padding))


@pytest.mark.parametrize("changes", [{}, {"generation": "original", "value_style": "scaling"}])
def test_a_network_without_a_flag_for_generated_genes_generates_none(changes, original):
    genes, values, padding = original.arrays()
    with pytest.raises(ValueError, match="no flag"):
        network_of(original, **changes).encode(CellTokens(genes=genes, values=values, padding=padding, n_perceived=4))
