"""What decided a label: words and structure, or expression (rule R6b).

A term that was chosen because the cells express its markers would be recognized again by any model that reads the
same markers. So such a label may train, and is counted, but it is never truth on a held-out side.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from cytolabe.records import LabelMapping

__all__ = ["decided_by_expression", "is_by_expression"]

_EXPRESSION = ("expression", "instancebased")
"""How a mapping's justification names evidence from counts."""


def is_by_expression(mapping: LabelMapping) -> bool:
    """Tell whether a mapping's justification names evidence from counts."""
    return any(word in mapping.justification.lower() for word in _EXPRESSION)


def decided_by_expression(cells: pd.DataFrame, mappings: Sequence[LabelMapping]) -> Bool[np.ndarray, " cells"]:
    """Tell for each cell whether expression decided the term of its label.

    Parameters
    ----------
    cells
        A snapshot's table of cells.
    mappings
        The label mappings in force.
    """
    decided = {(m.dataset_id, m.contributor_label) for m in mappings if m.term and is_by_expression(m)}
    if not decided:
        return np.zeros(len(cells), dtype=bool)
    pairs = zip(cells["dataset_id"], cells["contributor_label"], strict=True)
    return np.array([pair in decided for pair in pairs], dtype=bool)
