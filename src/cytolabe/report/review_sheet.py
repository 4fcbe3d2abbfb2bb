"""The page on which a curator goes through the labels of an atlas: one file, offline, by keyboard.

Every label comes with what it hangs on (cells, tissue, the contributor's coarser label), the terms that it may mean with
definition, place in the tree and every reason for each, and the proposal in force; any other term of the release is found by
typing. Labels come in the order of cells x uncertainty, so whoever stops early has done the most useful part.
Decisions stay in the browser and are downloaded as the rows of an SSSOM table, which `cytolabe reconcile --apply` takes.

Unlike the report this page has a script (decision 006). It is our own file; the content security policy allows it, and
our style sheet, by their hashes, and forbids everything else: other scripts, any request, forms. What was contributed reaches the
script only as data (JSON whose markup characters are escaped) and the page only as text nodes.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cytolabe.files import replace_file
from cytolabe.ontology.graph import Ontology
from cytolabe.provenance.canonical import digest_of
from cytolabe.reconcile.justifications import Justification, in_order
from cytolabe.reconcile.review import review_queue
from cytolabe.reconcile.sssom import SHEET_COLUMNS, TEXT_COLUMNS, sssom_header
from cytolabe.records import LabelMapping
from cytolabe.report.text import inert

__all__ = ["N_CHOICES", "ReviewSheet", "render_review_sheet", "write_review_sheet"]

N_CHOICES = 5
"""Terms per label that have a key of their own."""

_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewSheet:
    """What the page is made of. `labels` is the `label_table` of the atlas: tissue and coarser label come from it."""

    title: str
    mappings: Sequence[LabelMapping]
    justifications: Sequence[Justification]
    labels: pd.DataFrame
    ontology: Ontology


def write_review_sheet(sheet: ReviewSheet, path: Path) -> None:
    """Write the page; a reader of `path` sees the old one or the whole new one."""
    replace_file(path, render_review_sheet(sheet).encode("utf-8"))


def render_review_sheet(sheet: ReviewSheet) -> str:
    """Return the page; equal content gives equal bytes."""
    style, script = _template("review.css"), _template("review.js")
    environment = Environment(
        loader=PackageLoader("cytolabe.report"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("review.html.j2").render(
        title=inert(sheet.title, 200),
        n_labels=len(sheet.mappings),
        release=sheet.ontology.release,
        policy=(
            f"default-src 'none'; script-src '{_allowed(script)}'; style-src '{_allowed(style)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        # Our own files, and JSON without a markup character: nothing else is ever marked as safe.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        data=Markup(_json(_content(sheet))),  # noqa: S704
    )


def _template(name: str) -> str:
    return resources.files("cytolabe.report").joinpath("templates", name).read_text(encoding="utf-8")


def _allowed(text: str) -> str:
    """Return the source expression of an inline element; the template puts its text between the tags as it is."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _json(content: Mapping[str, object]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "".join(_ESCAPED.get(character, character) for character in text) if _has_markup(text) else text


def _has_markup(text: str) -> bool:
    return any(character in text for character in _ESCAPED)


def _content(sheet: ReviewSheet) -> dict[str, object]:
    reasons: dict[tuple[str, str], list[Justification]] = {}
    for reason in sheet.justifications:
        reasons.setdefault((reason.dataset_id, reason.contributor_label), []).append(reason)
    facts = {(str(row["dataset_id"]), str(row["contributor_label"])): row for row in sheet.labels.to_dict("records")}
    rows = []
    for mapping in review_queue(sheet.mappings):
        key = (mapping.dataset_id, mapping.contributor_label)
        rows.append(_row(mapping, reasons.get(key, []), facts.get(key, {})))
    digest = digest_of({"rows": rows, "release": sheet.ontology.release})
    return {
        "set": digest,
        "release": sheet.ontology.release,
        "header": sssom_header(sheet.ontology, digest),
        "columns": SHEET_COLUMNS,
        "textColumns": TEXT_COLUMNS,
        "labels": rows,
        "terms": _terms(sheet.ontology),
    }


def _row(mapping: LabelMapping, reasons: Sequence[Justification], facts: Mapping[object, object]) -> dict[str, object]:
    return {
        "dataset": mapping.dataset_id,
        "label": mapping.contributor_label,
        "shown": inert(mapping.contributor_label, 300),
        "cells": mapping.n_cells,
        "tissue": inert(str(facts.get("tissue", "")), 120),
        "parent": inert(str(facts.get("label_parent", "")), 120),
        "decision": mapping.decision,
        "confidence": mapping.confidence,
        "term": mapping.term,
        "predicate": mapping.predicate.value if mapping.term else "",
        "why": inert(mapping.evidence, 400),
        "reviewer": inert(mapping.reviewer, 80),
        "day": mapping.review_date,
        "note": inert(mapping.comment, 300),
        "choices": _choices(mapping, reasons),
    }


def _choices(mapping: LabelMapping, reasons: Iterable[Justification]) -> list[dict[str, object]]:
    """Return the terms that have a key: the one in force first, then by their strongest reason."""
    by_term: dict[str, list[Justification]] = {}
    for reason in in_order(reasons):
        by_term.setdefault(reason.term, []).append(reason)
    if mapping.term:
        by_term = {mapping.term: by_term.pop(mapping.term, []), **by_term}
    return [
        {
            "term": term,
            "predicate": mapping.predicate.value if term == mapping.term else found[0].predicate.value,
            "confidence": mapping.confidence if term == mapping.term else found[0].confidence,
            "reasons": _told(found),
        }
        for term, found in list(by_term.items())[:N_CHOICES]
    ]


def _told(reasons: Sequence[Justification]) -> list[list[object]]:
    """Return [kind, what matched, confidence, source], with the reasons of one kind and source in one line."""
    lines: dict[tuple[str, int, str], list[str]] = {}
    for reason in reasons:
        kind = reason.justification.removeprefix("semapv:")
        lines.setdefault((kind, reason.confidence, reason.source), []).append(inert(reason.matched, 200))
    return [
        [kind, "; ".join(found[:2]) + (f" and {len(found) - 2} more" if len(found) > 2 else ""), confidence,
         inert(source, 80)]
        for (kind, confidence, source), found in lines.items()
    ]  # fmt: skip


def _terms(ontology: Ontology) -> list[list[object]]:
    """Return every live term as [id, name, synonyms, definition, positions of its parents in this list]."""
    position = {term: number for number, term in enumerate(ontology.terms)}
    return [
        [
            term,
            ontology.name(term),
            list(ontology.synonyms(term)),
            ontology.definition(term),
            [position[parent] for parent in ontology.parents(term)],
        ]
        for term in ontology.terms
    ]
