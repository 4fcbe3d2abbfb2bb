"""How many molecules of introns and of exons each cell has, where a file counts both in layers of their own.

An atlas keeps one matrix of counts. Of the layers that velocyto, STARsolo, alevin-fry or kb write beside it, the total per cell
is kept, because the nuclear fraction rests on it (rule R10): as two columns beside the contributor's, whose names nobody
writes by accident. Layers that were normalized or smoothed hold no molecules; they are named and left out.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Int

from cytolabe.errors import RefusedError
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.tally import MatrixTally
from cytolabe.records import LAYER_COUNTS, Finding, Severity

__all__ = ["intron_layers", "layer_counts", "with_layer_counts"]

_PAIRS = (("unspliced", "spliced"), ("nascent", "mature"), ("intronic", "exonic"), ("intron", "exon"))
"""Layers of introns and of exons as pipelines call them; what is ambiguous between the two is in neither."""
_LAYERS = "layers/"


def intron_layers(matrices: Iterable[str]) -> tuple[str, ...] | None:
    """Return the matrices of introns and of exons among the names of a file's matrices, or None where it has no pair.

    More than two are names that differ only in case: which of them is meant is not said.
    """
    by_name: dict[str, list[str]] = {}
    for name in matrices:
        if name.startswith(_LAYERS):
            by_name.setdefault(name.removeprefix(_LAYERS).lower(), []).append(name)
    return next(((*by_name[a], *by_name[b]) for a, b in _PAIRS if a in by_name and b in by_name), None)


def layer_counts(
    matrices: Mapping[str, MatrixHandle],
    tallies: Mapping[str, MatrixTally],
    tally_of: Callable[[MatrixHandle], MatrixTally],
) -> tuple[Mapping[str, Int[np.ndarray, " cells"]], tuple[Finding, ...]]:
    """Return what each cell counts in the layers of introns and exons (`unspliced`, `spliced`), in this order.

    Parameters
    ----------
    matrices
        The matrices of the file by name.
    tallies
        What one pass found of those that were read; a declared matrix leaves the others unread.
    tally_of
        Runs that pass over another one.

    Returns
    -------
    tuple
        Totals by role, empty where the file has no such pair of whole numbers; and what is to be said.
    """
    pair = intron_layers(matrices)
    if pair is None:
        return {}, ()
    if len(pair) > 2:
        return {}, (_told(pair, "have names that differ only in case, so which of them are meant is not said"),)
    try:
        found = [tallies[name] if name in tallies else tally_of(matrices[name]) for name in pair]
    except RefusedError as error:
        return {}, (_told(pair, f"cannot be read ({error})"),)
    if not all(tally.is_integer for tally in found):
        return {}, (_told(pair, "are not both whole numbers"),)
    return {role: tally.cell_totals for role, tally in zip(_PAIRS[0], found, strict=True)}, ()


def _told(pair: tuple[str, ...], why: str) -> Finding:
    return Finding(
        code="N-COUNTS-12",
        severity=Severity.NOTE,
        where=", ".join(pair),
        n_affected=len(pair),
        n_total=len(pair),
        message=f"The layers {', '.join(pair[:-1])} and {pair[-1]} {why}: they tell no nuclear fraction.",
        remedy="Deliver one layer of introns and one of exons as counts, before normalization and smoothing.",
        rule="cytolabe/counts",
    )


def with_layer_counts(table: pd.DataFrame, totals: Mapping[str, Int[np.ndarray, " cells"]]) -> pd.DataFrame:
    """Return the columns of a contributor with those totals as `layer_counts.<role>`; a column of that name stays his."""
    own = {f"{LAYER_COUNTS}{role}": values for role, values in totals.items()}
    new = {name: np.asarray(values, dtype=np.int64) for name, values in own.items() if name not in table}
    return table.assign(**new) if new else table
