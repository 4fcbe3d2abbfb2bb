"""The weights of a checkpoint by name: three spellings of one layout, and what becomes of each name.

Published checkpoints were written by flash-attn layers (`self_attn.Wqkv.weight`), newer code wraps them
(`self_attn._impl.Wqkv.weight`), and torch calls the same rows `self_attn.in_proj_weight`. The rows are query, key,
value in all three, so a name is all that changes.

Every name is loaded, expected to be ignored, or expected to be missing because somebody asked for a fresh head; anything
else stops the load (`models.weights`).
"""

import re
from collections.abc import Mapping
from typing import Any

from cytolabe.errors import IntegrityError
from cytolabe.models.scgpt.configuration import ScgptConfig

__all__ = ["Shapes", "exceptions", "heads_of", "native_names"]

Shapes = Mapping[str, tuple[int, ...]]

_SPELLINGS = (
    (re.compile(r"\.self_attn\.(?:_impl\.)?Wqkv\."), ".self_attn.in_proj_"),
    (re.compile(r"\.self_attn\._impl\.out_proj\."), ".self_attn.out_proj."),
)
_OLD_NORM = "bn."
"""Early pretraining code normalized by `bn`; the published embedding task builds networks without it."""

_PARTS_OF: Mapping[str, tuple[str, ...]] = {
    "n_classes": ("cls_decoder.",),
    "n_layers_cls": ("cls_decoder.",),
    "mvc_style": ("mvc_decoder.",),
    "explicit_zero": ("decoder.zero_logit.", "mvc_decoder.W_zero_logit."),
    "adversary": ("grad_reverse_discriminator.",),
    "n_batches": ("batch_encoder.", "dsbn.", "grad_reverse_discriminator."),
    "batch_input": ("batch_encoder.", "decoder.", "mvc_decoder."),
    "batch_norm": ("dsbn.", _OLD_NORM),
    "n_modalities": ("mod_encoder.", "decoder.", "mvc_decoder."),
    "generation": ("flag_encoder.",),
}
"""What a field of the configuration makes or reshapes."""


def native_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights under the names of the network, whichever spelling the file has.

    Raises
    ------
    IntegrityError
        If two names of the file are one weight.
    """
    found: dict[str, Any] = {}
    for name, weight in weights.items():
        native = name
        for pattern, plain in _SPELLINGS:
            native = pattern.sub(plain, native)
        if native in found:
            msg = f"{name} is in the file under two spellings of {native}: nobody knows which of both is meant."
            raise IntegrityError(msg)
        found[native] = weight
    return found


def heads_of(shapes: Shapes) -> dict[str, Any]:
    """Return the fields of `ScgptConfig` that the weights tell: which heads there are, and how large."""

    def rows(name: str) -> int:
        return shapes[name][0] if name in shapes else 0

    norms = {name.split(".")[2] for name in shapes if name.startswith("dsbn.bns.")}
    affine = "dsbn.bns.0.weight" in shapes
    batches = (rows("batch_encoder.embedding.weight"), len(norms), rows("grad_reverse_discriminator.out_layer.weight"))
    levels = rows("value_encoder.embedding.weight")
    continuous = "value_encoder.linear1.weight" in shapes
    told = {
        "value_style": "category" if levels else "continuous" if continuous else "scaling",
        "n_value_levels": levels,
        "n_classes": rows("cls_decoder.out_layer.weight"),
        "mvc_style": _mvc_style(shapes),
        "explicit_zero": "decoder.zero_logit.0.weight" in shapes,
        "adversary": batches[2] > 0,
        "n_batches": max(batches),
        "batch_input": batches[0] > 0,
        "batch_norm": "none" if not norms else "by_batch_affine" if affine else "by_batch",
        "n_modalities": rows("mod_encoder.embedding.weight"),
        "generation": "original" if "flag_encoder.weight" in shapes else "none",
    }
    if told["n_classes"]:
        # Each hidden layer has a projection and a normalization.
        hidden = [name for name in shapes if re.fullmatch(r"cls_decoder\._decoder\.\d+\.weight", name)]
        told["n_layers_cls"] = 1 + len(hidden) // 2
    return told


def _mvc_style(shapes: Shapes) -> str:
    if "mvc_decoder.W.weight" in shapes:
        return "inner product"
    query, hidden = shapes.get("mvc_decoder.gene2query.weight"), shapes.get("mvc_decoder.fc1.weight")
    if query is None or hidden is None:
        return "none"
    return "concat query" if hidden[1] == query[0] + query[1] else "sum query"


def exceptions(
    found: Shapes, expected: Shapes, *, file: ScgptConfig, network: ScgptConfig
) -> tuple[set[str], set[str]]:
    """Return which weights start fresh and which of the file are left out; all others have to fit.

    Parameters
    ----------
    found, expected
        Shapes of the file and of the network, both under names of the network.
    file, network
        What the file was made with, and what was asked for; parts of which both differ may be fresh or left out.
    """
    changed = [field for field in _PARTS_OF if getattr(file, field) != getattr(network, field)]
    free = tuple(part for field in changed for part in _PARTS_OF[field])
    fresh = {name for name, shape in expected.items() if name.startswith(free) and found.get(name) != shape}
    left = {name for name in found if name in fresh or (name not in expected and name.startswith((*free, _OLD_NORM)))}
    return fresh, left
