"""The persons of an atlas: looked at, reviewed on a sheet, and put in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.files import replace_file
from cytolabe.flow.interpret import resolve_in_force
from cytolabe.provenance import artifact_of
from cytolabe.reconcile.person_sheet import (
    SHEET_COLUMNS,
    contradicted,
    person_pairs,
    read_person_sheet,
    sheet_text,
    with_suspected,
)
from cytolabe.reconcile.sex_genes import SEX_GENES, sex_of, why_not_read
from cytolabe.records import UNKNOWN, Finding, Severity
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.strata import strata_of

__all__ = ["PersonReview", "person_sheet", "review_persons"]

_COLUMNS = ("dataset_id", "study", "donor_id", "person_id", "person_state", "sex", "disease", "tissue", "organism")


@dataclass(frozen=True, kw_only=True)
class PersonReview:
    """The sheet, the pairs of which something is known, the number of pairs only assumed different, and findings."""

    sheet: pd.DataFrame
    pairs: pd.DataFrame
    n_assumed_different: int
    findings: tuple[Finding, ...]


def review_persons(
    atlas: Atlas, snapshot: Snapshot, *, reviewed: Path | None = None, export: Path | None = None
) -> PersonReview:
    """Put a reviewed sheet in force, and tell what is known of the persons of a snapshot.

    Parameters
    ----------
    atlas
        Where reviews come into force; a snapshot that is frozen already keeps its persons.
    snapshot
        Whose donors are looked at; sex genes are read from its counts.
    reviewed
        A sheet that somebody went over.
    export
        Where the sheet is written.
    """
    findings: tuple[Finding, ...] = ()
    in_force = snapshot.persons
    if reviewed is not None:
        findings = resolve_in_force(atlas, read_person_sheet(reviewed), files=[artifact_of(reviewed, "reviewed")])
        in_force = atlas.persons()
    sheet = person_sheet(snapshot, in_force)
    if wrong := contradicted(sheet):
        findings = (*findings, _contradiction(wrong, sheet["person_id"].nunique()))
    pairs, n_assumed = person_pairs(sheet)
    sheet = with_suspected(sheet, pairs)
    if export is not None:
        replace_file(export, sheet_text(sheet).encode())
    return PersonReview(sheet=sheet, pairs=pairs, n_assumed_different=n_assumed, findings=findings)


def person_sheet(snapshot: Snapshot, persons: pd.DataFrame) -> pd.DataFrame:
    """Return one row per donor with `SHEET_COLUMNS`: the person in force, and what its sex genes say."""
    strata = strata_of(snapshot, _COLUMNS)
    donors = strata.table.groupby(["dataset_id", "donor_id"], sort=True)
    donor_of_stratum = donors.ngroup().to_numpy(dtype=np.int32)
    measured = {name: _Measured.of(snapshot, name) for name in snapshot.datasets}
    counts = _sex_counts(snapshot, donor_of_stratum[strata.number_of_row()], donors.ngroups, measured=measured)
    known = {(str(row["dataset_id"]), str(row["donor_id"])): row for row in persons.to_dict("records")}
    rows = []
    for number, ((dataset_id, donor_id), own) in enumerate(donors):
        person = known.get((str(dataset_id), str(donor_id)))
        state = str(person["person_state"]) if person is not None else UNKNOWN
        genes = measured[str(dataset_id)]
        why_not = why_not_read(
            n_genes=genes.n_genes, state=state, diseases=_joined(own["disease"]), tissues=_joined(own["tissue"])
        )
        told = why_not or sex_of(*counts[number], measures_x=bool(genes.x), measures_y=bool(genes.y)).sentence()
        rows.append((
            dataset_id, _joined(own["study"]), donor_id, int(own["n_cells"].sum()),
            str(person["person_id"]) if person is not None else UNKNOWN, state,
            str(person["evidence"]) if person is not None else "", _joined(own["sex"]), told, "", "", "",
        ))  # fmt: skip
    return pd.DataFrame(rows, columns=list(SHEET_COLUMNS))


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What a data set measures: how many genes, and which of the sex genes; read once for all of its donors."""

    n_genes: int
    x: tuple[str, ...]
    y: tuple[str, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, dataset_id: str) -> "_Measured":
        genes = set(snapshot.measured_genes(dataset_id))
        sides = SEX_GENES.get(snapshot.datasets[dataset_id].organism, {"x": (), "y": ()})
        x, y = (tuple(sorted(genes.intersection(sides[side]))) for side in ("x", "y"))
        return cls(n_genes=len(genes), x=x, y=y)


def _sex_counts(
    snapshot: Snapshot, donor_of_cell: np.ndarray, n_donors: int, *, measured: Mapping[str, _Measured]
) -> list[tuple[int, int]]:
    """Return the counts of XIST and of Y genes of each donor; data sets that measure none are not read."""
    found = np.zeros((n_donors, 2), dtype=np.int64)
    first = 0
    for dataset_id, record in snapshot.datasets.items():
        own = donor_of_cell[first : first + record.n_cells]
        first += record.n_cells
        genes = measured[dataset_id]
        if not (genes.x and genes.y):
            continue
        place = 0
        for block in snapshot.iter_blocks(dataset_id, [*genes.x, *genes.y]):
            donors = own[place : place + block.counts.shape[0]]
            place += block.counts.shape[0]
            sums = np.asarray(block.counts[:, : len(genes.x)].sum(axis=1)).ravel()
            np.add.at(found[:, 0], donors, sums.astype(np.int64))
            sums = np.asarray(block.counts[:, len(genes.x) :].sum(axis=1)).ravel()
            np.add.at(found[:, 1], donors, sums.astype(np.int64))
    return [(int(x), int(y)) for x, y in found]


def _joined(values: pd.Series) -> str:
    return ", ".join(sorted(set(values.astype(str)) - {UNKNOWN, ""})) or UNKNOWN


def _contradiction(wrong: list[str], n_persons: int) -> Finding:
    return Finding(
        code="W-PERSON-06",
        severity=Severity.WARNING,
        where="person_id",
        message="donors that are one person by declaration have opposite sex by their sex genes",
        remedy="look at the evidence of the declaration; declare them apart on the sheet (cytolabe persons --export)",
        rule="R8",
        n_affected=len(wrong),
        n_total=n_persons,
        examples=tuple(wrong[:5]),
    )
