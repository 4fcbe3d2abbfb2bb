"""Apply a model to cells of a snapshot: an embedding that is keyed by cell, with what made it beside it.

A model is fitted on the train rows only. One that fits on its query (scVI), or integrates both (Harmony), is handed the other
requested rows as an unlabelled query view. No label enters: an embedder never reads one. Values go shard by shard into a store that
is aligned to the partitions (`snapshot.embeddings`); Parquet is for the edge.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cytolabe.apply.known_cells import handed_cells, known_cells
from cytolabe.apply.views import VIEW_COLUMNS, query_view, train_view
from cytolabe.errors import UsageError
from cytolabe.files import replace_by_file, staged_directory
from cytolabe.models.protocols import Embedder, FittedEmbedder, FrozenEmbedder, Integrator
from cytolabe.models.registry import make_model
from cytolabe.records import Embedding, FitOnQuery, ModelCard
from cytolabe.snapshot.embeddings import SHARD_CELLS, EmbeddingStore
from cytolabe.snapshot.view import SnapshotView

__all__ = ["FittedModel", "embed_shards", "embed_snapshot", "fit_embedder", "write_embedding", "write_stored_embedding"]

_BLOCK_CELLS = 8192
_SAID = ("snapshot_id", "split_id", "model", "layer", "pooling", "precision")


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
        known = known_cells(self.snapshot, VIEW_COLUMNS, rows)
        starts = range(0, max(len(rows), 1), _BLOCK_CELLS)
        return np.concatenate([self._block(rows[a : a + _BLOCK_CELLS], known[a : a + _BLOCK_CELLS]) for a in starts])

    def _block(self, rows: np.ndarray, known: pd.DataFrame) -> np.ndarray:
        view = query_view(self.snapshot, rows, genes=self.genes, known=known)
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
        fitted = embedder.over(genes, handed=handed_cells(snapshot, train_rows), seed=seed)
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
        store.write(shard, chosen, fitted.embed(chosen))
        n_done += len(chosen)
        on_progress(f"{n_done:,} of {len(wanted):,} cells embedded")
    return n_done


def _keyed(snapshot: SnapshotView, rows: np.ndarray, values: np.ndarray, *, model: str) -> Embedding:
    cell_ids = np.array(known_cells(snapshot, ["cell_id"], rows)["cell_id"].tolist(), dtype=object)
    return Embedding(cell_ids=cell_ids, values=values, snapshot_id=snapshot.snapshot_id, split_id="", model=model)


def write_embedding(embedding: Embedding, path: Path, *, access: str = "") -> None:
    """Write an embedding as Parquet: `cell_id`, `d0 ... dN`; readable as a `precomputed` model.

    The file's metadata names the snapshot, the split and the model, and the access class of the snapshot where one was
    declared.
    """
    _write_blocks(path, iter([embedding]), access=access)


def write_stored_embedding(
    store: EmbeddingStore, path: Path, *, snapshot: SnapshotView, rows: np.ndarray, access: str = ""
) -> None:
    """Write cells of a store as `write_embedding` does, in the order given; some ten thousands are in memory at a time.

    Raises
    ------
    UsageError
        If a cell is not embedded, or not yet.
    """
    starts = range(0, max(len(rows), 1), SHARD_CELLS)
    blocks = (_stored(store, snapshot, rows[start : start + SHARD_CELLS]) for start in starts)
    _write_blocks(path, blocks, access=access)


def _stored(store: EmbeddingStore, snapshot: SnapshotView, rows: np.ndarray) -> Embedding:
    spec = store.spec
    keyed = _keyed(snapshot, rows, store.read(rows).astype(np.float32), model=spec.model)
    return dataclasses.replace(
        keyed, split_id=spec.split_id, layer=spec.layer, pooling=spec.pooling, precision=spec.precision
    )


def _write_blocks(path: Path, blocks: Iterator[Embedding], *, access: str) -> None:
    first = next(blocks)
    said = {name: getattr(first, name) for name in _SAID} | ({"access": access} if access else {})
    table = _table(first).replace_schema_metadata(said)
    with staged_directory(path.parent) as folder:
        staged = folder / path.name
        with pq.ParquetWriter(staged, table.schema, compression="zstd") as writer:
            writer.write_table(table)
            for block in blocks:
                writer.write_table(_table(block).replace_schema_metadata(said))
        replace_by_file(path, staged)


def _table(embedding: Embedding) -> pa.Table:
    columns: dict[str, pa.Array] = {"cell_id": pa.array(embedding.cell_ids.tolist(), type=pa.string())}
    for dim in range(embedding.values.shape[1]):
        columns[f"d{dim}"] = pa.array(embedding.values[:, dim])
    return pa.table(columns)
