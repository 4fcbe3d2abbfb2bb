"""Refuse a zarr hierarchy before any reader touches it, from its metadata and the names of its files.

Two things a standard reader does in silence are looked for first: it runs whatever codec the metadata name (one of them
unpickles), and it fills chunks that are absent. A chunk of a matrix that is absent is an error: lost counts would be
zeros. In the tables, absent chunks are how zarr writes a constant column, so there they are a warning.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cytolabe.ingest.safety import MAX_CHUNK_BYTES, MAX_DEPTH, MAX_RATIO, MAX_TABLE_BYTES, SMALL_BYTES
from cytolabe.ingest.zarr_files import MAX_FILES, ROOT_NAMES, ZarrFiles, hostile, list_zarr, nothing_to_read
from cytolabe.records import Finding, Severity

__all__ = ["scan_zarr"]

_MAX_DECLARED_BYTES = 64 << 30
_MAX_METADATA_BYTES = 16 << 20
_CODECS = frozenset({
    "blosc", "zlib", "gzip", "zstd", "lz4", "vlen-utf8", "delta", "shuffle", "bytes", "crc32c", "sharding_indexed",
    "transpose", "numcodecs.delta", "numcodecs.shuffle", "numcodecs.zlib", "numcodecs.lz4",
})  # fmt: skip
"""What AnnData and this platform write; `pickle`, `json2`, `msgpack2` run or build more than numbers."""
_ABSENT = 2**64 - 1
_TABLES = ("obs/", "var/", "raw/var/", "uns/")


@dataclass(frozen=True, kw_only=True)
class _Array:
    """Metadata of one array, of either version, in one form."""

    place: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    item_bytes: int
    separator: str
    is_named_c: bool
    codecs: tuple[Mapping[str, Any], ...] = field(default=())

    def keys(self) -> Iterator[tuple[tuple[int, ...], str]]:
        """Yield the grid position and the file name of every chunk."""
        for position in product(
            *(range(ceil(length / step)) for length, step in zip(self.shape, self.chunks, strict=True))
        ):
            parts = [str(number) for number in position]
            if self.is_named_c:
                parts = ["c", *parts]
            yield position, f"{self.place}/{self.separator.join(parts) or '0'}".lstrip("/")

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return prod(ceil(length / step) for length, step in zip(self.shape, self.chunks, strict=True))


def scan_zarr(path: Path) -> tuple[Finding, ...]:
    """Look for what makes a hierarchy unreadable or hostile, without decoding a chunk."""
    try:
        listed = list_zarr(path)
        if listed.findings:
            return listed.findings
        if path.is_file() and not any(name in listed.sizes for name in ROOT_NAMES):
            return (nothing_to_read(path.name, tuple(listed.sizes)),)
        return tuple(sorted(_scan(listed), key=lambda finding: (finding.code, finding.where)))
    except (OSError, BadZipFile, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        message = f"The metadata cannot be read: {type(error).__name__} {str(error)[:200]}."
        return (_problem("E-FILE-08", path.name, message, remedy="Copy it again from its source, or write it anew."),)


def _scan(listed: ZarrFiles) -> Iterator[Finding]:
    declared = 0
    for name in sorted(listed.sizes):
        place, _, last = name.rpartition("/")
        if name.count("/") > MAX_DEPTH:
            yield hostile(
                "E-SEC-10", name, message=f"Groups are nested over {MAX_DEPTH} deep.", remedy="Write it anew."
            )
            return
        if last not in {"zarr.json", ".zarray"}:
            continue
        if listed.sizes[name] > _MAX_METADATA_BYTES:
            yield hostile("E-SEC-06", name, message="The metadata have over 16 MiB.", remedy="Write it anew.")
            continue
        document = json.loads(listed.read(name))
        if last == "zarr.json" and document.get("node_type") != "array":
            continue
        wrong = _codec_problem(document)
        if wrong:
            yield hostile("E-SEC-05", place, message=wrong, remedy="Write it anew with AnnData's own settings.")
            continue
        array = _array_of(place, document)
        declared += prod(array.shape) * array.item_bytes
        yield from _check_array(array, listed)
    if declared > _MAX_DECLARED_BYTES:
        message = f"The arrays declare {declared:,} bytes together, over the limit of {_MAX_DECLARED_BYTES:,}."
        yield hostile("E-SEC-06", "/", message=message, remedy="Write it in several sources.")


def _codec_problem(document: Mapping[str, Any]) -> str:
    """Say which part of the metadata asks for what is not allowed, or return an empty string."""
    if document.get("zarr_format") == 2:
        names = [codec["id"] for codec in [document.get("compressor"), *(document.get("filters") or [])] if codec]
        if document["dtype"] == "|O" and "vlen-utf8" not in names:
            return "It holds objects; only texts (vlen-utf8) are read."
    else:
        names = [codec["name"] for codec in _all_codecs(document["codecs"])]
        if document.get("storage_transformers"):
            return "It has storage transformers, which are not read."
    unknown = sorted(set(names) - _CODECS)
    return f"Codec {unknown[0]!r} is not on the list of what is read." if unknown else ""


def _all_codecs(codecs: list[Any]) -> Iterator[Mapping[str, Any]]:
    for codec in codecs:
        yield codec
        inside = codec.get("configuration", {})
        yield from _all_codecs(inside.get("codecs", []))
        yield from _all_codecs(inside.get("index_codecs", []))


def _array_of(place: str, document: Mapping[str, Any]) -> _Array:
    is_old = document["zarr_format"] == 2
    grid = document["chunks"] if is_old else document["chunk_grid"]["configuration"]["chunk_shape"]
    encoding = {} if is_old else document["chunk_key_encoding"]
    named_c = not is_old and encoding["name"] == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if named_c else ".")
    kind = str(document["dtype"] if is_old else document["data_type"])
    item_bytes = 16 if kind in {"|O", "string"} else np.dtype(kind).itemsize
    shape, chunks = tuple(map(int, document["shape"])), tuple(map(int, grid))
    if len(shape) != len(chunks) or min((*shape, 0)) < 0 or min((*chunks, 1)) < 1:
        msg = f"{place}: shape {shape} with chunks {chunks}"
        raise ValueError(msg)
    return _Array(
        place=place,
        shape=shape,
        chunks=chunks,
        item_bytes=item_bytes,
        separator=str(document.get("dimension_separator") or "." if is_old else separator),
        is_named_c=named_c,
        codecs=() if is_old else tuple(document["codecs"]),
    )


def _check_array(array: _Array, listed: ZarrFiles) -> Iterator[Finding]:
    declared = prod(array.shape) * array.item_bytes
    # A chunk may be larger than the array; what is decoded is the chunk.
    for what, n_bytes, limit in (
        ("One chunk of it", prod(array.chunks) * array.item_bytes, MAX_CHUNK_BYTES),
        ("It is held as a whole and", declared if _is_held(array.place) else 0, MAX_TABLE_BYTES),
        (
            "It has more chunks than files are allowed: it",
            array.n_chunks if array.n_chunks > MAX_FILES else 0,
            MAX_FILES,
        ),
    ):
        if n_bytes > limit:
            message = f"{what} declares {n_bytes:,}, over the limit of {limit:,}."
            yield hostile("E-SEC-06", array.place, message=message, remedy="Write it anew in smaller chunks.")
            return
    keys = list(array.keys())
    stored = sum(listed.sizes.get(key, 0) for _, key in keys)
    absent = [key for _, key in keys if key not in listed.sizes]
    if _is_matrix(array.place):
        absent += [
            key
            for position, key in keys
            if key in listed.sizes and _lacks_inner(array, position, key=key, listed=listed)
        ]
        if absent and declared:
            yield _absent(array.place, absent, len(keys))
        elif declared > SMALL_BYTES and declared > MAX_RATIO * stored:
            message = f"It declares {declared:,} bytes but stores {stored:,}."
            yield hostile(
                "E-SEC-07", array.place, message=message, remedy="Write it anew; if it was cut off, copy it again."
            )
    elif absent and array.place.startswith(_TABLES):
        yield _constant(array.place, absent, len(keys))


def _is_held(place: str) -> bool:
    return place.startswith(_TABLES) or place.endswith("/indptr")


def _is_matrix(place: str) -> bool:
    return place in {"X", "raw/X"} or place.startswith(("X/", "raw/X/", "layers/"))


def _lacks_inner(array: _Array, position: tuple[int, ...], *, key: str, listed: ZarrFiles) -> bool:
    """Tell whether a shard lacks one of the chunks that lie inside the array."""
    if not array.codecs or array.codecs[0]["name"] != "sharding_indexed":
        return False
    settings = array.codecs[0]["configuration"]
    inner = tuple(map(int, settings["chunk_shape"]))
    per_shard = [outer // step for outer, step in zip(array.chunks, inner, strict=True)]
    n_bytes = 16 * prod(per_shard)
    with_sum = any(codec["name"] == "crc32c" for codec in settings["index_codecs"])
    at_start = settings.get("index_location", "end") == "start"
    raw = listed.read(key, start=0 if at_start else -(n_bytes + 4 * with_sum), n_bytes=n_bytes)
    if len(raw) < n_bytes:
        return True
    index = np.frombuffer(raw, dtype="<u8").reshape(*per_shard, 2)
    used = tuple(
        slice(0, min(count, ceil(max(0, length - at * outer) / step)))
        for count, length, at, outer, step in zip(per_shard, array.shape, position, array.chunks, inner, strict=True)
    )
    return bool((index[used][..., 0] == _ABSENT).any())


def _absent(place: str, absent: list[str], n_chunks: int) -> Finding:
    return Finding(
        code="E-ZARR-01",
        severity=Severity.ERROR,
        where=place,
        n_affected=len(absent),
        n_total=n_chunks,
        examples=tuple(absent[:5]),
        message=f"{len(absent):,} of {n_chunks:,} chunks are absent (first {absent[0]}): a reader would take them for zeros.",
        remedy="Copy the folder again. A writer that leaves empty chunks out has to write them: write_empty_chunks=True.",
        rule="cytolabe/readable",
    )


def _constant(place: str, absent: list[str], n_chunks: int) -> Finding:
    return Finding(
        code="W-ZARR-02",
        severity=Severity.WARNING,
        where=place,
        n_affected=len(absent),
        n_total=n_chunks,
        examples=tuple(absent[:5]),
        message=f"{len(absent):,} of {n_chunks:,} chunks are absent: their rows have the fill value, or were lost.",
        remedy="Make sure that these rows are meant to have one value; zarr leaves constant chunks out.",
        rule="cytolabe/readable",
    )


def _problem(code: str, where: str, message: str, *, remedy: str) -> Finding:
    return Finding(
        code=code, severity=Severity.ERROR, where=where, n_affected=1, n_total=1, message=message, remedy=remedy,
        rule="cytolabe/readable",
    )  # fmt: skip
