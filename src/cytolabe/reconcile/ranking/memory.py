"""What curators chose before for labels like this one: the part of the evidence that depends on who may teach.

A memory is a list of (label, term, source, tissue). For a row it gives, over the entries whose source is not barred:

* neighbors: entries with the most similar letters, and how their votes fall on a term, on what lies below and above it;
* twins: entries with the very same words, counted in sources, so that one study counts once;
* words: what each word of the label usually goes with, on terms and on all that is above them (learned abbreviations);
* usage: in how many sources a term is used at all, and in the row's tissue.

Everything is counted again for each set of barred sources, so no answer of a barred source can reach a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.sparse import csr_matrix

from cytolabe.reconcile.candidates import scopes_of, seed_table
from cytolabe.reconcile.normalize import bag_of
from cytolabe.reconcile.ranking.lexical import LabelViews, TermIndex, raw_words

__all__ = [
    "MEMORY_FEATURES",
    "Entries",
    "Memory",
    "Query",
    "Recall",
    "entries_of",
    "features_of",
    "joined",
    "memory_of",
    "proposed",
    "recall",
    "seed_entries",
]

SEED_SOURCE = "cytolabe:abbreviations"
"""The curated table as a source of the memory; it may teach every row."""

_N_NEIGHBORS = 40
_SHARPNESS = 4
"""Power of a similarity in a vote: a neighbor at 0.5 counts a sixteenth of a twin."""
_WORD_PRIOR = 1.0
_LEAST_SIMILARITY = 0.15

MEMORY_FEATURES = (
    "near_same", "near_vote", "near_below", "near_above", "near_related", "twin_sources", "twin_share", "any_twin",
    "word_term", "word_closure", "usage", "usage_closure", "tissue_usage", "tissue_closure", "near_best",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """Labels with the term that somebody chose, by position in the term index."""

    label: tuple[str, ...]
    term: Int64[np.ndarray, " entries"]
    source: tuple[str, ...]
    tissue: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """Rows whose labels are asked about: all of one table, with the positions of their labels in the views."""

    label: tuple[str, ...]
    tissue: tuple[str, ...]
    source: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Entries, and what is the same for every row: similarities of labels, words, tissues."""

    index: TermIndex
    entries: Entries
    sources: tuple[str, ...]
    entry_source: Int64[np.ndarray, " entries"]
    similarity: Float32[np.ndarray, "labels entries"]
    same_words: Bool[np.ndarray, "labels entries"]
    label_at: Mapping[str, int]
    words_of: csr_matrix
    word_counts: tuple[csr_matrix, ...]
    used: Float32[np.ndarray, "sources terms"]
    tissue_at: Mapping[str, int]
    tissue_match: Float32[np.ndarray, "tissues entries"]
    near: Bool[np.ndarray, "terms terms"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recall:
    """What the memory says about rows of one source, before candidates are known."""

    rows: Int64[np.ndarray, " rows"]
    neighbor_term: Int64[np.ndarray, "rows neighbors"]
    neighbor_similarity: Float32[np.ndarray, "rows neighbors"]
    twin_terms: csr_matrix
    words: csr_matrix
    word_term: csr_matrix
    word_closure: csr_matrix
    word_seen: Float32[np.ndarray, " words"]
    usage: Float32[np.ndarray, " terms"]
    usage_closure: Float32[np.ndarray, " terms"]
    tissue_of: Int64[np.ndarray, " rows"]
    tissue_term: Float32[np.ndarray, "tissues terms"]
    tissue_closure: Float32[np.ndarray, "tissues terms"]


def seed_entries(index: TermIndex) -> Entries:
    """Return the curated table as entries; its scope stands for a tissue."""
    label, term, tissue = [], [], []
    for scope, lines in seed_table()["labels"].items():
        for key, spellings in lines.items():
            live = index.ontology.resolve(key.split(" ", 1)[0])
            if live not in index.position:
                continue
            for spelling in spellings:
                label.append(str(spelling))
                term.append(index.position[live])
                tissue.append("" if scope == "any" else scope)
    return Entries(
        label=tuple(label),
        term=np.array(term, dtype=np.int64),
        source=(SEED_SOURCE,) * len(label),
        tissue=tuple(tissue),
    )


def entries_of(
    labels: Sequence[str], terms: Sequence[str], *, sources: Sequence[str], tissues: Sequence[str], index: TermIndex
) -> Entries:
    """Return rows of a table as entries, each (label, term, source, tissue) once."""
    rows = dict.fromkeys(zip(labels, terms, sources, tissues, strict=True))
    kept = [row for row in rows if row[1] in index.position]
    return Entries(
        label=tuple(row[0] for row in kept),
        term=np.array([index.position[row[1]] for row in kept], dtype=np.int64),
        source=tuple(row[2] for row in kept),
        tissue=tuple(row[3] for row in kept),
    )


def joined(first: Entries, other: Entries) -> Entries:
    """Return the entries of both."""
    return Entries(
        label=first.label + other.label,
        term=np.concatenate([first.term, other.term]),
        source=first.source + other.source,
        tissue=first.tissue + other.tissue,
    )


def memory_of(
    entries: Entries, query: Query, *, index: TermIndex, queried: LabelViews, remembered: LabelViews
) -> Memory:
    """Compare the labels of a query with those of the memory."""
    sources = tuple(sorted(set(entries.source)))
    source_at = {source: at for at, source in enumerate(sources)}
    entry_source = np.array([source_at[source] for source in entries.source], dtype=np.int64)
    entry_label = np.array([remembered.position[label] for label in entries.label], dtype=np.int64)
    between = np.asarray((queried.letters @ remembered.letters.T).todense(), dtype=np.float32)
    bag_at: dict[tuple[str, ...], int] = {}
    query_bags = _bag_ids(list(queried.position), index, bag_at)
    entry_bags = _bag_ids(list(entries.label), index, bag_at)
    query_words, entry_words = _word_matrices([list(queried.position), list(entries.label)], index)
    n_terms = len(index.terms)
    chosen = csr_matrix(
        (np.ones(len(entries.term), dtype=np.float32), (np.arange(len(entries.term)), entries.term)),
        shape=(len(entries.term), n_terms),
    )
    counts = []
    used = np.zeros((len(sources), n_terms), dtype=np.float32)
    for at in range(len(sources)):
        own = entry_source == at
        counts.append(csr_matrix(entry_words[own].T @ chosen[own]))
        used[at, entries.term[own]] = 1
    tissues = sorted(set(query.tissue))
    places = {other: at for at, other in enumerate(sorted(set(entries.tissue)))}
    match = np.array([[_same_organ(tissue, other, index) for other in places] for tissue in tissues], dtype=np.float32)
    place_of = np.array([places[other] for other in entries.tissue], dtype=np.int64)
    closure = np.asarray(index.closure.todense()) > 0
    return Memory(
        index=index,
        entries=entries,
        sources=sources,
        entry_source=entry_source,
        similarity=between[:, entry_label],
        same_words=query_bags[:, None] == entry_bags[None, :],
        label_at=queried.position,
        words_of=query_words,
        word_counts=tuple(counts),
        used=used,
        tissue_at={tissue: at for at, tissue in enumerate(tissues)},
        tissue_match=match.reshape(len(tissues), len(places))[:, place_of],
        near=closure,
    )


def recall(memory: Memory, query: Query, *, rows: Int64[np.ndarray, " rows"], barred: frozenset[str]) -> Recall:
    """Ask the memory about rows that bar the same sources."""
    index, entries = memory.index, memory.entries
    allowed_source = np.array([source not in barred for source in memory.sources])
    allowed = allowed_source[memory.entry_source]
    at = np.array([memory.label_at[query.label[row]] for row in rows], dtype=np.int64)
    similarity = np.where(allowed[None, :], memory.similarity[at], 0)
    n_near = min(_N_NEIGHBORS, similarity.shape[1])
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :n_near]
    near_similarity = np.take_along_axis(similarity, nearest, axis=1)
    near_similarity[near_similarity < _LEAST_SIMILARITY] = 0
    twin = memory.same_words[at] & allowed[None, :]
    tissue_of = np.array([memory.tissue_at[query.tissue[row]] for row in rows], dtype=np.int64)
    tissue_term = np.zeros((len(memory.tissue_at), len(index.terms)), dtype=np.float32)
    for tissue in np.unique(tissue_of):
        weight = memory.tissue_match[tissue] * allowed
        np.add.at(tissue_term[tissue], entries.term, weight)
    total = np.maximum(tissue_term.sum(axis=1, keepdims=True), 5)
    word_term = _summed([counts for counts, kept in zip(memory.word_counts, allowed_source, strict=True) if kept])
    if word_term is None:
        word_term = csr_matrix(np.zeros((memory.words_of.shape[1], len(index.terms)), dtype=np.float32))
    used = memory.used[allowed_source]
    return Recall(
        rows=rows,
        neighbor_term=entries.term[nearest],
        neighbor_similarity=near_similarity.astype(np.float32),
        twin_terms=_twins(twin, memory),
        words=memory.words_of[at],
        word_term=word_term,
        word_closure=csr_matrix(word_term @ index.closure),
        word_seen=np.asarray(word_term.sum(axis=1), dtype=np.float32).ravel(),
        usage=used.sum(axis=0),
        usage_closure=((used @ index.closure) > 0).sum(axis=0).astype(np.float32),
        tissue_of=tissue_of,
        tissue_term=tissue_term / total,
        tissue_closure=np.asarray(tissue_term @ index.closure, dtype=np.float32) / total,
    )


