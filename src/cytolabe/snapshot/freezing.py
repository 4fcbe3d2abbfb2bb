"""What a snapshot is made of: the body that its id covers, and beside it where the objects lie."""

from collections.abc import Sequence
from typing import cast

from cytolabe.errors import RefusedError
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.overlays import MEMORY, ORTHOLOGS, ontology_release_of, read_mappings
from cytolabe.snapshot.withdrawals import EXCLUDED, WITHDRAWALS, Withdrawals, write_excluded
from cytolabe.store.manifest import Revision
from cytolabe.store.tables import TableEntry

__all__ = ["require_one_organism", "snapshot_document", "tables_of"]

_APART = {WITHDRAWALS, MEMORY, ORTHOLOGS}
"""Overlays that no snapshot holds: what they say changes neither cells nor genes, or names who withdrew."""


def require_one_organism(entries: Sequence[DatasetEntry]) -> None:
    """Refuse data sets of several organisms in one atlas (rule R3)."""
    organisms = sorted({entry.record.organism for entry in entries} - {UNKNOWN, ""})
    if len(organisms) > 1:
        msg = (
            f"the atlas would hold {len(organisms)} organisms: {', '.join(organisms)}. "
            "Their genes are not the same genes (rule R3). Make one atlas for each."
        )
        raise RefusedError(msg)


def snapshot_document(
    layout: Layout, state: Revision, *, entries: Sequence[DatasetEntry], facts: Withdrawals
) -> dict[str, object]:
    """Return the document of a snapshot; of withdrawals it holds the rows that are left out, and nothing of who they are.

    Raises
    ------
    RefusedError
        If the data sets are aligned to several gene references.
    """
    references = sorted({entry.gene_reference for entry in entries})
    if len(references) > 1:
        msg = (
            f"the data sets are aligned to {len(references)} gene references: {', '.join(references)}. "
            "One gene would have two names. Ingest them again with one reference."
        )
        raise RefusedError(msg)
    overlays = {name: table for name, table in state.overlays.items() if name not in _APART}
    excluded = write_excluded(layout, [(entry.dataset_id, facts.rows(entry.digest)) for entry in entries])
    if excluded is not None:
        overlays[EXCLUDED] = excluded
    overlays = dict(sorted(overlays.items()))
    mappings = read_mappings(layout.overlay("mappings"), overlays["mappings"]) if "mappings" in overlays else ()
    body = {
        "kind": "cytolabe/snapshot/1",
        "datasets": {entry.dataset_id: entry.logical() for entry in entries},
        "overlays": {name: table.digest for name, table in overlays.items()},
        "gene_reference": references[0] if references else UNKNOWN,
        "ontology_release": ontology_release_of(mappings),
    }
    return {"body": body, "datasets": {entry.dataset_id: entry.digest for entry in entries}, "overlays": overlays}


def tables_of(document: object) -> dict[str, TableEntry]:
    """Return the overlays that a document of a snapshot lists, by name."""
    tables = cast("dict[str, dict[str, object]]", document)
    return {name: TableEntry(**table) for name, table in sorted(tables.items())}  # type: ignore[arg-type]
