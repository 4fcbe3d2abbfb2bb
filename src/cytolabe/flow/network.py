"""`cytolabe network`: embeddings of genes and the attention between them, over cells of an atlas or of a file.

What is written are features of a model's inside, for whoever builds a gene network of them and scores it. Nothing is claimed about
regulation, and the document says so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy.sparse import csr_matrix

from cytolabe.apply.network import CellPart, NetworkPlan, network_features, snapshot_parts
from cytolabe.errors import UsageError
from cytolabe.flow.gene_names import gene_id
from cytolabe.flow.network_files import DOCUMENT, write_features
from cytolabe.flow.perturb import resolved_genes
from cytolabe.flow.query_file import QueryFile, read_query
from cytolabe.flow.recording import Step
from cytolabe.genes.reference import GeneReference, load_reference
from cytolabe.ingest.refusals import readable
from cytolabe.models.gene_features import AttentionRule
from cytolabe.models.hub import weight_files
from cytolabe.models.protocols import TECHNICAL_COLUMNS, QueryView
from cytolabe.models.registry import make_model
from cytolabe.provenance import artifact_of, cells_digest, digest_of
from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN, NamedDigest
from cytolabe.snapshot.access import declared_access
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["READING", "AskedNetwork", "network_of_file", "network_of_snapshot", "network_step"]

READING = (
    "Features of a model's inside: rows of its table of genes, mean states of genes over cells, and how much genes attend to one another. Nothing is "
    "claimed about regulation; a gene may attend to another because both stand high, and random weights give features as well."
)
_FORMAT = "cytolabe/gene-features/1"
_MODELS = ("geneformer", "scgpt")
_ELSEWHERE = ("layer", "pooling", "precision")
"""Options of embeddings of cells that mean nothing here: --layer says the layer, and all is float32."""

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class AskedNetwork:
    """What a call asks: a model with its options, genes as they were named or how many, which cells, which layer and heads."""

    model: str
    options: Mapping[str, object] = field(default_factory=dict)
    genes: Sequence[str] = ()
    n_most_frequent: int = 0
    where: str = ""
    n_cells: int = 0
    """Most cells, drawn by the seed; 0 = all."""
    layer: int = 0
    """1 is the first; 0 = the last."""
    attention: AttentionRule = field(default_factory=AttentionRule)
    n_neighbors: int = 10
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Cells from somewhere, and what the document says of them."""

    parts: Sequence[CellPart]
    reference: GeneReference
    said: Mapping[str, object]


def network_of_snapshot(
    frozen: Snapshot, asked: AskedNetwork, *, out: Path, on_progress: Progress = lambda _: None
) -> dict[str, object]:
    """Write the features of genes over cells of a snapshot.

    Raises
    ------
    UsageError
        If a gene, a filter or an option means nothing, no cell matches, or `out` is there already.
    RefusedError
        If a data set is a panel (rule R3).
    ModelFailedError
        If the network gives values that are not finite.
    """
    embedder = _embedder(asked, out)
    matching = frozen.rows(asked.where) if asked.where else np.arange(frozen.n_cells)
    if not len(matching):
        msg = "No cell matches the filter. 'cytolabe snapshot query ATLAS --where FILTER' counts them."
        raise UsageError(msg)
    rows = matching[_drawn(len(matching), asked)]
    ids = frozen.cells["cell_id"].to_numpy(dtype=object)[rows].tolist()
    cells = _Cells(
        parts=snapshot_parts(frozen, rows),
        reference=load_reference(next(iter(frozen.entries.values())).record.organism),
        said={
            "snapshot_id": frozen.snapshot_id, "file": None, "access": declared_access(frozen) or None,
            "n_cells": len(rows), "n_cells_matching": len(matching), "cells": cells_digest(ids),
        },
    )  # fmt: skip
    return _written(embedder, asked, cells, out=out, on_progress=on_progress)


