"""What one fit is asked: which cells to learn from, which to answer for, over which genes, with which seed; and what its cost is called."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cytolabe.evaluate.costs import Cost
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.provenance import digest_of

__all__ = ["FitTask", "cost_of"]


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """Cells, genes and seed of one fit; rows are positions in the snapshot.

    `is_asked_again` says that the same training will be asked for with another query: what it gave is then kept.
    `purpose` and `resolution` say what the fit is run for and whose labels it reads: its cost names them, and nothing
    else depends on them.
    """

    train_rows: np.ndarray
    query_rows: np.ndarray
    genes: tuple[str, ...]
    seed: int
    is_asked_again: bool = False
    purpose: str = "score"
    resolution: str = ""

    @cached_property
    def training_key(self) -> str:
        """Digest of what a training without the query depends on."""
        return digest_of([_rows_digest(self.train_rows), self.genes, self.seed])

    @cached_property
    def key(self) -> str:
        """Digest of what the fit depends on."""
        return digest_of([self.training_key, _rows_digest(self.query_rows)])


def cost_of(annotator: AnnotatorPlan, step: str, task: FitTask, *, n_train: int) -> Cost:
    """Name what will be measured; an embedding is that of all probes and levels."""
    is_shared = step == "embedding"
    return Cost(
        model=annotator.name.partition("+")[0] if is_shared else annotator.name,
        step=step,
        purpose=task.purpose,
        resolution="" if is_shared else task.resolution,
        seed=task.seed,
        n_train=n_train,
        n_query=len(task.query_rows),
        n_genes=len(task.genes),
    )


def _rows_digest(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
