"""Identical cells: equal on the genes that both data sets measure (rule R9), across data sets and inside each.

Two contributions of one library rarely have equal vectors: each kept its own genes. So cells are compared pair of
data sets by pair of data sets on the shared genes only (inside a data set: on all of its genes). In this order:

1. sketches tell which cells could be identical, and whether they hold enough (`audit.nominations`): counts are read
   only of these, and where sketches leave it open; a data set of an older atlas has none, and is read whole;
2. every count becomes a 64-bit hash of (gene, count), and a cell's hash is their sum; so one pass over a data set
   serves all of its partners, whatever genes they share;
3. cells with too little left on the shared genes are not testable, and counted: two nearly empty cells are equal by
   chance;
4. equal hashes only nominate: each pair is confirmed on the counts themselves.

Near-identical cells (thinned or re-processed copies) are looked for in `audit.near_copies`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer, UInt64
from scipy.sparse import csr_matrix

from cytolabe.audit.near_copies import NearSearch
from cytolabe.audit.nominations import Nominations, nominate
from cytolabe.audit.pair_table import pair_table, sorted_pairs
from cytolabe.errors import UsageError
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.view import SnapshotView

__all__ = [
    "MIN_SHARED_COUNTS",
    "DuplicateReport",
    "additive_hash",
    "duplicate_table",
    "find_duplicates",
    "identical_pairs",
    "places_of",
]

MIN_SHARED_COUNTS = 300
"""Counts on the shared genes below which a cell is not testable (rule R9)."""

_BLOCK_CELLS = 8192
_MAX_CLONES = 64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class DuplicateReport:
    """Which cells are identical, and where nobody could tell.

    `pairs` has one row per confirmed pair (`a_row` < `b_row`, positions in the table of cells), sorted. `n_tested`
    counts cells that were testable in at least one comparison. `not_testable` maps `a|b` (data sets, sorted; `a|a`
    inside one) to the number of cells of both that had too little left, and holds only comparisons with some.
    `comparisons` has one row per comparison: dataset_a, dataset_b, n_shared_genes, n_tested, n_not_testable, n_pairs.
    `testable` maps two data sets to the rows of the first that keep enough of the genes shared with the second.
    `near` is the search for near-identical cells, whose pairs are then among `pairs`; None where nobody searched.
    """

    pairs: pd.DataFrame
    n_tested: int
    not_testable: Mapping[str, int]
    findings: tuple[Finding, ...]
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    min_shared_nonzero: int = 100
    testable: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    near: NearSearch | None = None


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One data set seen through the genes that it shares with each partner (arrays are partners x cells)."""

    rows: Integer[np.ndarray, " cells"]
    hashes: UInt64[np.ndarray, "partners cells"]
    n_nonzero: Integer[np.ndarray, "partners cells"]
    n_counts: Integer[np.ndarray, "partners cells"]
    is_candidate: Bool[np.ndarray, "partners cells"]


def find_duplicates(snapshot: SnapshotView, *, min_shared_nonzero: int = 100) -> DuplicateReport:
    """Find every pair of identical cells of a snapshot.

    Parameters
    ----------
    snapshot
        The frozen snapshot; counts are read at most once per data set, in blocks, before nominated pairs are confirmed.
    min_shared_nonzero
        Genes with a count, among the shared ones, below which a cell is not testable; `MIN_SHARED_COUNTS` applies
        as well.

    Raises
    ------
    UsageError
        If `min_shared_nonzero` is below 1: empty cells would all be equal.

    Notes
    -----
    More than 64 clones of one cell are listed as a star (each with the first) instead of as all pairs.
    """
    return _all_compared(snapshot, min_shared_nonzero, candidates_only=False)


def identical_pairs(snapshot: SnapshotView, *, min_shared_nonzero: int = 100) -> pd.DataFrame:
    """Return `find_duplicates(...).pairs`, without telling who could be tested: counts of candidates only are read.

    Raises
    ------
    UsageError
        If `min_shared_nonzero` is below 1.
    """
    return _all_compared(snapshot, min_shared_nonzero, candidates_only=True).pairs


