"""Apply a model to cells of a snapshot: an embedding that is keyed by cell, with what made it beside it.

A model is fitted on the train rows only. One that fits on its query (scVI), or integrates both (Harmony), is handed the other
requested rows as an unlabelled query view. No label enters: an embedder never reads one. Values go shard by shard into a store that
is aligned to the partitions (`snapshot.embeddings`); Parquet is for the edge.
"""

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cytolabe.apply.views import query_view, train_view
from cytolabe.errors import UsageError
from cytolabe.files import replace_file
from cytolabe.models.protocols import Embedder, FittedEmbedder, FrozenEmbedder, Integrator
from cytolabe.models.registry import make_model
from cytolabe.records import Embedding, FitOnQuery, ModelCard
from cytolabe.snapshot.embeddings import EmbeddingStore
from cytolabe.snapshot.view import SnapshotView

__all__ = ["FittedModel", "embed_shards", "embed_snapshot", "fit_embedder", "stored_embedding", "write_embedding"]

_BLOCK_CELLS = 8192


def _silent(message: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """An embedder that was fitted on cells of a snapshot, ready to embed some of its cells."""

    snapshot: SnapshotView
    name: str
    card: ModelCard
    genes: tuple[str, ...]
    fitted: FittedEmbedder

    def embed(self, rows: np.ndarray) -> np.ndarray:
        """Return the embedding (cells x dims, float32) of positions, in the order given."""
        view = query_view(self.snapshot, rows, genes=self.genes)
        return np.asarray(self.fitted.embed(view), dtype=np.float32)


def fit_embedder(
    snapshot: SnapshotView,
    model: str,
    *,
    train_rows: np.ndarray,
    rows: np.ndarray,
    genes: Sequence[str],
    seed: int,
    **options: object,
) -> FittedModel:
    """Fit an embedder on some cells of a snapshot, to embed `rows` with it; see `embed_snapshot`."""
    embedder = make_model(model, **options)
    if not isinstance(embedder, Embedder | Integrator) or "embed_cells" not in embedder.card.capabilities:
        msg = f"{model} predicts labels and embeds no cells. Choose a model that can, for example pca."
        raise UsageError(msg)
    if isinstance(embedder, FrozenEmbedder):
        # Not one count of the train side is read: a checkpoint embeds an atlas of any size.
        fitted = embedder.over(genes, cell_ids=snapshot.cells["cell_id"].iloc[train_rows].tolist(), seed=seed)
        return FittedModel(snapshot=snapshot, name=model, card=embedder.card, genes=tuple(genes), fitted=fitted)
    others = np.asarray(rows[~np.isin(rows, train_rows)])
    fits_on_query = embedder.card.fit_on_query is not FitOnQuery.NONE and others.size > 0
    query = query_view(snapshot, others, genes=genes) if fits_on_query else None
    if isinstance(embedder, Integrator):
        fitted = embedder.integrate(query_view(snapshot, train_rows, genes=genes), query=query, seed=seed)
    else:
        unlabelled = np.full(train_rows.shape, "", dtype=object)
        train = train_view(snapshot, train_rows, genes=genes, labels=unlabelled)
        fitted = embedder.fit(train, query=query, seed=seed)
    return FittedModel(snapshot=snapshot, name=model, card=embedder.card, genes=tuple(genes), fitted=fitted)


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
    fitted = fit_embedder(snapshot, model, train_rows=train_rows, rows=rows, genes=genes, seed=seed, **options)
    return _keyed(snapshot, rows, fitted.embed(rows), model=model)


def embed_shards(
    fitted: FittedModel, store: EmbeddingStore, rows: np.ndarray, *, on_progress: Callable[[str], None] = _silent
) -> int:
    """Embed the cells `rows` shard by shard into a store, and return how many cells were embedded now.

    A shard that bears its mark is passed over, so a run that was killed goes on where it stopped.
    """
    wanted, n_done = np.unique(rows), 0
    for shard in store.shards():
        chosen = np.intersect1d(shard.positions, wanted, assume_unique=True)
        if not len(chosen) or store.is_written(shard):
            continue
        blocks = [fitted.embed(chosen[a : a + _BLOCK_CELLS]) for a in range(0, len(chosen), _BLOCK_CELLS)]
        store.write(shard, chosen, np.concatenate(blocks))
        n_done += len(chosen)
        on_progress(f"{n_done:,} of {len(wanted):,} cells embedded")
    return n_done


def stored_embedding(store: EmbeddingStore, snapshot: SnapshotView, rows: np.ndarray) -> Embedding:
    """Return cells of a store as an embedding keyed by cell id, for files at the edge."""
    spec = store.spec
    keyed = _keyed(snapshot, rows, store.read(rows).astype(np.float32), model=spec.model)
    return dataclasses.replace(
        keyed, split_id=spec.split_id, layer=spec.layer, pooling=spec.pooling, precision=spec.precision
    )


def _keyed(snapshot: SnapshotView, rows: np.ndarray, values: np.ndarray, *, model: str) -> Embedding:
    cell_ids = np.array(snapshot.cells["cell_id"].to_numpy()[rows].tolist(), dtype=object)
    return Embedding(cell_ids=cell_ids, values=values, snapshot_id=snapshot.snapshot_id, split_id="", model=model)


def write_embedding(embedding: Embedding, path: Path, *, access: str = "") -> None:
    """Write an embedding as Parquet: `cell_id`, `d0 ... dN`; readable as a `precomputed` model.

    The file's metadata names the snapshot, the split and the model, and the access class of the snapshot where one was
    declared.
    """
    columns: dict[str, pa.Array] = {"cell_id": pa.array(embedding.cell_ids.tolist(), type=pa.string())}
    for dim in range(embedding.values.shape[1]):
        columns[f"d{dim}"] = pa.array(embedding.values[:, dim])
    names = ("snapshot_id", "split_id", "model", "layer", "pooling", "precision")
    said = {name: getattr(embedding, name) for name in names} | ({"access": access} if access else {})
    table = pa.table(columns).replace_schema_metadata(said)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    replace_file(path, buffer.getvalue())
