"""The network: BertForMaskedLM of transformers with SDPA, made blank from a seed, or filled from stored weights.

Blank weights come from a forked generator, so that making a network disturbs nothing and equal seeds give equal
weights. Of a checkpoint every key has a fate (`models.weights`): the decoder is tied to the embeddings and may be
absent; the stale `position_ids` of old files and a pooler that masked training never touched are left over by rule.
"""

from collections.abc import Mapping
from typing import Any

from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.shapes import GeneformerShape
from cytolabe.models.weights import KeyRules, LoadedKeys, fill_network
from cytolabe.randomness import derive_seed

__all__ = ["KEY_RULES", "blank_network", "filled_network", "gene_positions", "hidden_states", "looked_at"]

KEY_RULES = KeyRules(
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=(r"bert\.embeddings\.position_ids", r"bert\.pooler\.dense\.(weight|bias)"),
)


def blank_network(shape: GeneformerShape, *, seed: int, device: str = "cpu") -> Any:  # noqa: ANN401 - untyped library
    """Return a network with random weights, in evaluation mode.

    Parameters
    ----------
    seed
        The run's seed.
    device
        `meta` makes a network without values, which costs nothing.
    """
    torch, transformers = import_extra("torch"), import_extra("transformers")
    words = {name: value for name, value in shape.config.items() if name not in ("model_type", "architectures")}
    config = transformers.BertConfig(**words)
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(derive_seed(seed, "models", "geneformer", "weights"))
        return transformers.BertForMaskedLM(config).eval()


def filled_network(shape: GeneformerShape, weights: Mapping[str, Any], *, where: str) -> tuple[Any, LoadedKeys]:
    """Return a network with stored weights, and what became of every key.

    Raises
    ------
    IntegrityError
        If the weights are not those of a network of this shape; the message names the keys.
    """
    network = blank_network(shape, seed=0)
    return network, fill_network(network, weights, rules=KEY_RULES, where=where)


def hidden_states(network: Any, tokens: Any, mask: Any, *, n_layers: int) -> Any:  # noqa: ANN401 - tensors
    """Return the state of every position after `n_layers` layers: cells x positions x width.

    Layers above are not computed. 0 layers give the embeddings of tokens and ranks.

    Parameters
    ----------
    tokens, mask
        Cells x positions; the mask is 1 where a token stands, 0 where a cell is filled up.
    """
    encoder, states = network.bert.encoder, network.bert.embeddings(input_ids=tokens)
    # Where no cell is filled up there is nothing to mask, and attention takes its fastest path.
    attention = None if bool(mask.all()) else mask.bool()[:, None, None, :]
    for layer in encoder.layer[:n_layers]:
        states = layer(states, attention)
        states = states[0] if isinstance(states, tuple) else states
    return states


def looked_at(network: Any, tokens: Any, *, layer: int) -> tuple[Any, Any, Any]:  # noqa: ANN401 - tensors
    """Return the states of every position after a layer, and its queries and keys by head: heads x positions x dims.

    Parameters
    ----------
    tokens
        Of one cell, 1 x positions, none of which fills up.
    layer
        1 is the first.
    """
    entering = hidden_states(network, tokens, tokens >= 0, n_layers=layer - 1)
    asked = network.bert.encoder.layer[layer - 1]
    reads, n_heads = asked.attention.self, network.config.num_attention_heads
    query, key = (part(entering)[0].unflatten(1, (n_heads, -1)).transpose(0, 1) for part in (reads.query, reads.key))
    states = asked(entering, None)
    return (states[0] if isinstance(states, tuple) else states)[0], query, key


def gene_positions(stands: Any, *, has_frame: bool) -> Any:  # noqa: ANN401 - tensors
    """Return which positions hold a gene: cells x positions, true or false.

    Parameters
    ----------
    stands
        Which positions hold a token; the others fill up on the right.
    has_frame
        Whether the first and the last token of a cell are special (second generation).
    """
    if not has_frame:
        return stands
    places = import_extra("torch").arange(stands.shape[1], device=stands.device)[None]
    return (places > 0) & (places < stands.sum(dim=1, keepdim=True) - 1)