def network_of_file(
    path: Path, asked: AskedNetwork, *, out: Path, on_progress: Progress = lambda _: None
) -> dict[str, object]:
    """Write the features of genes over the cells of a file with raw counts, which is read as `annotate` reads one.

    Raises
    ------
    UsageError
        As `network_of_snapshot`, and if there is a filter: a file has none.
    RefusedError
        If its counts are not proven, or it is a panel (rule R3).
    UnreadableInputError
        If nothing in it can be read safely.
    """
    if asked.where:
        msg = "--where filters the cells of an atlas; a file is read whole, or as --cells draws them."
        raise UsageError(msg)
    embedder = _embedder(asked, out)
    query = read_query(path, on_progress=on_progress)
    ids, record = _cell_ids(path), query.content.record
    is_asked = np.zeros(query.n_cells, dtype=bool)
    is_asked[_drawn(query.n_cells, asked)] = True
    part = CellPart(
        name=path.name,
        genes=query.genes,
        upstream_fraction_of_counts=record.upstream_fraction_of_counts,
        blocks=lambda: _blocks(query, ids, is_asked),
    )
    cells = _Cells(
        parts=[part],
        reference=load_reference(record.organism),
        said={
            "snapshot_id": None, "file": {"name": path.name, "sha256": query.sha256}, "access": None,
            "n_cells": int(is_asked.sum()), "n_cells_matching": query.n_cells, "cells": cells_digest(ids[is_asked].tolist()),
        },
    )  # fmt: skip
    return _written(embedder, asked, cells, out=out, on_progress=on_progress)


def network_step(document: Mapping[str, Any], asked: AskedNetwork, *, checkpoint: Path, out: Path) -> Step:
    """Return the step for the ledger of the atlas; a filter is named by digest, since one may hold the name of a person."""
    names = ("model", "weights_are", "layer", "heads", "attention", "n_genes", "n_cells", "n_neighbors", "seed")
    return Step(
        kind="network",
        parameters={
            **{name: document[name] for name in names},
            "genes_digest": digest_of(list(asked.genes)) if asked.genes else "",
            "where_digest": digest_of(asked.where) if asked.where else "",
        },
        inputs=[artifact_of(path, "model") for path in weight_files(checkpoint)],
        outputs=[artifact_of(out / name, "gene features") for name in (*sorted(document["files"]), DOCUMENT)],
        parents=[NamedDigest(role="model", name=str(document["model"]), digest=str(document["card"]))],
        made=[NamedDigest(role="gene features", name=out.name, digest=str(document["content"]))],
    )


def _embedder(asked: AskedNetwork, out: Path) -> Any:  # noqa: ANN401 - one of two kinds, of which card and panels are read
    """Return the model, after all that can be refused before it is read."""
    if out.exists():
        msg = f"{out} is there already and is not replaced. Name another place, or remove it."
        raise UsageError(msg)
    if asked.model not in _MODELS:
        msg = f"{asked.model!r} reads no cell as genes that attend to one another. Known here: {', '.join(_MODELS)}."
        raise UsageError(msg)
    wrong = [name for name in _ELSEWHERE if name in asked.options]
    if wrong:
        msg = f"--option {wrong[0]} is of embeddings of cells. Here --layer says the layer, and everything is float32."
        raise UsageError(msg)
    # A plan that cannot be meant is refused before a checkpoint is read.
    NetworkPlan(genes=tuple(asked.genes), n_most_frequent=asked.n_most_frequent)
    if asked.n_neighbors < 0 or asked.n_cells < 0:
        msg = f"--neighbors {asked.n_neighbors}, --cells {asked.n_cells}: neither can be below 0."
        raise UsageError(msg)
    return make_model(asked.model, **asked.options)


