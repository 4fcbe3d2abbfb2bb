"""What `cytolabe omics` reads of a file: counts of RNA, proven, and counts of proteins or peaks of the same cells.

Counts of RNA are proven and genes aligned as for `annotate` (`flow.query_file`). Proteins and peaks are arrays of `obsm`, whole numbers, with a name for
each column: those of a table, or an array of `uns`. A peak is named by its place, chromosome:start-end; files write `chr1:100-600`,
`chr1-100-600` or `chr1_100_600`, and all three are read as the first.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy.sparse import csr_matrix, vstack

from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.query_file import read_query
from cytolabe.ingest.refusals import readable
from cytolabe.models.omics import Measured, OmicsCells
from cytolabe.models.totalvi import PROTEIN, RNA
from cytolabe.records import UNKNOWN

__all__ = ["MODEL_KINDS", "PEAK", "AskedOmics", "held_out_cells", "read_omics"]

PEAK = "peak"
"""Name of the third modality of `OmicsCells`."""

MODEL_KINDS = ("totalvi", "scgpt")

_PEAK_NAME = re.compile(r"([A-Za-z0-9.]+(?:_[A-Za-z0-9.]*[A-Za-z][A-Za-z0-9.]*)*)[:_-](\d+)[_-](\d+)")

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class AskedOmics:
    """What somebody asks for: the arrays of `obsm`, the columns of `obs`, the library to hold out, and the model."""

    proteins: str = ""
    names: str = ""
    """Array of `uns` with the names, where the proteins are no table; `protein_names` by default."""
    peaks: str = ""
    peak_names: str = ""
    """The same of the peaks; `peak_names` by default."""
    batch: str = ""
    person: str = ""
    label: str = ""
    """Column of `obs` with what the cells were called. No model reads it; the embedding is held to it."""
    held_out: str = ""
    kind: str = "totalvi"
    """One of `MODEL_KINDS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    model: Path | None = None
    """Folder of a stored model that answers; nothing is trained."""
    save: Path | None = None
    """Folder to store the model in, as it was trained."""


def read_omics(
    path: Path, asked: AskedOmics, *, on_progress: Progress = lambda _: None
) -> tuple[OmicsCells, np.ndarray]:
    """Return the cells of a file with all measurements that were asked for, and their labels (empty where they have none).

    Raises
    ------
    UsageError
        If the proteins or peaks, their names or a column are not there, or a peak is named otherwise than by its place.
    RefusedError
        If counts of RNA are not proven, or other values are no counts.
    UnreadableInputError
        If nothing in it can be read safely.
    """
    query = read_query(path, on_progress=on_progress)
    rna = csr_matrix(vstack(list(query.blocks(query.genes)), format="csr"))
    modalities = {RNA: Measured(counts=rna, features=query.genes)}
    with readable(path.name), h5py.File(path, "r", locking=False) as file:
        obs = read_elem(file["obs"])
        if asked.proteins:
            values, names = _beside(file, asked.proteins, asked.names, what="protein", where=path.name)
            counts = _whole(values, names, what="proteins", where=path.name)
            modalities[PROTEIN] = Measured(counts=counts, features=names, prefix="p_")
        if asked.peaks:
            values, names = _beside(file, asked.peaks, asked.peak_names, what="peak", where=path.name)
            places = _places(names, where=path.name)
            modalities[PEAK] = Measured(counts=_whole(values, places, what="peaks", where=path.name), features=places)
    cells = pd.Series(obs.index.astype(str))
    return OmicsCells(
        cell_ids=np.array([f"{number}:{name}" for number, name in enumerate(cells)], dtype=object)
        if cells.duplicated().any()
        else cells.to_numpy(dtype=object),
        modalities=modalities,
        batches=_column(obs, asked.batch, "--batch", default="all"),
        persons=_column(obs, asked.person, "--person", default=UNKNOWN),
    ), _labels(obs, asked.label)


def held_out_cells(cells: OmicsCells, asked: AskedOmics) -> np.ndarray:
    """Return which cells are of the library that is held out; none where no library is.

    Raises
    ------
    UsageError
        If there is no such library, or no other.
    """
    if not asked.held_out:
        return np.zeros(len(cells.cell_ids), dtype=bool)
    is_held = np.asarray(cells.batches.astype(str) == asked.held_out)
    if not is_held.any() or is_held.all():
        found = sorted(set(cells.batches.astype(str).tolist()))
        msg = f"--hold-out {asked.held_out}: name one of several values of --batch; there are {', '.join(found[:8])}."
        raise UsageError(msg)
    return is_held


def _beside(file: h5py.File, key: str, names: str, *, what: str, where: str) -> tuple[Any, tuple[str, ...]]:
    """Return an array of `obsm` and the names of its columns."""
    arrays, option = file.get("obsm", {}), f"--{what}s"
    if key not in arrays:
        msg = f"{where} has no obsm[{key!r}]; it has {', '.join(arrays) or 'no array there'}. Name the counts of {what}s with {option}."
        raise UsageError(msg)
    values = read_elem(arrays[key])
    if isinstance(values, pd.DataFrame):
        return values.to_numpy(), tuple(map(str, values.columns))
    name, uns = names or f"{what}_names", file.get("uns", {})
    if name not in uns:
        msg = f"obsm[{key!r}] has no names, and {where} has no uns[{name!r}]. Say with --{what}-names which array of uns names the {values.shape[1]} {what}s."
        raise UsageError(msg)
    found = tuple(map(str, np.atleast_1d(read_elem(uns[name])).tolist()))
    if len(found) != values.shape[1]:
        msg = f"uns[{name!r}] has {len(found)} names for {values.shape[1]} {what}s of obsm[{key!r}]."
        raise UsageError(msg)
    return values, found


def _places(names: tuple[str, ...], *, where: str) -> tuple[str, ...]:
    """Return each name of a peak as chromosome:start-end."""
    found = [_PEAK_NAME.fullmatch(name) for name in names]
    wrong = [
        name for name, one in zip(names, found, strict=True) if one is None or int(one.group(2)) >= int(one.group(3))
    ]
    if wrong:
        msg = (
            f"{where}: {len(wrong):,} of {len(names):,} peaks are named otherwise than by a place on a chromosome, first {wrong[0]!r}. "
            "Write chr1:100-600 (start below end), so that one peak is told from another in every file."
        )
        raise UsageError(msg)
    return tuple(f"{one.group(1)}:{int(one.group(2))}-{int(one.group(3))}" for one in found if one is not None)


def _whole(values: Any, names: tuple[str, ...], *, what: str, where: str) -> csr_matrix:  # noqa: ANN401 - dense or sparse
    try:
        read = csr_matrix(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{where}: values of {what} are no numbers ({error})."
        raise RefusedError(msg) from None
    read.sum_duplicates()
    is_wrong = ~(np.isfinite(read.data) & (read.data >= 0) & (read.data == np.floor(read.data)))
    if is_wrong.any():
        first = int(np.flatnonzero(is_wrong)[0])
        cell = int(np.searchsorted(read.indptr, first, side="right")) - 1
        remedy = {
            "proteins": "Raw counts of antibodies are modelled; give the array before normalization.",
            "peaks": "Counts of fragments or cuts, or 0 and 1, are read; give the array before normalization.",
        }[what]
        msg = (
            f"{where}: {int(is_wrong.sum()):,} of {read.shape[0] * read.shape[1]:,} values of {what} are no counts, first {read.data[first]:g} of "
            f"{names[read.indices[first]]} in cell {cell}. {remedy}"
        )
        raise RefusedError(msg)
    read.eliminate_zeros()
    return csr_matrix(read, dtype=np.int64)


def _column(obs: pd.DataFrame, name: str, option: str, *, default: str) -> np.ndarray:
    if not name:
        return np.full(len(obs), default, dtype=object)
    if name not in obs:
        msg = f"{option} {name}: obs has no such column; it has {', '.join(map(str, obs.columns[:12]))}."
        raise UsageError(msg)
    values = obs[name].astype(object)
    return np.asarray(values.where(values.notna(), UNKNOWN).astype(str), dtype=object)


def _labels(obs: pd.DataFrame, name: str) -> np.ndarray:
    found = _column(obs, name, "--label", default="")
    return np.where(np.isin(np.char.lower(found.astype(str)), (UNKNOWN, "nan", "na", "")), "", found).astype(object)
