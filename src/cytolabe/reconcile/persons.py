"""Persons behind donor strings (rule R8).

A donor id means something inside its study and nothing outside, so the person key is `<study>/<donor_id>`. The same
string in two studies is never merged: it is reported as a suspicion, and a declaration merges; so are two spellings
in one study (`D1`, `d01`). Pooled and unknown donors are nobody: their person is `unknown`, and splits by person keep
them out.

Expression merges no persons, and identical cells prove one library, not one person.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cytolabe.records import UNKNOWN, Finding, Severity

__all__ = ["PERSON_COLUMNS", "DeclaredPerson", "PairStates", "alike_key", "pair_states", "resolve_persons"]

PERSON_COLUMNS = ("dataset_id", "donor_id", "person_id", "person_state", "evidence")
_RULE = "cytolabe/persons"
_NOBODY = frozenset({"", "unknown", "na", "n/a", "nan", "none", "null", "not available", "unassigned", "ambiguous",
                     "negative", "doublet", "multiplet"})  # fmt: skip
_SEVERITIES = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}


@dataclass(frozen=True, kw_only=True)
class DeclaredPerson:
    """What a study file or a reviewer says about a donor; an empty `donor_id` means every cell of the data set.

    `state` is resolved, pooled or unknown; only a resolved one is somebody.
    """

    person_id: str
    dataset_id: str
    donor_id: str = ""
    evidence: str = ""
    state: str = "resolved"


@dataclass(frozen=True, kw_only=True)
class PairStates:
    """Pairs of persons across two sides. `n_unknown_*` are cells without a person, about whom nothing is known."""

    n_same: int
    n_different: int
    n_assumed_different: int
    n_unknown_left: int
    n_unknown_right: int

    def sentence(self) -> str:
        """Return what a certificate says; it never says that no person is shared."""
        text = f"{self.n_same} known shared, {self.n_assumed_different} pairs assumed different"
        n_unknown = self.n_unknown_left + self.n_unknown_right
        return f"{text}, {n_unknown} cells of unknown persons" if n_unknown else text


def resolve_persons(
    cells: pd.DataFrame, *, declared: Sequence[DeclaredPerson] = ()
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Return one row per data set and donor with `PERSON_COLUMNS`, sorted, and what a person should know.

    Parameters
    ----------
    cells
        One row per cell with `dataset_id`, `study` and `donor_id`.
    declared
        Declarations. One for a donor goes before one for its whole data set. It holds in the other data sets of the
        study as well, where they have the same donor and no declaration of their own.
    """
    donors = cells[["dataset_id", "study", "donor_id"]].astype(str).value_counts(sort=False).sort_index().reset_index()
    table = [(row["dataset_id"], row["study"], row["donor_id"]) for row in donors.to_dict("records")]
    sizes = {key: int(n) for key, n in zip(table, donors["count"], strict=True)}
    said, findings = _checked(declared, table)
    by_key: dict[tuple[str, str], set[str]] = {}
    for dataset_id, study, donor_id in table:
        found = said.get((dataset_id, donor_id))
        if found and found.state == "resolved":
            by_key.setdefault((study, donor_id), set()).add(found.person_id)
    rows = []
    for dataset_id, study, donor_id in table:
        own = said.get((dataset_id, donor_id)) or said.get((dataset_id, ""))
        person_id, state, evidence = _person(study, donor_id, own=own, shared=by_key.get((study, donor_id), set()))
        rows.append((dataset_id, donor_id, person_id, state, evidence))
    persons = pd.DataFrame(rows, columns=list(PERSON_COLUMNS))
    findings += _suspicions(table, persons)
    findings += _alike(table, persons)
    findings += _quarantined(persons, [sizes[key] for key in table])
    return persons, tuple(findings)


def pair_states(left: pd.DataFrame, right: pd.DataFrame) -> PairStates:
    """Count pairs of persons between two sets of cells with `study` and `person_id`.

    Two persons that one study names apart are different by that study's evidence; two of different studies are
    only assumed to be.
    """
    studies = _studies_of(left), _studies_of(right)
    same = set(studies[0]) & set(studies[1])
    n_different = sum(
        bool(mine & theirs)
        for person, mine in studies[0].items()
        for other, theirs in studies[1].items()
        if person != other
    )
    n_pairs = len(studies[0]) * len(studies[1])
    return PairStates(
        n_same=len(same),
        n_different=n_different,
        n_assumed_different=n_pairs - len(same) - n_different,
        n_unknown_left=int((left["person_id"] == UNKNOWN).sum()),
        n_unknown_right=int((right["person_id"] == UNKNOWN).sum()),
    )


def _studies_of(cells: pd.DataFrame) -> Mapping[str, frozenset[str]]:
    known = cells.loc[cells["person_id"] != UNKNOWN, ["person_id", "study"]].drop_duplicates()
    found: dict[str, set[str]] = {}
    for person, study in zip(known["person_id"], known["study"], strict=True):
        found.setdefault(str(person), set()).add(str(study))
    return {person: frozenset(studies) for person, studies in sorted(found.items())}


def _person(study: str, donor_id: str, *, own: DeclaredPerson | None, shared: set[str]) -> tuple[str, str, str]:
    """Return person id, state and evidence of one donor of one data set."""
    if own:
        person_id = own.person_id if own.state == "resolved" else UNKNOWN
        return person_id, own.state, f"declared: {own.evidence}" if own.evidence else "declared"
    if _is_pool(donor_id):
        return UNKNOWN, "pooled", f"{donor_id!r} is a pool of persons"
    if _is_nobody(donor_id):
        return UNKNOWN, "unknown", "no donor was given"
    if len(shared) == 1:
        return next(iter(shared)), "resolved", f"declared for {donor_id!r} in another data set of study {study}"
    if shared:
        return UNKNOWN, "unknown", f"{donor_id!r} is declared as {', '.join(sorted(shared))} in study {study}"
    return f"{study}/{donor_id}", "resolved", f"donor {donor_id!r} of study {study}"


