"""What a stored scVI or scANVI keeps of its reference in place of counts: mean and variance of each training cell's posterior.

As `minify_adata(latent_posterior_parameters)` of scvi-tools, whose `qzm` and `qzv` these are, but without AnnData: a stored
model here never held a count. `posterior.parquet` has `cell_id`, `batch`, `d0 ... dN` (the mean, so that it is read as a `precomputed` embedding)
and `v0 ... vN` (the variance). It is one row for each cell of a person, and is written only where somebody asks for it.

A cell without counts in the genes of the model has no posterior: its variance is missing. By scVI it lies at the mean of the
training cells, as when it is embedded; scANVI answers it by the shares of the classes, and places it nowhere.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.files import create_new
from cytolabe.models.protocols import QueryView
from cytolabe.models.stored import StoredKind, open_stored
from cytolabe.provenance import cells_digest
from cytolabe.records import FitScope

__all__ = ["POSTERIOR_NAME", "LatentPosterior", "load_posterior", "refuse_other_cells", "write_posterior"]

POSTERIOR_NAME = "posterior.parquet"
_PART = "posterior"


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentPosterior:
    """The approximate posterior of some cells: a Gaussian with independent dims for each."""

    cell_ids: np.ndarray
    batches: np.ndarray
    """Batch of each cell, as the model names it."""
    mean: Float[np.ndarray, "cells dims"]
    variance: Float[np.ndarray, "cells dims"]
    """NaN for a cell without counts."""

    @property
    def has_counts(self) -> np.ndarray:
        """Which cells have counts in the genes of the model."""
        known: np.ndarray = ~np.isnan(self.variance).any(axis=1)
        return known


def refuse_other_cells(view: QueryView, scopes: tuple[FitScope, ...], *, step: str) -> None:
    """Refuse a reference that is not what the weights were fitted on.

    Raises
    ------
    UsageError
        If the cells of the view are others; their order means nothing.
    """
    fitted_on = {scope.cells_digest for scope in scopes if scope.step == step}
    found = cells_digest(view.cell_ids.tolist())
    if found not in fitted_on:
        msg = (
            f"These {len(view.cell_ids):,} cells are not those that the model was trained on ({step}). A stored posterior is of the reference: "
            "hand in the training cells, or embed others by the model."
        )
        raise UsageError(msg)


def write_posterior(directory: Path, posterior: LatentPosterior) -> Mapping[str, object]:
    """Write a posterior beside a model, and return what the description has to say of it.

    Raises
    ------
    ConflictError
        If the folder holds another one.
    """
    names = {"cell_id": posterior.cell_ids, "batch": posterior.batches}
    columns: dict[str, Any] = {name: pa.array(values.tolist(), type=pa.string()) for name, values in names.items()}
    columns |= {f"d{dim}": posterior.mean[:, dim] for dim in range(posterior.mean.shape[1])}
    columns |= {
        f"v{dim}": pa.array(posterior.variance[:, dim], mask=~posterior.has_counts)
        for dim in range(posterior.variance.shape[1])
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    content = buffer.getvalue()
    create_new(directory / POSTERIOR_NAME, content)
    return {
        _PART: {
            "sha256": _digest(content),
            "n_cells": len(posterior.cell_ids),
            "cells": cells_digest(posterior.cell_ids.tolist()),
        }
    }


def load_posterior(directory: Path, kind: StoredKind) -> LatentPosterior:
    """Read the posterior of a stored model; no count and no network is needed for it.

    Raises
    ------
    UsageError
        If the model was stored without one.
    UnreadableInputError
        If the file or a part of the model is missing or garbled.
    IntegrityError
        If it is not the one that the description of the model names, or a part of the model is not that of its card.
    """
    said = open_stored(directory, kind).description.get(_PART)
    if not isinstance(said, dict):
        msg = f"{directory} was stored without the posterior of its reference. Store the model again with its training cells (latent_posterior = true)."
        raise UsageError(msg)
    path = directory / POSTERIOR_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}); the model says that it has one. Take the folder as it was saved."
        raise UnreadableInputError(msg) from None
    if _digest(content) != said.get("sha256"):
        msg = f"{path} has the digest {_digest(content)}; {kind.description_name} names {said.get('sha256')}. Take the folder as it was saved."
        raise IntegrityError(msg)
    table = pq.read_table(io.BytesIO(content))
    n_dims = sum(name.startswith("d") for name in table.column_names)
    mean, variance = (
        np.column_stack([table.column(f"{letter}{dim}").to_numpy() for dim in range(n_dims)]) for letter in "dv"
    )
    names = {name: np.array(table.column(name).to_pylist(), dtype=object) for name in ("cell_id", "batch")}
    return LatentPosterior(cell_ids=names["cell_id"], batches=names["batch"], mean=mean, variance=variance)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
