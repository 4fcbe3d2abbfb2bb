"""The shape of an scGPT network, and how the published `args.json` says it.

Two shapes are easy to confuse: `norm="pre"` is that of the published flash layer (the residual adds to the normalized
states), which its torch layer never had; and published checkpoints never say which heads they carry: the weights do
(`checkpoint`). Names and defaults as the published code has them: scgpt/model/model.py, commit cebd6fa.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cytolabe.errors import UnreadableInputError, UsageError

__all__ = ["BatchNorm", "CellStyle", "MvcStyle", "ScgptConfig", "ValueStyle", "read_arguments"]

ValueStyle = Literal["continuous", "category", "scaling"]
CellStyle = Literal["cls", "avg-pool", "w-pool"]
MvcStyle = Literal["none", "inner product", "inner product, detach", "concat query", "sum query"]
BatchNorm = Literal["none", "shared", "by_batch", "by_batch_affine"]
Generation = Literal["none", "projected", "original"]

_ARGUMENTS: Mapping[str, tuple[str, type]] = {
    "embsize": ("d_model", int), "nheads": ("n_heads", int), "d_hid": ("d_hidden", int), "nlayers": ("n_layers", int),
    "n_layers_cls": ("n_layers_cls", int), "dropout": ("dropout", float), "n_bins": ("n_bins", int),
    "max_seq_len": ("max_length", int), "mask_value": ("mask_value", int), "pad_value": ("pad_value", int),
    "input_emb_style": ("value_style", str), "cell_emb_style": ("cell_style", str),
}  # fmt: skip
_CHOICES: Mapping[str, tuple[str, ...]] = {"value_style": get_args(ValueStyle), "cell_style": get_args(CellStyle)}
_REQUIRED = ("embsize", "nheads", "d_hid", "nlayers")


@dataclass(frozen=True, kw_only=True)
class ScgptConfig:
    """What a network is made of.

    Raises
    ------
    UsageError
        If a number is out of range or a choice is unknown.
    """

    n_tokens: int
    """Rows of the gene embedding: genes and special tokens."""
    pad_token: int
    d_model: int = 512
    n_heads: int = 8
    d_hidden: int = 512
    n_layers: int = 12
    dropout: float = 0.2
    attention_dropout: float | None = None
    """Share of attention weights that training drops; `dropout` without it, as in every published network."""
    norm: Literal["post", "pre"] = "post"
    max_length: int = 1200
    """Tokens of a cell, `<cls>` among them."""
    n_bins: int = 51
    mask_value: int = -1
    pad_value: int = -2
    value_style: ValueStyle = "continuous"
    n_value_levels: int = 0
    """Levels of `value_style="category"`."""
    cell_style: CellStyle = "cls"
    explicit_zero: bool = False
    """Whether decoders also give the probability that a value is not zero."""
    mvc_style: MvcStyle = "none"
    n_classes: int = 0
    n_layers_cls: int = 3
    n_batches: int = 0
    batch_input: bool = False
    """Whether decoders read an embedding of the batch."""
    batch_norm: BatchNorm = "none"
    adversary: bool = False
    """Whether a discriminator of batches is trained against (DAB)."""
    n_modalities: int = 0
    """Modality tokens of a multi-omics network, the one of padding (0) among them; 0 = no modalities."""
    generation: Generation = "none"
    """`original` leaves out the output projection of generated tokens, as the published code does."""

    def __post_init__(self) -> None:
        """Refuse what no network can be."""
        least = {
            "n_tokens": 1,
            "d_model": 1,
            "n_heads": 1,
            "d_hidden": 1,
            "n_layers": 1,
            "max_length": 2,
            "n_layers_cls": 1,
        }
        wrong = [f"{name} = {getattr(self, name)}" for name, low in least.items() if getattr(self, name) < low]
        shares = (self.dropout, self.dropped_attention)
        is_dropout = all(0 <= share < 1 for share in shares)
        if wrong or self.d_model % self.n_heads or not is_dropout or not 0 <= self.pad_token < self.n_tokens:
            wrong = wrong or [
                f"d_model {self.d_model}, n_heads {self.n_heads}, dropout {shares}, pad_token {self.pad_token}"
            ]
            msg = (
                f"No scGPT network has {', '.join(wrong)}: sizes are positive, d_model is a multiple of n_heads, dropout "
                "in [0, 1), and padding is a token."
            )
            raise UsageError(msg)
        if self.value_style == "category" and self.n_value_levels < 1:
            msg = "value_style 'category' needs n_value_levels: bins, one for masked and one for padded values."
            raise UsageError(msg)
        if self.n_batches < 2 and (self.batch_input or self.adversary or self.batch_norm.startswith("by_batch")):
            msg = f"n_batches is {self.n_batches}; batch_input, adversary and batch_norm by batch need two or more."
            raise UsageError(msg)
        if self.mvc_style.endswith("query") and (self.explicit_zero or (self.batch_input and not self.n_modalities)):
            msg = f"mvc_style {self.mvc_style!r} reads no batch and says no zero; take 'inner product' for these."
            raise UsageError(msg)
        if self.n_modalities and self.cell_style != "cls":
            msg = f"A multi-omics network has cell_style 'cls', not {self.cell_style!r}."
            raise UsageError(msg)

    @property
    def dropped_attention(self) -> float:
        """Share of attention weights that training drops, in [0, 1)."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout


def read_arguments(content: bytes, *, where: str) -> dict[str, Any]:
    """Return the fields of `ScgptConfig` that an `args.json` gives; whatever else it says is passed over.

    Raises
    ------
    UnreadableInputError
        If it is no JSON object, lacks a size, or a value is of the wrong kind or unknown.
    """
    try:
        found = json.loads(content)
    except ValueError as error:
        msg = f"{where}: no JSON ({error})."
        raise UnreadableInputError(msg) from None
    lacking = [name for name in _REQUIRED if name not in found] if isinstance(found, dict) else list(_REQUIRED)
    if lacking:
        msg = f"{where}: lacks {', '.join(lacking)}, so that the network cannot be built. Take the file of the checkpoint."
        raise UnreadableInputError(msg)
    fields: dict[str, Any] = {}
    for name, (field, kind) in _ARGUMENTS.items():
        if name in found:
            fields[field] = _typed(found[name], kind, f"{where}: {name}")
            if fields[field] not in _CHOICES.get(field, (fields[field],)):
                msg = f"{where}: {name} is {fields[field]!r}; scGPT has {', '.join(_CHOICES[field])}."
                raise UnreadableInputError(msg)
    if found.get("USE_GENERATIVE_TRAINING") is True:
        fields["generation"] = "original"
    if found.get("pre_norm") is True:
        fields["norm"] = "pre"
    return fields


def _typed(value: object, kind: type, where: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, kind):
        msg = f"{where} is {value!r} where a value of type {kind.__name__} is needed."
        raise UnreadableInputError(msg)
    return value
