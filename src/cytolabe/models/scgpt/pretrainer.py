"""scGPT from scratch on the training cells, by generation: the counts of some genes from those of the others.

`self_supervised`, never `zero_shot` (rule R13): it has seen the training side of the split and no other cell, no label among
them. Then it is frozen and embeds as a checkpoint does. With a checkpoint it goes on from there (`fine_tuned`). Beside what the
hidden values of held-out cells cost stands what the mean of each gene alone costs there (`hidden_values`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cytolabe.models.extras import import_extra
from cytolabe.models.learning import run_training
from cytolabe.models.protocols import QueryView, TrainView
from cytolabe.models.scgpt.embedder import FittedScgpt
from cytolabe.models.scgpt.hidden_values import HiddenErrors
from cytolabe.models.scgpt.learning import learned, prepare
from cytolabe.models.scgpt.source import Learning
from cytolabe.models.scopes import fit_scope
from cytolabe.models.training_means import ALONE, TrainingMeans
from cytolabe.models.training_state import Progress, Step
from cytolabe.records import ModelCard, Protocol

__all__ = ["Pretrained", "ScgptPretrainer"]


class Pretrained(NamedTuple):
    """A network that was trained, how that went, how many cells chose when to stop, and what their hidden values cost."""

    fitted: FittedScgpt
    progress: Progress
    n_held_out: int
    errors: HiddenErrors | None


@dataclass(frozen=True, kw_only=True)
class ScgptPretrainer:
    """Embedder by a network that learns from the training cells alone."""

    learning: Learning
    card: ModelCard

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScgpt:  # noqa: ARG002 - not read
        """Train on the cells of the train view; labels are not read.

        Raises
        ------
        RefusedError
            If too few cells have counts, or the genes are those of a panel.
        """
        if self.card.protocol is Protocol.CONTROL:
            return self._untrained(train, seed=seed)
        return self.trained(train, seed=seed).fitted

    def _untrained(self, train: TrainView, *, seed: int) -> FittedScgpt:
        """Return the network that a training would start from: the same reading of cells, and nothing learned."""
        rows = np.arange(len(train.cell_ids))
        prepared = prepare(replace(self.learning, held_out_fraction=0.0), train, rows=rows, seed=seed, fields={})
        scope = fit_scope("scgpt/vocabulary", train.cell_ids)
        model = learned(prepared.model, protocol=self.card.protocol, scopes=(scope,))
        return FittedScgpt(
            model=model,
            tokenizer=prepared.tokenizer,
            seed=seed,
            scopes=model.origin.scopes,
            training_notes=tuple(note for note in prepared.notes if note.startswith("a panel")),
        )

    def trained(
        self,
        train: TrainView,
        *,
        seed: int,
        on_step: Callable[[Step], None] = lambda _: None,
        means: TrainingMeans = ALONE,
    ) -> Pretrained:
        """Return what `fit` returns, with the loss of every step; `means` says whose processes train."""
        import_extra("torch")
        from cytolabe.models.scgpt.tasks import GenerativeTask  # noqa: PLC0415 - needs torch to be imported

        # A checkpoint generates as it was trained to; a fresh network projects what generated genes gather.
        fields = {} if self.learning.checkpoint else {"generation": "projected", "mvc_style": "inner product"}
        rows = np.arange(len(train.cell_ids))
        prepared = prepare(self.learning, train, rows=rows, seed=seed, fields=fields)
        task = GenerativeTask(
            network=prepared.model.network,
            cells=prepared.cells,
            fit_rows=prepared.fit_rows,
            held_rows=prepared.held_rows,
            seed=seed,
            tokens_per_minibatch=self.learning.tokens_per_minibatch,
        )
        progress, told = run_training(self.learning, task, seed=seed, on_step=on_step, means=means)
        errors = task.held_out_errors()
        scope = fit_scope("scgpt/generation", train.cell_ids)
        model = learned(prepared.model, protocol=self.card.protocol, scopes=(scope,))
        fitted = FittedScgpt(
            model=model,
            tokenizer=prepared.tokenizer,
            seed=seed,
            scopes=model.origin.scopes,
            is_trained_here=True,
            training_notes=(*prepared.notes, told, *([errors.told] if errors else [])),
        )
        return Pretrained(fitted, progress, len(prepared.held_rows), errors)
