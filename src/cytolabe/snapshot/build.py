"""One data set into the atlas: facts in, content-addressed objects out, nothing changed that others see.

`write_dataset` may run in a worker process, twice, or be interrupted: it writes objects that are named by what they
mean, and a data set is in the atlas only when `Atlas.publish` names its entry in a revision. Blocks are streamed; the
counts of each cell are added up on the way and must be those that the cell table speaks of.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import Place, place_of, staged_directory
from cytolabe.provenance import digest_of
from cytolabe.records import Block, DatasetRecord, FeatureAlignment, Finding
from cytolabe.snapshot.entries import DatasetEntry, EntryParts, write_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.sketches import SketchTable, sketched
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.counts_digest import feature_order
from cytolabe.store.names import Names
from cytolabe.store.partitions import PartitionEntry, write_partitions
from cytolabe.store.tables import TableEntry, write_table

__all__ = [
    "ALIASES",
    "FACT_COLUMNS",
    "OVERLAY_COLUMNS",
    "DatasetContent",
    "alignment_digest",
    "write_alignment",
    "write_cells",
    "write_dataset",
]

OVERLAY_COLUMNS = (
    "person_id", "person_state", "cell_type_ontology_term_id", "cell_type", "mapping_decision", "mapping_confidence",
)  # fmt: skip
"""Columns of the cell table that are interpretations: they are joined when a snapshot is read."""

ALIASES = "gene_aliases"
"""Where a record declares the digest of the user's alias table."""

INTEGER_COLUMNS = ("row", "n_counts", "n_genes")
FACT_COLUMNS = (*(column for column in CELL_COLUMNS if column not in OVERLAY_COLUMNS), "claimed_term")
"""Columns of `DatasetContent.cells`; `claimed_term` is the term that the contributor claims, or empty."""


@dataclass(frozen=True, kw_only=True)
class DatasetContent:
    """Everything that one data set brings into an atlas.

    `blocks` streams the counts in source order, each block in the order of `features`; it is not looked at where
    `partitions` were written already, of cells that were compared with `cells`; sketches are made of blocks only. `cells` (`FACT_COLUMNS`) and
    `contributed` (contributor columns verbatim) have one row per cell in the same order; None of both where `tables` has what
    `write_cells` made of them. `derived` are tables that stand beside the facts and enter no id of a snapshot.
    """

    record: DatasetRecord
    features: Sequence[str]
    blocks: Iterable[Block] | Callable[[], Iterable[Block]]
    cells: pd.DataFrame | None
    contributed: pd.DataFrame | None
    alignment: FeatureAlignment
    findings: tuple[Finding, ...] = field(default=())
    partitions: tuple[PartitionEntry, ...] = field(default=())
    tables: Mapping[str, TableEntry] = field(default_factory=dict)
    derived: Mapping[str, TableEntry] = field(default_factory=dict)


def write_dataset(atlas: str | Place, *, content: DatasetContent) -> DatasetEntry:
    """Write the objects of one data set and return its entry; nothing refers to them before it is published.

    Raises
    ------
    UsageError
        If tables, features and alignment do not belong to the same cells and features.
    IntegrityError
        If the counts that stream by are not those that the cell table was made from.
    """
    layout = Layout(place_of(atlas))
    record = content.record
    rows = None if content.cells is None else _checked_rows(content)
    _check_features(content)
    partitions, derived, tables = content.partitions, dict(content.derived), dict(content.tables)
    n_cells = tables["cells"].n_rows if rows is None else len(rows["cells"])
    if rows is not None and not partitions:
        with staged_directory(layout.partitions) as folder:
            sketches = SketchTable(n_cells=n_cells, folder=folder)
            partitions = _write_blocks(layout, content, rows["cells"], sketches=sketches)
            derived["sketches"] = sketches.close(layout.tables)
    if sum(partition.n_cells for partition in partitions) != n_cells:
        msg = f"{record.dataset_id}: the partitions hold other cells than the {n_cells} of the cell table."
        raise UsageError(msg)
    if rows is not None:
        tables = {name: write_table(table, layout.tables) for name, table in rows.items()}
    tables = {**tables, "alignment": write_alignment(content.alignment, layout), **derived}
    parts = EntryParts(
        record=record,
        partitions=partitions,
        tables=tables,
        gene_reference=content.alignment.gene_reference,
        alignment_digest=alignment_digest(content.alignment, aliases=record.declared.get(ALIASES, "")),
        findings=content.findings,
    )
    return write_entry(layout, parts)


