"""The ledger of runs: for every split, audit, embedding, mapping and score, what it rests on and what it made.

A record is a sealed document that is named by its content and never changes; nothing is ever taken out. Records are
joined by digests alone: what a run made is a parent of the next one. So the ledger answers both ways: what a number
descends from, and what descends from a snapshot or a person's cells.

The declarations of persons that a study made are kept by their digest only: the record of the run itself has them, and
an atlas that is passed on does not name donors twice.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cytolabe.files import create_new
from cytolabe.provenance import digest_of, jsonable
from cytolabe.records import NamedDigest, RunRecord
from cytolabe.snapshot.layout import Layout
from cytolabe.store.documents import documents_in, read_sealed, sealed_bytes

__all__ = [
    "RUN_KIND",
    "LedgerRun",
    "body_of",
    "descendants",
    "read_runs",
    "record_id_of",
    "without_persons",
    "write_run",
]

RUN_KIND = "cytolabe/run/1"


@dataclass(frozen=True, kw_only=True)
class LedgerRun:
    """One record of the ledger. `body` is the run record as JSON values, without declarations of persons."""

    record_id: str
    body: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What was run: benchmark, split, audit, embed, map, persons or ingest."""
        return str(self.body["kind"])

    @property
    def snapshot_id(self) -> str:
        """The snapshot that was looked at; empty where there was none yet."""
        return str(self.body["snapshot_id"])

    @property
    def parents(self) -> tuple[NamedDigest, ...]:
        """What it rests on, input files included."""
        return (*_named(self.body["parents"]), *_files(self.body["inputs"]))

    @property
    def results(self) -> tuple[NamedDigest, ...]:
        """What it made, files included."""
        return (*_named(self.body["made"]), *_files(self.body["outputs"]))


def body_of(record: RunRecord) -> dict[str, Any]:
    """Return a run record as JSON values."""
    return cast("dict[str, Any]", jsonable(record))


def record_id_of(body: Mapping[str, object]) -> str:
    """Return what names a run record: the digest of all of it."""
    return digest_of(body)


def without_persons(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run record as the ledger keeps it: declarations of persons by their digest only."""
    parameters = body.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters.get("persons"):
        return dict(body)
    return {**body, "parameters": {**parameters, "persons": digest_of(parameters["persons"])}}


def write_run(layout: Layout, record: RunRecord) -> str:
    """Write a run record into the ledger and return its id. Writing it again changes nothing."""
    body = body_of(record)
    record_id = record_id_of(body)
    content = {"kind": RUN_KIND, "record_id": record_id, "record": without_persons(body)}
    create_new(layout.document(layout.runs, digest_of(content)), sealed_bytes(content))
    return record_id


def read_runs(layout: Layout) -> tuple[LedgerRun, ...]:
    """Return all records of an atlas by name; an atlas of an older version has none.

    Raises
    ------
    IntegrityError
        If one was edited.
    """
    found = [read_sealed(path) for path in documents_in(layout.runs)]
    return tuple(
        LedgerRun(record_id=str(document["record_id"]), body=cast("dict[str, Any]", document["record"]))
        for document in found
    )


def descendants(runs: Sequence[LedgerRun], digests: Collection[str]) -> tuple[LedgerRun, ...]:
    """Return the runs that rest on some digests, directly or through what other runs made, in the order given."""
    known, found = set(digests), set[int]()
    is_growing = True
    while is_growing:
        is_growing = False
        for number, run in enumerate(runs):
            if number not in found and any(parent.digest in known for parent in run.parents):
                found.add(number)
                known |= {run.record_id, *(made.digest for made in run.results)}
                is_growing = True
    return tuple(run for number, run in enumerate(runs) if number in found)


def _named(items: Sequence[Mapping[str, Any]]) -> tuple[NamedDigest, ...]:
    return tuple(NamedDigest(role=item["role"], name=item["name"], digest=item["digest"]) for item in items)


def _files(items: Sequence[Mapping[str, Any]]) -> tuple[NamedDigest, ...]:
    return tuple(NamedDigest(role=item["role"], name=item["name"], digest=f"sha256:{item['sha256']}") for item in items)
