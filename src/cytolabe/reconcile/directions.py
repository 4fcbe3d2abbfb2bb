"""Which way a mapping points, and whether its predicate says so.

In SKOS the object of `broadMatch` is the broader one: "Club (nasal)" to *club cell* is a broad match, because every
nasal club cell is a club cell and not the other way round. Tables are found with both readings, sometimes of the same
pair, and a wrong one is silent: a metric would count a coarse term as a fine one.

What the words and the graph prove decides, in this order: the label's words hold all words of the term's name, or the name
holds all of the label's; the label is literally the name of a term above or below. Everything else is undecided and
no fault is found there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.candidates import Lexicon, candidates_for, lexicon_of
from cytolabe.reconcile.findings import finding_of
from cytolabe.reconcile.normalize import bag_of
from cytolabe.records import Finding, Predicate

__all__ = ["Direction", "Statement", "direction_of", "lint_directions", "opposite"]

_RULE = "cytolabe/directions"
_LITERAL = frozenset({"name", "synonym", "seed", "scoped_seed"})


class Direction(StrEnum):
    """How the label stands to the term."""

    NARROWER = "the label is narrower than the term"
    BROADER = "the label is broader than the term"
    SAME = "the label is the term's name"
    UNDECIDED = "nothing in words or graph tells"


_EXPECTED = {Direction.NARROWER: Predicate.BROAD, Direction.BROADER: Predicate.NARROW}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a row of any mapping table says. `where` is how a finding names the row."""

    label: str
    term: str
    predicate: Predicate
    tissue: str = ""
    where: str = ""

    @property
    def shown(self) -> str:
        """The row in one line."""
        lead = f"{self.where}: " if self.where else ""
        return f"{lead}{self.label!r} {self.predicate.value} {self.term}"


def opposite(predicate: Predicate) -> Predicate:
    """Return the predicate read from the other side; exact and related matches are their own."""
    return {Predicate.BROAD: Predicate.NARROW, Predicate.NARROW: Predicate.BROAD}.get(predicate, predicate)


def direction_of(label: str, term: str, lexicon: Lexicon, *, tissue: str = "") -> Direction:
    """Return how a label stands to a live term, as far as words and graph prove it."""
    words = set(bag_of(lexicon.normalize(label)))
    ontology = lexicon.ontology
    names = [set(bag_of(lexicon.normalize(text))) for text in (ontology.name(term), *ontology.synonyms(term))]
    literal = _literal_terms(label, tissue, lexicon)
    # The graph before the words: CL's `CD14-positive, CD16-positive monocyte` holds words of terms that are not above it.
    if not words:
        found = Direction.UNDECIDED
    elif words in names or term in literal:
        found = Direction.SAME
    elif any(term in ontology.ancestors(named) for named in literal):
        found = Direction.NARROWER
    elif any(term in ontology.descendants(named) for named in literal):
        found = Direction.BROADER
    else:
        found = _by_words(words, names)
    return found


def _by_words(words: set[str], names: list[set[str]]) -> Direction:
    """Return the direction where one side says all words of the other and more."""
    if any(name and name < words for name in names):
        return Direction.NARROWER
    return Direction.BROADER if any(words < name for name in names) else Direction.UNDECIDED


def _literal_terms(label: str, tissue: str, lexicon: Lexicon) -> frozenset[str]:
    candidates = candidates_for(label, tissue, lexicon)
    return frozenset(c.term for c in candidates if c.kind in _LITERAL and c.similarity >= 1 and not c.doubtful)


def lint_directions(
    statements: Iterable[Statement], *, ontology: Ontology, where: str = "mapping file"
) -> tuple[Finding, ...]:
    """Return what is wrong with the directions of a table: one finding per kind of fault.

    Parameters
    ----------
    statements
        Its rows; those whose term is not live, or that have none, are passed over.
    ontology
        The release that relates the terms.
    where
        How the table is called in the findings.
    """
    lexicon = lexicon_of(ontology)
    rows = [row for row in statements if row.term in ontology and row.predicate is not Predicate.NONE]
    inverted, too_exact = [], []
    said: dict[tuple[str, str], set[Predicate]] = {}
    for row in rows:
        said.setdefault((row.label, row.term), set()).add(row.predicate)
        found = direction_of(row.label, row.term, lexicon, tissue=row.tissue)
        expected = _EXPECTED.get(found)
        if expected and row.predicate is opposite(expected):
            inverted.append(f"{row.shown}: {found.value}, so {expected.value}")
        elif found is Direction.NARROWER and row.predicate is Predicate.EXACT and _names_one_below(row, lexicon):
            too_exact.append(f"{row.shown}: {found.value}, so {Predicate.BROAD.value}")
    both = {Predicate.BROAD, Predicate.NARROW}
    contrary = [f"{label!r} to {term}" for (label, term), predicates in sorted(said.items()) if both <= predicates]
    texts = {"W-DIRECTION-01": inverted, "W-DIRECTION-02": too_exact, "W-DIRECTION-03": contrary}
    return tuple(
        finding_of(code, sorted(found), text=_TEXTS[code], where=where, n_total=len(rows), rule=_RULE)
        for code, found in texts.items()
        if found
    )


def _names_one_below(row: Statement, lexicon: Lexicon) -> bool:
    """Return whether the label is literally the name of a term below; more words alone may be mere style.

    The other way round is no fault: the context of a study makes `memory T` exactly a CD4 memory T cell (rule R6).
    """
    literal = _literal_terms(row.label, row.tissue, lexicon)
    return any(row.term in lexicon.ontology.ancestors(named) for named in literal)


_TEXTS = {
    "W-DIRECTION-01": (
        "predicates point the wrong way; in SKOS the object of broadMatch is the broader one",
        "turn broadMatch and narrowMatch round in these rows",
    ),
    "W-DIRECTION-02": (
        "exact matches to a term that is above the one that the label names",
        "map to the term that the label names, or say broadMatch",
    ),
    "W-DIRECTION-03": (
        "the same label and term are matched as broader and as narrower",
        "keep the one that is right; the object of broadMatch is the broader one",
    ),
}
