"""Files outside of an atlas that its ledger knows by digest: splits, certificates, embeddings, sources, weights.

A name may stand for several files that were made one after the other; a file is as it was where any of them has its
bytes.
"""

from collections.abc import Sequence
from pathlib import Path

from cytolabe.errors import CytolabeError
from cytolabe.ingest import identity
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import read_runs

__all__ = ["verify_ledger_files"]


def verify_ledger_files(layout: Layout, data: Sequence[Path]) -> tuple[int, tuple[Finding, ...]]:
    """Hash the files in some folders whose names the ledger knows; return how many there were, and which are others."""
    known: dict[str, dict[str, str]] = {}
    try:
        runs = read_runs(layout)
    except CytolabeError:
        return 0, ()
    for run in runs:
        for item in (*run.body["inputs"], *run.body["outputs"]):
            known.setdefault(str(item["name"]), {})[str(item["sha256"])] = (
                f"{item['role']} of {run.kind} {run.record_id[:19]}"
            )
    findings = []
    paths = [path for folder in data for path in sorted(folder.rglob("*")) if path.name in known]
    for path in paths:
        found = identity.digest_of(path)
        if found in known[path.name]:
            continue
        roles = sorted(set(known[path.name].values()))
        findings.append(
            Finding(
                code="E-INTEGRITY-10",
                severity=Severity.ERROR,
                where=path.name,
                message=f"its bytes have digest {found[:12]}, and the ledger knows it as {', '.join(roles[:3])} with {next(iter(known[path.name]))[:12]}",
                remedy="Restore it from a copy, or make it again; what rests on the recorded one does not follow from this.",
                rule="cytolabe/integrity",
                n_affected=1,
                n_total=len(paths),
                examples=tuple(roles[:5]),
            )
        )  # fmt: skip
    return len(paths), tuple(findings)
