"""How much of each cell's counts is left in the file: features were often subset before the file was shared (rule R2).

The row sums are held against totals that the lab computed before: `nUMI`, `nCount_RNA`, `total_counts` and the like.
Where several are declared the one that leaves least decides, because a total taken after the subsetting says nothing.
Without a declared total there is weaker evidence: genes that no transcriptome lacks, and a narrow window of
expression ranks, in which no gene is rare. The share of counts that maps
onto a gene reference cannot see any of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Int

from cytolabe.ingest.column_names import normalized
from cytolabe.records import Finding, Severity

__all__ = ["SUBSET_BELOW", "UpstreamVerdict", "upstream_verdict"]

SUBSET_BELOW = 0.95
_AGREES_ABOVE = 1.05
_TOTALS = (
    "n_umi", "numi", "n_umis", "n_count_rna", "ncount_rna", "n_counts", "ncounts", "total_counts", "total_count",
    "n_count_originalexp", "total_umis", "total_umi", "umi_count", "umi_counts", "total_count_per_cell", "sum", "counts",
    "library_size", "libsize", "lib_size", "library_sizes", "n_count", "n_molecules", "umis", "n_count_spatial",
)  # fmt: skip
_HOUSEKEEPING = (
    ("ACTB", "ENSG00000075624"), ("B2M", "ENSG00000166710"), ("EEF1A1", "ENSG00000156508"),
    ("FTL", "ENSG00000087086"), ("GAPDH", "ENSG00000111640"), ("MALAT1", "ENSG00000251562"),
    ("RPLP0", "ENSG00000089157"), ("TMSB4X", "ENSG00000205542"),
)  # fmt: skip
_MITOCHONDRIAL = (
    ("MT-CO1", "ENSG00000198804"), ("MT-CO2", "ENSG00000198712"), ("MT-CO3", "ENSG00000198938"),
    ("MT-ND1", "ENSG00000198888"), ("MT-ND4", "ENSG00000198886"), ("MT-CYB", "ENSG00000198727"),
)  # fmt: skip


_MIN_CELLS = 100
_RARE = 0.01
_MIN_RARE = 0.01
"""Of whole transcriptomes in public files 22 to 74 % of the genes are seen in under one cell of a hundred; filtered files
often have no such gene."""


@dataclass(frozen=True, kw_only=True)
class UpstreamVerdict:
    """`fraction` of the original counts that is left (median over cells, in [0, 1]), or None where nothing says so.

    `column` names the declared totals that it stands on.
    """

    fraction: float | None
    column: str
    findings: tuple[Finding, ...] = field(default=())


def upstream_verdict(
    cell_table: pd.DataFrame,
    cell_totals: Int[np.ndarray, " cells"],
    features: Sequence[str],
    *,
    feature_totals: Int[np.ndarray, " features"] | None = None,
) -> UpstreamVerdict:
    """Hold the row sums of the counts against what the file declares.

    Parameters
    ----------
    cell_table
        Columns as delivered, one row per cell.
    cell_totals
        Sum of the proven counts per cell.
    features
        Names of the features of the matrix; human symbols or Ensembl ids carry the weaker evidence.
    feature_totals
        Sum of the proven counts per feature, if known: a transcriptome has genes that few cells show.
    """
    ratios = _ratios(cell_table, cell_totals)
    weaker = _by_genes(features, _missing_ranks(feature_totals, n_cells=len(cell_totals)))
    if not ratios:
        return UpstreamVerdict(fraction=None, column="", findings=weaker)
    column = min(ratios, key=lambda name: ratios[name])
    ratio = ratios[column]
    fraction = min(1.0, ratio)
    if ratio > _AGREES_ABOVE:
        return UpstreamVerdict(fraction=fraction, column=column, findings=(_more_than_declared(column, ratio),))
    if fraction >= SUBSET_BELOW:
        # A total that was computed after the subsetting agrees too, so the genes are asked as well.
        return UpstreamVerdict(fraction=fraction, column=column, findings=weaker)
    finding = Finding(
        code="W-UPSTREAM-01",
        severity=Severity.WARNING,
        where=f"obs[{column!r}]",
        n_affected=len(cell_totals),
        n_total=len(cell_totals),
        examples=tuple(f"{name}: {share:.2f}" for name, share in sorted(ratios.items())[:5]),
        message=(
            f"The counts of a cell sum to {fraction:.2f} of its declared total (median over cells): genes were removed "
            f"before the file was shared, and only {len(features):,} are left."
        ),
        remedy="Ask for the full matrix; until then, what needs the whole transcriptome of a cell is qualified.",
        rule="R2",
    )
    return UpstreamVerdict(fraction=fraction, column=column, findings=(finding,))


def _ratios(cell_table: pd.DataFrame, cell_totals: np.ndarray) -> dict[str, float]:
    """Return the median of counted over declared total for each column that declares totals."""
    found = {}
    for name in map(str, cell_table.columns):
        if normalized(name) not in _TOTALS or not pd.api.types.is_numeric_dtype(cell_table[name].dtype):
            continue
        declared = cell_table[name].to_numpy(dtype=np.float64, na_value=np.nan)
        usable = np.isfinite(declared) & (declared > 0) & (cell_totals > 0)
        # A normalized total is the same for all cells and says nothing about what was removed.
        if np.count_nonzero(usable) < 0.5 * len(declared) or np.ptp(declared[usable], axis=None) == 0:
            continue
        found[name] = float(np.median(cell_totals[usable] / declared[usable]))
    return found


def _missing_ranks(feature_totals: np.ndarray | None, *, n_cells: int) -> str:
    """Say when the lower ranks of expression are missing: no feature has less than one count in a hundred cells."""
    if feature_totals is None or n_cells < _MIN_CELLS or not len(feature_totals):
        return ""
    rare = float((feature_totals < _RARE * n_cells).mean())
    return f"features with under {_RARE:g} counts per cell" if rare < _MIN_RARE else ""


def _by_genes(features: Sequence[str], missing_ranks: str) -> tuple[Finding, ...]:
    known = {
        feature.split(".")[0].upper() if feature.upper().startswith("ENS") else feature.upper() for feature in features
    }
    absent_families = []
    for family, genes in (("housekeeping", _HOUSEKEEPING), ("mitochondrial", _MITOCHONDRIAL)):
        absent = [symbol for symbol, gene_id in genes if symbol not in known and gene_id not in known]
        if len(absent) > len(genes) / 2:
            absent_families.append(f"{len(absent)} of {len(genes)} {family} genes ({', '.join(absent[:4])})")
    absent_families += [missing_ranks] if missing_ranks else []
    if not absent_families:
        return ()
    finding = Finding(
        code="N-UPSTREAM-02",
        severity=Severity.NOTE,
        where="var",
        n_affected=len(absent_families),
        n_total=3,
        examples=tuple(absent_families),
        message=(
            f"No declared total shows a loss, yet {' and '.join(absent_families)} are absent: genes were probably "
            "removed before the file was shared, or it is a panel or another species."
        ),
        remedy="Ask whether the matrix is complete; declare the totals per cell (for example as nCount_RNA).",
        rule="R2",
    )
    return (finding,)


def _more_than_declared(column: str, ratio: float) -> Finding:
    return Finding(
        code="W-UPSTREAM-03",
        severity=Severity.WARNING,
        where=f"obs[{column!r}]",
        n_affected=1,
        n_total=1,
        examples=(f"{ratio:.3f}",),
        message=f"The counts of a cell sum to {ratio:.2f} times its declared total: the total belongs to other counts.",
        remedy="Make sure that the matrix and the column describe the same counts.",
        rule="R2",
    )
