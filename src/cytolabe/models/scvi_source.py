"""scVI as a model of studies and commands: trained on the training cells, or opened from a folder and mapped onto new cells.

With `checkpoint` no weight of the stored network moves: batches that it never saw get weights of their own, fitted on unlabelled cells
(scArches surgery), those of the training side first. The card names the cells that the stored model was trained on, so that an audit
finds those of a test side among them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cytolabe.models.cards import CARDS
from cytolabe.models.network_size import size_of
from cytolabe.models.protocols import QueryView, TrainView
from cytolabe.models.scopes import BATCH_KEY, batch_levels, refuse_shared_cells
from cytolabe.models.scvi import FittedScvi, ScviEmbedder
from cytolabe.models.stored import weights_digest
from cytolabe.models.stored_source import given_options, refuse_idle_options, refuse_other_weights
from cytolabe.records import ModelCard

__all__ = ["ScviSource", "StoredScviEmbedder"]

_OF_MAPPING = ("query_epochs",)


@dataclass(frozen=True, kw_only=True)
class StoredScviEmbedder:
    """Embedder by an scVI that was trained elsewhere."""

    stored: FittedScvi
    mapper: ScviEmbedder
    card: ModelCard
    batch_key: tuple[str, ...] = BATCH_KEY

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScvi:
        """Fit the weights of batches that the stored model never saw, on unlabelled cells, and no other weight.

        Raises
        ------
        UnmeasuredGeneError
            If a gene that the model reads was not measured.
        LeakageError
            If a cell is in both views.
        """
        if query is not None:
            refuse_shared_cells(train, query)
        n_stored = size_of(self.stored.model.module, is_trained=True).n_parameters
        fitted = replace(self.stored.over(train.genes), n_stored=n_stored)
        if set(batch_levels(train.technical).tolist()).difference(fitted.batches):
            fitted = self.mapper.map_query(fitted, train, seed=seed)
        return fitted if query is None else self.map_query(fitted, query, seed=seed)

    def map_query(self, fitted: FittedScvi, query: QueryView, *, seed: int) -> FittedScvi:
        """Fit the weights of batches that the model never saw on the unlabelled query cells; errors as `ScviEmbedder.map_query`."""
        return self.mapper.map_query(fitted, query, seed=seed)


@dataclass(frozen=True, kw_only=True)
class ScviSource(ScviEmbedder):
    """Options of the model `scvi`."""

    checkpoint: Path | str = ""
    """Folder that `cytolabe train scvi` or `save_scvi` wrote; trained on the training cells without it."""
    expected: str = ""
    """Digest (`sha256:...`) that the weights of the checkpoint must have."""

    def read(self) -> ScviEmbedder | StoredScviEmbedder:
        """Make the embedder.

        Raises
        ------
        UsageError
            If options of a training come with a checkpoint, or a digest without one.
        UnreadableInputError
            If the folder holds no scVI, or a part of it is garbled.
        IntegrityError
            If its weights are not those that were expected, or do not fit together.
        """
        options = given_options(self, ScviEmbedder, checkpoint=self.checkpoint, expected=self.expected)
        if not self.checkpoint:
            return ScviEmbedder(**options)  # type: ignore[arg-type]
        refuse_idle_options(options, ScviEmbedder, of_mapping=_OF_MAPPING)
        from cytolabe.models.scvi_files import load_scvi  # noqa: PLC0415 - needs torch

        stored = load_scvi(Path(self.checkpoint))
        digest = weights_digest(stored.model)
        refuse_other_weights(self.checkpoint, digest, expected=self.expected)
        # Seeds differ in the mapping of new batches alone, so that several would say nothing of the training.
        card = replace(CARDS["scvi"], scopes=stored.scopes, weights_digest=digest, n_seeds=1)
        return StoredScviEmbedder(stored=stored, mapper=ScviEmbedder(query_epochs=self.query_epochs), card=card)
