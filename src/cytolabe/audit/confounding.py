"""Is biology confounded with technique? Answered per unit (donor, library), never per cell (rule R12).

For each scope (every data set, then all together) and each pair of a technical and a biological column: the distinct
(unit, technical level, biological level) triples form one table. From it, in this order:

* `estimable`: the graph of levels is connected, so that every biological contrast exists inside technical levels;
* Cramer's V, bias-corrected (Bergsma 2013, doi:10.1016/j.jkss.2012.10.002), and Theil's U(biological | technical):
  descriptive, they never refuse anything. V is undefined, not 0, when every unit is a level of its own;
* the status of a contrast made *inside* this scope. Whether a scope that is held out whole may be scored is a
  question of the claim, see `claims`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Integer
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from cytolabe.audit.units import is_known, library_keys, units_of
from cytolabe.records import Finding, ScoreStatus, Severity

__all__ = ["ConfoundingRow", "audit_confounding", "cramers_v", "theils_u"]

_TECHNICAL = ("dataset_id", "batch", "assay", "suspension_type", "site")
_BIOLOGICAL = ("cell_type", "disease", "sex", "tissue")
_FEW_UNITS = 3


@dataclass(frozen=True, kw_only=True)
class ConfoundingRow:
    """One technical column against one biological column in one scope; `dataset_id` is None over all data sets.

    `biological` is `contributor_label` where a data set has labels that nobody reconciled. `n_donors` is None where
    the unit is not the donor; `n_units` counts units with both values known. `cramers_v` and `theils_u` lie in
    [0, 1], or are None where they are undefined. `estimable` is True if every contrast between biological levels
    exists inside technical levels. `status` is that of a contrast made inside the scope: NOT_RUN where a column has
    fewer than two known levels.
    """

    dataset_id: str | None
    technical: str
    biological: str
    unit: str
    cramers_v: float | None
    theils_u: float | None
    n_donors: int | None
    n_units: int
    estimable: bool
    status: ScoreStatus
    reason: str


def audit_confounding(
    cells: pd.DataFrame,
    *,
    technical: Sequence[str] = _TECHNICAL,
    biological: Sequence[str] = _BIOLOGICAL,
) -> tuple[tuple[ConfoundingRow, ...], tuple[Finding, ...]]:
    """Measure how far biological columns follow technical ones, in each data set and over all.

    Parameters
    ----------
    cells
        A snapshot's table of cells.
    technical, biological
        Columns of the table.

    Returns
    -------
    Rows sorted by scope (all data sets last), and one finding per biological column that is nested in a technical
    one (`W-CONF-01`).
    """
    rows: list[ConfoundingRow] = []
    findings: list[Finding] = []
    for dataset_id, part in _scopes(cells):
        unit, units = units_of(part)
        for biology in biological:
            column = _biological_column(part, biology, dataset_id)
            for technique in technical:
                if technique == "dataset_id" and dataset_id is not None:
                    continue
                table = _triples(part, units, technical=technique, biological=column)
                row = _row(table, unit=unit, dataset_id=dataset_id, technical=technique, biological=column)
                rows.append(row)
                if _is_nested(table, row):
                    findings.append(_nested_finding(table, row))
    return tuple(rows), tuple(findings)


def cramers_v(table: Integer[np.ndarray, "rows columns"]) -> float | None:
    """Return the bias-corrected Cramer's V of a table of counts.

    Compares row and column classification; 0 = independent, 1 = one determines the other. None where it is
    undefined: one row, one column, or so few units that every level has its own (the corrected size of the smaller
    side is then 1). Bergsma 2013, doi:10.1016/j.jkss.2012.10.002. It hides which levels are confounded.
    """
    counts = _without_empty(table).astype(float)
    n, (r, k) = counts.sum(), counts.shape
    if min(r, k) < 2 or n < 2:
        return None
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi2 = float(((counts - expected) ** 2 / expected).sum() / n)
    phi2 = max(0.0, phi2 - (k - 1) * (r - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    if smaller <= 1e-12:
        return None
    return float(min(1.0, np.sqrt(phi2 / smaller)))


def theils_u(table: Integer[np.ndarray, "rows columns"]) -> float | None:
    """Return Theil's U(column | row): the share of the column's entropy that the row explains.

    0 = the row says nothing, 1 = it determines the column; None where the column has one level. Not corrected for
    small samples: with one unit per row it is 1 by construction.
    """
    counts = _without_empty(table).astype(float)
    if counts.size == 0 or counts.shape[1] < 2:
        return None
    total = _entropy(counts.sum(axis=0))
    inside = sum(row.sum() / counts.sum() * _entropy(row) for row in counts)
    return float(np.clip(1.0 - inside / total, 0.0, 1.0))


def _scopes(cells: pd.DataFrame) -> Iterator[tuple[str | None, pd.DataFrame]]:
    datasets = sorted(set(cells["dataset_id"].tolist()))
    for dataset_id in datasets:
        yield dataset_id, cells[cells["dataset_id"] == dataset_id]
    if datasets:
        yield None, cells


def _biological_column(part: pd.DataFrame, column: str, dataset_id: str | None) -> str:
    """Inside one data set the contributor's own labels serve where no term is known; across data sets they do not."""
    unmapped = column == "cell_type" and dataset_id is not None and not is_known(part["cell_type"]).any()
    return "contributor_label" if unmapped and is_known(part["contributor_label"]).any() else column


