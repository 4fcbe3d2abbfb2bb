"""Which contributor column carries which role. The manifest decides; what it leaves open is inferred and said.

Roles: label, label_parent, donor, batch, assay, suspension_type, tissue, disease, sex, site, organism and
claimed_term (a Cell Ontology id that the contributor gives). A declared column that is not there is an error: the
role then stays empty instead of being guessed. No role is ever guessed from numbers; a donor column that is one-to-one
with the technology is no donor column, whatever it is called.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from cytolabe.config.manifest import Manifest
from cytolabe.genes.organisms import canonical_organism
from cytolabe.ingest.column_names import ROLE_NAMES, is_condition, is_technology, is_truth_word, rank_of_name
from cytolabe.ingest.labels import LabelChoice, choose_label, choose_parent
from cytolabe.ingest.partitions import Grouping, grouping_of, is_same
from cytolabe.records import Finding, Severity

__all__ = ["ROLES", "ColumnRoles", "infer_columns"]

ROLES = (
    "label", "label_parent", "donor", "batch", "assay", "suspension_type", "tissue", "disease", "sex", "site", "organism",
    "claimed_term",
)  # fmt: skip
_COLUMN_KEYS = {
    "label": "label", "label_parent": "label_parent", "donor": "donor", "batch": "batch", "assay": "assay_column",
    "suspension_type": "suspension_type_column", "tissue": "tissue_column", "disease": "disease_column",
    "sex": "sex_column", "site": "site_column",
}  # fmt: skip
_VALUE_KEYS = {
    "donor": "donor_value", "batch": "batch_value", "assay": "assay", "suspension_type": "suspension_type",
    "tissue": "tissue", "disease": "disease", "sex": "sex", "site": "site", "organism": "organism",
}  # fmt: skip
_ID_LIKE = 0.9


@dataclass(frozen=True, kw_only=True)
class ColumnRoles:
    """Role -> column, role -> value that holds for every cell, the roles that nobody declared, and why."""

    columns: Mapping[str, str]
    constants: Mapping[str, str]
    inferred: tuple[str, ...]
    findings: tuple[Finding, ...] = field(default=())


def infer_columns(cell_table: pd.DataFrame, manifest: Manifest) -> ColumnRoles:
    """Find the column of each role.

    Parameters
    ----------
    cell_table
        Columns as delivered.
    manifest
        What was declared; an empty one leaves everything to inference.
    """
    columns, constants, findings = _declared(cell_table, manifest)
    closed = set(columns) | set(constants) | {role for role, key in _COLUMN_KEYS.items() if getattr(manifest, key)}
    reasons: list[str] = []
    for role in ROLE_NAMES:
        name = "" if role in closed else _by_name(cell_table, role, findings)
        if name:
            columns[role] = name
            reasons.append(f"{role} = {name!r} (by its name)")
    _check_donor(cell_table, columns, declared="donor" in closed, findings=findings)
    reasons = [reason for reason in reasons if reason.split(" = ")[0] in columns]
    choice = _label_choice(cell_table, columns, closed=closed, unlabelled=manifest.unlabelled)
    findings.extend(choice.findings)
    reasons.extend(choice.reasons)
    if choice.label:
        columns["label"] = choice.label
    if choice.parent and "label_parent" not in closed:
        columns["label_parent"] = choice.parent
        reasons.append(f"label_parent = {choice.parent!r} (coarser, and holds the label's levels whole)")
    findings.extend(_label_against_batch(columns))
    findings.extend(_several_organisms(cell_table, columns))
    inferred = tuple(role for role in ROLES if role in columns and role not in closed)
    if inferred:
        findings.append(_inferred(inferred, reasons))
    return ColumnRoles(
        columns={role: columns[role] for role in ROLES if role in columns},
        constants={role: constants[role] for role in ROLES if role in constants},
        inferred=inferred,
        findings=tuple(findings),
    )


def _label_choice(
    table: pd.DataFrame, columns: Mapping[str, str], *, closed: Iterable[str], unlabelled: tuple[str, ...]
) -> LabelChoice:
    """Take the declared label, else choose one, else the ontology ids that the contributor gives."""
    if "label" in columns:
        return LabelChoice(parent=choose_parent(table, columns["label"], unlabelled=unlabelled))
    if "label" in closed:
        return LabelChoice()
    choice = choose_label(table, unlabelled=unlabelled)
    unresolved = any(finding.severity is Severity.ERROR for finding in choice.findings)
    claimed = columns.get("claimed_term", "")
    if choice.label or unresolved or not claimed or grouping_of(table[claimed]).n_levels < 2:
        return choice
    return LabelChoice(label=claimed, reasons=(f"label = {claimed!r} (no other column holds cell types)",))


def _declared(table: pd.DataFrame, manifest: Manifest) -> tuple[dict[str, str], dict[str, str], list[Finding]]:
    columns, constants, findings = {}, {}, []
    known = [str(name) for name in table.columns]
    for role, key in _COLUMN_KEYS.items():
        name = getattr(manifest, key)
        if name and name in known:
            columns[role] = name
        elif name:
            findings.append(_absent(role, key, name=name, known=known))
    for role, key in _VALUE_KEYS.items():
        value = getattr(manifest, key)
        if value and role not in columns:
            constants[role] = value
    return columns, constants, findings


# --- by name ------------------------------------------------------------------------------------------------------


def _by_name(table: pd.DataFrame, role: str, findings: list[Finding]) -> str:
    """Return the column of a role, or an empty string."""
    ranked = [(rank_of_name(role, name), name) for name in map(str, table.columns)]
    present = sorted((rank, place, name) for place, (rank, name) in enumerate(ranked) if rank is not None)
    known = [(rank, grouping_of(table[name]), _is_answer_or_measure(table[name])) for rank, _, name in present]
    if role == "donor":
        known = [(rank, grouping, strange or _is_states(grouping)) for rank, grouping, strange in known]
        findings.extend(_no_persons(grouping) for _, grouping, strange in known if strange)
    usable = [(rank, grouping) for rank, grouping, strange in known if not strange and _fits(role, grouping)]
    if not usable:
        return ""
    best_rank, best = usable[0]
    if role == "donor":
        rivals = [other for _, other in usable[1:] if best_rank > 0 and not is_same(best, other)]
        if rivals:
            findings.append(_ambiguous_donor(best, rivals[0]))
            return ""
    alike = [other for _, other in usable if is_same(best, other)]
    # Of columns that group the cells alike the readable one serves people better than a list of uuids.
    best = min(alike, key=_unreadable) if role == "batch" and alike else best
    return best.name


def _is_answer_or_measure(values: pd.Series) -> bool:
    """Tell whether a column holds truth values or fractions: no role is named by these."""
    if pd.api.types.is_bool_dtype(values.dtype):
        return True
    if not pd.api.types.is_float_dtype(values.dtype):
        return False
    given = values.dropna().to_numpy(dtype="float64")
    return bool((given != given.round()).any())


def _is_states(grouping: Grouping) -> bool:
    """Tell whether the levels say what a person is (`patient`, `recipient`, `yes`) instead of who."""
    said = [level for level in grouping.levels if not level.isdigit()]
    return bool(said) and all(is_truth_word(level) or (is_condition(level) and not _has_digit(level)) for level in said)


def _has_digit(level: str) -> bool:
    return any(sign.isdigit() for sign in level)


def _fits(role: str, grouping: Grouping) -> bool:
    if grouping.n_levels == 0:
        return False
    id_like = grouping.n_labelled >= 10 and grouping.n_levels >= _ID_LIKE * grouping.n_labelled
    if role == "batch":
        return grouping.n_levels > 1 and not id_like
    return not id_like


def _unreadable(grouping: Grouping) -> bool:
    """Tell whether the levels are long machine-made identifiers."""
    return sum(len(level) >= 32 and "-" in level for level in grouping.levels) > grouping.n_levels / 2


# --- checks across roles ------------------------------------------------------------------------------------------


def _check_donor(table: pd.DataFrame, columns: dict[str, str], *, declared: bool, findings: list[Finding]) -> None:
    """Refuse a donor column that is really the technology: one person per kit is a coincidence nobody plans."""
    if "donor" not in columns:
        return
    donor = grouping_of(table[columns["donor"]])
    technical = [str(name) for name in table.columns if rank_of_name("assay", str(name)) is not None]
    if "assay" in columns and columns["assay"] not in technical:
        technical.append(columns["assay"])
    same = next((name for name in technical if is_same(donor, grouping_of(table[name]))), "")
    same = same if donor.n_levels > 1 else ""
    named = sum(is_technology(level) for level in donor.levels) >= 0.8 * donor.n_levels
    if not same and not named:
        return
    why = f"one-to-one with {same!r}" if same else "its values name technologies"
    findings.append(
        Finding(
            code="W-COLUMN-04",
            severity=Severity.WARNING,
            where=f"obs[{donor.name!r}]",
            n_affected=donor.n_labelled,
            n_total=len(table),
            examples=donor.levels[:5],
            message=(
                f"The donor column is {why} ({', '.join(donor.levels[:4])}), so it names the technology, not persons. "
                + ("It was declared and is kept." if declared else "Donors are taken as unknown.")
            ),
            remedy=(
                "If these really are persons, write donor = "
                f"{donor.name!r} into the manifest; if not, name the column of persons, or donor_value = 'unknown'."
            ),
            rule="R8",
        )
    )
    if not declared:
        del columns["donor"]


def _label_against_batch(columns: Mapping[str, str]) -> list[Finding]:
    label = columns.get("label", "")
    return [
        Finding(
            code="W-COLUMN-05",
            severity=Severity.WARNING,
            where=f"obs[{label!r}]",
            n_affected=2,
            n_total=2,
            message=f"One column is the label and the {role}: what it groups cannot be told apart afterwards.",
            remedy=f"Name another {role} column in the manifest, or {role}_value = '...' for a single one.",
            rule="cytolabe/columns",
        )
        for role in ("batch", "donor")
        if label and columns.get(role) == label
    ]


def _several_organisms(table: pd.DataFrame, columns: Mapping[str, str]) -> list[Finding]:
    """Refuse cells of several organisms; two spellings of one are one."""
    if "organism" not in columns:
        return []
    levels = grouping_of(table[columns["organism"]]).levels
    organisms = sorted({canonical_organism(level) for level in levels})
    if len(organisms) < 2:
        return []
    return [
        Finding(
            code="E-ORGANISM-03",
            severity=Severity.ERROR,
            where=f"obs[{columns['organism']!r}]",
            n_affected=len(table),
            n_total=len(table),
            examples=tuple(organisms[:5]),
            message=f"The cells come from {len(organisms)} organisms ({', '.join(organisms[:5])}); one atlas holds one.",
            remedy="Split the file by organism.",
            rule="R3",
        )
    ]


# --- findings -----------------------------------------------------------------------------------------------------


def _no_persons(grouping: Grouping) -> Finding:
    return Finding(
        code="W-COLUMN-04",
        severity=Severity.WARNING,
        where=f"obs[{grouping.name!r}]",
        n_affected=grouping.n_labelled,
        n_total=len(grouping.codes),
        examples=grouping.levels[:5],
        message=(
            f"Its name says donor, but its values say what persons are, not who ({', '.join(grouping.levels[:4])}); it is "
            "not taken as the donor."
        ),
        remedy=(
            f"If these really are persons, write donor = {grouping.name!r} into the manifest; if not, name the column of "
            "persons, or donor_value = 'unknown'."
        ),
        rule="R8",
    )


def _inferred(inferred: tuple[str, ...], reasons: list[str]) -> Finding:
    return Finding(
        code="N-COLUMN-07",
        severity=Severity.NOTE,
        where="obs",
        n_affected=len(inferred),
        n_total=len(ROLES),
        examples=tuple(reasons[:5]),
        message=f"Nobody declared these roles; they were inferred: {'; '.join(reasons)}.",
        remedy="Check them; a manifest.toml beside the file overrides any of them.",
        rule="cytolabe/columns",
    )


def _absent(role: str, key: str, *, name: str, known: list[str]) -> Finding:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {key} = {near[0]!r}?" if near else f"Columns there: {', '.join(known[:12])}."
    return Finding(
        code="E-COLUMN-01",
        severity=Severity.ERROR,
        where=f"manifest: {key} = {name!r}",
        n_affected=1,
        n_total=len(known),
        examples=tuple(known[:5]),
        message=f"The manifest names {name!r} as the {role} column, but obs has no such column.",
        remedy=hint,
        rule="cytolabe/columns",
    )


def _ambiguous_donor(one: Grouping, other: Grouping) -> Finding:
    return Finding(
        code="E-COLUMN-03",
        severity=Severity.ERROR,
        where=f"obs[{one.name!r}] and obs[{other.name!r}]",
        n_affected=2,
        n_total=2,
        examples=tuple(f"{g.name}: {', '.join(g.levels[:3])} ({g.n_levels} levels)" for g in (one, other)),
        message=(
            f"Both could name the donors and they differ: {one.name} has {one.n_levels} levels, {other.name} has "
            f"{other.n_levels}. A wrong choice would put one person on both sides of a split."
        ),
        remedy=f"Say which one it is in the manifest: donor = {one.name!r} or donor = {other.name!r}.",
        rule="R8",
    )
