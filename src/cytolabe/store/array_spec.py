"""What a stored array is: its type, its length, how it is cut into chunks and shards, and which codecs it went through.

The metadata are those of zarr v3, written by hand: one array of one axis, shards of 4,194,304 values, chunks of 16,384.
Chunks are that small because a cell taken at random costs a chunk of each array, and twice as large ones save 0.2 % of
the bytes. Codecs of a chunk: gaps (`numcodecs.delta`, wrapping) where the values rise, little-endian bytes, Blosc
(zstd 1, byte shuffle), crc32c. An array of at most 1,048,576 values is given more time (zstd 7, a third of a second): small
panels come out a tenth smaller, and are read as fast. The reader takes any Blosc compressor and level, because a frame names its own; any
other chain of codecs is refused, never guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from cytolabe.errors import IntegrityError

__all__ = ["CHUNK_VALUES", "SHARD_VALUES", "ArraySpec", "string_metadata"]

CHUNK_VALUES = 1 << 14
"""Values of one chunk, which is decoded whole."""

SHARD_VALUES = 1 << 22
"""Values of one shard, which is one file."""

COMPRESSOR = "zstd"
"""Inside of Blosc. Any other one that Blosc knows is read as well."""

_SMALL_VALUES = 1 << 20
_LEVEL, _LEVEL_OF_SMALL = 1, 7

_TYPES: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "int64": np.dtype("<i8"),
}
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One stored array. `is_delta`: each value but the first of a chunk is stored as its distance to the one before."""

    dtype: np.dtype[Any]
    n_values: int
    is_delta: bool = False
    chunk_values: int = CHUNK_VALUES
    shard_values: int = SHARD_VALUES
    compressor: str = field(default_factory=lambda: COMPRESSOR)

    @property
    def level(self) -> int:
        """How much time the compressor is given; a reader need not know."""
        return _LEVEL_OF_SMALL if self.n_values <= _SMALL_VALUES else _LEVEL

    @property
    def n_chunks(self) -> int:
        """Chunks that hold a value."""
        return -(-self.n_values // self.chunk_values)

    @property
    def n_shards(self) -> int:
        """Files."""
        return -(-self.n_values // self.shard_values)

    @property
    def chunks_per_shard(self) -> int:
        """Entries in the index of every shard, the last one included."""
        return self.shard_values // self.chunk_values

    def metadata(self) -> dict[str, object]:
        """Return the `zarr.json` of the array."""
        typesize = self.dtype.itemsize
        delta = [{"name": "numcodecs.delta", "configuration": {"dtype": _text_of(self.dtype)}}] if self.is_delta else []
        little = [{"name": "bytes"} if typesize == 1 else _LITTLE]
        inner = [*delta, *little, _blosc(self.compressor, typesize, self.level), _CRC]
        sharding = {
            "chunk_shape": [self.chunk_values],
            "codecs": inner,
            "index_codecs": [_LITTLE, _CRC],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        return {
            **_array(self.n_values, _name_of(self.dtype), self.shard_values),
            "fill_value": 0,
            "codecs": codecs,
            "attributes": {},
        }

    @classmethod
    def from_metadata(cls, document: Mapping[str, object]) -> "ArraySpec":
        """Read the metadata of an array that `metadata` wrote.

        Raises
        ------
        IntegrityError
            If anything in it is not as this format writes it, but for the compressor inside of Blosc.
        """
        try:
            (sharding,) = cast("list[dict[str, Any]]", document["codecs"])
            inner = sharding["configuration"]["codecs"]
            blosc = next(codec for codec in inner if codec["name"] == "blosc")
            grid = cast("dict[str, Any]", document["chunk_grid"])
            spec = cls(
                dtype=_TYPES[str(document["data_type"])],
                n_values=cast("list[int]", document["shape"])[0],
                is_delta=inner[0]["name"] == "numcodecs.delta",
                chunk_values=sharding["configuration"]["chunk_shape"][0],
                shard_values=grid["configuration"]["chunk_shape"][0],
                compressor=str(blosc["configuration"]["cname"]),
            )
            is_known = _without_level(spec.metadata()) == _without_level(document)
        except (KeyError, TypeError, ValueError, IndexError, StopIteration):
            is_known = False
        if not is_known:
            msg = "its metadata are not of this format: another type, chain of codecs or layout."
            raise IntegrityError(msg)
        return spec


def string_metadata(n_values: int, chunk_values: int) -> dict[str, object]:
    """Return the `zarr.json` of a list of names as AnnData's `string-array`."""
    return {
        **_array(n_values, "string", chunk_values),
        "fill_value": "",
        "codecs": [{"name": "vlen-utf8", "configuration": {}}, _blosc("zstd", 1, _LEVEL), _CRC],
        "attributes": {"encoding-type": "string-array", "encoding-version": "0.2.0"},
    }


def _array(n_values: int, data_type: str, chunk_values: int) -> dict[str, object]:
    return {
        "shape": [n_values],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk_values]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _blosc(compressor: str, typesize: int, level: int) -> dict[str, object]:
    configuration = {"typesize": typesize, "cname": compressor, "clevel": level, "shuffle": "shuffle", "blocksize": 0}
    return {"name": "blosc", "configuration": configuration}


def _without_level(document: object) -> object:
    """Leave out what a Blosc frame says by itself."""
    if isinstance(document, Mapping):
        own = {"clevel", "shuffle", "blocksize"} if "cname" in document else set()
        return {key: _without_level(value) for key, value in document.items() if key not in own}
    if isinstance(document, list):
        return [_without_level(value) for value in document]
    return document


def _name_of(dtype: np.dtype) -> str:
    return next(name for name, known in _TYPES.items() if known == dtype)


def _text_of(dtype: np.dtype) -> str:
    """Return a type as the delta codec names it, in little-endian order."""
    return f"|u{dtype.itemsize}" if dtype.itemsize == 1 else f"<{dtype.kind}{dtype.itemsize}"
