"""Cells to vectors by frozen weights: which layer, which positions, and nothing that depends on other cells.

`layer` counts as the published code does, and not as its name suggests: with n layers, `layer` means hidden state
n + layer of the n + 1 there are, so that 0 is the output of the last layer and -1 (its default) that of the
**second-to-last**. Others who reuse the code index from the end and get another vector under the same name; so the
facts of an embedding name the hidden state itself. Pooling is `cls` (position 0; second generation only) or `mean` over
genes, without special tokens and without what fills up.

Cells are embedded in minibatches of like length in any order. Another order, minibatch or neighbor moves a value by
rounding alone: at most `TOLERANCE` times the largest value of the cell, in float32 (tested). Nothing is drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer

from cytolabe.errors import UnmeasuredGeneError, UsageError
from cytolabe.models.devices import placed
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint, network_digest
from cytolabe.models.geneformer.minibatches import by_length
from cytolabe.models.geneformer.network import blank_network, gene_positions, hidden_states, looked_at
from cytolabe.models.geneformer.tokenizer import GeneformerTokenizer, TokenizedCells
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.protocols import AttendedCell, EmbeddingFacts, QueryView, TrainView
from cytolabe.models.scopes import fit_scope, refuse_not_finite, refuse_other_genes
from cytolabe.records import FitScope, ModelCard

__all__ = ["FROZEN_STEP", "TOLERANCE", "FittedGeneformer", "GeneformerEmbedder", "PoolingRule", "pooled_states"]

FROZEN_STEP = "geneformer/frozen"
"""Scope of the cells that an embedder was handed, and of which it read nothing."""

TOLERANCE = 1e-5
"""How far minibatches of another shape may move a value, as a share of the largest of its cell, in float32."""
_TOKENS_PER_MINIBATCH = 16_384
_BLOCK_CELLS = 4096
"""Cells whose tokens are held at once."""


@dataclass(frozen=True, kw_only=True)
class PoolingRule:
    """Which hidden state is pooled over which positions: `cls`, or `mean` over genes but for those that are left out."""

    n_layers: int
    pooling: str
    precision: str = "float32"
    has_frame: bool = True
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FittedGeneformer:
    """A Geneformer over the genes of one gene space. `notes` grows with what the views brought."""

    checkpoint: GeneformerCheckpoint
    tokenizer: GeneformerTokenizer
    network: Any
    hidden_state: int
    pooling: str
    precision: str
    weights: str
    scopes: tuple[FitScope, ...]
    tokens_per_minibatch: int = _TOKENS_PER_MINIBATCH
    is_trained_here: bool = False
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the weights and of the views that were embedded."""
        return tuple(self._met)

    @property
    def network_size(self) -> NetworkSize:
        """Weights of the network; those that were trained, if this fit trained any."""
        return size_of(self.network, is_trained=self.is_trained_here)

    @property
    def weights_digest(self) -> str:
        """Digest of the weights: of the file of a checkpoint, or of that which `save_pretrained` would write."""
        return self.weights

    @property
    def facts(self) -> EmbeddingFacts:
        """Which hidden state the embedding is, and what else decides it."""
        n_layers = self.checkpoint.shape.n_layers
        counted = f"layer {self.hidden_state - n_layers} of the published code"
        dictionaries = self.checkpoint.dictionaries.digests
        return EmbeddingFacts(
            layer=f"hidden state {self.hidden_state} of 0..{n_layers} ({counted})",
            pooling="<cls>" if self.pooling == "cls" else "mean over genes",
            precision="float32",
            details={
                "weights": self.weights_digest,
                **{f"dictionary.{role}": digest for role, digest in dictionaries.items()},
                "max_length": str(self.tokenizer.n_positions),
                "computed_in": self.precision,
                "attention": "sdpa",
                "tie_break": "token",
            },
        )

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return one vector per cell, float32; zeros for a cell without a gene of the dictionary.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        NotRawCountsError
            If a value is no count.
        ModelFailedError
            If a value is not finite.
        """
        refuse_other_genes(view, tuple(self.tokenizer.genes))
        n_cells = len(view.cell_ids)
        embedding = np.zeros((n_cells, self.checkpoint.shape.width), dtype=np.float32)
        lengths = np.zeros(n_cells, dtype=np.int64)
        for start in range(0, n_cells, _BLOCK_CELLS):
            block = slice(start, start + _BLOCK_CELLS)
            cells = self.tokenizer.tokenize(view.counts[block])
            embedding[block], lengths[block] = self.embed_tokens(cells), cells.lengths
        self._tell(lengths)
        refuse_not_finite(embedding, model="Geneformer")
        return embedding

    def embed_tokens(self, cells: TokenizedCells, *, left_out: Sequence[int] = ()) -> Float[np.ndarray, "cells dims"]:
        """Return one vector per tokenized cell, float32; zeros where no gene is left.

        Parameters
        ----------
        left_out
            Tokens that the network reads and a mean over genes passes over.
        """
        has_frame = self.checkpoint.dictionaries.bounds is not None
        rule = PoolingRule(
            n_layers=self.hidden_state,
            pooling=self.pooling,
            precision=self.precision,
            has_frame=has_frame,
            left_out=tuple(left_out),
        )
        embedding = np.zeros((len(cells.lengths), self.checkpoint.shape.width), dtype=np.float32)
        filled = np.flatnonzero(cells.lengths > (2 if has_frame else 0))
        for rows in by_length(cells.lengths[filled], tokens_per_minibatch=self.tokens_per_minibatch):
            chosen = filled[rows]
            lengths = cells.lengths[chosen]
            embedding[chosen] = pooled_states(self.network, cells.tokens[chosen, : lengths.max()], lengths, rule=rule)
        return embedding

    @property
    def known_genes(self) -> tuple[str, ...]:
        """Genes of the dictionary that the fit has, in the order in which their first column stands."""
        return self.tokenizer.targets

    @property
    def n_layers(self) -> int:
        """Layers of the network."""
        return self.checkpoint.shape.n_layers

    @property
    def gene_rows(self) -> str:
        """What `embed_genes` gives."""
        return "row of the token embedding, without rank and before normalization"

    def embed_genes(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return the row of the token embedding of each gene, float32; no cell has a part in it.

        Raises
        ------
        UnmeasuredGeneError
            If the dictionary or the fit has none of that name.
        """
        torch, known = import_extra("torch"), self.checkpoint.dictionaries.tokens
        unknown = sorted(set(genes).difference(self.known_genes))
        if unknown:
            msg = f"{len(unknown)} of {len(genes)} genes have no vector here, for example {unknown[0]!r}; see known_genes."
            raise UnmeasuredGeneError(msg)
        weight = self.network.bert.embeddings.word_embeddings.weight
        with torch.inference_mode():
            rows = weight[torch.tensor([known[gene] for gene in genes], dtype=torch.long, device=weight.device)]
        return np.asarray(rows.float().cpu().numpy())

    def n_cells_reading(self, view: QueryView) -> Integer[np.ndarray, " known_genes"]:
        """Return in how many cells each of `known_genes` is a token: it has counts, and ranks high enough to be read.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        refuse_other_genes(view, tuple(self.tokenizer.genes))
        places = self._places()[self.tokenizer.tokenize(view.counts).tokens]
        return np.bincount(places[places >= 0], minlength=len(self.known_genes))

    def attended(self, view: QueryView, *, layer: int) -> Iterator[AttendedCell]:
        """Yield each cell as a layer reads it, in float32, but for cells without a token.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        refuse_other_genes(view, tuple(self.tokenizer.genes))
        torch, places = import_extra("torch"), self._places()
        device = self.network.bert.embeddings.word_embeddings.weight.device
        cells = self.tokenizer.tokenize(view.counts)
        for tokens, length in zip(cells.tokens, cells.lengths.tolist(), strict=True):
            if not length:
                continue
            own = tokens[:length].astype(np.int64)
            with torch.inference_mode():
                looked = looked_at(self.network, torch.as_tensor(own, device=device)[None], layer=layer)
            states, queries, keys = (one.cpu().numpy() for one in looked)
            yield AttendedCell(places=places[own], states=states, queries=queries, keys=keys)

    def _places(self) -> Integer[np.ndarray, " tokens_of_dictionary"]:
        """Return the place of each token among `known_genes`, -1 where it is none of them."""
        known = self.checkpoint.dictionaries.tokens
        places = np.full(max(known.values()) + 1, -1, dtype=np.int64)
        places[[known[gene] for gene in self.known_genes]] = np.arange(len(self.known_genes))
        return places

    def _tell(self, lengths: np.ndarray) -> None:
        frame = 0 if self.checkpoint.dictionaries.bounds is None else 2
        n_empty, n_cut = int((lengths <= frame).sum()), int((lengths >= self.tokenizer.n_positions).sum())
        if n_empty:
            self._met[f"{n_empty} of {lengths.size} cells have no gene of the dictionary: their vector is zero"] = None
        if n_cut:
            room = self.tokenizer.n_positions - frame
            self._met[f"{n_cut} of {lengths.size} cells fill all {room:,} ranks: genes below may be cut off"] = None


