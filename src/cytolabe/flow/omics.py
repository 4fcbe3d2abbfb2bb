"""RNA with proteins or peaks of one file in one embedding, and how well proteins of a library that hides them are expected.

What is read stands in `flow.omics_file`. With a held-out library the model learns from the other libraries and is asked for the proteins of this one from
its RNA; what it expects is held to what was measured, beside a ridge regression on principal components of RNA and the mean of the training cells
(`flow.omics_hidden`). totalVI is mapped onto the library, scGPT stays as it was trained (`flow.omics_scgpt`). The embedding is judged as in a
study (`flow.omics_integration`), and where it collapsed that is a finding. A training of totalVI can be stored, and a stored one answers a file in its place (`flow.omics_stored`).
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.evaluate.collapse import collapsed_embedding
from cytolabe.files import replace_file
from cytolabe.flow.omics_file import MODEL_KINDS, PEAK, AskedOmics, held_out_cells, read_omics
from cytolabe.flow.omics_hidden import across, correlation, counted_rows, regression
from cytolabe.flow.omics_integration import Embedded, integration_of
from cytolabe.flow.omics_scgpt import check_scgpt, hidden_by_scgpt, scgpt_card, train_scgpt
from cytolabe.flow.omics_stored import answering, led_to, open_model, unused_folder
from cytolabe.models.collapse import MAX_CELLS, collapse_note
from cytolabe.models.omics import OmicsCells
from cytolabe.models.protocols import EmbeddingFacts
from cytolabe.models.scgpt.omics import random_control
from cytolabe.models.scgpt.source import ScgptOmicsSource
from cytolabe.models.totalvi import PROTEIN, RNA, FittedTotalvi, Totalvi
from cytolabe.models.totalvi_files import save_totalvi, totalvi_card
from cytolabe.provenance import digest_of, jsonable
from cytolabe.records import Finding, ModelCard, Protocol

__all__ = ["embed_omics"]

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a model made of a file: the cells that it could embed, their values, and what the document says of it alone."""

    rows: np.ndarray
    values: np.ndarray
    facts: EmbeddingFacts
    card: ModelCard
    told: Mapping[str, Any]
    proteins: list[dict[str, Any]]
    notes: tuple[str, ...]
    beside: tuple[Embedded, ...] = ()
    """Controls of the model's own, over the same rows."""


def embed_omics(
    path: Path, asked: AskedOmics, *, out: Path, on_progress: Progress = lambda _: None
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """Embed the cells of a file, write the embedding, and tell how proteins of a held-out library are expected.

    Returns
    -------
    tuple
        The document of `cytolabe omics --json`, and the findings: an embedding that collapsed.

    Raises
    ------
    UsageError, RefusedError, UnreadableInputError
        As `read_omics`, and if there is no such library, or a stored model cannot answer for this file.
    IntegrityError
        If the parts of a stored model or of a checkpoint do not belong together.
    MissingExtraError
        If scvi-tools or torch is not installed.
    """
    embed = _chosen(asked)
    cells, labels = read_omics(path, asked, on_progress=on_progress)
    made = embed(cells, on_progress)
    shown = cells.take(made.rows)
    card = digest_of(made.card)
    _write(shown.cell_ids, made, out, model=asked.kind, card=card)
    counts = csr_matrix(shown.modalities[RNA].counts)
    counted = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() > 0)
    findings = _collapse(made.values, model=asked.kind)
    judged = (
        Embedded(
            name=asked.kind, protocol=made.card.protocol, weights=made.facts.details["weights"], values=made.values
        ),
        *made.beside,
    )
    integration = integration_of(
        tuple(replace(one, values=one.values[counted]) for one in judged),
        csr_matrix(counts[counted]),
        batches=shown.batches[counted],
        labels=labels[made.rows][counted],
        seed=asked.seed,
    )
    document = {
        "model": asked.kind, "protocol": made.card.protocol.value, "file": path.name, "n_cells": len(made.rows),
        "n_left_out": len(cells.cell_ids) - len(made.rows), "n_dims": made.values.shape[1], **made.told, "held_out": asked.held_out or None,
        "weights": made.card.weights_digest, "card": card,
        "read_from": None if asked.model is None else str(asked.model), "saved": None if asked.save is None else str(asked.save),
        "proteins": made.proteins, "integration": integration, "findings": jsonable(findings), "notes": list(made.notes), "embedding": str(out),
    }  # fmt: skip
    return document, findings


