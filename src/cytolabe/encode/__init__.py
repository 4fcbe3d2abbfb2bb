"""From counts to what a model reads. Kernels shared by streams and models. Names are loaded on first use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cytolabe.encode.binning import value_bins
    from cytolabe.encode.dense import dense_panel
    from cytolabe.encode.keyed import keyed_uniforms, keys_of, sampled_entries
    from cytolabe.encode.normalize import log1p_cp10k
    from cytolabe.encode.ranks import RankRule, rank_tokens

__all__ = [
    "RankRule",
    "dense_panel",
    "keyed_uniforms",
    "keys_of",
    "log1p_cp10k",
    "rank_tokens",
    "sampled_entries",
    "value_bins",
]

_MODULE_OF = {
    "RankRule": "ranks",
    "dense_panel": "dense",
    "keyed_uniforms": "keyed",
    "keys_of": "keyed",
    "log1p_cp10k": "normalize",
    "rank_tokens": "ranks",
    "sampled_entries": "keyed",
    "value_bins": "binning",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use: kernels bring the compiler with them."""
    if name not in _MODULE_OF:
        msg = f"module 'cytolabe.encode' has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(f"cytolabe.encode.{_MODULE_OF[name]}"), name)
