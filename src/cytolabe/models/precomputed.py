"""Embeddings or predictions that were made elsewhere, read from a Parquet file keyed by cell id.

Two shapes: `cell_id` with `d0 ... dN` (an embedding) or `cell_id` with `term` (a prediction). Every cell of a view has
to be in the file; a cell that is missing is refused with a count, never scored as wrong and never left out. A model
that abstains writes the term `unknown`, which no truth equals.

What made the file is not in the file: the card's pretraining is unknown and the scopes are empty, so a score on it is
QUALIFIED at best (exposure unknown, fit scope by declaration only).
"""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from cytolabe.errors import RefusedError, UnreadableInputError, UsageError
from cytolabe.files import sha256_of_file
from cytolabe.models.cards import precomputed_card
from cytolabe.models.protocols import AnnotatorOutput, QueryView, TrainView
from cytolabe.records import FitScope, ModelCard

__all__ = ["PrecomputedAnnotator", "PrecomputedEmbedder", "PrecomputedSource", "read_precomputed"]

_DIM = re.compile(r"d(0|[1-9][0-9]*)")
_NOTE = "exposure unknown: the file does not say what its model was fitted on"


@dataclass(frozen=True, kw_only=True)
class PrecomputedSource:
    """Options of the model `precomputed`: the file, and the name under which its scores stand."""

    path: Path | str
    name: str = "precomputed"

    def read(self) -> "PrecomputedEmbedder | PrecomputedAnnotator":
        """Read the file."""
        return read_precomputed(Path(self.path), name=self.name)


@dataclass(frozen=True, kw_only=True)
class PrecomputedEmbedder:
    """An embedding by cell id; fitting it changes nothing, so it is its own fitted form."""

    card: ModelCard
    row_of: dict[str, int]
    values: np.ndarray
    scopes: tuple[FitScope, ...] = field(default=(), init=False)
    notes: tuple[str, ...] = field(default=(_NOTE,), init=False)

    @property
    def weights_digest(self) -> str:
        """Digest of the file: what stands in it is all that is known of the weights."""
        return self.card.weights_digest

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> "PrecomputedEmbedder":  # noqa: ARG002
        """Return itself."""
        return self

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return the rows of the file for the cells of the view.

        Raises
        ------
        RefusedError
            If the file lacks a cell of the view.
        """
        return np.asarray(self.values[_rows(self.row_of, view, self.card.name)])


@dataclass(frozen=True, kw_only=True)
class PrecomputedAnnotator:
    """One term per cell id; fitting it changes nothing, so it is its own fitted form."""

    card: ModelCard
    row_of: dict[str, int]
    classes: tuple[str, ...]
    codes: np.ndarray
    scopes: tuple[FitScope, ...] = field(default=(), init=False)
    notes: tuple[str, ...] = field(default=(_NOTE,), init=False)

    @property
    def weights_digest(self) -> str:
        """Digest of the file: what stands in it is all that is known of the weights."""
        return self.card.weights_digest

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> "PrecomputedAnnotator":  # noqa: ARG002
        """Return itself."""
        return self

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return probability 1 for the file's term of each cell; the classes are all terms of the file.

        Raises
        ------
        RefusedError
            If the file lacks a cell of the view.
        """
        rows = _rows(self.row_of, query, self.card.name)
        return AnnotatorOutput(classes=self.classes, probability=np.eye(len(self.classes))[self.codes[rows]])


def read_precomputed(path: Path, *, name: str = "precomputed") -> PrecomputedEmbedder | PrecomputedAnnotator:
    """Read a Parquet file of `cell_id` with `d0 ... dN` (an embedder) or `term` (an annotator).

    Raises
    ------
    UnreadableInputError
        If the file is missing or not Parquet.
    UsageError
        If its columns are neither of the two shapes.
    RefusedError
        If a cell id is empty or given twice, a value is not finite, or a term is empty.
    """
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
    except (OSError, pa.ArrowException) as error:
        msg = f"{path.name} cannot be read as Parquet ({type(error).__name__}). Write it with a Parquet library."
        raise UnreadableInputError(msg) from error
    row_of = _cell_rows(table, path.name)
    dims = _dims(table, path.name)
    digest = "sha256:" + sha256_of_file(path)
    if not dims:
        classes, codes = _terms(table, path.name)
        card = precomputed_card(name, capability="predict_labels", weights_digest=digest)
        return PrecomputedAnnotator(card=card, row_of=row_of, classes=classes, codes=codes)
    card = precomputed_card(name, capability="embed_cells", weights_digest=digest)
    return PrecomputedEmbedder(card=card, row_of=row_of, values=_values(table, dims, path.name))


