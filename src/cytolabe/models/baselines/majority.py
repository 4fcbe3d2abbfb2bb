"""The lowest floor: every cell gets the class shares of the training cells.

Its accuracy is the share of the most frequent training class among the test cells; its macro-F1 is close to
1 / number of classes times that. A model that does not beat it has learned nothing that helps.
"""

from dataclasses import dataclass, field

import numpy as np

from cytolabe.errors import RefusedError
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import AnnotatorOutput, QueryView, TrainView
from cytolabe.models.scopes import fit_scope
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedMajority", "Majority", "labelled_cells"]


def labelled_cells(train: TrainView) -> np.ndarray:
    """Return the positions of labelled cells; an empty label is no class (rule R4).

    Raises
    ------
    RefusedError
        If no cell has a label.
    """
    labelled = np.flatnonzero(train.labels.astype(str) != "")
    if labelled.size == 0:
        msg = f"None of {train.labels.size} training cells has a label at this resolution: there is nothing to learn."
        raise RefusedError(msg)
    return labelled


@dataclass(frozen=True, kw_only=True)
class FittedMajority:
    """Class shares of the training cells."""

    classes: tuple[str, ...]
    shares: np.ndarray
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...] = ()

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return the same shares for each cell."""
        probability = np.tile(self.shares, (len(query.cell_ids), 1))
        return AnnotatorOutput(classes=self.classes, probability=probability)


@dataclass(frozen=True, kw_only=True)
class Majority:
    """Annotator that reads nothing of a cell."""

    card: ModelCard = field(default=CARDS["majority"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedMajority:  # noqa: ARG002
        """Count the classes of the labelled training cells."""
        labelled = labelled_cells(train)
        classes, n_cells = np.unique(train.labels[labelled].astype(str), return_counts=True)
        return FittedMajority(
            classes=tuple(classes.tolist()),
            shares=n_cells / n_cells.sum(),
            scopes=(fit_scope("majority", train.cell_ids),),
        )
