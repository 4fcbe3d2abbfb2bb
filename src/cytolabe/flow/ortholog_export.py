"""Cells of one organism in a file of their own under the genes of another, so that a model of the other can read them.

Only genes with an ortholog that is theirs alone are written, under its id; all others are left out, and the share of the
counts that stays is told for each data set and stands in the file. The cells stay what they are: `organism` is not
changed, and no total is scaled up for what was left out.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.orthologs import ortholog_findings
from cytolabe.genes.orthologs import read_ortholog_table, relate_genes
from cytolabe.records import FeatureAlignment, Finding, OrthologRow
from cytolabe.snapshot.alignments import alignment_of_entry
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.selection import Selection, select, shared_genes
from cytolabe.snapshot.takeout import require_name, write_cells

__all__ = ["OrthologExport", "export_orthologs"]


@dataclass(frozen=True, kw_only=True)
class OrthologExport:
    """What was written; `counts_kept` is the share of all counts of each whole data set that these genes hold."""

    selection: Selection
    counts_kept: Mapping[str, float]
    findings: tuple[Finding, ...]


def export_orthologs(
    snapshot: Snapshot,
    path: Path,
    table: Path,
    *,
    where: str = "",
    access: str = "",
    on_progress: Callable[[str], None] = lambda _: None,
) -> OrthologExport:
    """Write cells of a snapshot under the ids of their genes' one-to-one orthologs.

    Parameters
    ----------
    snapshot, path, where, access, on_progress
        As of `snapshot.takeout.export_cells`.
    table
        The table of orthologs (`genes.orthologs`); it is not put in force in the atlas.

    Raises
    ------
    UsageError
        If it is no such table, or one about other organisms.
    RefusedError
        If no gene that all data sets among the cells measure has an ortholog of its own, or as `export_cells` refuses.
    """
    require_name(path)
    read = read_ortholog_table(table)
    everything = select(snapshot, where=where)
    used = sorted(set(everything.obs["dataset_id"].astype(str)))
    rows = relate_genes(read, _one_organism(snapshot, used))
    orthologs = {row.gene_id: row.ortholog_id for row in rows if row.relation == "one_to_one"}
    genes = [gene for gene in shared_genes(snapshot, used) if gene in orthologs]
    if not genes:
        msg = (
            f"{table.name}: none of {len(everything.genes):,} genes that all data sets among the cells measure has an ortholog of "
            "its own in the table, so a file would have no genes. See what it says of them: cytolabe genes ATLAS --orthologs TABLE."
        )
        raise RefusedError(msg)
    alignments = {name: alignment_of_entry(snapshot.relations.layout, snapshot.entries[name]) for name in used}
    kept = {name: _share(alignment, frozenset(genes)) for name, alignment in alignments.items()}
    selection = dataclasses.replace(
        select(snapshot, where=where, genes=genes),
        called=tuple(orthologs[gene] for gene in genes),
    )
    selection = dataclasses.replace(selection, provenance={**selection.provenance, **_said(rows, kept)})
    write_cells(selection, path, access=access, on_progress=on_progress)
    findings = tuple(
        dataclasses.replace(finding, where=f"{name}: {finding.where}")
        for name, alignment in alignments.items()
        for finding in ortholog_findings(alignment, rows)
    )
    return OrthologExport(selection=selection, counts_kept=kept, findings=findings)


def _one_organism(snapshot: Snapshot, names: list[str]) -> str:
    organisms = sorted({snapshot.datasets[name].organism for name in names})
    if len(organisms) != 1:
        msg = f"--orthologs: the cells are of {len(organisms)} organisms ({', '.join(organisms)}); choose one with --where."
        raise UsageError(msg)
    return organisms[0]


def _share(alignment: FeatureAlignment, genes: frozenset[str]) -> float:
    """Return the share of some genes in all counts of a data set but those of spike-ins, in [0, 1]; without counts 0."""
    rows = list(zip(alignment.gene_ids, alignment.status, alignment.count_fraction, strict=True))
    whole = sum(share for _, status, share in rows if status != "spike_in")
    return sum(share for gene, _, share in rows if gene in genes) / whole if whole else 0.0


def _said(rows: tuple[OrthologRow, ...], kept: Mapping[str, float]) -> dict[str, str]:
    first = rows[0]
    return {
        "gene_policy": "one-to-one orthologs of the intersection",
        "orthologs_table": first.source,
        "orthologs_sha256": first.source_digest,
        "orthologs_from": f"{first.organism}, {first.gene_reference}",
        "orthologs_to": f"{first.ortholog_organism}, {first.ortholog_reference}",
        "orthologs_counts_kept": ", ".join(f"{name} {share:.4f}" for name, share in sorted(kept.items())),
    }
