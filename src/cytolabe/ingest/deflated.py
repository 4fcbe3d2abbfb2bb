"""Lists of numbers whose chunks HDF5 packed with gzip, unpacked chunk by chunk into as many bytes as a chunk has.

HDF5 itself unpacks with zlib, which takes two to three times as long as libdeflate, and lets a chunk grow to whatever
its bytes say before it looks at the size; here a chunk that is not of its size is damaged. The arrays of a sparse matrix
are nine tenths of what an ingest reads, and are read three times: looked through, proven, and written.
"""

from collections.abc import Mapping
from typing import Any

import deflate
import h5py
import numpy as np
from h5py import h5t, h5z

from cytolabe.ingest.nodes import ArrayNode

__all__ = ["DeflatedList", "is_deflated", "unpacked"]

_PIPELINES = ((h5z.FILTER_DEFLATE,), (h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE))


def unpacked(node: ArrayNode) -> ArrayNode:
    """Return the fastest reader of an array: of a list that gzip packed its own, else the array as it is."""
    return DeflatedList(node) if isinstance(node, h5py.Dataset) and is_deflated(node) else node


def is_deflated(dataset: h5py.Dataset) -> bool:
    """Tell whether a data set is a list of plain numbers, all of it written, packed by gzip with or without shuffling."""
    if dataset.chunks is None or len(dataset.shape or ()) != 1 or not _is_plain(dataset):
        return False
    properties = dataset.id.get_create_plist()
    filters = tuple(properties.get_filter(place)[0] for place in range(properties.get_nfilters()))
    return filters in _PIPELINES and bool(dataset.id.get_num_chunks() == -(-dataset.shape[0] // dataset.chunks[0]))


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Tell whether values are numbers as NumPy has them; others are translated by HDF5."""
    try:
        dtype = dataset.dtype
    except TypeError:  # it has no such type: whole numbers of 24 bits
        return False
    return dtype.kind in "iuf" and dataset.id.get_type() == h5t.py_create(dtype)


class DeflatedList:
    """A data set for which `is_deflated` holds, read by slices that follow each other; the last chunk is kept."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._n_chunk = int(dataset.chunks[0])
        self._is_shuffled = bool(dataset.shuffle)
        self._kept: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=dataset.dtype))

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the array."""
        return dict(self._dataset.attrs)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Number of values."""
        return (int(self._dataset.shape[0]),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in the byte order of the file."""
        dtype: np.dtype[Any] = self._dataset.dtype
        return dtype

    @property
    def name(self) -> str:
        """Place in the file."""
        return str(self._dataset.name)

    def __getitem__(self, place: Any, /) -> np.ndarray:  # noqa: ANN401  as arrays of h5py are asked
        """Return the values of a slice without steps, or of `...`.

        Raises
        ------
        OSError
            If a chunk is damaged: gzip cannot unpack it, or it holds more or fewer bytes than a chunk has.
        TypeError
            If anything else is asked for.
        """
        n = int(self._dataset.shape[0])
        if place is Ellipsis:
            place = slice(None)
        if not isinstance(place, slice) or place.step not in (None, 1):
            msg = f"values of {self.name} are read by slices without steps, not by {place!r}"
            raise TypeError(msg)
        low, high, _ = place.indices(n)
        values = np.empty(max(0, high - low), dtype=self.dtype)
        for number in range(low // self._n_chunk, -(-high // self._n_chunk) if high > low else 0):
            start = number * self._n_chunk
            first, last = max(low, start), min(high, start + self._n_chunk)
            values[first - low : last - low] = self._chunk(number)[first - start : last - start]
        return values

    def _chunk(self, number: int) -> np.ndarray:
        if self._kept[0] != number:
            self._kept = (number, self._unpack(number))
        return self._kept[1]

    def _unpack(self, number: int) -> np.ndarray:
        left_out, content = self._dataset.id.read_direct_chunk((number * self._n_chunk,))
        n_bytes = self._n_chunk * self.dtype.itemsize
        is_packed = not left_out & (2 if self._is_shuffled else 1)  # a writer may leave out a filter that does not pay
        if is_packed:
            try:
                content = deflate.zlib_decompress(content, n_bytes)
            except deflate.DeflateError as error:
                if len(content) == n_bytes and (number + 1) * self._n_chunk > self._dataset.shape[0]:
                    # A list may leave its last chunk unpacked where that is not full (H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS),
                    # and neither the chunk nor h5py says so: HDF5 knows, and judges the bytes.
                    last: np.ndarray = self._dataset[number * self._n_chunk :]
                    return last
                raise OSError(self._damaged(number, str(error))) from error
        if len(content) != n_bytes:
            raise OSError(self._damaged(number, f"{len(content):,} bytes instead of {n_bytes:,}"))
        if self._is_shuffled and not left_out & 1:
            content = np.frombuffer(content, dtype=np.uint8).reshape(self.dtype.itemsize, -1).T.tobytes()
        return np.frombuffer(content, dtype=self.dtype)

    def _damaged(self, number: int, why: str) -> str:
        return f"chunk {number} of {self.name} (from value {number * self._n_chunk:,} on) is damaged: {why}"
