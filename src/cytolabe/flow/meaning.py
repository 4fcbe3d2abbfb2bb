"""Whether the parts of files mean what they say, where a file was already read for another reason.

Tables only: what the values of a matrix are is proven by the pass of ingest. Donors are also laid beside those of the
other files of one call, because a name that two data sets use may or may not be one person.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py

from cytolabe.errors import CytolabeError
from cytolabe.flow.apart import crashed, run_apart
from cytolabe.flow.conform import Conformed
from cytolabe.flow.delivered import open_delivered
from cytolabe.flow.delivered_table import FileTable
from cytolabe.ingest.nodes import is_group
from cytolabe.ingest.refusals import readable
from cytolabe.records import Finding
from cytolabe.validate.check_meaning import colliding_donors
from cytolabe.validate.conformity import conform
from cytolabe.validate.schema import MEANING_PACK

__all__ = ["donor_collisions", "donors_of", "meaning_findings", "with_collisions"]

_DONOR = "donor_id"


def meaning_findings(path: Path, told: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return what the tables of a scanned h5ad file say and do not mean; a code that was told is not told again.

    What cannot be read as a file of today (a table of version 0.6, categories of 0.7) is left to the reader of ingest.
    """
    if not h5py.is_hdf5(path):
        return ()
    try:
        with open_delivered(path, with_matrices=False) as delivered:
            found = conform(delivered, MEANING_PACK)
    except CytolabeError:
        return ()
    known = {finding.code for finding in told}
    return tuple(finding for finding in found if finding.code not in known)


def donor_collisions(paths: Mapping[str, Path]) -> Mapping[str, tuple[Finding, ...]]:
    """Return for each file which of its donors have a name that another of the files uses; empty for a single file."""
    if len(paths) < 2:
        return {}
    return colliding_donors({name: found for name, path in paths.items() if (found := donors_of(path))})


def _collisions_apart(paths: Sequence[Path]) -> Mapping[str, tuple[Finding, ...]]:
    """Return what `donor_collisions` does, by path, from processes that may die; and of a file over which they did, that."""
    if len(paths) < 2:
        return {}
    answers = run_apart([("donors", path) for path in paths])
    donors = {str(path): found for path, found in zip(paths, answers, strict=True) if isinstance(found, Mapping)}
    died = {str(path): (crashed(path),) for path, found in zip(paths, answers, strict=True) if found is None}
    return {**colliding_donors({name: found for name, found in donors.items() if found}), **died}


def with_collisions(rows: Sequence[Conformed]) -> tuple[Conformed, ...]:
    """Return what was found of some files, with the donors that several of them name."""
    paths = [row.path for row in rows if not row.unreadable]
    found = _collisions_apart(paths)
    return tuple(dataclasses.replace(row, findings=(*row.findings, *found.get(str(row.path), ()))) for row in rows)


def donors_of(path: Path) -> Mapping[str, int]:
    """Return the donors of a scanned file with their cells; empty where it has no such column, or is of version 0.6."""
    if not h5py.is_hdf5(path):
        return {}
    try:
        with readable(path.name), h5py.File(path, "r", locking=False) as file:
            if not is_group(file.get("obs")):
                return {}
            obs = FileTable(file["obs"], "obs")
            levels = obs.count((_DONOR,)) if _DONOR in obs.columns else {}
    except CytolabeError:
        return {}
    return {level: n_cells for (level,), n_cells in levels.items() if level is not None}
