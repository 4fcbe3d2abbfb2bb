"""What changed between two snapshots: data sets, cells, and what was made of their labels."""

from dataclasses import dataclass

import pandas as pd

from cytolabe.records import LabelMapping
from cytolabe.snapshot.view import SnapshotView

__all__ = ["SnapshotDiff", "diff_snapshots"]


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


def diff_snapshots(a: SnapshotView, b: SnapshotView) -> SnapshotDiff:
    """Return what changed from snapshot `a` to snapshot `b`; cells are matched by cell id."""
    term = "cell_type_ontology_term_id"
    columns = ["cell_id", "dataset_id", "contributor_label", term, "person_id"]
    both = a.cells[columns].merge(b.cells[columns], how="outer", on="cell_id", suffixes=("", "_b"), indicator=True)
    kept = both[both["_merge"] == "both"]
    moved = kept[kept[term] != kept[f"{term}_b"]]
    relabeled = (
        moved.groupby(["dataset_id", "contributor_label", term, f"{term}_b"], sort=True)
        .size()
        .reset_index(name="n_cells")
        .rename(columns={term: "term_before", f"{term}_b": "term_after"})
    )
    return SnapshotDiff(
        before=a.snapshot_id,
        after=b.snapshot_id,
        datasets_added=tuple(sorted(set(b.datasets) - set(a.datasets))),
        datasets_removed=tuple(sorted(set(a.datasets) - set(b.datasets))),
        n_cells_added=int((both["_merge"] == "right_only").sum()),
        n_cells_removed=int((both["_merge"] == "left_only").sum()),
        n_cells_relabeled=len(moved),
        n_persons_changed=int((kept["person_id"] != kept["person_id_b"]).sum()),
        relabeled=relabeled,
        mappings_added=tuple(mapping for mapping in b.mappings if mapping not in set(a.mappings)),
        mappings_removed=tuple(mapping for mapping in a.mappings if mapping not in set(b.mappings)),
    )
