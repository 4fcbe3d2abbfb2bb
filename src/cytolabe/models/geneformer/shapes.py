"""The shapes of Geneformer: what is published, and three to train here.

All are BertForMaskedLM with ReLU, learned absolute positions (position = rank) and a tied decoder. Heads and widths of
the 95 M generation are not published; they are those that give the parameter counts in the names of its weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cytolabe.errors import UnreadableInputError, UsageError

__all__ = ["SHAPES", "GeneformerShape", "shape_named", "shape_of_config"]

_FROM_CONFIG = {
    "n_tokens": "vocab_size",
    "n_layers": "num_hidden_layers",
    "width": "hidden_size",
    "n_heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "n_positions": "max_position_embeddings",
}
_FIXED = {"model_type": "bert", "type_vocab_size": 2, "hidden_act": "relu", "pad_token_id": 0}
"""What every Geneformer has; a checkpoint that says otherwise is none."""


@dataclass(frozen=True, kw_only=True)
class GeneformerShape:
    """Sizes of a network. `dropout` is that of hidden states, and of attention where `attention_dropout` is None."""

    n_tokens: int
    n_layers: int
    width: int
    n_heads: int
    feed_forward: int
    n_positions: int
    dropout: float = 0.02
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    attention_dropout: float | None = None

    def __post_init__(self) -> None:
        """Refuse a shape that no network can have."""
        sizes = {name: getattr(self, name) for name in _FROM_CONFIG}
        wrong = sorted(name for name, size in sizes.items() if size < 1)
        is_dropout = 0 <= self.dropout < 1 and 0 <= (self.attention_dropout or 0.0) < 1
        if wrong or self.width % self.n_heads or not is_dropout:
            msg = f"No network has this shape ({', '.join(wrong) or 'width, heads or dropout'}): {self}."
            raise UsageError(msg)

    @property
    def config(self) -> dict[str, object]:
        """The shape in the words of `config.json`."""
        sizes = {word: getattr(self, name) for name, word in _FROM_CONFIG.items()}
        return {
            **_FIXED,
            **sizes,
            "architectures": ["BertForMaskedLM"],
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout if self.attention_dropout is None else self.attention_dropout,
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
        }


def _published(
    layers: int, width: int, *, heads: int, feed_forward: int, first: bool = False, dropout: float = 0.02
) -> GeneformerShape:
    return GeneformerShape(
        n_tokens=25_426 if first else 20_275, n_layers=layers, width=width, n_heads=heads, feed_forward=feed_forward,
        n_positions=2048 if first else 4096, dropout=dropout,
    )  # fmt: skip


_V2_104M = _published(12, 768, heads=12, feed_forward=3072, dropout=0.1)
_V2_38M = _published(12, 512, heads=8, feed_forward=1024)

SHAPES: Mapping[str, GeneformerShape] = {
    "V1-10M": _published(6, 256, heads=4, feed_forward=512, first=True),
    "V1-40M": _published(12, 512, heads=8, feed_forward=1024, first=True),
    "V2-38M": _V2_38M,
    "V2-38M_CLcancer": _V2_38M,
    "V2-151M": _published(20, 896, heads=14, feed_forward=1792),
    "V2-104M": _V2_104M,
    "V2-104M_CLcancer": _V2_104M,
    "V2-316M": _published(18, 1152, heads=18, feed_forward=4608, dropout=0.1),
    "tiny": GeneformerShape(
        n_tokens=1000, n_layers=2, width=32, n_heads=2, feed_forward=64, n_positions=64, attention_dropout=0.0
    ),
    "small": GeneformerShape(
        n_tokens=20_275, n_layers=3, width=128, n_heads=4, feed_forward=256, n_positions=512, attention_dropout=0.0
    ),
    "base": GeneformerShape(n_tokens=20_275, n_layers=6, width=256, n_heads=4, feed_forward=512, n_positions=2048),
}
"""Published shapes by their official names (V1-40M is also called 12L-30M), then `tiny`, `small` and `base` to train here.

`tiny` and `small` are for processors, where torch has no fused attention with dropout: without it a step of `small`
costs about half. `base` drops attention as the published ones do.
"""


def shape_named(name: str) -> GeneformerShape:
    """Return a shape by name.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in SHAPES:
        msg = f"Geneformer has no shape {name!r}. Known: {', '.join(SHAPES)}."
        raise UsageError(msg)
    return SHAPES[name]


def shape_of_config(config: Mapping[str, Any], *, where: str) -> GeneformerShape:
    """Return the shape that a `config.json` describes.

    Raises
    ------
    UnreadableInputError
        If a size is missing, or something stands there that no Geneformer has.
    """
    other = {name: config[name] for name, value in _FIXED.items() if config.get(name, value) != value}
    if other or config.get("position_embedding_type", "absolute") != "absolute":
        told = ", ".join(f"{name} = {value!r}" for name, value in sorted(other.items())) or "relative positions"
        msg = f"{where}: describes no Geneformer ({told}; every published one is a BERT with ReLU and absolute positions)."
        raise UnreadableInputError(msg)
    try:
        sizes = {name: _whole(config[word]) for name, word in _FROM_CONFIG.items()}
        dropout = float(config.get("hidden_dropout_prob", 0.1))
        of_attention = float(config.get("attention_probs_dropout_prob", 0.1))
        return GeneformerShape(
            **sizes,
            dropout=dropout,
            attention_dropout=None if of_attention == dropout else of_attention,
            layer_norm_eps=float(config.get("layer_norm_eps", 1e-12)),
            initializer_range=float(config.get("initializer_range", 0.02)),
        )
    except (KeyError, TypeError, ValueError, UsageError) as error:
        msg = f"{where}: no shape of a network can be read from it ({type(error).__name__}: {error})."
        raise UnreadableInputError(msg) from None


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value
