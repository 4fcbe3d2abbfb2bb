"""`cytolabe perturb`: genes deleted or ranked first in cells of an atlas, and how far a Geneformer's vectors move.

Genes are named by Ensembl id or by the symbol of the reference's primary release. Cells are those of a filter, at most as
many as are wanted, drawn by the seed. What is written says in words what it is: how a model's vector moves.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cytolabe.apply.perturb import Perturbation, PerturbationPlan, perturb_cells, refuse_bad_rows
from cytolabe.errors import UsageError
from cytolabe.files import replace_file, tsv_text
from cytolabe.flow.gene_names import gene_id
from cytolabe.flow.recording import Step
from cytolabe.genes.reference import GeneReference, load_reference
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.hub import weight_files
from cytolabe.models.registry import make_model
from cytolabe.provenance import artifact_of, cells_digest, digest_of, jsonable
from cytolabe.randomness import rng_for
from cytolabe.records import NamedDigest
from cytolabe.snapshot.access import declared_access
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.store.tables import write_parquet

__all__ = ["READING", "AskedPerturbation", "perturb_snapshot", "perturb_step", "resolved_genes"]

READING = (
    "How a model's vector of a cell moves when tokens of its input change; not an effect of a gene on a cell, and no "
    "evidence of a cause. A p-value says how rare such a move is among perturbations of genes of like frequency and rank."
)
_SUFFIXES = (".parquet", ".tsv")


@dataclass(frozen=True, kw_only=True)
class AskedPerturbation:
    """What a call asks: genes as they were named, which cells, and how much is computed."""

    genes: Sequence[str]
    kind: str
    """`delete` or `overexpress`."""
    where: str = ""
    goal: str = ""
    size: int = 1
    """Genes of the largest combination."""
    n_cells: int = 200
    """Most cells, here and in the goal."""
    n_matched: int = 100
    seed: int = 0


def perturb_snapshot(
    frozen: Snapshot,
    asked: AskedPerturbation,
    *,
    out: Path,
    on_progress: Callable[[str], None] = lambda _: None,
    **options: object,
) -> dict[str, object]:
    """Perturb genes in cells of a snapshot and write the table.

    Parameters
    ----------
    out
        `x.parquet` or `x.tsv`.
    options
        Options of the model `geneformer`: `checkpoint` and others.

    Raises
    ------
    UsageError
        If a gene, a filter or an option means nothing, or no cell matches.
    RefusedError
        If a data set is a panel (rule R3), or no cell has the genes that are to be deleted.
    """
    if out.suffix not in _SUFFIXES:
        msg = f"--out {out}: name a file that ends in {' or '.join(_SUFFIXES)}."
        raise UsageError(msg)
    embedder: Any = make_model("geneformer", **options)
    reference = _reference_of(frozen)
    genes = resolved_genes(asked.genes, reference=reference, dictionaries=embedder.checkpoint.dictionaries)
    plan = PerturbationPlan(
        genes=genes, kind="delete" if asked.kind == "delete" else "overexpress", size=asked.size,
        n_matched=asked.n_matched, seed=asked.seed,
    )  # fmt: skip
    matching = frozen.rows(asked.where) if asked.where else np.arange(frozen.n_cells)
    towards = frozen.rows(asked.goal) if asked.goal else None
    # Before cells are drawn: whether a draw shows that the filters overlap is chance.
    refuse_bad_rows(matching, towards)
    rows = _drawn(matching, asked, "cells")
    goal_rows = None if towards is None else _drawn(towards, asked, "goal")
    on_progress(f"reading {len(rows):,} of {len(matching):,} cells")
    result = perturb_cells(frozen, embedder, plan, rows=rows, goal_rows=goal_rows, on_progress=on_progress)
    card, weights = digest_of(embedder.card), result.facts.details["weights"]
    ids = frozen.cells["cell_id"].to_numpy(dtype=object)
    cells = [cells_digest(ids[rows].tolist()), "" if goal_rows is None else cells_digest(ids[goal_rows].tolist())]
    document: dict[str, object] = {
        "snapshot_id": frozen.snapshot_id,
        "access": declared_access(frozen) or None,
        "model": "geneformer",
        "weights": weights,
        "facts": jsonable(result.facts),
        "kind": plan.kind,
        "n_cells": len(rows),
        "n_cells_matching": len(matching),
        "n_goal_cells": None if goal_rows is None else len(goal_rows),
        "n_goal_cells_matching": None if towards is None else len(towards),
        "seed": asked.seed,
        "reading": READING,
        "notes": list(result.notes),
        "perturbations": [_row(one, reference) for one in result.rows],
        "card": card,
        "content": digest_of([frozen.snapshot_id, card, weights, result.facts, plan, cells]),
        "out": str(out),
    }
    _write(out, document)
    return document


def resolved_genes(names: Sequence[str], *, reference: GeneReference, dictionaries: Dictionaries) -> tuple[str, ...]:
    """Return the gene of the dictionary that each name stands for.

    Parameters
    ----------
    names
        Ensembl ids, with or without version, or symbols.

    Raises
    ------
    UsageError
        If a name is no gene, several, none of the dictionary, or one that was named before.
    """
    found: dict[str, str] = {}
    for name in names:
        gene = gene_id(name, reference)
        standing = gene if dictionaries.collapse is None else dictionaries.collapse.get(gene, "")
        if standing not in dictionaries.tokens:
            msg = (
                f"{name} ({gene}) is none of the {len(dictionaries.genes):,} genes of the token dictionary of this checkpoint: "
                "the model has never read it. Leave it out, or take a checkpoint that knows it."
            )
            raise UsageError(msg)
        if standing in found:
            msg = f"{name} and {found[standing]} are one gene, {standing}. Name it once."
            raise UsageError(msg)
        found[standing] = name
    if not found:
        msg = "No gene was named. Give --delete GENE[,GENE] or --overexpress GENE[,GENE]."
        raise UsageError(msg)
    return tuple(found)


def perturb_step(document: Mapping[str, Any], asked: AskedPerturbation, *, checkpoint: Path, out: Path) -> Step:
    """Return the step for the ledger of the atlas; filters are named by digest, since one may hold the name of a person."""
    return Step(
        kind="perturb",
        parameters={
            "model": document["model"],
            "kind": document["kind"],
            "genes": sorted({gene for row in document["perturbations"] for gene in row["genes"].split("+")}),
            "size": asked.size,
            "n_cells": asked.n_cells,
            "n_matched": asked.n_matched,
            "where_digest": digest_of(asked.where) if asked.where else "",
            "goal_digest": digest_of(asked.goal) if asked.goal else "",
            "seed": asked.seed,
        },
        inputs=[artifact_of(path, "model") for path in weight_files(checkpoint)],
        outputs=[artifact_of(out, "perturbation")],
        parents=[NamedDigest(role="model", name=str(document["model"]), digest=str(document["card"]))],
        made=[NamedDigest(role="perturbation", name=out.name, digest=str(document["content"]))],
    )


def _reference_of(frozen: Snapshot) -> GeneReference:
    return load_reference(next(iter(frozen.entries.values())).record.organism)


def _drawn(rows: np.ndarray, asked: AskedPerturbation, which: str) -> np.ndarray:
    if asked.n_cells < 1:
        msg = f"--cells {asked.n_cells}: at least one cell is needed."
        raise UsageError(msg)
    if len(rows) <= asked.n_cells:
        return rows
    drawn = rng_for(asked.seed, "flow", "perturb", which).choice(len(rows), asked.n_cells, replace=False)
    return np.sort(rows[drawn])


def _row(row: Perturbation, reference: GeneReference) -> dict[str, object]:
    symbols = [reference.symbol_of(gene) if gene in reference else gene for gene in row.genes]
    return {**dataclasses.asdict(row), "genes": "+".join(row.genes), "symbols": "+".join(symbols)}


def _write(out: Path, document: Mapping[str, object]) -> None:
    rows: Any = document["perturbations"]
    if out.suffix == ".tsv":
        replace_file(out, tsv_text([list(rows[0]), *([row[name] for name in rows[0]] for row in rows)]).encode())
        return
    names = ("snapshot_id", "model", "weights", "reading", "access")
    said = {name: str(document[name]) for name in names if document[name]}
    write_parquet(pa.Table.from_pylist(rows).replace_schema_metadata(said), out)
