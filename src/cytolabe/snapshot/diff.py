"""What changed between two snapshots: data sets, cells, and what was made of their labels."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.records import LabelMapping
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.strata import strata_of

__all__ = ["SnapshotDiff", "diff_snapshots"]

_TERM = "cell_type_ontology_term_id"
_CELLS_OF = """SELECT cell_id, dataset_id, contributor_label, cell_type_ontology_term_id, person_id
FROM cells WHERE dataset_id = $name"""
_FACTS = ["dataset_id", "donor_id", "contributor_label"]
_COMPARED = ["dataset_id", "contributor_label", _TERM, f"{_TERM}_b", "person_id", "person_id_b", "n_cells"]


@dataclass(frozen=True, kw_only=True)
class SnapshotDiff:
    """The difference of two snapshots, from `before` to `after`.

    `relabeled` has one row per (dataset_id, contributor_label, term before, term after) with the number of cells;
    `n_persons_changed` counts cells in both whose person is another.
    """

    before: str
    after: str
    datasets_added: tuple[str, ...]
    datasets_removed: tuple[str, ...]
    n_cells_added: int
    n_cells_removed: int
    n_cells_relabeled: int
    n_persons_changed: int
    relabeled: pd.DataFrame
    mappings_added: tuple[LabelMapping, ...]
    mappings_removed: tuple[LabelMapping, ...]


def diff_snapshots(a: Snapshot, b: Snapshot) -> SnapshotDiff:
    """Return what changed from snapshot `a` to snapshot `b`; cells are matched by cell id.

    Data sets that hold the same cells in both are compared by what differs among their cells (donors and labels), since
    persons and terms follow from these; only of data sets that changed are cells looked at.
    """
    shared = [name for name in a.entries if name in b.entries]
    same = [name for name in shared if _holds_the_same(a, b, name)]
    kept = pd.concat([_alike(a, b, same), *(_matched(a, b, name) for name in shared if name not in same)])
    moved = kept[kept[_TERM] != kept[f"{_TERM}_b"]]
    relabeled = (
        moved.groupby(["dataset_id", "contributor_label", _TERM, f"{_TERM}_b"], sort=True)["n_cells"]
        .sum()
        .reset_index()
        .rename(columns={_TERM: "term_before", f"{_TERM}_b": "term_after"})
    )
    mapped_before, mapped_after = set(a.mappings), set(b.mappings)
    n_kept = int(kept["n_cells"].sum())
    return SnapshotDiff(
        before=a.snapshot_id,
        after=b.snapshot_id,
        datasets_added=tuple(sorted(set(b.datasets) - set(a.datasets))),
        datasets_removed=tuple(sorted(set(a.datasets) - set(b.datasets))),
        n_cells_added=b.n_cells - n_kept,
        n_cells_removed=a.n_cells - n_kept,
        n_cells_relabeled=int(moved["n_cells"].sum()),
        n_persons_changed=int(kept.loc[kept["person_id"] != kept["person_id_b"], "n_cells"].sum()),
        relabeled=relabeled,
        mappings_added=tuple(mapping for mapping in b.mappings if mapping not in mapped_before),
        mappings_removed=tuple(mapping for mapping in a.mappings if mapping not in mapped_after),
    )


def _holds_the_same(a: Snapshot, b: Snapshot, dataset_id: str) -> bool:
    return a.entries[dataset_id].digest == b.entries[dataset_id].digest and np.array_equal(
        a.kept_rows(dataset_id), b.kept_rows(dataset_id)
    )


def _alike(a: Snapshot, b: Snapshot, names: list[str]) -> pd.DataFrame:
    """Return what was made of cells that are alike, before and after, with their number."""
    before, after = (strata_of(one, [*_FACTS, _TERM, "person_id"]).table for one in (a, b))
    found = before.merge(after.drop(columns="n_cells"), on=_FACTS, suffixes=("", "_b"))
    return found[found["dataset_id"].isin(names)][_COMPARED]


def _matched(a: Snapshot, b: Snapshot, dataset_id: str) -> pd.DataFrame:
    """Return the cells of one data set that are in both, each by itself."""
    before, after = (one.query(_CELLS_OF, {"name": dataset_id}).to_pandas() for one in (a, b))
    found = before.merge(after[["cell_id", _TERM, "person_id"]], on="cell_id", suffixes=("", "_b"))
    compared: pd.DataFrame = found.assign(n_cells=1)[_COMPARED]
    return compared
