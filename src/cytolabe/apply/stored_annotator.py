"""A stored scANVI as an annotator of files: each file is one new batch, which is mapped onto it by surgery on its cells without their labels.

No weight of the stored network moves. The weights of the new batch are fitted on at most `MAX_MAPPED_CELLS` cells of the file, drawn by the seed; then
its classifier answers for every cell at the posterior mean. What it says of a cell so depends on the other cells of its file. Cells
that are held out therefore stand for those of a file only if they are mapped in the same way: each data set of theirs by itself,
as one batch that the model never saw, whatever batches it names.

Distances are taken to training cells in its latent space, which the atlas has by their labels.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cytolabe.apply.views import train_view
from cytolabe.models.collapse import MAX_CELLS, collapse_note
from cytolabe.models.fitted_scanvi import FittedScanvi
from cytolabe.models.novelty import MAX_REFERENCE_CELLS, NoveltyReference, novelty_reference
from cytolabe.models.protocols import QueryView
from cytolabe.models.scanvi_source import StoredScanviAnnotator
from cytolabe.models.scopes import batch_levels
from cytolabe.randomness import derive_seed, rng_for
from cytolabe.records import ModelCard
from cytolabe.snapshot.view import SnapshotView

__all__ = ["MAX_MAPPED_CELLS", "MappedScanvi", "StoredReference", "stored_reference"]

MAX_MAPPED_CELLS = 20_000
"""Cells of a file that the weights of its batch are fitted on, at most; these weights are few, and more cells would cost memory and time."""

_LEAST_PROBABILITY = 1e-12
_NEW_BATCH = "a file"


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedScanvi:
    """A stored scANVI that knows the batch of one file."""

    genes: tuple[str, ...]
    fitted: FittedScanvi
    novelty: NoveltyReference
    collapse: str
    card: ModelCard

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the stored model."""
        return self.fitted.classes

    @property
    def facts(self) -> dict[str, str]:
        """Of the stored model: digests of weights, classes and genes, layer, pooling, precision."""
        facts = self.fitted.facts
        return {"layer": facts.layer, "pooling": facts.pooling, "precision": facts.precision, **facts.details}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the stored model says of its training, and of the cells that it answered for."""
        return self.fitted.notes

    def annotate(self, view: QueryView) -> tuple[Float[np.ndarray, "cells classes"], Float[np.ndarray, " cells"]]:
        """Return the logarithm of each probability, and the distance of each cell to training cells; of a cell without counts it is 0."""
        asked = _as_one_batch(view)
        scores = np.log(np.maximum(self.fitted.predict(asked).probability, _LEAST_PROBABILITY))
        return scores, self.novelty.distance(np.nan_to_num(self.fitted.embed(asked)))


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredReference:
    """A stored scANVI over the genes that it reads, with what distances are taken to."""

    annotator: StoredScanviAnnotator
    bare: MappedScanvi
    seed: int

    def mapped(self, cells: QueryView) -> MappedScanvi:
        """Return the model after surgery on cells of one file, none of whose labels is read. Cells without counts fit nothing."""
        asked = _as_one_batch(cells)
        seed = derive_seed(self.seed, "annotate", "map") % 2**31
        fitted = self.annotator.mapper.map_query(self.bare.fitted, asked, seed=seed)
        return dataclasses.replace(self.bare, fitted=fitted)


def stored_reference(
    snapshot: SnapshotView, annotator: StoredScanviAnnotator, *, rows: np.ndarray, labels: np.ndarray, seed: int
) -> StoredReference:
    """Open a stored scANVI over its own genes, beside the training cells that it learned labels of.

    Parameters
    ----------
    rows
        Its training cells, positions in the snapshot.
    labels
        Their labels as the model learned them, empty for a cell without one.
    """
    known = rows[labels != ""]
    rng = rng_for(seed, "annotate", "novelty")
    kept = np.sort(rng.choice(len(known), min(len(known), MAX_REFERENCE_CELLS), replace=False))
    genes = tuple(sorted(annotator.stored.base.read_genes))
    fitted = annotator.stored.over(genes)
    view = train_view(snapshot, known[kept], genes=genes, labels=labels[labels != ""][kept])
    values = fitted.embed(_known_batches(view, fitted))
    is_placed = ~np.isnan(values).any(axis=1)
    bare = MappedScanvi(
        genes=genes,
        fitted=fitted,
        novelty=novelty_reference(values[is_placed], view.labels[is_placed].astype(str), rng=rng),
        collapse=collapse_note(values[is_placed][:: -(-int(is_placed.sum()) // MAX_CELLS)]),
        card=annotator.card,
    )
    return StoredReference(annotator=annotator, bare=bare, seed=seed)


def _as_one_batch(view: QueryView) -> QueryView:
    """Return the cells under one batch that no model was trained on, whatever batches they name: that of their file."""
    # No data set has an empty id, so no batch of training is called like this one.
    return dataclasses.replace(view, technical=view.technical.assign(dataset_id="", batch=_NEW_BATCH))


def _known_batches(view: QueryView, fitted: FittedScanvi) -> QueryView:
    """Return training cells under the batches that the model knows: a data set may have taken the place of its libraries (R12)."""
    merged = ~np.isin(batch_levels(view.technical).astype(str), fitted.batches)
    return dataclasses.replace(
        view,
        technical=view.technical.assign(batch=view.technical["batch"].where(~merged, view.technical["dataset_id"])),
    )
