"""Terms that a contributor label may mean, each with the kind of match that found it.

Kinds, strongest first; one label may have candidates of several kinds, and only measured precision (`combine`)
decides what a kind is worth:

* `scoped_seed`: the curated table has the label for this tissue (`gamma` in the pancreas);
* `name`, `synonym`: the words are those of a CL name or exact synonym, in any order;
* `seed`: the curated table has the label for any tissue; CL's names are not asked then;
* `stripped`: as above after words that narrow a type were taken off (`Proliferating NK`): the term is broader;
* `composite`: the parts of `B/Plasma` have one closest common ancestor: the term is broader;
* `partial`: a name lies inside the label and the rest says nothing that CL knows: the term is broader;
* `similar`: character n-grams, nothing more.

A candidate is `doubtful` where laboratories mean something else by the same word: what the table lists as open, the
acronyms of CL that the table does not confirm, and numbers that CL reads as part of a name (`B cell 1`).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.resolutions import GROUPING_TERMS
from cytolabe.reconcile.normalize import bag_of, normalize_label

__all__ = [
    "KINDS",
    "Candidate",
    "Lexicon",
    "candidates_for",
    "is_tag",
    "lexicon_of",
    "matched_candidates",
    "scopes_of",
    "seed_table",
]

KINDS = ("scoped_seed", "name", "synonym", "seed", "stripped", "composite", "partial", "similar")
_ROOT_CELL = "CL:0000000"
_SEPARATOR = re.compile(r"\s*(?:/|&|\||;|\bor\b|\band\b)\s*")
_CHANGES_MEANING = frozenset({
    "non", "not", "anti", "pre", "pro", "post", "like", "derived", "associated", "progenitor", "precursor", "stem",
    "supporting", "doublet", "negative", "committed", "primed", "transitional", "immature", "blast",
})  # fmt: skip
_JOINS_PARTS = frozenset({"progenitor", "precursor"})
_N_SIMILAR = 10
_GLUED = re.compile(r"(h?)([a-z]{2,})(\d{0,2})")
_SHORTEST_SIMILAR = 4
"""Letters of a label below which a similar name is chance."""
_ACRONYM_LETTERS = 4
"""Letters of a single word up to which a synonym of CL is an acronym, and one among many meanings."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One term for one label. `similarity` is in [0, 1]; `broader` says that the label is narrower than the term.

    `doubtful` says that the words match and are rarely meant so; such a candidate is never accepted by itself.
    """

    term: str
    kind: str
    similarity: float
    matched: str
    broader: bool = False
    doubtful: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Lexicon:
    """Everything that a label is looked up in, made once per ontology release.

    `bags` maps a bag of words to its terms by kind; `seeds` maps (scope, bag) to a term; `rows` gives the term
    of each row of `matrix` (names x character n-grams). `open_bags` holds (scope, bag) of labels that say too little,
    `alone_bags` those that mean a term only as a whole label.
    """

    ontology: Ontology
    words: Mapping[str, str]
    scopes: Mapping[str, tuple[str, ...]]
    organ_words: Mapping[str, frozenset[str]]
    modifiers: frozenset[str]
    seeds: Mapping[tuple[str, tuple[str, ...]], str]
    open_bags: frozenset[tuple[str, tuple[str, ...]]]
    alone_bags: frozenset[tuple[str, ...]]
    bags: Mapping[tuple[str, ...], Mapping[str, tuple[str, ...]]]
    by_word: Mapping[str, tuple[tuple[str, ...], ...]]
    rows: tuple[tuple[str, str], ...]
    vectorizer: TfidfVectorizer
    matrix: csr_matrix

    def normalize(self, label: str) -> str:
        """Return the label's words, expanded by the seed table; words that nobody knows are taken apart (`LEC3`, `hMac`)."""
        words = normalize_label(label, self.words).split()
        if all(word in self.by_word for word in words):
            return " ".join(words)
        return " ".join(part for word in words for part in self._parted(word))

    def _parted(self, word: str) -> list[str]:
        """Return the known words inside an unknown one: a number behind it, the h of human before it."""
        if word in self.by_word:
            return [word]
        glued = _GLUED.fullmatch(word)
        if not glued:
            return [word]
        human, stem, number = glued.groups()
        for text in (f"{human}{stem}", stem if human else ""):
            known = normalize_label(text, self.words).split()
            if known and all(w in self.by_word or ("any", bag_of(w)) in self.seeds for w in known):
                return [*known, *([number] if number else [])]
        return [word]