@dataclass(frozen=True, kw_only=True)
class GeneformerEmbedder:
    """Embedder by the frozen weights of a checkpoint, or by random ones of the same shape.

    Raises
    ------
    UsageError
        If the network has no such layer, or its cells no position for the pooling.
    """

    checkpoint: GeneformerCheckpoint
    card: ModelCard
    layer: int = -1
    """As the published code counts: 0 is the last layer, -1 the second-to-last."""
    pooling: str = ""
    """`cls` or `mean`; without it `cls` where the generation has that token, else `mean`, as published."""
    precision: Literal["float32", "bfloat16"] = "float32"
    max_length: int = 0
    """Positions of a cell, special tokens among them; those of the network without it."""
    weights: Literal["checkpoint", "random"] = "checkpoint"
    panels: Literal["refuse", "flag"] = "refuse"

    def __post_init__(self) -> None:
        """Refuse a layer or a pooling that this network does not have."""
        shape = self.checkpoint.shape
        if not 0 <= shape.n_layers + self.layer <= shape.n_layers:
            msg = f"layer = {self.layer}: the network has {shape.n_layers} layers; 0 is the last, {-shape.n_layers} the tokens themselves."
            raise UsageError(msg)
        has_cls = self.checkpoint.dictionaries.bounds is not None
        known = ("cls", "mean") if has_cls else ("mean",)
        if self.pooling and self.pooling not in known:
            reason = "" if has_cls else "; the first generation has no <cls>, and its position 0 is the highest gene"
            msg = f"pooling = {self.pooling!r} is none of {', '.join(known)}{reason}."
            raise UsageError(msg)
        if self.max_length > shape.n_positions:
            msg = f"max_length = {self.max_length:,}: the network has {shape.n_positions:,} positions."
            raise UsageError(msg)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedGeneformer:  # noqa: ARG002 - nothing is fitted
        """Take over the genes of the train view; no weight moves.

        Raises
        ------
        RefusedError
            If the genes are those of a panel (rule R3), and `panels` is `refuse`.
        UsageError
            If no gene is in the dictionary.
        """
        return self.over(train.genes, handed=fit_scope(FROZEN_STEP, train.cell_ids), seed=seed)

    def over(self, genes: Sequence[str], *, handed: FitScope, seed: int) -> FittedGeneformer:
        """Return the model over some genes; `handed` names the cells that it was given, none of which it reads.

        Raises
        ------
        RefusedError
            If the genes are those of a panel (rule R3), and `panels` is `refuse`.
        UsageError
            If no gene is in the dictionary.
        """
        known, shape = self.checkpoint.dictionaries, self.checkpoint.shape
        tokenizer = GeneformerTokenizer(
            dictionaries=known, genes=genes, max_length=self.max_length or shape.n_positions, panels=self.panels
        )
        is_random = self.weights == "random"
        network = blank_network(shape, seed=seed) if is_random else self.checkpoint.network
        card = self.checkpoint.card
        notes = [*self.checkpoint.notes, f"{len(tokenizer.lost):,} of {len(genes):,} genes have no token"]
        return FittedGeneformer(
            checkpoint=self.checkpoint,
            tokenizer=tokenizer,
            network=placed(network),
            hidden_state=shape.n_layers + self.layer,
            pooling=self.pooling or ("mean" if known.bounds is None else "cls"),
            precision=self.precision,
            weights=network_digest(network) if is_random else card.weights,
            scopes=(*(() if is_random else card.scopes), replace(handed, step=FROZEN_STEP)),
            _met=dict.fromkeys([*notes, f"a panel: {tokenizer.flag}"] if tokenizer.flag else notes),
        )


