"""What a reader may ask of a group or an array of a file, whichever library holds it.

Tables and matrices of AnnData look alike in HDF5 and in zarr. The readers ask for this little only, so that one
decoder serves both; `zarr_nodes` makes arrays of zarr answer as those of h5py do.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

__all__ = ["ArrayNode", "GroupNode", "Node", "is_array", "is_group"]


@runtime_checkable
class ArrayNode(Protocol):
    """An array of a file: read by slices, never held."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the array."""
        ...

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Lengths of the axes; None where the array is declared without any."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        ...

    @property
    def name(self) -> str:
        """Place in the file."""
        ...

    def __getitem__(self, place: Any, /) -> Any:  # noqa: ANN401  slices of any kind give values of any kind
        """Read values."""
        ...


@runtime_checkable
class GroupNode(Protocol):
    """A group of a file: named nodes."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the group."""
        ...

    @property
    def name(self) -> str:
        """Place in the file."""
        ...

    def __getitem__(self, name: str, /) -> Any:  # noqa: ANN401  a group or an array
        """Return a node; KeyError where there is none."""
        ...

    def get(self, name: str, /) -> Any:  # noqa: ANN401  a group, an array or None
        """Return a node or None."""
        ...

    def keys(self) -> Any:  # noqa: ANN401  h5py and zarr return views of their own
        """Names of the nodes."""
        ...

    def __contains__(self, name: object, /) -> bool:
        """Tell whether there is such a node."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        ...

    def __len__(self) -> int:
        """Count the nodes."""
        ...


Node = Any
"""A `GroupNode` or an `ArrayNode`; `is_group` tells which."""


def is_group(node: object) -> TypeGuard[GroupNode]:
    """Tell whether a node holds nodes."""
    return hasattr(node, "keys")


def is_array(node: object) -> TypeGuard[ArrayNode]:
    """Tell whether a node holds values."""
    return node is not None and not hasattr(node, "keys") and hasattr(node, "dtype")
