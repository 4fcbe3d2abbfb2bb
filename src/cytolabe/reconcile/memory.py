"""What curators elsewhere took labels to mean, recalled for a label with the same words.

The more independent curators agree, the more it is worth. Counted on 4,638 public rows of label and CL term, each answered from the
other families of sources only (families re-curate each other's labels in part, so this bounds from above what a new laboratory sees):

| said by | rows | equal to the expert's term | on its lineage |
|---|---|---|---|
| two or more, all the same term | 768 | 86 % | 97.7 % |
| two or more, on one lineage | 487 | 63 % | 95.7 % |
| two or more, on several lineages | 192 | 83 % | 94.3 % |
| one | 697 | 54 % | 89.0 % |
| one that contradicts itself | 19 | 21 % | 47 % |

The confidence is the lineage column, as everywhere (`combine`), so one curator alone never decides unseen. On several lineages the term of
the majority is proposed and a person looks. Bare codes and reserved words are never recalled: a cluster number is nobody's memory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cytolabe.errors import UnresolvedLabelError
from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.candidates import lexicon_of
from cytolabe.reconcile.combine import ACCEPT, decision_of
from cytolabe.reconcile.evidence import LINEAGE_OPEN
from cytolabe.reconcile.normalize import bag_of, is_code, is_reserved
from cytolabe.records import LabelMapping, MemoryRow, Predicate

__all__ = ["SPLIT", "Memory", "Recalled", "memory_of", "remembered"]

RECALLED = "semapv:BackgroundKnowledgeBasedMatching"
UNANIMOUS, ONE_LINEAGE, SINGLE, SPLIT, TORN = 975, 955, 890, 700, 470


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """What memory says of a label: the term of most curators, what that is worth, and who said it."""

    term: str
    predicate: Predicate
    confidence: int
    rows: tuple[MemoryRow, ...]
    n_curators: int

    @property
    def evidence(self) -> str:
        """In one line: who, and how many."""
        sources = sorted({row.source for row in self.rows})
        shown = ", ".join(sources[:3]) + (" ..." if len(sources) > 3 else "")
        return f"memory of {self.n_curators} curator(s): {shown}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Rows by the words of their label."""

    ontology: Ontology
    by_words: Mapping[tuple[str, ...], tuple[MemoryRow, ...]]

    def recall(self, label: str) -> Recalled | None:
        """Return what memory says of a label, or nothing."""
        if is_reserved(label) or is_code(label):
            return None
        rows = self.by_words.get(bag_of(lexicon_of(self.ontology).normalize(label)), ())
        if not rows:
            return None
        curators: dict[str, set[str]] = {}
        for row in rows:
            curators.setdefault(row.term, set()).add(row.curator)

        def rank(term: str) -> tuple[int, float, str]:
            return -len(curators[term]), self.ontology.information_content(term), term

        # Of terms with equally many curators the more general one, which is the weaker claim.
        term = min(curators, key=rank)
        n_curators = len(set().union(*curators.values()))
        return Recalled(
            term=term,
            predicate=_predicate(row for row in rows if row.term == term),
            confidence=self._confidence(term, frozenset(curators), n_curators),
            rows=rows,
            n_curators=n_curators,
        )

    def _confidence(self, term: str, terms: frozenset[str], n_curators: int) -> int:
        is_one_lineage = all(self.ontology.related(other, term) for other in terms)
        if n_curators == 1:
            return SINGLE if is_one_lineage else TORN
        if len(terms) == 1:
            return UNANIMOUS
        return ONE_LINEAGE if is_one_lineage else SPLIT


def remembered(mapping: LabelMapping, memory: Memory) -> LabelMapping:
    """Return what words and memory say together of one label.

    Memory decides where it is worth more than the words. Where words that would be accepted are on another lineage, neither is:
    the term of several agreeing curators, or else that of the words, waits for a person.
    """
    found = memory.recall(mapping.contributor_label)
    if found is None or mapping.term == found.term:
        return mapping
    is_open = found.term in LINEAGE_OPEN
    confidence = min(found.confidence, SPLIT) if is_open else found.confidence
    contradicts = mapping.decision == "auto" and not memory.ontology.related(mapping.term, found.term)
    if contradicts:
        told = f"words say {mapping.term} ({mapping.term_name}), {found.evidence} {found.term}; on two lineages"
        if confidence < ACCEPT:
            return replace(mapping, confidence=SPLIT, decision=decision_of(SPLIT), evidence=told)
        return _of_memory(mapping, found, min(confidence, SPLIT), told, memory.ontology)
    if mapping.confidence >= confidence:
        return mapping
    return _of_memory(mapping, found, confidence, found.evidence, memory.ontology)


def _of_memory(  # noqa: PLR0917 - one record of five parts, private
    mapping: LabelMapping, found: Recalled, confidence: int, evidence: str, ontology: Ontology
) -> LabelMapping:
    decision = decision_of(confidence)
    if decision == "abstained":
        guess = f"best guess {found.term} ({ontology.name(found.term)}) is too weak; {evidence}"
        return mapping if mapping.confidence else replace(mapping, confidence=confidence, evidence=guess)
    return replace(
        mapping,
        predicate=found.predicate,
        term=found.term,
        term_name=ontology.name(found.term),
        justification=RECALLED,
        confidence=confidence,
        decision=decision,
        evidence=evidence,
    )


def memory_of(rows: Iterable[MemoryRow], *, ontology: Ontology) -> Memory:
    """Arrange rows by their words; a term that this release replaced is followed, one that it withdrew is forgotten."""
    lexicon = lexicon_of(ontology)
    by_words: dict[tuple[str, ...], list[MemoryRow]] = {}
    for row in rows:
        try:
            live = replace(row, term=ontology.resolve(row.term))
        except UnresolvedLabelError:
            continue
        by_words.setdefault(bag_of(lexicon.normalize(row.label)), []).append(live)
    return Memory(ontology=ontology, by_words={words: tuple(found) for words, found in by_words.items() if words})


def _predicate(rows: Iterable[MemoryRow]) -> Predicate:
    """Return the predicate that most rows use; broad where they are divided, which is the weaker claim."""
    counts: dict[Predicate, int] = {}
    for row in rows:
        counts[row.predicate] = counts.get(row.predicate, 0) + 1
    most = max(counts.values())
    first, *others = [predicate for predicate, n in counts.items() if n == most]
    return Predicate.BROAD if others else first
