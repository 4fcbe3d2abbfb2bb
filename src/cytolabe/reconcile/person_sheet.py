"""Persons as a sheet that people read, change and hand back; and pairs of persons with what is known of each.

One line per donor of a data set. A line counts as reviewed where `reviewer` is filled; then its `person_id` and
`person_state` become a declaration, which stays in force until another review or a study says otherwise. Lines without
a reviewer are passed over, so that an old export never turns into a review.

A pair of persons is `same` (one person in several data sets, declared), `different` (told apart by one study, or by sex
genes) or `assumed_different` (nobody knows). Listed are the first, and pairs that are called alike whatever is known of
them; of an atlas of thousands of persons the millions of other pairs are counted, class by class, and never made.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from pathlib import Path

import pandas as pd

from cytolabe.errors import UnreadableInputError
from cytolabe.files import tsv_text
from cytolabe.reconcile.persons import DeclaredPerson, alike_key

__all__ = [
    "PAIR_COLUMNS",
    "SHEET_COLUMNS",
    "contradicted",
    "person_pairs",
    "read_person_sheet",
    "sheet_text",
    "with_suspected",
]

SHEET_COLUMNS = (
    "dataset_id", "study", "donor_id", "n_cells", "person_id", "person_state", "evidence", "sex_declared", "sex_genes",
    "suspected", "reviewer", "comment",
)  # fmt: skip
PAIR_COLUMNS = ("person_a", "person_b", "state", "evidence", "suspicion")
_NEEDED = ("dataset_id", "donor_id", "person_id", "person_state", "reviewer")
_STATES = ("resolved", "pooled", "unknown")


def sheet_text(sheet: pd.DataFrame) -> str:
    """Return a sheet of persons (`SHEET_COLUMNS`) as tab-separated text."""
    return tsv_text([SHEET_COLUMNS, *sheet[list(SHEET_COLUMNS)].itertuples(index=False, name=None)])


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
    """Return the pairs that are one person or are called alike (`PAIR_COLUMNS`), and how many are only assumed different.

    Parameters
    ----------
    sheet
        Donors with `SHEET_COLUMNS`; `sex_genes` begins with female or male where it says something.
    """
    known = sheet[sheet["person_state"] == "resolved"]
    facts = {str(person): own for person, own in known.groupby("person_id", sort=True)}
    kinds = {person: _Kind(studies=frozenset(own["study"]), sex=_sex(own)) for person, own in facts.items()}
    rows = [
        (person, person, "same", "; ".join(sorted(set(own["evidence"]))), "")
        for person, own in facts.items()
        if own["dataset_id"].nunique() > 1
    ]
    for (a, b), name in sorted(_called_alike(facts).items()):
        state, evidence = _state(kinds[a], kinds[b])
        rows.append((a, b, state, evidence, f"both are called like {name!r}"))
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS)), _n_assumed(list(kinds.values()))


def with_suspected(sheet: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return a sheet that names beside each person those who are called alike."""
    like: dict[str, list[str]] = {}
    for a, b, suspicion in zip(pairs["person_a"], pairs["person_b"], pairs["suspicion"], strict=True):
        if suspicion:
            like.setdefault(str(a), []).append(str(b))
            like.setdefault(str(b), []).append(str(a))
    return sheet.assign(suspected=[", ".join(sorted(like.get(str(person), ()))) for person in sheet["person_id"]])


@dataclass(frozen=True)
class _Kind:
    """What tells two persons apart."""

    studies: frozenset[str]
    sex: str


def _state(a: _Kind, b: _Kind) -> tuple[str, str]:
    if {a.sex, b.sex} == {"female", "male"}:
        return "different", f"sex genes: {a.sex} and {b.sex}"
    if a.studies & b.studies:
        return "different", f"named apart by study {min(a.studies & b.studies)}"
    return "assumed_different", ""


def _called_alike(facts: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], str]:
    """Return the pairs of persons with a donor name in common, and the first such name."""
    persons_of: dict[str, list[str]] = {}
    for person, own in facts.items():
        for name in sorted({alike_key(name) for name in own["donor_id"]}):
            persons_of.setdefault(name, []).append(person)
    found: dict[tuple[str, str], str] = {}
    for name in sorted(persons_of):
        for pair in combinations(persons_of[name], 2):
            found.setdefault(pair, name)
    return found


def _n_assumed(kinds: Sequence[_Kind]) -> int:
    """Count the pairs that neither a study nor sex tells apart, by kinds of persons: there are few of them."""
    sizes = Counter(kinds)
    sexes = Counter(kind.sex for kind in kinds)
    n_open = math.comb(len(kinds), 2) - sexes["female"] * sexes["male"]
    by_study: dict[str, set[_Kind]] = {}
    for kind in sizes:
        for study in kind.studies:
            by_study.setdefault(study, set()).add(kind)
    meeting = {frozenset(pair) for of_study in by_study.values() for pair in combinations_with_replacement(of_study, 2)}
    for pair in meeting:
        a, b = (*pair, *pair)[:2]
        if {a.sex, b.sex} != {"female", "male"}:
            n_open -= math.comb(sizes[a], 2) if a == b else sizes[a] * sizes[b]
    return n_open


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
