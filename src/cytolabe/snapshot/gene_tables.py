"""What became of the features of each data set, as one table: the relation `genes` of a question.

The alignments lie in Parquet, one per data set, and are small beside cells. The symbol of a gene is that of the primary
release and stands in no alignment; it is empty where the reference of a data set is not the one that is shipped.
"""

from collections.abc import Mapping

import pyarrow as pa

from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.store.scans import TablePart, scan_tables

__all__ = ["GENE_COLUMNS", "alignment_of", "symbols_of"]

GENE_COLUMNS: Mapping[str, str] = {
    "dataset_id": "text: the data set",
    "feature": "text: name as delivered",
    "gene_id": "text: gene of the reference, or empty",
    "symbol": "text: what the primary release calls the gene, or empty",
    "status": "text: how the feature led there, or why it led nowhere",
    "count_fraction": "number: share of the counts of the data set",
}
"""Columns of `genes` in a question."""


def alignment_of(layout: Layout, entries: Mapping[str, DatasetEntry]) -> object:
    """Return every feature of every data set, read where it is asked for; all columns but `symbol`."""
    types = {"count_fraction": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in GENE_COLUMNS if name != "symbol"])
    parts = [
        TablePart(
            place=layout.overlay("genes") / entry.tables["alignment"].file,
            entry=entry.tables["alignment"],
            known={"dataset_id": dataset_id},
        )
        for dataset_id, entry in entries.items()
    ]
    return scan_tables(parts, schema)


def symbols_of(entries: Mapping[str, DatasetEntry]) -> pa.Table:
    """Return `gene_id` and `symbol` of the shipped references that the data sets are aligned to."""
    organisms = {entry.record.organism for entry in entries.values()}.intersection(shipped_organisms())
    references = [load_reference(organism) for organism in sorted(organisms)]
    named = {entry.gene_reference for entry in entries.values()}
    pairs = [pair for r in references if r.name in named for pair in r.primary.symbols.items()]
    return pa.table(
        {
            "gene_id": pa.array([gene_id for gene_id, _ in pairs], type=pa.string()),
            "symbol": pa.array([symbol for _, symbol in pairs], type=pa.string()),
        }
    )
