"""Which features of a 10x source are kept: genes of one genome.

A 10x matrix may hold antibodies, guides and peaks beside the genes, and genes of several genomes. Only genes are
counts of the atlas. Cells aligned to two genomes are a mixture of species, and which one is meant has to be said
(`part = "GRCh38"` in the manifest). Genome prefixes, which 10x writes where there are several, are taken off.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.errors import RefusedError
from cytolabe.ingest.refusals import refusal
from cytolabe.ingest.tables import ContributedTable
from cytolabe.records import Finding, Severity

__all__ = ["GeneChoice", "choose_genes", "choose_genome", "empty_table"]

_GENES = "Gene Expression"
_PREFIXED = re.compile(r"(.+?)_+(ENS[A-Z]{0,4}G\d{11}.*)")


@dataclass(frozen=True, kw_only=True)
class GeneChoice:
    """Positions of the features that are kept, their table, and what was left out."""

    positions: np.ndarray
    table: ContributedTable
    findings: tuple[Finding, ...] = ()


def choose_genes(table: ContributedTable, *, part: str, path: Path) -> GeneChoice:
    """Choose the genes among the features of a 10x source.

    Raises
    ------
    RefusedError
        If it has genes of several genomes and `part` names none of them.
    """
    n_features = len(table.names)
    kinds = _column(table, "feature_types", n_features) or [_GENES] * n_features
    genomes = _genomes(table, kinds, n_features)
    genome = choose_genome(sorted({name for name in genomes if name}), part=part, path=path)
    is_kept = np.array(
        [kind == _GENES and own in {"", genome} for kind, own in zip(kinds, genomes, strict=True)], dtype=bool
    )
    positions = np.flatnonzero(is_kept)
    names = tuple(table.names[int(place)] for place in positions)
    columns = table.columns.iloc[positions].reset_index(drop=True)
    if genome and names and all(name.startswith(f"{genome}_") for name in names):
        names = tuple(name.removeprefix(genome).lstrip("_") for name in names)
        if "gene_name" in columns:
            columns["gene_name"] = [str(name).removeprefix(f"{genome}_").lstrip("_") for name in columns["gene_name"]]
    others = Counter(
        kind if kind != _GENES else f"genes of {own}"
        for kind, own, kept in zip(kinds, genomes, is_kept, strict=True)
        if not kept
    )
    kept_table = ContributedTable(names=names, columns=columns, findings=table.findings)
    return GeneChoice(positions=positions, table=kept_table, findings=_left_out(others, path, n_features))


def choose_genome(genomes: list[str], *, part: str, path: Path) -> str:
    """Return the genome that is meant; there may be none that is named.

    Raises
    ------
    RefusedError
        If `part` is none of them, or there are several and `part` is empty.
    """
    if part in genomes:
        return part
    if len(genomes) < 2 and not part:
        return genomes[0] if genomes else ""
    said = f"none of them is {part!r}" if part else "a cell of a mixture belongs to one of them only"
    finding = Finding(
        code="E-TENX-01",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=len(genomes),
        n_total=len(genomes),
        examples=tuple(genomes[:5]),
        message=f"The source has genes of {len(genomes)} genomes ({', '.join(genomes[:5]) or 'none is named'}); {said}.",
        remedy="Say in the manifest which one is meant: part = '<genome>'. Leave it out where there is one only.",
        rule="R3",
    )
    raise refusal(RefusedError, [finding])


def _column(table: ContributedTable, name: str, n_features: int) -> list[str]:
    if name not in table.columns or not n_features:
        return []
    return [str(value) for value in table.columns[name]]


def _genomes(table: ContributedTable, kinds: list[str], n_features: int) -> list[str]:
    """Return the genome of each gene, empty for other features; where no column says it, two prefixes of ids do."""
    said = _column(table, "genome", n_features)
    if not said:
        found = [_PREFIXED.fullmatch(name) for name in table.names]
        said = [match[1] if match else "" for match in found]
        if len({name for name in said if name}) < 2:
            said = [""] * n_features
    return [genome if kind == _GENES else "" for genome, kind in zip(said, kinds, strict=True)]


def _left_out(others: Counter[str], path: Path, n_features: int) -> tuple[Finding, ...]:
    if not others:
        return ()
    shown = tuple(f"{kind} ({times:,})" for kind, times in sorted(others.items()))
    finding = Finding(
        code="N-SOURCE-07",
        severity=Severity.NOTE,
        where=path.name,
        n_affected=sum(others.values()),
        n_total=n_features,
        examples=shown[:5],
        message=f"{sum(others.values()):,} of {n_features:,} features are not kept: {', '.join(shown[:5])}.",
        remedy="Nothing to do: the source itself is named by its digest.",
        rule="cytolabe/facts",
    )
    return (finding,)


def empty_table(names: tuple[str, ...]) -> ContributedTable:
    """Return a table of names only: 10x says nothing else of a cell."""
    return ContributedTable(names=names, columns=pd.DataFrame(index=range(len(names))))