def _is_nobody(donor_id: str) -> bool:
    return donor_id.strip().lower() in _NOBODY


def _is_pool(donor_id: str) -> bool:
    words = donor_id.strip().lower()
    return words.startswith("pool") or words.endswith(("pool", "pooled")) or words == "multiplexed"


def _checked(
    declared: Sequence[DeclaredPerson], table: Sequence[tuple[str, str, str]]
) -> tuple[dict[tuple[str, str], DeclaredPerson], list[Finding]]:
    """Return usable declarations by (data set, donor), and an error for those that are not usable."""
    donors = {(dataset_id, donor_id) for dataset_id, _, donor_id in table}
    datasets = {dataset_id for dataset_id, _, _ in table}
    usable: dict[tuple[str, str], DeclaredPerson] = {}
    wrong, merging = [], []
    for person in sorted(declared, key=lambda p: (p.dataset_id, p.donor_id, p.person_id)):
        key = (person.dataset_id, person.donor_id)
        exists = key in donors if person.donor_id else person.dataset_id in datasets
        if not exists or (person.state == "resolved" and _is_nobody(person.person_id)):
            wrong.append(f"{person.dataset_id}: no donor {person.donor_id!r} for {person.person_id!r}")
        elif key in usable and usable[key].person_id != person.person_id:
            wrong.append(f"{person.dataset_id}: donor {person.donor_id!r} declared twice, last as {person.person_id!r}")
        else:
            usable[key] = person
        named = [d for s, d in sorted(donors) if s == person.dataset_id and not (_is_nobody(d) or _is_pool(d))]
        if not person.donor_id and len(named) > 1:
            merging.append(f"{person.dataset_id}: {', '.join(named[:5])} -> {person.person_id}")
    findings = []
    if wrong:
        findings.append(_finding(
            "E-PERSON-01", wrong, len(declared), message="declared persons cannot be used",
            remedy="correct data set, donor or person in the study file",
        ))  # fmt: skip
    if merging:
        findings.append(_finding(
            "W-PERSON-02", merging, len(declared),
            message="a declaration for a whole data set makes one person of several named donors",
            remedy="declare each donor, unless they are known to be one person",
        ))  # fmt: skip
    return usable, findings


def _suspicions(table: Sequence[tuple[str, str, str]], persons: pd.DataFrame) -> list[Finding]:
    """Report donor strings that several studies use for persons that were not declared to be one."""
    seen: dict[str, dict[str, str]] = {}
    for (_, study, donor_id), person_id in zip(table, persons["person_id"], strict=True):
        if person_id != UNKNOWN:
            seen.setdefault(donor_id, {})[study] = str(person_id)
    suspected = [
        f"{donor_id!r} in {', '.join(sorted(studies))}"
        for donor_id, studies in sorted(seen.items())
        if len(set(studies.values())) > 1
    ]
    if not suspected:
        return []
    return [_finding(
        "N-PERSON-03", suspected, len(seen),
        message="the same donor_id occurs in several studies; the persons are kept apart and only suspected to be one",
        remedy="declare the person in the study file if it is known to be one",
    )]  # fmt: skip


def _alike(table: Sequence[tuple[str, str, str]], persons: pd.DataFrame) -> list[Finding]:
    """Report donor strings of one study that differ in nothing but case, signs or leading zeros."""
    spelled: dict[tuple[str, str], dict[str, str]] = {}
    for (_, study, donor_id), person_id in zip(table, persons["person_id"], strict=True):
        if person_id != UNKNOWN:
            spelled.setdefault((study, alike_key(donor_id)), {})[donor_id] = str(person_id)
    alike = [
        f"{', '.join(repr(donor) for donor in sorted(donors))} of {study}"
        for (study, _), donors in sorted(spelled.items())
        if len(set(donors.values())) > 1
    ]
    if not alike:
        return []
    return [_finding(
        "W-PERSON-05", alike, len(spelled),
        message="donors of one study differ only in case, signs or leading zeros; if they are one person, it can be on "
        "both sides of a split",
        remedy="write each donor in one way, or declare the person in the study file",
    )]  # fmt: skip


def alike_key(donor_id: str) -> str:
    """Return a donor string without case, signs and leading zeros; signs between numbers keep them apart."""
    text = re.sub(r"(?<=\d)[\W_]+(?=\d)", "/", donor_id.casefold())
    text = re.sub(r"[^\w/]|_", "", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _quarantined(persons: pd.DataFrame, n_cells: Sequence[int]) -> list[Finding]:
    nobody = persons["person_state"] != "resolved"
    if not nobody.any():
        return []
    counted = [
        f"{row['dataset_id']}: {row['donor_id']!r} ({row['person_state']}, {n} cells)"
        for row, n in zip(persons.to_dict("records"), n_cells, strict=True)
        if row["person_state"] != "resolved"
    ]
    return [_finding(
        "W-PERSON-04", counted, len(persons),
        message="donors are unknown or pooled; their cells belong to nobody and cannot be held out by person",
        remedy="name the donor column or the donor in the manifest, or declare the person in the study file",
    )]  # fmt: skip


def _finding(code: str, texts: Sequence[str], n_total: int, *, message: str, remedy: str) -> Finding:
    return Finding(
        code=code, severity=_SEVERITIES[code[0]], where="donor_id", n_affected=len(texts), n_total=n_total,
        examples=tuple(texts[:5]), message=message, remedy=remedy, rule=_RULE,
    )  # fmt: skip
