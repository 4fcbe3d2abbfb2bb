"""Which training labels are left when only a few may be learned from, and why these.

Cells of a type, and donors, stand in an order that only the seed, the number of the draw and their own names decide:
by the SHA-256 of the three. The first n are taken. So 5 contain 1 of the same draw, no other cell changes the choice,
and whoever has the names can draw again without this package (`verify_certificate.py` does).
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Integer

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.provenance import cells_digest
from cytolabe.split.keys import is_person_resolved

__all__ = ["AXES", "LabelDraw", "Pool", "draw_key", "label_draws", "limited_stratum", "pool_of"]

AXES = ("cells_per_type", "donors")
_NO_PERSON = "no person of the training side is known"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Labelled training cells to draw from, one entry each: position in the snapshot, id, term, and person.

    `person` is empty where it is not resolved.
    """

    rows: np.ndarray
    cell_ids: np.ndarray
    terms: np.ndarray
    persons: np.ndarray


@dataclass(frozen=True, kw_only=True)
class LabelDraw:
    """The labels of one draw: positions of cells in the snapshot, ascending. `notes` say what is fewer than asked.

    `why_none` says why there is no such draw.
    """

    axis: str
    value: int
    number: int
    rows: np.ndarray
    cells_digest: str = ""
    notes: tuple[str, ...] = ()
    why_none: str = ""

    @property
    def stratum(self) -> str:
        """How scores on this draw are marked."""
        return limited_stratum(self.axis, self.value)


def limited_stratum(axis: str, value: int) -> str:
    """Return the stratum of scores on few labels, such as `cells_per_type=5`."""
    return f"{axis}={value}"


def draw_key(seed: int, number: int, name: str) -> str:
    """Return what a cell or donor is ordered by in a draw: the smaller, the earlier."""
    return hashlib.sha256(f"{seed}\x1flimited labels\x1f{number}\x1f{name}".encode()).hexdigest()


def label_draws(pool: Pool, asked: LimitedLabels, *, seed: int) -> tuple[LabelDraw, ...]:
    """Return every draw that is asked for: by axis, value and number, in this order.

    Parameters
    ----------
    pool
        The labelled training cells.
    asked
        How many cells of each type, how many donors, and how often.
    seed
        The seed of the study.
    """
    numbers = range(asked.n_draws)
    cells = [_of_types(pool, value, number, seed=seed) for value in asked.cells_per_type for number in numbers]
    donors = [_of_donors(pool, value, number, seed=seed) for value in asked.donors for number in numbers]
    return (*cells, *donors)


def _of_types(pool: Pool, value: int, number: int, *, seed: int) -> LabelDraw:
    keys = [draw_key(seed, number, str(name)) for name in pool.cell_ids]
    ordered = pd.DataFrame({"term": pool.terms.astype(str), "key": keys}).sort_values("key", kind="stable")
    kept = np.sort(ordered.groupby("term", sort=False).head(value).index.to_numpy(dtype=np.int64))
    sizes = pd.Series(pool.terms.astype(str)).value_counts()
    few = sorted(f"{term} ({n})" for term, n in sizes.items() if n < value)
    note = f"{len(few)} of {len(sizes)} types have fewer than {value} labelled training cells, all taken: {_some(few)}"
    return _draw(pool, kept, ("cells_per_type", value, number), notes=(note,) if few else ())


def _of_donors(pool: Pool, value: int, number: int, *, seed: int) -> LabelDraw:
    persons = sorted(set(pool.persons.tolist()) - {""}, key=lambda name: draw_key(seed, number, str(name)))
    none = LabelDraw(axis="donors", value=value, number=number, rows=np.zeros(0, dtype=np.int64))
    if len(persons) < value:
        known = f"{len(persons)} known person(s) have labelled training cells" if persons else _NO_PERSON
        return dataclasses.replace(none, why_none=f"not_applicable: {known}")
    kept = np.flatnonzero(np.isin(pool.persons.astype(str), persons[:value]))
    n_unknown = int((pool.persons == "").sum())
    lost = sorted(set(pool.terms.astype(str).tolist()) - set(pool.terms[kept].astype(str).tolist()))
    notes = [f"{n_unknown} labelled training cells of no known person are left out"] if n_unknown else []
    notes += [f"draw {number}: no cell of {_some(lost)}; their F1 is 0 there"] if lost else []
    return _draw(pool, kept, ("donors", value, number), notes=tuple(notes))


def _draw(
    pool: Pool, kept: Integer[np.ndarray, " kept"], what: tuple[str, int, int], *, notes: Sequence[str]
) -> LabelDraw:
    axis, value, number = what
    return LabelDraw(
        axis=axis,
        value=value,
        number=number,
        rows=pool.rows[kept],
        cells_digest=cells_digest(pool.cell_ids[kept].tolist()),
        notes=tuple(notes),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def pool_of(cells: pd.DataFrame, rows: np.ndarray, terms: np.ndarray) -> Pool:
    """Return the cells among `rows` that have a term.

    Parameters
    ----------
    cells
        Cells of the snapshot.
    rows
        Training cells, positions in it.
    terms
        A term per cell of the snapshot, empty where the label does not count in training.
    """
    labelled = np.sort(rows[terms[rows] != ""])
    part = cells.iloc[labelled]
    return Pool(
        rows=labelled,
        cell_ids=part["cell_id"].to_numpy(dtype=object),
        terms=terms[labelled],
        persons=np.where(is_person_resolved(part), part["person_id"].to_numpy(dtype=object), ""),
    )
