"""Contributor labels to terms: one decision per (data set, label), with its reason.

In this order, the first that applies decides: what the study declares; reserved words and bare codes (never guessed);
an id that the contributor claims, checked against the release and against the label; neighbors in the data set;
lexical candidates, under the parent label, weighed against the learned order (`learned`), beside what curators elsewhere
said of the same words (`memory`). Last, labels of one data set that would mean exactly the same term keep one exact match, and
the less literal ones become broad matches.

Wording counts, not expression (rule R6b). Nothing is dropped: a label without a term is a row that says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cytolabe.errors import UnresolvedLabelError
from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.candidates import KINDS, Candidate, Lexicon, candidates_for, lexicon_of
from cytolabe.reconcile.cluster_numbers import with_reading
from cytolabe.reconcile.combine import ACCEPT, decision_of
from cytolabe.reconcile.evidence import compatible_first, confidence_in_context, neighbor_terms
from cytolabe.reconcile.learned import LEARNED, Learned, choice_of, learned_orders, predicate_of
from cytolabe.reconcile.memory import Memory, remembered
from cytolabe.reconcile.normalize import bag_of, is_code, is_reserved
from cytolabe.reconcile.open_labels import open_findings
from cytolabe.reconcile.tissues import with_tissues_in_words
from cytolabe.records import Finding, LabelMapping, Predicate, Severity

__all__ = ["LABEL_COLUMNS", "StudyContext", "count_unlabelled", "label_table", "reconcile_labels"]

LABEL_COLUMNS = ("dataset_id", "contributor_label", "label_parent", "tissue", "claimed_term", "n_cells")
RULE = "cytolabe/labels"
MANUAL = "semapv:ManualMappingCuration"
LEXICAL = "semapv:LexicalMatching"
COMPOSITE = "semapv:CompositeMatching"
SIMILARITY = "semapv:LexicalSimilarityThresholdMatching"
UNSPECIFIED = "semapv:UnspecifiedMatching"
CLAIMED_CONFIDENCE = 970
NEIGHBOR_CONFIDENCE = 970
_JOIN = " || "
_CL_ID = re.compile(r"\s*(\S*[/#])?CL[:_]\d{7}\s*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """What a study file says about a label, for example from its sort gates. `evidence` is kept word by word."""

    dataset_id: str
    contributor_label: str
    term: str
    predicate: str = "skos:exactMatch"
    evidence: str = ""
    reviewer: str = ""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One label of one data set on its way to a decision. `literal` orders labels that mean the same term."""

    mapping: LabelMapping
    literal: tuple[int, int, int, str]
    problem: str = ""
    problem_text: str = ""


