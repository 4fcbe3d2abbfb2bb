"""A tally as a document and arrays, so that a ledger can keep it without pickling, and back."""

from collections.abc import Mapping
from dataclasses import fields
from typing import cast

import numpy as np

from cytolabe.ingest.tally import Hole, MatrixTally

__all__ = ["tally_arrays", "tally_document", "tally_from"]


def tally_document(tally: MatrixTally) -> dict[str, object]:
    """Return everything of a tally that is no array; numbers that JSON has no word for are written as text."""
    document: dict[str, object] = {}
    for found in fields(tally):
        value = getattr(tally, found.name)
        if not isinstance(value, np.ndarray):
            document[found.name] = value
    document["exact_below"] = float(tally.exact_below).hex()
    document["largest"] = float(tally.largest).hex()
    hole = tally.first_hole
    document["first_hole"] = None if hole is None else [hole.cell, hole.value, hole.n_next]
    document["first"] = {
        kind: [cell, feature, float(value).hex()] for kind, (cell, feature, value) in tally.first.items()
    }
    return document


def tally_arrays(tally: MatrixTally) -> dict[str, np.ndarray]:
    """Return the arrays of a tally by name."""
    values = {found.name: getattr(tally, found.name) for found in fields(tally)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def tally_from(document: object, arrays: Mapping[str, np.ndarray]) -> MatrixTally:
    """Return the tally that a document and arrays were made of."""
    known = dict(cast("Mapping[str, object]", document))
    known["exact_below"] = float.fromhex(str(known["exact_below"]))
    known["largest"] = float.fromhex(str(known["largest"]))
    hole = cast("list[int] | None", known["first_hole"])
    known["first_hole"] = None if hole is None else Hole(cell=hole[0], value=hole[1], n_next=hole[2])
    first = cast("Mapping[str, list[object]]", known["first"])
    known["first"] = {
        kind: (int(str(cell)), int(str(feature)), float.fromhex(str(value)))
        for kind, (cell, feature, value) in first.items()
    }
    known["broken"] = dict(cast("Mapping[str, int]", known["broken"]))
    tally = MatrixTally(**known)  # type: ignore[arg-type]
    for name, value in arrays.items():
        setattr(tally, name, value)
    return tally
