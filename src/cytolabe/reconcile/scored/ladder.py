"""What simpler mappers score on the same rows, each rung with what it adds; none of them learns from the table.

1. `exact_and_synonyms`: a label that is, in any case, a name or exact synonym; else no answer.
2. `raw_tfidf`: nearest name by character n-grams of the label as written.
3. `abbreviations_tokens_definitions`: the label read through the seed table, words weighed by rarity, definitions.
4. `modifiers_composites`: before these, what the words match after states and parts were taken apart.
"""

import numpy as np
from jaxtyping import Float32, Int64

from cytolabe.reconcile.ranking.engine import Bench
from cytolabe.reconcile.ranking.lexical import TermIndex
from cytolabe.reconcile.ranking.pool import blend_of

__all__ = ["RUNGS", "ladder_of"]

RUNGS = ("exact_and_synonyms", "raw_tfidf", "abbreviations_tokens_definitions", "modifiers_composites")
_N_BEST = 5


def ladder_of(bench: Bench) -> dict[str, Int64[np.ndarray, "rows best"]]:
    """Return the five best terms of each row per rung, -1 where a rung has no answer."""
    label_at = bench.facts.label_at
    read = blend_of(bench.views)
    best = {
        "raw_tfidf": _best(bench.views.similarity["raw"])[label_at],
        "abbreviations_tokens_definitions": _best(read)[label_at],
    }
    exact = _exact(bench.query.label, bench.index)
    matched = np.full((len(label_at), _N_BEST), -1, dtype=np.int64)
    for row, found in enumerate(bench.pool.matched):
        terms = [bench.index.position[candidate.term] for candidate in found]
        terms += [int(t) for t in best["abbreviations_tokens_definitions"][row]]
        kept = list(dict.fromkeys(terms))[:_N_BEST]
        matched[row, : len(kept)] = kept
    return {"exact_and_synonyms": exact, **best, "modifiers_composites": matched}


def _exact(labels: tuple[str, ...], index: TermIndex) -> Int64[np.ndarray, "rows best"]:
    spelled: dict[str, list[int]] = {}
    for term in index.terms:
        for text in (index.ontology.name(term), *index.ontology.synonyms(term)):
            spelled.setdefault(text.lower(), []).append(index.position[term])
    out = np.full((len(labels), _N_BEST), -1, dtype=np.int64)
    for row, label in enumerate(labels):
        found = list(dict.fromkeys(spelled.get(label.lower(), [])))[:_N_BEST]
        out[row, : len(found)] = found
    return out


def _best(similarity: Float32[np.ndarray, "labels terms"]) -> Int64[np.ndarray, "labels best"]:
    return np.argsort(-similarity, axis=1, kind="stable")[:, :_N_BEST].astype(np.int64)
