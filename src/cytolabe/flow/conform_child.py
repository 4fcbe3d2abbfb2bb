"""The process that holds one untrusted file against rule packs: its structure first, then one pass over its values.

It runs under the bounds of `child_limits`, like the process that looks through a file before ingest, and for the same
reason: HDF5 trusts what it parses. Nothing is read twice: the pass that would only prove the file readable is the
pass of the checks.
"""

from pathlib import Path

from cytolabe.errors import CytolabeError
from cytolabe.flow.delivered import open_delivered
from cytolabe.ingest.child_limits import run_limited
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.safety import scan_h5
from cytolabe.records import Finding
from cytolabe.validate.conformity import conform

__all__ = ["look_through"]


def look_through(path: Path, packs: tuple[str, ...]) -> tuple[Finding, ...]:
    """Return what makes a file hostile or unreadable; else what breaks the rules of the packs."""
    found = scan_h5(path)
    if found:
        return found
    try:
        with open_delivered(path) as delivered:
            return tuple(finding for pack in packs for finding in conform(delivered, pack))
    except CytolabeError as error:
        return findings_of(error)


if __name__ == "__main__":
    run_limited(look_through)
