"""A selection as a TileDB-SOMA experiment: `obs`, `ms/RNA/var` and `ms/RNA/X/data`, written block by block.

Import it only where tiledbsoma is installed (the extra `[soma]`). Names are those that `tiledbsoma.io` uses, so that
`tiledbsoma.io.to_anndata(experiment, "RNA")` gives the cells back, with what the file says of its origin in `uns`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledbsoma
from scipy.sparse import csr_matrix

from cytolabe.snapshot.selection import Selection

__all__ = ["write_experiment"]

_MEASUREMENT = "RNA"


def write_experiment(
    path: Path, selection: Selection, *, dtype: np.dtype, blocks: Iterator[tuple[int, csr_matrix, np.ndarray]]
) -> None:
    """Write an experiment; `blocks` yields the first row, the matrix and its values as `dtype`."""
    with tiledbsoma.Experiment.create(str(path)) as experiment:
        experiment.metadata.update(selection.provenance)
        obs = selection.obs.reset_index(names="obs_id")
        for column in obs.columns:
            if isinstance(obs[column].dtype, pd.CategoricalDtype):
                obs[column] = obs[column].astype(object)
        _write_frame(experiment, "obs", obs)
        measurements = experiment.add_new_collection("ms")
        measurement = measurements.add_new_collection(_MEASUREMENT, tiledbsoma.Measurement)
        # Nobody but a reader of SOMA sees metadata of the experiment; `uns` is what becomes that of an AnnData again.
        measurement.add_new_collection("uns").metadata.update(selection.provenance)
        _write_frame(measurement, "var", selection.var.reset_index(names="var_id"))
        layers = measurement.add_new_collection("X")
        shape = (len(selection.positions), len(selection.genes))
        matrix = layers.add_new_sparse_ndarray("data", type=pa.from_numpy_dtype(dtype), shape=shape)
        for first, counts, values in blocks:
            rows = np.repeat(np.arange(counts.shape[0], dtype=np.int64) + first, np.diff(counts.indptr))
            columns = counts.indices.astype(np.int64)
            matrix.write(pa.table({"soma_dim_0": rows, "soma_dim_1": columns, "soma_data": values}))


def _write_frame(parent: Any, name: str, frame: pd.DataFrame) -> None:  # noqa: ANN401 - a collection or a subclass
    table = pa.Table.from_pandas(frame, preserve_index=False)
    joined = table.add_column(0, "soma_joinid", pa.array(np.arange(len(frame), dtype=np.int64)))
    domain = [(0, max(0, len(frame) - 1))]
    created = parent.add_new_dataframe(name, schema=joined.schema, domain=domain)
    created.write(joined)