def pooled_states(
    network: Any,  # noqa: ANN401 - a module of torch
    tokens: Integer[np.ndarray, "cells positions"],
    lengths: Integer[np.ndarray, " cells"],
    *,
    rule: PoolingRule,
) -> Float[np.ndarray, "cells dims"]:
    """Return the pooled states of one minibatch.

    Parameters
    ----------
    tokens
        Filled up on the right; `lengths` positions of each cell count.
    """
    torch = import_extra("torch")
    weight = network.bert.embeddings.word_embeddings.weight
    places = torch.arange(tokens.shape[1], device=weight.device)[None]
    ends = torch.as_tensor(lengths.astype(np.int64), device=weight.device)[:, None]
    stands = places < ends
    cast = torch.autocast(weight.device.type, dtype=torch.bfloat16, enabled=rule.precision == "bfloat16")
    with torch.inference_mode(), cast:
        ids = torch.as_tensor(tokens.astype(np.int64), device=weight.device)
        states = hidden_states(network, ids, stands, n_layers=rule.n_layers).float()
        if rule.pooling == "cls":
            pooled = states[:, 0]
        else:
            genes = gene_positions(stands, has_frame=rule.has_frame)
            for token in rule.left_out:
                genes = genes & (ids != token)
            pooled = torch.where(genes[..., None], states, 0).sum(dim=1) / genes.sum(dim=1, keepdim=True).clamp(min=1)
    found: np.ndarray = pooled.cpu().numpy()
    return found
