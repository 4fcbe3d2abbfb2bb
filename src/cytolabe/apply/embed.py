"""Apply a model to cells of a snapshot: an embedding that is keyed by cell, with what made it beside it.

A model is fitted on the train rows only. One that fits on its query (Harmony, scVI) is handed the other requested rows
as an unlabelled query view. No label enters: an embedder never reads one.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cytolabe.apply.views import query_view, train_view
from cytolabe.errors import UsageError
from cytolabe.files import replace_file
from cytolabe.models.protocols import Embedder, FittedEmbedder
from cytolabe.models.registry import make_model
from cytolabe.records import Embedding, FitOnQuery
from cytolabe.snapshot.view import SnapshotView

__all__ = ["embed_snapshot", "write_embedding"]


def embed_snapshot(
    snapshot: SnapshotView,
    model: str,
    *,
    train_rows: np.ndarray,
    rows: np.ndarray,
    genes: Sequence[str],
    seed: int,
    **options: object,
) -> Embedding:
    """Fit an embedder on some cells of a snapshot and embed others, or the same.

    Parameters
    ----------
    snapshot
        Where the cells are.
    model
        Name of an embedder of the registry.
    train_rows
        Positions in `snapshot.cells` to fit on.
    rows
        Positions to embed, in the order of the answer; they may overlap `train_rows`.
    genes
        Reference genes that every data set among both measures.
    seed
        The run's seed.
    options
        Options of the model.

    Returns
    -------
    Embedding
        Cells x dims, float32.

    Raises
    ------
    UsageError
        If the model is unknown or predicts labels instead of embedding cells.
    """
    embedder = make_model(model, **options)
    if not isinstance(embedder, Embedder) or "embed_cells" not in embedder.card.capabilities:
        msg = f"{model} predicts labels and embeds no cells. Choose a model that can, for example pca."
        raise UsageError(msg)
    unlabelled = np.full(train_rows.shape, "", dtype=object)
    train = train_view(snapshot, train_rows, genes=genes, labels=unlabelled)
    others = np.asarray(rows[~np.isin(rows, train_rows)])
    fits_on_query = embedder.card.fit_on_query is not FitOnQuery.NONE and others.size > 0
    query = query_view(snapshot, others, genes=genes) if fits_on_query else None
    fitted: FittedEmbedder = embedder.fit(train, query=query, seed=seed)
    view = query_view(snapshot, rows, genes=genes)
    return Embedding(
        cell_ids=view.cell_ids,
        values=np.asarray(fitted.embed(view), dtype=np.float32),
        snapshot_id=snapshot.snapshot_id,
        split_id="",
        model=model,
    )


def write_embedding(embedding: Embedding, path: Path) -> None:
    """Write an embedding as Parquet: `cell_id`, `d0 ... dN`; readable as a `precomputed` model.

    The file's metadata names the snapshot, the split and the model.
    """
    columns: dict[str, pa.Array] = {"cell_id": pa.array(embedding.cell_ids.tolist(), type=pa.string())}
    for dim in range(embedding.values.shape[1]):
        columns[f"d{dim}"] = pa.array(embedding.values[:, dim])
    names = ("snapshot_id", "split_id", "model", "layer", "pooling", "precision")
    table = pa.table(columns).replace_schema_metadata({name: getattr(embedding, name) for name in names})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    replace_file(path, buffer.getvalue())
