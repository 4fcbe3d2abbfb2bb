"""scANVI as a model of studies and commands: trained on the training cells, or opened from a folder and asked about new ones.

With `checkpoint` no weight of the stored network moves: batches of the query that it never saw get weights of their own, fitted on its cells
without their labels (scArches surgery). It learned from labels, so more is asked of it than of a stored scVI:

* every label of the training side is one of its classes, or above one: another it could never answer, and would always get wrong;
* the training side has as many labelled cells as it learned from: with fewer, it is asked what few labels are worth, and has read more.

That its cells were those of the training side is asked by an audit, which knows them: the card names them by digest.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cytolabe.errors import RefusedError
from cytolabe.models.baselines.majority import labelled_cells
from cytolabe.models.fitted_scanvi import FittedScanvi
from cytolabe.models.network_size import size_of
from cytolabe.models.protocols import QueryView, TrainView
from cytolabe.models.scanvi import ScanviAnnotator
from cytolabe.models.scopes import BATCH_KEY, refuse_shared_cells
from cytolabe.models.stored import weights_digest
from cytolabe.models.stored_source import given_options, refuse_idle_options, refuse_other_weights
from cytolabe.ontology.graph import load_ontology
from cytolabe.records import ModelCard

__all__ = ["ScanviSource", "StoredScanviAnnotator"]

_OF_MAPPING = ("query_epochs",)
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class StoredScanviAnnotator:
    """Annotator by a scANVI that was trained before."""

    stored: FittedScanvi
    mapper: ScanviAnnotator
    card: ModelCard
    batch_key: tuple[str, ...] = BATCH_KEY

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScanvi:
        """Fit the weights of batches of the query that the stored model never saw, and no other weight.

        Raises
        ------
        UnmeasuredGeneError
            If a gene that the model reads was not measured.
        LeakageError
            If a cell is in both views.
        RefusedError
            If the training cells have a label that it does not know, or fewer labels than it learned from.
        """
        if query is not None:
            refuse_shared_cells(train, query)
        self._refuse_labels(train)
        n_stored = size_of(self.stored.model.module, is_trained=True).n_parameters
        fitted = replace(self.stored.over(train.genes), n_stored=n_stored)
        return fitted if query is None else self.mapper.map_query(fitted, query, seed=seed)

    def _refuse_labels(self, train: TrainView) -> None:
        labels = train.labels[labelled_cells(train)].astype(str)
        strange = sorted(set(labels.tolist()) - self._known())
        if strange:
            told = ", ".join(strange[:_NAMED]) + (", ..." if len(strange) > _NAMED else "")
            msg = (
                f"{len(strange)} label(s) of the training cells are none of the {len(self.stored.classes)} classes of the stored scANVI, and above "
                f"none: {told}. It could never answer them. Ask at the level that it was trained at, or train one on these labels."
            )
            raise RefusedError(msg)
        if len(labels) < self.stored.n_labelled:
            msg = (
                f"The stored scANVI learned from {self.stored.n_labelled:,} labels, and here {len(labels):,} may be used: its answers would be "
                "those of more labels than are asked about. Leave checkpoint out, so that it is trained on these alone."
            )
            raise RefusedError(msg)

    def _known(self) -> set[str]:
        """Return the labels that it can answer: its classes, labels that it learned from, and terms above its classes."""
        classes, ontology = self.stored.classes, load_ontology("CL")
        coarse = self.stored.hierarchy.labels if self.stored.hierarchy is not None else ()
        return {*classes, *coarse}.union(*(ontology.ancestors(name) for name in classes if name in ontology))


@dataclass(frozen=True, kw_only=True)
class ScanviSource(ScanviAnnotator):
    """Options of the model `scanvi`."""

    checkpoint: Path | str = ""
    """Folder that `cytolabe train scanvi` or `save_scanvi` wrote; trained on the training cells without it."""
    expected: str = ""
    """Digest (`sha256:...`) that the weights of the checkpoint must have."""

    def read(self) -> ScanviAnnotator | StoredScanviAnnotator:
        """Make the annotator.

        Raises
        ------
        UsageError
            If options of a training come with a checkpoint, or a digest without one.
        UnreadableInputError
            If the folder holds no scANVI, or a part of it is garbled.
        IntegrityError
            If its weights are not those that were expected, or do not fit together.
        """
        options = given_options(self, ScanviAnnotator, checkpoint=self.checkpoint, expected=self.expected)
        if not self.checkpoint:
            return ScanviAnnotator(**options)  # type: ignore[arg-type]
        refuse_idle_options(options, ScanviAnnotator, of_mapping=_OF_MAPPING)
        from cytolabe.models.scanvi_files import load_scanvi  # noqa: PLC0415 - needs torch

        stored = load_scanvi(Path(self.checkpoint))
        digest = weights_digest(stored.model)
        refuse_other_weights(self.checkpoint, digest, expected=self.expected)
        hierarchical = stored.hierarchy is not None
        mapper = ScanviAnnotator(query_epochs=self.query_epochs, hierarchical=hierarchical)
        # Seeds differ in the mapping of new batches alone, so that several would say nothing of the training.
        card = replace(mapper.card, scopes=stored.scopes, weights_digest=digest, n_seeds=1)
        return StoredScanviAnnotator(stored=stored, mapper=mapper, card=card)