def _all_compared(snapshot: SnapshotView, min_shared_nonzero: int, *, candidates_only: bool) -> DuplicateReport:
    """Compare all pairs of data sets; with candidates only, the report is true of its pairs and of nothing else."""
    if min_shared_nonzero < 1:
        msg = f"min_shared_nonzero is {min_shared_nonzero}; with less than 1 gene all empty cells would be identical."
        raise UsageError(msg)
    places = places_of(snapshot)
    datasets = tuple(places)
    genes = {name: snapshot.measured_genes(name) for name in datasets}
    sizes = {name: len(place) for name, place in places.items()}
    n_cells = sum(sizes.values())
    known = nominate(snapshot, genes, sizes, least=(min_shared_nonzero, MIN_SHARED_COUNTS))
    sides = {
        name: _side(
            snapshot,
            name,
            [_shared(genes, name, other) for other in datasets],
            rows=np.array(places[name]),
            known=known[name],
            read=known[name].to_read(candidates_only=candidates_only),
        )
        for name in datasets
    }
    pieces, comparisons = [], []
    testable: dict[tuple[str, str], np.ndarray] = {}
    tested = np.zeros(n_cells, dtype=bool)
    for number_a, name_a in enumerate(datasets):
        for number_b in range(number_a, len(datasets)):
            name_b = datasets[number_b]
            view_a = _testable(sides[name_a], number_b, min_shared_nonzero)
            view_b = _testable(sides[name_b], number_a, min_shared_nonzero)
            nominated = _equal_hashes(
                _hashed(sides[name_a], number_b, view_a), _hashed(sides[name_b], number_a, view_b)
            )
            shared = _shared(genes, name_a, name_b)
            pairs = _confirmed(snapshot, nominated, shared)
            testable[name_a, name_b] = sides[name_a].rows[view_a]
            testable[name_b, name_a] = sides[name_b].rows[view_b]
            tested[testable[name_a, name_b]] = tested[testable[name_b, name_a]] = True
            n_out = int((~view_a).sum()) + (int((~view_b).sum()) if name_a != name_b else 0)
            n_in = int(view_a.sum()) + (int(view_b.sum()) if name_a != name_b else 0)
            comparisons.append((name_a, name_b, len(shared), n_in, n_out, len(pairs)))
            pieces.append(pairs)
    pairs = sorted_pairs(pieces)
    columns = ["dataset_a", "dataset_b", "n_shared_genes", "n_tested", "n_not_testable", "n_pairs"]
    table = pd.DataFrame(comparisons, columns=columns)
    return DuplicateReport(
        pairs=pairs,
        n_tested=int(tested.sum()),
        not_testable=_not_testable(table),
        findings=_findings(pairs, table, n_cells),
        comparisons=table,
        min_shared_nonzero=min_shared_nonzero,
        testable=testable,
    )


def additive_hash(counts: csr_matrix, gene_hashes: UInt64[np.ndarray, " genes"]) -> UInt64[np.ndarray, " nonzeros"]:
    """Return one 64-bit hash per stored count, to be summed (modulo 2^64) over the genes of a comparison.

    The sum does not depend on the order of the genes; splitmix64 spreads (gene, count) over all bits.
    """
    with np.errstate(over="ignore"):
        state = gene_hashes[counts.indices] + counts.data.astype(np.uint64) * _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def duplicate_table(report: DuplicateReport) -> pd.DataFrame:
    """Return the pairs of data sets that share cells, most pairs first, with examples, for people to read."""
    columns = ["dataset_a", "dataset_b", "kind", "n_pairs", "n_shared_genes", "example_a", "example_b"]
    if report.pairs.empty:
        return pd.DataFrame(columns=columns)
    groups = report.pairs.groupby(["dataset_a", "dataset_b", "kind"], sort=True)
    table = groups.agg(
        n_pairs=("a_row", "size"), n_shared_genes=("n_shared_genes", "first"),
        example_a=("cell_a", "first"), example_b=("cell_b", "first"),
    ).reset_index()  # fmt: skip
    return table.sort_values("n_pairs", ascending=False, kind="stable").reset_index(drop=True)[columns]


