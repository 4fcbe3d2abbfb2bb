"""Geneformer from scratch on the training cells, by hidden genes; then frozen, as a checkpoint is.

`self_supervised`, never `zero_shot` (rule R13): medians, tokens and weights are those of the training side, no label among
them. With random weights the same reading of cells and the same shape are a control: what it does not beat has learned
nothing usable there. Beside the loss on held-out persons stands that of gene frequencies alone.
"""

from dataclasses import dataclass, replace

import numpy as np

from cytolabe.encode.medians import CountedBlock, MedianDigest
from cytolabe.models.devices import placed
from cytolabe.models.geneformer.checkpoint import CheckpointCard, GeneformerCheckpoint, network_digest
from cytolabe.models.geneformer.embedder import FittedGeneformer, GeneformerEmbedder
from cytolabe.models.geneformer.masked import MaskedTraining
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.own_dictionaries import dictionaries_of_medians
from cytolabe.models.geneformer.shapes import shape_named
from cytolabe.models.geneformer.source import GeneformerScratchSource
from cytolabe.models.geneformer.tokenizer import GeneformerTokenizer, TokenizedCells
from cytolabe.models.held_out import hold_out_persons
from cytolabe.models.learning import run_training
from cytolabe.models.protocols import QueryView, TrainView
from cytolabe.models.scopes import fit_scope, refuse_too_few_cells
from cytolabe.models.weights import LoadedKeys
from cytolabe.randomness import derive_seed
from cytolabe.records import FitScope, ModelCard, Protocol

__all__ = ["GeneformerPretrainer", "frequency_loss"]

_LEAST_CELLS = 10
_FRAME = 2


@dataclass(frozen=True, kw_only=True)
class GeneformerPretrainer:
    """Embedder by a network that learns from the training cells alone, or by one that learned nothing."""

    learning: GeneformerScratchSource
    card: ModelCard

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedGeneformer:  # noqa: ARG002 - not read
        """Train on the cells of the train view; labels are not read.

        Raises
        ------
        RefusedError
            If too few cells have counts, or the genes are those of a panel (rule R3).
        """
        started = self._started(train, seed=seed)
        if self.card.protocol is Protocol.CONTROL:
            return started.fit(train, query=None, seed=seed)
        tokenizer = GeneformerTokenizer(
            dictionaries=started.checkpoint.dictionaries, genes=train.genes,
            max_length=started.checkpoint.shape.n_positions, panels=self.learning.panels,
        )  # fmt: skip
        cells = tokenizer.tokenize(train.counts)
        filled = np.flatnonzero(cells.lengths > _FRAME)
        refuse_too_few_cells(len(filled), least=_LEAST_CELLS, model="Geneformer")
        own = derive_seed(seed, "models", "geneformer") % 2**31
        fit, held, note = hold_out_persons(train.persons[filled], fraction=self.learning.held_out_fraction, seed=own)
        objective = MaskedTraining(
            network=placed(started.checkpoint.network), dictionaries=started.checkpoint.dictionaries, cells=cells,
            cell_ids=train.cell_ids, fit_rows=filled[fit], held_out_rows=filled[held],
            size=self.learning.minibatch, seed=own,
        )  # fmt: skip
        progress, told = run_training(self.learning, objective, seed=seed)
        notes = [note, told]
        if progress.best_loss is not None:
            floor = frequency_loss(cells, filled[fit], filled[held], n_tokens=started.checkpoint.shape.n_tokens)
            notes.append(
                f"hidden genes of held-out cells: loss {progress.best_loss:.2f}, of gene frequencies alone {floor:.2f}"
            )
        learned = replace(started.checkpoint, network=objective.network, notes=(*started.checkpoint.notes, *notes))
        fitted = replace(started, checkpoint=learned).fit(train, query=None, seed=seed)
        return replace(
            fitted,
            weights=network_digest(objective.network),
            is_trained_here=True,
            scopes=(_scopes(train)[1], *fitted.scopes),
        )

    def _started(self, train: TrainView, *, seed: int) -> GeneformerEmbedder:
        """Return the embedder of a network that has learned nothing, over the genes and medians of the training cells."""
        digest = MedianDigest(len(train.genes))
        totals = np.asarray(train.counts.sum(axis=1), dtype=np.int64).ravel()
        digest.add(CountedBlock(train.counts.indptr, train.counts.indices, train.counts.data, totals))
        dictionaries = dictionaries_of_medians(train.genes, digest, n_cells=len(totals))
        shape = replace(shape_named(self.learning.preset), n_tokens=len(dictionaries.tokens))
        network = blank_network(shape, seed=derive_seed(seed, "models", "geneformer", "weights") % 2**31)
        scopes = _scopes(train)[:1]
        about = CheckpointCard(
            weights=network_digest(network), dictionaries={}, protocol=self.card.protocol, pretraining=(), scopes=scopes
        )
        checkpoint = GeneformerCheckpoint(
            network=network, shape=shape, dictionaries=dictionaries, card=about,
            keys=LoadedKeys(loaded=(), missing=tuple(sorted(network.state_dict())), ignored=()),
        )  # fmt: skip
        return GeneformerEmbedder(
            checkpoint=checkpoint, card=self.card, layer=self.learning.layer, pooling=self.learning.pooling,
            panels=self.learning.panels,
        )  # fmt: skip


def frequency_loss(cells: TokenizedCells, fit_rows: np.ndarray, held_rows: np.ndarray, *, n_tokens: int) -> float:
    """Return the cross-entropy of the genes of held-out cells under the frequencies of genes in the others.

    What is reached without reading the cell; `held_out_loss` asks for no gene that stays visible, so that a network has to know what genes
    go together to be below. Each gene counts once more than it was seen, so that one that was never seen is not impossible.
    """
    seen = np.bincount(_genes_of(cells, fit_rows), minlength=n_tokens) + 1.0
    asked = _genes_of(cells, held_rows)
    return float(np.mean(np.log(seen.sum()) - np.log(seen[asked])))


def _genes_of(cells: TokenizedCells, rows: np.ndarray) -> np.ndarray:
    """Return the tokens of cells without the frame and what fills them up."""
    places = np.arange(cells.tokens.shape[1])[None]
    is_gene = (places > 0) & (places < cells.lengths[rows, None] - 1)
    genes: np.ndarray = cells.tokens[rows][is_gene].astype(np.int64)
    return genes


def _scopes(train: TrainView) -> tuple[FitScope, FitScope]:
    return fit_scope("geneformer/medians", train.cell_ids), fit_scope("geneformer/weights", train.cell_ids)
