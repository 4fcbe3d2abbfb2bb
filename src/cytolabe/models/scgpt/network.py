"""The network of scGPT: tokens and values of cells in, states, cell embedding and answers of the heads out.

In this order: embedding of the gene plus encoding of its value (or times it, `scaling`), batch normalization where the
network has it, encoder, cell embedding, heads. Genes of a generative pass have a flag in place of a value. There is no
encoding of position: a cell is a set of genes.

Two deviations from the published code, both where that is undefined or path-dependent: `avg-pool` is the mean over
tokens that are no padding, and batch normalization by batch takes a minibatch of several batches apart, where the
published code gives all cells the statistics of the first one's batch. Import it only where torch is there.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cytolabe.models.scgpt.configuration import ScgptConfig
from cytolabe.models.scgpt.heads import Adversary, CellDecoder, ClassDecoder, Decoded, ValueDecoder
from cytolabe.models.scgpt.layers import Encoder

__all__ = ["CellTokens", "Encoded", "ScgptNetwork", "ScgptOutput"]

_LARGEST_VALUE = 512.0
_BATCH_NORM_EPS = 6.1e-5
_EMBEDDING_RANGE = 0.1


@dataclass(frozen=True, kw_only=True)
class CellTokens:
    """A minibatch of cells. With `n_perceived`, tokens from that place on are generated: their values are not read."""

    genes: Int[Tensor, "cells tokens"]
    values: Float[Tensor, "cells tokens"]
    padding: Bool[Tensor, "cells tokens"]
    """True where there is no token."""
    batches: Int[Tensor, " cells"] | None = None
    modalities: Int[Tensor, "cells tokens"] | None = None
    n_perceived: int | None = None
    cells: Float[Tensor, "cells dims"] | None = None
    """Known cell embeddings, which take the place of the first token."""


class Encoded(NamedTuple):
    """What the encoder gives."""

    states: Float[Tensor, "cells tokens dims"]
    genes: Float[Tensor, "cells tokens dims"]
    """Embeddings of the genes before the encoder: what MVC asks by."""
    cells: Float[Tensor, "cells dims"]


class ScgptOutput(NamedTuple):
    """Answers of all heads that the network has; None where it has none."""

    cells: Float[Tensor, "cells dims"]
    gep: Decoded
    mvc: Decoded | None
    classes: Float[Tensor, "cells classes"] | None
    batches: Float[Tensor, "cells batches"] | None


class _NormedEmbedding(nn.Module):  # type: ignore[misc]
    def __init__(self, n_rows: int, d_model: int, padding: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_rows, d_model, padding_idx=padding)
        self.enc_norm = nn.LayerNorm(d_model)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.enc_norm(self.embedding(numbers.long()))


class _ContinuousValues(nn.Module):  # type: ignore[misc]
    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, config.d_model)
        self.linear2 = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, values: Tensor) -> Tensor:
        hidden = functional.relu(self.linear1(values.unsqueeze(-1).clamp(max=_LARGEST_VALUE)))
        return self.dropout(self.norm(self.linear2(hidden)))


class _BatchNorms(nn.Module):  # type: ignore[misc]
    """One normalization per batch; each takes the cells of its own."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        affine = config.batch_norm == "by_batch_affine"
        norms = (nn.BatchNorm1d(config.d_model, eps=_BATCH_NORM_EPS, affine=affine) for _ in range(config.n_batches))
        self.bns = nn.ModuleList(norms)

    def forward(self, states: Tensor, batches: Tensor) -> Tensor:
        normed = torch.empty_like(states)
        for batch in torch.unique(batches).tolist():
            rows = batches == batch
            normed[rows] = self.bns[batch](states[rows].transpose(1, 2)).transpose(1, 2)
        return normed


