"""The floor that catches confounding: predict the cell type from assay, site and suspension type alone.

Where the technique of a cell predicts its label, a model can score high without reading a gene; a model that does not
beat this floor has shown nothing. It reads an allow-list (rule R12), never a column that may have been made from cell
types, and never `dataset_id` or `batch`: those levels are new in every honest test set.

Class shares are taken per combination of levels seen in training. A combination that was never seen, or of which
nothing is known, says nothing: such cells get the class shares of all training cells, with a note, and where that is
every cell of the query the floor is *not applicable*, which is an answer and not a failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.errors import UnseenLevelsError
from cytolabe.models.baselines.majority import labelled_cells
from cytolabe.models.cards import CARDS, METADATA_COLUMNS
from cytolabe.models.protocols import AnnotatorOutput, QueryView, TrainView
from cytolabe.models.scopes import fit_scope
from cytolabe.records import UNKNOWN, FitScope, ModelCard

__all__ = ["FittedMetadataOnly", "MetadataOnly"]

_Levels = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FittedMetadataOnly:
    """Class shares per combination of technical levels. `notes` grows with what a query brought."""

    classes: tuple[str, ...]
    shares: np.ndarray
    shares_by_level: Mapping[_Levels, np.ndarray]
    scopes: tuple[FitScope, ...]
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit and of the queries that it answered."""
        return tuple(self._met)

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return the class shares of each cell's combination of levels.

        Raises
        ------
        UnseenLevelsError
            If no cell of the query has a combination that was seen in training.
        """
        levels = _levels(query.technical)
        seen = np.array([level in self.shares_by_level for level in levels], dtype=bool)
        if not seen.any():
            examples = sorted({" / ".join(level) for level in levels})
            msg = (
                f"not applicable: test levels unseen. None of {len(levels)} cells has a combination of "
                f"{', '.join(METADATA_COLUMNS)} that training knows: {'; '.join(examples[:3])}."
            )
            raise UnseenLevelsError(msg)
        if not seen.all():
            self._met[f"metadata levels unseen for {int((~seen).sum())} of {seen.size} cells: class shares used"] = None
        probability = np.stack([self.shares_by_level.get(level, self.shares) for level in levels])
        return AnnotatorOutput(classes=self.classes, probability=probability)


@dataclass(frozen=True, kw_only=True)
class MetadataOnly:
    """Annotator that reads three technical columns and no gene."""

    card: ModelCard = field(default=CARDS["metadata_only"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedMetadataOnly:  # noqa: ARG002
        """Count the classes of the labelled training cells per combination of levels."""
        labelled = labelled_cells(train)
        classes, codes = np.unique(train.labels[labelled].astype(str), return_inverse=True)
        levels = _levels(train.technical.iloc[labelled])
        counts: dict[_Levels, np.ndarray] = {}
        for level, code in zip(levels, codes, strict=True):
            counts.setdefault(level, np.zeros(len(classes)))[code] += 1
        known = {level: n / n.sum() for level, n in sorted(counts.items()) if set(level) != {UNKNOWN}}
        return FittedMetadataOnly(
            classes=tuple(classes.tolist()),
            shares=np.bincount(codes, minlength=len(classes)) / len(codes),
            shares_by_level=known,
            scopes=(fit_scope("metadata_only", train.cell_ids),),
        )


def _levels(technical: pd.DataFrame) -> list[_Levels]:
    """Return the combination of allowed levels of each cell."""
    columns = [technical[column].astype(str).tolist() for column in METADATA_COLUMNS]
    return list(zip(*columns, strict=True))
