"""The mapping table that people read, edit and apply: SSSOM TSV, one row per decision.

The subject is free text (`subject_type` rdfs literal). What SSSOM has no slot for is declared as extension: data
set, number of cells, decision, evidence, and what was proposed when the file was written. The last one tells an
edit from an old proposal: a row counts as reviewed when its `decision` says so, or when its term or predicate is
not the one proposed in the same row. Only reviewed rows are applied, and no later run overwrites them.

A label that starts like a formula is written with a leading apostrophe, which reading takes off again, so that a
spreadsheet shows text. Source of the format: https://w3id.org/sssom, version 1.0.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cytolabe.errors import UnreadableInputError, UnresolvedLabelError
from cytolabe.files import replace_file
from cytolabe.ontology.graph import Ontology
from cytolabe.provenance.canonical import digest_of
from cytolabe.records import LabelMapping, Predicate

__all__ = ["MALFORMED", "read_sssom", "write_sssom"]

MALFORMED = "malformed"
"""Decision of a row that could not be read; its comment says why. Never applied, always a finding."""

_NO_TERM = Predicate.NONE.value
_FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")
_MANUAL = "semapv:ManualMappingCuration"
_COLUMNS = (
    "subject_label", "subject_type", "predicate_id", "object_id", "object_label", "mapping_justification",
    "confidence", "object_source", "object_source_version", "reviewer_label", "comment",
    "dataset_id", "n_cells", "decision", "evidence", "proposed_predicate_id", "proposed_object_id",
)  # fmt: skip
_EXTENSIONS = {
    "dataset_id": "xsd:string",
    "n_cells": "xsd:integer",
    "decision": "xsd:string",
    "evidence": "xsd:string",
    "proposed_predicate_id": "xsd:string",
    "proposed_object_id": "xsd:string",
}
_REQUIRED = frozenset({"subject_label", "predicate_id", "object_id", "dataset_id"})
_TEXT_COLUMNS = ("subject_label", "object_label", "reviewer_label", "comment", "dataset_id", "evidence")


def write_sssom(mappings: Iterable[LabelMapping], path: Path, *, ontology: Ontology) -> None:
    """Write mappings as SSSOM TSV, sorted by data set and label; equal mappings give equal bytes."""
    rows = [_row_of(mapping) for mapping in sorted(mappings, key=lambda m: (m.dataset_id, m.contributor_label))]
    stream = io.StringIO(newline="")
    stream.write(_header(ontology, digest_of(rows)))
    writer = csv.DictWriter(stream, fieldnames=_COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(path, stream.getvalue().encode("utf-8"))


def read_sssom(path: Path) -> tuple[LabelMapping, ...]:
    """Read a mapping table back, in its own order; rows that a person changed get the decision `reviewed`.

    A row that cannot be read is kept with the decision `malformed` and the reason as comment.

    Raises
    ------
    UnreadableInputError
        If the file is not UTF-8 text.
    UnresolvedLabelError
        If a column that is needed is missing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path.name}: not readable as UTF-8 text ({error}); export it again or save it as UTF-8 TSV."
        raise UnreadableInputError(msg) from None
    lines = text.splitlines(keepends=True)
    n_header = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    reader = csv.DictReader(io.StringIO("".join(lines[n_header:]), newline=""), delimiter="\t")
    missing = sorted(_REQUIRED - set(reader.fieldnames or ()))
    if missing:
        msg = (
            f"{path.name}: no column {', '.join(missing)}; a reviewed row could not be matched. Export the file again."
        )
        raise UnresolvedLabelError(msg)
    return tuple(_mapping_of(row, f"line {n_header + reader.line_num}") for row in reader)


def _row_of(mapping: LabelMapping) -> dict[str, str]:
    """Return one row. SSSOM writes a missing term as the object `sssom:NoTermFound` of an exact match."""
    nothing = mapping.predicate is Predicate.NONE
    predicate = Predicate.EXACT.value if nothing else mapping.predicate.value
    term = _NO_TERM if nothing else mapping.term
    row = {
        "subject_label": mapping.contributor_label,
        "subject_type": "rdfs literal",
        "predicate_id": predicate,
        "object_id": term,
        "object_label": mapping.term_name,
        "mapping_justification": mapping.justification,
        "confidence": f"{mapping.confidence / 1000:.3f}",
        "object_source": "obo:cl.owl",
        "object_source_version": mapping.ontology_release,
        "reviewer_label": mapping.reviewer,
        "comment": mapping.comment,
        "dataset_id": mapping.dataset_id,
        "n_cells": str(mapping.n_cells),
        "decision": mapping.decision,
        "evidence": mapping.evidence,
        "proposed_predicate_id": predicate,
        "proposed_object_id": term,
    }
    return {name: _guarded(value) if name in _TEXT_COLUMNS else value for name, value in row.items()}


def _mapping_of(row: Mapping[str | None, str | list[str] | None], line: str) -> LabelMapping:
    values = {str(name): value or "" for name, value in row.items() if isinstance(value, str | None)}
    values |= {name: _unguarded(values.get(name, "")) for name in _TEXT_COLUMNS}
    for name in ("predicate_id", "object_id", "proposed_predicate_id", "proposed_object_id", "decision"):
        values[name] = values.get(name, "").strip()
    proposed = (values["proposed_predicate_id"], values["proposed_object_id"])
    term = "" if values["object_id"] in {"", _NO_TERM} else values["object_id"]
    mapping = LabelMapping(
        dataset_id=values["dataset_id"],
        contributor_label=values["subject_label"],
        predicate=Predicate.NONE,
        term=term,
        term_name=values["object_label"],
        justification=values.get("mapping_justification", ""),
        confidence=0,
        decision=values["decision"],
        ontology_release=values.get("object_source_version", ""),
        evidence=values["evidence"],
        reviewer=values["reviewer_label"],
        comment=values["comment"],
    )
    try:
        mapping = replace(
            mapping,
            predicate=Predicate(values["predicate_id"]) if term else Predicate.NONE,
            confidence=_thousandths(values.get("confidence", "")),
            n_cells=int(values.get("n_cells") or 0),
        )
    except ValueError as error:
        return replace(mapping, decision=MALFORMED, comment=f"{line}: {error}")
    if None in row:
        return replace(mapping, decision=MALFORMED, comment=f"{line}: more fields than columns")
    object_id = values["object_id"] or _NO_TERM
    edited = any(proposed) and (values["predicate_id"], object_id) != proposed
    if edited and mapping.decision != "reviewed":
        return replace(mapping, decision="reviewed", justification=_MANUAL, confidence=1000)
    return mapping


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


def _header(ontology: Ontology, digest: str) -> str:
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
