"""Classes of cells as an objective of the shared loop: one task or several, cells without a label of a task left out of it.

A task costs the mean cross-entropy of its labelled cells, and tasks add up by their weights, as published. Each cell's loss is
scaled by (cells / labelled cells of the task), so that the sum over minibatches is that of means whatever is labelled where.
Learned weights are exp(-s) with s / 2 added per task (homoscedastic uncertainty, doi:10.1109/CVPR.2018.00781); who
chooses when to stop always looks at the fixed weights, because s can fall without anything being learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.minibatches import by_length, length_grouped
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.learning import array_digest
from cytolabe.ontology.hierarchy import Hierarchy
from cytolabe.provenance import digest_of

__all__ = ["MISSING", "CellClassTraining", "CellTask", "cell_logits"]

MISSING = -1
"""Code of a cell without a label of a task."""
_TOKENS_PER_LOOK = 16_384


@dataclass(frozen=True, kw_only=True)
class CellTask:
    """One question about cells, and the answers that are known.

    `codes` count in `labels`: the classes themselves or, with a hierarchy, everything that it has a row for.
    """

    name: str
    labels: tuple[str, ...]
    codes: Integer[np.ndarray, " cells"]
    """Label of each cell, or `MISSING`."""
    weight: float = 1.0
    label_weights: Float[np.ndarray, " labels"]
    """Weight of a cell in the loss, by its label."""
    hierarchy: Hierarchy | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """What the head answers with."""
        return self.labels if self.hierarchy is None else self.hierarchy.classes


@dataclass(frozen=True, kw_only=True)
class CellClassTraining:
    """Cells that are in memory as tokens, and what is asked of them."""

    network: Any
    cells: TokenizedCells
    tasks: tuple[CellTask, ...]
    fit_rows: np.ndarray
    """Cells that move weights; each has a gene, and a label of a task."""
    held_out_rows: np.ndarray
    """Cells that choose when to stop."""
    size: int
    """Cells of a minibatch."""
    seed: int

    @cached_property
    def identity(self) -> str:
        """Digest of cells, labels, division and options."""
        asked = [
            [task.name, list(task.labels), array_digest(task.codes), task.weight, task.label_weights.tolist(), task.classes]
            for task in self.tasks
        ]  # fmt: skip
        frozen = [name for name, weight in self.network.named_parameters() if not weight.requires_grad]
        rows = [array_digest(one) for one in (self.cells.tokens, self.cells.lengths, self.fit_rows, self.held_out_rows)]
        return digest_of([rows, asked, frozen, self.network.pooling, self.size, self.seed])

    def minibatches(self, epoch: int) -> Sequence[Integer[np.ndarray, " rows"]]:
        """Return the minibatches of an epoch, of like length."""
        grouped = length_grouped(self.cells.lengths[self.fit_rows], size=self.size, seed=self.seed, epoch=epoch)
        return [self.fit_rows[rows] for rows in grouped]

    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:  # noqa: ARG002 - the same in every epoch
        """Return the sum over cells of what all tasks cost, and the number of cells."""
        logits = cell_logits(self.network, self.cells, rows)
        variances = self.network.log_variances
        total = sum(one.sum() for one in logits) * 0.0
        for number, (task, scale) in enumerate(zip(self.tasks, self._scales, strict=True)):
            cost, n = _cost(task, logits[number], rows)
            if variances is not None:
                cost = (-variances[number]).exp() * cost + 0.5 * n * variances[number]
            total = total + task.weight * scale * cost
        return total, len(rows)

    def held_out_loss(self) -> float | None:
        """Return the weighted sum of the tasks' mean cost on held-out cells; None where none of them has a label."""
        sums, counts = np.zeros(len(self.tasks)), np.zeros(len(self.tasks))
        for rows in by_length(self.cells.lengths[self.held_out_rows], tokens_per_minibatch=_TOKENS_PER_LOOK):
            chosen = self.held_out_rows[rows]
            logits = cell_logits(self.network, self.cells, chosen)
            for number, task in enumerate(self.tasks):
                cost, n = _cost(task, logits[number], chosen)
                sums[number] += float(cost.detach())
                counts[number] += n
        weights = np.array([task.weight for task in self.tasks])
        known = counts > 0
        return float((weights[known] * sums[known] / counts[known]).sum()) if known.any() else None

    @cached_property
    def _scales(self) -> list[float]:
        labelled = [int((task.codes[self.fit_rows] != MISSING).sum()) for task in self.tasks]
        return [len(self.fit_rows) / max(1, n) for n in labelled]


def cell_logits(network: Any, cells: TokenizedCells, rows: np.ndarray) -> list[Any]:  # noqa: ANN401 - a module of torch
    """Return the logits of each task for some cells."""
    torch = import_extra("torch")
    device = network.bert.embeddings.word_embeddings.weight.device
    lengths = cells.lengths[rows]
    tokens = cells.tokens[rows, : int(lengths.max(initial=1))].astype(np.int64)
    stands = np.arange(tokens.shape[1])[None] < lengths[:, None]
    found: list[Any] = network(torch.as_tensor(tokens, device=device), torch.as_tensor(stands, device=device))
    return found


def _cost(task: CellTask, logits: Any, rows: np.ndarray) -> tuple[Any, int]:  # noqa: ANN401 - tensors
    """Return the weighted cost of the labelled cells among some, summed, and how many there are."""
    torch = import_extra("torch")
    labelled = np.flatnonzero(task.codes[rows] != MISSING)
    codes = task.codes[rows][labelled]
    scores = logits[torch.as_tensor(labelled, device=logits.device)]
    if not len(codes):
        return scores.sum(), 0
    targets = torch.as_tensor(codes, device=logits.device)
    if task.hierarchy is None:
        costs = torch.nn.functional.cross_entropy(scores, targets, reduction="none")
    else:
        from cytolabe.models.hierarchical_torch import hierarchical_costs_torch  # noqa: PLC0415 - needs torch

        costs = hierarchical_costs_torch(scores, targets, task.hierarchy)
    weights = torch.as_tensor(task.label_weights[codes].astype(np.float32), device=logits.device)
    return (weights * costs).sum(), len(codes)