def _twins(twin: Bool[np.ndarray, "rows entries"], memory: Memory) -> csr_matrix:
    """Return rows x terms: in how many sources a label of the same words has that term, shared inside a source."""
    n_sources, n_terms = len(memory.sources), len(memory.index.terms)
    rows, columns, values = [], [], []
    for row in np.flatnonzero(twin.any(axis=1)):
        at = np.flatnonzero(twin[row])
        per_source = np.bincount(memory.entry_source[at], minlength=n_sources)
        for entry in at:
            rows.append(row)
            columns.append(memory.entries.term[entry])
            values.append(1 / per_source[memory.entry_source[entry]])
    return csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=(len(twin), n_terms))


def features_of(
    asked: Recall, memory: Memory, *, row: Int64[np.ndarray, " pairs"], term: Int64[np.ndarray, " pairs"]
) -> Float32[np.ndarray, "pairs features"]:
    """Return `MEMORY_FEATURES` of pairs; `row` counts within the rows of the recall."""
    votes = asked.neighbor_similarity**_SHARPNESS
    total = np.maximum(votes.sum(axis=1), 1e-6)
    near_term, weight = asked.neighbor_term[row], votes[row] / total[row, None]
    same = near_term == term[:, None]
    below = memory.near[near_term, term[:, None]]
    above = memory.near[term[:, None], near_term]
    similarity = asked.neighbor_similarity[row]
    twins = np.asarray(asked.twin_terms[row, term], dtype=np.float32).ravel()
    all_twins = np.asarray(asked.twin_terms.sum(axis=1), dtype=np.float32).ravel()[row]
    columns = [
        (similarity * same).max(axis=1),
        (weight * same).sum(axis=1),
        (weight * below).sum(axis=1),
        (weight * above).sum(axis=1),
        (similarity * (below | above)).max(axis=1),
        np.log1p(twins),
        twins / np.maximum(all_twins, 1e-6),
        np.log1p(all_twins),
        *_by_words(asked, row, term),
        np.log1p(asked.usage[term]),
        np.log1p(asked.usage_closure[term]),
        asked.tissue_term[asked.tissue_of[row], term],
        asked.tissue_closure[asked.tissue_of[row], term],
        similarity.max(axis=1),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _by_words(
    asked: Recall, row: Int64[np.ndarray, " pairs"], term: Int64[np.ndarray, " pairs"]
) -> tuple[Float32[np.ndarray, " pairs"], Float32[np.ndarray, " pairs"]]:
    """Return how often the label's words went with a term, and with it or what is below; rare words weigh more."""
    out_term = np.zeros(len(row), dtype=np.float32)
    out_closure = np.zeros(len(row), dtype=np.float32)
    weight_sum = np.zeros(len(row), dtype=np.float32)
    words = asked.words
    n_words = np.diff(words.indptr)
    for nth in range(int(n_words.max(initial=0))):
        has = n_words[row] > nth
        word = words.indices[words.indptr[row[has]] + nth]
        seen = asked.word_seen[word]
        weight = (1 / np.log(seen + 3)).astype(np.float32)
        out_term[has] += weight * np.asarray(asked.word_term[word, term[has]]).ravel() / (seen + _WORD_PRIOR)
        out_closure[has] += weight * np.asarray(asked.word_closure[word, term[has]]).ravel() / (seen + _WORD_PRIOR)
        weight_sum[has] += weight
    weight_sum = np.maximum(weight_sum, 1e-6)
    return out_term / weight_sum, out_closure / weight_sum


def proposed(asked: Recall, *, n_near: int = 12, n_tissue: int = 6) -> list[np.ndarray]:
    """Return for each row the terms that the memory proposes: of neighbors, of twins, and of the tissue's commonest."""
    common = np.argsort(-asked.tissue_term, axis=1, kind="stable")[:, :n_tissue]
    found = []
    for at in range(len(asked.rows)):
        near = asked.neighbor_term[at][asked.neighbor_similarity[at] > 0]
        kept = list(dict.fromkeys(near.tolist()))[:n_near]
        twins = asked.twin_terms.indices[asked.twin_terms.indptr[at] : asked.twin_terms.indptr[at + 1]]
        tissue = asked.tissue_of[at]
        frequent = [t for t in common[tissue] if asked.tissue_term[tissue, t] > 0]
        by_words = asked.words[at] @ asked.word_term
        spoken = by_words.indices[np.argsort(-by_words.data, kind="stable")][:6]
        found.append(np.array(sorted({*kept, *twins.tolist(), *frequent, *spoken.tolist()}), dtype=np.int64))
    return found


def _summed(matrices: Sequence[csr_matrix]) -> csr_matrix | None:
    total = None
    for matrix in matrices:
        total = matrix if total is None else total + matrix
    return None if total is None else csr_matrix(total)


def _bag_ids(
    labels: Sequence[str], index: TermIndex, known: dict[tuple[str, ...], int]
) -> Int64[np.ndarray, " labels"]:
    return np.array(
        [known.setdefault(bag_of(index.lexicon.normalize(label)), len(known)) for label in labels], dtype=np.int64
    )


def _word_matrices(groups: Sequence[Sequence[str]], index: TermIndex) -> list[csr_matrix]:
    """Return labels x words for each group, over the words of all labels as written and as read."""
    spoken = [
        [set(raw_words(label).split()) | set(index.lexicon.normalize(label).split()) for label in labels]
        for labels in groups
    ]
    words = tuple(sorted({word for labels in spoken for bag in labels for word in bag}))
    at = {word: position for position, word in enumerate(words)}
    out = []
    for labels in spoken:
        flat = [sorted(at[word] for word in bag) for bag in labels]
        ends = np.cumsum([0, *(len(row) for row in flat)])
        columns = np.array([column for row in flat for column in row], dtype=np.int64)
        out.append(csr_matrix((np.ones(len(columns), dtype=np.float32), columns, ends), shape=(len(flat), len(words))))
    return out


def _same_organ(tissue: str, other: str, index: TermIndex) -> bool:
    """Return whether two tissues share a word of three letters or more, or a scope of the seed table; blanks share nothing.

    A scope is opened by what a word is part of: `lungparenchyma` is of the lung.
    """
    first, second = ({word for word in raw_words(text).split() if len(word) > 2} for text in (tissue, other))
    opened, also = (set(scopes_of(text, index.lexicon)) for text in (tissue, other))
    return bool(first & second) or bool(opened & (also | {other}))
