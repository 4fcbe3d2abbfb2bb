"""How near a label's words are to the names, exact synonyms and definitions of every term, in several views.

The views, because each sees what the others miss:

* `raw`, `read`, `core`: TF-IDF over character n-grams of the label as written, of the label read through the
  abbreviations of the seed table, and of that without words that only narrow a type (states, numbers, gene tags);
* `token_label`, `token_name`: which share of the label's words a name explains, and which share of the name's words the
  label says, each word weighted by its rarity in CL. A word may be cut (`endoth`) or stand for initials (`smc`);
* `definition`: which share of the label's words the term's definition holds.

Weights come from CL alone and never from the labels that are looked up: an unknown n-gram counts as the rarest. So the
similarity of one label to one term does not depend on what else stands in a table.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int64
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.candidates import Lexicon, is_tag, lexicon_of, scopes_of

__all__ = [
    "VIEWS",
    "LabelViews",
    "TermIndex",
    "core_words",
    "letters_of",
    "organ_words_of",
    "raw_words",
    "term_index_of",
    "views_of",
]

VIEWS = ("raw", "read", "core", "token_label", "token_name", "definition")
_N_HASHED = 2**18
_SHORTEST_CUT = 3
"""Letters from which a word of a label may be the beginning of a word of CL."""
_ACRONYM = re.compile(r"[a-z]{2,5}\Z")
_FILLERS = frozenset({"of", "the", "and", "a", "an", "or", "in", "that", "is", "with", "to", "by", "from", "cell"})
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class TermIndex:
    """Everything of a release that labels are compared with; `term` axes follow `terms`, `name` axes `name_term`.

    `closure` has a one where the column's term equals or is above the row's.
    """

    ontology: Ontology
    lexicon: Lexicon
    terms: tuple[str, ...]
    position: Mapping[str, int]
    name_term: Int64[np.ndarray, " names"]
    starts: Int64[np.ndarray, " terms"]
    is_name: np.ndarray
    letter_weight: Float32[np.ndarray, " hashed"]
    letters: csr_matrix
    words: Mapping[str, int]
    word_weight: Float32[np.ndarray, " words"]
    named: csr_matrix
    defined: csr_matrix
    closure: csr_matrix
    content: Float32[np.ndarray, " terms"]
    depth: Float32[np.ndarray, " terms"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelViews:
    """Similarities of distinct labels to all terms: view -> labels x terms, and where each label stands."""

    position: Mapping[str, int]
    similarity: Mapping[str, Float32[np.ndarray, "labels terms"]]
    letters: csr_matrix


@lru_cache(maxsize=2)
def term_index_of(ontology: Ontology) -> TermIndex:
    """Build the index of a release: about two seconds, once per process."""
    lexicon = lexicon_of(ontology)
    # The lexicon's rows are in the order of sorted terms; a term's name stands before its synonyms.
    terms = tuple(dict.fromkeys(term for term, _ in lexicon.rows))
    position = {term: at for at, term in enumerate(terms)}
    name_term = np.array([position[term] for term, _ in lexicon.rows], dtype=np.int64)
    starts = np.searchsorted(name_term, np.arange(len(terms)))
    is_name = np.zeros(len(name_term), dtype=bool)
    is_name[starts] = True
    counted = _hashed([text for _, text in lexicon.rows])
    letter_weight = _rarity(counted)
    words: dict[str, int] = {}
    bags = [_name_words(text) for _, text in lexicon.rows]
    texts = [set(raw_words(ontology.definition(term)).split()) for term in terms]
    for word in sorted({word for bag in bags for word in bag}):
        words[word] = len(words)
    named = _indicator([[words[w] for w in bag] for bag in bags], len(words))
    defined = _indicator([[words[w] for w in sorted(bag) if w in words] for bag in texts], len(words))
    above = [[position[a] for a in sorted({term, *ontology.ancestors(term)}) if a in position] for term in terms]
    return TermIndex(
        ontology=ontology,
        lexicon=lexicon,
        terms=terms,
        position=position,
        name_term=name_term,
        starts=starts,
        is_name=is_name,
        letter_weight=letter_weight,
        letters=_weighted(counted, letter_weight),
        words=words,
        word_weight=_rarity(named),
        named=named,
        defined=defined,
        closure=_indicator(above, len(terms)),
        content=np.array([ontology.information_content(term) for term in terms], dtype=np.float32),
        depth=np.array([ontology.depth(term) for term in terms], dtype=np.float32),
    )


def raw_words(label: str) -> str:
    """Return a label in lower case with blanks for punctuation, and nothing else read into it."""
    return re.sub(r"[^a-z0-9+]+", " ", label.lower()).strip()


def organ_words_of(tissue: str, index: TermIndex) -> tuple[list[int], list[int]]:
    """Return the words of CL that say the row's own organ, and those that say another one."""
    lexicon = index.lexicon
    scopes = scopes_of(tissue, lexicon)
    own = {word for word in raw_words(tissue).split() if len(word) > 3}
    own = own.union(*(lexicon.organ_words.get(scope, frozenset()) for scope in scopes))
    other = frozenset().union(*lexicon.organ_words.values()) - own
    return _known(own, index), _known(other, index)