def _not_testable(comparisons: pd.DataFrame) -> dict[str, int]:
    names = comparisons["dataset_a"] + "|" + comparisons["dataset_b"]
    counts = zip(names.tolist(), comparisons["n_not_testable"].tolist(), strict=True)
    return {name: n_cells for name, n_cells in counts if n_cells}


def _shared(genes: Mapping[str, Sequence[str]], name_a: str, name_b: str) -> tuple[str, ...]:
    return tuple(sorted(set(genes[name_a]) & set(genes[name_b])))


def _gene_hash(gene: str) -> int:
    return int.from_bytes(hashlib.sha256(gene.encode()).digest()[:8], "little")


def places_of(snapshot: SnapshotView) -> dict[str, range]:
    """Return the positions of the cells of each data set with cells; the table of cells is not built for it."""
    places, start = {}, 0
    for name, record in sorted(snapshot.datasets.items()):
        if record.n_cells:
            places[name] = range(start, start + record.n_cells)
        start += record.n_cells
    return places


def _side(
    snapshot: SnapshotView,
    dataset_id: str,
    partners: Sequence[Sequence[str]],
    *,
    rows: np.ndarray,
    known: Nominations,
    read: np.ndarray,
) -> _Side:
    """Sum hashes, non-zeros and counts over the genes shared with each partner, of the cells that have to be read."""
    genes = snapshot.measured_genes(dataset_id)
    gene_hashes = np.array([_gene_hash(gene) for gene in genes], dtype=np.uint64)
    is_shared = [np.isin(np.array(genes, dtype=str), np.array(partner, dtype=str)) for partner in partners]
    side = _Side(
        rows=rows,
        hashes=np.zeros((len(partners), len(rows)), dtype=np.uint64),
        n_nonzero=known.n_nonzero,
        n_counts=known.n_counts,
        is_candidate=known.is_candidate,
    )
    for start in range(0, len(read), _BLOCK_CELLS):
        here = read[start : start + _BLOCK_CELLS]
        counts = snapshot.counts(rows[here], genes).copy()
        counts.sum_duplicates()
        counts.eliminate_zeros()
        hashed = additive_hash(counts, gene_hashes)
        for number, shared in enumerate(is_shared):
            inside = shared[counts.indices]
            side.hashes[number, here] = _row_sums(np.where(inside, hashed, np.uint64(0)), counts.indptr)
            side.n_nonzero[number, here] = _row_sums(inside.astype(np.int64), counts.indptr)
            side.n_counts[number, here] = _row_sums(np.where(inside, counts.data, 0), counts.indptr)
    return side