class ScgptNetwork(nn.Module):  # type: ignore[misc]
    """The network of a configuration, with fresh weights. `state_dict` has the names of the published torch layout."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _NormedEmbedding(config.n_tokens, config.d_model, config.pad_token)
        if config.value_style == "continuous":
            self.value_encoder = _ContinuousValues(config)
        elif config.value_style == "category":
            self.value_encoder = _NormedEmbedding(config.n_value_levels, config.d_model, int(config.pad_value))
        if config.generation != "none":
            self.flag_encoder = nn.Embedding(2, config.d_model)
        if config.batch_norm == "shared":
            self.bn = nn.BatchNorm1d(config.d_model, eps=_BATCH_NORM_EPS)
        elif config.batch_norm != "none":
            self.dsbn = _BatchNorms(config)
        self.transformer_encoder = Encoder(config)
        self._add_heads(config)
        nn.init.uniform_(self.encoder.embedding.weight, -_EMBEDDING_RANGE, _EMBEDDING_RANGE)

    def _add_heads(self, config: ScgptConfig) -> None:
        self.decoder = ValueDecoder(config)
        self.mvc_decoder: Any = None if config.mvc_style == "none" else CellDecoder(config)
        self.cls_decoder = ClassDecoder(config) if config.n_classes else None
        self.grad_reverse_discriminator = Adversary(config) if config.adversary else None
        self.batch_encoder = _NormedEmbedding(config.n_batches, config.d_model) if config.batch_input else None
        self.mod_encoder = _NormedEmbedding(config.n_modalities, config.d_model, 0) if config.n_modalities else None

    def forward(self, tokens: CellTokens) -> ScgptOutput:
        """Return the answers of all heads.

        Raises
        ------
        ValueError
            If the network reads batches or modalities and the minibatch has none.
        """
        if self.config.batch_input:
            _refuse_without(tokens, "batches")
        if self.config.n_modalities:
            _refuse_without(tokens, "modalities")
        encoded = self.encode(tokens)
        beside = self._beside(tokens)
        gep = self.decoder(encoded.states if beside is None else torch.cat([encoded.states, beside], dim=2))
        return ScgptOutput(
            cells=encoded.cells,
            gep=gep,
            mvc=None if self.mvc_decoder is None else self._by_cell(encoded, beside),
            classes=None if self.cls_decoder is None else self.cls_decoder(encoded.cells),
            batches=None if self.grad_reverse_discriminator is None else self.grad_reverse_discriminator(encoded.cells),
        )

    def encode(self, tokens: CellTokens) -> Encoded:
        """Return states and cell embeddings, without any head.

        Raises
        ------
        ValueError
            If the network normalizes by batch and the minibatch has none, or genes are to be generated and it has no flag
            for them. What only decoders read, an encoding need not have.
        """
        self._check(tokens)
        genes = self.encoder(tokens.genes)
        states = self.transformer_encoder(self._input(tokens, genes), tokens.padding, tokens.n_perceived)
        return Encoded(states, genes, self._pooled(states, tokens))

    def cell_embeddings(self, tokens: CellTokens) -> Float[Tensor, "cells dims"]:
        """Return what `encode` gives of the cells, with less work where it is the state of the first token.

        Raises
        ------
        ValueError
            As `encode`.
        """
        if self.config.cell_style != "cls" or tokens.n_perceived is not None:
            return self.encode(tokens).cells
        self._check(tokens)
        states = self._input(tokens, self.encoder(tokens.genes))
        return self.transformer_encoder.first_token(states, tokens.padding)[:, 0]

    def attention(self, tokens: CellTokens) -> Float[Tensor, "cells heads queries keys"]:
        """Return the attention of the last layer: who looks at whom, per cell and head."""
        self._check(tokens)
        return self.transformer_encoder.attention_of_last(
            self._input(tokens, self.encoder(tokens.genes)), tokens.padding
        )

    def looked_at(self, tokens: CellTokens, *, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return states after a layer (1 is the first; cells x tokens x dims), its queries and keys (by head).

        Raises
        ------
        ValueError
            As `encode`.
        """
        self._check(tokens)
        states = self._input(tokens, self.encoder(tokens.genes))
        return self.transformer_encoder.looked_at(states, tokens.padding, layer=layer)

    def _check(self, tokens: CellTokens) -> None:
        if self.config.batch_norm.startswith("by_batch"):
            _refuse_without(tokens, "batches")
        config = self.config
        if tokens.n_perceived is not None and (config.generation == "none" or config.value_style == "scaling"):
            msg = "This network has no flag for generated genes (generation = 'none', or values that only scale)."
            raise ValueError(msg)

    def _input(self, tokens: CellTokens, genes: Tensor) -> Tensor:
        """Return what enters the encoder, cells x tokens x dims."""
        n_perceived = genes.shape[1] if tokens.n_perceived is None else tokens.n_perceived
        perceived = self._normed(self.valued(genes[:, :n_perceived], tokens.values[:, :n_perceived]), tokens.batches)
        if tokens.cells is not None:
            perceived = torch.cat([tokens.cells.unsqueeze(1), perceived[:, 1:]], dim=1)
        if tokens.n_perceived is None:
            return perceived
        # Statistics of a batch are taken over each part for itself, as the published code does.
        generated = self._normed(genes[:, n_perceived:] + self.flag_encoder.weight[1], tokens.batches)
        return torch.cat([perceived, generated], dim=1)

    def valued(self, genes: Tensor, values: Tensor) -> Tensor:
        """Return gene embeddings with their values in them, cells x tokens x dims, before any normalization."""
        if self.config.value_style == "scaling":
            return genes * values.unsqueeze(-1)
        return genes + self.value_encoder(values)

    def _normed(self, states: Tensor, batches: Tensor | None) -> Tensor:
        if self.config.batch_norm == "shared":
            return self.bn(states.transpose(1, 2)).transpose(1, 2)
        return states if self.config.batch_norm == "none" else self.dsbn(states, batches)

    def _pooled(self, states: Tensor, tokens: CellTokens) -> Tensor:
        if self.config.cell_style == "cls":
            return states[:, 0]
        valid = (~tokens.padding).unsqueeze(-1)
        kept = states.masked_fill(~valid, 0.0)
        if self.config.cell_style == "avg-pool":
            return kept.sum(dim=1) / valid.sum(dim=1)
        return functional.normalize((kept * tokens.values.unsqueeze(-1)).sum(dim=1), dim=1)

    def _beside(self, tokens: CellTokens) -> Tensor | None:
        """Return what decoders read of batch and modality beside each state; None where they read neither."""
        beside = None
        if self.batch_encoder is not None:
            beside = self.batch_encoder(tokens.batches).unsqueeze(1).expand(-1, tokens.genes.shape[1], -1)
        if self.mod_encoder is not None:
            modality = self.mod_encoder(tokens.modalities)
            beside = modality if beside is None else beside + modality
        return beside

    def _by_cell(self, encoded: Encoded, beside: Tensor | None) -> Decoded:
        """Return what MVC answers. Beside the cell embedding stand its batch and the modality of its first token."""
        cells, genes = encoded.cells, encoded.genes
        if beside is not None:
            cells = torch.cat([cells, beside[:, 0]], dim=1)
        if self.mod_encoder is not None:
            genes = torch.cat([genes, beside], dim=2)
        decoded: Decoded = self.mvc_decoder(cells, genes)
        return decoded


def _refuse_without(tokens: CellTokens, name: str) -> None:
    if getattr(tokens, name) is None:
        msg = f"This network reads {name}, and the minibatch has none."
        raise ValueError(msg)
