"""Is biology confounded with technique? Answered per unit (donor, library), never per cell (rule R12).

For each scope (every data set, then all together) and each pair of a technical and a biological column, the distinct
(unit, technical level, biological level) triples form one design. From it, in this order:

* `estimable`: the graph of levels is in one piece, so that every biological contrast exists inside technical levels;
  `n_lost` counts the contrasts that do not. The row `all technical columns` is the rank of the design with all of them;
* how the levels nest, how many units a pair of levels has, how many units break the association;
* Cramer's V, bias-corrected (Bergsma 2013, doi:10.1016/j.jkss.2012.10.002), and Theil's U(biological | technical):
  descriptive, they never refuse anything. V is undefined, not 0, when every unit is a level of its own;
* the shortcut: how well the technique of other units names the biology of one. It reads an allow-list of columns;
* the status of a contrast made *inside* this scope. Whether a scope that is held out whole may be scored is a
  question of the claim, see `claims`.

Only combinations of levels matter, so the table may as well hold each different row once: an atlas of 20 million cells
has few. Columns that a table does not have are not asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.audit.designs import Design, codes_of, cramers_v, design_of, lost_contrasts, theils_u
from cytolabe.audit.units import is_known, library_keys, units_of
from cytolabe.records import Finding, ScoreStatus, Severity

__all__ = ["ALL_TECHNICAL", "BIOLOGICAL", "TECHNICAL", "ConfoundingRow", "audit_confounding"]

TECHNICAL = ("dataset_id", "batch", "assay", "chemistry", "suspension_type", "site")
"""How cells were made: the allow-list of what a shortcut may read. Never a column that was made from cell types."""

BIOLOGICAL = ("cell_type", "disease", "sex", "tissue", "perturbation", "age", "development_stage", "suspension_type")
"""What people ask about. Cells or nuclei is asked of the other technical columns: which of them made the difference?"""

ALL_TECHNICAL = "all technical columns"
_FEW_UNITS = 3
_STRAY_FRACTION = 0.1
"""Observations outside the largest group of levels, below which a contrast inside is qualified and not refused."""
_WITHIN_DONORS = frozenset({"cell_type", "contributor_label", "perturbation"})
"""What varies inside a library or a donor, so that one level in each of them says something."""
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class ConfoundingRow:
    """One technical column against one biological column in one scope; `dataset_id` is None over all data sets.

    `biological` is `contributor_label` where a data set has labels that nobody reconciled. `n_donors` is None where
    the unit is not the donor; `n_units` counts units with both values known. `cramers_v`, `theils_u` and `shortcut`
    lie in [0, 1], or are None where they are undefined. `estimable` is True if every contrast between biological
    levels exists inside technical levels, and `n_lost` says how many do not. `n_pairs` of the pairs of levels occur,
    the rarest in `fewest_units` units; `n_untied` units break the association. `status` is that of a contrast made
    inside the scope: NOT_RUN where a column has fewer than two known levels.
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
    n_technical: int = 0
    n_biological: int = 0
    n_pairs: int = 0
    n_components: int = 0
    n_lost: int = 0
    nesting: str = ""
    fewest_units: int = 0
    n_untied: int = 0
    shortcut: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """The cells of one data set, or of all: names and codes of every column that is asked about."""

    dataset_id: str | None
    unit: str
    names: dict[str, np.ndarray]
    codes: dict[str, np.ndarray]

    def design(self, technical: str, biological: str) -> Design:
        return design_of(self.codes["unit"], self.codes[technical], self.codes[biological])


def audit_confounding(
    cells: pd.DataFrame,
    *,
    technical: Sequence[str] = TECHNICAL,
    biological: Sequence[str] = BIOLOGICAL,
) -> tuple[tuple[ConfoundingRow, ...], tuple[Finding, ...]]:
    """Measure how far biological columns follow technical ones, in each data set and over all.

    Parameters
    ----------
    cells
        A snapshot's table of cells, or its different rows (`snapshot.cell_table.different_cells`).
    technical, biological
        Columns of the table; those that it does not have are passed over.

    Returns
    -------
    Rows sorted by scope (all data sets last), and the findings: `W-CONF-01` for a biological column that a technical
    one tells, `W-CONF-02` for contrasts that are lost without that, `N-CONF-03` for two technical columns that cannot
    be told apart.
    """
    asked = [[name for name in names if name in cells.columns] for names in (technical, biological)]
    rows: list[ConfoundingRow] = []
    findings: list[Finding] = []
    for scope in _scopes(cells, *asked):
        for biology in asked[1]:
            column = _biological_column(scope, biology)
            if column not in scope.codes:
                continue
            for technique in _technical_columns(scope, asked[0], biology):
                design = scope.design(technique, column)
                row = _row(scope, design, technical=technique, biological=column)
                rows.append(row)
                # A level of the cell types tells nothing new where the labels as mapped told it.
                told = {one.where for one in findings}
                as_mapped = _where(row, biological="cell_type")
                if not (biology.startswith("cell_type_") and as_mapped in told):
                    findings += _findings(scope, design, row)
            rows += _joint_row(scope, asked[0], column)
    return tuple(rows), tuple(findings)


