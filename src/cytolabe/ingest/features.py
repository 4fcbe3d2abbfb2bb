"""Which column of `var` names the features of a matrix.

The index is taken, unless it says less than another column: with Ensembl ids beside an index of symbols or counters
the ids win, because a symbol can mean two genes; with symbols beside a plain counter the symbols do. The choice is a
finding, and so are names that occur twice or are missing.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import pandas as pd

from cytolabe.ingest.tables import ContributedTable
from cytolabe.records import Finding, Severity

__all__ = ["choose_features", "is_counter", "is_ensembl"]

ENSEMBL_SHARE = 0.8
"""Share of names that must be Ensembl gene ids before a column counts as one; spike-ins and transgenes are the rest."""
_ENSEMBL = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?(_PAR_Y)?")
_COUNTER = re.compile(r"(gene|feature|var|v|g|x)?[ _.-]?\d+", re.IGNORECASE)
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl_ids", "feature_id", "ensembl", "ensembl_gene_id", "ensg")
_SYMBOL_COLUMNS = (
    "feature_name",
    "gene_name",
    "gene_names",
    "gene_symbols",
    "gene_symbol",
    "symbol",
    "gene_short_name",
)
_MISSING = {"", "nan", "none", "na", "<na>"}


def is_ensembl(name: str) -> bool:
    """Tell whether a name is an Ensembl gene id, with or without a version."""
    return _ENSEMBL.fullmatch(name) is not None


def is_counter(name: str) -> bool:
    """Tell whether a name is a mere position, such as `17` or `gene17`."""
    return _COUNTER.fullmatch(name) is not None


def choose_features(table: ContributedTable, where: str) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Return one name per feature, and what had to be decided for it."""
    names = table.names
    findings = list(table.findings)
    if _share(names, is_ensembl) < ENSEMBL_SHARE:
        column = _named_column(table.columns, _ID_COLUMNS, where_ids=True)
        kind = "Ensembl ids"
        if not column and names and _share(names, is_counter) > ENSEMBL_SHARE:
            column, kind = _named_column(table.columns, _SYMBOL_COLUMNS, where_ids=False), "gene names"
        if column:
            names, finding = _from_column(table, column, f"{kind} of {where}[{column!r}]")
            findings.append(finding)
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        findings.append(
            Finding(
                code="W-FEATURE-02",
                severity=Severity.WARNING,
                where=where,
                n_affected=len(repeated),
                n_total=len(names),
                examples=tuple(repeated[:5]),
                message=f"{len(repeated)} feature names occur more than once ({', '.join(repeated[:5])}).",
                remedy="Their counts are summed where they align to one gene; give Ensembl ids to keep them apart.",
                rule="cytolabe/features",
            )
        )
    return names, tuple(findings)


def _named_column(columns: pd.DataFrame, known: tuple[str, ...], *, where_ids: bool) -> str:
    """Return the first known column with usable values; for ids, any further text column that holds them."""
    by_lower = {str(name).lower(): str(name) for name in columns.columns}
    ordered = [by_lower[name] for name in known if name in by_lower]
    if where_ids:
        ordered += [str(name) for name in columns.columns if str(name) not in ordered]
    for name in ordered:
        values = columns[name]
        if values.dtype != object:
            continue
        texts = [str(value) for value in values]
        usable = _share(texts, is_ensembl) if where_ids else 1 - _share(texts, is_counter)
        if usable >= ENSEMBL_SHARE:
            return name
    return ""


def _from_column(table: ContributedTable, column: str, where: str) -> tuple[tuple[str, ...], Finding]:
    values = [str(value) for value in table.columns[column]]
    absent = [position for position, value in enumerate(values) if value.strip().lower() in _MISSING]
    for position in absent:
        values[position] = table.names[position]
    finding = Finding(
        code="N-FEATURE-01",
        severity=Severity.NOTE,
        where=where,
        n_affected=len(absent),
        n_total=len(values),
        examples=tuple(f"{old} -> {new}" for old, new in list(zip(table.names, values, strict=True))[:3]),
        message=(
            f"Features are named by the {where} instead of the index"
            + (f"; {len(absent)} without a value keep the index." if absent else ".")
        ),
        remedy="Nothing to do, unless that column is stale: then remove it from the file.",
        rule="cytolabe/features",
    )
    return tuple(values), finding


def _share(names: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, names)) / len(names) if names else 0.0
