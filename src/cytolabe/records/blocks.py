"""The unit that counts are streamed in; apart from the other records, because sparse matrices take long to import."""

from dataclasses import dataclass

from scipy.sparse import csr_matrix

__all__ = ["Block"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A run of whole cells of one data set: the unit that is streamed.

    `counts` is cells x features in the data set's own features and order; `cell_names` has one name per row;
    `start` is the row of the first cell in the source.
    """

    dataset_id: str
    start: int
    cell_names: tuple[str, ...]
    counts: csr_matrix
