"""Cell types by scGPT: a head on the cell embedding, fine-tuned with the whole network on labelled training cells.

From a checkpoint it is `fine_tuned`; from nothing it is `supervised`, the control that says what the pretraining was worth.
Unlabelled cells move nothing (rule R4). Training ends by the loss on cells of training persons that move no weight.
"""

from dataclasses import dataclass

import numpy as np

from cytolabe.errors import RefusedError
from cytolabe.models.extras import import_extra
from cytolabe.models.learning import balanced_weights, run_training
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.protocols import AnnotatorOutput, QueryView, TrainView
from cytolabe.models.scgpt.checkpoint import Scgpt
from cytolabe.models.scgpt.embedder import on_device
from cytolabe.models.scgpt.learning import learned, prepare
from cytolabe.models.scgpt.source import Learning
from cytolabe.models.scgpt.tokens import ScgptTokenizer
from cytolabe.models.scopes import fit_scope, refuse_other_genes
from cytolabe.records import FitScope, ModelCard, Protocol

__all__ = ["FittedScgptAnnotator", "ScgptAnnotator"]


@dataclass(frozen=True, kw_only=True)
class FittedScgptAnnotator:
    """A fine-tuned scGPT and the classes that it was shown."""

    model: Scgpt
    tokenizer: ScgptTokenizer
    classes: tuple[str, ...]
    seed: int
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]

    @property
    def network_size(self) -> NetworkSize:
        """Weights of the network, all of them trained."""
        return size_of(self.model.network, is_trained=True)

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


@dataclass(frozen=True, kw_only=True)
class ScgptAnnotator:
    """Annotator by fine-tuning."""

    learning: Learning
    balanced: bool
    card: ModelCard

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScgptAnnotator:  # noqa: ARG002 - not read
        """Fine-tune on the labelled cells of the train view.

        Raises
        ------
        RefusedError
            If fewer than two classes, or too few cells, have labels and counts; or the genes are those of a panel.
        """
        import_extra("torch")
        from cytolabe.models.scgpt.tasks import ClassTask  # noqa: PLC0415 - needs torch to be imported

        rows = np.flatnonzero(train.labels.astype(str) != "")
        classes = tuple(sorted(set(train.labels[rows].tolist())))
        if len(classes) < 2:
            msg = f"scGPT has {len(classes)} class(es) with labelled training cells and needs two to tell apart."
            raise RefusedError(msg)
        prepared = prepare(self.learning, train, rows=rows, seed=seed, fields={"n_classes": len(classes)})
        codes = np.searchsorted(np.array(classes, dtype=object), train.labels[rows]).astype(np.int64)
        task = ClassTask(
            network=prepared.model.network,
            cells=prepared.cells,
            fit_rows=prepared.fit_rows,
            held_rows=prepared.held_rows,
            seed=seed,
            tokens_per_minibatch=self.learning.tokens_per_minibatch,
            classes=codes,
            class_weights=balanced_weights(codes[prepared.fit_rows], len(classes)) if self.balanced else None,
        )
        _, told = run_training(self.learning, task, seed=seed)
        scope = fit_scope("scgpt/classes", train.cell_ids[rows])
        protocol = Protocol.FINE_TUNED if self.learning.checkpoint else Protocol.SUPERVISED
        model = learned(prepared.model, protocol=protocol, scopes=(scope,))
        return FittedScgptAnnotator(
            model=model,
            tokenizer=prepared.tokenizer,
            classes=classes,
            seed=seed,
            scopes=model.origin.scopes,
            notes=(*prepared.notes, told),
        )
