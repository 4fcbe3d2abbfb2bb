"""What is known of a (row, term) pair before anybody's mapping is asked, as numbers for the ranker.

Beside the similarities themselves: how far a term stays behind the best one of its row (a similarity of 0.6 means
another thing beside 0.9), how the similarity of a label spreads over the hierarchy (on the term, below it, above it),
where the term stands (depth, information content), how early its id was given, what the tissue's words say, and the other labels of the data set:
what lineages they are of, and whether one of them names the term better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from scipy.sparse import csr_matrix

from cytolabe.reconcile.candidates import Candidate
from cytolabe.reconcile.ranking.lexical import VIEWS, LabelViews, TermIndex, core_words, organ_words_of
from cytolabe.reconcile.ranking.pool import blend_of, kind_code

__all__ = ["WORD_FEATURES", "LabelFacts", "Pairs", "facts_of", "id_blocks", "word_features"]

_NO_KIND = 9
_ID_FACTS = ("id_recent", "id_organ", "id_middle", "id_number")
_ID_BLOCKS = ((4_000_000, 10_000_000), (1_000_000, 4_000_000), (2_000, 1_000_000))
"""Ids of CL are given in blocks, upwards: the low ones since 2003, those from 4,000,000 since about 2020. A curator
knew the terms of the day, and an expert rarely answers with a term that came last.
"""
_SPREAD = 12.0
"""Sharpness of the softmax that spreads a label's similarity over the terms."""

