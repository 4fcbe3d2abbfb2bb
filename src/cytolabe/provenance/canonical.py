"""Canonical JSON (RFC 8785) and the digests that are made of it.

A digest names what a thing means, never how it is stored: no codec, dtype, library version, thread count, time, host
or path enters it.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath

import numpy as np
import rfc8785

__all__ = ["canonical_json", "cells_digest", "digest_of", "jsonable", "sorted_cells_digest"]


_PLAIN = frozenset({str, int, bool, type(None)})
"""Types that every encoder of JSON writes alike, but for integers beyond `_EXACT`."""
_EXACT = (1 << 53) - 1


def jsonable(value: object) -> object:
    """Turn records, enums, numpy scalars and arrays into what JSON knows; mappings get string keys.

    Raises
    ------
    TypeError
        If a value has no JSON form, or is NaN or infinite: those are never written, `None` is.
    """
    if isinstance(value, Enum):  # before str: a StrEnum is both
        return value.value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    return _container(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        msg = f"{value} has no place in a record. Write None and a reason."
        raise TypeError(msg)
    return value


def _container(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(value) if set(map(type, value)) <= _PLAIN else [jsonable(item) for item in value]
    if isinstance(value, set | frozenset):
        return [jsonable(item) for item in sorted(value)]
    if isinstance(value, PurePath):
        return value.as_posix()
    msg = f"{type(value).__name__} has no canonical form. Convert it to numbers, strings, lists or mappings first."
    raise TypeError(msg)


def canonical_json(value: object) -> bytes:
    """Return the one byte string that stands for `value` (RFC 8785: sorted keys, ECMAScript numbers, UTF-8)."""
    plain = jsonable(value)
    if _is_plain(plain):
        with contextlib.suppress(UnicodeEncodeError):
            text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
            return text.encode()
    return rfc8785.dumps(plain)  # type: ignore[arg-type]


def _is_plain(value: object) -> bool:
    """Tell whether the encoder of the standard library, which is much faster, writes the same bytes.

    It writes floats in another way, sorts names by code points and not by UTF-16, and knows no largest integer.
    """
    if isinstance(value, dict):
        return all(key.isascii() for key in value) and _is_plain(list(value.values()))
    if not isinstance(value, list):
        return _is_plain([value])
    kinds = set(map(type, value))
    if int in kinds and not all(abs(item) <= _EXACT for item in value if type(item) is int):
        return False
    return kinds - {list, dict} <= _PLAIN and (
        kinds <= _PLAIN or all(_is_plain(item) for item in value if type(item) in (list, dict))
    )


def digest_of(value: object) -> str:
    """Return `sha256:` and the SHA-256 of the canonical JSON of `value`."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def cells_digest(cell_ids: Iterable[str]) -> str:
    """Return the digest of a set of cells: order does not matter, and a cell given twice counts once."""
    return sorted_cells_digest(sorted(set(cell_ids)))


def sorted_cells_digest(cell_ids: Iterable[str]) -> str:
    """Return `cells_digest` of ids that ascend and come once, one at a time."""
    digest = hashlib.sha256()
    for cell_id in cell_ids:
        digest.update(cell_id.encode())
        digest.update(b"\x00")
    return "sha256:" + digest.hexdigest()
