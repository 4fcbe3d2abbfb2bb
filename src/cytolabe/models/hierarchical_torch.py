"""The loss of `hierarchical` for networks: the same numbers, differentiated by torch.

Import it only where torch is there (extra `[models]`); nothing else imports it.
"""

from typing import TYPE_CHECKING

import numpy as np

from cytolabe.models.extras import import_extra
from cytolabe.ontology.hierarchy import Hierarchy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["hierarchical_costs_torch", "hierarchical_cross_entropy_torch"]


def hierarchical_cross_entropy_torch(scores: "Tensor", codes: "Tensor", hierarchy: Hierarchy) -> "Tensor":
    """Return the mean hierarchical cross-entropy of a minibatch, as a scalar with a gradient.

    Parameters
    ----------
    scores
        Logits, cells x classes.
    codes
        Per cell the row of `hierarchy.covers` that is its label (`Hierarchy.codes`).
    hierarchy
        Which classes each label stands for.
    """
    return hierarchical_costs_torch(scores, codes, hierarchy).mean()


def hierarchical_costs_torch(scores: "Tensor", codes: "Tensor", hierarchy: Hierarchy) -> "Tensor":
    """Return the hierarchical cross-entropy of each cell, with a gradient; parameters as of the mean."""
    torch = import_extra("torch")
    covers = torch.as_tensor(np.ascontiguousarray(hierarchy.covers), device=scores.device)
    inside = scores.masked_fill(~covers[codes], float("-inf"))
    return torch.logsumexp(scores, dim=1) - torch.logsumexp(inside, dim=1)