def _row_sums(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Sum runs of `values`; unsigned sums wrap around, and their differences still come out right."""
    running = np.zeros(len(values) + 1, dtype=values.dtype)
    np.cumsum(values, out=running[1:])
    return np.asarray(running[indptr[1:]] - running[indptr[:-1]])


def _testable(side: _Side, partner: int, min_shared_nonzero: int) -> Bool[np.ndarray, " cells"]:
    return np.asarray(
        (side.n_nonzero[partner] >= min_shared_nonzero) & (side.n_counts[partner] >= MIN_SHARED_COUNTS), dtype=bool
    )


def _hashed(side: _Side, partner: int, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the testable rows that may have an equal one in the partner, with their hashes."""
    chosen = view & side.is_candidate[partner]
    return side.rows[chosen], side.hashes[partner][chosen]


def _equal_hashes(side_a: tuple[np.ndarray, np.ndarray], side_b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return pairs of rows (pairs x 2, first row smaller) with equal hashes; nominations, not yet confirmed."""
    rows_a, rows_b = (_sorted_by_hash(side) for side in (side_a, side_b))
    common = np.intersect1d(rows_a[1], rows_b[1])
    (first_a, size_a), (first_b, size_b) = (_runs(side[1], common) for side in (rows_a, rows_b))
    is_star = np.maximum(size_a, size_b) > _MAX_CLONES
    every, one = np.where(is_star, 0, size_b), np.where(is_star, 1, 0)
    joined = [
        _products((first_a, size_a), (first_b, every)),
        _products((first_a, size_a * one), (first_b, one)),
        _products((first_a, one), (first_b, size_b * one)),
    ]
    places = np.concatenate(joined)
    pairs = np.sort(np.stack([rows_a[0][places[:, 0]], rows_b[0][places[:, 1]]], axis=1), axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).astype(np.int64)


def _sorted_by_hash(side: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(side[1], kind="stable")
    return side[0][order], side[1][order]


def _runs(values: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the run of each wanted value starts among sorted values, and how long it is."""
    first = np.searchsorted(values, wanted, side="left")
    return first, np.searchsorted(values, wanted, side="right") - first


def _products(runs_a: tuple[np.ndarray, np.ndarray], runs_b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return every place of a run of one side with every place of the same run of the other (pairs x 2)."""
    n_pairs = runs_a[1] * runs_b[1]
    run = np.repeat(np.arange(len(n_pairs)), n_pairs)
    inside = np.arange(len(run)) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs)
    across, along = np.divmod(inside, runs_b[1][run])
    return np.stack([runs_a[0][run] + across, runs_b[0][run] + along], axis=1)


def _confirmed(snapshot: SnapshotView, nominated: np.ndarray, shared: Sequence[str]) -> pd.DataFrame:
    """Keep the nominated pairs whose counts are equal on every shared gene."""
    kept, n_nonzero = [], []
    for start in range(0, len(nominated), _BLOCK_CELLS):
        block = nominated[start : start + _BLOCK_CELLS]
        counts_a = snapshot.counts(block[:, 0], shared)
        # A difference of integers is exact; its stored entries are where the two cells disagree.
        distance = abs(counts_a - snapshot.counts(block[:, 1], shared)).sum(axis=1)
        differs = np.asarray(distance).ravel() > 0
        kept.append(block[~differs])
        n_nonzero.append(np.diff(counts_a.indptr)[~differs])
    rows = np.concatenate(kept) if kept else nominated
    return pair_table(
        snapshot, rows, kind="identical", n_shared_genes=len(shared),
        n_shared_nonzero=np.concatenate(n_nonzero).astype(np.int64) if n_nonzero else np.zeros(0, dtype=np.int64),
        similarity=np.ones(len(rows)), dispersion=np.zeros(len(rows)),
    )  # fmt: skip


def _findings(pairs: pd.DataFrame, comparisons: pd.DataFrame, n_cells: int) -> tuple[Finding, ...]:
    found = []
    for (name_a, name_b), group in pairs.groupby(["dataset_a", "dataset_b"], sort=True):
        examples = zip(group["cell_a"].head(_EXAMPLES), group["cell_b"].head(_EXAMPLES), strict=True)
        where = f"{name_a} and {name_b}" if name_a != name_b else f"{name_a}"
        found.append(
            Finding(
                code="W-DUP-01",
                severity=Severity.WARNING,
                where=where,
                message=f"{len(group)} pair(s) of cells have equal counts on all {group['n_shared_genes'].iloc[0]} "
                "shared genes; a model that trains on one and is tested on the other is tested on its memory",
                remedy="pass the pairs to the split, which then keeps both sides together; their labels count once",
                rule="R9",
                n_affected=len(set(group["a_row"]) | set(group["b_row"])),
                n_total=n_cells,
                examples=tuple(f"{a} = {b}" for a, b in examples),
            )
        )
    blind = comparisons[(comparisons["n_tested"] == 0) & (comparisons["n_not_testable"] > 0)]
    if not blind.empty:
        found.append(
            Finding(
                code="N-DUP-02",
                severity=Severity.NOTE,
                where="snapshot",
                message=f"in {len(blind)} of {len(comparisons)} comparisons of data sets no cell keeps enough shared "
                "genes to be tested for identical cells",
                remedy="declare the studies and donors in the manifests: the counts cannot show shared cells here",
                rule="R9",
                n_affected=len(blind),
                n_total=len(comparisons),
                examples=tuple(f"{row.dataset_a}|{row.dataset_b}" for row in blind.head(_EXAMPLES).itertuples()),
            )
        )
    return tuple(found)
