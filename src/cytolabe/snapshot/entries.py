"""The entry of a data set: which objects it consists of, and what the checks found.

The entry is named by its content: record, logical digests and findings. The physical SHA-256s stand beside that
content and do not enter the name, so the same data set written by another version of a codec is the same entry.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cytolabe.errors import ConflictError, IntegrityError
from cytolabe.files import Place, create_new
from cytolabe.provenance import digest_of, jsonable
from cytolabe.records import DatasetRecord, Finding, HopEvidence, HopState, MatrixKind, Severity
from cytolabe.snapshot.layout import Layout
from cytolabe.store.documents import read_sealed, sealed_bytes
from cytolabe.store.partitions import PartitionEntry
from cytolabe.store.tables import TableEntry

__all__ = ["DERIVED_TABLES", "DatasetEntry", "EntryParts", "read_entry", "write_entry"]


DERIVED_TABLES = frozenset({"sketches"})
"""Tables that follow from the counts and the alignment: they enter no name, and an entry may lack them."""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One data set as it lies in the atlas. `tables` are `cells`, `contributed`, `alignment`, and `sketches` if any.

    `alignment_digest` is over which feature is which gene; shares of counts and statuses do not enter it.
    """

    dataset_id: str
    digest: str
    record: DatasetRecord
    partitions: tuple[PartitionEntry, ...]
    tables: Mapping[str, TableEntry]
    gene_reference: str
    alignment_digest: str
    findings: tuple[Finding, ...] = ()

    @property
    def source_digest(self) -> str:
        """Digest of the bytes of the source."""
        return self.record.source_digest

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.record.n_cells

    def logical(self) -> dict[str, object]:
        """Return what of this entry enters a snapshot id: logical digests only."""
        return {
            "alignment": self.alignment_digest,
            "cells": self.tables["cells"].digest,
            "contributed": self.tables["contributed"].digest,
            "partitions": [partition.digest for partition in self.partitions],
        }


@dataclass(frozen=True, kw_only=True)
class EntryParts:
    """The parts of an entry before it has a name."""

    record: DatasetRecord
    partitions: tuple[PartitionEntry, ...]
    tables: Mapping[str, TableEntry]
    gene_reference: str
    alignment_digest: str
    findings: Sequence[Finding]


def write_entry(layout: Layout, parts: EntryParts) -> DatasetEntry:
    """Give the parts of a data set their name and write the entry; an equal entry is kept."""
    content = {
        "record": parts.record,
        "gene_reference": parts.gene_reference,
        "alignment_digest": parts.alignment_digest,
        "findings": list(parts.findings),
        "tables": _named(parts.tables),
        "partitions": [partition.digest for partition in parts.partitions],
    }
    digest = digest_of(content)
    physical = {"tables": dict(parts.tables), "partitions": list(parts.partitions)}
    path = layout.document(layout.datasets, digest)
    # The same content may be there, physically written by another version of a codec: that stays in force.
    with contextlib.suppress(ConflictError):
        create_new(path, sealed_bytes({"content": content, "physical": physical}))
    return read_entry(layout, digest)


def _named(tables: Mapping[str, TableEntry]) -> dict[str, str]:
    """Return the digests of the tables that name an entry."""
    return {name: table.digest for name, table in tables.items() if name not in DERIVED_TABLES}


def read_entry(layout: Layout, digest: str) -> DatasetEntry:
    """Read the entry called `digest`.

    Raises
    ------
    IntegrityError
        If it is missing, was edited, or is another entry than its name says.
    """
    path = layout.document(layout.datasets, digest)
    document = read_sealed(path)
    content = cast("dict[str, object]", document["content"])
    if digest_of(content) != digest:
        msg = f"datasets/{path.name} holds another entry than its name says."
        raise IntegrityError(msg)
    physical = cast("dict[str, object]", document["physical"])
    tables = cast("dict[str, dict[str, object]]", physical["tables"])
    partitions = cast("list[dict[str, object]]", physical["partitions"])
    record = _record(cast("dict[str, object]", content["record"]))
    entry = DatasetEntry(
        dataset_id=record.dataset_id,
        digest=digest,
        record=record,
        partitions=tuple(PartitionEntry(**partition) for partition in partitions),  # type: ignore[arg-type]
        tables={name: TableEntry(**table) for name, table in sorted(tables.items())},  # type: ignore[arg-type]
        gene_reference=str(content["gene_reference"]),
        alignment_digest=str(content["alignment_digest"]),
        findings=tuple(_finding(found) for found in cast("list[dict[str, object]]", content["findings"])),
    )
    _require_agreement(entry, content, path=path)
    return entry


def _require_agreement(entry: DatasetEntry, content: Mapping[str, object], *, path: Place) -> None:
    """Refuse an entry whose name covers other digests than those beside the physical SHA-256s."""
    named = {"tables": content["tables"], "partitions": content["partitions"]}
    beside = {
        "tables": _named(entry.tables),
        "partitions": [partition.digest for partition in entry.partitions],
    }
    if named != jsonable(beside):
        msg = f"datasets/{path.name}: the files that it lists are not those that it names."
        raise IntegrityError(msg)


def _record(document: Mapping[str, object]) -> DatasetRecord:
    provenance = cast("dict[str, str]", document["provenance"])
    typed = {
        "matrix_kind": MatrixKind(str(document["matrix_kind"])),
        "inferred": tuple(cast("list[str]", document["inferred"])),
        "provenance": {hop: HopState(state) for hop, state in provenance.items()},
        "evidence": tuple(HopEvidence(**said) for said in cast("list[dict[str, str]]", document.get("evidence", []))),
    }
    floats = {
        name: None if document[name] is None else float(cast("float", document[name]))
        for name in ("genes_mapped_fraction_of_counts", "upstream_fraction_of_counts")
    }
    return DatasetRecord(**{**document, **typed, **floats})  # type: ignore[arg-type]


def _finding(document: Mapping[str, object]) -> Finding:
    typed = {
        "severity": Severity(str(document["severity"])),
        "examples": tuple(cast("list[str]", document["examples"])),
        "autofix": tuple(cast("list[dict[str, object]]", document.get("autofix", []))),
    }
    return Finding(**{**document, **typed})  # type: ignore[arg-type]
