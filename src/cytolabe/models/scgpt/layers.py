"""The encoder of scGPT in plain torch: one attention call with a mask, and weights named as the published torch layout.

A layer is a transformer layer with ReLU. Its `pre` form normalizes first and adds the residual to the *normalized*
states, as the published flash layer does. A generative pass puts perceived and generated tokens behind each other:
whom a token may look at is a mask, so one call covers both (`attention_mask`).

Import it only where torch is there (extra `[models]`).
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from cytolabe.models.scgpt.configuration import ScgptConfig

__all__ = ["Encoder", "attention_mask"]


def attention_mask(
    padding: Bool[Tensor, "cells tokens"], n_perceived: int | None = None
) -> Bool[Tensor, "cells 1 queries tokens"]:
    """Return which tokens may look at which: nobody at padding; a generated token at perceived ones and at itself.

    Parameters
    ----------
    padding
        True where there is no token.
    n_perceived
        How many tokens come first with their values; all without it. Then every token has the same view, and the axis
        of queries is 1 long.
    """
    allowed = ~padding[:, None, None, :]
    if n_perceived is None:
        return allowed
    n_tokens = padding.shape[1]
    sees = torch.zeros(n_tokens, n_tokens, dtype=torch.bool, device=padding.device)
    sees[:, :n_perceived] = True
    # Itself always, padding too: a row without any key has no softmax, and what padding gives is read by nobody.
    itself = torch.eye(n_tokens, dtype=torch.bool, device=padding.device)
    return (sees & allowed) | itself


class _Attention(nn.Module):  # type: ignore[misc]
    """Multi-head attention with one projection for query, key and value, in this order of rows."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.d_model, config.d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.d_model))
        self.out_proj = nn.Linear(config.d_model, config.d_model)
        self.n_heads, self.dropout = config.n_heads, config.dropped_attention
        self.projects_generated = config.generation != "original"
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        states: Float[Tensor, "cells tokens dims"],
        allowed: Tensor,
        n_perceived: int | None,
        *,
        n_asked: int | None = None,
    ) -> Float[Tensor, "cells asked dims"]:
        """Return what each token, or each of the first `n_asked`, gathers from those that it may look at."""
        query, key, value = self.projected(states) if n_asked is None else self._projected_for(states, n_asked)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)
        context = mixed.transpose(1, 2).flatten(2)
        if n_perceived is None or self.projects_generated:
            return self.out_proj(context)
        return torch.cat([self.out_proj(context[:, :n_perceived]), context[:, n_perceived:]], dim=1)

    def projected(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, each cells x heads x tokens x dims."""
        joint = functional.linear(states, self.in_proj_weight, self.in_proj_bias)
        parts = joint.unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def _projected_for(self, states: Tensor, n_asked: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries of the first tokens, and the keys and values of all."""
        n_dims = states.shape[2]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = functional.linear(states[:, :n_asked], weight[:n_dims], bias[:n_dims])
        joint = functional.linear(states, weight[n_dims:], bias[n_dims:])
        parts = joint.unflatten(2, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        return query.unflatten(2, (self.n_heads, -1)).transpose(1, 2), parts[0], parts[1]


class _Layer(nn.Module):  # type: ignore[misc]
    """Attention and a two-layer perceptron, each with residual and normalization."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config)
        self.linear1 = nn.Linear(config.d_model, config.d_hidden)
        self.linear2 = nn.Linear(config.d_hidden, config.d_model)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.norm: Literal["post", "pre"] = config.norm

    def forward(
        self, states: Tensor, allowed: Tensor, n_perceived: int | None, *, n_asked: int | None = None
    ) -> Tensor:
        """Return the states (cells x tokens x dims) of the next layer; of the first `n_asked` tokens alone where given."""
        if self.norm == "pre":
            states = self.norm1(states)
        gathered = self.dropout(self.self_attn(states, allowed, n_perceived, n_asked=n_asked))
        states = states[:, :n_asked] + gathered
        if self.norm == "pre":
            states = self.norm2(states)
            return states + self.dropout(self._perceptron(states))
        states = self.norm1(states)
        return self.norm2(states + self.dropout(self._perceptron(states)))

    def _perceptron(self, states: Tensor) -> Tensor:
        return self.linear2(self.dropout(functional.relu(self.linear1(states))))


class Encoder(nn.Module):  # type: ignore[misc]
    """All layers."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))

    def forward(
        self, states: Float[Tensor, "cells tokens dims"], padding: Bool[Tensor, "cells tokens"], n_perceived: int | None
    ) -> Float[Tensor, "cells tokens dims"]:
        """Return the states after the last layer; what stands at padding is undefined."""
        allowed = attention_mask(padding, n_perceived)
        for layer in self.layers:
            states = layer(states, allowed, n_perceived)
        return states

    def first_token(
        self, states: Float[Tensor, "cells tokens dims"], padding: Bool[Tensor, "cells tokens"]
    ) -> Float[Tensor, "cells 1 dims"]:
        """Return the state of the first token alone: the last layer is spared for all others, whose keys and values it needs."""
        allowed = attention_mask(padding)
        for layer in self.layers[:-1]:
            states = layer(states, allowed, None)
        last: Tensor = self.layers[-1](states, allowed, None, n_asked=1)
        return last

    def looked_at(self, states: Tensor, padding: Tensor, *, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states after a layer (1 is the first), and its queries and keys: cells x heads x tokens x dims."""
        allowed = attention_mask(padding)
        for before in self.layers[: layer - 1]:
            states = before(states, allowed, None)
        asked = self.layers[layer - 1]
        query, key, _ = asked.self_attn.projected(asked.norm1(states) if asked.norm == "pre" else states)
        return asked(states, allowed, None), query, key

    def attention_of_last(self, states: Tensor, padding: Tensor) -> Float[Tensor, "cells heads queries keys"]:
        """Return the attention weights of the last layer; rows sum to 1 over tokens that are no padding."""
        _, query, key = self.looked_at(states, padding, layer=len(self.layers))
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        return scores.masked_fill(~attention_mask(padding), float("-inf")).softmax(dim=-1)