def _rows(row_of: dict[str, int], view: QueryView, name: str) -> np.ndarray:
    """Return the file row of each cell of a view; refuse a view that the file does not cover."""
    missing = [cell_id for cell_id in view.cell_ids.tolist() if cell_id not in row_of]
    if missing:
        msg = (
            f"{name} has no row for {len(missing)} of {len(view.cell_ids)} cells: {', '.join(missing[:3])}. A model "
            "is scored on every cell or on none. Cell ids are <dataset_id>:<obs name>; add the missing ones."
        )
        raise RefusedError(msg)
    return np.array([row_of[cell_id] for cell_id in view.cell_ids.tolist()], dtype=np.int64)


def _cell_rows(table: pa.Table, file_name: str) -> dict[str, int]:
    if "cell_id" not in table.column_names:
        msg = f"{file_name} has no column cell_id (it has {', '.join(table.column_names[:5])}). Add it."
        raise UsageError(msg)
    cell_ids = table.column("cell_id").to_pylist()
    n_empty = sum(1 for cell_id in cell_ids if not isinstance(cell_id, str) or not cell_id)
    if n_empty:
        msg = (
            f"{file_name}: {n_empty} of {len(cell_ids)} cell ids are empty or not text. Write <dataset_id>:<obs name>."
        )
        raise RefusedError(msg)
    row_of = {cell_id: row for row, cell_id in enumerate(cell_ids)}
    n_twice = len(cell_ids) - len(row_of)
    if n_twice:
        examples = sorted({cell_id for row, cell_id in enumerate(cell_ids) if row_of[cell_id] != row})
        msg = f"{file_name}: {n_twice} cell ids are given more than once: {', '.join(examples[:3])}. Keep one row each."
        raise RefusedError(msg)
    return row_of


def _dims(table: pa.Table, file_name: str) -> list[str]:
    """Return d0 ... dN in order, or nothing where the file holds terms."""
    dims = [column for column in table.column_names if _DIM.fullmatch(column)]
    if bool(dims) == ("term" in table.column_names):
        msg = f"{file_name} must hold either d0 ... dN (an embedding) or term (a prediction) beside cell_id."
        raise UsageError(msg)
    expected = [f"d{dim}" for dim in range(len(dims))]
    if sorted(dims) != sorted(expected):
        absent = sorted(set(expected).difference(dims))
        msg = f"{file_name}: dims must run from d0 without a gap; {', '.join(absent[:3])} absent or given twice."
        raise UsageError(msg)
    return expected


def _values(table: pa.Table, dims: list[str], file_name: str) -> np.ndarray:
    columns = []
    for dim in dims:
        column = table.column(dim)
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            msg = f"{file_name}: {dim} holds {column.type}, not numbers."
            raise UsageError(msg)
        columns.append(column.to_numpy().astype(np.float64))
    values = np.column_stack(columns)
    n_bad = int((~np.isfinite(values).all(axis=1)).sum())
    if n_bad:
        msg = f"{file_name}: {n_bad} of {len(values)} cells have a missing or infinite value. A gap is not a zero."
        raise RefusedError(msg)
    return values


def _terms(table: pa.Table, file_name: str) -> tuple[tuple[str, ...], np.ndarray]:
    terms = table.column("term").to_pylist()
    n_empty = sum(1 for term in terms if not isinstance(term, str) or not term)
    if n_empty:
        msg = f"{file_name}: {n_empty} of {len(terms)} terms are empty or not text. Write `unknown` to abstain."
        raise RefusedError(msg)
    classes, codes = np.unique(np.array(terms, dtype=str), return_inverse=True)
    return tuple(classes.tolist()), codes.astype(np.int64)
