"""Where networks of torch compute: on a GPU (`cuda`) where torch finds one, else on processors. One rule for all that are native here.

Whatever a network reads follows it there, and what it answers comes back as arrays. Other devices (`mps`) are not taken.
"""

from typing import Any

from cytolabe.models.extras import import_extra

__all__ = ["fastest_device", "placed"]


def fastest_device() -> str:
    """Return `cuda` where torch finds a GPU, `cpu` otherwise."""
    return "cuda" if import_extra("torch").cuda.is_available() else "cpu"


def placed(network: Any) -> Any:  # noqa: ANN401 - a module of torch
    """Return the network where it computes fastest here."""
    return network.to(fastest_device())