def _chosen(asked: AskedOmics) -> Callable[[OmicsCells, Progress], _Made]:
    """Return what embeds, after everything was refused that can be refused before a file is read."""
    if asked.kind not in MODEL_KINDS:
        msg = f"--model-kind {asked.kind}: there are {', '.join(MODEL_KINDS)}."
        raise UsageError(msg)
    if asked.kind == "scgpt":
        if not (asked.proteins or asked.peaks):
            msg = "Name the counts beside RNA: --proteins KEY or --peaks KEY of obsm, or both."
            raise UsageError(msg)
        options = check_scgpt(asked)
        return lambda cells, on_progress: _by_scgpt(cells, asked, options, on_progress=on_progress)
    if asked.peaks or not asked.proteins:
        msg = "totalVI reads RNA and proteins: name their counts with --proteins KEY. Peaks are read by --model-kind scgpt."
        raise UsageError(msg)
    model, stored = _totalvi(asked.options), None
    if asked.model is not None:
        stored = open_model(asked.model, options=dict(asked.options), seed=asked.seed, save=asked.save)
    elif asked.save is not None:
        unused_folder(asked.save)
    return lambda cells, on_progress: _by_totalvi(cells, asked, stored or model, on_progress=on_progress)


def _by_totalvi(
    cells: OmicsCells, asked: AskedOmics, model: Totalvi | FittedTotalvi, *, on_progress: Progress
) -> _Made:
    if isinstance(model, FittedTotalvi):
        model, cells = led_to(model, cells)
    is_held = held_out_cells(cells, asked)
    train, held = cells.take(np.flatnonzero(~is_held)), cells.take(np.flatnonzero(is_held))
    if isinstance(model, Totalvi):
        on_progress(f"training totalVI on {len(train.cell_ids):,} cells")
        fitted = trained = model.fit(train, seed=asked.seed)
        if asked.save is not None:
            save_totalvi(fitted, asked.save)
    else:
        trained = model
        fitted = answering(model, train, held_out=asked.held_out, batch=asked.batch)
    shared, doubts = across(train, held, fit_on_query="unlabelled_query")
    if not is_held.any() and fitted.batches != fitted.trained:
        shared["fit_on_query"] = "unlabelled_query"
    proteins: list[dict[str, Any]] = []
    if is_held.any():
        on_progress(f"mapping {len(held.cell_ids):,} cells of {asked.held_out} without their proteins")
        fitted, proteins = _expected(fitted, train, held)
    rows = _counted(cells, fitted.columns)
    # Held-out proteins stay hidden: the embedding of these cells is that of their RNA.
    values = fitted.embed(cells.without(PROTEIN, is_held).take(rows)).astype(np.float32)
    told = {
        "n_genes": len(fitted.columns), "n_proteins": len(fitted.proteins), "n_peaks": 0, "batches": list(fitted.batches),
        "n_train": trained.scopes[0].n_cells, "n_held_out": int(is_held.sum()), **shared, "seed": trained.seed, "checkpoint": None,
        "mapped": [name for name in fitted.batches if name not in fitted.trained],
    }  # fmt: skip
    card, notes = totalvi_card(trained), (*doubts, *fitted.notes)
    return _Made(rows=rows, values=values, facts=fitted.facts, card=card, told=told, proteins=proteins, notes=notes)


