"""The process that holds one untrusted file against rule packs: its structure first, then one pass over its values.

It runs under the bounds of `child_limits`, like the process that looks through a file before ingest, and for the same
reason: HDF5 trusts what it parses. Nothing is read twice: the pass that would only prove the file readable is the
pass of the checks.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from cytolabe.errors import CytolabeError
from cytolabe.flow.delivered import open_delivered
from cytolabe.flow.spilled_marks import SpilledMarks
from cytolabe.ingest.child_limits import run_limited
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.safety import scan_h5
from cytolabe.ingest.spill import Spill
from cytolabe.records import Finding
from cytolabe.validate.conformity import conform
from cytolabe.validate.marks import HeldMarks, Marks

__all__ = ["look_through"]


_HELD_ROWS = 1 << 17
"""Marks of so many rows are held (1 MiB); those of more are kept by the process that started this one."""


def look_through(
    path: Path, packs: tuple[str, ...], hops: tuple[str, ...] = (), *, spill: Spill | None = None
) -> tuple[Finding, ...]:
    """Return what makes a file hostile or unreadable; else what breaks the rules of the packs.

    `hops` are what a manifest says of the steps before the counts (`kit=declared`), nothing where none was looked for.
    The marks of its cells and of their names are held, or go to `spill` where there is one and rows are many.
    """
    found = scan_h5(path)
    if found:
        return found
    try:
        with open_delivered(path, marks_for=partial(_marks_for, spill)) as opened:
            delivered = replace(opened, hops=dict(hop.split("=", 1) for hop in hops))
            return tuple(finding for pack in packs for finding in conform(delivered, pack))
    except CytolabeError as error:
        return findings_of(error)


def _marks_for(spill: Spill | None, n_rows: int) -> Marks:
    return HeldMarks(n_rows) if spill is None or n_rows <= _HELD_ROWS else SpilledMarks(spill)


if __name__ == "__main__":
    run_limited(look_through)