def _scopes(cells: pd.DataFrame, technical: Sequence[str], biological: Sequence[str]) -> Iterator[_Scope]:
    needed = dict.fromkeys((*technical, *biological, "dataset_id", "batch", "contributor_label", "donor_id", "study"))
    kept = [name for name in (*needed, "person_id", "person_state") if name in cells.columns]
    different = cells[kept].drop_duplicates().reset_index(drop=True)
    if different.empty:
        return
    columns = [*dict.fromkeys((*technical, *biological)), "contributor_label"]
    datasets = different["dataset_id"].to_numpy(dtype=object).astype(str)
    for dataset_id in np.unique(datasets).tolist():
        yield _scope_of(different[datasets == dataset_id], dataset_id, columns)
    yield _scope_of(different, None, columns)


def _scope_of(part: pd.DataFrame, dataset_id: str | None, columns: Sequence[str]) -> _Scope:
    unit, units = units_of(part)
    names = {name: part[name].to_numpy(dtype=object) for name in columns if name in part.columns}
    known = {name: is_known(part[name]) for name in names}
    if "batch" in names:
        names["batch"] = library_keys(part)
    codes = {name: codes_of(values, known[name]) for name, values in names.items()}
    codes["unit"] = codes_of(units, np.ones(len(part), dtype=bool))
    return _Scope(dataset_id=dataset_id, unit=unit, names={**names, "unit": units}, codes=codes)


def _biological_column(scope: _Scope, column: str) -> str:
    """Inside one data set the contributor's own labels serve where no term is known; across data sets they do not."""
    unmapped = column == "cell_type" and scope.dataset_id is not None and not (scope.codes["cell_type"] >= 0).any()
    labels = scope.codes.get("contributor_label")
    return "contributor_label" if unmapped and labels is not None and (labels >= 0).any() else column


def _technical_columns(scope: _Scope, technical: Sequence[str], biology: str) -> list[str]:
    """Return the columns that a biological one is set against: not itself, nor what is constant by construction."""
    skipped = {biology, *(("dataset_id",) if scope.dataset_id is not None else ())}
    # Every library holds cells or nuclei, by construction.
    skipped |= {"batch"} if biology == "suspension_type" else set()
    return [name for name in technical if name not in skipped]


def _row(scope: _Scope, design: Design, *, technical: str, biological: str) -> ConfoundingRow:
    comparable = design.is_comparable
    v = cramers_v(design.counts) if comparable else None
    estimable = comparable and design.n_components == 1
    status, reason = _status(design, v=v, unit=scope.unit)
    return ConfoundingRow(
        dataset_id=scope.dataset_id,
        technical=technical,
        biological=biological,
        unit=scope.unit,
        cramers_v=v,
        theils_u=theils_u(design.counts) if comparable else None,
        n_donors=design.n_units if scope.unit == "donor" else None,
        n_units=design.n_units,
        estimable=estimable and v is not None,
        status=status,
        reason=reason,
        n_technical=design.n_technical,
        n_biological=design.n_biological,
        n_pairs=int(np.count_nonzero(design.counts)),
        n_components=design.n_components,
        n_lost=design.n_lost if comparable else 0,
        nesting=design.nesting if comparable else "",
        fewest_units=design.fewest_units,
        n_untied=design.n_untied,
        shortcut=design.shortcut(),
    )


def _joint_row(scope: _Scope, technical: Sequence[str], biological: str) -> list[ConfoundingRow]:
    """Return the row of all technical columns at once, where more than one of them has levels to adjust for."""
    rows = scope.codes[biological] >= 0
    columns = [
        name
        for name in _technical_columns(scope, technical, biological)
        if name != "batch" and len(np.unique(scope.codes[name][rows & (scope.codes[name] >= 0)])) > 1
    ]
    levels = scope.codes[biological][rows]
    n_levels = len(np.unique(levels))
    if len(columns) < 2 or n_levels < 2:
        return []
    n_lost = lost_contrasts([scope.codes[name][rows] for name in columns], levels)
    told = ", ".join(columns)
    n_units = len(np.unique(scope.codes["unit"][rows]))
    return [
        ConfoundingRow(
            dataset_id=scope.dataset_id,
            technical=ALL_TECHNICAL,
            biological=biological,
            unit=scope.unit,
            cramers_v=None,
            theils_u=None,
            n_donors=n_units if scope.unit == "donor" else None,
            n_units=n_units,
            estimable=n_lost == 0,
            status=ScoreStatus.REFUSED if n_lost else ScoreStatus.SCORED,
            reason=f"{n_lost} of {n_levels - 1} contrast(s) are determined by {told}" if n_lost else "",
            n_biological=n_levels,
            n_lost=n_lost,
        )
    ]


