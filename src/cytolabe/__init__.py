"""Cytolabe turns contributed single-cell data sets into frozen, audited snapshots and tells what a model learned.

The stages, in the order of the flow, are sub-packages: `ingest`, `standardize`, `validate`, `reconcile`, `snapshot`,
`split`, `audit`, `models` / `apply`, `evaluate`, `report`. Importing this package loads none of them (PEP 562).
"""

TYPE_CHECKING = False  # typing itself would cost as much as everything else here
if TYPE_CHECKING:
    from cytolabe.snapshot.atlas import Atlas, Snapshot
    from cytolabe.snapshot.atlas import open_atlas as open  # noqa: A004

__version__ = "0.1.0"
__all__ = ["Atlas", "Snapshot", "__version__", "open"]

_LAZY = {"Atlas": "Atlas", "Snapshot": "Snapshot", "open": "open_atlas"}


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _LAZY:
        msg = f"module 'cytolabe' has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module("cytolabe.snapshot.atlas"), _LAZY[name])


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
