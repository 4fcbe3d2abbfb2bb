"""Cell types by scGPT: a head on the cell embedding, fine-tuned with the whole network on labelled training cells.

From a checkpoint it is `fine_tuned`; from nothing it is `supervised`, the control that says what the pretraining was worth.
Unlabelled cells move nothing (rule R4). Training ends by the loss on cells of training persons that move no weight. With
`hierarchical` it learns from labels of any depth (`models.hierarchical`). `ScgptTunedAnnotator` makes its start itself, of the
training cells without their labels.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cytolabe.errors import RefusedError
from cytolabe.models.extras import import_extra
from cytolabe.models.hierarchical import MARGINAL, label_weights
from cytolabe.models.learning import balanced_weights, run_training
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.protocols import AnnotatorOutput, FittedEmbedder, QueryView, TrainView
from cytolabe.models.scgpt.checkpoint import Scgpt
from cytolabe.models.scgpt.embedder import FittedScgpt, on_device
from cytolabe.models.scgpt.learning import learned, prepare
from cytolabe.models.scgpt.pretrainer import ScgptPretrainer
from cytolabe.models.scgpt.source import ScgptAnnotatorSource
from cytolabe.models.scgpt.tokens import ScgptTokenizer
from cytolabe.models.scopes import fit_scope, refuse_other_genes
from cytolabe.models.tuned import notes_of_start
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import Hierarchy, hierarchy_of, marginal_probability
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedScgptAnnotator", "ScgptAnnotator", "ScgptTunedAnnotator"]


@dataclass(frozen=True, kw_only=True)
class FittedScgptAnnotator:
    """A fine-tuned scGPT and the classes that it was shown."""

    model: Scgpt
    tokenizer: ScgptTokenizer
    classes: tuple[str, ...]
    seed: int
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]
    hierarchy: Hierarchy | None = None
    """Which classes each label of training stands for, where it learned from labels of any depth."""

    @property
    def network_size(self) -> NetworkSize:
        """Weights of the network, all of them trained."""
        return size_of(self.model.network, is_trained=True)

    @property
    def weights_digest(self) -> str:
        """Digest of the weights."""
        return self.model.weights_digest

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return class probabilities of each cell, float64.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        refuse_other_genes(query, tuple(self.tokenizer.genes))
        torch = import_extra("torch")
        cells = self.tokenizer.tokenize(query.counts, cell_ids=query.cell_ids, seed=self.seed)
        probability = np.empty((len(query.cell_ids), len(self.classes)))
        network = self.model.network
        for minibatch in cells.by_length(tokens_per_minibatch=16_384):
            with torch.no_grad():
                logits = network.cls_decoder(network.cell_embeddings(on_device(network, minibatch)))
            probability[minibatch.rows] = torch.softmax(logits.double(), dim=1).cpu().numpy()
        return AnnotatorOutput(classes=self.classes, probability=probability)

    def predict_labels(self, query: QueryView) -> tuple[tuple[str, ...], Float[np.ndarray, "cells labels"]]:
        """Return every label of training, coarse ones included, and its probability: the sum over its classes."""
        probability = self.predict(query).probability
        if self.hierarchy is None:
            return self.classes, probability
        return self.hierarchy.labels, marginal_probability(probability, self.hierarchy)


@dataclass(frozen=True, kw_only=True)
class ScgptAnnotator:
    """Annotator by fine-tuning."""

    learning: ScgptAnnotatorSource
    card: ModelCard
    made: Scgpt | None = None
    """A network that was made here of the same cells, to start from a copy of; without it the options say."""

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScgptAnnotator:  # noqa: ARG002 - not read
        """Fine-tune on the labelled cells of the train view.

        Raises
        ------
        RefusedError
            If fewer than two classes, or too few cells, have labels and counts; or the genes are those of a panel.
        UnresolvedLabelError
            If it is hierarchical, and a label is no live term of the pinned Cell Ontology.
        """
        import_extra("torch")
        from cytolabe.models.scgpt.tasks import ClassTask  # noqa: PLC0415 - needs torch to be imported

        words = train.labels.astype(str)
        rows = np.flatnonzero(words != "")
        hierarchy = None
        if self.learning.hierarchical and len(rows):
            hierarchy = hierarchy_of(words[rows].tolist(), ontology=load_ontology("CL"))
        classes = tuple(sorted(set(words[rows].tolist()))) if hierarchy is None else hierarchy.classes
        if len(classes) < 2:
            msg = f"scGPT has {len(classes)} class(es) with labelled training cells and needs two to tell apart."
            raise RefusedError(msg)
        prepared = prepare(
            self.learning, train, rows=rows, seed=seed, fields={"n_classes": len(classes)}, made=self.made
        )
        used = np.concatenate([prepared.fit_rows, prepared.held_rows])
        if hierarchy is None:
            codes = np.searchsorted(np.array(classes), words[rows]).astype(np.int64)
            weights = balanced_weights(codes[prepared.fit_rows], len(classes))
        else:
            codes = hierarchy.codes(words[rows])
            weights = label_weights(hierarchy, codes[used])
        task = ClassTask(
            network=prepared.model.network,
            cells=prepared.cells,
            fit_rows=prepared.fit_rows,
            held_rows=prepared.held_rows,
            seed=seed,
            tokens_per_minibatch=self.learning.tokens_per_minibatch,
            classes=codes,
            class_weights=weights if self.learning.balanced else None,
            hierarchy=hierarchy,
        )
        _, told = run_training(self.learning, task, seed=seed)
        scope = fit_scope("scgpt/classes", train.cell_ids[rows])
        model = learned(prepared.model, protocol=self.card.protocol, scopes=(scope,))
        return FittedScgptAnnotator(
            model=model,
            tokenizer=prepared.tokenizer,
            classes=classes,
            seed=seed,
            scopes=model.origin.scopes,
            notes=(*prepared.notes, told, *_marginal_note(hierarchy, codes[used])),
            hierarchy=hierarchy,
        )


@dataclass(frozen=True, kw_only=True)
class ScgptTunedAnnotator:
    """Annotator by fine-tuning a network that was made of the same training cells without their labels."""

    start: ScgptPretrainer
    learning: ScgptAnnotatorSource
    card: ModelCard

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScgptAnnotator:  # noqa: ARG002 - not read
        """Make the start of all cells of the train view, then fine-tune it on the labelled ones.

        Raises
        ------
        RefusedError, UnresolvedLabelError
            As `ScgptPretrainer.fit` and `ScgptAnnotator.fit`.
        """
        return self.tune(self.start.fit(train, query=None, seed=seed), train, seed=seed)

    def tune(self, started: FittedEmbedder, train: TrainView, *, seed: int) -> FittedScgptAnnotator:
        """Fine-tune a copy of what `start` made on the labelled cells of the train view.

        Raises
        ------
        RefusedError, UnresolvedLabelError
            As `ScgptAnnotator.fit`.
        """
        if not isinstance(started, FittedScgpt):
            msg = f"{self.card.name} starts from what {self.start.card.name} made, not from {type(started).__name__}."
            raise TypeError(msg)
        annotator = ScgptAnnotator(learning=self.learning, card=self.card, made=started.model)
        fitted = annotator.fit(train, query=None, seed=seed)
        return replace(fitted, notes=tuple(dict.fromkeys((*notes_of_start(started.training_notes), *fitted.notes))))


def _marginal_note(hierarchy: Hierarchy | None, codes: np.ndarray) -> tuple[str, ...]:
    n_coarse = 0 if hierarchy is None else int((hierarchy.covers[codes].sum(axis=1) > 1).sum())
    return (f"{MARGINAL}: {n_coarse} training cells have a label above the classes",) if n_coarse else ()
