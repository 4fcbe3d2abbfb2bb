"""An annotated copy of an h5ad file: the file byte for byte where nothing was added, columns of obs, and a record in uns.

The copy is made beside its target, gets the columns there, and takes its name last. Nothing of the query is replaced: a column of
its own with one of our names is a reason to refuse, not to write over it.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

from cytolabe.errors import ConflictError, UsageError
from cytolabe.files import publish_file, sha256_of_file, staged_directory
from cytolabe.flow.delivered_table import text_of
from cytolabe.ingest.refusals import readable
from cytolabe.provenance.canonical import canonical_json

__all__ = ["refuse_taken", "write_annotated"]


def refuse_taken(path: Path, out: Path, names: Sequence[str]) -> None:
    """Refuse a target that is there, and a file that has a column or a record of our names, before anything is computed.

    Raises
    ------
    UsageError
        If so.
    """
    if out.suffix != ".h5ad":
        msg = f"-o {out}: name a file that ends with .h5ad."
        raise UsageError(msg)
    if out.exists():
        msg = f"{out} is there already and is not replaced. Name another file, or remove it."
        raise UsageError(msg)
    with readable(path.name), h5py.File(path, "r", locking=False) as file:
        taken = [f"obs[{name!r}]" for name in names if name in file["obs"]]
        taken += [f"uns[{name!r}]" for name in names if name in file.get("uns", {})]
    if taken:
        msg = f"{path.name} has {len(taken)} of the names that would be written: {', '.join(taken[:5])}. Its contents are kept as they are: say another --prefix."
        raise UsageError(msg)


def write_annotated(path: Path, out: Path, columns: pd.DataFrame, *, key: str, record: Mapping[str, object]) -> str:
    """Write a copy of a file with columns and a record, and return its SHA-256.

    Parameters
    ----------
    path
        The file.
    out
        A name that is not taken.
    columns
        One row per cell of the file, in its order; text columns become categories.
    key
        Where in uns the record goes, as canonical JSON.
    record
        What the answers rest on.

    Raises
    ------
    ConflictError
        If somebody else took the name in the meantime.
    """
    with staged_directory(out.parent) as folder:
        copy = folder / "annotated.h5ad"
        shutil.copyfile(path, copy)
        with readable(path.name), h5py.File(copy, "r+", locking=False) as file:
            obs = file["obs"]
            for name in columns.columns:
                write_elem(obs, name, _storable(columns[name]))
            order = [text_of(other) for other in np.atleast_1d(obs.attrs.get("column-order", []))]
            obs.attrs["column-order"] = np.array([*order, *columns.columns], dtype=h5py.string_dtype("utf-8"))
            uns = file.require_group("uns")
            uns.attrs.setdefault("encoding-type", "dict")
            uns.attrs.setdefault("encoding-version", "0.1.0")
            write_elem(uns, key, canonical_json(record).decode())
        sha256 = sha256_of_file(copy)
        if not publish_file(copy, out):
            msg = f"somebody else wrote {out} meanwhile, and nothing is written over. Name another file."
            raise ConflictError(msg)
    return sha256


def _storable(column: pd.Series) -> object:
    if column.dtype == object:
        return pd.Categorical(column.astype(str))
    return column.to_numpy()