def label_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per data set and contributor label, sorted, with `LABEL_COLUMNS`.

    Parents, tissues and claimed terms of a label that differ between its cells are joined by ` || `, sorted.
    Unlabelled cells (rule R4) have no row; `count_unlabelled` counts them.
    """
    table = cells.loc[cells["contributor_label"] != ""].copy()
    if "claimed_term" not in table:
        table["claimed_term"] = ""
    rows = []
    for (dataset_id, label), part in table.groupby(["dataset_id", "contributor_label"], sort=True, observed=True):
        joined = {name: _joined(part[name]) for name in ("label_parent", "tissue", "claimed_term")}
        rows.append({"dataset_id": str(dataset_id), "contributor_label": str(label), **joined, "n_cells": len(part)})
    return pd.DataFrame(rows, columns=list(LABEL_COLUMNS)).astype({"n_cells": "int64"})


def count_unlabelled(cells: pd.DataFrame) -> dict[str, int]:
    """Return the number of cells without a contributor label per data set, sorted."""
    counts = (cells["contributor_label"] == "").groupby(cells["dataset_id"], observed=True).sum()
    return {str(name): int(n) for name, n in sorted(counts.items(), key=lambda item: str(item[0]))}


def reconcile_labels(
    labels: pd.DataFrame, *, ontology: Ontology, context: Sequence[StudyContext] = (), memory: Memory | None = None
) -> tuple[tuple[LabelMapping, ...], tuple[Finding, ...]]:
    """Map every label of `label_table` to a term, or say why not.

    Parameters
    ----------
    labels
        A table with `LABEL_COLUMNS`; its order does not matter.
    ontology
        The release to map into.
    context
        What the study declares; it wins over everything else.
    memory
        What curators elsewhere said of labels with the same words.

    Returns
    -------
        The mappings, sorted by data set and label, and the findings.
    """
    lexicon = lexicon_of(ontology)
    labels = with_tissues_in_words(labels, cells=ontology)
    declared, findings = _checked_context(context, labels, ontology)
    labels = with_reading(labels)
    asked = [
        (str(label), str(tissue))
        for label, tissue in zip(labels["read"], labels["tissue"], strict=True)
        if not is_reserved(str(label)) and not is_code(str(label))
    ]
    learned = learned_orders(asked, ontology=ontology)
    mappings: list[LabelMapping] = []
    for dataset_id, part in labels.groupby("dataset_id", sort=True):
        table = part.sort_values("contributor_label", kind="stable")
        neighbors = neighbor_terms([str(label) for label in table["read"]], lexicon)
        rows = [
            _decide(_Label.of(record, learned), declared=declared, neighbors=neighbors, lexicon=lexicon, memory=memory)
            for record in table.to_dict("records")
        ]
        rows, collapsed = _without_collapse(rows)
        mappings += [row.mapping for row in rows]
        findings += _findings(str(dataset_id), rows, collapsed)
    return tuple(mappings), tuple(findings)


@dataclass(frozen=True, kw_only=True)
class _Label:
    """One row of the label table; `read` is the text without the number of a cluster."""

    dataset_id: str
    text: str
    read: str
    parent: str
    tissue: str
    claimed: str
    n_cells: int
    learned: Learned | None

    @classmethod
    def of(cls, record: Mapping[object, object], learned: Mapping[tuple[str, str], Learned]) -> "_Label":
        text = str(record["contributor_label"])
        claimed = str(record.get("claimed_term", "") or "")
        # A label that is itself an id claims it.
        claimed = text if claimed in {"", "unknown"} and _CL_ID.fullmatch(text) else claimed
        return cls(
            dataset_id=str(record["dataset_id"]),
            text=text,
            read=str(record["read"]),
            parent=str(record["label_parent"]),
            tissue=str(record["tissue"]),
            claimed="" if claimed == "unknown" else claimed,
            n_cells=int(str(record["n_cells"])),
            learned=learned.get((str(record["read"]), str(record["tissue"]))),
        )


def _decide(
    label: _Label,
    *,
    declared: Mapping[tuple[str, str], StudyContext],
    neighbors: Mapping[str, tuple[str, str]],
    lexicon: Lexicon,
    memory: Memory | None,
) -> _Row:
    said = declared.get((label.dataset_id, label.text))
    if said:
        row = _row(label, lexicon, term=said.term, confidence=1000, justification=MANUAL, evidence=said.evidence)
        mapping = replace(row.mapping, predicate=Predicate(said.predicate), decision="reviewed", reviewer=said.reviewer)
        return replace(row, mapping=mapping)
    if is_reserved(label.read) or is_code(label.read):
        why = "names no cell type" if is_reserved(label.read) else "a code, whose meaning only its author knows"
        row = _row(label, lexicon, term="", confidence=0, justification=UNSPECIFIED, evidence=why)
        return replace(row, mapping=replace(row.mapping, decision="reserved"))
    candidates = candidates_for(label.read, label.tissue, lexicon)
    if label.claimed:
        claimed = _claimed(label, candidates, lexicon)
        if claimed.mapping.term:
            return claimed
        return replace(_lexical(label, candidates, lexicon), problem=claimed.problem, problem_text=claimed.problem_text)
    if label.read in neighbors:
        term, why = neighbors[label.read]
        return _row(label, lexicon, term=term, confidence=NEIGHBOR_CONFIDENCE, justification=COMPOSITE, evidence=why)
    row = _lexical(label, candidates, lexicon)
    return row if memory is None or row.problem else replace(row, mapping=remembered(row.mapping, memory))


def _claimed(label: _Label, candidates: Sequence[Candidate], lexicon: Lexicon) -> _Row:
    """Take an id that the contributor gave, after it was checked; without a term where it cannot be used."""
    ontology = lexicon.ontology
    empty = _row(label, lexicon, term="", confidence=0, justification=UNSPECIFIED, evidence="")
    if _JOIN in label.claimed:
        return replace(empty, problem="several", problem_text=f"{label.text!r}: {label.claimed}")
    try:
        term = ontology.resolve(label.claimed)
    except UnresolvedLabelError:
        return replace(empty, problem="dead", problem_text=f"{label.text!r}: {label.claimed}")
    problem, text, confidence = "", "", CLAIMED_CONFIDENCE
    if term != label.claimed.strip().replace("_", ":").upper():
        problem, text = "replaced", f"{label.text!r}: {label.claimed} is now {term}"
    best = candidates[0] if candidates else None
    if best and confidence_in_context(best) >= ACCEPT and not ontology.related(best.term, term):
        problem, confidence = "mismatch", 700
        text = f"{label.text!r}: claims {term} ({ontology.name(term)}), reads as {ontology.name(best.term)}"
    row = _row(
        label, lexicon, term=term, confidence=confidence, justification=UNSPECIFIED,
        evidence=f"claimed by the contributor as {label.claimed}",
    )  # fmt: skip
    return replace(row, problem=problem, problem_text=text)


def _lexical(label: _Label, candidates: Sequence[Candidate], lexicon: Lexicon) -> _Row:
    parent_term = _parent_term(label, lexicon)
    if not candidates:
        return _row(label, lexicon, term="", confidence=0, justification=UNSPECIFIED, evidence="no name is similar")
    words = compatible_first(candidates, parent_term, ontology=lexicon.ontology)
    chosen = choice_of(words, label.learned, parent_term=parent_term, ontology=lexicon.ontology)
    kind = chosen.candidate.kind if chosen.candidate else ""
    row = _row(
        label, lexicon, term=chosen.term, confidence=chosen.confidence, evidence=chosen.evidence,
        justification={"similar": SIMILARITY, "composite": COMPOSITE, "": LEARNED}.get(kind, LEXICAL),
        candidate=chosen.candidate,
    )  # fmt: skip
    if words[2].startswith("contradicts"):
        return replace(row, problem="parent", problem_text=f"{label.text!r} under {label.parent!r}")
    return row


def _parent_term(label: _Label, lexicon: Lexicon) -> str:
    """Return the parent label's term where its own words decide it, else an empty string."""
    parent = label.parent
    if not parent or _JOIN in parent or is_reserved(parent) or is_code(parent):
        return ""
    found = candidates_for(parent, label.tissue, lexicon)
    return found[0].term if found and confidence_in_context(found[0]) >= ACCEPT else ""