def write_cells(atlas: str | Place, *, content: DatasetContent) -> DatasetContent:
    """Write the tables of one row per cell ahead of the counts, and return the content that no longer holds these rows.

    Raises
    ------
    UsageError
        If the tables do not belong to the same cells.
    """
    layout = Layout(place_of(atlas))
    tables = {name: write_table(table, layout.tables) for name, table in _checked_rows(content).items()}
    return dataclasses.replace(content, cells=None, contributed=None, tables=tables)


def _write_blocks(
    layout: Layout, content: DatasetContent, cells: pd.DataFrame, *, sketches: SketchTable
) -> tuple[PartitionEntry, ...]:
    blocks = content.blocks() if callable(content.blocks) else content.blocks
    return write_partitions(
        layout.partitions,
        _sketched(_compared(blocks, cells=cells, dataset_id=content.record.dataset_id), content, sketches),
        dataset_id=content.record.dataset_id,
        features=content.features,
    )


def _sketched(blocks: Iterable[Block], content: DatasetContent, sketches: SketchTable) -> Iterator[Block]:
    for block in blocks:
        sketches.append(sketched(block.counts, content.alignment.gene_ids))
        yield block


def alignment_digest(alignment: FeatureAlignment, *, aliases: str = "") -> str:
    """Return the digest of what an alignment says: which feature is which gene of which reference.

    `aliases` is the digest of the user's table that was asked, if any: it enters although it may have changed nothing,
    so that a snapshot names what its genes rest on.
    """
    order = feature_order(alignment.features)
    pairs = [[alignment.features[position], alignment.gene_ids[position]] for position in order.tolist()]
    asked = {"aliases": aliases} if aliases else {}
    return digest_of({"gene_reference": alignment.gene_reference, "genes": pairs, **asked})


def write_alignment(alignment: FeatureAlignment, layout: Layout) -> TableEntry:
    """Write the alignment in the order in which partitions keep the features."""
    frame = pd.DataFrame(
        {
            "feature": list(alignment.features),
            "gene_id": list(alignment.gene_ids),
            "status": list(alignment.status),
            "count_fraction": list(alignment.count_fraction),
        }
    )
    return write_table(frame.iloc[feature_order(alignment.features)], layout.overlay("genes"))


def _checked_rows(content: DatasetContent) -> dict[str, pd.DataFrame]:
    """Return the tables of one row per cell, that of the cells in canonical columns and types, after they were seen to be complete."""
    where, given, contributed = f"cells of {content.record.dataset_id}", content.cells, content.contributed
    if given is None or contributed is None:
        msg = f"{where}: the tables were written and are not at hand."
        raise UsageError(msg)
    missing = sorted(set(FACT_COLUMNS) - set(given.columns))
    unknown = sorted(set(given.columns) - set(FACT_COLUMNS))
    if missing or unknown:
        msg = f"{where}: columns missing: {missing or 'none'}; columns that do not belong here: {unknown or 'none'}."
        raise UsageError(msg)
    typed = {column: _typed(given[column], where=f"{where}, column {column}").array for column in FACT_COLUMNS}
    # Not copied: there may be millions of rows, and nobody changes them.
    cells = pd.DataFrame(typed, copy=False)
    _check_keys(cells, where=where, dataset_id=content.record.dataset_id)
    if len(cells) != content.record.n_cells:
        msg = f"{where}: {len(cells)} rows where the record says {content.record.n_cells} cells."
        raise UsageError(msg)
    if len(contributed) != len(cells):
        msg = f"{content.record.dataset_id}: {len(contributed)} rows of contributor columns for {len(cells)} cells."
        raise UsageError(msg)
    return {"cells": cells, "contributed": contributed}


