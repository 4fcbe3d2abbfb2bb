"""The mapping table that people read, edit and apply: SSSOM TSV, a row per decision and a row per reason for it.

The subject is free text (`subject_type` rdfs literal). The decision on a label is one row, `CompositeMatching` or
`MappingReview`; each reason is a row of its own under it, with the decision `evidence`. What SSSOM has no slot for is
declared as extension: data set, number of cells, decision, evidence, which justification decided, and what was proposed
when the file was written. The last one tells an edit from an old proposal: a row counts as reviewed when its `decision` says
so, or when its term or predicate is not the one proposed in the same row. Only reviewed rows are applied, and no later
run overwrites them. A reason that somebody marks as `reviewed` is that person's choice.

`predicate_modifier` Not says that the label is not the term: a person rejected it and named no other.

A label that starts like a formula is written with a leading apostrophe, which reading takes off again, so that a
spreadsheet shows text. Source of the format: https://w3id.org/sssom, version 1.0.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from cytolabe.errors import UnreadableInputError, UnresolvedLabelError
from cytolabe.files import replace_file, tsv_text
from cytolabe.ontology.graph import Ontology
from cytolabe.provenance.canonical import digest_of
from cytolabe.reconcile.justifications import INSTANCE, Justification, in_order
from cytolabe.records import LabelMapping, Predicate

__all__ = [
    "EVIDENCE",
    "MALFORMED",
    "MANUAL",
    "REJECTED",
    "REVIEW",
    "SHEET_COLUMNS",
    "TEXT_COLUMNS",
    "read_justifications",
    "read_sssom",
    "sssom_header",
    "write_sssom",
]

MALFORMED = "malformed"
"""Decision of a row that could not be read; its comment says why. Never applied, always a finding."""

EVIDENCE = "evidence"
"""Decision of a row that is a reason and decides nothing."""

REJECTED = "rejected "
"""How the evidence of a row begins that says what the label is not."""

COMPOSITE = "semapv:CompositeMatching"
MANUAL = "semapv:ManualMappingCuration"
REVIEW = "semapv:MappingReview"

_NO_TERM = Predicate.NONE.value
_FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")
_NOT = "Not"
_BY_PERSON = (MANUAL, REVIEW)
SHEET_COLUMNS = (
    "subject_label", "subject_type", "predicate_id", "predicate_modifier", "object_id", "object_label",
    "mapping_justification", "confidence", "similarity_score", "similarity_measure", "match_string", "object_source",
    "object_source_version", "reviewer_label", "review_date", "comment",
    "dataset_id", "n_cells", "decision", "decided_by", "evidence", "evidence_source", "proposed_predicate_id",
    "proposed_object_id",
)  # fmt: skip
_EXTENSIONS = {
    "dataset_id": "xsd:string",
    "n_cells": "xsd:integer",
    "decision": "xsd:string",
    "decided_by": "xsd:string",
    "evidence": "xsd:string",
    "evidence_source": "xsd:string",
    "proposed_predicate_id": "xsd:string",
    "proposed_object_id": "xsd:string",
}
_REQUIRED = frozenset({"subject_label", "predicate_id", "object_id", "dataset_id"})
TEXT_COLUMNS = (
    "subject_label", "object_label", "match_string", "reviewer_label", "comment", "dataset_id", "evidence",
    "evidence_source",
)  # fmt: skip
_STRIPPED = (
    "predicate_id", "predicate_modifier", "object_id", "proposed_predicate_id", "proposed_object_id", "decision",
    "review_date",
)  # fmt: skip
_MEASURE = "cosine of character n-grams (TF-IDF)"
_MEASURE_OF_CELLS = "Spearman correlation over marker genes"


def write_sssom(
    mappings: Iterable[LabelMapping],
    path: Path,
    *,
    ontology: Ontology,
    justifications: Iterable[Justification] = (),
) -> None:
    """Write mappings as SSSOM TSV, sorted by data set and label, each followed by its reasons; equal rows give equal bytes."""
    reasons: dict[tuple[str, str], list[Justification]] = {}
    for reason in justifications:
        reasons.setdefault((reason.dataset_id, reason.contributor_label), []).append(reason)
    rows = []
    for mapping in sorted(mappings, key=lambda m: (m.dataset_id, m.contributor_label)):
        rows.append(_row_of(mapping))
        under = in_order(reasons.get((mapping.dataset_id, mapping.contributor_label), []))
        rows += [_row_of_reason(reason, mapping) for reason in under]
    table = tsv_text([SHEET_COLUMNS, *([row[name] for name in SHEET_COLUMNS] for row in rows)])
    replace_file(path, (sssom_header(ontology, digest_of(rows)) + table).encode("utf-8"))


def read_sssom(path: Path) -> tuple[LabelMapping, ...]:
    """Read the decisions of a mapping table, in its own order; rows that a person changed get the decision `reviewed`.

    Reasons are passed over, unless a person chose one. A row that cannot be read is kept with the decision `malformed`
    and the cause as comment.

    Raises
    ------
    UnreadableInputError
        If the file is not UTF-8 text.
    UnresolvedLabelError
        If a column that is needed is missing.
    """
    found = (_mapping_of(row, line) for row, line in _rows_of(path))
    return tuple(mapping for mapping in found if mapping.decision != EVIDENCE)


def read_justifications(path: Path) -> tuple[Justification, ...]:
    """Read the reasons of a mapping table, in its own order; those that cannot be read are passed over.

    Raises
    ------
    UnreadableInputError
        If the file is not UTF-8 text.
    UnresolvedLabelError
        If a column that is needed is missing.
    """
    rows = [(row, _mapping_of(row, line)) for row, line in _rows_of(path)]
    return tuple(_reason_of(row, mapping) for row, mapping in rows if mapping.decision == EVIDENCE)


_Row = Mapping[str | None, str | list[str] | None]


def _rows_of(path: Path) -> Sequence[tuple[_Row, str]]:
    """Return the rows of a table, each with the line where it ends."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path.name}: not readable as UTF-8 text ({error}); export it again or save it as UTF-8 TSV."
        raise UnreadableInputError(msg) from None
    if text.partition("\n")[0].endswith("\r"):  # saved elsewhere, with other ends of lines
        text = text.replace("\r\n", "\n")
    lines = text.splitlines(keepends=True)
    n_header = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    reader = csv.DictReader(io.StringIO("".join(lines[n_header:]), newline=""), delimiter="\t")
    missing = sorted(_REQUIRED - set(reader.fieldnames or ()))
    if missing:
        msg = (
            f"{path.name}: no column {', '.join(missing)}; a reviewed row could not be matched. Export the file again."
        )
        raise UnresolvedLabelError(msg)
    return [(row, f"line {n_header + reader.line_num}") for row in reader]