def _written(
    embedder: Any,  # noqa: ANN401 - as `_embedder` gives it
    asked: AskedNetwork,
    cells: _Cells,
    *,
    out: Path,
    on_progress: Progress,
) -> dict[str, object]:
    plan = NetworkPlan(
        genes=_named(asked, cells.reference, embedder), n_most_frequent=asked.n_most_frequent, layer=asked.layer,
        attention=asked.attention, seed=asked.seed,
    )  # fmt: skip
    found = network_features(cells.parts, embedder, plan, panels=embedder.panels, on_progress=on_progress)
    details = {} if found.facts is None else dict(found.facts.details)
    card = digest_of(embedder.card)
    n_pairs = found.means.n_cells_of_pair
    said = {
        "format": _FORMAT,
        "reading": READING,
        **cells.said,
        "model": asked.model,
        "weights_are": embedder.weights,
        "details": details,
        "embeddings": {"input": found.gene_rows, "contextual": f"mean state of the gene after layer {found.layer} of {found.n_layers}, over cells in which it is a token"},
        "layer": found.layer,
        "n_layers": found.n_layers,
        "heads": list(found.means.heads),
        "attention": asked.attention.measure,
        "precision": "float32",
        "seed": asked.seed,
        "n_genes": len(found.genes),
        "n_pairs": int(n_pairs.size),
        "n_pairs_never_together": int((n_pairs == 0).sum()),
        "n_genes_never_read": int((found.means.n_cells == 0).sum()),
        "n_neighbors": asked.n_neighbors,
        "notes": list(found.notes),
        "card": card,
        "content": digest_of([cells.said["snapshot_id"], cells.said["file"], cells.said["cells"], card, details, list(found.genes), found.layer, list(found.means.heads), asked.attention.measure, asked.n_neighbors, asked.seed]),
    }  # fmt: skip
    reference = cells.reference
    return write_features(
        out, found, n_neighbors=asked.n_neighbors, said=said,
        symbol_of=lambda gene: reference.symbol_of(gene) if gene in reference else gene,
    )  # fmt: skip


def _named(asked: AskedNetwork, reference: GeneReference, embedder: Any) -> tuple[str, ...]:  # noqa: ANN401 - see `_embedder`
    """Return the genes that were named as the model knows them; none where the most frequent are meant."""
    if not asked.genes:
        return ()
    if asked.model == "geneformer":
        return resolved_genes(asked.genes, reference=reference, dictionaries=embedder.checkpoint.dictionaries)
    found = [gene_id(name, reference) for name in asked.genes]
    twice = sorted({gene for gene in found if found.count(gene) > 1})
    if twice:
        msg = f"{twice[0]} is named twice. Name each gene once."
        raise UsageError(msg)
    return tuple(found)


def _drawn(n_matching: int, asked: AskedNetwork) -> np.ndarray:
    """Return places of the cells that are read, ascending."""
    if not asked.n_cells or n_matching <= asked.n_cells:
        return np.arange(n_matching)
    return np.sort(rng_for(asked.seed, "flow", "network", "cells").choice(n_matching, asked.n_cells, replace=False))


def _cell_ids(path: Path) -> np.ndarray:
    """Return a name for each cell: what ties of bins are drawn by, so that the order of the file changes nothing."""
    with readable(path.name), h5py.File(path, "r", locking=False) as file:
        names = pd.Series(read_elem(file["obs"]).index.astype(str))
    if names.duplicated().any():
        return np.array([f"{number}:{name}" for number, name in enumerate(names)], dtype=object)
    return names.to_numpy(dtype=object)


def _blocks(query: QueryFile, ids: np.ndarray, is_asked: np.ndarray) -> Iterator[QueryView]:
    n_done = 0
    for counts in query.blocks(query.genes):
        kept = np.flatnonzero(is_asked[n_done : n_done + counts.shape[0]])
        if len(kept):
            yield QueryView(
                cell_ids=ids[n_done + kept],
                counts=csr_matrix(counts[kept]),
                genes=query.genes,
                technical=pd.DataFrame({name: np.full(len(kept), UNKNOWN, dtype=object) for name in TECHNICAL_COLUMNS}),
            )
        n_done += counts.shape[0]
