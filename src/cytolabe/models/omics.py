"""Several measurements of the same cells, as models of several modalities are handed them.

The stages of an atlas hand RNA alone to their models; these records are for arrays, and for the files of `flow.omics`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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
        twice = sorted({token for token in names if names.count(token) > 1}) if len(set(names)) < len(names) else []
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