def _row_of(mapping: LabelMapping) -> dict[str, str]:
    """Return the row of a decision. SSSOM writes a missing term as the object `sssom:NoTermFound` of an exact match."""
    nothing = mapping.predicate is Predicate.NONE
    predicate = Predicate.EXACT.value if nothing else mapping.predicate.value
    term = _NO_TERM if nothing else mapping.term
    by_person = mapping.justification in _BY_PERSON
    return _guarded_row({
        "subject_label": mapping.contributor_label,
        "predicate_id": predicate,
        "object_id": term,
        "object_label": mapping.term_name,
        "mapping_justification": mapping.justification if by_person else COMPOSITE,
        "confidence": f"{mapping.confidence / 1000:.3f}",
        "object_source_version": mapping.ontology_release,
        "reviewer_label": mapping.reviewer,
        "review_date": mapping.review_date,
        "comment": mapping.comment,
        "dataset_id": mapping.dataset_id,
        "n_cells": str(mapping.n_cells),
        "decision": mapping.decision,
        "decided_by": mapping.justification,
        "evidence": mapping.evidence,
        "proposed_predicate_id": predicate,
        "proposed_object_id": term,
    })  # fmt: skip


def _row_of_reason(reason: Justification, mapping: LabelMapping) -> dict[str, str]:
    measured = reason.similarity >= 0
    measure = _MEASURE_OF_CELLS if reason.justification == INSTANCE else _MEASURE
    return _guarded_row({
        "subject_label": reason.contributor_label,
        "predicate_id": reason.predicate.value,
        "object_id": reason.term,
        "object_label": reason.term_name,
        "mapping_justification": reason.justification,
        "confidence": f"{reason.confidence / 1000:.3f}",
        "similarity_score": f"{reason.similarity / 1000:.3f}" if measured else "",
        "similarity_measure": measure if measured else "",
        "match_string": reason.matched,
        "object_source_version": mapping.ontology_release,
        "reviewer_label": reason.reviewer,
        "dataset_id": reason.dataset_id,
        "n_cells": str(mapping.n_cells),
        "decision": EVIDENCE,
        "evidence_source": reason.source,
        "proposed_predicate_id": reason.predicate.value,
        "proposed_object_id": reason.term,
    })  # fmt: skip


def _guarded_row(values: Mapping[str, str]) -> dict[str, str]:
    common = {"subject_type": "rdfs literal", "object_source": "obo:cl.owl"}
    row = dict.fromkeys(SHEET_COLUMNS, "") | common | dict(values)
    return {name: _guarded(value) if name in TEXT_COLUMNS else value for name, value in row.items()}


