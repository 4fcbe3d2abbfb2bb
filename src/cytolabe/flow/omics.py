"""RNA and proteins of one file in one embedding, and how well proteins of a library that hides them are expected.

Counts of RNA are proven and genes aligned as for `annotate` (`flow.query_file`); proteins are an array of `obsm`, whole numbers, with
a name each. With a held-out library the model learns from the other libraries and is mapped onto this one without its proteins; what it expects is held
to what was measured, beside a ridge regression of log counts on principal components of RNA and the mean of the training cells.
A training can be stored, and a stored one answers a file in its place (`flow.omics_stored`).
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from anndata.io import read_elem
from scipy.sparse import csr_matrix, vstack

from cytolabe.encode import log1p_cp10k
from cytolabe.errors import RefusedError, UsageError
from cytolabe.files import replace_file
from cytolabe.flow.omics_stored import answering, led_to, open_model, unused_folder
from cytolabe.flow.query_file import read_query
from cytolabe.ingest.refusals import readable
from cytolabe.models.omics import Measured, OmicsCells
from cytolabe.models.protocols import EmbeddingFacts
from cytolabe.models.threads import single_thread
from cytolabe.models.totalvi import PROTEIN, RNA, FittedTotalvi, Totalvi
from cytolabe.models.totalvi_files import save_totalvi, totalvi_card
from cytolabe.provenance import digest_of
from cytolabe.records import UNKNOWN

__all__ = ["AskedOmics", "embed_omics", "read_omics"]

_NAMES = "protein_names"
_N_COMPONENTS, _RIDGE = 30, 10.0
_LEAST_GENES = 100
"""Genes with counts from which equal cells are no chance (rule R9)."""

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class AskedOmics:
    """What somebody asks for: the array of `obsm`, the columns of `obs`, and the library to hold out."""

    proteins: str
    names: str = ""
    """Array of `uns` with the names, where the proteins are no table; `protein_names` by default."""
    batch: str = ""
    person: str = ""
    held_out: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    model: Path | None = None
    """Folder of a stored model that answers; nothing is trained."""
    save: Path | None = None
    """Folder to store the model in, as it was trained."""


def read_omics(path: Path, asked: AskedOmics, *, on_progress: Progress = lambda _: None) -> OmicsCells:
    """Return the cells of a file with both measurements.

    Raises
    ------
    UsageError
        If the proteins, their names or a column are not there.
    RefusedError
        If counts of RNA are not proven, or values of proteins are no counts.
    UnreadableInputError
        If nothing in it can be read safely.
    """
    query = read_query(path, on_progress=on_progress)
    rna = csr_matrix(vstack(list(query.blocks(query.genes)), format="csr"))
    with readable(path.name), h5py.File(path, "r", locking=False) as file:
        obs = read_elem(file["obs"])
        values, names = _proteins(file, asked, path.name)
    cells = pd.Series(obs.index.astype(str))
    return OmicsCells(
        cell_ids=np.array([f"{number}:{name}" for number, name in enumerate(cells)], dtype=object)
        if cells.duplicated().any()
        else cells.to_numpy(dtype=object),
        modalities={
            RNA: Measured(counts=rna, features=query.genes),
            PROTEIN: Measured(counts=_whole(values, names, path.name), features=names, prefix="p_"),
        },
        batches=_column(obs, asked.batch, "--batch", default="all"),
        persons=_column(obs, asked.person, "--person", default=UNKNOWN),
    )


def embed_omics(path: Path, asked: AskedOmics, *, out: Path, on_progress: Progress = lambda _: None) -> dict[str, Any]:
    """Embed the cells of a file by totalVI, write the embedding, and tell how proteins of a held-out library are expected.

    Raises
    ------
    UsageError, RefusedError, UnreadableInputError
        As `read_omics`, and if there is no such library, or a stored model cannot answer for this file.
    IntegrityError
        If the parts of a stored model do not belong together.
    MissingExtraError
        If scvi-tools is not installed.
    """
    model, stored = _model(asked.options), None
    if asked.model is not None:
        stored = open_model(asked.model, options=dict(asked.options), seed=asked.seed, save=asked.save)
    elif asked.save is not None:
        unused_folder(asked.save)
    cells = read_omics(path, asked, on_progress=on_progress)
    if stored is not None:
        stored, cells = led_to(stored, cells)
    is_held = np.zeros(len(cells.cell_ids), dtype=bool)
    if asked.held_out:
        is_held = _held_out(cells, asked)
    train, held = cells.take(np.flatnonzero(~is_held)), cells.take(np.flatnonzero(is_held))
    if stored is None:
        on_progress(f"training totalVI on {len(train.cell_ids):,} cells")
        fitted = trained = model.fit(train, seed=asked.seed)
        if asked.save is not None:
            save_totalvi(fitted, asked.save)
    else:
        trained = stored
        fitted = answering(stored, train, held_out=asked.held_out, batch=asked.batch)
    across, doubts = _across(train, held)
    if not is_held.any() and fitted.batches != fitted.trained:
        across["fit_on_query"] = "unlabelled_query"
    proteins: list[dict[str, Any]] = []
    if is_held.any():
        on_progress(f"mapping {len(held.cell_ids):,} cells of {asked.held_out} without their proteins")
        fitted, proteins = _expected(fitted, train, held)
    counted = np.asarray(cells.modalities[RNA].counts[:, fitted.columns].sum(axis=1)).ravel() > 0
    # Held-out proteins stay hidden: the embedding of these cells is that of their RNA.
    shown = _without_proteins(cells, is_held).take(np.flatnonzero(counted))
    values = fitted.embed(shown).astype(np.float32)
    card = totalvi_card(trained)
    _write(shown.cell_ids, values, out, facts=fitted.facts, card=digest_of(card))
    return {
        "model": "totalvi", "file": path.name, "n_cells": len(shown.cell_ids), "n_left_out": int((~counted).sum()), "n_dims": values.shape[1],
        "n_genes": len(fitted.columns), "n_proteins": len(fitted.proteins), "batches": list(fitted.batches), "held_out": asked.held_out or None,
        "n_train": trained.scopes[0].n_cells, "n_held_out": int(is_held.sum()), **across,
        "weights": card.weights_digest, "card": digest_of(card), "seed": trained.seed,
        "mapped": [name for name in fitted.batches if name not in fitted.trained],
        "read_from": None if asked.model is None else str(asked.model), "saved": None if asked.save is None else str(asked.save),
        "proteins": proteins, "notes": [*doubts, *fitted.notes], "embedding": str(out),
    }  # fmt: skip


def _model(options: Mapping[str, Any]) -> Totalvi:
    known = sorted(name for name in Totalvi.__dataclass_fields__ if name != "inputs")
    wrong = [name for name in options if name not in known]
    if wrong:
        msg = f"--option {wrong[0]}: totalvi knows {', '.join(known)}."
        raise UsageError(msg)
    for name, value in options.items():
        kind = float if name == "learning_rate" else int
        if not isinstance(value, (int, kind)) or isinstance(value, bool) or value <= 0:
            msg = f"--option {name}={value}: a number above 0 is needed{', a whole one' if kind is int else ''}."
            raise UsageError(msg)
    return Totalvi(**options)


def _proteins(file: h5py.File, asked: AskedOmics, where: str) -> tuple[Any, tuple[str, ...]]:
    arrays = file.get("obsm", {})
    if asked.proteins not in arrays:
        msg = f"{where} has no obsm[{asked.proteins!r}]; it has {', '.join(arrays) or 'no array there'}. Name the counts of proteins with --proteins."
        raise UsageError(msg)
    values = read_elem(arrays[asked.proteins])
    if isinstance(values, pd.DataFrame):
        return values.to_numpy(), tuple(map(str, values.columns))
    name, uns = asked.names or _NAMES, file.get("uns", {})
    if name not in uns:
        msg = f"obsm[{asked.proteins!r}] has no names, and {where} has no uns[{name!r}]. Say with --protein-names which array of uns names the {values.shape[1]} proteins."
        raise UsageError(msg)
    names = tuple(map(str, np.atleast_1d(read_elem(uns[name])).tolist()))
    if len(names) != values.shape[1]:
        msg = f"uns[{name!r}] has {len(names)} names for {values.shape[1]} proteins of obsm[{asked.proteins!r}]."
        raise UsageError(msg)
    return values, names


def _whole(values: Any, names: tuple[str, ...], where: str) -> csr_matrix:  # noqa: ANN401 - dense or sparse
    dense = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)
    wrong = ~(np.isfinite(dense) & (dense >= 0) & (dense == np.floor(dense)))
    if wrong.any():
        cell, protein = np.argwhere(wrong)[0]
        msg = (
            f"{where}: {int(wrong.sum()):,} of {wrong.size:,} values of proteins are no counts, first {dense[cell, protein]:g} of {names[protein]} in "
            f"cell {cell}. totalVI models raw counts of antibodies; give the array before normalization."
        )
        raise RefusedError(msg)
    return csr_matrix(dense.astype(np.int64))


def _column(obs: pd.DataFrame, name: str, option: str, *, default: str) -> np.ndarray:
    if not name:
        return np.full(len(obs), default, dtype=object)
    if name not in obs:
        msg = f"{option} {name}: obs has no such column; it has {', '.join(map(str, obs.columns[:12]))}."
        raise UsageError(msg)
    values = obs[name].astype(object)
    return np.asarray(values.where(values.notna(), UNKNOWN).astype(str), dtype=object)


def _held_out(cells: OmicsCells, asked: AskedOmics) -> np.ndarray:
    is_held = np.asarray(cells.batches.astype(str) == asked.held_out)
    if not is_held.any() or is_held.all():
        found = sorted(set(cells.batches.astype(str).tolist()))
        msg = f"--hold-out {asked.held_out}: name one of several values of --batch; there are {', '.join(found[:8])}."
        raise UsageError(msg)
    return is_held


def _without_proteins(cells: OmicsCells, hidden: np.ndarray) -> OmicsCells:
    protein = cells.modalities[PROTEIN]
    counts = csr_matrix(protein.counts.multiply(~hidden[:, None]))
    shown = Measured(counts=counts, features=protein.features, prefix=protein.prefix)
    return OmicsCells(
        cell_ids=cells.cell_ids,
        modalities={**cells.modalities, PROTEIN: shown},
        batches=cells.batches,
        persons=cells.persons,
    )


def _across(train: OmicsCells, held: OmicsCells) -> tuple[dict[str, Any], list[str]]:
    """Count what both sides share, and say what qualifies the comparison of a held-out library."""
    if not len(held.cell_ids):
        return {"fit_on_query": None, "status": None, "n_shared_persons": None, "n_shared_cells": None}, []
    sides = [set(one.persons.tolist()) - {UNKNOWN} for one in (train, held)]
    is_known = bool(sides[0] and sides[1]) and not (UNKNOWN in train.persons or UNKNOWN in held.persons)
    n_persons, n_cells = len(sides[0] & sides[1]), len(_contents(train) & _contents(held))
    doubts = ["QUALIFIED: one seed and one library, so no interval; weights of its batch are fitted on its RNA"]
    if not is_known:
        doubts.append("QUALIFIED: persons unknown, so one may be on both sides; give --person")
    if n_persons:
        doubts.append(
            f"QUALIFIED: {n_persons} of its {len(sides[1])} persons trained the model: this is a library held out, not a person"
        )
    if n_cells:
        doubts.append(f"QUALIFIED: {n_cells} cells have the RNA of a training cell, count for count")
    told = {
        "fit_on_query": "unlabelled_query",
        "status": "QUALIFIED",
        "n_shared_persons": n_persons if is_known else None,
    }
    return {**told, "n_shared_cells": n_cells}, doubts


def _contents(cells: OmicsCells) -> set[bytes]:
    """Return the counts of RNA of each cell with 100 genes or more, as bytes to compare."""
    counts = csr_matrix(cells.modalities[RNA].counts)
    counts.sum_duplicates()
    return {
        counts.indices[a:b].tobytes() + counts.data[a:b].tobytes()
        for a, b in pairwise(counts.indptr.tolist())
        if b - a >= _LEAST_GENES
    }


def _expected(fitted: FittedTotalvi, train: OmicsCells, held: OmicsCells) -> tuple[FittedTotalvi, list[dict[str, Any]]]:
    """Map a library without its proteins, and hold what is expected to what was measured."""
    counted = np.flatnonzero(np.asarray(held.modalities[RNA].counts[:, fitted.columns].sum(axis=1)).ravel() > 0)
    if not len(counted):
        msg = f"None of the {len(held.cell_ids)} cells of the held-out library has a count of RNA in the genes of the model: nothing can be expected of them."
        raise RefusedError(msg)
    asked = held.take(counted)
    train = train.take(np.flatnonzero(np.asarray(train.modalities[RNA].counts.sum(axis=1)).ravel() > 0))
    bare = _without_proteins(asked, np.ones(len(counted), dtype=bool))
    mapped = fitted.map_query(bare)
    truth = np.log1p(asked.modalities[PROTEIN].counts.toarray())
    known = np.log1p(train.modalities[PROTEIN].counts.toarray())
    answers = {
        "totalvi": np.log1p(mapped.expected_proteins(bare)),
        "regression": _regression(train, asked, known),
        "mean": np.tile(known.mean(axis=0), (len(counted), 1)),
    }
    return mapped, [
        {"protein": name, **{f"{who}_r": _correlation(found[:, k], truth[:, k]) for who, found in answers.items() if who != "mean"},
         **{f"{who}_error": float(np.abs(found[:, k] - truth[:, k]).mean()) for who, found in answers.items()}}
        for k, name in enumerate(fitted.proteins)
    ]  # fmt: skip


def _regression(train: OmicsCells, asked: OmicsCells, known: np.ndarray) -> np.ndarray:
    """Expect log counts of proteins by ridge regression on the principal components of log-normalized RNA."""
    from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415 - slow to import
    from sklearn.linear_model import Ridge  # noqa: PLC0415

    rna, of_asked = (log1p_cp10k(csr_matrix(one.modalities[RNA].counts)) for one in (train, asked))
    n_components = min(_N_COMPONENTS, min(rna.shape) - 1)
    with single_thread():
        components = TruncatedSVD(n_components, random_state=0).fit(rna)
        model = Ridge(_RIDGE).fit(components.transform(rna), known)
        found = np.asarray(model.predict(components.transform(of_asked)), dtype=np.float64)
    return np.asarray(np.maximum(found.reshape(len(asked.cell_ids), -1), 0.0))


def _correlation(found: np.ndarray, truth: np.ndarray) -> float | None:
    """Return Pearson's correlation; None where one of the two does not vary."""
    if np.ptp(found) == 0 or np.ptp(truth) == 0:
        return None
    return float(np.corrcoef(found, truth)[0, 1])


def _write(cell_ids: np.ndarray, values: np.ndarray, out: Path, *, facts: EmbeddingFacts, card: str) -> None:
    columns = {"cell_id": pa.array(cell_ids.tolist(), type=pa.string())}
    columns |= {f"d{dim}": pa.array(values[:, dim]) for dim in range(values.shape[1])}
    buffer = io.BytesIO()
    said = {"layer": facts.layer, "pooling": facts.pooling, "precision": facts.precision, **facts.details}
    table = pa.table(columns).replace_schema_metadata({"model": "totalvi", "card": card, **said})
    pq.write_table(table, buffer, compression="zstd")
    replace_file(out, buffer.getvalue())
