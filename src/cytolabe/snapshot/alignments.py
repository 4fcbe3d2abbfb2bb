"""The alignment of a data set that lies in an atlas: read it, and put another one in its place.

Counts, cells and contributor columns are facts and stay as they are; the alignment interprets the features, so another
one is another entry over the same partitions. Sketches follow from counts and alignment and are made again where a
feature has another gene, which reads the counts once and writes none.
"""

import dataclasses
from collections.abc import Sequence

from cytolabe.files import staged_directory
from cytolabe.records import DatasetRecord, FeatureAlignment, Finding
from cytolabe.snapshot.build import ALIASES, alignment_digest, write_alignment
from cytolabe.snapshot.entries import DatasetEntry, EntryParts, write_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.sketches import SketchTable
from cytolabe.store.partitions import partition_path
from cytolabe.store.tables import TableEntry, read_table

__all__ = ["alignment_of_entry", "with_alignment"]


def alignment_of_entry(layout: Layout, entry: DatasetEntry) -> FeatureAlignment:
    """Return what became of the features of a data set, in the order of its partitions."""
    table = read_table(layout.overlay("genes"), entry.tables["alignment"])
    return FeatureAlignment(
        gene_reference=entry.gene_reference,
        features=tuple(table["feature"]),
        gene_ids=tuple(table["gene_id"]),
        status=tuple(table["status"]),
        count_fraction=tuple(table["count_fraction"]),
        genes_mapped_fraction_of_counts=entry.record.genes_mapped_fraction_of_counts or 0.0,
        annotation=entry.record.annotation,
        annotation_evidence=entry.record.annotation_evidence,
    )


def with_alignment(
    layout: Layout, entry: DatasetEntry, alignment: FeatureAlignment, *, aliases: str, findings: Sequence[Finding]
) -> DatasetEntry:
    """Write the entry of a data set with another alignment and return it; nothing refers to it before it is published.

    Parameters
    ----------
    layout
        The atlas.
    entry
        The data set as it is.
    alignment
        Of the same features in the same order.
    aliases
        Digest of the user's table that was asked, or empty.
    findings
        What is to be known of the data set from now on.
    """
    before = alignment_of_entry(layout, entry)
    record = _record(entry.record, alignment, aliases=aliases)
    digest = alignment_digest(alignment, aliases=aliases)
    is_same = (before.status, entry.alignment_digest) == (alignment.status, digest)
    if is_same and record.declared == entry.record.declared:
        return entry
    tables = {**entry.tables, "alignment": write_alignment(alignment, layout)}
    if before.gene_ids != alignment.gene_ids and "sketches" in tables:
        tables["sketches"] = _sketches(layout, entry, alignment)
    parts = EntryParts(
        record=record,
        partitions=entry.partitions,
        tables=tables,
        gene_reference=alignment.gene_reference,
        alignment_digest=digest,
        findings=tuple(findings),
    )
    return write_entry(layout, parts)


def _record(record: DatasetRecord, alignment: FeatureAlignment, *, aliases: str) -> DatasetRecord:
    declared = {name: text for name, text in record.declared.items() if name != ALIASES}
    return dataclasses.replace(
        record,
        gene_reference=alignment.gene_reference,
        genes_mapped_fraction_of_counts=alignment.genes_mapped_fraction_of_counts,
        annotation=alignment.annotation,
        annotation_evidence=alignment.annotation_evidence,
        declared={**declared, ALIASES: aliases} if aliases else declared,
    )


def _sketches(layout: Layout, entry: DatasetEntry, alignment: FeatureAlignment) -> TableEntry:
    with staged_directory(layout.partitions) as folder:
        sketches = SketchTable(n_cells=entry.n_cells, folder=folder)
        for partition in entry.partitions:
            sketches.append_partition(partition_path(layout.partitions, partition.digest), alignment.gene_ids)
        return sketches.close(layout.tables)
