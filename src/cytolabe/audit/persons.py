"""The persons of a snapshot as a table for people to read."""

import pandas as pd

from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.keys import is_person_resolved

__all__ = ["person_table"]


def person_table(snapshot: SnapshotView) -> pd.DataFrame:
    """Return one row per person, or per data set whose persons are not resolved, for people to read.

    Columns: person_id, state, datasets, studies, donors (names as delivered), n_cells; the first has the person, or
    `unknown` / `pooled`.
    """
    cells = snapshot.cells
    resolved = is_person_resolved(cells)
    names = cells["person_id"].where(resolved, cells["person_state"].where(~resolved, ""))
    keys = cells["person_id"].where(resolved, cells["dataset_id"])
    frame = cells.assign(name=names, key=keys)
    groups = frame.groupby(["name", "key", "person_state"], sort=True)
    table = groups.agg(
        datasets=("dataset_id", _joined), studies=("study", _joined), donors=("donor_id", _joined),
        n_cells=("cell_id", "size"),
    ).reset_index()  # fmt: skip
    table = table.rename(columns={"name": "person_id", "person_state": "state"})
    return table[["person_id", "state", "datasets", "studies", "donors", "n_cells"]]


def _joined(values: pd.Series) -> str:
    return ", ".join(sorted(set(values.tolist())))
