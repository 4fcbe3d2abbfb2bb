"""What is known of a partition before its counts are written: enough to write any of its shards alone.

A first pass over the source counted the entries of each cell and found the largest count. From that follow the width
of every array and which cells each shard needs, so that shards are independent tasks: of other processes, on other
machines, after a crash. The plan is kept beside the staged shards; a task is a path and two numbers.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cytolabe.files import STAGED_PREFIX, remove, remove_directory, replace_file
from cytolabe.provenance import canonical_json
from cytolabe.store import array_spec
from cytolabe.store.array_spec import ArraySpec
from cytolabe.store.counts_digest import feature_order, features_digest

__all__ = ["PartitionPlan", "clear_attempt", "read_plan", "write_plan"]

_NARROW_FEATURES = 65_536
_FOLDER = ".plan"


@dataclass(frozen=True, kw_only=True)
class PartitionPlan:
    """A partition that is to be written.

    `features` are the feature names of the source in the order of the columns of its blocks; `first_row` is the row in
    the source of the first cell; `indptr` counts the entries that are not zero before each cell (one more than cells);
    `largest` is the largest count.
    """

    dataset_id: str
    features: tuple[str, ...]
    first_row: int
    indptr: Int[np.ndarray, " pointers"]
    largest: int
    chunk_values: int = field(default_factory=lambda: array_spec.CHUNK_VALUES)
    shard_values: int = field(default_factory=lambda: array_spec.SHARD_VALUES)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1

    @property
    def n_nonzero(self) -> int:
        """Number of counts that are not zero."""
        return int(self.indptr[-1])

    @cached_property
    def order(self) -> np.ndarray:
        """Positions in the source of the features in the order of the partition."""
        return feature_order(self.features)

    @cached_property
    def ordered_features(self) -> tuple[str, ...]:
        """The features in the order of the partition."""
        return tuple(self.features[position] for position in self.order)

    @cached_property
    def column_of_feature(self) -> np.ndarray:
        """Column in the partition of each feature of the source, int32."""
        return np.argsort(self.order).astype(np.int32)

    @cached_property
    def features_digest(self) -> str:
        """Digest of the features in the order of the partition."""
        return features_digest(self.ordered_features)

    def arrays(self) -> dict[str, ArraySpec]:
        """Return the arrays of the partition: `X/data`, `X/indices`, `X/indptr`."""
        columns = np.dtype("<u2" if len(self.features) <= _NARROW_FEATURES else "<u4")
        width = np.min_scalar_type(max(0, self.largest)).itemsize
        return {
            "X/data": self._spec(np.dtype(f"<u{width}"), self.n_nonzero, is_delta=False),
            "X/indices": self._spec(columns, self.n_nonzero, is_delta=True),
            "X/indptr": self._spec(np.dtype("<i8"), self.n_cells + 1, is_delta=True),
        }

    @property
    def n_shards(self) -> int:
        """Shards of counts; each is one file of `X/data` and one of `X/indices`."""
        return -(-self.n_nonzero // self.shard_values)

    def values_of_shards(self, first: int, last: int) -> tuple[int, int]:
        """Return the range of entries in shards `first` to `last`."""
        return first * self.shard_values, min(self.n_nonzero, last * self.shard_values)

    def cells_of_shards(self, first: int, last: int) -> tuple[int, int]:
        """Return the range of cells (of the partition) that have an entry in shards `first` to `last`."""
        low, high = self.values_of_shards(first, last)
        start = int(np.searchsorted(self.indptr, low, side="right")) - 1
        return start, max(start, int(np.searchsorted(self.indptr, high, side="left")))

    def _spec(self, dtype: np.dtype, n_values: int, *, is_delta: bool) -> ArraySpec:
        return ArraySpec(
            dtype=dtype,
            n_values=n_values,
            is_delta=is_delta,
            chunk_values=self.chunk_values,
            shard_values=self.shard_values,
        )


def write_plan(staged: Path, plan: PartitionPlan) -> None:
    """Keep a plan beside the shards that are written after it."""
    folder = staged / _FOLDER
    names = ("dataset_id", "features", "first_row", "largest", "chunk_values", "shard_values")
    replace_file(folder / "indptr.bin", plan.indptr.astype("<i8").tobytes())
    # The text comes last: a plan with it is whole.
    replace_file(folder / "plan.json", canonical_json({name: getattr(plan, name) for name in names}))


def read_plan(staged: Path) -> PartitionPlan:
    """Return the plan of a staged partition.

    Raises
    ------
    FileNotFoundError
        If there is none, or it was not written to the end.
    """
    folder = staged / _FOLDER
    known = json.loads((folder / "plan.json").read_bytes())
    # Mapped: who writes some shards looks at the pointers of their cells alone.
    indptr = np.asarray(np.memmap(folder / "indptr.bin", dtype="<i8", mode="r")).astype(np.int64, copy=False)
    return PartitionPlan(**{**known, "features": tuple(known["features"])}, indptr=indptr)


def clear_attempt(staged: Path) -> None:
    """Remove the plan, and what a sealing that was killed left: all that is there then is listed as the partition."""
    remove_directory(staged / _FOLDER)
    remove(staged / "zarr.json")
    for left in list(staged.rglob(f"{STAGED_PREFIX}*")):
        remove(left)
