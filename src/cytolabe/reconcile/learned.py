"""What the learned order of `ranking` says of a label, and how it is weighed against the label's own words.

Both give the same kind of number, the calibrated probability that an expert's term lies on the lineage of the proposed
one, so they can be compared: the one that claims more decides. Where both propose the same term, the higher claim stands. Where
the words would be accepted and the learned order is as sure of another lineage, neither is accepted: a person looks.

The model of the package has learned from CL and the project's own table, and recalls that table alone: with an atlas's memory
before it every import would move the confidence of labels that it says nothing about, and the calibration would be that of
another model. What curators elsewhere said is weighed after it (`memory`). It never sees a count: expression decides no label
(rule R6b).
Of 4,601 labels of public tables (CL v2026-03-26; parts of the seed table were written after reading some of them) both together
accept 62.8 % at 95.9 % on the right lineage and 69.9 % exact; over all labels the right lineage is met in 84.8 %, the very
term in 59.9 % (words alone, before numbers of clusters were read: 61.6 % at 95.8 and 69.7 %; 84.2 and 58.9 %). The expected calibration error is .046.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.resolutions import GROUPING_TERMS
from cytolabe.reconcile.candidates import Candidate, Lexicon
from cytolabe.reconcile.combine import ACCEPT
from cytolabe.reconcile.directions import Direction, direction_of
from cytolabe.reconcile.evidence import LINEAGE_OPEN, OPEN_CONFIDENCE
from cytolabe.reconcile.ranking.calibration import ranked_of
from cytolabe.reconcile.ranking.engine import Group, bench_of, weigh
from cytolabe.reconcile.ranking.lexical import term_index_of
from cytolabe.reconcile.ranking.memory import Query, seed_entries
from cytolabe.reconcile.ranking.ranker import softmax_in_rows
from cytolabe.reconcile.ranking.shipped import serves, shipped_model
from cytolabe.records import Predicate

__all__ = ["LEARNED", "Choice", "Learned", "choice_of", "learned_orders", "predicate_of"]

LEARNED = "semapv:SemanticSimilarityThresholdMatching"
"""Justification of a term that the learned order proposed: names, definitions, place in the tree and usage, weighed."""

_SAYS_NOTHING = GROUPING_TERMS | {"CL:0000000"}
"""Terms that are on nearly every lineage and tell nothing; being right about them is no reason to be sure."""
_ASKING = "cytolabe:asking"
_N_TERMS = 5
_AT_ONCE = 256
"""Labels that are compared with all terms at once: some 50 MB."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The learned order of one label: its best terms, and two probabilities of the first one in thousandths.

    `shares` are the shares of the terms among all candidates, in thousandths: an order and no probability.
    """

    terms: tuple[str, ...]
    shares: tuple[int, ...]
    lineage: int
    exact: int

    @property
    def told(self) -> str:
        """In a few words, for the evidence of a row."""
        return f"learned order: {self.lineage / 10:.0f} % on the lineage, {self.exact / 10:.0f} % the very term"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The term that words and learned order give together; `candidate` is None where the learned order chose."""

    term: str
    confidence: int
    evidence: str
    candidate: Candidate | None


def learned_orders(asked: Iterable[tuple[str, str]], *, ontology: Ontology) -> Mapping[tuple[str, str], Learned]:
    """Return the learned order of each (label, tissue); empty where the model was made for another release.

    Each label is ranked by itself: what else is asked in the same call changes nothing, so that an atlas of any number of
    labels is ranked `_AT_ONCE` at a time.

    Raises
    ------
    IntegrityError
        If the model of the package was changed.
    """
    pairs = sorted(set(asked))
    if not pairs or not serves(ontology):
        return {}
    found: dict[tuple[str, str], Learned] = {}
    for start in range(0, len(pairs), _AT_ONCE):
        found |= _ranked(tuple(pairs[start : start + _AT_ONCE]), ontology)
    return found


@lru_cache(maxsize=64)
def _ranked(pairs: tuple[tuple[str, str], ...], ontology: Ontology) -> Mapping[tuple[str, str], Learned]:
    """Rank some labels; remembered, because decisions and the reasons beside them ask for the same."""
    ranker, calibrator = shipped_model(ontology)
    index = term_index_of(ontology)
    query = Query(
        label=tuple(label for label, _ in pairs),
        tissue=tuple(tissue for _, tissue in pairs),
        # A source of its own for each: labels of one source are context of each other.
        source=tuple(f"{_ASKING}:{at}" for at in range(len(pairs))),
    )
    weighed = weigh(
        bench_of(query, seed_entries(index), index=index),
        [Group(rows=np.arange(len(pairs), dtype=np.int64), barred=frozenset())],
    )
    scores = ranker.scores(weighed.features, weighed.pairs)
    ranked = ranked_of(weighed, scores, index=index)
    share = np.zeros((len(pairs), len(index.terms)), dtype=np.float32)
    share[weighed.pairs.row, weighed.pairs.term] = softmax_in_rows(scores, weighed.pairs)
    exact, lineage = calibrator.probabilities(ranked.facts)
    best = [[int(at) for at in terms[:_N_TERMS] if at >= 0] for terms in ranked.terms]
    return {
        pairs[int(row)]: Learned(
            terms=tuple(index.terms[at] for at in terms),
            shares=tuple(round(1000 * float(share[row, at])) for at in terms),
            lineage=round(1000 * float(on_lineage)),
            exact=round(1000 * float(right)),
        )
        for row, terms, right, on_lineage in zip(ranked.rows, best, exact, lineage, strict=True)
    }


def choice_of(
    words: tuple[Candidate, int, str], learned: Learned | None, *, parent_term: str, ontology: Ontology
) -> Choice:
    """Weigh what words say (candidate, confidence, what the parent changed) against the learned order."""
    candidate, confidence, changed = words
    told = f"{candidate.kind}: {candidate.matched}" + (f"; {changed}" if changed else "")
    by_words = Choice(term=candidate.term, confidence=confidence, evidence=told, candidate=candidate)
    if learned is None or not learned.terms or changed or learned.terms[0] in _SAYS_NOTHING:
        return by_words
    first = learned.terms[0]
    is_open = candidate.doubtful or candidate.term in LINEAGE_OPEN
    if first == candidate.term:
        # What is held back for its meaning stays so: a model of words cannot know which meaning was meant.
        sure = confidence if is_open else max(confidence, learned.lineage)
        return replace(by_words, confidence=sure, evidence=f"{told}; {learned.told}")
    claimed = min(learned.lineage, OPEN_CONFIDENCE) if is_open or first in LINEAGE_OPEN else learned.lineage
    if claimed <= confidence < ACCEPT or (parent_term and not ontology.related(first, parent_term)):
        return by_words
    if confidence < ACCEPT:
        return Choice(term=first, confidence=claimed, evidence=f"{learned.told}; words: {told}", candidate=None)
    if claimed < ACCEPT or ontology.related(first, candidate.term):
        return by_words
    against = f"{told}; but {learned.told} for {first} ({ontology.name(first)}), on another lineage"
    return replace(by_words, confidence=OPEN_CONFIDENCE, evidence=against)


def predicate_of(label: str, term: str, lexicon: Lexicon, *, tissue: str) -> Predicate:
    """Return the predicate of a term that the learned order proposed, as far as words and graph prove a direction."""
    proven = direction_of(label, term, lexicon, tissue=tissue)
    return {Direction.NARROWER: Predicate.BROAD, Direction.BROADER: Predicate.NARROW}.get(proven, Predicate.EXACT)
