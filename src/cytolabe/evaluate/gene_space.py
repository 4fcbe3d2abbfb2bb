"""Which genes a fold may use, and what that costs (rule R1). The policy can outweigh the model.

* `intersection`: the genes that every labelled training data set and every queried test data set measures. An
  unlabelled training data set that lacks one of them is left out of the fit, and listed.
* `pairwise`: one model for each (labelled training data set, queried test data set), on the genes that the two share.
* `native`: each cell's own genes; only for models that take them. No annotator here does: its rows are REFUSED.

A gene that a data set does not measure is never filled with zeros. Each space says how much of the counts it keeps
and which lineage markers it lacks. A test data set without a cell to score is not queried, so it binds nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Integer

from cytolabe.snapshot.view import SnapshotView

__all__ = [
    "GENE_POLICIES",
    "LINEAGE_MARKERS",
    "PANEL_GENES",
    "GeneSpace",
    "GeneSpaceRow",
    "gene_spaces",
    "gene_spaces_table",
]

GENE_POLICIES = ("intersection", "pairwise", "native")
PANEL_GENES = 500
"""Below this number of genes a score is QUALIFIED(panel)."""

LINEAGE_MARKERS = {
    "CCR7": "ENSG00000126353",
    "CD14": "ENSG00000170458",
    "CD34": "ENSG00000174059",
    "CD3D": "ENSG00000167286",
    "CD3E": "ENSG00000198851",
    "CD4": "ENSG00000010610",
    "CD79A": "ENSG00000105369",
    "CD8A": "ENSG00000153563",
    "CD8B": "ENSG00000172116",
    "COL1A1": "ENSG00000108821",
    "EPCAM": "ENSG00000119888",
    "FCER1A": "ENSG00000179639",
    "FCGR3A": "ENSG00000203747",
    "GNLY": "ENSG00000115523",
    "LYZ": "ENSG00000090382",
    "MS4A1": "ENSG00000156738",
    "NKG7": "ENSG00000105374",
    "PECAM1": "ENSG00000261371",
    "PPBP": "ENSG00000163736",
    "PTPRC": "ENSG00000081237",
}
"""Human genes that tell lineages apart: symbol -> Ensembl id. Only used to say what a gene space lacks."""

_HUMAN = "Homo sapiens"
_BLOCK_CELLS = 20_000


@dataclass(frozen=True, kw_only=True)
class GeneSpaceRow:
    """What one data set has left in a gene space. `side` is train or test."""

    dataset_id: str
    side: str
    n_genes_measured: int
    counts_kept_fraction: float
    median_counts_left: float


@dataclass(frozen=True, kw_only=True)
class GeneSpace:
    """Genes of one fit: sorted, measured by every data set of both sides.

    `left_out` names training data sets that were left out of the fit because they lack some of the genes.
    """

    split: str
    policy: str
    genes: tuple[str, ...]
    train_datasets: tuple[str, ...]
    test_datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    absent_markers: tuple[str, ...]
    rows: tuple[GeneSpaceRow, ...]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def is_panel(self) -> bool:
        """Whether the genes are too few for an unqualified score."""
        return self.n_genes < PANEL_GENES


def gene_spaces(
    snapshot: SnapshotView,
    policy: str,
    *,
    split: str,
    train_rows: Integer[np.ndarray, " train"],
    labelled_rows: Integer[np.ndarray, " labelled"],
    query_rows: Integer[np.ndarray, " query"],
) -> tuple[GeneSpace, ...]:
    """Return the gene spaces of a fold under a policy: one, or one per pair, or none for `native`.

    Parameters
    ----------
    policy
        One of `GENE_POLICIES`.
    split
        Name of the fold.
    train_rows
        Training cells, labelled or not.
    labelled_rows
        Training cells whose label counts.
    query_rows
        Test cells that are scored.
    """
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    train, labelled, query = (_named(names[rows]) for rows in (train_rows, labelled_rows, query_rows))
    measured = {name: frozenset(snapshot.measured_genes(name)) for name in (*train, *query)}
    # A data set that is divided between the sides has other cells, and other counts, on each.
    rows_of = {(name, "train"): train_rows[names[train_rows] == name] for name in train}
    rows_of |= {(name, "test"): query_rows[names[query_rows] == name] for name in query}

    def space(
        genes: Iterable[str], train: Sequence[str], test: Sequence[str], *, left_out: Sequence[str] = ()
    ) -> GeneSpace:
        kept = tuple(sorted(genes))
        sides = [(name, "train") for name in train] + [(name, "test") for name in test]
        return GeneSpace(
            split=split,
            policy=policy,
            genes=kept,
            train_datasets=tuple(train),
            test_datasets=tuple(test),
            left_out=tuple(left_out),
            absent_markers=_absent_markers(snapshot, kept, (*train, *test)),
            rows=tuple(
                _row(
                    snapshot,
                    name,
                    side=side,
                    left=_counts_left(snapshot, rows_of[name, side], kept),
                    rows=rows_of[name, side],
                )
                for name, side in sides
            ),
        )

    if policy == "intersection":
        return _intersection(train, labelled, query, measured=measured, space=space)
    if policy == "pairwise":
        return tuple(space(measured[one] & measured[other], [one], [other]) for other in query for one in labelled)
    return ()


def _intersection(
    train: Sequence[str],
    labelled: Sequence[str],
    query: Sequence[str],
    *,
    measured: dict[str, frozenset[str]],
    space: Callable[..., GeneSpace],
) -> tuple[GeneSpace, ...]:
    if not labelled or not query:
        return ()
    genes = frozenset.intersection(*(measured[name] for name in (*labelled, *query)))
    fitted = [name for name in train if name in labelled or genes <= measured[name]]
    return (space(genes, fitted, query, left_out=[name for name in train if name not in fitted]),)


def gene_spaces_table(spaces: Sequence[GeneSpace]) -> pd.DataFrame:
    """Return one row per gene space and data set, as a report prints it."""
    columns = [
        "split", "policy", "n_genes", "train_datasets", "test_datasets", "left_out", "absent_markers",
        "dataset_id", "side", "n_genes_measured", "counts_kept_fraction", "median_counts_left",
    ]  # fmt: skip
    rows = [
        {
            "split": space.split,
            "policy": space.policy,
            "n_genes": space.n_genes,
            "train_datasets": ", ".join(space.train_datasets),
            "test_datasets": ", ".join(space.test_datasets),
            "left_out": ", ".join(space.left_out),
            "absent_markers": ", ".join(space.absent_markers),
            "dataset_id": row.dataset_id,
            "side": row.side,
            "n_genes_measured": row.n_genes_measured,
            "counts_kept_fraction": row.counts_kept_fraction,
            "median_counts_left": row.median_counts_left,
        }
        for space in spaces
        for row in space.rows
    ]
    return pd.DataFrame(rows, columns=columns)


def _named(names: np.ndarray) -> list[str]:
    return sorted({str(name) for name in names})


def _absent_markers(snapshot: SnapshotView, genes: Sequence[str], datasets: Sequence[str]) -> tuple[str, ...]:
    """Return the symbols of the human markers that are not among the genes; nothing for other organisms."""
    if any(snapshot.datasets[name].organism != _HUMAN for name in datasets):
        return ()
    present = set(genes)
    return tuple(
        symbol for symbol, gene_id in LINEAGE_MARKERS.items() if symbol not in present and gene_id not in present
    )


def _counts_left(snapshot: SnapshotView, rows: np.ndarray, genes: Sequence[str]) -> Integer[np.ndarray, " rows"]:
    """Return the counts of each cell over the genes."""
    pieces = [
        np.asarray(snapshot.counts(rows[start : start + _BLOCK_CELLS], genes).sum(axis=1), dtype=np.int64).ravel()
        for start in range(0, len(rows), _BLOCK_CELLS)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])


def _row(snapshot: SnapshotView, dataset_id: str, *, side: str, left: np.ndarray, rows: np.ndarray) -> GeneSpaceRow:
    total = int(snapshot.cells["n_counts"].to_numpy()[rows].sum())
    return GeneSpaceRow(
        dataset_id=dataset_id,
        side=side,
        n_genes_measured=len(snapshot.measured_genes(dataset_id)),
        counts_kept_fraction=float(left.sum() / total) if total else 0.0,
        median_counts_left=float(np.median(left)) if len(left) else 0.0,
    )
