"""Minibatches for training: shuffled, counted once, the same on every run, and resumed to the bit.

Cells are read in units of neighboring chunks (`snapshot.epoch`), a pool of them ahead of the one in use, by kernels
that run outside of the interpreter's lock. A kernel then picks the cells of a minibatch from the pool and turns own
features into genes, and another one makes of them what the layout asks for: `dense`, `ranks` (Geneformer's tokens) or
`value_bins` (scGPT's bins).

A gene that a data set never measured is unmeasured, not zero (rule R1): a stream over such genes is refused, unless
`unmeasured="skip"` says that the model knows absence from zero, as rank tokens do. A dense block cannot say it.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from cytolabe.encode.binning import BinRule, bin_entries, bin_rule
from cytolabe.encode.dense import fill_dense
from cytolabe.encode.entries import CellEntries
from cytolabe.encode.keyed import keys_of
from cytolabe.encode.ranks import Ranked, rank_entries
from cytolabe.errors import RefusedError, UsageError
from cytolabe.genes.panels import why_not_ranked
from cytolabe.provenance import digest_of
from cytolabe.randomness import rng_for
from cytolabe.snapshot.buffers import Buffers
from cytolabe.snapshot.epoch import EpochOrder, Reader
from cytolabe.snapshot.minibatch import Minibatch
from cytolabe.snapshot.pools import Pool, PoolReader, Pools
from cytolabe.snapshot.stream_options import LAYOUTS, StreamOptions, checked_weights

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["CellStream", "StreamOptions", "stream_of"]

_MAKERS = 2
"""Threads that make minibatches; beside the readers more of them only wait."""
_EXACT_FLOAT32 = 1 << 24
_AHEAD = 4
"""Minibatches that are made before they are asked for."""


class CellStream:
    """Minibatches of some cells of a snapshot. Iterating once is an epoch; the next iteration is the next epoch.

    Get one with `Snapshot.stream`.
    """

    def __init__(
        self,
        pools: Pools,
        *,
        options: StreamOptions,
        snapshot_id: str,
        weights: np.ndarray | None = None,
        panels: tuple[str, ...] = (),
    ) -> None:
        if options.layout not in LAYOUTS:
            msg = f"layout {options.layout!r} is none of {', '.join(LAYOUTS)}."
            raise UsageError(msg)
        if options.layout == "dense" and options.unmeasured == "skip":
            msg = (
                "a dense block cannot tell an unmeasured gene from a zero; ask for genes that every data set measures."
            )
            raise UsageError(msg)
        self.options = options
        self._pools = pools
        self.genes = pools.genes
        self.cells = pools.layout.cells
        self.weights = weights
        self.panels = panels
        self._require_rule()
        self._require_transcriptomes()
        self.snapshot_id = snapshot_id
        self._fingerprint = self._named(snapshot_id)
        self._known_order: tuple[int, EpochOrder] | None = None
        self._epoch = 0
        self._step = 0
        self._buffers = [Buffers() for _ in range(_AHEAD + 1)]

    @property
    def flags(self) -> tuple[str, ...]:
        """Which data sets have tokens that mean something else than those of a transcriptome, and why."""
        return self.panels if self.options.layout == "ranks" else ()

    @property
    def epoch(self) -> int:
        """The epoch that the next minibatch is of."""
        return self._epoch

    @property
    def n_minibatches(self) -> int:
        """Minibatches of the epoch, for this reader."""
        return len(self._order(self._epoch).steps) - 1

    def __len__(self) -> int:
        """Return the number of minibatches of an epoch."""
        return self.n_minibatches

    def __iter__(self) -> Iterator[Minibatch]:
        """Yield what is left of the epoch, then turn to the next one."""
        order = self._order(self._epoch)
        n_steps = len(order.steps) - 1
        pools: dict[int, Future[Pool]] = {}
        pending: deque[Future[Minibatch]] = deque()
        submitted = self._step
        # One thread reads, so that pools come in their order; several make minibatches, which are independent.
        with ThreadPoolExecutor(1, "cytolabe-read") as reading, ThreadPoolExecutor(_MAKERS, "cytolabe-make") as making:
            while self._step < n_steps:
                while submitted < n_steps and len(pending) < _AHEAD:
                    needed = self._requested(order, submitted, (pools, reading))
                    pending.append(making.submit(self._made, order, submitted, needed))
                    submitted += 1
                minibatch = pending.popleft().result()
                self._step += 1
                self._release(order, pools)
                yield minibatch
        self._epoch += 1
        self._step = 0

    def _requested(
        self, order: EpochOrder, step: int, reading: tuple[dict[int, Future[Pool]], ThreadPoolExecutor]
    ) -> dict[int, Future[Pool]]:
        """Return the pools of a step, and have the one behind them read while these are used."""
        pools, executor = reading
        first, last = order.pools_of(step)
        for number in range(first, min(last + 2, order.last_pool + 1)):
            if number not in pools:
                pools[number] = executor.submit(self._read, order, number)
        return {number: pools[number] for number in range(first, last + 1)}

    def _read(self, order: EpochOrder, number: int) -> Pool:
        return self._pools.read(order.pool(number))

    def _release(self, order: EpochOrder, pools: dict[int, Future[Pool]]) -> None:
        """Give back the pools that no step from here on needs."""
        is_last = self._step >= len(order.steps) - 1
        first = order.last_pool + 1 if is_last else order.pools_of(self._step)[0]
        for number in [number for number in pools if number < first]:
            self._pools.give_back(pools.pop(number).result())

    def _made(self, order: EpochOrder, step: int, pools: Mapping[int, Future[Pool]]) -> Minibatch:
        low, high = int(order.steps[step]), int(order.steps[step + 1])
        parts = []
        for number, pool in pools.items():
            start = order.pool_start(number)
            parts.append((pool.result(), max(0, low - start), high - start))
        # Those that are being made and the one that the caller looks at never share arrays.
        buffers = self._buffers[step % len(self._buffers)] if self.options.reuse_buffers else Buffers()
        return self._minibatch(parts, buffers)

    def state_dict(self) -> dict[str, object]:
        """Return where the stream is, small and ready for JSON: the next minibatch after `load_state_dict` is the same."""
        return {"stream": self._fingerprint, "epoch": self._epoch, "step": self._step}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on where `state_dict` was taken.

        Raises
        ------
        UsageError
            If the state is of a stream over other cells, genes or options.
        """
        if state.get("stream") != self._fingerprint:
            msg = (
                "the state is of another stream: its snapshot, cells, genes, seed, minibatch size, layout or reader "
                "differ from those of this one. Make the stream as it was made then."
            )
            raise UsageError(msg)
        self._epoch, self._step = int(str(state["epoch"])), int(str(state["step"]))

    def for_reader(self, reader: Reader) -> "CellStream":
        """Return the same stream for one of several readers, at the start of the epoch of this one."""
        other = self.with_options(replace(self.options, reader=reader), weights=self.weights)
        other._epoch = self._epoch
        return other

    def with_options(self, options: StreamOptions, *, weights: np.ndarray | None = None) -> "CellStream":
        """Return a stream over the same cells and genes with other options."""
        return CellStream(
            self._pools, options=options, snapshot_id=self.snapshot_id, weights=weights, panels=self.panels
        )

    def shuffle_quality(self, *, n_minibatches: int = 200) -> dict[str, float]:
        """Compare how well data sets are mixed in minibatches with a perfect shuffle of the same cells.

        Returns
        -------
        :
            `entropy`: mean Shannon entropy (nats) of the data sets in a minibatch, over up to `n_minibatches` of this
            epoch, evenly spaced; `perfect`: the same for draws of as many cells without replacement from all; `ratio`,
            1 where the shuffle is perfect. Nothing is decoded. With one data set there is nothing to mix: 0, 0 and 1.
        """
        order = self._order(self._epoch)
        n_steps = len(order.steps) - 1
        chosen = np.unique(np.linspace(0, n_steps - 1, min(n_steps, n_minibatches)).astype(int))
        dataset_of = self._pools.dataset_of_cell
        found = [np.bincount(dataset_of[self._draws(order, step)]) for step in chosen.tolist()]
        drawn = np.bincount(dataset_of, weights=self.weights).astype(float)
        rng = rng_for(self.options.seed, "stream", "quality")
        sizes = np.diff(order.steps)[chosen]
        if self.weights is None:
            perfect = [rng.multivariate_hypergeometric(drawn.astype(np.int64), int(size)) for size in sizes]
        else:
            perfect = [rng.multinomial(int(size), drawn / drawn.sum()) for size in sizes]
        entropy, reference = (float(np.mean([_entropy(counts) for counts in rows])) for rows in (found, perfect))
        return {"entropy": entropy, "perfect": reference, "ratio": entropy / reference if reference else 1.0}

    def _draws(self, order: EpochOrder, step: int) -> np.ndarray:
        low, high = int(order.steps[step]), int(order.steps[step + 1])
        first, last = order.pools_of(step)
        places = np.concatenate([order.pool(number) for number in range(first, last + 1)])
        start = order.pool_start(first)
        return places[low - start : high - start]

    def _order(self, epoch: int) -> EpochOrder:
        if self._known_order is None or self._known_order[0] != epoch:
            order = EpochOrder(
                self._pools.layout,
                pool_entries=self.options.pool_entries,
                minibatch_size=self.options.minibatch_size,
                key=(self.options.seed, epoch),
                reader=self.options.reader,
                repeats=self._repeats(epoch),
            )
            self._known_order = (epoch, order)
        return self._known_order[1]

    def _repeats(self, epoch: int) -> np.ndarray | None:
        if self.weights is None:
            return None
        n_draws = len(self.cells) if self.options.n_draws is None else self.options.n_draws
        edges = np.cumsum(self.weights)
        rng = rng_for(self.options.seed, "stream", str(epoch), "draws")
        drawn = np.searchsorted(edges, rng.random(n_draws) * edges[-1], side="right")
        repeats: np.ndarray = np.bincount(np.minimum(drawn, len(edges) - 1), minlength=len(edges))
        return repeats

    def _minibatch(self, parts: list[tuple[Pool, int, int]], buffers: Buffers) -> Minibatch:
        picks = [(pool, pool.cell_of_draw[low:high], pool.rows_of_draw[low:high]) for pool, low, high in parts]
        rows = np.concatenate([rows for _, _, rows in picks])
        n_entries = sum(pool.room(picked) for pool, picked, _ in picks)
        indptr = buffers.array("indptr", len(rows) + 1, np.int64)
        columns = buffers.array("columns", n_entries, np.int32)
        counts = buffers.array("counts", n_entries, np.int32)
        indptr[0] = 0
        first, end = 0, 0
        for pool, picked, _ in picks:
            end = pool.append(picked, (first, indptr, columns, counts), buffers.gene_scratch(len(self.genes)))
            first += len(picked)
        minibatch = Minibatch(
            rows=rows,
            indptr=indptr,
            columns=columns[:end],
            counts=counts[:end],
            n_genes=len(self.genes),
            n_counts=np.concatenate([pool.totals[picked] for pool, picked, _ in picks]),
            codes={name: codes[rows] for name, codes in self.options.label_codes.items()},
        )
        return self._laid_out(minibatch, buffers)

    def _laid_out(self, minibatch: Minibatch, buffers: Buffers) -> Minibatch:
        """Add what the layout asks for."""
        cells = CellEntries(
            minibatch.columns.view(np.uint32),
            minibatch.counts.view(np.uint32),
            minibatch.indptr[:-1],
            minibatch.indptr[1:],
        )
        known = vars(minibatch)
        if self.options.layout == "dense":
            if minibatch.counts.max(initial=0) > _EXACT_FLOAT32:
                msg = (
                    f"a count is {minibatch.counts.max():,}; dense blocks hold float32, exact up to 2^24. Read as csr."
                )
                raise UsageError(msg)
            dense = buffers.array("dense", (minibatch.n_cells, len(self.genes)), np.float32)
            fill_dense(cells, self._places, dense)
            return Minibatch(**{**known, "dense": dense})
        if self.options.layout == "ranks" and self.options.rank_rule is not None:
            rule = self.options.rank_rule
            tokens = buffers.array("tokens", (minibatch.n_cells, rule.n_tokens), np.int32)
            lengths = buffers.array("lengths", minibatch.n_cells, np.int32)
            ranked = Ranked(minibatch.n_counts, tokens, lengths)
            rank_entries(cells, rule, ranked, tie_break=self.options.tie_break)
            return Minibatch(**{**known, "tokens": tokens, "lengths": lengths})
        if self.options.layout == "value_bins":
            bins = buffers.array("bins", len(minibatch.counts), np.uint8)
            bin_entries(cells, self._bin_rule, (self._pools.keys_of(minibatch.rows), bins))
            return Minibatch(**{**known, "bins": bins})
        return minibatch

    @cached_property
    def _places(self) -> np.ndarray:
        return np.arange(len(self.genes), dtype=np.int64)

    @cached_property
    def _bin_rule(self) -> BinRule:
        keys = keys_of(self.genes)
        return bin_rule(keys, n_bins=self.options.n_bins, ties=self.options.ties, seed=self.options.seed)

    def _require_rule(self) -> None:
        rule = self.options.rank_rule
        if self.options.layout != "ranks":
            return
        if rule is None or rule.tokens.size != len(self.genes):
            n_tokens = "no rule" if rule is None else f"a rule of {rule.tokens.size} genes"
            msg = f"ranks need one token and one median per gene: {n_tokens} was given for {len(self.genes)} genes."
            raise UsageError(msg)

    def _require_transcriptomes(self) -> None:
        if self.flags and self.options.panels == "refuse":
            msg = (
                f"{len(self.flags)} data set(s) cannot be ranked: {'; '.join(self.flags[:5])}. Their tokens would be "
                "those of other cells (rule R3). Leave these cells out, or say panels='flag' and keep what `flags` says."
            )
            raise RefusedError(msg)

    def _named(self, snapshot_id: str) -> str:
        """Return the digest of everything that decides on a minibatch."""
        options = self.options
        rule = options.rank_rule
        arrays = {"cells": self.cells, "weights": self.weights}
        if rule is not None:
            arrays |= {"tokens": rule.tokens, "medians": rule.medians}
        names = ("minibatch_size", "seed", "layout", "reader", "n_draws", "tie_break", "n_bins", "ties")
        named = {name: getattr(options, name) for name in (*names, "unmeasured", "unit_chunks", "pool_entries")}
        digests = {name: None if values is None else _array_digest(values) for name, values in arrays.items()}
        return digest_of({"snapshot_id": snapshot_id, "genes": list(self.genes), **named, "arrays": digests})

    def content_key(self) -> str:
        """Return the digest of what is streamed, whatever the minibatches are: snapshot, cells, genes, seed."""
        cells = _array_digest(np.sort(self.cells))
        return digest_of([self.snapshot_id, cells, list(self.genes), self.options.seed, self.options.unmeasured])


