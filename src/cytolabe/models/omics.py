"""Several measurements of the same cells, as models of several modalities are handed them.

The stages of an atlas hand RNA alone to their models; these records are for arrays, and for the files of `flow.omics`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError

__all__ = ["Measured", "OmicsCells"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One modality: raw counts, cells x features, and how its features are called."""

    counts: csr_matrix
    features: tuple[str, ...]
    prefix: str = ""
    """Put before each name, where another modality has the same names: `p_` for proteins."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tokens."""
        return tuple(f"{self.prefix}{feature}" for feature in self.features)

    @property
    def is_binary(self) -> bool:
        """Whether no value is above 1: something is there or not, and nothing is said of amounts."""
        return bool((self.counts.data <= 1).all())


@dataclass(frozen=True, kw_only=True)
class OmicsCells:
    """Cells of which several modalities were measured. RNA first, where a checkpoint is to be used."""

    cell_ids: np.ndarray
    modalities: Mapping[str, Measured]
    batches: np.ndarray
    persons: np.ndarray

    def __post_init__(self) -> None:
        """Refuse modalities of other cells, and a name that two of them share."""
        n_cells = len(self.cell_ids)
        for name, measured in self.modalities.items():
            if measured.counts.shape != (n_cells, len(measured.features)):
                msg = f"{name}: counts are {measured.counts.shape}, for {n_cells} cells and {len(measured.features)} features."
                raise UsageError(msg)
        names = [token for measured in self.modalities.values() for token in measured.names]
        twice = sorted(token for token, times in Counter(names).items() if times > 1)
        if twice:
            msg = f"{len(twice)} feature(s) stand twice, for example {twice[0]!r}. Give one modality a prefix, such as 'p_'."
            raise UsageError(msg)

    def take(self, rows: np.ndarray) -> "OmicsCells":
        """Return some of the cells."""
        return OmicsCells(
            cell_ids=self.cell_ids[rows],
            modalities={
                name: Measured(counts=one.counts[rows], features=one.features, prefix=one.prefix)
                for name, one in self.modalities.items()
            },
            batches=self.batches[rows],
            persons=self.persons[rows],
        )

    def over(self, columns: Mapping[str, np.ndarray]) -> "OmicsCells":
        """Return the same cells over some features of some modalities, named by their positions; other modalities stay whole."""
        return replace(
            self,
            modalities={
                name: Measured(
                    counts=one.counts[:, columns[name]],
                    features=tuple(one.features[column] for column in columns[name].tolist()),
                    prefix=one.prefix,
                )
                if name in columns
                else one
                for name, one in self.modalities.items()
            },
        )

    def without(self, modality: str, hidden: np.ndarray) -> "OmicsCells":
        """Return the same cells, of which those that `hidden` marks (one bool per cell) have no count of a modality."""
        one = self.modalities[modality]
        counts = csr_matrix(one.counts.multiply(~hidden[:, None]))
        counts.eliminate_zeros()
        return replace(self, modalities={**self.modalities, modality: replace(one, counts=counts)})
