"""What annotates cells of files, whatever it is: scores of classes and a distance for each cell."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from numpy import ndarray

from cytolabe.models.protocols import QueryView
from cytolabe.records import ModelCard

__all__ = ["ScoringModel"]


@runtime_checkable
class ScoringModel(Protocol):
    """A model of the labelled cells of an atlas: one that was fitted on them here, or one that was trained on others of them before."""

    @property
    def genes(self) -> tuple[str, ...]:
        """The genes of the views that it takes, in their order."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What its scores are of, sorted."""
        ...

    @property
    def card(self) -> ModelCard:
        """What the model needs and has seen."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """Digests, layer, pooling and what else decides an answer, by name."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        ...

    @property
    def collapse(self) -> str:
        """How the embedding of the training cells collapsed, if it did."""
        ...

    def annotate(self, view: QueryView) -> tuple[Float[ndarray, "cells classes"], Float[ndarray, " cells"]]:
        """Return the scores of each cell (minus infinity for a class that is not known), and its distance to training."""
        ...
