"""Rows, their terms and everything known of both, put together once and asked again for each set of barred sources."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64

from cytolabe.reconcile.ranking.features import WORD_FEATURES, LabelFacts, Pairs, facts_of, word_features
from cytolabe.reconcile.ranking.lexical import LabelViews, TermIndex, letters_of, views_of
from cytolabe.reconcile.ranking.memory import (
    MEMORY_FEATURES,
    Entries,
    Memory,
    Query,
    features_of,
    memory_of,
    proposed,
    recall,
)
from cytolabe.reconcile.ranking.pool import Pool, pool_of, wider_terms

__all__ = ["FEATURES", "Bench", "Group", "Weighed", "bench_of", "weigh"]

FEATURES = (*WORD_FEATURES, *MEMORY_FEATURES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A query with all that does not depend on who may teach. `wider` is empty unless it was asked for."""

    index: TermIndex
    query: Query
    views: LabelViews
    pool: Pool
    facts: LabelFacts
    memory: Memory
    wider: tuple[Int64[np.ndarray, " ..."], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Rows of the query that bar the same sources."""

    rows: Int64[np.ndarray, " rows"]
    barred: frozenset[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighed:
    """Pairs of some rows with their features; `rows` names the query's row of each row of the pairs."""

    rows: Int64[np.ndarray, " rows"]
    pairs: Pairs
    features: Float32[np.ndarray, "pairs features"]

    def part(self, chosen: np.ndarray) -> "Weighed":
        """Return the rows where `chosen` is true."""
        kept = np.flatnonzero(chosen)
        lengths = np.diff(self.pairs.starts)
        of_pair = chosen[self.pairs.row]
        starts = np.cumsum([0, *lengths[kept]]).astype(np.int64)
        row = np.repeat(np.arange(len(kept), dtype=np.int64), lengths[kept])
        pairs = Pairs(row=row, term=self.pairs.term[of_pair], starts=starts)
        return Weighed(rows=self.rows[kept], pairs=pairs, features=self.features[of_pair])


def bench_of(query: Query, entries: Entries, *, index: TermIndex, wide: bool = False) -> Bench:
    """Compare a query with the release and with a memory: the slow part, done once. `wide` finds `wider_terms`, too."""
    views = views_of(query.label, index)
    pool = pool_of(query.label, query.tissue, index=index, views=views)
    facts = facts_of(query.label, query.tissue, sources=query.source, matched=pool.matched, index=index, views=views)
    distinct = sorted(set(entries.label))
    remembered = LabelViews(
        position={label: at for at, label in enumerate(distinct)},
        similarity={},
        letters=letters_of([index.lexicon.normalize(label) for label in distinct], index),
    )
    memory = memory_of(entries, query, index=index, queried=views, remembered=remembered)
    wider = wider_terms(query.label, pool=pool, index=index, views=views) if wide else ()
    return Bench(index=index, query=query, views=views, pool=pool, facts=facts, memory=memory, wider=wider)


def weigh(bench: Bench, groups: Sequence[Group], *, wide: bool = False) -> Weighed:
    """Return the candidates of the groups' rows with their features, rows in ascending order.

    `wide` weighs `wider_terms` as well, of a bench that has them.
    """
    recalls = [recall(bench.memory, bench.query, rows=group.rows, barred=group.barred) for group in groups]
    terms: dict[int, np.ndarray] = {}
    for asked in recalls:
        for row, found in zip(asked.rows, proposed(asked), strict=True):
            mine = np.union1d(bench.pool.terms[int(row)], found)
            terms[int(row)] = np.union1d(mine, bench.wider[int(row)]) if wide else mine
    rows = np.array(sorted(terms), dtype=np.int64)
    pairs = Pairs.of([terms[int(row)] for row in rows])
    matched = [bench.pool.matched[int(row)] for row in rows]
    facts = replace(
        bench.facts,
        label_at=bench.facts.label_at[rows],
        context_at=bench.facts.context_at[rows],
        same_best=bench.facts.same_best[rows],
    )
    by_words = word_features(
        pairs,
        facts=facts,
        tissues=[bench.query.tissue[int(row)] for row in rows],
        matched=matched,
        index=bench.index,
        views=bench.views,
    )
    by_memory = np.zeros((len(pairs.row), len(MEMORY_FEATURES)), dtype=np.float32)
    for asked in recalls:
        local = np.full(len(bench.query.label), -1, dtype=np.int64)
        local[asked.rows] = np.arange(len(asked.rows))
        own = local[rows[pairs.row]]
        at = np.flatnonzero(own >= 0)
        by_memory[at] = features_of(asked, bench.memory, row=own[at], term=pairs.term[at])
    return Weighed(rows=rows, pairs=pairs, features=np.hstack([by_words, by_memory]))
