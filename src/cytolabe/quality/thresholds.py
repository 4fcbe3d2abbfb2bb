"""The thresholds of the flags, read from a versioned table: frozen before any cell is looked at."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from cytolabe.provenance import digest_of

__all__ = ["DoubletSettings", "Thresholds", "load_thresholds"]


@dataclass(frozen=True, kw_only=True)
class DoubletSettings:
    """How doublets are simulated and looked for; see `thresholds.toml`."""

    seed: int
    min_cells: int
    min_genes_measured: int
    n_deviations: float
    at_least: float
    max_reference: int
    pairs_per_cell: int
    n_genes: int
    min_genes: int
    min_cells_per_gene: int
    n_axes: int
    neighbors_per_root: float
    expected_rate: float


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """One version of all thresholds; `digest` is over their values."""

    name: str
    digest: str
    library_min_cells: int
    n_deviations: float
    min_counts: int
    min_genes: int
    mt_at_least: float
    mt_always_above: float
    mt_whole_from: int
    nuclear_at_most: float
    whole_upstream_from: float
    whole_min_genes: int
    doublet: DoubletSettings


@cache
def load_thresholds() -> Thresholds:
    """Read the thresholds that come with the package."""
    text = resources.files("cytolabe.quality").joinpath("thresholds.toml").read_text(encoding="utf-8")
    return _thresholds(tomllib.loads(text))


def _thresholds(document: Mapping[str, Any]) -> Thresholds:
    return Thresholds(
        name=str(document["name"]),
        digest=digest_of(document),
        library_min_cells=int(document["library"]["min_cells"]),
        n_deviations=document["library"]["n_deviations"],
        min_counts=document["low_counts"]["at_least"],
        min_genes=document["low_genes"]["at_least"],
        mt_at_least=document["high_mt"]["at_least"],
        mt_always_above=document["high_mt"]["always_above"],
        mt_whole_from=int(document["high_mt"]["whole_from"]),
        nuclear_at_most=document["low_nuclear"]["at_most"],
        whole_upstream_from=document["whole"]["upstream_from"],
        whole_min_genes=int(document["whole"]["min_genes_measured"]),
        doublet=DoubletSettings(**document["doublet"]),
    )