@lru_cache(maxsize=2)
def lexicon_of(ontology: Ontology) -> Lexicon:
    """Build the lookup tables of a release: about a second, once per process."""
    table = seed_table()
    words = {str(key): str(value) for key, value in table["words"].items()}
    bags: dict[tuple[str, ...], dict[str, set[str]]] = {}
    rows: list[tuple[str, str]] = []
    cells = [t for t in ontology.terms if ontology.is_a(t, _ROOT_CELL) or not ontology.ancestors(t)]
    for term in cells:
        spelled = [("name", ontology.name(term)), *(("synonym", s) for s in ontology.synonyms(term))]
        for kind, text in spelled:
            normalized = normalize_label(text, words)
            rows.append((term, normalized))
            bags.setdefault(bag_of(normalized), {}).setdefault(kind, set()).add(term)
    seeds: dict[tuple[str, tuple[str, ...]], str] = {}
    for scope, entries in table["labels"].items():
        for key, spellings in entries.items():
            term = ontology.resolve(key.split(" ", 1)[0])
            for spelling in spellings:
                seeds[scope, bag_of(normalize_label(spelling, words))] = term
    open_bags = {
        (scope, bag_of(normalize_label(text, words))) for scope, texts in table["open"].items() for text in texts
    }
    by_word: dict[str, set[tuple[str, ...]]] = {}
    for bag in [*bags, *(bag for scope, bag in seeds if scope == "any")]:
        for word in bag:
            by_word.setdefault(word, set()).add(bag)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32)
    return Lexicon(
        ontology=ontology,
        words=words,
        scopes={scope: tuple(parts) for scope, parts in table["scopes"].items()},
        organ_words={scope: frozenset(texts) for scope, texts in table["organ_words"].items()},
        modifiers=frozenset(word for group in table["modifiers"].values() for word in group),
        seeds=seeds,
        open_bags=frozenset(open_bags),
        alone_bags=frozenset(bag_of(normalize_label(text, words)) for text in table["alone"]["any"]),
        bags={bag: {kind: tuple(sorted(t)) for kind, t in kinds.items()} for bag, kinds in bags.items()},
        by_word={word: tuple(sorted(found)) for word, found in by_word.items()},
        rows=tuple(rows),
        vectorizer=vectorizer,
        matrix=csr_matrix(vectorizer.fit_transform([text for _, text in rows])),
    )


def scopes_of(tissue: str, lexicon: Lexicon) -> tuple[str, ...]:
    """Return the scopes of the seed table that a tissue's name opens, in the table's order."""
    words = tissue.lower().replace("_", " ")
    return tuple(scope for scope, parts in lexicon.scopes.items() if any(part in words for part in parts))


def candidates_for(label: str, tissue: str, lexicon: Lexicon) -> tuple[Candidate, ...]:
    """Return the terms that a label may mean, best first, each term once.

    The label must be neither reserved nor a code. Empty where not even a similar name exists.
    """
    return _each_once([*_matched(label, tissue, lexicon), *_similar(label, lexicon)])


def matched_candidates(label: str, tissue: str, lexicon: Lexicon) -> tuple[Candidate, ...]:
    """Return what `candidates_for` finds by words alone, without the similarity of letters."""
    return _each_once(_matched(label, tissue, lexicon))


def _matched(label: str, tissue: str, lexicon: Lexicon) -> list[Candidate]:
    scopes = scopes_of(tissue, lexicon)
    bag = bag_of(lexicon.normalize(label))
    found = _composite(label, scopes, lexicon)
    if not found or _JOINS_PARTS & set(bag):
        # `B/Plasma` holds two types although `plasma B cell` is one; `Gran/Mono progenitor` is one.
        found += _exact(bag, scopes, lexicon)
    return found + _partial(bag, scopes, lexicon)


