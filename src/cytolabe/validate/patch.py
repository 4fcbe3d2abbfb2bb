"""Patches: the repairs that findings propose, as a document that a person reads before anything is changed.

A patch names the file it was made for by digest and lists operations with what is there and what shall be there. It is
canonical JSON, so that the same findings give the same bytes, and a digest names it. Format: `docs/formats/patch.md`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolabe.errors import UsageError
from cytolabe.provenance.canonical import canonical_json, digest_of
from cytolabe.records import Finding

__all__ = ["PATCH_FORMAT", "Patch", "patch_of", "read_patch", "written_patch"]

PATCH_FORMAT = "cytolabe-patch-1"
_NEEDED: Mapping[str, frozenset[str]] = {
    "replace_value": frozenset({"table", "column", "old", "new"}),
    "drop_categories": frozenset({"table", "column", "old"}),
    "drop_column": frozenset({"table", "column"}),
    "rename_rows": frozenset({"table", "old", "new"}),
    "set_uns": frozenset({"key", "old", "new"}),
    "drop_uns": frozenset({"key"}),
}
"""Operation -> the keys that it has to have."""
_ORDER = tuple(_NEEDED)
"""Order of operations: values before the categories they leave empty, a value into uns before its column goes."""
_PLACES = ("set_uns", "drop_column")


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One patch: which file it is for, and what it does."""

    source_name: str
    source_sha256: str
    packs: tuple[str, ...]
    operations: tuple[Mapping[str, object], ...]
    digest: str


def patch_of(
    findings: Sequence[Finding], *, source_name: str, source_sha256: str, packs: Sequence[str]
) -> Mapping[str, object]:
    """Return the document of a patch with every repair that the findings propose, each once."""
    operations: dict[str, Mapping[str, object]] = {}
    for finding in findings:
        for operation in finding.autofix:
            key = json.dumps(operation, sort_keys=True)
            if key not in operations:
                operations[key] = {**operation, "code": finding.code, "rule": finding.rule}
    ordered = sorted(operations.items(), key=lambda pair: (_rank(pair[1]), pair[0]))
    return {
        "format": PATCH_FORMAT,
        "source": {"name": source_name, "sha256": source_sha256},
        "packs": list(packs),
        "operations": [operation for _, operation in ordered],
    }


def _rank(operation: Mapping[str, object]) -> int:
    word = str(operation["op"])
    order = [name for name in _ORDER if name not in _PLACES] + list(_PLACES)
    return order.index(word)


def written_patch(document: Mapping[str, object]) -> bytes:
    """Return the bytes of a patch, and a line end behind them."""
    return canonical_json(document) + b"\n"


def read_patch(content: bytes) -> Patch:
    """Read a patch.

    Raises
    ------
    UsageError
        If it is none, is of another version, or has an operation that is not known or not complete.
    """
    try:
        document = json.loads(content)
        source, operations = document["source"], document["operations"]
        said = document["format"]
        names = (str(source["name"]), str(source["sha256"]))
    except (ValueError, KeyError, TypeError) as error:
        msg = f"this is no patch: {error}. A patch is what cytolabe validate --fix writes."
        raise UsageError(msg) from None
    if said != PATCH_FORMAT:
        msg = f"the patch has the format {said!r}, and this version reads {PATCH_FORMAT!r}."
        raise UsageError(msg)
    for number, operation in enumerate(operations, start=1):
        _check_operation(number, operation)
    return Patch(
        source_name=names[0],
        source_sha256=names[1],
        packs=tuple(document.get("packs", ())),
        operations=tuple(operations),
        digest=digest_of(document),
    )


def _check_operation(number: int, operation: object) -> None:
    if not isinstance(operation, dict) or operation.get("op") not in _NEEDED:
        msg = f"operation {number} of the patch is not known; there are: {', '.join(_NEEDED)}."
        raise UsageError(msg)
    absent = _NEEDED[operation["op"]] - operation.keys()
    if absent:
        msg = f"operation {number} of the patch ({operation['op']}) does not say {', '.join(sorted(absent))}."
        raise UsageError(msg)
