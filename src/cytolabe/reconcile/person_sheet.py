"""Persons as a sheet that people read, change and hand back; and pairs of persons with what is known of each.

One line per donor of a data set. A line counts as reviewed where `reviewer` is filled; then its `person_id` and
`person_state` become a declaration, which stays in force until another review or a study says otherwise. Lines without
a reviewer are passed over, so that an old export never turns into a review.

A pair of persons is `same` (one person in several data sets, declared), `different` (told apart by one study, or by sex
genes) or `assumed_different` (nobody knows). Of the last kind only those are listed that look like one person; the others
are counted.
"""

import csv
import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from cytolabe.errors import UnreadableInputError
from cytolabe.reconcile.persons import DeclaredPerson, alike_key

__all__ = ["PAIR_COLUMNS", "SHEET_COLUMNS", "contradicted", "person_pairs", "read_person_sheet", "sheet_text"]

SHEET_COLUMNS = (
    "dataset_id", "study", "donor_id", "n_cells", "person_id", "person_state", "evidence", "sex_declared", "sex_genes",
    "suspected", "reviewer", "comment",
)  # fmt: skip
PAIR_COLUMNS = ("person_a", "person_b", "state", "evidence", "suspicion")
_NEEDED = ("dataset_id", "donor_id", "person_id", "person_state", "reviewer")
_STATES = ("resolved", "pooled", "unknown")


def sheet_text(sheet: pd.DataFrame) -> str:
    """Return a sheet of persons (`SHEET_COLUMNS`) as tab-separated text."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(SHEET_COLUMNS)
    writer.writerows(sheet[list(SHEET_COLUMNS)].itertuples(index=False, name=None))
    return out.getvalue()


def read_person_sheet(path: Path) -> tuple[DeclaredPerson, ...]:
    """Return what reviewers decided on a sheet.

    Raises
    ------
    UnreadableInputError
        If it is no table with the needed columns, or a state is none of the three.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} cannot be read as a sheet of persons: {error}."
        raise UnreadableInputError(msg) from None
    missing = [name for name in _NEEDED if not rows or rows[0].get(name) is None]
    if missing:
        msg = f"{path} is no sheet of persons: {', '.join(missing)} missing. Export one and change that."
        raise UnreadableInputError(msg)
    reviewed = [row for row in rows if (row["reviewer"] or "").strip()]
    wrong = [row for row in reviewed if row["person_state"] not in _STATES]
    if wrong:
        first = wrong[0]
        msg = f"{path}: {len(wrong)} person_state(s) are none of {', '.join(_STATES)}, first {first['person_state']!r} of {first['donor_id']!r} in {first['dataset_id']}."
        raise UnreadableInputError(msg)
    return tuple(
        DeclaredPerson(
            person_id=row["person_id"], dataset_id=row["dataset_id"], donor_id=row["donor_id"],
            evidence=": ".join(part for part in (f"reviewed by {row['reviewer'].strip()}", row.get("comment") or "") if part),
            state=row["person_state"],
        )
        for row in reviewed
    )  # fmt: skip


def person_pairs(sheet: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the pairs of which something is known or suspected (`PAIR_COLUMNS`), and how many are only assumed different.

    Parameters
    ----------
    sheet
        Donors with `SHEET_COLUMNS`; `sex_genes` begins with female or male where it says something.
    """
    known = sheet[sheet["person_state"] == "resolved"]
    rows = [
        (str(person), str(person), "same", "; ".join(sorted(set(own["evidence"]))), "")
        for person, own in known.groupby("person_id", sort=True)
        if own["dataset_id"].nunique() > 1
    ]
    facts = {str(person): own for person, own in known.groupby("person_id", sort=True)}
    sexes = {person: _sex(own) for person, own in facts.items()}
    studies = {person: set(own["study"]) for person, own in facts.items()}
    names = {person: {alike_key(name) for name in own["donor_id"]} for person, own in facts.items()}
    n_assumed = 0
    for a, b in combinations(facts, 2):
        shared_name = sorted(names[a] & names[b])
        suspicion = f"both are called like {shared_name[0]!r}" if shared_name else ""
        if {sexes[a], sexes[b]} == {"female", "male"}:
            rows.append((a, b, "different", f"sex genes: {sexes[a]} and {sexes[b]}", suspicion))
        elif studies[a] & studies[b] and not suspicion:
            continue  # one study names them apart, and nothing speaks against it
        elif studies[a] & studies[b]:
            rows.append((a, b, "different", f"named apart by study {min(studies[a] & studies[b])}", suspicion))
        else:
            n_assumed += 1
            if suspicion:
                rows.append((a, b, "assumed_different", "", suspicion))
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS)), n_assumed


def contradicted(sheet: pd.DataFrame) -> list[str]:
    """Return the persons who are a woman in one data set and a man in another by their sex genes."""
    known = sheet[sheet["person_state"] == "resolved"]
    found = []
    for person, own in known.groupby("person_id", sort=True):
        told = {text.partition(":")[0]: name for name, text in zip(own["dataset_id"], own["sex_genes"], strict=True)}
        if {"female", "male"} <= set(told):
            found.append(f"{person}: female in {told['female']}, male in {told['male']}")
    return found


def _sex(donors: pd.DataFrame) -> str:
    told: Sequence[str] = sorted({text.partition(":")[0] for text in donors["sex_genes"]} & {"female", "male"})
    return told[0] if len(told) == 1 else ""
