"""What scGPT is trained for, as objectives of the shared loop (`models.training`).

* `ClassTask`: classes of cells from the cell embedding (annotation).
* `GenerativeTask`: a share of the genes of each cell, one of 25, 50 and 75 % by minibatch, is given without values and
  has to be said from the others (GEP) and from the cell embedding alone (MVC); from the second epoch on also from the
  cell embedding in place of `<cls>` (the published code begins after 1,000 steps).
* `MaskedTask`: values behind a mask (GEP, MVC, probability of zero), with what corrects batches: elastic similarity,
  contrast of two passes, the adversary. Minibatches hold one batch each, as normalization by batch wants it.

Which genes are masked or generated is keyed by (seed, epoch, cell, gene), so a training that goes on draws the same. Import
it only where torch is there.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cytolabe.encode import keyed_uniforms
from cytolabe.errors import UsageError
from cytolabe.models.hierarchical_torch import hierarchical_costs_torch
from cytolabe.models.scgpt import objectives
from cytolabe.models.scgpt.embedder import on_device
from cytolabe.models.scgpt.hidden_values import HiddenErrors, gene_means
from cytolabe.models.scgpt.network import CellTokens, ScgptOutput
from cytolabe.models.scgpt.tokens import PaddedCells, TokenizedCells
from cytolabe.ontology.hierarchy import Hierarchy
from cytolabe.provenance import digest_of
from cytolabe.randomness import derive_seed, rng_for

__all__ = ["ClassTask", "GenerativeTask", "MaskedTask", "MaskedWeights"]

_GENERATED_SHARES = (0.25, 0.5, 0.75)
_HELD_OUT = -1  # the epoch of draws for held-out cells: the same at every look
_SHUFFLED_TOGETHER = 50  # minibatches among which cells of like length are put together


@dataclass(kw_only=True)
class _CellTask(ABC):
    """Cells to train on, cells that choose when to stop, and minibatches of like length."""

    network: Any
    cells: TokenizedCells
    fit_rows: np.ndarray
    held_rows: np.ndarray
    seed: int
    tokens_per_minibatch: int = 8_192
    groups: np.ndarray | None = None
    """Batch of each cell; a minibatch then holds one batch."""
    modalities: np.ndarray | None = None
    """Modality of each token of `cells`, for a multi-omics network."""

    @cached_property
    def identity(self) -> str:
        """Digest of cells, rows and options."""
        digest = hashlib.sha256()
        arrays = (
            self.cells.genes,
            self.cells.values,
            self.cells.bounds,
            self.cells.keys,
            self.fit_rows,
            self.held_rows,
        )
        for array in (*arrays, *(one for one in (self.groups, self.modalities) if one is not None)):
            digest.update(np.ascontiguousarray(array).tobytes())
        config = self.network.config
        return digest_of(
            [type(self).__name__, digest.hexdigest(), config, self.seed, self.tokens_per_minibatch, self._options()]
        )

    def _options(self) -> list[object]:
        return []

    def minibatches(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each minibatch of an epoch: shuffled, and of like length inside."""
        rng = rng_for(self.seed, "models", "scgpt", "minibatches", str(epoch))
        return list(self._divided(self.fit_rows[rng.permutation(len(self.fit_rows))], rng))

    def held_out_loss(self) -> float | None:
        """Return the mean loss on held-out cells; None where there are none."""
        rng = rng_for(self.seed, "models", "scgpt", "held_out")
        total, n_terms = 0.0, 0
        for rows in self._divided(self.held_rows, rng):
            loss, n = self.loss(rows, epoch=_HELD_OUT)
            total, n_terms = total + float(loss.detach()), n_terms + n
        return total / n_terms if n_terms else None

    @abstractmethod
    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:
        """Return the sum of the losses of a minibatch, and the number of its terms."""

    def _divided(self, rows: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Cut rows into minibatches of one group and like length, in shuffled order; no row gives none."""
        groups = np.zeros(len(rows)) if self.groups is None else self.groups[rows]
        parts = [rows[groups == one] for one in np.unique(groups)]
        found: list[np.ndarray] = []
        for part in parts:
            step = max(1, self.tokens_per_minibatch // max(1, int(np.median(self.cells.lengths[part]))))
            pool = step * _SHUFFLED_TOGETHER
            for start in range(0, len(part), pool):
                near = part[start : start + pool]
                near = near[np.argsort(self.cells.lengths[near], kind="stable")]
                found += self._cut(near)
        yield from (found[number] for number in rng.permutation(len(found)))

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        """Cut rows of rising length so that no minibatch is larger than it may be."""
        found, start = [], 0
        for stop in range(1, len(rows) + 1):
            is_last = stop == len(rows)
            if is_last or (stop + 1 - start) * self.cells.width_of(rows[stop : stop + 1]) > self.tokens_per_minibatch:
                found.append(rows[start:stop])
                start = stop
        return found

    def _padded(self, rows: np.ndarray) -> PaddedCells:
        return self.cells.padded(rows, width=self.cells.width_of(rows))

    def _more(self, rows: np.ndarray, width: int = 0) -> dict[str, np.ndarray]:
        """Return batches and modalities, where the network reads them."""
        more: dict[str, np.ndarray] = {}
        if self.groups is not None:
            more["batches"] = self.groups[rows]
        if self.modalities is not None:
            place = self.cells.bounds[rows][:, None] + np.arange(width)[None, :]
            inside = place < self.cells.bounds[rows + 1][:, None]
            more["modalities"] = np.where(inside, self.modalities[np.where(inside, place, 0)], 0)
        return more

    def _draws(self, rows: np.ndarray, padded: PaddedCells, epoch: int) -> np.ndarray:
        """Return a uniform number for each gene, above 1 for `<cls>` and padding."""
        seed = derive_seed(self.seed, "models", "scgpt", "draws", str(epoch))
        draws = keyed_uniforms(self.cells.keys[rows], padded.genes, seed=seed)
        draws[padded.padding] = 2.0
        draws[:, 0] = 2.0
        return draws


@dataclass(kw_only=True)
class ClassTask(_CellTask):
    """Classes of cells by cross-entropy on the cell embedding; by the hierarchical one where labels are of any depth."""

    classes: np.ndarray
    """Class of each cell of `cells`; with a hierarchy, the row of its `covers` that is the cell's label."""
    class_weights: np.ndarray | None = None
    """Weight of each class, or label of the hierarchy, in the loss; equal without it."""
    hierarchy: Hierarchy | None = None

    def _options(self) -> list[object]:
        weights = None if self.class_weights is None else self.class_weights.tolist()
        depths = [] if self.hierarchy is None else [list(self.hierarchy.labels), self.hierarchy.covers.tolist()]
        return [hashlib.sha256(self.classes.tobytes()).hexdigest(), weights, *depths]

    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:  # noqa: ARG002 - the same in every epoch
        """Return the sum of the cross-entropies of a minibatch, and the number of its cells."""
        padded = self._padded(rows)
        tokens = on_device(self.network, padded, **self._more(rows, padded.genes.shape[1]))
        logits = self.network.cls_decoder(self.network.encode(tokens).cells)
        classes = torch.as_tensor(self.classes[rows]).to(logits.device)
        weights = None if self.class_weights is None else torch.as_tensor(self.class_weights).to(logits)
        if self.hierarchy is not None:
            costs = hierarchical_costs_torch(logits.float(), classes, self.hierarchy)
            return (costs if weights is None else weights[classes] * costs).sum(), len(rows)
        return functional.cross_entropy(logits.float(), classes, weight=weights, reduction="sum"), len(rows)


@dataclass(kw_only=True)
class GenerativeTask(_CellTask):
    """Values of genes that are given by name only."""

    from_cells_at: int = 1
    """Epoch from which on generation starts from the cell embedding, too."""

    def __post_init__(self) -> None:
        """Refuse modalities, which a generative pass of the published code does not have."""
        if self.modalities is not None:
            msg = "Genes of several modalities are not generated: train a multi-omics network by masked values."
            raise UsageError(msg)

    def _options(self) -> list[object]:
        return [self.from_cells_at]

    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:
        """Return the sum of squared errors over generated genes, and their number."""
        squares, _, n_terms = self._squares(rows, epoch)
        return sum(squares.values()), n_terms

    def held_out_errors(self) -> HiddenErrors | None:
        """Return what the hidden values of held-out cells cost, each way, beside the mean of each gene; None without any.

        The network is taken as it is, in evaluation mode; the values that are hidden are those of every look at held-out cells.
        """
        means = gene_means(self.cells, self.fit_rows, n_tokens=self.network.config.n_tokens)
        totals: dict[str, float] = {}
        n_values = 0
        for rows in self._divided(self.held_rows, rng_for(self.seed, "models", "scgpt", "held_out")):
            with torch.no_grad():
                squares, hidden, n = self._squares(rows, _HELD_OUT)
            genes, targets = hidden
            floor = float(np.square(means[genes] - targets).sum())
            for name, total in [*((name, float(one)) for name, one in squares.items()), ("gene_means", floor)]:
                totals[name] = totals.get(name, 0.0) + total
            n_values += n
        if not n_values:
            return None
        own = {name: total / n_values for name, total in totals.items()}
        return HiddenErrors(
            n_values=n_values, gene_means=own["gene_means"], from_genes=own["from_genes"], from_cell=own.get("from_cell"),
            from_embedding=own["from_embedding"],
        )  # fmt: skip

    def _squares(self, rows: np.ndarray, epoch: int) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray], int]:
        """Return the sum of squared errors of each way to say values, what is hidden (genes and values), and how many."""
        padded = self._padded(rows)
        parts, targets, is_target = self._split(rows, padded, epoch)
        n_terms, n_perceived = int(is_target.sum()), parts.genes.shape[1] - targets.shape[1]
        hidden = (parts.genes[:, n_perceived:][is_target], targets[is_target])
        tokens = on_device(self.network, parts, n_perceived=n_perceived, **self._more(rows, 0))
        if not n_terms:
            return {"from_genes": tokens.values.sum() * 0.0}, hidden, 0
        answer: ScgptOutput = self.network(tokens)
        target, counted = (torch.as_tensor(one).to(tokens.values.device) for one in (targets, is_target))

        def squares(values: Any) -> Any:  # noqa: ANN401 - a tensor
            return objectives.masked_squares(values[:, n_perceived:].float(), target, counted) * n_terms

        found = {"from_genes": squares(answer.gep.values)}
        if answer.mvc is not None:
            found["from_cell"] = squares(answer.mvc.values)
        if epoch == _HELD_OUT or epoch >= self.from_cells_at:
            again = CellTokens(**{**vars(tokens), "cells": answer.cells.detach()})
            found["from_embedding"] = squares(self.network(again).gep.values)
        return found, hidden, n_terms

    def _split(self, rows: np.ndarray, padded: PaddedCells, epoch: int) -> tuple[PaddedCells, np.ndarray, np.ndarray]:
        """Put perceived genes before generated ones; return the cells, the values to say and which are such."""
        names = ("models", "scgpt", "share", str(epoch), str(int(rows.min(initial=0))), str(len(rows)))
        share = float(rng_for(self.seed, *names).choice(_GENERATED_SHARES))
        draws = self._draws(rows, padded, epoch)
        n_generated = ((~padded.padding).sum(axis=1) - 1) * share
        is_generated = (
            draws.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") < n_generated.astype(int)[:, None]
        )
        perceived = _left_aligned(~padded.padding & ~is_generated)
        generated = _left_aligned(is_generated)
        place = np.concatenate([perceived[0], generated[0]], axis=1)
        padding = np.concatenate([perceived[1], generated[1]], axis=1)
        values = np.take_along_axis(padded.values, place, axis=1)
        targets, n_perceived = values[:, perceived[0].shape[1] :].copy(), perceived[0].shape[1]
        values[:, n_perceived:] = self.cells.pad_value
        cells = PaddedCells(
            rows=rows,
            genes=np.where(padding, self.cells.pad_token, np.take_along_axis(padded.genes, place, axis=1)),
            values=np.where(padding, np.float32(self.cells.pad_value), values),
            padding=padding,
        )
        return cells, targets, ~padding[:, n_perceived:]


