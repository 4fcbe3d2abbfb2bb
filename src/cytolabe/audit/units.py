"""The independent unit behind a claim: the person, else the donor as delivered, else the library, else the data set.

Cells of one unit are not independent, so nothing in this room is ever counted per cell. The finest unit that is known
for every cell in scope is used, and named wherever a number is printed (rule R12).
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from cytolabe.records import UNKNOWN
from cytolabe.split.keys import is_person_resolved, study_keys

__all__ = ["donor_keys", "is_known", "library_keys", "units_of"]


def is_known(values: pd.Series) -> Bool[np.ndarray, " cells"]:
    """Tell which values were given."""
    return (~values.isin(["", UNKNOWN])).to_numpy(dtype=bool)


def donor_keys(cells: pd.DataFrame) -> Shaped[np.ndarray, " cells"]:
    """Return the person of each cell, else its donor within its study, else `""`; pooled cells have no donor."""
    persons = cells["person_id"].to_numpy(dtype=object)
    donors = np.array([f"{a}:{b}" for a, b in zip(study_keys(cells), cells["donor_id"], strict=True)], dtype=object)
    usable = is_known(cells["donor_id"]) & (cells["person_state"] != "pooled").to_numpy(dtype=bool)
    return np.where(is_person_resolved(cells), persons, np.where(usable, donors, ""))


def library_keys(cells: pd.DataFrame) -> Shaped[np.ndarray, " cells"]:
    """Return the technical batch of each cell within its data set; unknown batches of a data set are one."""
    pairs = zip(cells["dataset_id"], cells["batch"], strict=True)
    return np.array([f"{dataset}:{batch}" for dataset, batch in pairs], dtype=object)


def units_of(cells: pd.DataFrame) -> tuple[str, Shaped[np.ndarray, " cells"]]:
    """Return the name of the finest unit that is known for all cells, and the unit of each cell."""
    donors = donor_keys(cells)
    if (donors != "").all():
        return "donor", donors
    if is_known(cells["batch"]).all():
        return "library", library_keys(cells)
    return "dataset", cells["dataset_id"].to_numpy(dtype=object)