def _mapping_of(row: _Row, line: str) -> LabelMapping:
    values = _values_of(row)
    proposed = (values["proposed_predicate_id"], values["proposed_object_id"])
    term = "" if values["object_id"] in {"", _NO_TERM} else values["object_id"]
    rejected = _rejected(values) if term else ""
    term = "" if rejected else term
    mapping = LabelMapping(
        dataset_id=values["dataset_id"],
        contributor_label=values["subject_label"],
        predicate=Predicate.NONE,
        term=term,
        term_name="" if rejected else values["object_label"],
        justification=values.get("decided_by") or values.get("mapping_justification", ""),
        confidence=0,
        decision=values["decision"],
        ontology_release=values.get("object_source_version", ""),
        evidence=rejected or values["evidence"],
        reviewer=values["reviewer_label"],
        comment=values["comment"],
    )
    try:
        mapping = replace(
            mapping,
            predicate=Predicate(values["predicate_id"]) if term else Predicate.NONE,
            confidence=_thousandths(values.get("confidence", "")),
            n_cells=int(values.get("n_cells") or 0),
            review_date=_day(values["review_date"]),
        )
    except ValueError as error:
        return replace(mapping, decision=MALFORMED, comment=f"{line}: {error}")
    if None in row:
        return replace(mapping, decision=MALFORMED, comment=f"{line}: more fields than columns")
    object_id = values["object_id"] or _NO_TERM
    edited = bool(rejected) or (any(proposed) and (values["predicate_id"], object_id) != proposed)
    if edited and mapping.decision != "reviewed":
        return replace(mapping, decision="reviewed", justification=REVIEW, confidence=1000)
    return mapping


def _values_of(row: _Row) -> dict[str, str]:
    values = {str(name): value or "" for name, value in row.items() if isinstance(value, str | None)}
    values |= {name: _unguarded(values.get(name, "")) for name in TEXT_COLUMNS}
    return values | {name: values.get(name, "").strip() for name in _STRIPPED}


def _rejected(values: Mapping[str, str]) -> str:
    """Return what a row says that the label is not, or an empty string."""
    if values["predicate_modifier"] != _NOT:
        return ""
    return f"{REJECTED}{values['object_id']} ({values['object_label']})".removesuffix(" ()")


def _reason_of(row: _Row, mapping: LabelMapping) -> Justification:
    values = _values_of(row)
    score = values.get("similarity_score", "")
    return Justification(
        dataset_id=mapping.dataset_id,
        contributor_label=mapping.contributor_label,
        predicate=mapping.predicate,
        term=mapping.term,
        term_name=mapping.term_name,
        justification=values.get("mapping_justification", ""),
        confidence=mapping.confidence,
        similarity=_thousandths(score) if score else -1,
        matched=values["match_string"],
        source=values["evidence_source"],
        reviewer=mapping.reviewer,
    )


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat() if text else ""


def _thousandths(text: str) -> int:
    value = round(float(text) * 1000) if text else 1000
    if not 0 <= value <= 1000:
        msg = f"confidence {text} is outside [0, 1]"
        raise ValueError(msg)
    return value


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unguarded(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def sssom_header(ontology: Ontology, digest: str) -> str:
    """Return the metadata lines of a table whose content has `digest`."""
    extensions = "".join(
        f"#   - slot_name: {name}\n#     property: cytolabe:{name}\n#     type_hint: {kind}\n"
        for name, kind in _EXTENSIONS.items()
    )
    return (
        "#sssom_version: '1.0'\n"
        f"#mapping_set_id: urn:cytolabe:mappings:{digest.removeprefix('sha256:')}\n"
        "#mapping_set_description: Contributor labels and the Cell Ontology terms that they were mapped to\n"
        "#license: https://w3id.org/sssom/license/unspecified\n"
        "#mapping_tool: cytolabe\n"
        f"#object_source_version: {ontology.release}\n"
        "#curie_map:\n"
        "#   CL: http://purl.obolibrary.org/obo/CL_\n"
        "#   obo: http://purl.obolibrary.org/obo/\n"
        "#   cytolabe: 'urn:cytolabe:slot:'\n"
        "#   semapv: https://w3id.org/semapv/vocab/\n"
        "#   skos: http://www.w3.org/2004/02/skos/core#\n"
        "#   sssom: https://w3id.org/sssom/\n"
        "#   xsd: http://www.w3.org/2001/XMLSchema#\n"
        "#extension_definitions:\n" + extensions
    )
