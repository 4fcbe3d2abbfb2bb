"""Which column of `var` names the features of a matrix.

The index is taken, unless it says less than another column: with Ensembl ids beside an index of symbols or counters
the ids win, because a symbol can mean two genes; with symbols beside a plain counter the symbols do, whatever their
column is called. The choice is a finding, and so are names that occur twice or are missing.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import pandas as pd

from cytolabe.genes.organisms import guess_organism, known_fraction
from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.ingest.column_names import normalized
from cytolabe.ingest.tables import ContributedTable
from cytolabe.records import UNKNOWN, Finding, Severity

__all__ = ["choose_features", "is_counter", "is_ensembl", "kinds_of_features"]

_KNOWN_SHARE = 0.5
"""Share of the values of a column that one organism's releases know before it counts as gene symbols."""
_AGREEING_SHARE = 0.5
_MIN_PAIRS = 20
_KIND_COLUMNS = ("feature_types", "feature_type", "modality")
ENSEMBL_SHARE = 0.8
"""Share of names that must be Ensembl gene ids before a column counts as one; spike-ins and transgenes are the rest."""
_ENSEMBL = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?(_PAR_Y)?")
_COUNTER = re.compile(r"(gene|feature|var|v|g|x)?[ _.-]?\d+", re.IGNORECASE)
_ID_COLUMNS = (
    "gene_ids",
    "gene_id",
    "ensembl_id",
    "ensembl_ids",
    "feature_id",
    "ensembl",
    "ensembl_gene_id",
    "ensg",
    "accession",
)
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
    names = tuple(table.names)
    findings = list(table.findings)
    if _share(names, is_ensembl) < ENSEMBL_SHARE:
        column = _named_column(table.columns, _ID_COLUMNS, where_ids=True) or _other_id_column(table)
        kind = "Ensembl ids"
        if not column and names and _share(names, is_counter) > ENSEMBL_SHARE:
            column = _named_column(table.columns, _SYMBOL_COLUMNS, where_ids=False) or _symbol_column(table.columns)
            kind = "gene names"
        if column:
            if kind == "Ensembl ids":
                findings += _contradiction(table, column, where)
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
                remedy=(
                    "Equal ids are summed; equal symbols are left out, because they may be two genes. Give Ensembl ids "
                    "to keep them apart."
                ),
                rule="cytolabe/features",
            )
        )
    return names, tuple(findings)


def _named_column(columns: pd.DataFrame, known: tuple[str, ...], *, where_ids: bool) -> str:
    """Return the first known column with usable values."""
    by_name = {normalized(str(name)): str(name) for name in columns.columns}
    for name in (by_name[name] for name in known if name in by_name):
        texts = _texts(columns, name)
        usable = _share(texts, is_ensembl) if where_ids else 1 - _share(texts, is_counter)
        if texts and usable >= ENSEMBL_SHARE:
            return name
    return ""


def _other_id_column(table: ContributedTable) -> str:
    """Return the first text column of Ensembl ids; ids of another organism than the names are its orthologs."""
    for name in map(str, table.columns.columns):
        texts = _texts(table.columns, name)
        holds_ids = bool(texts) and _share(texts, is_ensembl) >= ENSEMBL_SHARE
        if holds_ids and guess_organism(table.names) in {guess_organism(texts), UNKNOWN}:
            return name
    return ""


def _texts(columns: pd.DataFrame, name: str) -> list[str]:
    """Return the values of a text column, or nothing."""
    values = columns[name]
    return [str(value) for value in values] if values.dtype == object else []


def _contradiction(table: ContributedTable, column: str, where: str) -> list[Finding]:
    """Refuse ids that belong to other genes than the names beside them: a column that was joined in another order."""
    ids = [text.split(".")[0] for text in _texts(table.columns, column)]
    organism = guess_organism(ids)
    if organism not in shipped_organisms():
        return []
    releases = load_reference(organism).releases
    owners = [{gene for release in releases for gene in release.ids_of.get(name, ())} for name in table.names]
    known = [(gene, theirs) for gene, theirs in zip(ids, owners, strict=True) if theirs and any(
        gene in release.symbols for release in releases
    )]  # fmt: skip
    n_agreeing = sum(gene in theirs for gene, theirs in known)
    if len(known) < _MIN_PAIRS or n_agreeing >= _AGREEING_SHARE * len(known):
        return []
    wrong = [f"{name} beside {gene}" for name, gene, theirs in zip(table.names, ids, owners, strict=True)
             if theirs and gene not in theirs]  # fmt: skip
    return [
        Finding(
            code="E-FEATURE-05",
            severity=Severity.ERROR,
            where=f"{where}[{column!r}]",
            n_affected=len(known) - n_agreeing,
            n_total=len(known),
            examples=tuple(wrong[:5]),
            message=(
                f"The ids of {column} belong to other genes than the names of the index ({len(known) - n_agreeing:,} of "
                f"{len(known):,}, such as {wrong[0]}): one of the two is in another order."
            ),
            remedy="Join names and ids anew, or remove the column that is wrong.",
            rule="cytolabe/features",
        )
    ]


def _symbol_column(columns: pd.DataFrame) -> str:
    """Return the first text column most of whose values are symbols that a shipped reference knows."""
    for name in map(str, columns.columns):
        texts = _texts(columns, name)
        if any(known_fraction(texts, organism) >= _KNOWN_SHARE for organism in shipped_organisms()):
            return name
    return ""


def kinds_of_features(columns: pd.DataFrame) -> tuple[str, ...]:
    """Return what a table of features says that each of them is, or nothing where it does not say."""
    by_name = {normalized(str(name)): str(name) for name in columns.columns}
    name = next((by_name[name] for name in _KIND_COLUMNS if name in by_name), "")
    return tuple(str(value) for value in columns[name]) if name else ()


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