def _row(  # noqa: PLR0913 - one record of seven fields, private
    label: _Label,
    lexicon: Lexicon,
    *,
    term: str,
    confidence: int,
    justification: str,
    evidence: str,
    candidate: Candidate | None = None,
) -> _Row:
    decision = decision_of(confidence)
    kept = term if decision != "abstained" else ""
    predicate = Predicate.BROAD if candidate is not None and candidate.broader else Predicate.EXACT
    if justification == LEARNED:
        predicate = predicate_of(label.read, term, lexicon, tissue=label.tissue)
    if term and not kept:
        evidence = f"best guess {term} ({lexicon.ontology.name(term)}) is too weak; {evidence}"
    mapping = LabelMapping(
        dataset_id=label.dataset_id,
        contributor_label=label.text,
        predicate=predicate if kept else Predicate.NONE,
        term=kept,
        term_name=lexicon.ontology.name(kept) if kept else "",
        justification=justification,
        confidence=confidence,
        decision=decision,
        ontology_release=lexicon.ontology.release,
        n_cells=label.n_cells,
        evidence=evidence,
    )
    rank = KINDS.index(candidate.kind) if candidate else len(KINDS) if justification == LEARNED else -1
    bag = bag_of(lexicon.normalize(label.read))
    return _Row(mapping=mapping, literal=(rank, len(bag), -label.n_cells, " ".join(bag)))


