"""Masked training of a Geneformer: what `models.training` needs to know of it.

The loss is the cross-entropy of hidden genes (`encode.masking`), over hidden positions only: the decoder is the largest
layer of a small network, and 85 % of what it would give is not asked for. Minibatches are of like length. Cells of
held-out persons are hidden alike at every look, so that two looks differ by the weights alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Integer

from cytolabe.encode.keyed import keys_of
from cytolabe.encode.masking import NOT_CHOSEN, masked_tokens
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.minibatches import by_length, length_grouped
from cytolabe.models.geneformer.network import hidden_states
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.learning import array_digest
from cytolabe.provenance import digest_of
from cytolabe.randomness import derive_seed

__all__ = ["MaskedTraining", "masked_loss"]

_HELD_OUT_EPOCH = 2**31
"""No epoch of training has this number."""
_TOKENS_PER_LOOK = 16_384


@dataclass(frozen=True, kw_only=True)
class MaskedTraining:
    """The objective of masked training over cells that are in memory as tokens."""

    network: Any
    dictionaries: Dictionaries
    cells: TokenizedCells
    cell_ids: np.ndarray
    fit_rows: np.ndarray
    """Cells that move weights."""
    held_out_rows: np.ndarray
    """Cells that choose when to stop."""
    size: int
    """Cells of a minibatch."""
    seed: int

    @cached_property
    def identity(self) -> str:
        """Digest of cells, tokens, division and options."""
        rows = [self.cells.tokens, self.fit_rows, self.held_out_rows]
        ids = self.cell_ids.tolist()
        return digest_of(
            [ids, [array_digest(row) for row in rows], self.size, self.seed, dict(self.dictionaries.tokens)]
        )

    @cached_property
    def _keys(self) -> np.ndarray:
        return keys_of(self.cell_ids.tolist())

    @cached_property
    def _genes(self) -> np.ndarray:
        return np.array(sorted(self.dictionaries.tokens[gene] for gene in self.dictionaries.genes), dtype=np.int64)

    @cached_property
    def _filled(self) -> np.ndarray:
        """Rows that move weights and have a gene."""
        frame = 0 if self.dictionaries.bounds is None else 2
        return np.asarray(self.fit_rows[self.cells.lengths[self.fit_rows] > frame])

    def minibatches(self, epoch: int) -> Sequence[Integer[np.ndarray, " rows"]]:
        """Return the minibatches of an epoch, of like length; cells without a gene are in none."""
        grouped = length_grouped(self.cells.lengths[self._filled], size=self.size, seed=self.seed, epoch=epoch)
        return [self._filled[rows] for rows in grouped]

    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:
        """Return the summed cross-entropy of the hidden genes of some cells, and how many there are."""
        hidden, asked, lengths = self._asked(rows, epoch=epoch)
        return masked_loss(self.network, hidden, asked, lengths=lengths)

    def _asked(self, rows: np.ndarray, *, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lengths = self.cells.lengths[rows]
        tokens = self.cells.tokens[rows, : int(lengths.max(initial=1))]
        hidden, asked = masked_tokens(
            tokens, cell_keys=self._keys[rows], genes=self._genes, mask=self.dictionaries.tokens["<mask>"],
            seed=derive_seed(self.seed, "models", "geneformer", "masking"), epoch=epoch,
        )  # fmt: skip
        return hidden, asked, lengths

    def held_out_loss(self) -> float | None:
        """Return the mean cross-entropy of masked genes of the held-out cells; None where none of them is asked.

        Only of genes that the mask token hides: training asks for some that stay visible, and copying these would be no learning.
        """
        mask, total, n_asked = self.dictionaries.tokens["<mask>"], 0.0, 0
        for rows in by_length(self.cells.lengths[self.held_out_rows], tokens_per_minibatch=_TOKENS_PER_LOOK):
            hidden, asked, lengths = self._asked(self.held_out_rows[rows], epoch=_HELD_OUT_EPOCH)
            out_of_sight = np.where(hidden == mask, asked, NOT_CHOSEN)
            loss, n = masked_loss(self.network, hidden, out_of_sight, lengths=lengths)
            total, n_asked = total + float(loss.detach()), n_asked + n
        return total / n_asked if n_asked else None


def masked_loss(
    network: Any,  # noqa: ANN401 - a module of torch
    hidden: Integer[np.ndarray, "cells positions"],
    asked: Integer[np.ndarray, "cells positions"],
    *,
    lengths: Integer[np.ndarray, " cells"],
) -> tuple[Any, int]:
    """Return the summed cross-entropy of what is asked, and the number of positions that ask."""
    torch = import_extra("torch")
    device = network.bert.embeddings.word_embeddings.weight.device
    stands = torch.as_tensor(np.arange(hidden.shape[1])[None] < lengths[:, None], device=device)
    tokens, targets = torch.as_tensor(hidden, device=device), torch.as_tensor(asked, device=device)
    states = hidden_states(network, tokens, stands, n_layers=network.config.num_hidden_layers)
    is_asked = targets != NOT_CHOSEN
    logits = network.cls(states[is_asked]).float()
    return torch.nn.functional.cross_entropy(logits, targets[is_asked], reduction="sum"), int(is_asked.sum())
