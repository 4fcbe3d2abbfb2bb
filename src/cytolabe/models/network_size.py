"""How large a network is: numbers of its weights, and how many of them the fit moved; and which weights they are.

Weights that are shared between two places of a network count once. What is no weight (statistics of a normalization,
positions that are computed) counts nowhere.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["NamedWeights", "NetworkSize", "Sized", "size_of"]


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """Numbers of single weights: all of a network, and those that the fit trained."""

    n_parameters: int
    n_trained: int


@runtime_checkable
class Sized(Protocol):
    """A fitted model that has a network."""

    @property
    def network_size(self) -> NetworkSize:
        """How many weights it has, and how many of them this fit trained."""
        ...


@runtime_checkable
class NamedWeights(Protocol):
    """A fitted model whose weights are told by a digest, so that no answer comes from a network that nobody can name."""

    @property
    def weights_digest(self) -> str:
        """Digest (`sha256:...`) of the file that the weights have, or would have."""
        ...


def size_of(network: Any, *, is_trained: bool) -> NetworkSize:  # noqa: ANN401 - a torch module
    """Count the weights of a network.

    Parameters
    ----------
    network
        A module of torch.
    is_trained
        Whether a fit moved its weights; those that are held fast (`requires_grad` is false) did not move then, either.
    """
    weights = list(network.parameters())
    moved = [weight for weight in weights if weight.requires_grad] if is_trained else []
    return NetworkSize(
        n_parameters=sum(int(weight.numel()) for weight in weights), n_trained=sum(int(w.numel()) for w in moved)
    )