def _known(words: Iterable[str], index: TermIndex) -> list[int]:
    return sorted(index.words[word] for word in words if word in index.words)


def core_words(label: str, lexicon: Lexicon) -> str:
    """Return the read label without words that narrow a type: states, numbers, gene tags; `type 2` is a name."""
    words = lexicon.normalize(label).split()
    genes = {
        at
        for at, word in enumerate(words[:-1])
        if words[at + 1] in {"positive", "high"} and word not in lexicon.by_word and len(word) > 2
    }
    numbered = {at for at, word in enumerate(words[1:], start=1) if word.isdigit() and words[at - 1] == "type"}
    named = numbered | {at - 1 for at in numbered}
    kept = [
        word
        for at, word in enumerate(words)
        if at in named or (at not in genes and word not in lexicon.modifiers and not is_tag(word, lexicon))
    ]
    return " ".join(kept or words)


def letters_of(texts: Sequence[str], index: TermIndex) -> csr_matrix:
    """Return unit rows of weighted character n-grams."""
    return _weighted(_hashed(texts), index.letter_weight)


def views_of(labels: Sequence[str], index: TermIndex) -> LabelViews:
    """Compare distinct labels with all terms in every view; labels x terms x views in float32."""
    distinct = sorted(set(labels))
    read = [index.lexicon.normalize(label) for label in distinct]
    core = [core_words(label, index.lexicon) for label in distinct]
    similarity = {
        "raw": _by_term(letters_of([raw_words(label) for label in distinct], index), index),
        "read": _by_term(letters_of(read, index), index),
        "core": _by_term(letters_of(core, index), index),
    }
    similarity.update(_token_views(core, index))
    return LabelViews(
        position={label: at for at, label in enumerate(distinct)},
        similarity=similarity,
        letters=letters_of(read, index),
    )


def _by_term(letters: csr_matrix, index: TermIndex) -> Float32[np.ndarray, "labels terms"]:
    """Return the best cosine over the names of each term."""
    out = np.empty((letters.shape[0], len(index.terms)), dtype=np.float32)
    names = index.letters.T.tocsc()
    for start in range(0, letters.shape[0], _ROWS_AT_ONCE):
        block = np.asarray((letters[start : start + _ROWS_AT_ONCE] @ names).todense(), dtype=np.float32)
        out[start : start + _ROWS_AT_ONCE] = np.maximum.reduceat(block, index.starts, axis=1)
    return out


def _token_views(texts: Sequence[str], index: TermIndex) -> dict[str, Float32[np.ndarray, "labels terms"]]:
    """Return the shares of words explained in both directions, at the name of each term where both are best."""
    said, total = _said_words(texts, index)
    weight = index.word_weight
    weighted = said.multiply(weight[None, :]).tocsr()
    name_total = np.asarray(index.named @ weight).ravel()
    n_terms = len(index.terms)
    found = {view: np.empty((len(texts), n_terms), dtype=np.float32) for view in VIEWS[3:]}
    at_name, at_definition = index.named.T.tocsc(), index.defined.T.tocsc()
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        shared = np.asarray((weighted[rows] @ at_name).todense(), dtype=np.float32)
        of_label = np.minimum(shared / total[rows, None], 1)
        of_name = np.minimum(shared / name_total[None, :], 1)
        both = 2 * of_label * of_name / np.maximum(of_label + of_name, 1e-6)
        best = _first_best(both, index)
        found["token_label"][rows] = np.take_along_axis(of_label, best, axis=1)
        found["token_name"][rows] = np.take_along_axis(of_name, best, axis=1)
        defined = np.asarray((weighted[rows] @ at_definition).todense(), dtype=np.float32)
        found["definition"][rows] = np.minimum(defined / total[rows, None], 1)
    return found


