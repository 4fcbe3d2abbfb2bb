"""What a person decided wins: reviewed rows replace computed ones, and every row that cannot is a finding.

Order: malformed rows, rows about labels that the atlas does not have, contradicting rows, terms that are not live.
Rows that nobody touched are passed over, so an old export never turns into a review.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cytolabe.errors import UnresolvedLabelError
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.reconcile.sssom import MALFORMED
from cytolabe.records import Finding, LabelMapping, Predicate, Severity

__all__ = ["apply_review"]

_RULE = "cytolabe/review"
_WHERE = "mapping file"


def apply_review(
    current: Sequence[LabelMapping], reviewed: Iterable[LabelMapping], *, ontology: Ontology | None = None
) -> tuple[tuple[LabelMapping, ...], tuple[Finding, ...]]:
    """Put reviewed rows over computed ones.

    Parameters
    ----------
    current
        The mappings in force, one per data set and label.
    reviewed
        Rows of a mapping file as `read_sssom` returns them; only those with the decision `reviewed` count.
    ontology
        The release that terms are checked in; the pinned Cell Ontology where it is not given.

    Returns
    -------
        The mappings in the order of `current`, and the findings. A row with an error changes nothing.
    """
    release = ontology or load_ontology()
    known = {(m.dataset_id, m.contributor_label): m for m in current}
    rows = list(reviewed)
    problems: dict[str, list[str]] = {}
    for row in rows:
        if row.decision == MALFORMED:
            problems.setdefault("E-REVIEW-01", []).append(row.comment)
        elif row.decision != "reviewed" and _is_renamed(row, release):
            problems.setdefault("W-REVIEW-05", []).append(f"{_shown(row)}: {row.term_name!r} is not {row.term}")
    decided = [row for row in rows if row.decision == "reviewed"]
    chosen: dict[tuple[str, str], LabelMapping] = {}
    contradicted: set[tuple[str, str]] = set()
    for row in decided:
        key = (row.dataset_id, row.contributor_label)
        if key not in known:
            problems.setdefault("W-REVIEW-03", []).append(_shown(row))
        elif key in chosen and (chosen[key].term, chosen[key].predicate) != (row.term, row.predicate):
            contradicted.add(key)
        else:
            chosen[key] = row
    problems.setdefault("E-REVIEW-04", []).extend(_shown(chosen.pop(key)) for key in sorted(contradicted))
    applied: dict[tuple[str, str], LabelMapping] = {}
    for key, row in chosen.items():
        try:
            applied[key] = _applied(row, known[key], release)
        except UnresolvedLabelError as error:
            problems.setdefault("E-REVIEW-02", []).append(f"{_shown(row)}: {error}")
    changed = [_change(known[key], row) for key, row in applied.items() if known[key].term != row.term]
    problems["N-REVIEW-06"] = sorted(changed)
    merged = tuple(applied.get((m.dataset_id, m.contributor_label), m) for m in current)
    return merged, tuple(_finding(code, sorted(texts), len(rows)) for code, texts in sorted(problems.items()) if texts)


def _applied(row: LabelMapping, computed: LabelMapping, ontology: Ontology) -> LabelMapping:
    """Return the row with a live term and its name; facts of the data (cells) come from the computed row."""
    term = ontology.resolve(row.term) if row.term else ""
    evidence = row.evidence if row.term == computed.term else f"reviewed; proposed was {computed.term or 'no term'}"
    return replace(
        row,
        term=term,
        term_name=ontology.name(term) if term else "",
        predicate=row.predicate if term else Predicate.NONE,
        justification="semapv:ManualMappingCuration",
        confidence=1000,
        ontology_release=ontology.release,
        n_cells=computed.n_cells,
        evidence=evidence,
    )


def _is_renamed(row: LabelMapping, ontology: Ontology) -> bool:
    """Return whether somebody changed the name of a row and forgot its id."""
    return row.term in ontology and row.term_name != "" and row.term_name != ontology.name(row.term)


def _change(old: LabelMapping, new: LabelMapping) -> str:
    return f"{_shown(new)}: {old.term or 'no term'} -> {new.term or 'no term'}"


def _shown(row: LabelMapping) -> str:
    return f"{row.dataset_id}: {row.contributor_label!r}"


_TEXTS = {
    "E-REVIEW-01": ("rows cannot be read; their review would be lost", "correct the row, or export the file again"),
    "E-REVIEW-02": ("reviewed terms are not live in the release", "choose a live term and apply the file again"),
    "W-REVIEW-03": ("reviewed labels are not in this atlas", "check data set and label; nothing was changed"),
    "E-REVIEW-04": ("labels have two reviewed rows that disagree; neither was used", "keep one row per label"),
    "W-REVIEW-05": ("the term's name was edited and its id was not; the id counts", "edit object_id"),
    "N-REVIEW-06": ("reviewed rows replaced the computed term", "nothing: a person decided"),
}
_SEVERITIES = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}


def _finding(code: str, texts: Sequence[str], n_total: int) -> Finding:
    message, remedy = _TEXTS[code]
    return Finding(
        code=code, severity=_SEVERITIES[code[0]], where=_WHERE, n_affected=len(texts), n_total=n_total,
        examples=tuple(texts[:5]), message=message, remedy=remedy, rule=_RULE,
    )  # fmt: skip
