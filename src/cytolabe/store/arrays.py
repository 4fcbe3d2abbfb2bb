"""Metadata and lists of names of a partition, written and read without zarr, in the form in which zarr reads them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numcodecs import VLenUTF8, blosc

from cytolabe.errors import IntegrityError
from cytolabe.files import Place, replace_file
from cytolabe.provenance import canonical_json
from cytolabe.store.array_spec import ArraySpec, string_metadata
from cytolabe.store.shards import ShardedArray, checked, sealed_frame

__all__ = ["open_array", "read_strings", "write_group", "write_metadata", "write_strings"]

_METADATA = "zarr.json"
_STRINGS_PER_CHUNK = 1 << 16


def write_metadata(directory: Path, document: Mapping[str, object]) -> None:
    """Write the `zarr.json` of an array or a group."""
    replace_file(directory / _METADATA, canonical_json(document))


def write_group(directory: Path, attributes: Mapping[str, object]) -> None:
    """Write the metadata of a group."""
    write_metadata(directory, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def open_array(directory: Place, name: str) -> ShardedArray:
    """Open an array of a partition; its metadata were compared with their digest before.

    Raises
    ------
    IntegrityError
        If the metadata are of another format.
    """
    where = f"{name} of partition {directory.name[:12]}"
    try:
        spec = ArraySpec.from_metadata(_metadata(directory / name))
    except IntegrityError as error:
        msg = f"{where}: {error}"
        raise IntegrityError(msg) from None
    return ShardedArray(directory / name, spec, where=where)


def write_strings(directory: Path, values: Sequence[str]) -> None:
    """Write a list of names as AnnData's `string-array`."""
    per_chunk = max(1, min(len(values), _STRINGS_PER_CHUNK))
    write_metadata(directory, string_metadata(len(values), per_chunk))
    for number, start in enumerate(range(0, len(values), per_chunk)):
        chunk = np.full(per_chunk, "", dtype=object)
        part = values[start : start + per_chunk]
        chunk[: len(part)] = part
        replace_file(directory / "c" / str(number), sealed_frame(np.frombuffer(VLenUTF8().encode(chunk), np.uint8)))


def read_strings(directory: Place, name: str) -> np.ndarray:
    """Return a list of names as an array of str.

    Raises
    ------
    IntegrityError
        If a chunk is missing or was changed.
    """
    where = f"{name} of partition {directory.name[:12]}"
    document = _metadata(directory / name)
    try:
        n_values = int(document["shape"][0])  # type: ignore[index]
        per_chunk = int(document["chunk_grid"]["configuration"]["chunk_shape"][0])  # type: ignore[index]
        is_known = document == string_metadata(n_values, per_chunk)
    except (KeyError, TypeError, IndexError):
        is_known = False
    if not is_known:
        msg = f"{where}: its metadata are not of this format."
        raise IntegrityError(msg)
    values = np.empty(n_values, dtype=object)
    for number, start in enumerate(range(0, n_values, per_chunk)):
        chunk = _decoded_strings(directory / name / "c" / str(number), where=f"{where}, chunk {number}")
        stop = min(n_values, start + per_chunk)
        values[start:stop] = chunk[: stop - start]
    return values


def _decoded_strings(path: Place, *, where: str) -> np.ndarray:
    advice = "Run `cytolabe verify`, then restore the file or ingest the source again."
    try:
        frame = checked(path.read_bytes())
        found: np.ndarray = VLenUTF8().decode(blosc.decompress(frame))
    except FileNotFoundError:
        msg = f"{where} is missing; a missing chunk is never read as empty names. {advice}"
        raise IntegrityError(msg) from None
    except (IntegrityError, ValueError, RuntimeError) as error:
        msg = f"{where} cannot be decoded ({error}): its bytes were changed. {advice}"
        raise IntegrityError(msg) from None
    return found


def _metadata(directory: Place) -> dict[str, object]:
    document = json.loads((directory / _METADATA).read_bytes())
    return document if isinstance(document, dict) else {}
