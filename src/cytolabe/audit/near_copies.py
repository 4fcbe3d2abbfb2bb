"""Near-identical cells: one droplet counted twice - by two pipelines, against two references, or thinned (rule R9).

For each set of genes that data sets share: the cells that hold enough on it are read once, and the rarest genes of each
are kept; cells that share many of these are nominated (`audit.rare_join`); the counts of nominated pairs decide
(`audit.dispersion`). What the search would have found is measured on the spot: some of its cells are planted again with
90, 50 and 20 % of their counts, and go the same way (`audit.planted`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.audit.dispersion import dispersion
from cytolabe.audit.pair_table import pair_table, sorted_pairs
from cytolabe.audit.planted import KEPT_PERCENT, plant
from cytolabe.audit.rare_join import nominated_pairs
from cytolabe.audit.sampling_noise import disperses
from cytolabe.audit.shared_cells import SharedCells, shared_cells
from cytolabe.snapshot.view import SnapshotView

__all__ = ["COMPARED", "MOST_CELLS", "NOT_SAMPLED", "NearSearch", "find_near_copies"]

MOST_CELLS = 2_000_000
"""Cells on one set of shared genes up to which they are searched: the work grows with their square."""
COMPARED = (
    "dataset_a", "dataset_b", "n_shared_genes", "is_searched", "why_not", "n_near",
    *(f"{kind}_{percent}" for percent in KEPT_PERCENT for kind in ("planted", "found")),
)  # fmt: skip
NOT_SAMPLED = "counts of unrelated cells differ less than samples of molecules do"
"""Why scaled, rounded, imputed or otherwise changed counts are not searched."""
_PAIRS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class NearSearch:
    """What was found, and how well it could be seen.

    `pairs` has one row per pair of near-identical cells (`audit.pair_table`). `comparisons` has one row per pair of data sets
    with `COMPARED`: whether it was searched and why not, and of copies with 90, 50 and 20 % of the counts how many were planted among
    the cells on these genes and how many of them were found. Planted copies that are too shallow to test are not counted.
    `one_sided` names the comparisons with so many cells that only the earlier of two asks for partners.
    """

    pairs: pd.DataFrame
    comparisons: pd.DataFrame
    one_sided: tuple[tuple[str, str], ...] = ()


def find_near_copies(
    snapshot: SnapshotView, genes: Mapping[str, Sequence[str]], places: Mapping[str, range], *, least: tuple[int, int]
) -> NearSearch:
    """Find the pairs of near-identical cells of a snapshot, across data sets and inside each.

    Parameters
    ----------
    snapshot
        The frozen snapshot; the counts of a data set are read once for each set of genes that it shares.
    genes
        The genes that each data set measures.
    places
        The positions of its cells.
    least
        Genes with a count, and counts, on the shared genes from which on a cell is testable.
    """
    pieces: list[pd.DataFrame] = []
    rows: list[dict[str, object]] = []
    one_sided: list[tuple[str, str]] = []
    for shared, compared in _sets_of_genes(genes).items():
        names = sorted({name for pair in compared for name in pair})
        told: dict[str, int] = dict.fromkeys(COMPARED[6:], 0)
        pairs, sampled = sorted_pairs([]), set(names)
        why = _why_not(sum(len(places[name]) for name in names), len(shared), least=least)
        if not why:
            cells = shared_cells(snapshot, shared, {name: places[name] for name in names}, least=least)
            is_sampled = disperses(snapshot, cells)
            sampled = {name for name, one in zip(names, is_sampled, strict=True) if one}
            allowed = _allowed(names, compared) & is_sampled & is_sampled[:, None]
            pairs = _near_pairs(snapshot, cells, allowed)
            told |= plant(snapshot, cells, allowed, least=least)
            pieces.append(pairs)
            one_sided += [] if cells.index.strength.both_ask else compared
        n_near = pairs.groupby(["dataset_a", "dataset_b"]).size().to_dict() if len(pairs) else {}
        for a, b in compared:
            own = why or ("" if {a, b} <= sampled else NOT_SAMPLED)
            rows.append(
                {"dataset_a": a, "dataset_b": b, "n_shared_genes": len(shared), "is_searched": not own, "why_not": own}
                | {"n_near": n_near.get((a, b), 0), **(told if not own else dict.fromkeys(told, 0))}
            )
    comparisons = pd.DataFrame(rows, columns=list(COMPARED))
    return NearSearch(
        pairs=sorted_pairs(pieces),
        comparisons=comparisons.sort_values(["dataset_a", "dataset_b"], kind="stable").reset_index(drop=True),
        one_sided=tuple(sorted(one_sided)),
    )


def _why_not(n_cells: int, n_genes: int, *, least: tuple[int, int]) -> str:
    if n_cells > MOST_CELLS:
        return f"more than {MOST_CELLS:,} cells on one set of genes"
    return f"fewer than {least[0]} genes shared" if n_genes < least[0] else ""


def _sets_of_genes(genes: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """Return which pairs of data sets share which genes; data sets of one reference share one set."""
    sets = {name: frozenset(own) for name, own in genes.items()}
    compared: dict[frozenset[str], list[tuple[str, str]]] = defaultdict(list)
    names = sorted(sets)
    for number, a in enumerate(names):
        for b in names[number:]:
            compared[sets[a] if sets[a] == sets[b] else sets[a] & sets[b]].append((a, b))
    return {tuple(sorted(shared)): pairs for shared, pairs in compared.items()}


def _allowed(names: Sequence[str], compared: Sequence[tuple[str, str]]) -> np.ndarray:
    number = {name: place for place, name in enumerate(names)}
    allowed = np.zeros((len(names), len(names)), dtype=bool)
    for a, b in compared:
        allowed[number[a], number[b]] = allowed[number[b], number[a]] = True
    return allowed


def _near_pairs(snapshot: SnapshotView, cells: SharedCells, allowed: np.ndarray) -> pd.DataFrame:
    pieces = [pair_table(snapshot, np.zeros((0, 2), dtype=np.int64), kind="near", n_shared_genes=len(cells.genes))]
    for a, b in _at_once(nominated_pairs(cells.index, allowed)):
        rows = np.stack([cells.rows[a], cells.rows[b]], axis=1)
        found = dispersion(*_both(snapshot, rows, cells.genes))
        near = found.is_near
        pieces.append(
            pair_table(
                snapshot, rows[near], kind="near", n_shared_genes=len(cells.genes),
                n_shared_nonzero=found.n_common[near], similarity=found.correlation[near], dispersion=found.ratio[near],
            )
        )  # fmt: skip
    return sorted_pairs(pieces)


def _at_once(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gather pairs until there are enough to be worth reading, and cut them where there are more."""
    held: list[np.ndarray] = []
    for a, b in pairs:
        held.append(np.stack([a, b]))
        if sum(piece.shape[1] for piece in held) >= _PAIRS_AT_ONCE:
            yield from _cut(held)
            held = []
    yield from _cut(held)


def _cut(held: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    together = np.concatenate([np.zeros((2, 0), dtype=np.int64), *held], axis=1)
    for start in range(0, together.shape[1], _PAIRS_AT_ONCE):
        part = together[:, start : start + _PAIRS_AT_ONCE]
        yield part[0], part[1]


def _both(snapshot: SnapshotView, rows: np.ndarray, genes: Sequence[str]) -> tuple[csr_matrix, csr_matrix]:
    """Read the counts of both cells of each pair, every cell once."""
    wanted, back = np.unique(rows, return_inverse=True)
    counts = snapshot.counts(wanted, genes)
    counts.eliminate_zeros()
    places = back.reshape(rows.shape)
    return csr_matrix(counts[places[:, 0]]), csr_matrix(counts[places[:, 1]])
