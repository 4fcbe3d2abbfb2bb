"""A user's table of orthologs: which genes of one organism are which of another, by file and digest.

Text with two columns, separated by tabs or commas, whose header names the two organisms (`Mus musculus`, `human`,
`10090`); below it stand Ensembl ids or symbols, a gene in as many lines as it has orthologs. No table is shipped, and no
ortholog is guessed from letters: `Il8` is no gene of the mouse.

Only a pair that is alone on both sides is one to one. A gene with several orthologs, or one that several genes share,
is named and never chosen among. A name that leads to no gene of its reference still counts as an ortholog of its
partner: that the reference retired one of two orthologs does not make the other the only one.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytolabe.errors import UsageError
from cytolabe.genes.alignment import align_features
from cytolabe.genes.organisms import canonical_organism
from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.records import FeatureAlignment, OrthologRow

__all__ = ["OrthologShares", "OrthologTable", "kinds_of", "ortholog_shares", "read_ortholog_table", "relate_genes"]

_ALONE = 1


@dataclass(frozen=True, kw_only=True)
class OrthologTable:
    """The lines of a table as they stand there, in its order of columns; `digest` is over the bytes of the file."""

    name: str
    digest: str
    organisms: tuple[str, str]
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class OrthologShares:
    """What a relation says of a data set: its genes, and their shares of all counts but those of spike-ins.

    `mapped` genes have one ortholog that is theirs alone, `several` have more or share one, `unlisted` have none in the table.
    """

    n_mapped: int
    n_several: int
    n_unlisted: int
    mapped_fraction_of_counts: float
    several_fraction_of_counts: float
    unlisted_fraction_of_counts: float


def read_ortholog_table(path: Path) -> OrthologTable:
    """Read a table of orthologs.

    Raises
    ------
    UsageError
        If the file is missing or no text, if its header does not name two organisms with a shipped reference, or if a line
        has not two filled fields.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        msg = f"{path}: the table of orthologs cannot be read ({error.strerror})."
        raise UsageError(msg) from None
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text ({error.reason} at byte {error.start})."
        raise UsageError(msg) from None
    first = text.splitlines()[0] if text.strip() else ""
    reader = csv.reader(io.StringIO(text, newline=None), delimiter="\t" if "\t" in first else ",")
    try:
        lines = list(reader)
    except csv.Error as error:
        msg = f"{path}, line {reader.line_num}: no table of two columns ({error}). Write it as CSV or TSV text, a pair of genes a line."
        raise UsageError(msg) from None
    organisms = tuple(canonical_organism(field) for field in lines[0]) if lines else ()
    if len(set(organisms)) != 2 or len(organisms) != 2 or not set(organisms) <= set(shipped_organisms()):
        msg = (
            f"{path}: the first line must name two organisms, separated by a tab or a comma, each with a gene reference "
            f"({', '.join(shipped_organisms())}); found {first[:60]!r}."
        )
        raise UsageError(msg)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = [field.strip() for field in line]
        if not any(fields):
            continue
        if len(fields) != 2 or not all(fields):
            msg = f"{path}, line {number}: two filled fields are needed, found {line!r}. Leave genes without ortholog out."
            raise UsageError(msg)
        rows.append((fields[0], fields[1]))
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return OrthologTable(name=path.name, digest=digest, organisms=(organisms[0], organisms[1]), rows=tuple(rows))


def relate_genes(table: OrthologTable, organism: str) -> tuple[OrthologRow, ...]:
    """Return every line of a table as a relation from the genes of an organism, sorted, each once.

    Raises
    ------
    UsageError
        If the table is not about this organism.
    """
    if organism not in table.organisms:
        msg = f"{table.name} is about {' and '.join(table.organisms)}; the genes here are of {organism}."
        raise UsageError(msg)
    own = table.organisms.index(organism)
    other = table.organisms[1 - own]
    genes = _genes_of([row[own] for row in table.rows], organism)
    orthologs = _genes_of([row[1 - own] for row in table.rows], other)
    # A name without a gene is a partner all the same, told apart from ids by the sign before it.
    said = {(row[own], row[1 - own]) for row in table.rows}
    edges = {(genes[a] or f"?{a}", orthologs[b] or f"?{b}") for a, b in said}
    n_orthologs, n_genes = Counter(gene for gene, _ in edges), Counter(ortholog for _, ortholog in edges)
    rows = []
    for gene, ortholog in sorted(said):
        key = (genes[gene] or f"?{gene}", orthologs[ortholog] or f"?{ortholog}")
        rows.append(
            OrthologRow(
                gene=gene,
                ortholog=ortholog,
                gene_id=genes[gene],
                ortholog_id=orthologs[ortholog],
                relation=_relation(
                    n_orthologs[key[0]], n_genes[key[1]], is_led=bool(genes[gene] and orthologs[ortholog])
                ),
                organism=organism,
                ortholog_organism=other,
                gene_reference=load_reference(organism).name,
                ortholog_reference=load_reference(other).name,
                source=table.name,
                source_digest=table.digest,
            )
        )
    return tuple(rows)


def ortholog_shares(alignment: FeatureAlignment, rows: Sequence[OrthologRow]) -> OrthologShares:
    """Return how much of a data set has an ortholog of its own; without counts all shares are 0."""
    kinds = kinds_of(rows)
    genes: dict[str, set[str]] = {"mapped": set(), "several": set(), "unlisted": set()}
    weights = dict.fromkeys(genes, 0.0)
    whole = 0.0
    for gene_id, status, share in zip(alignment.gene_ids, alignment.status, alignment.count_fraction, strict=True):
        whole += share if status != "spike_in" else 0.0
        if gene_id:
            kind = kinds.get(gene_id, "unlisted")
            genes[kind].add(gene_id)
            weights[kind] += share
    fractions = {kind: weight / whole if whole else 0.0 for kind, weight in weights.items()}
    return OrthologShares(
        n_mapped=len(genes["mapped"]),
        n_several=len(genes["several"]),
        n_unlisted=len(genes["unlisted"]),
        mapped_fraction_of_counts=fractions["mapped"],
        several_fraction_of_counts=fractions["several"],
        unlisted_fraction_of_counts=fractions["unlisted"],
    )


def kinds_of(rows: Sequence[OrthologRow]) -> Mapping[str, str]:
    """Return for each gene that a relation leads from whether it is `mapped`, or has or shares `several` orthologs."""
    kinds: dict[str, str] = {}
    for row in rows:
        if row.gene_id and row.relation == "one_to_one":
            kinds[row.gene_id] = "mapped"
        elif row.gene_id and row.relation != "unresolved":
            kinds[row.gene_id] = "several"
    return kinds


def _relation(n_orthologs: int, n_genes: int, *, is_led: bool) -> str:
    if not is_led:
        return "unresolved"
    words = ("one" if n_genes == _ALONE else "many", "one" if n_orthologs == _ALONE else "many")
    return f"{words[0]}_to_{words[1]}"


def _genes_of(names: Sequence[str], organism: str) -> Mapping[str, str]:
    """Return the gene of each name, or an empty text.

    In a data set two names of one gene are two features, and the less direct one is ambiguous. In a table they are two
    words for it, so those are asked again without the others.
    """
    found: dict[str, str] = {}
    asked = sorted(set(names))
    for _ in range(2):
        alignment, _told = align_features(asked, np.zeros(len(asked)), reference=load_reference(organism))
        found.update(zip(asked, alignment.gene_ids, strict=True))
        asked = [name for name, status in zip(asked, alignment.status, strict=True) if status == "ambiguous"]
    return found
