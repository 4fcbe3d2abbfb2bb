"""Heads on the trunk of a Geneformer: classes of cells, for one task or several, and classes of genes.

The published ones: for one task of cells position 0 goes through BERT's pooler (a layer with tanh), for several it is
read as it is or pooled by attention; for genes every position has its own answer. In the first generation position 0 is
the gene that ranks highest, because there is no `<cls>`. One deviation: attention passes over what only fills up, which
the published layer attends to as well, so that the answer of a cell depended on the longest of its minibatch.

New layers start as BERT's do, from a generator that the run's seed names. Import it only where torch is there.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from cytolabe.errors import UsageError
from cytolabe.models.devices import placed
from cytolabe.models.geneformer.network import gene_positions, hidden_states
from cytolabe.randomness import derive_seed

__all__ = ["POOLINGS", "CellHeads", "GeneHead", "freeze", "make_heads"]

POOLINGS = ("pooler", "cls", "mean", "attention")
"""How a cell is pooled: position 0 through a layer, position 0, the mean over genes, or weights that are learned."""


class CellHeads(nn.Module):  # type: ignore[misc]
    """A trunk, one pooling, and a linear head for each task of cells."""

    def __init__(
        self,
        network: Any,  # noqa: ANN401 - untyped library
        *,
        n_classes: Sequence[int],
        pooling: str,
        has_frame: bool,
        weighting: Literal["fixed", "learned"] = "fixed",
    ) -> None:
        super().__init__()
        config = network.config
        self.config, self.pooling, self.has_frame = config, pooling, has_frame
        self.bert = copy.deepcopy(network.bert)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooling == "pooler" else None
        self.attention = nn.Linear(config.hidden_size, 1, bias=False) if pooling == "attention" else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, n) for n in n_classes)
        # log of the variance of each task: the weight of a task is exp(-that) (Kendall et al. 2018).
        self.log_variances = nn.Parameter(torch.zeros(len(n_classes))) if weighting == "learned" else None

    def forward(self, tokens: Any, stands: Any) -> list[Any]:  # noqa: ANN401 - tensors
        """Return the logits of each task: cells x classes, float32.

        Parameters
        ----------
        tokens, stands
            Cells x positions; `stands` is false where a cell is filled up on the right.
        """
        states = hidden_states(self, tokens, stands, n_layers=self.config.num_hidden_layers)
        pooled = self.dropout(self._pooled(states, stands))
        return [head(pooled).float() for head in self.heads]

    def _pooled(self, states: Any, stands: Any) -> Any:  # noqa: ANN401 - tensors
        if self.pooler is not None:
            return torch.tanh(self.pooler(states[:, 0]))
        if self.attention is not None:
            scores = self.attention(states)[..., 0].masked_fill(~stands, float("-inf"))
            return (states * torch.softmax(scores, dim=1)[..., None]).sum(dim=1)
        if self.pooling == "cls":
            return states[:, 0]
        genes = gene_positions(stands, has_frame=self.has_frame)
        return torch.where(genes[..., None], states, 0).sum(dim=1) / genes.sum(dim=1, keepdim=True).clamp(min=1)


class GeneHead(nn.Module):  # type: ignore[misc]
    """A trunk and a linear head at every position, as BertForTokenClassification."""

    def __init__(self, network: Any, *, n_classes: int) -> None:  # noqa: ANN401 - untyped library
        super().__init__()
        self.config = network.config
        self.bert = copy.deepcopy(network.bert)
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob)
        self.heads = nn.ModuleList([nn.Linear(self.config.hidden_size, n_classes)])

    def forward(self, tokens: Any, stands: Any, asked: Any) -> Any:  # noqa: ANN401 - tensors
        """Return the logits of the positions that are asked: asked x classes, float32."""
        states = hidden_states(self, tokens, stands, n_layers=self.config.num_hidden_layers)
        return self.heads[0](self.dropout(states[asked])).float()


def make_heads(
    kind: type[nn.Module],
    network: Any,  # noqa: ANN401 - untyped library
    *,
    seed: int,
    **options: object,
) -> Any:  # noqa: ANN401 - a module of torch
    """Return a trunk of its own with new layers on top, in evaluation mode; `network` is left as it is."""
    spread = network.config.initializer_range
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "models", "geneformer", "heads"))
        made = kind(network, **options)
        for name, part in made.named_modules():
            if isinstance(part, nn.Linear) and not name.startswith("bert."):
                nn.init.normal_(part.weight, std=spread)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
    return placed(made.eval())


def freeze(heads: Any, *, n_layers: int, has_embeddings: bool) -> None:  # noqa: ANN401 - a module of torch
    """Keep the first layers of a trunk as they are and, where asked, the embeddings of tokens and ranks.

    Raises
    ------
    UsageError
        If the trunk has fewer layers.
    """
    layers = heads.bert.encoder.layer
    if not 0 <= n_layers <= len(layers):
        msg = f"frozen_layers = {n_layers}: the network has {len(layers)} layers; 0 freezes none, {len(layers)} all."
        raise UsageError(msg)
    for part in (*layers[:n_layers], *([heads.bert.embeddings] if has_embeddings else [])):
        for weight in part.parameters():
            weight.requires_grad = False
