"""What a person decided wins: reviewed rows replace computed ones, and every row that cannot is a finding.

Order: malformed rows, rows about labels that the atlas does not have, contradicting rows, terms that are not live, and
last whether predicates point the right way. Rows that nobody touched are passed over, so an old export never turns into
a review.

What was decided in an earlier run stands (`keep_reviewed`). A term that a newer release replaced is followed, and the comment
says so; one that it withdrew leaves the review without a term. Neither gives the label back to the mapper.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cytolabe.errors import UnresolvedLabelError
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.reconcile.directions import Statement, lint_directions
from cytolabe.reconcile.findings import finding_of
from cytolabe.reconcile.sssom import MALFORMED, MANUAL, REJECTED, REVIEW
from cytolabe.records import Finding, LabelMapping, Predicate

__all__ = ["apply_review", "keep_reviewed", "review_queue"]

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
    findings = _findings(problems, len(rows))
    statements = (
        Statement(label=row.contributor_label, term=row.term, predicate=row.predicate, where=row.dataset_id)
        for row in applied.values()
    )
    return merged, (*findings, *lint_directions(statements, ontology=release))


def keep_reviewed(
    proposed: Sequence[LabelMapping], before: Iterable[LabelMapping], *, ontology: Ontology | None = None
) -> tuple[tuple[LabelMapping, ...], tuple[Finding, ...]]:
    """Put what was reviewed in an earlier run over what this run proposes; nothing of a review is ever overwritten.

    Parameters
    ----------
    proposed
        The mappings of this run, one per data set and label.
    before
        The mappings in force; only those with the decision `reviewed` count.
    ontology
        The release of this run; the pinned Cell Ontology where it is not given.

    Returns
    -------
        The mappings in the order of `proposed`, and the findings: labels that are gone, and terms that died.
    """
    release = ontology or load_ontology()
    standing = {(m.dataset_id, m.contributor_label): m for m in before if m.decision == "reviewed"}
    known = {(m.dataset_id, m.contributor_label) for m in proposed}
    problems: dict[str, list[str]] = {"W-REVIEW-03": [_shown(row) for key, row in standing.items() if key not in known]}
    merged = []
    for row in proposed:
        old = standing.get((row.dataset_id, row.contributor_label))
        kept = _standing(old, row, release) if old is not None else row
        if old is not None and old.term and not kept.term:
            problems.setdefault("E-REVIEW-07", []).append(f"{_shown(old)}: {old.term} ({old.term_name})")
        merged.append(kept)
    return tuple(merged), tuple(_findings(problems, len(standing)))


def _standing(old: LabelMapping, proposed: LabelMapping, ontology: Ontology) -> LabelMapping:
    """Return a review under the release of this run."""
    facts = replace(old, ontology_release=ontology.release, n_cells=proposed.n_cells)
    if not old.term:
        return facts
    try:
        term = ontology.resolve(old.term)
    except UnresolvedLabelError:
        gone = f"{old.term} ({old.term_name}) is withdrawn in {ontology.release}"
        return replace(facts, term="", term_name="", predicate=Predicate.NONE, comment=_noted(old.comment, gone))
    if term != old.term:
        followed = f"{old.term} ({old.term_name}) is {term} since {ontology.release}"
        facts = replace(facts, comment=_noted(old.comment, followed))
    return replace(facts, term=term, term_name=ontology.name(term))


def _noted(comment: str, note: str) -> str:
    return f"{comment}; {note}" if comment else note


def review_queue(mappings: Iterable[LabelMapping]) -> tuple[LabelMapping, ...]:
    """Order mappings by what a reviewer should look at first: open ones by cells x uncertainty.

    What a person decided comes after what is open, and what names no cell type comes last. Ties go by data set and label.
    """

    def rank(mapping: LabelMapping) -> tuple[int, int, str, str]:
        group = {"reviewed": 1, "reserved": 2}.get(mapping.decision, 0)
        weight = mapping.n_cells * (1000 - mapping.confidence)
        return group, -weight, mapping.dataset_id, mapping.contributor_label

    return tuple(sorted(mappings, key=rank))


def _applied(row: LabelMapping, computed: LabelMapping, ontology: Ontology) -> LabelMapping:
    """Return the row with a live term and its name; facts of the data (cells) come from the computed row."""
    term = ontology.resolve(row.term) if row.term else ""
    said = row.term == computed.term or row.evidence.startswith(REJECTED)
    evidence = row.evidence if said else f"reviewed; proposed was {computed.term or 'no term'}"
    return replace(
        row,
        term=term,
        term_name=ontology.name(term) if term else "",
        predicate=row.predicate if term else Predicate.NONE,
        justification=MANUAL if row.justification == MANUAL else REVIEW,
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
    "E-REVIEW-07": (
        "reviewed terms were withdrawn by the release; the labels stay reviewed and have no term",
        "choose a live term in the mapping file and apply it",
    ),
    "N-REVIEW-06": ("reviewed rows replaced the computed term", "nothing: a person decided"),
}


def _findings(problems: Mapping[str, list[str]], n_total: int) -> list[Finding]:
    return [
        finding_of(code, sorted(texts), text=_TEXTS[code], where=_WHERE, n_total=n_total, rule=_RULE)
        for code, texts in sorted(problems.items())
        if texts
    ]