def _status(design: Design, *, v: float | None, unit: str) -> tuple[ScoreStatus, str]:
    if not design.is_comparable:
        known = f"{design.n_technical} technical and {design.n_biological} biological level(s) are known"
        return ScoreStatus.NOT_RUN, known
    n_stray = design.n_outside_largest
    if design.n_components > 1 and n_stray < _STRAY_FRACTION * len(design.units):
        told = f"{n_stray} of {len(design.units)} observations are in {design.n_components - 1} group(s) apart"
        return ScoreStatus.QUALIFIED, f"{told}: no contrast with them exists"
    if design.n_components > 1:
        return ScoreStatus.REFUSED, "levels fall into groups that never meet: no contrast exists across them"
    if v is None:
        return ScoreStatus.QUALIFIED, f"so few {unit}s per level that the association is undefined"
    if design.n_untied < _FEW_UNITS:
        return ScoreStatus.QUALIFIED, f"only {design.n_untied} {unit}(s) break the association"
    return ScoreStatus.SCORED, ""


def _findings(scope: _Scope, design: Design, row: ConfoundingRow) -> list[Finding]:
    if row.status is not ScoreStatus.REFUSED or _is_by_construction(design, row):
        return []
    where = _where(row, biological=row.biological)
    units = f"{row.n_units} {row.unit}(s)"
    if row.biological == "suspension_type":
        code, severity = "N-CONF-03", Severity.NOTE
        message = (
            f"{row.technical} and {row.biological} cannot be told apart ({units}): a difference may come from either"
        )
    elif row.nesting in {"one_to_one", "technique_tells_biology"}:
        code, severity = "W-CONF-01", Severity.WARNING
        message = (
            f"every level of {row.technical} holds one level of {row.biological} ({units}): a contrast of "
            f"{row.biological} made here cannot be told from {row.technical}"
        )
    else:
        code, severity = "W-CONF-02", Severity.WARNING
        message = (
            f"levels of {row.biological} fall into {row.n_components} groups that never share a level of "
            f"{row.technical} ({units}): {row.n_lost} contrast(s) across them cannot be told from {row.technical}"
        )
    return [
        Finding(
            code=code,
            severity=severity,
            where=where,
            message=message,
            remedy=f"add units that cross {row.biological} with {row.technical}, or hold these data out whole",
            rule="R12",
            n_affected=row.n_units,
            n_total=row.n_units,
            examples=_examples(scope, row),
        )
    ]


def _where(row: ConfoundingRow, *, biological: str) -> str:
    return f"{row.dataset_id or 'all data sets'}: {biological} in {row.technical}"


def _is_by_construction(design: Design, row: ConfoundingRow) -> bool:
    """Tell whether levels lie in each other because a library comes from one donor and one tissue, which says nothing."""
    if row.technical != "batch" or row.biological in _WITHIN_DONORS or row.biological.startswith("cell_type"):
        return False
    units_of_library = np.bincount(design.technical, minlength=design.n_technical)
    return bool((units_of_library == 1).all())


def _examples(scope: _Scope, row: ConfoundingRow) -> tuple[str, ...]:
    """Name one unit of each of the first pairs of levels, so that both sides can be looked at."""
    columns = [scope.codes["unit"], scope.codes[row.technical], scope.codes[row.biological]]
    rows = np.flatnonzero((np.stack(columns) >= 0).all(axis=0))
    table = pd.DataFrame(
        {name: scope.names[name][rows].astype(str) for name in (row.technical, row.biological, "unit")}
    )
    first = table.sort_values([row.technical, row.biological, "unit"]).drop_duplicates([row.technical, row.biological])
    # Examples of different biology first: two sides of the contrast.
    first = first.assign(again=first.duplicated(row.biological)).sort_values("again", kind="stable").head(_EXAMPLES)
    is_named = row.unit != "library" or row.technical != "batch"
    return tuple(
        f"{t}: {b} ({row.unit} {u})" if is_named else f"{t}: {b}"
        for t, b, u in zip(first[row.technical], first[row.biological], first["unit"], strict=True)
    )