def _without_collapse(rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """Leave one exact match per term in a data set; the less literal labels become broad matches.

    Labels with the same words (`B cell`, `B cells`) are one label written twice and stay; so do reviewed rows.
    """
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        if row.mapping.predicate is Predicate.EXACT:
            groups.setdefault(row.mapping.term, []).append(row)
    broadened: dict[str, str] = {}
    for term, members in groups.items():
        most_literal = min(members, key=lambda row: (row.mapping.decision != "reviewed", row.literal))
        for row in members:
            if row.literal[3] != most_literal.literal[3] and row.mapping.decision != "reviewed":
                broadened[row.mapping.contributor_label] = f"{most_literal.mapping.contributor_label!r} is {term}"
    out = []
    for row in rows:
        why = broadened.get(row.mapping.contributor_label)
        if why:
            evidence = f"{row.mapping.evidence}; broad because {why} already"
            mapping = replace(row.mapping, predicate=Predicate.BROAD, evidence=evidence)
            out.append(replace(row, mapping=mapping))
        else:
            out.append(row)
    return out, [f"{label!r}: {why}" for label, why in sorted(broadened.items())]


def _checked_context(
    context: Sequence[StudyContext], labels: pd.DataFrame, ontology: Ontology
) -> tuple[dict[tuple[str, str], StudyContext], list[Finding]]:
    """Return usable declarations with live ids, and an error for each that is not usable."""
    known = set(zip(labels["dataset_id"].astype(str), labels["contributor_label"].astype(str), strict=True))
    usable: dict[tuple[str, str], StudyContext] = {}
    wrong: list[str] = []
    for said in sorted(context, key=lambda c: (c.dataset_id, c.contributor_label, c.term)):
        key = (said.dataset_id, said.contributor_label)
        try:
            term = ontology.resolve(said.term)
            Predicate(said.predicate)
        except (UnresolvedLabelError, ValueError) as error:
            wrong.append(f"{said.dataset_id}: {said.contributor_label!r}: {error}")
            continue
        if key not in known:
            wrong.append(f"{said.dataset_id} has no label {said.contributor_label!r}")
        elif key in usable:
            wrong.append(f"{said.dataset_id}: {said.contributor_label!r} is declared twice")
        else:
            usable[key] = replace(said, term=term)
    if not wrong:
        return usable, []
    finding = _finding(
        "E-LABEL-01", "study context", wrong, n_total=len(context),
        message="declared mappings cannot be used; a silent skip would leave these labels to the lexicon",
        remedy="correct the label, the id or the predicate in the study file",
    )  # fmt: skip
    return usable, [finding]


_PROBLEMS: Mapping[str, tuple[str, str, str]] = {
    "dead": ("W-LABEL-02", "claimed ids are no live terms of the release; the label's words were used instead",
             "give a live CL id for each label"),
    "several": ("W-LABEL-03", "labels carry several claimed ids; the label's words were used instead",
                "use labels as fine as the ids, or declare the mapping in the study file"),
    "replaced": ("N-LABEL-04", "claimed ids are obsolete or oddly spelled; the release's term was taken",
                 "update the ids in the source"),
    "mismatch": ("W-LABEL-05", "claimed ids are on another lineage than the label's words; a person has to look",
                 "check the id against the label, then apply the reviewed mapping file"),
    "parent": ("W-LABEL-06", "the label's term is on another lineage than its parent label's; a person has to look",
               "check both labels, then apply the reviewed mapping file"),
}  # fmt: skip


def _findings(dataset_id: str, rows: Sequence[_Row], collapsed: Sequence[str]) -> list[Finding]:
    """Return what a person should know about the labels of one data set."""
    where = f"{dataset_id}: contributor_label"
    found = []
    for problem, (code, message, remedy) in _PROBLEMS.items():
        texts = [row.problem_text for row in rows if row.problem == problem]
        if texts:
            found.append(_finding(code, where, texts, n_total=len(rows), message=message, remedy=remedy))
    if collapsed:
        found.append(_finding(
            "N-LABEL-07", where, collapsed, n_total=len(rows),
            message="several labels would mean exactly the same term; the less literal ones became broad matches",
            remedy="give them finer terms in the mapping file if the data set tells them apart",
        ))  # fmt: skip
    return [*found, *open_findings([row.mapping for row in rows])]


def _finding(code: str, where: str, texts: Sequence[str], *, n_total: int, message: str, remedy: str) -> Finding:
    severity = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}[code[0]]
    return Finding(
        code=code, severity=severity, where=where, n_affected=len(texts), n_total=n_total,
        examples=tuple(texts[:5]), message=message, remedy=remedy, rule=RULE,
    )  # fmt: skip


def _joined(values: pd.Series) -> str:
    return _JOIN.join(sorted({str(value) for value in values if str(value) != ""}))
