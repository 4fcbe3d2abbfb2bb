"""Audits and embeddings of an atlas, outside of a study."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.apply.embed import FittedModel, embed_shards, fit_embedder, write_stored_embedding
from cytolabe.apply.known_cells import handed_cells
from cytolabe.audit import (
    audit_confounding,
    audit_fold,
    certify,
    exposure_to_ledger,
    find_copies,
)
from cytolabe.errors import UsageError
from cytolabe.evaluate.collapse import collapsed_embedding
from cytolabe.files import remove_directory, replace_file
from cytolabe.flow.certificates import write_counts, write_grounds
from cytolabe.models.collapse import MAX_CELLS, collapse_note
from cytolabe.models.protocols import DescribedEmbedder
from cytolabe.provenance import canonical_json, digest_of, jsonable
from cytolabe.records import Certificate, Exposure, Finding, Fold, Split
from cytolabe.snapshot.access import declared_access
from cytolabe.snapshot.cell_table import different_cells
from cytolabe.snapshot.embeddings import EmbeddingSpec, EmbeddingStore
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.relations import FACTOR_COLUMNS
from cytolabe.split import read_split
from cytolabe.store.tables import write_parquet

__all__ = ["audit_atlas", "chosen_fold", "embed_fold", "shared_genes"]

_SHOWN_DUPLICATES = 10_000


def audit_atlas(
    frozen: Snapshot,
    *,
    split_file: Path | None,
    out: Path,
    with_counts: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, object], tuple[Finding, ...]]:
    """Look for copies and confounding and, with a split, for leakage; write the table of copies and the certificate.

    Returns
    -------
    The document of `cytolabe audit --json`, and the findings.
    """
    folds = read_split(split_file, frozen).folds if split_file is not None else ()
    on_progress(f"comparing {frozen.n_cells:,} cells")
    duplicates = find_copies(frozen)
    out.mkdir(parents=True, exist_ok=True)
    table = out / "duplicates.parquet"
    write_parquet(duplicates.pairs, table)
    # Confounding is about which combinations there are: no cell more than once.
    confounding, findings = audit_confounding(different_cells(frozen, FACTOR_COLUMNS))
    found = [*duplicates.findings, *findings]
    certificates: list[Certificate] = []
    exposures: list[Exposure] = []
    for fold in folds:
        on_progress(f"auditing {fold.split_id}")
        audit = audit_fold(frozen, fold, duplicates=duplicates)
        found += audit.findings
        exposures += audit.exposures
        tested = frozen.cells["dataset_id"].iloc[fold.test_rows].value_counts()
        exposures += exposure_to_ledger({str(name): int(n) for name, n in tested.items()}, frozen.datasets)
        certificates.append(certify(frozen, fold, audit=audit, scopes={}))
    document = {"certificates": [jsonable(certificate) for certificate in certificates]}
    path = out / "certificate.json"
    grounds: list[Path] = []
    if certificates:
        replace_file(path, canonical_json(document))
        grounds.append(write_grounds(frozen, folds, out))
    if with_counts:
        grounds += write_counts(frozen, out)
    shown = duplicates.pairs.head(_SHOWN_DUPLICATES).round({"similarity": 6, "dispersion": 6})
    return {
        "snapshot_id": frozen.snapshot_id,
        "certificate": str(path) if certificates else None,
        "digest": digest_of(document) if certificates else None,
        "certificates": [{"split_id": one.split_id, "digest": one.digest} for one in certificates],
        "grounds": [str(one) for one in grounds],
        "findings": jsonable(found),
        "n_duplicates": len(duplicates.pairs),
        "duplicates_path": str(table),
        "duplicates": [
            {
                "a": row.cell_a,
                "b": row.cell_b,
                "kind": row.kind,
                "similarity": row.similarity,
                "dispersion": row.dispersion,
            }
            for row in shown.itertuples()
        ],
        "not_testable": dict(duplicates.not_testable),
        "near_search": [] if duplicates.near is None else duplicates.near.comparisons.to_dict("records"),
        "confounding": [jsonable(row) for row in confounding],
        "exposure": [jsonable(exposure) for exposure in exposures],
    }, tuple(found)


def embed_fold(
    frozen: Snapshot, *, model: str, split_file: Path, fold_id: str, seed: int, out: Path, **options: object
) -> tuple[dict[str, object], tuple[Finding, ...]]:
    """Fit an embedder on the training side of a fold, embed both sides, and write the embedding.

    Parameters
    ----------
    fold_id
        Id of the fold, or its number from 1; may be empty where the split has one.
    options
        Options of the model, for example the `checkpoint` of scgpt.

    Returns
    -------
    The document of `cytolabe embed --json`, and the findings: an embedding that collapsed.

    Raises
    ------
    UsageError
        If the fold or the model is not there, the training side is empty, or no gene is measured by all data sets.
    """
    split = read_split(split_file, frozen)
    fold = chosen_fold(split, fold_id)
    if not len(fold.train_rows):
        msg = f"Fold {fold.split_id} has no training cell, so that nothing can be fitted. Choose another fold."
        raise UsageError(msg)
    rows = np.sort(np.concatenate([fold.train_rows, fold.test_rows]))
    genes = shared_genes(frozen, rows)
    fitted = fit_embedder(frozen, model, train_rows=fold.train_rows, rows=rows, genes=genes, seed=seed, **options)
    inputs = {
        "genes": genes,
        "fitted_on": handed_cells(frozen, fold.train_rows).cells_digest,
        "embedded": handed_cells(frozen, rows).cells_digest,
    }
    spec = EmbeddingSpec(
        snapshot_id=frozen.snapshot_id,
        split_id=fold.split_id,
        model=model,
        card_digest=digest_of(fitted.card),
        inputs_digest=digest_of(inputs),
        n_dims=int(fitted.embed(rows[:1]).shape[1]),
        seed=seed,
        **_facts(fitted),
    )
    # A store of its own is kept; beside a Parquet file it lives until the file is whole, so that a killed run goes on.
    is_store = out.suffix == ".zarr"
    place = out if is_store else out.with_name(f"{out.name}.partial.zarr")
    store = EmbeddingStore(place, frozen, spec)
    embed_shards(fitted, store, rows)
    findings = _collapse(store, rows, model=model)
    if not is_store:
        write_stored_embedding(store, out, snapshot=frozen, rows=rows, access=declared_access(frozen))
        remove_directory(place)
    return {
        "snapshot_id": frozen.snapshot_id,
        "split_id": fold.split_id,
        "fold": 1 + [one.split_id for one in split.folds].index(fold.split_id),
        "model": model,
        "n_cells": len(rows),
        "n_dims": spec.n_dims,
        "n_genes": len(genes),
        "card": spec.card_digest,
        "content": digest_of(dataclasses.asdict(spec)),
        "access": declared_access(frozen) or None,
        "findings": jsonable(findings),
        "embedding": str(out),
    }, findings


def _collapse(store: EmbeddingStore, rows: np.ndarray, *, model: str) -> tuple[Finding, ...]:
    """Report an embedding that collapsed, by cells from all over it."""
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_CELLS)).astype(np.int64))]
    note = collapse_note(store.read(some).astype(np.float32))
    return (collapsed_embedding(model, note),) if note else ()


def _facts(fitted: FittedModel) -> dict[str, Any]:
    """Return where in its network an embedding comes from; nothing for a model that embeds in one way only."""
    if not isinstance(fitted.fitted, DescribedEmbedder):
        return {}
    facts = fitted.fitted.facts
    return {
        "layer": facts.layer,
        "pooling": facts.pooling,
        "precision": facts.precision,
        "details": dict(facts.details),
    }


def chosen_fold(split: Split, fold_id: str) -> Fold:
    """Return the fold of an id or a number from 1; the only one where nothing is said.

    Raises
    ------
    UsageError
        If there is none, or one has to be chosen.
    """
    named = {fold.split_id: fold for fold in split.folds}
    numbered = {str(number): fold for number, fold in enumerate(split.folds, start=1)}
    if not fold_id and len(named) == 1:
        return split.folds[0]
    if fold_id not in named | numbered:
        choices = "; ".join(f"{number} = {fold.split_id}" for number, fold in numbered.items())
        lead = f"{fold_id!r} is none of them" if fold_id else "one has to be chosen"
        msg = f"The split has {len(named)} folds, and {lead}. Give a number or an id with --fold: {choices}."
        raise UsageError(msg)
    return named[fold_id] if fold_id in named else numbered[fold_id]


def shared_genes(snapshot: Snapshot, rows: np.ndarray) -> list[str]:
    """Return the genes that every data set of these cells measures, sorted: unmeasured is not zero (rule R1).

    Raises
    ------
    UsageError
        If there is no cell, or no such gene.
    """
    if not len(rows):
        msg = "The fold has no training cell, so that nothing can be learned. Choose another fold."
        raise UsageError(msg)
    all_names = list(snapshot.entries)
    names = [all_names[number] for number in np.unique(snapshot.locate(rows)[0])]
    genes = sorted(set.intersection(*(set(snapshot.measured_genes(name)) for name in names)))
    if not genes:
        msg = (
            f"No gene is measured by all of {len(names)} data sets: {', '.join(names)}. Split or ingest fewer of them."
        )
        raise UsageError(msg)
    return genes
