"""Which runs rest on what is damaged in an atlas: a changed chunk is named, and so are the scores that came from it."""

from collections.abc import Iterator, Sequence

from cytolabe.errors import CytolabeError
from cytolabe.provenance import digest_of
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import descendants, read_runs
from cytolabe.store.documents import documents_in

__all__ = ["runs_on_damage"]


def runs_on_damage(layout: Layout, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return one note that names the runs that rest on something that errors are about; nothing where there is none."""
    damaged = {_object_name(finding.where) for finding in findings if finding.severity is Severity.ERROR}
    if not damaged:
        return ()
    digests = {f"sha256:{name}" for name in damaged}
    digests |= {digest_of(entry.logical()) for entry in _entries(layout) if damaged & _names_of(entry)}
    try:
        runs = [run for run in descendants(read_runs(layout), digests) if run.kind != "ingest"]
    except CytolabeError:
        return ()
    if not runs:
        return ()
    told = [f"{run.kind} {run.record_id[:19]}" for run in runs]
    return (
        Finding(
            code="N-INTEGRITY-05",
            severity=Severity.NOTE,
            where="runs",
            message=f"{len(runs)} run(s) rest on what is damaged: {', '.join(told[:5])}",
            remedy="do not use what they made before it is restored",
            rule="cytolabe/integrity",
            n_affected=len(runs),
            n_total=len(runs),
            examples=tuple(told[:5]),
        ),
    )


def _object_name(where: str) -> str:
    """Return the digest in the path of an object, as findings write it: `partitions/<digest> of kang/X/data/c/0`."""
    parts = where.split(" of ", maxsplit=1)[0].split("/")
    return next((part.split(".")[0] for part in parts if len(part.split(".")[0]) == 64), "")


def _entries(layout: Layout) -> Iterator[DatasetEntry]:
    for path in documents_in(layout.datasets):
        try:
            yield read_entry(layout, f"sha256:{path.stem}")
        except CytolabeError:
            continue


def _names_of(entry: DatasetEntry) -> set[str]:
    """Return the names of the objects that a data set consists of; sketches follow from the others."""
    named = [entry.digest, *(partition.digest for partition in entry.partitions)]
    files = [table.file for name, table in entry.tables.items() if name != "sketches"]
    return {digest.removeprefix("sha256:") for digest in named} | {file.split(".")[0] for file in files}
