"""Mapping tables of others, read as what their curators said: CAS, crosswalks of the HRA, tables like CellTypist's, SSSOM.

What a file is shows in its content: a JSON document with `annotations` is CAS (cell-annotation-schema); in a text table, the
first row that names a column of labels and one of Cell Ontology ids is the header, and what stands before it may name the
authors. Ids are followed to the pinned release; a row without a live term is left out and counted, and so is one that its own
reviewer disagrees with.

**Directions.** Some tables write `narrowMatch` where the term is the broader one. Where words and graph prove which way rows
point (`directions`), and nine of ten of those are the wrong way round, the whole table was read from the term's side: all its
broad and narrow rows are turned round (`MappingInversion`), but for those that are proven right as they stand. In a table without such
a majority only the rows that are proven wrong are turned.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytolabe.errors import UnreadableInputError, UnresolvedLabelError
from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.candidates import Lexicon, lexicon_of
from cytolabe.reconcile.directions import Direction, direction_of, opposite
from cytolabe.reconcile.findings import finding_of
from cytolabe.records import Finding, MemoryRow, Predicate

__all__ = ["MAX_BYTES", "read_import"]

MAX_BYTES = 50_000_000
"""Largest file that is read: the largest table of labels that was seen has 4 MB."""

INVERSION = "semapv:MappingInversion"
MANUAL = "semapv:ManualMappingCuration"
_RULE = "cytolabe/import"
_MAJORITY = 0.9
_LABEL_COLUMNS = (
    "subject_label", "annotation_label", "author_label", "author_cell_type", "cell_label", "contributor_label",
    "low-hierarchy cell types", "cell_type_author", "label",
)  # fmt: skip
_TERM_COLUMNS = ("object_id", "cl_id", "cell_ontology_term_id", "cell ontology id", "cell_type_ontology_term_id")
_PREDICATE_COLUMNS = ("predicate_id", "cl_match", "predicate_in_source", "predicate")
_TISSUE_COLUMNS = ("tissue", "tissues", "organ_level", "organ")
_REVIEWER_COLUMNS = ("reviewer_label", "reviewer", "author_label")
_AUTHORS = ("author name(s)", "authors", "author")
_DECISIONS = frozenset({"evidence", "review", "abstained", "reserved"})
"""Decisions of our own tables that nobody stands behind."""
_EMPTY = frozenset({"", "unknown", "na", "n/a", "none", "sssom:NoTermFound"})


def read_import(path: Path, *, ontology: Ontology) -> tuple[tuple[MemoryRow, ...], tuple[Finding, ...]]:
    """Read a mapping table of others; return what it says, in its own order without repetitions, and the findings.

    Raises
    ------
    UnreadableInputError
        If it is no UTF-8 text, too large, or none of the kinds that are known.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path.name}: not readable as UTF-8 text ({error}); export it again or save it as UTF-8."
        raise UnreadableInputError(msg) from None
    if len(content) > MAX_BYTES:
        msg = f"{path.name}: {len(content):,} bytes; a table of labels has at most {MAX_BYTES:,}. Is it the right file?"
        raise UnreadableInputError(msg)
    said = _cas_rows(text, path.name) if text.lstrip().startswith("{") else _table_rows(text, path.name)
    source = _Source(name=path.name, digest="sha256:" + hashlib.sha256(content).hexdigest(), ontology=ontology)
    return source.rows(said)


@dataclass(frozen=True, kw_only=True)
class _Said:
    """One row as the file has it."""

    label: str
    term: str
    predicate: str = ""
    tissue: str = ""
    curator: str = ""
    reviewer: str = ""
    is_disputed: bool = False


def _cas_rows(text: str, name: str) -> Sequence[_Said]:
    """Return the annotations of a CAS document. An annotation that a reviewer disagrees with is disputed."""
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        msg = f"{name}: begins like JSON and is none ({error}); export it again."
        raise UnreadableInputError(msg) from None
    annotations = document.get("annotations")
    if not isinstance(annotations, list):
        msg = f"{name}: a JSON document without `annotations`; of JSON files only CAS (cell-annotation-schema) is read."
        raise UnreadableInputError(msg)
    curator = str(document.get("author_name") or name)
    found = []
    for entry in annotations:
        if not isinstance(entry, dict):
            continue
        reviews = [review for review in entry.get("reviews") or [] if isinstance(review, dict)]
        found.append(_Said(
            label=str(entry.get("cell_label") or ""),
            term=str(entry.get("cell_ontology_term_id") or ""),
            curator=curator,
            reviewer=", ".join(sorted({str(review.get("reviewer") or "") for review in reviews} - {""})),
            is_disputed=any(str(review.get("review")) == "Disagree" for review in reviews),
        ))  # fmt: skip
    return found


def _table_rows(text: str, name: str) -> Sequence[_Said]:
    """Return the rows of a text table below its header."""
    body = "".join(line for line in io.StringIO(text, newline="") if not line.startswith("#"))
    delimiter = "\t" if body.count("\t") > body.count(",") else ","
    rows = list(csv.reader(io.StringIO(body, newline=""), delimiter=delimiter))
    for number, row in enumerate(rows):
        names = [cell.strip().lower() for cell in row]
        label, term = _first(_LABEL_COLUMNS, names), _first(_TERM_COLUMNS, names)
        if label and term:
            curator = _authors(rows[:number]) or name
            return [
                _said(dict(zip(names, cells, strict=False)), label, term, curator=curator)
                for cells in rows[number + 1 :]
            ]
    msg = (
        f"{name}: no header with a column of labels ({', '.join(_LABEL_COLUMNS[:4])}, ...) and one of Cell Ontology ids "
        f"({', '.join(_TERM_COLUMNS[:3])}, ...). Name the columns so."
    )
    raise UnreadableInputError(msg)