def stream_of(
    snapshot: "Snapshot",
    cells: Int[np.ndarray, " cells"] | None,
    *,
    genes: Sequence[str] | None,
    options: StreamOptions,
) -> CellStream:
    """Return a stream over some cells of a snapshot; see `Snapshot.stream`."""
    pools = PoolReader(snapshot, cells, genes=genes, unmeasured=options.unmeasured, unit_chunks=options.unit_chunks)
    weights = checked_weights(options, len(pools.layout.cells))
    if weights is not None and cells is not None:
        # Cells are streamed in canonical order; their weights go with them.
        weights = weights[np.argsort(cells, kind="stable")]
    panels = _panels_among(snapshot, pools.dataset_of_cell)
    return CellStream(pools, options=options, snapshot_id=snapshot.snapshot_id, weights=weights, panels=panels)


def _panels_among(snapshot: "Snapshot", dataset_of_cell: np.ndarray) -> tuple[str, ...]:
    """Return for each data set among the cells that carries no transcriptome, why."""
    names = list(snapshot.entries)
    flags = []
    for dataset_id in (names[number] for number in np.unique(dataset_of_cell).tolist()):
        record = snapshot.entries[dataset_id].record
        why = why_not_ranked(len(snapshot.measured_genes(dataset_id)), record.upstream_fraction_of_counts)
        flags += [f"{dataset_id}: {why}"] if why else []
    return tuple(flags)


def _array_digest(values: np.ndarray) -> str:
    return "sha256:" + hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
