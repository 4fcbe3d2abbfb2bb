"""Marker purity of labels: in which share of the cells of a gate the markers of its lineage show (rule R7).

Sorting is a gate, not truth, and a shallow cell misses markers by chance: beside the share in the gate stands that in
the cells of other lineages, weighted to the depths of the gate, and a marker that the file does not measure is
`unmeasured`. A label that is mapped to no term, or to one without markers here, is listed as such.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from cytolabe.ontology.graph import Ontology
from cytolabe.quality.panel import Lineage, QualityPanel
from cytolabe.records import UNKNOWN

__all__ = ["PURITY_COLUMNS", "LabelledCells", "marker_purity"]

PURITY_COLUMNS = (
    "contributor_label", "term", "lineage", "marker", "state", "n_cells", "detected_fraction", "n_elsewhere",
    "elsewhere_fraction",
)  # fmt: skip
_ANY = "any"
"""The row of a lineage that counts a cell with any of its measured markers."""
_N_DEPTHS = 10


class _Gate(NamedTuple):
    """The cells of one label under one term."""

    label: str
    term: str
    rows: np.ndarray


@dataclass(frozen=True, kw_only=True)
class LabelledCells:
    """Cells of one data set: the bits of their markers, their depth, label and term (`unknown` where none)."""

    markers: Int[np.ndarray, " cells"]
    n_counts: Int[np.ndarray, " cells"]
    labels: Shaped[np.ndarray, " cells"]
    terms: Shaped[np.ndarray, " cells"]


def marker_purity(
    cells: LabelledCells, panel: QualityPanel, ontology: Ontology, *, measured: Sequence[str]
) -> pd.DataFrame:
    """Return `PURITY_COLUMNS`: for each label and lineage a row per marker, and one for any of them.

    Parameters
    ----------
    measured
        Genes that the data set measures.
    """
    known = set(measured)
    lineages = {str(term): panel.lineages_of(str(term), ontology) for term in set(cells.terms.tolist())}
    rows: list[tuple[object, ...]] = []
    for label in sorted(set(cells.labels.tolist()) - {""}):
        in_gate = cells.labels == label
        for term in sorted(set(cells.terms[in_gate].tolist())):
            gate = _Gate(str(label), str(term), in_gate & (cells.terms == term))
            rows += _rows_of_gate(cells, gate, panel, lineages=lineages, known=known)
    return pd.DataFrame(rows, columns=list(PURITY_COLUMNS))


def _rows_of_gate(
    cells: LabelledCells,
    gate: _Gate,
    panel: QualityPanel,
    *,
    lineages: Mapping[str, tuple[Lineage, ...]],
    known: Collection[str],
) -> list[tuple[object, ...]]:
    n_cells = int(gate.rows.sum())
    if not lineages[gate.term]:
        state = "not_mapped" if gate.term == UNKNOWN else "no_markers"
        return [(gate.label, gate.term, "", "", state, n_cells, None, 0, None)]
    rows: list[tuple[object, ...]] = []
    for lineage in lineages[gate.term]:
        inside = {name for name, own in lineages.items() if lineage in own}
        other = ~np.isin(cells.terms, [*inside, UNKNOWN])
        measured = [gene for gene in lineage.genes if gene in known]
        for gene in lineage.genes:
            here: tuple[object, ...] = (gate.label, gate.term, lineage.name, panel.symbols[gene])
            if gene in known:
                rows.append((*here, "measured", *_shares(cells, gate.rows, other, bits=panel.bits([gene]))))
            else:
                rows.append((*here, "unmeasured", n_cells, None, 0, None))
        if len(measured) > 1:
            shares = _shares(cells, gate.rows, other, bits=panel.bits(measured))
            rows.append((gate.label, gate.term, lineage.name, _ANY, "measured", *shares))
    return rows


def _shares(
    cells: LabelledCells, gate: np.ndarray, other: np.ndarray, *, bits: int
) -> tuple[int, float, int, float | None]:
    """Return the share of the gate that shows any of the markers, and that of other lineages at the depths of the gate."""
    is_seen = (cells.markers & bits) != 0
    edges = np.quantile(cells.n_counts[gate], np.linspace(0, 1, _N_DEPTHS + 1)[1:-1])
    depth = np.searchsorted(edges, cells.n_counts, side="right")
    of_gate = np.bincount(depth[gate], minlength=_N_DEPTHS).astype(float)
    of_other = np.bincount(depth[other], minlength=_N_DEPTHS)
    seen = np.bincount(depth[other & is_seen], minlength=_N_DEPTHS)
    weights = np.where(of_other > 0, of_gate, 0.0)
    elsewhere = None
    if weights.sum() > 0:
        elsewhere = float((weights * seen / np.maximum(of_other, 1)).sum() / weights.sum())
    return int(gate.sum()), float(is_seen[gate].mean()), int(of_other.sum()), elsewhere
