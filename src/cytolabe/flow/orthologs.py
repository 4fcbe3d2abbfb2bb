"""Orthologs of the genes of an atlas: a user's table put in force, and what it says of each data set and vocabulary.

The relation is read from the side of the organism that the atlas holds. One to one, it also says how much of a data set
the vocabulary of a model for the other organism covers; genes with several orthologs are named and never counted as covered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files import Place, replace_file, tsv_text
from cytolabe.genes.orthologs import OrthologShares, kinds_of, ortholog_shares, read_ortholog_table, relate_genes
from cytolabe.genes.reference import load_reference
from cytolabe.genes.vocabularies import Coverage, coverage_of, read_vocabulary
from cytolabe.records import FeatureAlignment, Finding, OrthologRow, Severity
from cytolabe.snapshot.alignments import alignment_of_entry
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.ortholog_tables import orthologs_of, put_orthologs

__all__ = ["OrthologSummary", "RelatedDataset", "ortholog_findings", "orthologs_of_atlas", "relate_orthologs"]

_N_EXAMPLES = 5
_RULE = "cytolabe/orthologs"


@dataclass(frozen=True, kw_only=True)
class RelatedDataset:
    """What the relation in force says of a data set; `coverages` are of vocabularies of the other organism, by name."""

    dataset_id: str
    shares: OrthologShares
    findings: tuple[Finding, ...]
    coverages: tuple[tuple[str, Coverage], ...] = ()


@dataclass(frozen=True, kw_only=True)
class OrthologSummary:
    """The relation in force: the table it is from, and how many of its lines are of each kind."""

    source: str
    source_digest: str
    organism: str
    ortholog_organism: str
    relations: dict[str, int]
    datasets: tuple[RelatedDataset, ...]
    findings: tuple[Finding, ...]


def relate_orthologs(
    place: Place, table: Path, *, on_progress: Callable[[str], None] = lambda _: None
) -> tuple[OrthologRow, ...]:
    """Put a user's table of orthologs in force in an atlas, and return its lines as they were read.

    Raises
    ------
    UsageError
        If it is no such table, the atlas holds no data set, or the table is about other organisms.
    """
    read = read_ortholog_table(table)
    atlas = open_atlas(place)
    organisms = sorted({atlas.entry(name).record.organism for name in atlas.dataset_ids})
    if len(organisms) != 1:
        msg = (
            f"--orthologs: {place} holds {len(organisms)} known organisms; the side of the table to read is not known."
        )
        raise UsageError(msg)
    on_progress(f"relating {len(read.rows):,} lines of {table.name}")
    rows = relate_genes(read, organisms[0])
    put_orthologs(atlas, rows)
    return rows


def orthologs_of_atlas(
    place: Place, *, vocabularies: Sequence[Path] = (), out: Path | None = None
) -> OrthologSummary | None:
    """Return what the relation in force says of each data set, or None where there is none.

    Parameters
    ----------
    place
        The atlas.
    vocabularies
        Files of models of the other organism, whose coverage through orthologs is wanted.
    out
        Folder for one table of genes and orthologs per data set.
    """
    atlas = open_atlas(place)
    rows = orthologs_of(atlas)
    if not rows:
        return None
    first = rows[0]
    known = [read_vocabulary(path) for path in vocabularies]
    back = {row.ortholog_id: row.gene_id for row in rows if row.relation == "one_to_one"}
    target = load_reference(first.ortholog_organism)
    covered = [
        (known_one.name, frozenset(back[gene] for gene in known_one.genes(target) if gene in back))
        for known_one in known
    ]
    datasets = []
    for dataset_id in atlas.dataset_ids:
        alignment = alignment_of_entry(atlas.layout, atlas.entry(dataset_id))
        datasets.append(
            RelatedDataset(
                dataset_id=dataset_id,
                shares=ortholog_shares(alignment, rows),
                findings=tuple(ortholog_findings(alignment, rows)),
                coverages=tuple((name, coverage_of(alignment, genes)) for name, genes in covered),
            )
        )
        if out is not None:
            replace_file(out / f"{dataset_id}.orthologs.tsv", _table_text(alignment, rows).encode())
    relations = [row.relation for row in rows]
    return OrthologSummary(
        source=first.source,
        source_digest=first.source_digest,
        organism=first.organism,
        ortholog_organism=first.ortholog_organism,
        relations={kind: relations.count(kind) for kind in sorted(set(relations))},
        datasets=tuple(datasets),
        findings=tuple(_table_findings(rows)),
    )


def ortholog_findings(alignment: FeatureAlignment, rows: Sequence[OrthologRow]) -> list[Finding]:
    """Name the genes of a data set that have several orthologs, the heaviest first, and say what no line is about."""
    found = []
    if alignment.gene_reference != rows[0].gene_reference:
        found.append(
            Finding(
                code="W-ORTHOLOG-04", severity=Severity.WARNING, where="overlays/orthologs",
                message=f"The table was related to the genes of {rows[0].gene_reference}, and the data set is aligned to "
                f"{alignment.gene_reference}: genes that changed between the two have no ortholog here.",
                remedy="Give the table again: cytolabe genes ATLAS --orthologs TABLE.", rule=_RULE,
            )
        )  # fmt: skip
    kinds, partners = kinds_of(rows), _partners(rows)
    weight: dict[str, float] = {}
    for gene_id, share in zip(alignment.gene_ids, alignment.count_fraction, strict=True):
        if gene_id:
            weight[gene_id] = weight.get(gene_id, 0.0) + share
    heavy = sorted(weight, key=lambda gene: (-weight[gene], gene))
    several = [gene for gene in heavy if kinds.get(gene) == "several"]
    if several:
        found.append(
            Finding(
                code="N-ORTHOLOG-01", severity=Severity.NOTE, where="var", n_affected=len(several), n_total=len(heavy),
                examples=tuple(partners[gene] for gene in several[:_N_EXAMPLES]),
                message=f"{len(several):,} of {len(heavy):,} genes have several orthologs or share one, with "
                f"{sum(weight[gene] for gene in several):.2%} of the counts; none was chosen "
                f"({'; '.join(partners[gene] for gene in several[:_N_EXAMPLES])}).",
                remedy="Take out of the table what is not meant, if one of them is.", rule=_RULE,
            )
        )  # fmt: skip
    unlisted = [gene for gene in heavy if gene not in kinds]
    if unlisted:
        symbols = load_reference(rows[0].organism).primary.symbols
        found.append(
            Finding(
                code="N-ORTHOLOG-02", severity=Severity.NOTE, where="var", n_affected=len(unlisted), n_total=len(heavy),
                examples=tuple(symbols.get(gene, gene) for gene in unlisted[:_N_EXAMPLES]),
                message=f"{len(unlisted):,} of {len(heavy):,} genes have no ortholog in the table, with "
                f"{sum(weight[gene] for gene in unlisted):.2%} of the counts "
                f"({', '.join(symbols.get(gene, gene) for gene in unlisted[:_N_EXAMPLES])}).",
                remedy="Nothing to do, unless the table should have them.", rule=_RULE,
            )
        )  # fmt: skip
    return found


def _table_findings(rows: Sequence[OrthologRow]) -> list[Finding]:
    """Say which lines name something that is no gene of its reference."""
    lost = [row for row in rows if row.relation == "unresolved"]
    if not lost:
        return []
    return [
        Finding(
            code="W-ORTHOLOG-03", severity=Severity.WARNING, where=rows[0].source, n_affected=len(lost), n_total=len(rows),
            examples=tuple(f"{row.gene} / {row.ortholog}" for row in lost[:_N_EXAMPLES]),
            message=f"{len(lost):,} of {len(rows):,} lines name something that is no gene of {rows[0].gene_reference} or "
            f"{rows[0].ortholog_reference}; they relate nothing, and still count as orthologs of their partners "
            f"({', '.join(f'{row.gene} / {row.ortholog}' for row in lost[:_N_EXAMPLES])}).",
            remedy="Use Ensembl ids or symbols of these releases.", rule=_RULE,
        )
    ]  # fmt: skip


def _partners(rows: Sequence[OrthologRow]) -> dict[str, str]:
    """Return for each gene the words of the table about it: `Cd24a: CD24, CD24P4`."""
    said: dict[str, list[OrthologRow]] = {}
    for row in rows:
        said.setdefault(row.gene_id, []).append(row)
    return {gene: f"{own[0].gene}: {', '.join(row.ortholog for row in own)}" for gene, own in said.items()}


def _table_text(alignment: FeatureAlignment, rows: Sequence[OrthologRow]) -> str:
    """Return every feature of a data set with what the relation says of its gene, in the order of the file."""
    said: dict[str, list[OrthologRow]] = {}
    for row in rows:
        said.setdefault(row.gene_id, []).append(row)
    found = [["feature", "gene_id", "relation", "ortholog_id", "ortholog", "count_fraction"]]
    for feature, gene_id, share in zip(alignment.features, alignment.gene_ids, alignment.count_fraction, strict=True):
        found += [
            [feature, gene_id, row.relation, row.ortholog_id, row.ortholog, f"{share:.6g}"]
            for row in (said.get(gene_id, ()) if gene_id else ())
        ]
    return tsv_text(found)