def _triples(part: pd.DataFrame, units: np.ndarray, *, technical: str, biological: str) -> pd.DataFrame:
    """Return the distinct (unit, technical, biological) levels with all three known."""
    levels = library_keys(part) if technical == "batch" else part[technical].to_numpy(dtype=object)
    table = pd.DataFrame({"unit": units, "technical": levels, "biological": part[biological].to_numpy(dtype=object)})
    known = is_known(part[technical]) & is_known(part[biological])
    triples: pd.DataFrame = table[known].drop_duplicates().sort_values(["unit", "technical", "biological"])
    return triples.reset_index(drop=True)


def _row(table: pd.DataFrame, *, unit: str, dataset_id: str | None, technical: str, biological: str) -> ConfoundingRow:
    counts = _cross_counts(table)
    n_units = int(table["unit"].nunique())
    comparable = min(counts.shape) >= 2
    estimable = comparable and _is_connected(counts)
    status, reason = _status(counts, comparable=comparable, estimable=estimable, unit=unit)
    return ConfoundingRow(
        dataset_id=dataset_id,
        technical=technical,
        biological=biological,
        unit=unit,
        cramers_v=cramers_v(counts),
        theils_u=theils_u(counts) if comparable else None,
        n_donors=n_units if unit == "donor" else None,
        n_units=n_units,
        estimable=estimable and cramers_v(counts) is not None,
        status=status,
        reason=reason,
    )


def _cross_counts(table: pd.DataFrame) -> Integer[np.ndarray, "technical biological"]:
    """Count units by technical and biological level, both sorted."""
    rows, technical = pd.factorize(table["technical"], sort=True)
    columns, biological = pd.factorize(table["biological"], sort=True)
    counts = np.zeros((len(technical), len(biological)), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def _status(counts: np.ndarray, *, comparable: bool, estimable: bool, unit: str) -> tuple[ScoreStatus, str]:
    n_technical, n_biological = counts.shape
    if not comparable:
        return ScoreStatus.NOT_RUN, f"{n_technical} technical and {n_biological} biological level(s) are known"
    if not estimable:
        return ScoreStatus.REFUSED, "levels fall into groups that never meet: no contrast exists across them"
    if cramers_v(counts) is None:
        return ScoreStatus.QUALIFIED, f"so few {unit}s per level that the association is undefined"
    off_diagonal = int(counts.sum() - counts.max(axis=1).sum())
    if off_diagonal < _FEW_UNITS:
        return ScoreStatus.QUALIFIED, f"only {off_diagonal} {unit}(s) break the association"
    return ScoreStatus.SCORED, ""


def _is_connected(counts: np.ndarray) -> bool:
    """Tell whether the bipartite graph of technical and biological levels is in one piece."""
    rows, columns = np.nonzero(counts)
    size = sum(counts.shape)
    graph = csr_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns + counts.shape[0])), shape=(size, size))
    return int(connected_components(graph, directed=False)[0]) == 1


def _is_nested(table: pd.DataFrame, row: ConfoundingRow) -> bool:
    """Tell whether each technical level holds one biological level, beyond what holds by construction.

    A library comes from one donor and one tissue, so donor-level biology is always nested in libraries of one unit;
    that says nothing. One cell type per library says a lot.
    """
    if row.status is ScoreStatus.NOT_RUN:
        return False
    levels = table.groupby("technical")[["biological", "unit"]].nunique()
    own_library = row.technical == "batch" and row.biological not in {"cell_type", "contributor_label"}
    return bool((levels["biological"] == 1).all() and not (own_library and (levels["unit"] == 1).all()))


def _nested_finding(table: pd.DataFrame, row: ConfoundingRow) -> Finding:
    pairs = table[["technical", "biological"]].drop_duplicates()
    examples = tuple(f"{a}: {b}" for a, b in zip(pairs["technical"], pairs["biological"], strict=True))
    return Finding(
        code="W-CONF-01",
        severity=Severity.WARNING,
        where=f"{row.dataset_id or 'all data sets'}: {row.biological} in {row.technical}",
        message=f"every level of {row.technical} holds one level of {row.biological} ({row.n_units} {row.unit}(s)): a "
        f"contrast of {row.biological} made here cannot be told from {row.technical}",
        remedy=f"add units that cross {row.biological} with {row.technical}, or hold these data out whole",
        rule="R12",
        n_affected=row.n_units,
        n_total=row.n_units,
        examples=examples[:5],
    )


def _without_empty(table: np.ndarray) -> np.ndarray:
    return np.asarray(table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0])


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
