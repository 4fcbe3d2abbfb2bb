"""What was fitted on all cells of a delivered file, told of the folds that hold cells of it (exposure of preprocessing).

Ingest names such steps (`N-H5AD-03`): genes chosen, components, graphs, corrected layers. The atlas takes none of them;
but where genes were chosen before the file was delivered, or somebody scores an embedding of it, test cells had a part.
A file that a fold cuts had its test cells among those that its training cells were prepared with; a file that is held
out whole was prepared with itself alone.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from cytolabe.audit.copies import Outcome
from cytolabe.records import Finding, Fold, Severity
from cytolabe.snapshot.view import SnapshotView

__all__ = ["DELIVERED_FITS", "delivered_fits"]

DELIVERED_FITS = "fits of delivered files"
_NAMED_AT_INGEST = "N-H5AD-03"


@runtime_checkable
class _Entry(Protocol):
    @property
    def findings(self) -> tuple[Finding, ...]: ...


@runtime_checkable
class _Delivered(Protocol):
    """A snapshot that knows what ingest found of each data set."""

    @property
    def entries(self) -> Mapping[str, _Entry]: ...


def delivered_fits(snapshot: SnapshotView, fold: Fold) -> Outcome:
    """Name the files of the test side that hold something fitted on all of their cells.

    Returns
    -------
    `n_found` counts the files that the fold cuts; `files` names each of them and each that is held out whole. A
    snapshot that was not read from an atlas does not know, and its data sets are not testable.
    """
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    train, test = (set(names[rows].tolist()) for rows in (fold.train_rows, fold.test_rows))
    entries = snapshot.entries if isinstance(snapshot, _Delivered) else {}
    known = sorted(test & set(entries))
    fits = {name: [one for one in entries[name].findings if one.code == _NAMED_AT_INGEST] for name in known}
    files = [
        {
            "dataset_id": name, "n_fits": found[0].n_affected, "examples": list(found[0].examples),
            "test_cells": "with training cells" if name in train else "among themselves",
        }
        for name, found in fits.items()
        if found
    ]  # fmt: skip
    cut = [str(one["dataset_id"]) for one in files if one["dataset_id"] in train]
    outcome: dict[str, object] = {
        "test": DELIVERED_FITS, "n_tested": len(known), "n_found": len(cut),
        "power": "by the names that tools give to fits, in h5ad files; what another name hides is not seen",
        "files": files,
    }  # fmt: skip
    blind = {f"{DELIVERED_FITS}, data sets": len(test) - len(known)}
    return Outcome(test=outcome, findings=_findings(snapshot, fold, cut, fits=fits), not_testable=blind)


def _findings(
    snapshot: SnapshotView, fold: Fold, cut: list[str], *, fits: Mapping[str, list[Finding]]
) -> tuple[Finding, ...]:
    if not cut:
        return ()
    names, ids = (snapshot.cells[column].to_numpy(dtype=object) for column in ("dataset_id", "cell_id"))
    examples = []
    for name in cut[:5]:
        train, test = (str(ids[rows[np.argmax(names[rows] == name)]]) for rows in (fold.train_rows, fold.test_rows))
        examples.append(f"{name} ({', '.join(fits[name][0].examples)}): train {train}, test {test}")
    return (
        Finding(
            code="W-LEAK-11",
            severity=Severity.WARNING,
            where=fold.split_id,
            message=f"{len(cut)} file(s) with cells on both sides were delivered with steps that were fitted on all of their cells: "
            "whatever those steps decided (which genes are there, above all) the test cells decided, too",
            remedy="hold the file out whole, or deliver all of its genes; score no embedding of it",
            rule="R13",
            n_affected=len(cut),
            n_total=len(fits),
            examples=tuple(examples),
        ),
    )
