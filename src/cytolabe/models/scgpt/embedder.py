"""Cells to their `<cls>` state, by frozen weights: what the published embedding task gives, cell by cell.

`<cls>` after the last layer, scaled to length 1. Nothing is fitted: `fit` names the cells that it was handed and keeps
the list of genes. An embedding depends on the weights, the counts of the cell over the genes that the vocabulary has,
its id and the seed; other cells move it by rounding only (minibatches of another size add up in another order).

Cells of a panel are refused (rule R3). A cell without counts in the vocabulary is `<cls>` alone, and the notes say so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from cytolabe.encode.binning import Ties
from cytolabe.errors import RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.genes import load_reference
from cytolabe.genes.panels import why_not_ranked
from cytolabe.models.extras import import_extra
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.protocols import AttendedCell, EmbeddingFacts, QueryView, TrainView
from cytolabe.models.scgpt.checkpoint import Scgpt, fresh_network
from cytolabe.models.scgpt.tokens import PaddedCells, ScgptTokenizer, TokenizedCells
from cytolabe.models.scopes import fit_scope, refuse_not_finite, refuse_other_genes
from cytolabe.models.weights import stored_digest
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedScgpt", "ScgptEmbedder", "cell_states", "on_device", "unit_states"]

_TOKENS_PER_MINIBATCH = 16_384


@dataclass(frozen=True, kw_only=True)
class FittedScgpt:
    """An scGPT over the genes of one gene space. `notes` grows with what the views brought."""

    model: Scgpt
    tokenizer: ScgptTokenizer
    seed: int
    scopes: tuple[FitScope, ...]
    is_trained_here: bool = False
    training_notes: tuple[str, ...] = ()
    """What is to be told of the training alone, whatever views were embedded since."""
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the training and of the views that were embedded."""
        return tuple(dict.fromkeys((*self.training_notes, *self._met)))

    @property
    def network_size(self) -> NetworkSize:
        """Weights of the network; those that were trained, if this fit trained any."""
        return size_of(self.model.network, is_trained=self.is_trained_here)

    @property
    def weights_digest(self) -> str:
        """Digest of the weights."""
        return self.model.weights_digest

    @property
    def facts(self) -> EmbeddingFacts:
        """Where in the network the embedding comes from, and what else decides it."""
        return EmbeddingFacts(
            layer=f"{self.model.config.n_layers} (last)",
            pooling="<cls>, length 1",
            precision="float32",
            details={
                "weights": self.weights_digest,
                "vocabulary": self.model.vocabulary.digest,
                "max_length": str(self.tokenizer.max_length),
                "n_bins": str(self.tokenizer.n_bins),
                "ties": self.tokenizer.ties,
            },
        )

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return the state of `<cls>` of each cell, scaled to length 1, float32.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        ModelFailedError
            If a value is not finite.
        """
        cells = self._tokens(view)
        self._tell(view, cells.lengths)
        return unit_states(self.model.network, cells)

    @property
    def known_genes(self) -> tuple[str, ...]:
        """Genes of the fit that the vocabulary has."""
        return tuple(self.tokenizer.genes[column] for column in np.flatnonzero(self.tokenizer.tokens >= 0).tolist())

    def embed_genes(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return the embedding of each gene as it enters the encoder (normalized), float32; no cell has a part in it.

        Raises
        ------
        UnmeasuredGeneError
            If the vocabulary or the fit has none of that name.
        """
        torch, place = import_extra("torch"), {gene: column for column, gene in enumerate(self.tokenizer.genes)}
        tokens = np.array(
            [self.tokenizer.tokens[place[gene]] if gene in place else -1 for gene in genes], dtype=np.int64
        )
        unknown = [gene for gene, token in zip(genes, tokens.tolist(), strict=True) if token < 0]
        if unknown:
            msg = f"{len(unknown)} of {len(genes)} genes have no vector here, for example {unknown[0]!r}; see known_genes."
            raise UnmeasuredGeneError(msg)
        encoder = self.model.network.encoder
        with torch.no_grad():
            rows = encoder(torch.as_tensor(tokens).to(encoder.embedding.weight.device))
        return np.asarray(rows.float().cpu().numpy())

    @property
    def n_layers(self) -> int:
        """Layers of the network."""
        return self.model.config.n_layers

    @property
    def gene_rows(self) -> str:
        """What `embed_genes` gives."""
        return "row of the gene embedding, normalized as it enters the encoder, without a value"

    def n_cells_reading(self, view: QueryView) -> Int[np.ndarray, " known_genes"]:
        """Return in how many cells each of `known_genes` is a token: it has counts, and there was room for it.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        places = self._places()[self._tokens(view).genes]
        return np.bincount(places[places >= 0], minlength=len(self.known_genes))

    def attended(self, view: QueryView, *, layer: int) -> Iterator[AttendedCell]:
        """Yield each cell as a layer reads it, without gradients and without padding.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        UsageError
            If the network normalizes by batch.
        """
        torch, network, places = import_extra("torch"), self.model.network, self._places()
        _refuse_batch_norm(network)
        cells = self._tokens(view)
        for row in range(len(cells.lengths)):
            minibatch = cells.padded(np.array([row]))
            with torch.no_grad():
                looked = network.looked_at(on_device(network, minibatch), layer=layer)
            states, queries, keys = (one[0].float().cpu().numpy() for one in looked)
            yield AttendedCell(places=places[minibatch.genes[0]], states=states, queries=queries, keys=keys)

    def _places(self) -> Int[np.ndarray, " tokens_of_vocabulary"]:
        """Return the place of each token among `known_genes`, -1 where it is none of them."""
        read = self.tokenizer.tokens[self.tokenizer.tokens >= 0]
        places = np.full(len(self.model.vocabulary), -1, dtype=np.int64)
        places[read] = np.arange(len(read))
        return places

    def _tokens(self, view: QueryView) -> TokenizedCells:
        refuse_other_genes(view, tuple(self.tokenizer.genes))
        return self.tokenizer.tokenize(view.counts, cell_ids=view.cell_ids, seed=self.seed)

    def _tell(self, view: QueryView, lengths: np.ndarray) -> None:
        total = view.counts.sum()
        read = view.counts[:, self.tokenizer.columns]
        share = float(read.sum() / total) if total else 0.0
        n_lost = len(self.tokenizer.lost)
        self._met[
            f"{n_lost:,} of {len(view.genes):,} genes are not in the vocabulary: {share:.1%} of counts are read"
        ] = None
        n_empty = int((lengths == 1).sum())
        if n_empty:
            self._met[f"{n_empty} of {lengths.size} cells have no counts in the vocabulary: <cls> alone"] = None
        n_cut = int((np.diff(read.indptr) >= self.tokenizer.max_length).sum())
        if n_cut:
            room = self.tokenizer.max_length - 1
            self._met[f"{n_cut} of {lengths.size} cells have more genes than {room:,}: a sample of them is read"] = None


@dataclass(frozen=True, kw_only=True)
class ScgptEmbedder:
    """Embedder by the frozen weights of a checkpoint, or by random ones."""

    model: Scgpt
    card: ModelCard
    weights: Literal["checkpoint", "random"] = "checkpoint"
    max_length: int = 0
    ties: Ties = "random"
    panels: Literal["refuse", "flag"] = "refuse"
    organism: str = "Homo sapiens"

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScgpt:  # noqa: ARG002 - nothing is fitted
        """Take over the genes of the train view; no weight moves.

        Raises
        ------
        RefusedError
            If the genes are those of a panel (rule R3), and `panels` is `refuse`.
        UsageError
            If no gene is in the vocabulary.
        """
        return self.over(train.genes, handed=fit_scope("scgpt/frozen", train.cell_ids), seed=seed)

    def over(self, genes: Sequence[str], *, handed: FitScope, seed: int) -> FittedScgpt:
        """Return the model over some genes; `handed` names the cells that it was given, none of which it reads.

        Raises
        ------
        RefusedError
            If the genes are those of a panel (rule R3), and `panels` is `refuse`.
        UsageError
            If no gene is in the vocabulary.
        """
        why_not = why_not_ranked(len(genes), None)
        if why_not and self.panels == "refuse":
            msg = f"scGPT is not asked here: {why_not} (rule R3). Say panels = 'flag' to look at it all the same."
            raise RefusedError(msg)
        tokenizer = ScgptTokenizer(
            vocabulary=self.model.vocabulary,
            genes=genes,
            reference=load_reference(self.organism),
            max_length=self.max_length or self.model.config.max_length,
            n_bins=self.model.config.n_bins,
            ties=self.ties,
            pad_value=self.model.config.pad_value,
            cls_value=self.model.config.pad_value,
        )
        model = self.model
        if self.weights == "random":
            network = fresh_network(model.config, seed=seed)
            model = replace(model, network=network, weights_digest=stored_digest(network.state_dict()))
        scopes = () if self.weights == "random" else model.origin.scopes
        notes = {f"a panel: {why_not}": None} if why_not else {}
        return FittedScgpt(
            model=model,
            tokenizer=tokenizer,
            seed=seed,
            scopes=(*scopes, replace(handed, step="scgpt/frozen")),
            _met=notes,
        )


def on_device(network: Any, minibatch: PaddedCells, **more: Any) -> Any:  # noqa: ANN401 - torch
    """Return a minibatch as `CellTokens` on the device of a network; `more` are further fields."""
    torch = import_extra("torch")
    from cytolabe.models.scgpt.network import CellTokens  # noqa: PLC0415 - needs torch to be imported

    device = network.encoder.embedding.weight.device
    fields = {"genes": minibatch.genes, "values": minibatch.values, "padding": minibatch.padding, **more}
    return CellTokens(
        **{
            name: torch.as_tensor(value).to(device) if isinstance(value, np.ndarray) else value
            for name, value in fields.items()
        }
    )


def unit_states(
    network: Any,  # noqa: ANN401 - torch
    cells: TokenizedCells,
    *,
    batches: Int[np.ndarray, " cells"] | None = None,
) -> Float[np.ndarray, "cells dims"]:
    """Return the state of `<cls>` of each cell, scaled to length 1, float32, without gradients.

    Parameters
    ----------
    batches
        The batch of each cell as the network numbers them, for one that normalizes by batch.

    Raises
    ------
    UsageError
        If the network normalizes by batch and none are given.
    ModelFailedError
        If a value is not finite.
    """
    states = np.empty((len(cells.lengths), network.config.d_model), dtype=np.float32)
    for minibatch in cells.by_length(tokens_per_minibatch=_TOKENS_PER_MINIBATCH):
        own = None if batches is None else batches[minibatch.rows]
        states[minibatch.rows] = cell_states(network, minibatch, batches=own)
    refuse_not_finite(states, model="scGPT")
    return np.asarray(states / np.linalg.norm(states, axis=1, keepdims=True))


def cell_states(
    network: Any,  # noqa: ANN401 - torch
    minibatch: PaddedCells,
    *,
    batches: Int[np.ndarray, " cells"] | None = None,
) -> Float[np.ndarray, "cells dims"]:
    """Return the cell embeddings of one minibatch, without gradients; see `unit_states`.

    Raises
    ------
    UsageError
        If the network normalizes by batch and none are given.
    """
    torch = import_extra("torch")
    if batches is None:
        _refuse_batch_norm(network)
    with torch.no_grad():
        tokens = on_device(network, minibatch) if batches is None else on_device(network, minibatch, batches=batches)
        states: np.ndarray = network.cell_embeddings(tokens).float().cpu().numpy()
    return states


def _refuse_batch_norm(network: Any) -> None:  # noqa: ANN401 - torch
    if network.config.batch_norm.startswith("by_batch"):
        msg = (
            "The network normalizes by batch, which a cell to embed does not have. Load the checkpoint without it "
            "(batch_norm = 'none'), or map the cells as a query of scgpt_integrator."
        )
        raise UsageError(msg)
