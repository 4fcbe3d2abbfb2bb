"""Groups and arrays of zarr that answer as those of h5py do, so that one reader of AnnData serves both."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from cytolabe.ingest.refusals import readable
from cytolabe.ingest.zarr_files import list_zarr

__all__ = ["ZarrArray", "ZarrGroup", "zarr_root"]


class ZarrArray:
    """An array of zarr; texts come as objects, whatever zarr holds them in."""

    def __init__(self, array: "zarr.Array[Any]") -> None:
        self._array = array

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the array."""
        return dict(self._array.attrs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(self._array.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Lengths of a chunk."""
        return tuple(self._array.chunks)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values; that of h5py where they are texts."""
        kind = self._array.dtype
        is_text = kind.kind in "TUO"
        found: np.dtype[Any] = h5py.string_dtype() if is_text else np.dtype(kind)
        return found

    @property
    def name(self) -> str:
        """Place in the hierarchy."""
        return str(self._array.name)

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401  slices of any kind give values of any kind
        """Read values; damaged chunks raise OSError, as they do in HDF5."""
        try:
            values = self._array[place]
        except (ValueError, TypeError, IndexError) as error:
            raise OSError(str(error)) from error
        values = np.asarray(values)
        values = values.astype(object) if values.dtype.kind in "TU" else values
        return values[()] if values.ndim == 0 else values


class ZarrGroup:
    """A group of zarr."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the group."""
        return dict(self._group.attrs)

    @property
    def name(self) -> str:
        """Place in the hierarchy."""
        return str(self._group.name)

    def __getitem__(self, name: str) -> "ZarrGroup | ZarrArray":
        """Return a node; KeyError where there is none."""
        node = self._group[name]
        return ZarrGroup(node) if isinstance(node, zarr.Group) else ZarrArray(node)

    def get(self, name: str) -> "ZarrGroup | ZarrArray | None":
        """Return a node or None."""
        try:
            return self[name]
        except KeyError:
            return None

    def keys(self) -> list[str]:
        """Names of the nodes, sorted."""
        return sorted(self._group.keys())

    def __contains__(self, name: object) -> bool:
        """Tell whether there is such a node."""
        return isinstance(name, str) and bool(name) and name in self._group

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self.keys())

    def __len__(self) -> int:
        """Count the nodes."""
        return len(self.keys())


def zarr_root(path: Path, cleanup: ExitStack) -> ZarrGroup:
    """Return the root group of a hierarchy; it can be read until `cleanup` is closed."""
    with readable(path.name):
        store: LocalStore | ZipStore
        if path.is_dir():
            store, prefix = LocalStore(path, read_only=True), ""
        else:
            store, prefix = ZipStore(path, mode="r"), list_zarr(path).prefix
        cleanup.callback(store.close)
        try:
            # What is consolidated may differ from what lies there; only the latter was scanned.
            return ZarrGroup(zarr.open_group(store, mode="r", path=prefix.rstrip("/"), use_consolidated=False))
        except (ValueError, TypeError, AttributeError) as error:
            raise OSError(str(error)) from error