def _by_scgpt(cells: OmicsCells, asked: AskedOmics, options: ScgptOmicsSource, *, on_progress: Progress) -> _Made:
    is_held = held_out_cells(cells, asked)
    train, held = cells.take(np.flatnonzero(~is_held)), cells.take(np.flatnonzero(is_held))
    fitted, columns, notes = train_scgpt(train, options, seed=asked.seed, on_progress=on_progress)
    shared, doubts = across(train, held, fit_on_query="none")
    if is_held.any():
        on_progress(f"asking for the proteins of {len(held.cell_ids):,} cells of {asked.held_out}")
    proteins, not_asked = hidden_by_scgpt(fitted, train, held, columns=columns)
    rows = _counted(cells, columns[RNA])
    shown = cells.without(PROTEIN, is_held) if PROTEIN in cells.modalities else cells
    shown = shown.take(rows).over(columns)
    control = random_control(fitted, seed=asked.seed)
    told = {
        "n_genes": len(columns[RNA]),
        "n_proteins": len(cells.modalities[PROTEIN].features) if PROTEIN in cells.modalities else 0,
        "n_peaks": len(columns.get(PEAK, ())),
        "batches": sorted(set(train.batches.astype(str).tolist())), "n_train": len(train.cell_ids), "n_held_out": int(is_held.sum()), **shared,
        "seed": asked.seed, "checkpoint": str(options.checkpoint) or None, "mapped": [],
    }  # fmt: skip
    return _Made(
        rows=rows,
        values=fitted.embed(shown),
        facts=fitted.facts,
        card=scgpt_card(fitted, options),
        told=told,
        proteins=proteins,
        notes=(*doubts, *not_asked, *notes),
        beside=(
            Embedded(
                name="control: random weights",
                protocol=Protocol.CONTROL,
                weights=control.model.weights_digest,
                values=control.embed(shown),
            ),
        ),
    )


def _totalvi(options: Mapping[str, Any]) -> Totalvi:
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


def _counted(cells: OmicsCells, columns: np.ndarray) -> np.ndarray:
    """Return the rows with a count of RNA in the genes of a model."""
    return np.flatnonzero(np.asarray(cells.modalities[RNA].counts[:, columns].sum(axis=1)).ravel() > 0)


def _expected(fitted: FittedTotalvi, train: OmicsCells, held: OmicsCells) -> tuple[FittedTotalvi, list[dict[str, Any]]]:
    """Map a library without its proteins, and hold what is expected to what was measured."""
    asked = held.take(counted_rows(held, fitted.columns))
    train = train.take(np.flatnonzero(np.asarray(train.modalities[RNA].counts.sum(axis=1)).ravel() > 0))
    bare = asked.without(PROTEIN, np.ones(len(asked.cell_ids), dtype=bool))
    mapped = fitted.map_query(bare)
    truth = np.log1p(asked.modalities[PROTEIN].counts.toarray())
    known = np.log1p(train.modalities[PROTEIN].counts.toarray())
    answers = {
        "totalvi": np.log1p(mapped.expected_proteins(bare)),
        "regression": regression(train, asked, known),
        "mean": np.tile(known.mean(axis=0), (len(asked.cell_ids), 1)),
    }
    return mapped, [
        {"protein": name, **{f"{who}_r": correlation(found[:, k], truth[:, k]) for who, found in answers.items() if who != "mean"},
         **{f"{who}_error": float(np.abs(found[:, k] - truth[:, k]).mean()) for who, found in answers.items()}}
        for k, name in enumerate(fitted.proteins)
    ]  # fmt: skip


def _collapse(values: np.ndarray, *, model: str) -> tuple[Finding, ...]:
    """Report an embedding that collapsed, by cells from all over it."""
    note = collapse_note(values[:: -(-len(values) // MAX_CELLS) or 1])
    return (collapsed_embedding(model, note),) if note else ()


def _write(cell_ids: np.ndarray, made: _Made, out: Path, *, model: str, card: str) -> None:
    columns = {"cell_id": pa.array(cell_ids.tolist(), type=pa.string())}
    columns |= {f"d{dim}": pa.array(made.values[:, dim]) for dim in range(made.values.shape[1])}
    buffer = io.BytesIO()
    facts = made.facts
    said = {
        "layer": facts.layer,
        "pooling": facts.pooling,
        "precision": facts.precision,
        **facts.details,
    }
    table = pa.table(columns).replace_schema_metadata({"model": model, "card": card, **said})
    pq.write_table(table, buffer, compression="zstd")
    replace_file(out, buffer.getvalue())
