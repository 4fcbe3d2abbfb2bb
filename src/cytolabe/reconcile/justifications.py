"""Why a label may mean a term: every reason is a row of its own, and one row more is the decision.

SSSOM knows one justification per row, so a decision that several reasons carry would hide them. Here each reason
stands with its kind, its own confidence and what it matched, whether it won or not: a reviewer sees the second best
term and why it was not taken. Reasons decide nothing by themselves; `labels` and `review` decide.

Kinds: what the contributor claims (`UnspecifiedMatching`: nobody knows how it was made), neighbors in the data set
(`BackgroundKnowledgeBasedMatching`), words (`LexicalMatching`), a common ancestor of `B/Plasma` (`LogicalReasoning`),
similarity of letters (`LexicalSimilarityThresholdMatching`), the learned order (`SemanticSimilarityThresholdMatching`), what curators elsewhere said (`ManualMappingCuration`, or
`MappingInversion` where their table pointed the other way), and what the cells look like (`InstanceBasedMatching`, made in `expression`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cytolabe.errors import UnresolvedLabelError
from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.candidates import Candidate, Lexicon, candidates_for, lexicon_of
from cytolabe.reconcile.cluster_numbers import with_reading
from cytolabe.reconcile.evidence import confidence_in_context, neighbor_terms
from cytolabe.reconcile.labels import CLAIMED_CONFIDENCE, NEIGHBOR_CONFIDENCE
from cytolabe.reconcile.learned import LEARNED, Learned, learned_orders, predicate_of
from cytolabe.reconcile.memory import SPLIT, Memory
from cytolabe.reconcile.normalize import is_code, is_reserved
from cytolabe.reconcile.tissues import with_tissues_in_words
from cytolabe.records import Predicate

__all__ = ["INSTANCE", "N_REASONS", "Justification", "in_order", "justify_labels"]

N_REASONS = 8
"""Most reasons per label that the words give: five terms fill the keys of the review sheet, the rest is context."""

INSTANCE = "semapv:InstanceBasedMatching"
"""Justification of what the cells of a label look like (`expression`)."""

CLAIMED = "semapv:UnspecifiedMatching"
NEIGHBOR = "semapv:BackgroundKnowledgeBasedMatching"
_BY_KIND: Mapping[str, str] = {
    "similar": "semapv:LexicalSimilarityThresholdMatching",
    "composite": "semapv:LogicalReasoning",
}
_LEXICAL = "semapv:LexicalMatching"
_JOIN = " || "
_LEAST_SHARE = 10
"""Share of a term in the learned order, in thousandths, below which it is no reason."""


@dataclass(frozen=True, kw_only=True)
class Justification:
    """One reason for one term. `confidence` and `similarity` are in thousandths; `similarity` is -1 where none was measured.

    `source` names the table that the reason comes from, `reviewer` the person behind it; both are empty for reasons of ours.
    """

    dataset_id: str
    contributor_label: str
    predicate: Predicate
    term: str
    term_name: str
    justification: str
    confidence: int
    similarity: int = -1
    matched: str = ""
    source: str = ""
    reviewer: str = ""


def justify_labels(
    labels: pd.DataFrame, *, ontology: Ontology, memory: Memory | None = None
) -> tuple[Justification, ...]:
    """Return the reasons for each label of a `label_table`, by data set and label, the strongest first.

    Reserved words and bare codes have none: nothing is ever guessed about them. `memory` is what curators elsewhere said.
    """
    lexicon = lexicon_of(ontology)
    labels = with_tissues_in_words(labels, cells=ontology)
    found: list[Justification] = []
    labels = with_reading(labels)
    learned = learned_orders(
        (
            (str(label), str(tissue))
            for label, tissue in zip(labels["read"], labels["tissue"], strict=True)
            if not is_reserved(str(label)) and not is_code(str(label))
        ),
        ontology=ontology,
    )
    for dataset_id, part in labels.groupby("dataset_id", sort=True):
        table = part.sort_values("contributor_label", kind="stable")
        neighbors = neighbor_terms([str(label) for label in table["read"]], lexicon)
        for record in table.to_dict("records"):
            read = str(record["read"])
            if is_reserved(read) or is_code(read):
                continue
            maker = _Maker(
                dataset_id=str(dataset_id), label=str(record["contributor_label"]), read=read, lexicon=lexicon
            )
            claimed = maker.claims(str(record.get("claimed_term", "") or ""))
            beside = maker.neighbor(*neighbors[read]) if read in neighbors else ()
            recalled = maker.memories(memory) if memory is not None else ()
            tissue = str(record["tissue"])
            ordered = maker.ordered(learned.get((read, tissue)), tissue)
            found += in_order([*claimed, *beside, *recalled, *ordered, *maker.words(tissue)])
    return tuple(found)


def in_order(reasons: Iterable[Justification]) -> list[Justification]:
    """Order the reasons of one label: the strongest first, then by term and by what matched."""
    return sorted(reasons, key=lambda reason: (-reason.confidence, reason.term, reason.justification, reason.matched))


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes the reasons of one label; `read` is the label without the number of a cluster."""

    dataset_id: str
    label: str
    read: str
    lexicon: Lexicon

    def claims(self, claimed: str) -> Sequence[Justification]:
        """Return one reason for each live id that the contributor gave."""
        terms = {}
        for text in claimed.split(_JOIN):
            try:
                terms[self.lexicon.ontology.resolve(text)] = text
            except UnresolvedLabelError:
                continue
        return [
            self._reason(term, CLAIMED, CLAIMED_CONFIDENCE, matched=f"claimed as {text}")
            for term, text in terms.items()
        ]

    def neighbor(self, term: str, why: str) -> Sequence[Justification]:
        """Return what the other labels of the data set say."""
        return (self._reason(term, NEIGHBOR, NEIGHBOR_CONFIDENCE, matched=why),)

    def words(self, tissue: str) -> Sequence[Justification]:
        """Return what the label's own words say, the best candidates first."""
        candidates = candidates_for(self.read, tissue, self.lexicon)
        return [self._of_candidate(candidate) for candidate in candidates[:N_REASONS]]

    def ordered(self, learned: Learned | None, tissue: str) -> Sequence[Justification]:
        """Return the best of the learned order: the first with its calibrated probability, the others with their share."""
        if learned is None:
            return ()
        claims = (learned.lineage, *learned.shares[1:])
        return [
            self._reason(
                term,
                LEARNED,
                confidence,
                matched=learned.told if place == 1 else f"learned order: place {place}",
                predicate=predicate_of(self.read, term, self.lexicon, tissue=tissue),
            )
            for place, (term, confidence) in enumerate(zip(learned.terms, claims, strict=True), start=1)
            if place == 1 or confidence >= _LEAST_SHARE
        ]

    def memories(self, memory: Memory) -> Sequence[Justification]:
        """Return what each curator elsewhere said of a label with the same words."""
        found = memory.recall(self.label)
        if found is None:
            return ()
        made = (
            self._reason(
                row.term,
                row.justification,
                found.confidence if row.term == found.term else min(found.confidence, SPLIT),
                matched=f"memory: {row.label}" + (f" [{row.tissue}]" if row.tissue else ""),
                predicate=row.predicate,
            )
            for row in found.rows
        )
        return [
            replace(reason, source=row.source, reviewer=row.reviewer or row.curator)
            for reason, row in zip(made, found.rows, strict=True)
        ]

    def _of_candidate(self, candidate: Candidate) -> Justification:
        return self._reason(
            candidate.term,
            _BY_KIND.get(candidate.kind, _LEXICAL),
            confidence_in_context(candidate),
            matched=f"{candidate.kind}: {candidate.matched}",
            predicate=Predicate.BROAD if candidate.broader else Predicate.EXACT,
            similarity=round(candidate.similarity * 1000) if candidate.kind == "similar" else -1,
        )

    def _reason(
        self,
        term: str,
        justification: str,
        confidence: int,
        *,
        matched: str,
        predicate: Predicate = Predicate.EXACT,
        similarity: int = -1,
    ) -> Justification:
        return Justification(
            dataset_id=self.dataset_id,
            contributor_label=self.label,
            predicate=predicate,
            term=term,
            term_name=self.lexicon.ontology.name(term),
            justification=justification,
            confidence=confidence,
            similarity=similarity,
            matched=matched,
        )