def _left_aligned(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of each row's marked entries, filled up to the most of any row, and where it was filled up."""
    n_marked = mask.sum(axis=1)
    width = int(n_marked.max(initial=0))
    place = np.argsort(~mask, axis=1, kind="stable")[:, :width]
    return place, np.arange(width)[None, :] >= n_marked[:, None]


@dataclass(frozen=True, kw_only=True)
class MaskedWeights:
    """Shares of the parts of a masked loss, as in the published integration tutorial."""

    masked: float = 0.4
    similarity: float = 10.0
    similarity_threshold: float = 0.8
    contrast: float = 0.0
    adversary: float = 1.0


@dataclass(kw_only=True)
class MaskedTask(_CellTask):
    """Values behind a mask, and what corrects batches."""

    weights: MaskedWeights = field(default_factory=MaskedWeights)

    def _options(self) -> list[object]:
        return [self.weights]

    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:
        """Return the mean loss of a minibatch times its cells, and the number of its cells."""
        padded = self._padded(rows)
        masked = self._draws(rows, padded, epoch) < self.weights.masked
        shown = PaddedCells(
            rows=rows,
            genes=padded.genes,
            values=np.where(masked, np.float32(self.network.config.mask_value), padded.values),
            padding=padded.padding,
        )
        tokens = on_device(self.network, shown, **self._more(rows, padded.genes.shape[1]))
        target, hidden = (torch.as_tensor(one).to(tokens.values.device) for one in (padded.values, masked))
        answer: ScgptOutput = self.network(tokens)
        total = self._said(answer, target, hidden)
        if self.weights.similarity and len(rows) > 1:
            told = objectives.elastic_similarity(answer.cells.float(), threshold=self.weights.similarity_threshold)
            total = total + self.weights.similarity * told
        if self.weights.contrast and self.network.training:
            again = self.network.encode(tokens).cells
            total = total + self.weights.contrast * objectives.contrast(answer.cells.float(), again.float())
        if answer.batches is not None:
            total = total + self.weights.adversary * objectives.told_batch(answer.batches.float(), tokens.batches)
        return total * len(rows), len(rows)

    @staticmethod
    def _said(answer: ScgptOutput, target: Any, hidden: Any) -> Any:  # noqa: ANN401 - tensors
        """Return the losses of the values that both decoders say."""
        total = 0.0
        for said in (answer.gep, answer.mvc):
            if said is not None:
                total = total + objectives.masked_squares(said.values.float(), target, hidden)
                if said.nonzero is not None:
                    total = total + objectives.zero_likelihood(said.nonzero.float(), target, hidden)
        return total
