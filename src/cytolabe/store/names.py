"""Many names held once: the texts of millions of cells lie in Arrow buffers, and Python strings are made of a few.

A tuple of strings takes about 70 bytes per name, the buffers take its letters and 4 bytes more.
"""

import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cytolabe.compiled import kernel
from cytolabe.files import replace_file

__all__ = ["Names"]


class Names(Sequence[str]):
    """An immutable list of names; a slice of it is a tuple of strings."""

    def __init__(self, texts: pa.ChunkedArray) -> None:
        self._texts = texts

    @classmethod
    def of(cls, values: "Sequence[str] | pd.Series") -> "Names":
        """Hold names, whatever they come in."""
        if isinstance(values, Names):
            return values
        if isinstance(values, pd.Series) and isinstance(values.array, pd.arrays.ArrowStringArray):
            return cls(pa.chunked_array(pa.array(values.array)).cast(pa.string()))
        return cls(pa.chunked_array([pa.array(list(values), type=pa.string())]))

    def part(self, start: int, stop: int) -> "Names":
        """Return the names from `start` up to `stop`, which are not copied."""
        return Names(self._texts.slice(start, max(0, stop - start)))

    def mapped(self, path: Path) -> "Names":
        """Return the same names from a new file, which the system reads where they are looked at."""
        sink = pa.BufferOutputStream()
        table = pa.table({"name": self._texts})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        replace_file(path, sink.getvalue().to_pybytes())
        # Arrow's own map takes a path as text, which a folder need not be.
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return Names(pa.ipc.open_file(pa.py_buffer(mapped)).read_all().column("name"))

    def series(self, prefix: str = "") -> pd.Series:
        """Return the names as a column of text, each with `prefix` in front."""
        texts = pc.binary_join_element_wise(prefix, self._texts, "") if prefix else self._texts
        return pd.Series(pd.arrays.ArrowStringArray(texts))

    def repeated(self) -> list[str]:
        """Return the names that occur more than once, sorted."""
        hashes = np.concatenate([_hashes_of(chunk) for chunk in self._texts.chunks] or [np.zeros(0, dtype=np.uint64)])
        ordered = np.sort(hashes)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(twice):
            return []
        suspects = np.flatnonzero(np.isin(hashes, twice))
        # Name by name: Arrow would first join all chunks.
        times = Counter(self[int(place)] for place in suspects)
        return sorted(name for name, found in times.items() if found > 1)

    def blank(self) -> list[str]:
        """Return the names that hold nothing but white space, each once."""
        found: set[str] = set()
        for chunk in self._texts.chunks:
            is_blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(chunk)), 0)
            found.update(chunk.filter(is_blank).to_pylist())
        return sorted(found)

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        """Return one name, or a tuple of those of a slice."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            return tuple(self._texts.slice(start, max(0, stop - start)).to_pylist()[::step])
        return str(self._texts[place if place >= 0 else place + len(self)].as_py())

    def __iter__(self) -> Iterator[str]:
        for chunk in self._texts.chunks:
            yield from chunk.to_pylist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((len(self), self[:3]))

    def __repr__(self) -> str:
        return f"Names({len(self)}: {', '.join(self[:3])}, ...)"


def _hashes_of(chunk: pa.Array) -> np.ndarray:
    """Return a 64-bit hash of each text of an Arrow array."""
    if not len(chunk):
        return np.zeros(0, dtype=np.uint64)
    _, offsets, text = chunk.buffers()
    starts = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    letters = np.frombuffer(text, dtype=np.uint8) if text is not None else np.zeros(0, dtype=np.uint8)
    return _fnv(letters, starts)


@kernel
def _fnv(letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
    hashes = np.empty(len(starts) - 1, dtype=np.uint64)
    for row in range(len(hashes)):
        state = np.uint64(0xCBF29CE484222325)
        for at in range(starts[row], starts[row + 1]):
            state = (state ^ np.uint64(letters[at])) * np.uint64(0x100000001B3)
        hashes[row] = state
    return hashes