WORD_FEATURES = (
    *VIEWS, "blend", "words", "blend_gap", "blend_rank", "core_gap", "words_gap",
    "mass_here", "mass_below", "mass_above",
    "kind", "kind_gap", "kind_similarity", "doubtful", "broader", "best_kind",
    "to_matched", "to_nearest", "content_to_matched", "content_to_nearest",
    "content", "depth", "n_below", "n_children", "n_names", "name_words",
    "id_recent", "id_organ", "id_middle", "id_number",
    "label_words", "label_digits", "label_explained", "label_core_share", "label_length",
    "tissue_in_name", "tissue_in_definition", "name_unsaid", "other_organ", "says_state",
    "context_lineage", "context_share", "sibling_better", "sibling_matched", "context_labels", "siblings_below", "same_best",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Candidate pairs, sorted by row and term; `starts` has the first pair of each row and the end."""

    row: Int64[np.ndarray, " pairs"]
    term: Int64[np.ndarray, " pairs"]
    starts: Int64[np.ndarray, " bounds"]

    @classmethod
    def of(cls, terms: Sequence[np.ndarray]) -> "Pairs":
        """Make pairs of the terms of each row."""
        starts = np.cumsum([0, *(len(row) for row in terms)]).astype(np.int64)
        row = np.repeat(np.arange(len(terms), dtype=np.int64), np.diff(starts))
        flat = np.concatenate(terms) if len(terms) else np.empty(0)
        return cls(row=row, term=flat.astype(np.int64), starts=starts)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelFacts:
    """What is the same for all pairs of a label, and what the data set around each row says."""

    blend: Float32[np.ndarray, "labels terms"]
    words: Float32[np.ndarray, "labels terms"]
    mass: Float32[np.ndarray, "labels terms"]
    mass_below: Float32[np.ndarray, "labels terms"]
    explained: Float32[np.ndarray, " labels"]
    of_label: Float32[np.ndarray, "labels facts"]
    label_at: Int64[np.ndarray, " rows"]
    context_at: Int64[np.ndarray, " rows"]
    context: Float32[np.ndarray, "contexts terms"]
    context_labels: Float32[np.ndarray, " contexts"]
    same_best: Float32[np.ndarray, " rows"]
    sibling_best: Float32[np.ndarray, "contexts terms"]
    sibling_who: Int64[np.ndarray, "contexts terms"]
    sibling_second: Float32[np.ndarray, "contexts terms"]
    matched_by: Mapping[tuple[int, int], frozenset[int]]
    organs: Mapping[str, Float32[np.ndarray, "3 terms"]]
    label_cycles: Float32[np.ndarray, " labels"]
    term_cycles: Float32[np.ndarray, " terms"]
    term_facts: Float32[np.ndarray, "terms numbers"]


def facts_of(
    labels: Sequence[str],
    tissues: Sequence[str],
    *,
    sources: Sequence[str],
    matched: Sequence[tuple[Candidate, ...]],
    index: TermIndex,
    views: LabelViews,
) -> LabelFacts:
    """Compute everything about labels, tissues and data sets that pairs look up."""
    of_label, of_name = views.similarity["token_label"], views.similarity["token_name"]
    words = (2 * of_label * of_name / np.maximum(of_label + of_name, 1e-6)).astype(np.float32)
    blend = blend_of(views)
    mass = np.exp(_SPREAD * (blend - blend.max(axis=1, keepdims=True))).astype(np.float32)
    mass /= mass.sum(axis=1, keepdims=True)
    label_at = np.array([views.position[label] for label in labels], dtype=np.int64)
    contexts = _context_ids(sources, tissues)
    context, best, who, second = _contexts(contexts, label_at, blend=blend, matched=matched, index=index)
    matched_by: dict[tuple[int, int], set[int]] = {}
    for at, own, found in zip(contexts, label_at, matched, strict=True):
        for candidate in found[:1]:
            matched_by.setdefault((int(at), index.position[candidate.term]), set()).add(int(own))
    n_labels, same_best = _crowding(contexts, label_at, matched=matched, guess=blend.argmax(axis=1), index=index)
    return LabelFacts(
        blend=blend,
        words=words,
        mass=mass,
        mass_below=np.asarray(mass @ index.closure, dtype=np.float32),
        explained=of_label.max(axis=1),
        of_label=_label_facts(list(views.position), index),
        label_at=label_at,
        context_at=contexts,
        context=context,
        context_labels=n_labels,
        same_best=same_best,
        sibling_best=best,
        sibling_who=who,
        sibling_second=second,
        matched_by={key: frozenset(found) for key, found in matched_by.items()},
        organs=_organ_facts(tissues, index),
        label_cycles=_label_states(list(views.position), index),
        term_cycles=np.maximum.reduceat(
            _any_of(index.named, [index.words["cycling"]] if "cycling" in index.words else []), index.starts
        ),
        term_facts=_term_facts(index),
    )


def word_features(
    pairs: Pairs,
    *,
    facts: LabelFacts,
    tissues: Sequence[str],
    matched: Sequence[tuple[Candidate, ...]],
    index: TermIndex,
    views: LabelViews,
) -> Float32[np.ndarray, "pairs features"]:
    """Return `WORD_FEATURES` of pairs."""
    row, term = pairs.row, pairs.term
    at = facts.label_at[row]
    columns: dict[str, np.ndarray] = {view: views.similarity[view][at, term] for view in VIEWS}
    columns["blend"], columns["words"] = facts.blend[at, term], facts.words[at, term]
    for view, gap in (("blend", "blend_gap"), ("core", "core_gap"), ("words", "words_gap")):
        columns[gap] = _best_in_row(columns[view], pairs)[row] - columns[view]
    columns["blend_rank"] = _rank_in_row(columns["blend"], pairs)
    columns["mass_here"] = facts.mass[at, term]
    columns["mass_below"] = facts.mass_below[at, term]
    columns["mass_above"] = _mass_above(facts, at, term=term, index=index)
    columns |= _kind_columns(pairs, matched, index)
    columns |= _position_columns(pairs, columns["blend"], matched=matched, index=index)
    names = ("content", "depth", "n_below", "n_children", "n_names", "name_words", *_ID_FACTS)
    columns |= {name: facts.term_facts[term, nth] for nth, name in enumerate(names)}
    facets = ("label_words", "label_digits", "label_core_share", "label_length")
    columns |= {name: facts.of_label[at, nth] for nth, name in enumerate(facets)}
    columns["label_explained"] = facts.explained[at]
    organs = np.empty((3, len(row)), dtype=np.float32)
    starts = pairs.starts
    for nth, tissue in enumerate(tissues):
        mine = slice(starts[nth], starts[nth + 1])
        organs[:, mine] = facts.organs[tissue][:, term[mine]]
    columns["tissue_in_name"], columns["other_organ"], columns["tissue_in_definition"] = organs
    columns["other_organ"] = columns["other_organ"] * (1 - columns["tissue_in_name"])
    columns["name_unsaid"] = (1 - columns["token_name"]) * (1 - columns["tissue_in_name"])
    columns["says_state"] = facts.term_cycles[term] * (2 * facts.label_cycles[at] - 1)
    columns |= _context_columns(pairs, facts, index)
    return np.stack([columns[name] for name in WORD_FEATURES], axis=1).astype(np.float32)


def _best_in_row(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    return np.maximum.reduceat(values, pairs.starts[:-1])


def _rank_in_row(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return the place of each pair in its row, 0 for the greatest value; equal values in the order of terms."""
    order = np.lexsort((pairs.term, -values, pairs.row))
    rank = np.empty(len(values), dtype=np.float32)
    rank[order] = np.arange(len(values)) - pairs.starts[pairs.row[order]]
    return rank


def _mass_above(
    facts: LabelFacts, at: Int64[np.ndarray, " pairs"], *, term: Int64[np.ndarray, " pairs"], index: TermIndex
) -> np.ndarray:
    """Return the mass of a label on the terms above each term."""
    out = np.zeros(len(at), dtype=np.float32)
    closure = index.closure
    n_above = np.diff(closure.indptr)[term]
    for nth in range(int(n_above.max(initial=0))):
        has = n_above > nth
        out[has] += facts.mass[at[has], closure.indices[closure.indptr[term[has]] + nth]]
    return np.asarray(out - facts.mass[at, term])


def _kind_columns(pairs: Pairs, matched: Sequence[tuple[Candidate, ...]], index: TermIndex) -> dict[str, np.ndarray]:
    n = len(pairs.row)
    kind, similarity = np.full(n, _NO_KIND, dtype=np.float32), np.zeros(n, dtype=np.float32)
    doubtful, broader = np.zeros(n, dtype=np.float32), np.zeros(n, dtype=np.float32)
    for row, found in enumerate(matched):
        first, end = pairs.starts[row], pairs.starts[row + 1]
        for candidate in found:
            at = first + int(np.searchsorted(pairs.term[first:end], index.position[candidate.term]))
            if at < end and pairs.term[at] == index.position[candidate.term]:
                kind[at], similarity[at] = kind_code(candidate), candidate.similarity
                doubtful[at], broader[at] = candidate.doubtful, candidate.broader
    best = np.minimum.reduceat(kind, pairs.starts[:-1])[pairs.row]
    return {
        "kind": kind, "kind_similarity": similarity, "doubtful": doubtful, "broader": broader,
        "best_kind": best, "kind_gap": kind - best,
    }  # fmt: skip


def _position_columns(
    pairs: Pairs, blend: np.ndarray, *, matched: Sequence[tuple[Candidate, ...]], index: TermIndex
) -> dict[str, np.ndarray]:
    """Return how a term stands to the row's best match and to its nearest name: equal, below, above, apart."""
    above = np.asarray(index.closure.todense()) > 0
    order = np.lexsort((pairs.term, -blend, pairs.row))
    nearest = pairs.term[order[pairs.starts[:-1]]]
    best = np.array([index.position[m[0].term] if m else n for m, n in zip(matched, nearest, strict=True)])
    columns = {}
    for name, anchor in (("matched", best[pairs.row]), ("nearest", nearest[pairs.row])):
        columns[f"to_{name}"] = 2.0 * above[pairs.term, anchor] + 1.0 * above[anchor, pairs.term]
        columns[f"content_to_{name}"] = index.content[pairs.term] - index.content[anchor]
    return columns


def _context_columns(pairs: Pairs, facts: LabelFacts, index: TermIndex) -> dict[str, np.ndarray]:
    at, term = facts.context_at[pairs.row], pairs.term
    own = facts.label_at[pairs.row]
    weighted = facts.context * index.content[None, :]
    reached = np.asarray((csr_matrix(weighted) @ index.closure.T).todense(), dtype=np.float32)
    whole = np.asarray(index.closure @ index.content).ravel()
    best, who = facts.sibling_best[at, term], facts.sibling_who[at, term]
    others = np.where(who == own, facts.sibling_second[at, term], best)
    matched = [
        float(bool(facts.matched_by.get((int(a), int(t)), frozenset()) - {int(o)}))
        for a, t, o in zip(at, term, own, strict=True)
    ]
    return {
        "context_lineage": reached[at, term] / np.maximum(whole[term], 1e-6),
        "context_share": facts.context[at, term],
        "context_labels": np.log(facts.context_labels[at]),
        "siblings_below": np.log1p(facts.context[at, term] * facts.context_labels[at]),
        "same_best": facts.same_best[pairs.row],
        "sibling_better": others - facts.blend[own, term],
        "sibling_matched": np.array(matched, dtype=np.float32),
    }


def _context_ids(sources: Sequence[str], tissues: Sequence[str]) -> Int64[np.ndarray, " rows"]:
    known: dict[tuple[str, str], int] = {}
    return np.array([known.setdefault(key, len(known)) for key in zip(sources, tissues, strict=True)], dtype=np.int64)


def _contexts(
    contexts: Int64[np.ndarray, " rows"],
    label_at: Int64[np.ndarray, " rows"],
    *,
    blend: Float32[np.ndarray, "labels terms"],
    matched: Sequence[tuple[Candidate, ...]],
    index: TermIndex,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, per data set: the share of labels under each term, and which label names each term best and second best."""
    n, n_terms = int(contexts.max(initial=-1)) + 1, blend.shape[1]
    context = np.zeros((n, n_terms), dtype=np.float32)
    best = np.zeros((n, n_terms), dtype=np.float32)
    second = np.zeros((n, n_terms), dtype=np.float32)
    who = np.full((n, n_terms), -1, dtype=np.int64)
    guess = blend.argmax(axis=1)
    for at in range(n):
        rows = np.flatnonzero(contexts == at)
        terms = [index.position[matched[r][0].term] if matched[r] else int(guess[label_at[r]]) for r in rows.tolist()]
        context[at] = np.asarray(index.closure[terms].mean(axis=0)).ravel()
        own = np.unique(label_at[rows])
        ordered = np.sort(blend[own], axis=0)
        best[at], who[at] = ordered[-1], own[blend[own].argmax(axis=0)]
        if len(own) > 1:
            second[at] = ordered[-2]
    return context, best, who, second


def _crowding(
    contexts: Int64[np.ndarray, " rows"],
    label_at: Int64[np.ndarray, " rows"],
    *,
    matched: Sequence[tuple[Candidate, ...]],
    guess: Int64[np.ndarray, " labels"],
    index: TermIndex,
) -> tuple[Float32[np.ndarray, " contexts"], Float32[np.ndarray, " rows"]]:
    """Return how many labels a data set has, and, for each row, the log of how many share its best match.

    Where forty clusters are all nearest to one term, the study splits finer than CL, and its curator may have stopped above.
    """
    best = [index.position[m[0].term] if m else int(guess[at]) for m, at in zip(matched, label_at, strict=True)]
    labels: dict[int, set[int]] = {}
    sharing: dict[tuple[int, int], set[int]] = {}
    for context, label, term in zip(contexts.tolist(), label_at.tolist(), best, strict=True):
        labels.setdefault(context, set()).add(label)
        sharing.setdefault((context, term), set()).add(label)
    n_labels = np.array([len(labels[context]) for context in range(len(labels))], dtype=np.float32)
    same = [np.log(len(sharing[context, term])) for context, term in zip(contexts.tolist(), best, strict=True)]
    return n_labels, np.array(same, dtype=np.float32)


def _organ_facts(tissues: Sequence[str], index: TermIndex) -> dict[str, Float32[np.ndarray, "3 terms"]]:
    """Return for each tissue whether a term's names say its organ, say another one, and whether the definition says it."""
    found = {}
    for tissue in sorted(set(tissues)):
        own, other = organ_words_of(tissue, index)
        in_names = np.maximum.reduceat(_any_of(index.named, own), index.starts)
        elsewhere = np.minimum.reduceat(_any_of(index.named, other), index.starts)
        found[tissue] = np.stack([in_names, elsewhere, _any_of(index.defined, own)]).astype(np.float32)
    return found


def _any_of(said: csr_matrix, words: Sequence[int]) -> np.ndarray:
    """Return which rows say any of the words, as zeros and ones."""
    if not words:
        return np.zeros(said.shape[0], dtype=np.float32)
    return np.asarray(said[:, words].max(axis=1).todense(), dtype=np.float32).ravel()


def _label_states(labels: Sequence[str], index: TermIndex) -> np.ndarray:
    """Return which labels say that their cells divide."""
    return np.array(["cycling" in index.lexicon.normalize(label).split() for label in labels], dtype=np.float32)


def _label_facts(labels: Sequence[str], index: TermIndex) -> Float32[np.ndarray, "labels facts"]:
    rows = []
    for label in labels:
        words = index.lexicon.normalize(label).split()
        core = core_words(label, index.lexicon).split()
        digits = sum(any(ch.isdigit() for ch in word) for word in words)
        rows.append([len(words), digits, len(core) / max(len(words), 1), len(label)])
    return np.array(rows, dtype=np.float32).reshape(len(labels), 4)


def _term_facts(index: TermIndex) -> Float32[np.ndarray, "terms facts"]:
    ontology = index.ontology
    n_names = np.diff([*index.starts, len(index.name_term)])
    rows = [
        [
            index.content[at],
            index.depth[at],
            np.log1p(len(ontology.descendants(term))),
            len(ontology.children(term)),
            n_names[at],
            len(ontology.name(term).split()),
            *_id_facts(term),
        ]
        for at, term in enumerate(index.terms)
    ]
    return np.array(rows, dtype=np.float32)


def _id_facts(term: str) -> list[float]:
    """Return which block of ids a term is of, and its number on a log scale: about when CL got the term."""
    number = int(term.partition(":")[2])
    return [*(float(first <= number < end) for first, end in _ID_BLOCKS), float(np.log1p(number)) / 10]


def id_blocks(index: TermIndex) -> Int64[np.ndarray, " terms"]:
    """Return the number of the block of ids that each term is of, the oldest ids first."""
    numbers = np.array([int(term.partition(":")[2]) for term in index.terms], dtype=np.int64)
    return np.digitize(numbers, sorted(first for first, _ in _ID_BLOCKS)).astype(np.int64)