def _first_best(scores: Float32[np.ndarray, "labels names"], index: TermIndex) -> Int64[np.ndarray, "labels terms"]:
    """Return for each label and term the name with the greatest score, the first of equal ones."""
    best = np.maximum.reduceat(scores, index.starts, axis=1)
    n_names = scores.shape[1]
    is_best = scores >= best[:, index.name_term]
    first = np.where(is_best, np.arange(n_names)[None, :], n_names)
    return np.minimum.reduceat(first, index.starts, axis=1).astype(np.int64)


def _said_words(texts: Sequence[str], index: TermIndex) -> tuple[csr_matrix, Float32[np.ndarray, " labels"]]:
    """Return labels x words with the strength of each match, and the weight of all words of each label."""
    rarest = float(index.word_weight.max())
    rows, columns, strengths = [], [], []
    total = np.empty(len(texts), dtype=np.float32)
    known: dict[str, dict[int, float]] = {}
    for row, text in enumerate(texts):
        weight = 0.0
        for word in dict.fromkeys(text.split()):
            if word in _FILLERS:
                continue
            found = known.setdefault(word, {}) or _matches(word, index)
            known[word] = found
            weight += max((float(index.word_weight[at]) for at in found), default=rarest)
            rows += [row] * len(found)
            columns += list(found)
            strengths += list(found.values())
        total[row] = max(weight, 1e-6)
    shape = (len(texts), len(index.words))
    said = csr_matrix((np.array(strengths, dtype=np.float32), (rows, columns)), shape=shape)
    said.data = np.minimum(said.data, 1)
    return said, total


def _matches(word: str, index: TermIndex) -> dict[int, float]:
    """Return the words of CL that a word may stand for: itself; else what it begins, and names with its initials."""
    if word in index.words:
        return {index.words[word]: 1.0}
    found: dict[int, float] = {}
    if len(word) >= _SHORTEST_CUT:
        for other, at in index.words.items():
            if other.startswith(word) or (len(other) > _SHORTEST_CUT + 1 and word.startswith(other)):
                found[at] = min(len(word), len(other)) / max(len(word), len(other))
        found = dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:8])
    initials = index.words.get("#" + word)
    if initials is not None:
        found[initials] = 1.0
    return found


def _name_words(text: str) -> list[str]:
    """Return the words of a name that carry weight, and its initials as a word of their own (`#smc`)."""
    words = [word for word in dict.fromkeys(text.split()) if word not in _FILLERS]
    spelled = [word for word in text.split() if word not in _FILLERS or word == "cell"]
    initials = "".join(word[0] for word in spelled)
    acronyms = {a for a in (initials, initials.removesuffix("c")) if _ACRONYM.match(a)}
    return [*(words or text.split()), *(f"#{a}" for a in sorted(acronyms))] if len(spelled) > 1 else words or [text]


def _hashed(texts: Sequence[str]) -> csr_matrix:
    reader = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=_N_HASHED, norm=None, alternate_sign=False, dtype=np.float32
    )
    return csr_matrix(reader.transform(texts))


def _rarity(counted: csr_matrix) -> Float32[np.ndarray, " columns"]:
    n_rows = counted.shape[0]
    times = np.bincount(counted.indices, minlength=counted.shape[1])
    return (np.log((1 + n_rows) / (1 + times)) + 1).astype(np.float32)


def _weighted(counted: csr_matrix, weight: Float32[np.ndarray, " columns"]) -> csr_matrix:
    weighted = counted.copy()
    weighted.data = (1 + np.log(weighted.data)) * weight[weighted.indices]
    return csr_matrix(normalize(weighted))


def _indicator(columns: Sequence[Sequence[int]], n_columns: int) -> csr_matrix:
    ends = np.cumsum([0, *(len(row) for row in columns)])
    flat = np.array([at for row in columns for at in row], dtype=np.int64)
    return csr_matrix((np.ones(len(flat), dtype=np.float32), flat, ends), shape=(len(columns), n_columns))
