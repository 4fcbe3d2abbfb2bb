"""The folder of gene features: tables by gene and by pair, and `network.json`, which says what they are of.

Each table holds all chosen genes, in their order. What is missing is null: a gene that no cell had, a pair of genes that
no cell had together.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from cytolabe.apply.network import NetworkFeatures
from cytolabe.errors import UsageError
from cytolabe.files import publish_directory, sha256_of_file, staged_directory
from cytolabe.models.gene_features import nearest_genes
from cytolabe.store.tables import write_parquet

__all__ = ["DOCUMENT", "write_features"]

DOCUMENT = "network.json"
_KINDS = ("input", "contextual")


def write_features(
    out: Path,
    found: NetworkFeatures,
    *,
    symbol_of: Callable[[str], str],
    n_neighbors: int,
    said: Mapping[str, object],
) -> dict[str, object]:
    """Write the tables and what is said of them, all or nothing, and return the document.

    Raises
    ------
    UsageError
        If the folder is there already.
    """
    if out.exists():
        msg = f"{out} is there already and is not replaced. Name another place, or remove it."
        raise UsageError(msg)
    vectors = {"input": found.input_rows, "contextual": found.means.states}
    tables = {
        "genes": _genes(found, symbol_of),
        **{kind: _vectors(found.genes, vectors[kind]) for kind in _KINDS},
        "neighbors": pa.concat_tables(
            [_neighbors(kind, found.genes, vectors[kind], n_neighbors=n_neighbors) for kind in _KINDS]
        ),
        **({} if found.means.attention is None else {"attention": _pairs(found)}),
    }
    with staged_directory(out.parent) as staged:
        whole = staged / out.name
        whole.mkdir()
        for name, table in tables.items():
            write_parquet(table, whole / f"{name}.parquet")
        files = {path.name: f"sha256:{sha256_of_file(path)}" for path in sorted(whole.iterdir())}
        document = {**said, "files": files, "out": str(out)}
        stored = {name: value for name, value in document.items() if name != "out"}
        (whole / DOCUMENT).write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not publish_directory(whole, out):
            msg = f"{out} was made by somebody else in the meantime and is not replaced."
            raise UsageError(msg)
    return document


def _genes(found: NetworkFeatures, symbol_of: Callable[[str], str]) -> pa.Table:
    return pa.table(
        {
            "gene": list(found.genes),
            "symbol": [symbol_of(gene) for gene in found.genes],
            "n_cells": found.means.n_cells.astype(np.int64),
        }
    )


def _vectors(genes: tuple[str, ...], values: np.ndarray) -> pa.Table:
    return pa.table({"gene": list(genes), **{f"d{dim}": _nullable(values[:, dim]) for dim in range(values.shape[1])}})


def _neighbors(kind: str, genes: tuple[str, ...], vectors: np.ndarray, *, n_neighbors: int) -> pa.Table:
    found = nearest_genes(vectors, n_neighbors=n_neighbors)
    rows, ranks = np.nonzero(found.places >= 0)
    names = np.array(genes, dtype=object)
    return pa.table(
        {
            "embedding": pa.array([kind] * len(rows), type=pa.string()),
            "gene": pa.array(names[rows].tolist(), type=pa.string()),
            "rank": (ranks + 1).astype(np.int64),
            "neighbor": pa.array(names[found.places[rows, ranks]].tolist(), type=pa.string()),
            "cosine": found.cosines[rows, ranks],
        }
    )


def _pairs(found: NetworkFeatures) -> pa.Table:
    n_genes = len(found.genes)
    names = pa.array(list(found.genes), type=pa.string())
    numbers = np.arange(n_genes, dtype=np.int32)
    return pa.table(
        {
            "query": pa.DictionaryArray.from_arrays(np.repeat(numbers, n_genes), names),
            "key": pa.DictionaryArray.from_arrays(np.tile(numbers, n_genes), names),
            "attention": _nullable(np.asarray(found.means.attention).ravel()),
            "n_cells": found.means.n_cells_of_pair.ravel(),
        }
    )


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
