"""What scGPT is trained for, as functions of its answers: each gives the mean loss of a minibatch.

GEP and MVC are mean squared errors over masked (or generated) tokens, with the likelihood of zero where the network
says it; ECS pushes cells apart that are less alike than a threshold and together that are more; CCE wants two passes
of a cell (other dropout) to be each other's nearest; DAB is the cross-entropy of the batch behind a reversed gradient.
Formulas: scgpt/loss.py and scgpt/model/model.py. Import it only where torch is there (extra `[models]`).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

__all__ = ["contrast", "elastic_similarity", "masked_squares", "told_batch", "zero_likelihood"]

_CONTRAST_TEMPERATURE = 0.5


def masked_squares(
    predicted: Float[Tensor, "cells tokens"],
    target: Float[Tensor, "cells tokens"],
    masked: Bool[Tensor, "cells tokens"],
) -> Float[Tensor, ""]:
    """Return the mean squared error over masked tokens; 0 where none is masked."""
    return ((predicted - target).square() * masked).sum() / masked.sum().clamp(min=1)


def zero_likelihood(
    nonzero: Float[Tensor, "cells tokens"], target: Float[Tensor, "cells tokens"], masked: Bool[Tensor, "cells tokens"]
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood, over masked tokens, of which values are above zero."""
    losses = functional.binary_cross_entropy(nonzero, (target > 0).to(nonzero.dtype), reduction="none")
    return (losses * masked).sum() / masked.sum().clamp(min=1)


def elastic_similarity(cells: Float[Tensor, "cells dims"], *, threshold: float) -> Float[Tensor, ""]:
    """Return the ECS loss, `mean(1 - (relu(cos_ij) - threshold)^2)` over all pairs with cos_ii = 0; lower is more apart."""
    unit = functional.normalize(cells, dim=1)
    cosine = (unit @ unit.T) * (1 - torch.eye(len(cells), dtype=cells.dtype, device=cells.device))
    return (1 - (functional.relu(cosine) - threshold).square()).mean()


def contrast(
    cells: Float[Tensor, "cells dims"],
    again: Float[Tensor, "cells dims"],
    *,
    temperature: float = _CONTRAST_TEMPERATURE,
) -> Float[Tensor, ""]:
    """Return the CCE loss: which of the second pass is the same cell, by cosine over temperature."""
    cosine = functional.normalize(cells, dim=1) @ functional.normalize(again, dim=1).T
    return functional.cross_entropy(cosine / temperature, torch.arange(len(cells), device=cells.device))


def told_batch(logits: Float[Tensor, "cells batches"], batches: Int[Tensor, " cells"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of the batch (DAB); its gradient reaches the cell embedding reversed."""
    return functional.cross_entropy(logits, batches)
