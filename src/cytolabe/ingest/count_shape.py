"""What the values of a matrix look like: evidence from sums, divisors and signs over all cells.

Used twice: to say what a refused matrix probably is, and to refuse integers that are no counts. Counts of real cells
scatter in their totals far more than sampling alone (coefficient of variation 0.26 to 3.4 over the real files at
hand), nearly every cell has a gene seen once, and no small value is skipped.
"""

import numpy as np

from cytolabe.ingest.tally import MIN_GENES, MatrixTally

__all__ = ["SMALL_SCATTER", "looks_like", "rounded_evidence", "total_scatter"]

MIN_CELLS = 20
"""Fewer cells cannot show that their totals are equal by design."""
SMALL_SCATTER = 0.1
"""Coefficient of variation of cell totals below which they are suspicious; the least of a real file here is 0.26."""
_ROUND_TARGETS = (1e4, 1e5, 1e6)
_FEW_BROKEN = 1e-4
_HOLED_SHARE = 0.2
"""Share of testable cells with a hole; real files here have at most 0.09, rounded ones at least 0.36."""
_MIN_HOLED = 3
_FLAT_LARGEST = 12
_MANY_GENES = 500
_MANY_GENES_OF_PANEL = 50
_ADDED_BY_CEIL = 1.5
"""Rounding values up adds about half a count per detected gene, so totals stay below this multiple of the target."""


def looks_like(tally: MatrixTally) -> str:
    """Say in words what a matrix that is no counts probably holds."""
    if tally.n_nonzero == 0:
        return "holds only zeros"
    if tally.broken.get("negative", 0) > _FEW_BROKEN * tally.n_nonzero:
        return "looks like z-scores or residuals (negative values), which no count can be"
    if 0 < sum(tally.broken.values()) <= _FEW_BROKEN * tally.n_nonzero:
        return "looks like counts in which few values were damaged or changed"
    if set(tally.broken) == {"nonfinite"}:
        return "has values that are no numbers"
    return _looks_scaled(tally)


def _looks_scaled(tally: MatrixTally) -> str:
    totals, logs = tally.value_sums[tally.value_sums > 0], tally.expm1_sums[tally.expm1_sums > 0]
    if _equal(logs):
        total = f"{np.median(logs):,.0f}"
        return f"looks like log1p of values scaled to {total} per cell (expm1 sums are equal in all cells)"
    if _equal(totals):
        return f"looks like values scaled to {np.median(totals):,.0f} per cell, not logged"
    if tally.broken_fraction < 0.5:
        return "looks like estimated or ambient-corrected counts (mostly whole numbers)"
    kind = "logarithms" if tally.largest < 25 else "scaled values"
    return f"looks like {kind} (largest value {tally.largest:.3g})"


def rounded_evidence(tally: MatrixTally) -> str:
    """Say why integers are no counts, or return an empty string; each sign is enough.

    Holes: in counts every value is about as frequent as the next one or more, while scaling by 1.7 leaves no 2.
    Further: totals that scatter less than Poisson sampling of one depth would; totals that all lie just above a round
    target; most cells without a single 1, or with a common divisor; and values that never grow, as of presence or of
    rounded logarithms.
    """
    holes = _holes(tally)
    if holes:
        return holes
    broad = tally.cell_genes >= MIN_GENES
    if np.count_nonzero(broad) < MIN_CELLS:
        return ""
    return _scaled_evidence(tally, broad) or _flat_evidence(tally, broad)


def _holes(tally: MatrixTally) -> str:
    """Say in how many cells a small value is absent although the next larger one is frequent."""
    n_holed, hole = tally.n_holed, tally.first_hole
    if hole is None or n_holed < _MIN_HOLED or n_holed <= _HOLED_SHARE * tally.n_testable:
        return ""
    return (
        f"in {100 * n_holed / tally.n_testable:.0f} % of the cells a small value is skipped (cell {hole.cell} has no "
        f"gene with {hole.value}, but {hole.n_next} with {hole.value + 1}), as after scaling and rounding"
    )


def _scaled_evidence(tally: MatrixTally, broad: np.ndarray) -> str:
    totals = tally.cell_totals[broad].astype(np.float64)
    if totals.var() < 0.5 * totals.mean():
        return f"all cells have nearly the same total ({totals.min():,.0f} to {totals.max():,.0f}), as after scaling"
    for target in _ROUND_TARGETS:
        if (
            totals.min() >= target
            and np.median(totals) <= _ADDED_BY_CEIL * target
            and totals.std() < 0.1 * totals.mean()
        ):
            return f"every total lies just above {target:,.0f}, as after scaling to it and rounding up"
    divisible = tally.n_divisible / int(np.count_nonzero(broad))
    if divisible > 0.5:
        return f"in {100 * divisible:.0f} % of the cells all values share a divisor above 1, as after multiplying"
    without_ones = tally.n_without_ones / int(np.count_nonzero(broad))
    if without_ones > 0.5 and tally.largest <= max(_ROUND_TARGETS):
        return f"{100 * without_ones:.0f} % of the cells have no gene with a count of 1, as after scaling and rounding"
    return ""


def _flat_evidence(tally: MatrixTally, broad: np.ndarray) -> str:
    """Say that no gene is seen often although the cells have many genes: presence, clipped values or logarithms."""
    n_genes = float(np.median(tally.cell_genes[broad]))
    if tally.largest == 1.0 and n_genes >= _MANY_GENES_OF_PANEL:
        return f"every value is 1 although a cell has {n_genes:.0f} genes: it says which genes were seen, not how often"
    if tally.largest <= _FLAT_LARGEST and n_genes >= _MANY_GENES:
        return (
            f"no gene of any cell is above {tally.largest:.0f} although a cell has {n_genes:.0f} genes, as after a "
            "logarithm or clipping"
        )
    return ""


def total_scatter(tally: MatrixTally) -> float | None:
    """Return the coefficient of variation of the cell totals, or None where there are too few cells to tell."""
    broad = tally.cell_genes >= MIN_GENES
    if np.count_nonzero(broad) < MIN_CELLS:
        return None
    totals = tally.cell_totals[broad].astype(np.float64)
    return float(totals.std() / totals.mean())


def _equal(sums: np.ndarray) -> bool:
    """Tell whether at least 95 % of the sums lie within 1 % of their median."""
    if len(sums) < 2:
        return False
    middle = float(np.median(sums))
    return middle > 0 and float(np.mean(np.abs(sums / middle - 1) < 0.01)) >= 0.95