def _each_once(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    unique: dict[str, Candidate] = {}
    for candidate in sorted(found, key=_rank):
        unique.setdefault(candidate.term, candidate)
    return tuple(unique.values())


def _rank(candidate: Candidate) -> tuple[int, float, str]:
    return KINDS.index(candidate.kind), -candidate.similarity, candidate.term


def _exact(bag: tuple[str, ...], scopes: tuple[str, ...], lexicon: Lexicon) -> list[Candidate]:
    """Return matches of the whole bag; a name that several terms share is as good as its share."""
    matched = " ".join(bag)
    is_open = any((scope, bag) in lexicon.open_bags for scope in (*scopes, "any"))
    found = [
        Candidate(term=lexicon.seeds[scope, bag], kind="scoped_seed", similarity=1.0, matched=f"{matched} [{scope}]")
        for scope in scopes
        if (scope, bag) in lexicon.seeds
    ]
    if ("any", bag) in lexicon.seeds:
        # A seed stands instead of CL's own names: it exists where the name alone would mislead (rule R6).
        term = lexicon.seeds["any", bag]
        found.append(Candidate(term=term, kind="seed", similarity=1.0, matched=matched, doubtful=is_open))
        return found
    for kind, terms in lexicon.bags.get(bag, {}).items():
        doubtful = is_open or _is_numbered(bag, lexicon) or (kind == "synonym" and _is_acronym(bag))
        found += [
            Candidate(term=t, kind=kind, similarity=1 / len(terms), matched=matched, doubtful=doubtful) for t in terms
        ]
    return found


def _is_acronym(bag: tuple[str, ...]) -> bool:
    return len(bag) == 1 and len(bag[0]) <= _ACRONYM_LETTERS


def _is_numbered(bag: tuple[str, ...], lexicon: Lexicon) -> bool:
    """Return whether a bag is another known one and a number, as clusters are numbered."""
    rest = tuple(word for word in bag if not word.isdigit())
    return len(rest) < len(bag) and (rest in lexicon.bags or ("any", rest) in lexicon.seeds)


def _composite(label: str, scopes: tuple[str, ...], lexicon: Lexicon) -> list[Candidate]:
    """Return the closest common ancestor of the parts of `B/Plasma`, where there is exactly one that is a class."""
    parts = [part for part in _SEPARATOR.split(label) if part.strip()]
    if not 2 <= len(parts) <= 4:
        return []
    best = []
    for part in parts:
        exact = _exact(bag_of(lexicon.normalize(part)), scopes, lexicon)
        if not exact:
            return []
        best.append(min(exact, key=_rank))
    terms = [candidate.term for candidate in best]
    shared = [term for term in lexicon.ontology.common_ancestors(tuple(terms)) if term not in GROUPING_TERMS]
    if len(shared) != 1:
        return []
    matched = " | ".join(sorted(set(terms)))
    doubtful = any(candidate.doubtful for candidate in best)
    return [
        Candidate(term=shared[0], kind="composite", similarity=1.0, matched=matched, broader=True, doubtful=doubtful)
    ]


def _partial(bag: tuple[str, ...], scopes: tuple[str, ...], lexicon: Lexicon) -> list[Candidate]:
    """Return the largest known bag inside the label's, unless the words left over change the meaning."""
    words = set(bag)
    inside = {b for word in bag for b in lexicon.by_word.get(word, ()) if words > set(b)}
    inside |= {b for scope, b in lexicon.seeds if scope in scopes and words > set(b)}
    inside -= lexicon.alone_bags
    found: list[Candidate] = []
    for known in sorted(inside, key=lambda b: (-len(b), -sum(map(len, b)), b))[:3]:
        rest = words - set(known)
        if rest & _CHANGES_MEANING or any(word.endswith("-") for word in rest):
            continue
        harmless = all(word in lexicon.modifiers or is_tag(word, lexicon) for word in rest)
        share = len(known) / len(bag)
        found += [
            Candidate(
                term=exact.term,
                kind="stripped" if harmless else "partial",
                similarity=exact.similarity * (1.0 if harmless else share),
                matched=exact.matched,
                broader=True,
                doubtful=exact.doubtful,
            )
            for exact in _exact(known, scopes, lexicon)
            if exact.term not in GROUPING_TERMS
        ]
    return found


def is_tag(word: str, lexicon: Lexicon) -> bool:
    """Return whether a word is a number or a gene-like tag that no name of CL contains (`calb1`, `2`)."""
    return word.isdigit() or (any(ch.isdigit() for ch in word) and word not in lexicon.by_word)


def _similar(label: str, lexicon: Lexicon) -> list[Candidate]:
    """Return the nearest names by TF-IDF over character n-grams."""
    text = lexicon.normalize(label)
    if len(text) < _SHORTEST_SIMILAR or _says_no_type(set(text.split()), lexicon):
        return []
    query = lexicon.vectorizer.transform([text])
    similarity = np.asarray((lexicon.matrix @ query.T).todense()).ravel()
    found = []
    # A stable sort keeps the order of equal similarities; rows are in the order of sorted terms.
    for row in np.argsort(-similarity, kind="stable")[:_N_SIMILAR]:
        if similarity[row] > 0:
            term, text = lexicon.rows[int(row)]
            value = min(1.0, round(float(similarity[row]), 4))
            found.append(Candidate(term=term, kind="similar", similarity=value, matched=text))
    return found


def _says_no_type(words: set[str], lexicon: Lexicon) -> bool:
    """Return whether words name a state alone (`cycling`), or what is no type but like one (`OPC-like`)."""
    return "like" in words or words <= lexicon.modifiers


def seed_table() -> dict[str, dict[str, Any]]:
    """Return the curated table of abbreviations as it is written."""
    text = resources.files("cytolabe.reconcile").joinpath("abbreviations.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
