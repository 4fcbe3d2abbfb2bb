"""What turns states into answers: values of masked genes (GEP, MVC), classes, and the batch that a cell betrays.

Weights are named as in the published checkpoints. A decoder with `explicit_zero` also says with which probability a
value is not zero. Import it only where torch is there (extra `[models]`).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cytolabe.models.scgpt.configuration import ScgptConfig

__all__ = ["Adversary", "CellDecoder", "ClassDecoder", "Decoded", "ValueDecoder", "reversed_gradient"]

_QUERY_DIMS = 64  # of the two query styles of the published MVC decoder


class Decoded(NamedTuple):
    """Values of tokens, and the probability that each is not zero, where the network says it."""

    values: Float[Tensor, "cells tokens"]
    nonzero: Float[Tensor, "cells tokens"] | None


def _perceptron(d_in: int, d_model: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(d_in, d_model), nn.LeakyReLU(), nn.Linear(d_model, d_model), nn.LeakyReLU(), nn.Linear(d_model, 1)
    )


class ValueDecoder(nn.Module):  # type: ignore[misc]
    """Value of each token from its own state (GEP)."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        d_in = config.d_model * (2 if config.batch_input or config.n_modalities else 1)
        self.fc = _perceptron(d_in, config.d_model)
        if config.explicit_zero:
            self.zero_logit = _perceptron(d_in, config.d_model)
        self.explicit_zero = config.explicit_zero

    def forward(self, states: Float[Tensor, "cells tokens dims"]) -> Decoded:
        """Return one value per token."""
        nonzero = torch.sigmoid(self.zero_logit(states).squeeze(-1)) if self.explicit_zero else None
        return Decoded(self.fc(states).squeeze(-1), nonzero)


class CellDecoder(nn.Module):  # type: ignore[misc]
    """Value of each gene from the cell embedding alone (MVC), asked by the embedding of the gene."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        wide = config.d_model * (2 if config.batch_input or config.n_modalities else 1)
        d_gene = wide if config.n_modalities else config.d_model
        self.style, self.explicit_zero = config.mvc_style, config.explicit_zero
        if self.style.startswith("inner product"):
            self.gene2query = nn.Linear(d_gene, d_gene)
            self.W = nn.Linear(d_gene, wide, bias=False)
            if self.explicit_zero:
                self.W_zero_logit = nn.Linear(d_gene, wide)
            return
        d_query = _QUERY_DIMS if self.style == "concat query" else d_gene
        self.gene2query = nn.Linear(d_gene, d_query)
        self.fc1 = nn.Linear(d_gene + _QUERY_DIMS if self.style == "concat query" else d_gene, _QUERY_DIMS)
        self.hidden_activation = nn.PReLU()
        self.fc2 = nn.Linear(_QUERY_DIMS, 1)

    def forward(self, cells: Float[Tensor, "cells wide"], genes: Float[Tensor, "cells tokens dims"]) -> Decoded:
        """Return one value per cell and gene."""
        if self.style.endswith("detach"):
            genes = genes.detach()
        query = torch.sigmoid(self.gene2query(genes))
        if self.style.startswith("inner product"):
            values = torch.einsum("ctd,cd->ct", self.W(query), cells)
            if not self.explicit_zero:
                return Decoded(values, None)
            return Decoded(values, torch.sigmoid(torch.einsum("ctd,cd->ct", self.W_zero_logit(query), cells)))
        asked = cells.unsqueeze(1)
        if self.style == "sum query":
            hidden = self.fc1(asked + query)
        else:
            hidden = self.fc1(torch.cat([asked.expand(-1, query.shape[1], -1), query], dim=2))
        return Decoded(self.fc2(self.hidden_activation(hidden)).squeeze(-1), None)


class _Classifier(nn.Module):  # type: ignore[misc]
    """Hidden layers with activation and normalization, then logits."""

    def __init__(self, d_model: int, n_classes: int, *, n_layers: int, activation: type) -> None:
        super().__init__()
        hidden: list[Any] = []
        for _ in range(n_layers - 1):
            hidden += [nn.Linear(d_model, d_model), activation(), nn.LayerNorm(d_model)]
        self._decoder = nn.ModuleList(hidden)
        self.out_layer = nn.Linear(d_model, n_classes)

    def forward(self, cells: Float[Tensor, "cells dims"]) -> Float[Tensor, "cells classes"]:
        """Return logits."""
        for layer in self._decoder:
            cells = layer(cells)
        return self.out_layer(cells)


class ClassDecoder(_Classifier):
    """Classes of cells (CLS)."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__(config.d_model, config.n_classes, n_layers=config.n_layers_cls, activation=nn.ReLU)


class Adversary(_Classifier):
    """Batch of cells (DAB): it learns to tell the batch, and its gradient makes the cell embedding hide it."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__(config.d_model, config.n_batches, n_layers=3, activation=nn.LeakyReLU)

    def forward(self, cells: Float[Tensor, "cells dims"]) -> Float[Tensor, "cells batches"]:
        """Return logits of batches; the gradient comes back with its sign changed."""
        return super().forward(reversed_gradient(cells))


class _Reversal(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401, ARG004 - torch's own signature
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        return gradient.neg()


def reversed_gradient(values: Tensor) -> Tensor:
    """Return the values as they are; their gradient comes back negated (Ganin and Lempitsky 2015)."""
    return _Reversal.apply(values)
