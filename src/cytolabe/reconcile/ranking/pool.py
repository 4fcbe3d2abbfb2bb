"""The terms that are weighed for each row: wide enough to hold the right one, small enough to be weighed well.

From the row alone: what the words match (`matched_candidates`), the nearest names in every view, the parents and the
best children of the nearest terms (half of the errors of a good mapper are one step too general or too specific), and
terms that lie near in the row's own tissue. What a memory proposes is added per set of barred sources.

`wider_terms` are for a ranker that learned from people's choices: people stop at any height above what the words say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32, Int64

from cytolabe.reconcile.candidates import KINDS, Candidate, matched_candidates, scopes_of
from cytolabe.reconcile.ranking.lexical import LabelViews, TermIndex, organ_words_of

__all__ = ["Pool", "blend_of", "kind_code", "pool_of", "wider_terms"]

_TAKEN = {"blend": 15, "raw": 8, "read": 8, "core": 8, "words": 8, "definition": 5}
_N_FAMILY = 4
_N_CHILDREN = 8
_N_TISSUE = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Terms per row, by position in the index, and the matched candidates of each row."""

    terms: tuple[Int64[np.ndarray, " ..."], ...]
    matched: tuple[tuple[Candidate, ...], ...]


def blend_of(views: LabelViews) -> Float32[np.ndarray, "labels terms"]:
    """Return one similarity in [0, 1] of the views, with fixed weights; the learned ranker replaces it."""
    of_label, of_name = views.similarity["token_label"], views.similarity["token_name"]
    words = 2 * of_label * of_name / np.maximum(of_label + of_name, 1e-6)
    letters = views.similarity["core"] + 0.5 * views.similarity["read"]
    return np.asarray((letters + words + 0.2 * views.similarity["definition"]) / 2.7, dtype=np.float32)


def pool_of(labels: Sequence[str], tissues: Sequence[str], *, index: TermIndex, views: LabelViews) -> Pool:
    """Collect the terms of each row from the row alone."""
    blend = blend_of(views)
    by_label: dict[str, list[int]] = {}
    by_row: dict[tuple[str, tuple[str, ...]], tuple[Candidate, ...]] = {}
    terms, matched = [], []
    for label, tissue in zip(labels, tissues, strict=True):
        at = views.position[label]
        if label not in by_label:
            by_label[label] = _nearest(at, blend[at], views=views, index=index)
        key = label, scopes_of(tissue, index.lexicon)
        if key not in by_row:
            found = matched_candidates(label, tissue, index.lexicon)
            by_row[key] = tuple(c for c in found if c.term in index.position)
        mine = by_row[key]
        pool = {*by_label[label], *(index.position[c.term] for c in mine), *_in_tissue(tissue, blend[at], index)}
        nearest = [index.position[c.term] for c in mine[:2]] or _top(blend[at], 2)
        pool |= {*_below_in_tissue(nearest, tissue, blend=blend[at], index=index)}
        pool |= {p for c in mine[:2] for p in _family(index.position[c.term], blend[at], index)}
        terms.append(np.array(sorted(pool), dtype=np.int64))
        matched.append(mine)
    return Pool(terms=tuple(terms), matched=tuple(matched))


def wider_terms(
    labels: Sequence[str], *, pool: Pool, index: TermIndex, views: LabelViews
) -> tuple[Int64[np.ndarray, " ..."], ...]:
    """Return for each row everything above its two nearest terms."""
    blend = blend_of(views)
    closure = index.closure
    found = []
    for label, matched in zip(labels, pool.matched, strict=True):
        nearest = [index.position[c.term] for c in matched[:2]] or _top(blend[views.position[label]], 2)
        above = [closure.indices[closure.indptr[term] : closure.indptr[term + 1]] for term in nearest]
        found.append(np.unique(np.concatenate([*above, np.empty(0)])).astype(np.int64))
    return tuple(found)


def _nearest(at: int, blend: Float32[np.ndarray, " terms"], *, views: LabelViews, index: TermIndex) -> list[int]:
    similarity = views.similarity
    scores = {
        "blend": blend,
        "raw": similarity["raw"][at],
        "read": similarity["read"][at],
        "core": similarity["core"][at],
        "words": similarity["token_label"][at] * similarity["token_name"][at],
        "definition": similarity["definition"][at] + 0.01 * blend,
    }
    found: set[int] = set()
    for view, score in scores.items():
        found.update(_top(score, _TAKEN[view]))
    for term in _top(blend, _N_FAMILY):
        found.update(_family(term, blend, index))
    return sorted(found)


def _family(term: int, blend: Float32[np.ndarray, " terms"], index: TermIndex) -> list[int]:
    """Return the parents of a term, and its children that are nearest to the label."""
    name = index.terms[term]
    parents = [index.position[p] for p in index.ontology.parents(name) if p in index.position]
    children = [index.position[c] for c in index.ontology.children(name) if c in index.position]
    return [*parents, *sorted(children, key=lambda c: (-blend[c], c))[:_N_CHILDREN]]


def _in_tissue(tissue: str, blend: Float32[np.ndarray, " terms"], index: TermIndex) -> list[int]:
    """Return the nearest terms whose definition or name has a word of the row's organ."""
    here = _says_organ(tissue, index)
    return _top(np.where(here, blend, 0), _N_TISSUE) if here.any() else []


def _below_in_tissue(
    terms: Sequence[int], tissue: str, *, blend: Float32[np.ndarray, " terms"], index: TermIndex
) -> list[int]:
    """Return kinds of the terms that belong to the row's organ: astrocytes of the hippocampus are told so rarely."""
    here = _says_organ(tissue, index)
    if not here.any():
        return []
    below = np.asarray(index.closure[:, list(terms)].sum(axis=1)).ravel() > 0
    return _top(np.where(here & below, blend + 1e-3, 0), _N_TISSUE)


@lru_cache(maxsize=512)
def _says_organ(tissue: str, index: TermIndex) -> Bool[np.ndarray, " terms"]:
    words, _ = organ_words_of(tissue, index)
    if not words:
        return np.zeros(len(index.terms), dtype=bool)
    return np.asarray(index.defined[:, words].sum(axis=1)).ravel() > 0


def _top(scores: np.ndarray, n: int) -> list[int]:
    """Return the positions of the greatest positive scores; equal scores in the order of terms."""
    near = np.argpartition(-scores, min(4 * n, len(scores) - 1))[: 4 * n]
    order = near[np.lexsort((near, -scores[near]))][:n]
    return [int(at) for at in order if scores[at] > 0]


def kind_code(candidate: Candidate) -> int:
    """Return the rank of a candidate's kind, 0 for the strongest."""
    return KINDS.index(candidate.kind)