def _typed(values: pd.Series, *, where: str) -> pd.Series:
    if values.name in INTEGER_COLUMNS:
        if not pd.api.types.is_integer_dtype(values.dtype):
            msg = f"{where} must hold integers, not {values.dtype}."
            raise UsageError(msg)
        return values if values.dtype == np.int64 else values.astype(np.int64)
    if isinstance(values.dtype, pd.CategoricalDtype) and not values.hasnans:
        if all(isinstance(level, str) for level in values.cat.categories):
            return values
    elif isinstance(values.array, pd.arrays.ArrowStringArray) and not values.hasnans:
        return values
    texts = values.astype(object)
    wrong = [position for position, value in enumerate(texts) if not isinstance(value, str)]
    if wrong:
        msg = f"{where}: {len(wrong)} of {len(texts)} values are no text, first at row {wrong[0]}. Write 'unknown'."
        raise UsageError(msg)
    return texts


def _check_keys(cells: pd.DataFrame, *, where: str, dataset_id: str) -> None:
    if not (cells["dataset_id"] == dataset_id).all():
        msg = f"{where}: the column dataset_id names other data sets."
        raise UsageError(msg)
    if not np.array_equal(cells["row"].to_numpy(), np.arange(len(cells))):
        msg = f"{where}: the column row must be 0, 1, 2 ... in the order of the source."
        raise UsageError(msg)
    doubled = Names.of(cells["cell_id"]).repeated()
    if doubled:
        examples = ", ".join(doubled[:5])
        msg = (
            f"{where}: {len(doubled)} cell id(s) occur more than once: {examples}. "
            "A prediction could not be matched to its cell. Make the names unique in the source."
        )
        raise UsageError(msg)


def _check_features(content: DatasetContent) -> None:
    where = content.record.dataset_id
    if tuple(content.features) != tuple(content.alignment.features):
        msg = f"{where}: the alignment is of other features, or of the same in another order."
        raise UsageError(msg)
    lengths = {len(getattr(content.alignment, name)) for name in ("features", "gene_ids", "status", "count_fraction")}
    if lengths != {len(content.features)} or content.record.n_features != len(content.features):
        msg = f"{where}: record, features and alignment disagree on the number of features."
        raise UsageError(msg)


def _compared(blocks: Iterable[Block], *, cells: pd.DataFrame, dataset_id: str) -> Iterator[Block]:
    """Pass the blocks on after their names and totals were found to be those of the cell table."""
    names = cells["cell_id"].str.slice(len(dataset_id) + 1).to_numpy()
    prefix_holds = cells["cell_id"].str.startswith(f"{dataset_id}:").all()
    n_seen = 0
    for block in blocks:
        rows = slice(block.start, block.start + len(block.cell_names))
        part = cells.iloc[rows]
        # 64-bit sums: a narrow count type would wrap around.
        totals = np.asarray(block.counts.sum(axis=1, dtype=np.float64)).ravel()
        found = np.asarray(block.counts.astype(bool).sum(axis=1)).ravel()
        is_same = (
            prefix_holds
            and tuple(names[rows]) == block.cell_names
            and np.array_equal(totals, part["n_counts"].to_numpy())
            and np.array_equal(found, part["n_genes"].to_numpy())
        )
        if not is_same:
            msg = (
                f"{dataset_id}, rows {rows.start}-{rows.stop - 1}: names or totals of the cells differ from the cell "
                "table. The source changed between the two passes, or the table was made from another matrix; "
                "ingest again."
            )
            raise IntegrityError(msg)
        n_seen += len(block.cell_names)
        yield block
    if n_seen != len(cells):
        msg = f"{dataset_id}: {n_seen} cells streamed where the cell table has {len(cells)}; ingest again."
        raise IntegrityError(msg)