def _said(row: Mapping[str, str], label: str, term: str, *, curator: str) -> _Said:
    def of(names: Sequence[str]) -> str:
        return row.get(_first(names, list(row)), "").strip()

    undecided = row.get("decision", "") in _DECISIONS or row.get("predicate_modifier", "") == "Not"
    return _Said(
        label=row.get(label, "").strip(),
        term="" if undecided else row.get(term, "").strip(),
        predicate=of(_PREDICATE_COLUMNS),
        tissue=of(_TISSUE_COLUMNS),
        curator=curator,
        reviewer=of([column for column in _REVIEWER_COLUMNS if column != label]),
    )


def _first(known: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in known if name in names), "")


def _authors(preamble: Iterable[Sequence[str]]) -> str:
    for row in preamble:
        if row and row[0].strip().rstrip(":").lower() in _AUTHORS:
            return next((cell.strip() for cell in row[1:] if cell.strip()), "")
    return ""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One file on its way to rows of memory."""

    name: str
    digest: str
    ontology: Ontology

    def rows(self, said: Sequence[_Said]) -> tuple[tuple[MemoryRow, ...], tuple[Finding, ...]]:
        stated = [row for row in said if row.label and row.term not in _EMPTY]
        told: dict[str, list[str]] = {}
        rows = [row for row in (self._row(one, told) for one in stated) if row is not None]
        turned = _in_our_direction(rows, lexicon_of(self.ontology), told)
        kept = tuple(dict.fromkeys(turned))
        findings = tuple(
            finding_of(code, texts, text=_TEXTS[code], where=self.name, n_total=len(stated), rule=_RULE)
            for code, texts in sorted(told.items())
        )
        return kept, findings

    def _row(self, said: _Said, told: dict[str, list[str]]) -> MemoryRow | None:
        shown = f"{said.label!r} -> {said.term}"
        if said.is_disputed:
            told.setdefault("N-IMPORT-05", []).append(f"{shown} ({said.reviewer or 'a reviewer'} disagrees)")
            return None
        try:
            term = self.ontology.resolve(said.term)
            predicate = Predicate(said.predicate) if said.predicate else Predicate.EXACT
        except (UnresolvedLabelError, ValueError):
            told.setdefault("W-IMPORT-01", []).append(shown)
            return None
        if term != said.term.replace("_", ":").upper():
            told.setdefault("N-IMPORT-02", []).append(f"{shown} is now {term}")
        return MemoryRow(
            label=said.label, term=term, predicate=predicate, justification=MANUAL, curator=said.curator,
            source=self.name, source_digest=self.digest, reviewer=said.reviewer, tissue=said.tissue,
        )  # fmt: skip


_PROVES = {Direction.NARROWER: Predicate.BROAD, Direction.BROADER: Predicate.NARROW}


def _in_our_direction(rows: Sequence[MemoryRow], lexicon: Lexicon, told: dict[str, list[str]]) -> Sequence[MemoryRow]:
    """Return rows whose predicates point as in SKOS, turned round where the table points the other way."""
    directed = {row for row in rows if row.predicate in {Predicate.BROAD, Predicate.NARROW}}
    proven = {row: _PROVES.get(direction_of(row.label, row.term, lexicon, tissue=row.tissue)) for row in directed}
    wrong = {row for row in directed if proven[row] is opposite(row.predicate)}
    right = {row for row in directed if proven[row] is row.predicate}
    is_reversed = bool(wrong) and len(wrong) >= _MAJORITY * (len(wrong) + len(right))
    turned = directed - right if is_reversed else wrong
    for row in rows:
        if row in turned:
            told.setdefault("N-IMPORT-03", []).append(f"{row.label!r} {row.predicate.value} {row.term}")
        elif row in right and is_reversed:
            told.setdefault("W-IMPORT-04", []).append(f"{row.label!r} {row.predicate.value} {row.term}")
    return [
        replace(row, predicate=opposite(row.predicate), justification=INVERSION) if row in turned else row
        for row in rows
    ]


_TEXTS = {
    "W-IMPORT-01": (
        "rows of an imported table have no live term or an unknown predicate; they are left out",
        "correct the ids in the table, if these rows matter",
    ),
    "N-IMPORT-02": ("ids of an imported table are obsolete or oddly spelled; the release's term was taken", "nothing"),
    "N-IMPORT-03": (
        "predicates of an imported table point the wrong way and were turned round: in SKOS the object of broadMatch is the broader one",
        "nothing; tell the authors of the table",
    ),
    "W-IMPORT-04": (
        "rows point the right way in a table that was turned round; they were left as they are",
        "look at these rows: the table contradicts itself",
    ),
    "N-IMPORT-05": ("a reviewer in the imported file disagrees with these rows; they are left out", "nothing"),
}
