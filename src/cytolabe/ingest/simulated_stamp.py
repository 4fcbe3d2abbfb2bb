"""Whether the cells of a file are made up, as the file itself says (rule R7): asked of every file, labels or none.

Two marks are a stamp, which no declaration takes away: `uns["simulated"]`, and a column that says where labels come from
(`label_source`) with the one word "simulated". A sentence in such a column that only speaks of a simulation is a hint:
it counts where nothing is declared, and a declaration overrides it. A stamp on a part of the cells is an error, because
simulated and real cells of one data set could no more be kept apart by any later step.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.ingest.column_names import normalized
from cytolabe.ingest.label_origin import MADE_UP, SOURCE_COLUMN
from cytolabe.records import UNKNOWN, Finding, Severity

__all__ = ["SIMULATED", "SimulatedStamp", "simulated_stamp"]

SIMULATED = "simulated"


@dataclass(frozen=True, kw_only=True)
class SimulatedStamp:
    """Whether the cells of a file are simulated, by which evidence, and what has to be told of it."""

    is_simulated: bool = False
    evidence: str = ""
    findings: tuple[Finding, ...] = field(default=())


def simulated_stamp(table: pd.DataFrame, uns_keys: Iterable[str], *, declared: str = "") -> SimulatedStamp:
    """Look for what says that cells are made up.

    Parameters
    ----------
    table
        Columns as delivered, one row per cell.
    uns_keys
        Names of what is said beside the tables and not denied there.
    declared
        The origin of labels that the manifest gives.
    """
    n_cells = len(table)
    told = declared or UNKNOWN
    names = [str(name) for name in table.columns if SOURCE_COLUMN.fullmatch(normalized(str(name)))]
    marks = {name: _marks(table[name]) for name in names}
    for name, (is_stamped, _, _) in marks.items():
        n_stamped = int(is_stamped.sum())
        if 0 < n_stamped < n_cells:
            return SimulatedStamp(
                is_simulated=True, evidence=f"{name!r} says 'simulated' of {n_stamped:,} of {n_cells:,} cells",
                findings=(_mixed(name, n_stamped, n_cells),),
            )  # fmt: skip
    if SIMULATED in uns_keys:
        return _whole("uns['simulated'] is there", "uns['simulated']", told, n_cells=n_cells)
    # All columns are asked for a stamp before any is for a hint: a hint that a declaration overrides hides no stamp.
    for name, (is_stamped, _, words) in marks.items():
        if n_cells and is_stamped.all():
            return _whole(f"{name!r} says {words[0]!r}", f"obs[{name!r}]", told, n_cells=n_cells)
    for name, (_, is_hinted, words) in marks.items():
        if is_hinted.any():
            counts = int(is_hinted.sum()), n_cells
            return _hinted(f"{name!r} says {words[0]!r}", f"obs[{name!r}]", told, counts=counts)
    return SimulatedStamp()


def _marks(values: pd.Series) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return which cells a column stamps, which it hints at, and what it says of these, each once."""
    codes, levels = pd.factorize(values, use_na_sentinel=True)
    words = [str(level) for level in levels]
    is_stamp = np.array([*(word.strip().casefold() == SIMULATED for word in words), False])
    is_hint = np.array([*(MADE_UP.search(word) is not None for word in words), False])
    return is_stamp[codes], is_hint[codes], [word for word, hints in zip(words, is_hint, strict=False) if hints]


def _whole(evidence: str, where: str, declared: str, *, n_cells: int) -> SimulatedStamp:
    if declared == SIMULATED:
        return SimulatedStamp(is_simulated=True, evidence=evidence)
    is_against = declared != UNKNOWN
    said = (
        f"The labels are declared {declared}, yet {evidence}" if is_against else f"{evidence[0].upper()}{evidence[1:]}"
    )
    finding = _finding(
        "W-ORIGIN-02" if is_against else "N-ORIGIN-03",
        where,
        message=f"{said}: the cells are simulated, and stand in no score with real ones.",
        remedy="Declare it: label_origin = 'simulated'. If they are real, take the mark out of the file.",
        counts=(n_cells, n_cells),
    )
    return SimulatedStamp(is_simulated=True, evidence=evidence, findings=(finding,))


def _hinted(evidence: str, where: str, declared: str, *, counts: tuple[int, int]) -> SimulatedStamp:
    if declared == SIMULATED:
        return SimulatedStamp(is_simulated=True, evidence=evidence)
    if declared != UNKNOWN:
        finding = _finding(
            "N-ORIGIN-03",
            where,
            message=f"{evidence[0].upper()}{evidence[1:]}, and the labels are declared {declared}: the cells count as real.",
            remedy="If the cells are made up, declare label_origin = 'simulated'.",
            counts=counts,
        )
        return SimulatedStamp(findings=(finding,))
    finding = _finding(
        "N-ORIGIN-03",
        where,
        message=f"{evidence[0].upper()}{evidence[1:]}: all cells of the file count as simulated, and stand in no score with real ones.",
        remedy="If they are real, say in the manifest where their labels come from: label_origin = 'manual', for example.",
        counts=counts,
    )
    return SimulatedStamp(is_simulated=True, evidence=evidence, findings=(finding,))


def _mixed(name: str, n_stamped: int, n_cells: int) -> Finding:
    return _finding(
        "E-ORIGIN-04",
        f"obs[{name!r}]",
        message=(
            f"{n_stamped:,} of {n_cells:,} cells are simulated and the others are not said to be. Simulated cells are kept out of "
            "scores with real ones by whole data sets, so the two cannot lie in one."
        ),
        remedy="Write the simulated cells and the real ones into a file each, and ingest both.",
        counts=(n_stamped, n_cells),
    )


def _finding(code: str, where: str, *, message: str, remedy: str, counts: tuple[int, int]) -> Finding:
    severity = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}[code[0]]
    return Finding(
        code=code,
        severity=severity,
        where=where,
        n_affected=counts[0],
        n_total=counts[1],
        message=message,
        remedy=remedy,
        rule="R7",
    )
