"""Sealed JSON documents: canonical bytes that carry the digest of their own content.

A name that is a number (`revisions/7.json`) says nothing of what is inside; the seal does. An edit that leaves the
seal, or that is not canonical JSON, is found when the document is read.
"""

import json
from collections.abc import Mapping

from cytolabe.errors import IntegrityError
from cytolabe.files import Place
from cytolabe.provenance import canonical_json, digest_of

__all__ = ["documents_in", "read_sealed", "sealed_bytes", "unsealed"]

_SEAL = "seal"


def sealed_bytes(content: Mapping[str, object]) -> bytes:
    """Return the canonical JSON of `content` with the digest of it under `seal`."""
    return canonical_json({**content, _SEAL: digest_of(content)})


def read_sealed(path: Place) -> dict[str, object]:
    """Read a sealed document, with its seal.

    Raises
    ------
    IntegrityError
        If the file is missing, is not canonical, or its content has another digest than its seal.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        msg = f"{where} is missing."
        raise IntegrityError(msg) from None
    return unsealed(raw, where=where)


def documents_in(directory: Place) -> list[Place]:
    """Return the documents of a directory by name; none where there is no such directory."""
    found: list[Place] = list(directory.glob("*.json"))
    return sorted(found, key=str)


def unsealed(raw: bytes, *, where: str) -> dict[str, object]:
    """Return the content of a sealed document, with its seal.

    Raises
    ------
    IntegrityError
        If the bytes are not canonical, or their content has another digest than the seal.
    """
    try:
        document = json.loads(raw)
        seal = document.pop(_SEAL)
    except (ValueError, KeyError, TypeError, AttributeError):
        msg = f"{where} is no document of an atlas: its bytes were changed."
        raise IntegrityError(msg) from None
    if not isinstance(document, dict) or seal != digest_of(document) or sealed_bytes(document) != raw:
        msg = f"{where} was edited: its content is not what its seal names."
        raise IntegrityError(msg)
    return {**document, _SEAL: seal}
