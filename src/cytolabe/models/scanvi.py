"""scANVI: the scVI of the training cells trained on with their labels, and its own classifier as the answer.

First `scvi` as it is, without labels; then scANVI from its weights, whose classifier and latent space learn from the
labels of the training cells (an empty label is no class). Epochs of both are chosen on the same held-out training
persons: of scANVI by the loss of the classifier on their labels. Unseen batches of the query enter by scArches surgery,
in which every query cell is unlabelled: labels of a query do not exist in its view (rule R13).

With `hierarchical` it learns from labels of any depth (`scanvi_hierarchical`): classes are the labels of cells with counts that have no finer one among them.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cytolabe.errors import ModelFailedError, RefusedError
from cytolabe.models import scvi_training as training
from cytolabe.models.baselines.majority import labelled_cells
from cytolabe.models.cards import CARDS
from cytolabe.models.extras import import_extra
from cytolabe.models.fitted_scanvi import UNLABELLED, FittedScanvi
from cytolabe.models.hierarchical import MARGINAL
from cytolabe.models.protocols import NOT_CONVERGED, QueryView, TrainView
from cytolabe.models.scanvi_hierarchical import hierarchical_scanvi
from cytolabe.models.scopes import (
    BATCH_KEY,
    batch_levels,
    fit_scope,
    has_counts,
    refuse_other_genes,
    refuse_shared_cells,
)
from cytolabe.models.scvi import FittedScvi, ScviEmbedder, cells_table
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import Hierarchy, hierarchy_of
from cytolabe.randomness import derive_seed
from cytolabe.records import ModelCard

__all__ = ["ScanviAnnotator", "scanvi_class", "taught"]

_CLASSIFIER_LOSS = "validation_classification_loss"


@dataclass(frozen=True, kw_only=True)
class ScanviAnnotator:
    """Annotator by scANVI. The options of `scvi`, and `label_epochs`: at most so many with labels."""

    n_latent: int = 10
    n_hidden: int = 128
    n_layers: int = 1
    max_epochs: int = 60
    label_epochs: int = 30
    query_epochs: int = 20
    patience: int = 8
    n_top_genes: int = 2000
    hierarchical: bool = False
    """Whether it learns from labels above its classes, too (marginal loss, rule R5)."""
    batch_key: tuple[str, ...] = field(default=BATCH_KEY, init=False)

    @property
    def card(self) -> ModelCard:
        """What it needs and has seen; with `hierarchical` it takes coarse labels, too."""
        card = CARDS["scanvi"]
        return replace(card, capabilities=(*card.capabilities, "coarse_labels")) if self.hierarchical else card

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScanvi:
        """Train on the training cells and their labels, then map the query's unseen batches.

        Raises
        ------
        RefusedError
            If no training cell is labelled, all labels are one class, one is the word for cells without, or what `scvi` refuses.
        UnresolvedLabelError
            If it is hierarchical, and a label is no live term of the pinned Cell Ontology.
        LeakageError
            If a cell is in both views.
        """
        if query is not None:
            refuse_shared_cells(train, query)
            refuse_other_genes(query, train.genes)
        _refuse_words(train.labels)
        _refuse_one_class(self._classes(train.labels[labelled_cells(train)].astype(str))[0])
        base = self._scvi().fit(train, query=None, seed=seed)
        filled = has_counts(train.counts[:, base.columns])
        labels = np.where(train.labels.astype(str) == "", UNLABELLED, train.labels.astype(str))[filled]
        table = cells_table(train, columns=base.columns, batches=base.batches)
        rows = training.divide_cells(train.persons[filled], batch_levels(train.technical)[filled], seed=seed)[:2]
        is_given = labels != UNLABELLED
        # What is hierarchical cannot use a class none of whose cells has a count: a label above it would stand for nothing.
        asked = labels[is_given] if self.hierarchical else train.labels[labelled_cells(train)].astype(str)
        classes, hierarchy = self._classes(asked)
        _refuse_one_class(classes)
        n_cells = np.array([(asked == name).sum() for name in classes])
        model, notes = self._train(
            base, table, labels=(labels, hierarchy), rows=rows, seed=derive_seed(seed, "models", "scanvi")
        )
        if hierarchy is not None and n_cells.sum() < len(asked):
            n_coarse = len(asked) - int(n_cells.sum())
            notes.append(
                f"{MARGINAL}: {n_coarse} of {len(asked)} training cells have a label above the {len(classes)} classes"
            )
        fitted = FittedScanvi(
            classes=classes,
            shares=n_cells / n_cells.sum(),
            hierarchy=hierarchy,
            base=base,
            batches=base.batches,
            model=model,
            n_labelled=len(asked),
            n_unlabelled=len(train.labels) - len(asked),
            scopes=(*base.scopes, fit_scope("scanvi/weights", train.cell_ids)),
            _met=dict.fromkeys([*base.notes, *notes]),
        )
        return fitted if query is None else self.map_query(fitted, query, seed=seed)

    def _classes(self, terms: np.ndarray) -> tuple[tuple[str, ...], Hierarchy | None]:
        """Return the classes of labels, and what each label stands for where it learns from labels of any depth."""
        if not self.hierarchical:
            return tuple(sorted(set(terms.tolist()))), None
        hierarchy = hierarchy_of(terms.tolist(), ontology=load_ontology("CL"))
        return hierarchy.classes, hierarchy

    def _scvi(self) -> ScviEmbedder:
        return ScviEmbedder(
            n_latent=self.n_latent,
            n_hidden=self.n_hidden,
            n_layers=self.n_layers,
            max_epochs=self.max_epochs,
            query_epochs=self.query_epochs,
            patience=self.patience,
            n_top_genes=self.n_top_genes,
        )

    def _train(
        self,
        base: FittedScvi,
        table: training.CellsTable,
        *,
        labels: tuple[np.ndarray, Hierarchy | None],
        rows: tuple[np.ndarray, np.ndarray],
        seed: int,
    ) -> tuple[Any, list[str]]:
        (fit_rows, validation_rows), (terms, hierarchy) = rows, labels
        if (terms[fit_rows] == UNLABELLED).all() or (terms[validation_rows] == UNLABELLED).all():
            msg = (
                f"Of {len(fit_rows)} cells that fit and {len(validation_rows)} that choose the epochs of scANVI, one side "
                "has no label at this resolution. Label cells of more training persons."
            )
            raise RefusedError(msg)
        with training.quiet_session(seed):
            adata = training.cells_anndata(table)
            adata.obs["label"] = terms
            model = scanvi_class(hierarchy).from_scvi_model(
                base.model, unlabeled_category=UNLABELLED, labels_key="label", adata=adata
            )
            taught(model, hierarchy)
            best = training.best_epoch_callback(_CLASSIFIER_LOSS)
            model.train(
                max_epochs=self.label_epochs,
                early_stopping=True,
                early_stopping_patience=self.patience,
                early_stopping_monitor=_CLASSIFIER_LOSS,
                check_val_every_n_epoch=1,
                batch_size=training.minibatch_size(len(fit_rows)),
                datasplitter_kwargs={"external_indexing": [fit_rows, validation_rows, np.array([], dtype=np.int64)]},
                callbacks=[best],
                plan_kwargs={"lr": training.learning_rate(len(fit_rows))},
                **training.SILENT_TRAINER,
            )
            if best.weights is None:
                msg = "scANVI training failed: the loss of its classifier on the validation cells was never finite."
                raise ModelFailedError(msg)
            model.module.load_state_dict(best.weights)
            model.module.eval()
        notes = [f"best of at most {self.label_epochs} epochs with labels: {best.epoch}"]
        if best.epoch >= self.label_epochs:
            notes.append(f"{NOT_CONVERGED}: scANVI at its cap of {self.label_epochs} epochs with labels")
        return model, notes

    def map_query(self, fitted: FittedScanvi, query: QueryView, *, seed: int) -> FittedScanvi:
        """Fit the weights of batches that training never saw on the query cells, all of them unlabelled.

        Raises
        ------
        UnmeasuredGeneError
            If the query has other genes than the fit.
        """
        refuse_other_genes(query, fitted.base.genes)
        filled = has_counts(query.counts[:, fitted.base.columns])
        present = set(batch_levels(query.technical)[filled].tolist())
        unseen = tuple(sorted(present.difference(fitted.batches)))
        notes = dict(fitted._met)
        if not unseen:
            notes["all query batches were seen in training: nothing was fitted on the query"] = None
            return replace(fitted, _met=notes)
        batches = (*fitted.batches, *unseen)
        table = cells_table(query, columns=fitted.base.columns, batches=unseen)
        with training.quiet_session(derive_seed(seed, "models", "scanvi", "query")):
            adata = training.cells_anndata(table)
            adata.obs["label"] = UNLABELLED
            kind = scanvi_class(fitted.hierarchy)
            mapped = taught(training.with_new_batches(kind, adata, fitted.model), fitted.hierarchy)
            n_cells = len(table.batch)
            empty = np.array([], dtype=np.int64)
            mapped.train(
                max_epochs=self.query_epochs,
                batch_size=training.minibatch_size(n_cells),
                datasplitter_kwargs={"external_indexing": [np.arange(n_cells), empty, empty]},
                plan_kwargs={"lr": training.learning_rate(n_cells), "weight_decay": 0.0},
                **training.SILENT_TRAINER,
            )
            mapped.module.eval()
        scope = fit_scope("scanvi/query", query.cell_ids)
        return replace(fitted, batches=batches, model=mapped, scopes=(*fitted.scopes, scope), _met=notes)


def scanvi_class(hierarchy: Hierarchy | None) -> Any:  # noqa: ANN401 - untyped library
    """Return the class of scvi-tools, or its child that learns by a hierarchy."""
    return import_extra("scvi").model.SCANVI if hierarchy is None else hierarchical_scanvi()


def taught(model: Any, hierarchy: Hierarchy | None) -> Any:  # noqa: ANN401 - untyped library
    """Return a model of `scanvi_class` after it was told the hierarchy, which is no weight."""
    if hierarchy is not None:
        registered = model.adata_manager.get_state_registry("labels").categorical_mapping
        model.module.learn_by(hierarchy, [str(label) for label in registered])
    return model


def _refuse_words(labels: np.ndarray) -> None:
    """Refuse a label that would be taken for no label."""
    n_cells = int((labels.astype(str) == UNLABELLED).sum())
    if n_cells:
        msg = (
            f"{n_cells} training cells have the label {UNLABELLED!r}, which is how scANVI calls cells without one: they would "
            "teach nothing. Give no label to a cell that has none, and another word to this class."
        )
        raise RefusedError(msg)


def _refuse_one_class(classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        msg = f"All labelled training cells are {classes[0]}: a classifier of one class says nothing; use `majority`."
        raise RefusedError(msg)
