"""Stored weights into a network: every key is loaded, expected to lack or expected to be left over, or it is an error.

`strict=False` of torch passes over what does not fit, and a weight that is passed over is a random one: the embedding
looks healthy and depends on the seed. Here nothing is passed over in silence. Shapes must be equal, values finite, and
a tied weight that is stored twice must be the same twice.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolabe.errors import IntegrityError, UnreadableInputError
from cytolabe.models.extras import import_extra

__all__ = ["KeyRules", "LoadedKeys", "fill_network", "read_weights", "stored_bytes", "stored_digest"]

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class KeyRules:
    """Which keys of a checkpoint need no partner. Patterns match whole keys."""

    tied: Mapping[str, str]
    """Key that may be absent -> key that it shares its values with."""
    ignored: Sequence[str] = ()
    """Patterns of keys that a checkpoint may hold and the network has no place for."""


@dataclass(frozen=True, kw_only=True)
class LoadedKeys:
    """What became of every key: filled from the file, absent because tied, or left over by rule."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]


def read_weights(path: Path, *, expected: str = "") -> tuple[dict[str, Any], str]:
    """Return the tensors of a safetensors file, and its digest (`sha256:...`).

    Parameters
    ----------
    expected
        The digest that the file must have; any without it.

    Raises
    ------
    UnreadableInputError
        If there is no such file, or it is no safetensors file.
    IntegrityError
        If it has another digest, or ends before its tensors do.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path.name}: the weights cannot be read ({error.strerror})."
        raise UnreadableInputError(msg) from None
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if expected and digest != expected:
        msg = f"{path.name} has the digest {digest}, expected was {expected}: these are other weights, or damaged ones. Take the file that belongs there."
        raise IntegrityError(msg)
    _refuse_other_formats(content, where=path.name)
    try:
        weights = import_extra("safetensors.torch").load(content)
    except import_extra("safetensors").SafetensorError as error:
        msg = f"{path.name} is cut off or damaged ({error}); copy it again and compare the digest."
        raise IntegrityError(msg) from None
    return dict(weights), digest


def stored_bytes(weights: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a safetensors file; equal tensors give equal bytes."""
    ready = {name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}
    content: bytes = import_extra("safetensors.torch").save(ready, metadata=dict(metadata) if metadata else None)
    return content


def stored_digest(weights: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None) -> str:
    """Return the digest (`sha256:...`) of the file that these tensors have, or would have; see `stored_bytes`."""
    return "sha256:" + hashlib.sha256(stored_bytes(weights, metadata=metadata)).hexdigest()


def fill_network(network: Any, weights: Mapping[str, Any], *, rules: KeyRules, where: str) -> LoadedKeys:  # noqa: ANN401
    """Put stored weights into a network of torch, and switch it to evaluation.

    Raises
    ------
    IntegrityError
        If a key is missing, unknown or of another shape, a value is not finite, or tied weights differ. The message
        names the keys.
    """
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    ignored = {name for name in weights if name not in shapes and _matches(name, rules.ignored)}
    missing = {name for name in rules.tied if name in shapes and name not in weights}
    problems = [
        *(f"{name} is missing" for name in sorted(shapes.keys() - weights.keys() - missing)),
        *(f"{name} has no place" for name in sorted(weights.keys() - shapes.keys() - ignored)),
        *(
            f"{name} is {tuple(weights[name].shape)}, the network has {shapes[name]}"
            for name in sorted(weights.keys() & shapes.keys())
            if tuple(weights[name].shape) != shapes[name]
        ),
    ]
    _refuse(problems, where=where, n_keys=len(shapes))
    _refuse(_bad_values(weights, rules), where=where, n_keys=len(shapes))
    filled = {name: weights[rules.tied[name] if name in missing else name] for name in shapes}
    network.load_state_dict(filled)
    network.eval()
    loaded = tuple(sorted(shapes.keys() - missing))
    return LoadedKeys(loaded=loaded, missing=tuple(sorted(missing)), ignored=tuple(sorted(ignored)))


def _bad_values(weights: Mapping[str, Any], rules: KeyRules) -> list[str]:
    torch = import_extra("torch")
    found = [
        f"{name} holds {int((~torch.isfinite(weight)).sum())} values that are not finite"
        for name, weight in sorted(weights.items())
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all())
    ]
    for name, partner in sorted(rules.tied.items()):
        if name in weights and partner in weights and not torch.equal(weights[name], weights[partner]):
            found.append(f"{name} differs from {partner}, with which it is tied")
    return found


def _refuse(problems: Sequence[str], *, where: str, n_keys: int) -> None:
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        msg = (
            f"{where}: {len(problems)} keys do not fit the {n_keys} of the network: {'; '.join(problems[:_SHOWN])}{more}. "
            "A weight that is passed over would be a random one: take the configuration that came with these weights."
        )
        raise IntegrityError(msg)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _refuse_other_formats(content: bytes, *, where: str) -> None:
    """Tell a pickle, an archive of torch and half a file by what they are, before a parser fails on them."""
    if content[:2] in (b"PK", b"\x80\x02"):
        msg = f"{where}: an old file of torch, whose loading would run what it names. 'cytolabe convert' makes safetensors of it."
        raise UnreadableInputError(msg)
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
        last = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        msg = f"{where}: no safetensors file, or cut off in its header ({len(content):,} bytes)."
        raise UnreadableInputError(msg) from None
    if len(content) - 8 - size != last:
        msg = (
            f"{where}: {len(content) - 8 - size:,} bytes of tensors where its header says {last:,}: cut off or damaged."
        )
        raise IntegrityError(msg)
