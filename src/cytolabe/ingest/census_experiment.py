"""A SOMA experiment of the layout of the CELLxGENE Census, asked by cells. The only module that reads with tiledbsoma.

`uri` names an experiment (obs, ms["RNA"]) or a whole census: census_data/<organism> is the experiment then, and
census_info/datasets says which row of `feature_dataset_presence_matrix` belongs to which data set.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cytolabe.errors import MissingExtraError, UnreachableSourceError, UsageError

__all__ = ["CensusExperiment", "digest_of_table", "open_experiment"]

_PRESENCE = "feature_dataset_presence_matrix"
_HASHED_CELLS = 1024
"""Cells whose counts are hashed together: what is held at once while a source gets its digest."""


def _soma() -> Any:  # noqa: ANN401 - a module of an untyped library
    try:
        import tiledbsoma  # noqa: PLC0415 - an extra
    except ImportError:
        msg = "the Census is read with tiledbsoma, which is not installed: pip install 'cytolabe[soma]'. Or name data sets of Discover: cellxgene:<id>."
        raise MissingExtraError(msg) from None
    return tiledbsoma


@contextmanager
def open_experiment(uri: str, *, organism: str, region: str = "") -> "Iterator[CensusExperiment]":
    """Open an experiment, or that of an organism in a census.

    Raises
    ------
    MissingExtraError
        If tiledbsoma is not installed.
    UnreachableSourceError
        If there is nothing at `uri` that can be opened.
    UsageError
        If it is neither an experiment with RNA counts nor a census with the organism.
    """
    soma = _soma()
    settings = {"vfs.s3.no_sign_request": "true", "vfs.s3.region": region} if region else {}
    with ExitStack() as cleanup:
        try:
            root = cleanup.enter_context(soma.open(uri, context=soma.SOMATileDBContext(tiledb_config=settings)))
        except (soma.SOMAError, OSError, RuntimeError) as error:
            msg = (
                f"{uri}: no SOMA experiment can be opened there ({_first_line(error)}). Check the path, or the network."
            )
            raise UnreachableSourceError(msg) from None
        if not isinstance(root, soma.Experiment | soma.Collection):
            msg = f"{uri}: this is a {type(root).__name__}, not an experiment or a census."
            raise UsageError(msg)
        experiment, datasets = root, None
        if "census_data" in root:
            if organism not in root["census_data"]:
                msg = (
                    f"{uri}: the census has no organism {organism!r}; it has {', '.join(sorted(root['census_data']))}."
                )
                raise UsageError(msg)
            experiment, datasets = root["census_data"][organism], root["census_info"]["datasets"]
        if (
            "obs" not in experiment
            or "ms" not in experiment
            or "RNA" not in experiment.ms
            or "raw" not in experiment.ms["RNA"].X
        ):
            msg = f"{uri}: the experiment has no raw counts of RNA (ms['RNA'].X['raw']) with a table of cells."
            raise UsageError(msg)
        yield CensusExperiment(experiment, datasets, uri)


class CensusExperiment:
    """An open experiment; it is valid inside the context that opened it."""

    def __init__(self, experiment: Any, datasets: Any, uri: str) -> None:  # noqa: ANN401 - of an untyped library
        self._obs = experiment.obs
        self._rna = experiment.ms["RNA"]
        self._counts = experiment.ms["RNA"].X["raw"]
        self._datasets = datasets
        self._uri = uri

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of cells."""
        return tuple(self._obs.schema.names)

    @property
    def counts_dtype(self) -> str:
        """Kind of the counts, as stored."""
        return str(self._counts.type.to_pandas_dtype().__name__)

    def datasets_of(self, where: str) -> dict[str, int]:
        """Return how many cells of each data set a filter finds, reading two columns a piece at a time.

        Raises
        ------
        UsageError
            If the filter is wrong, or the cells do not say their data set.
        """
        if "dataset_id" not in self.columns:
            msg = f"{self._uri}: the table of cells has no column dataset_id, so a query cannot be cut into data sets."
            raise UsageError(msg)
        found: dict[str, int] = {}
        for piece in self._read_obs(where, ["soma_joinid", "dataset_id"]):
            for entry in piece.column("dataset_id").value_counts().to_pylist():
                name = "" if entry["values"] is None else str(entry["values"])
                found[name] = found.get(name, 0) + int(entry["counts"])
        return dict(sorted(found.items()))

    def cells_of(self, where: str, dataset_id: str) -> pa.Table:
        """Return all columns of the cells of a data set that a filter finds, by `soma_joinid`."""
        of_dataset = f"dataset_id == {dataset_id!r}"
        pieces = list(self._read_obs(f"({where}) and {of_dataset}" if where else of_dataset, None))
        return pa.concat_tables(pieces).unify_dictionaries().combine_chunks().sort_by("soma_joinid")

    def features_of(self, dataset_id: str) -> tuple[pd.DataFrame, bool]:
        """Return the features that a data set measured, by `soma_joinid`, and whether the experiment says which.

        Raises
        ------
        UsageError
            If it says so by a number of the data set that only the census above it explains.
        """
        features = self._rna.var.read().concat().to_pandas().sort_values("soma_joinid", ignore_index=True)
        if _PRESENCE not in self._rna:
            return features, False
        if self._datasets is None:
            msg = f"{self._uri}: which genes a data set measured is said by a number that the census explains. Name the census itself, the folder with census_info and census_data."
            raise UsageError(msg)
        row = self.facts_of(dataset_id)["soma_joinid"]
        found = self._rna[_PRESENCE].read(coords=(slice(int(row), int(row)),)).tables().concat()
        measured = found.column("soma_dim_1").to_numpy()[found.column("soma_data").to_numpy() != 0]
        return features[features["soma_joinid"].isin(measured)].reset_index(drop=True), True

    def facts_of(self, dataset_id: str) -> dict[str, Any]:
        """Return what the census says of a data set, or nothing where there is only an experiment."""
        if self._datasets is None:
            return {}
        found = self._datasets.read(value_filter=f"dataset_id == {dataset_id!r}").concat().to_pylist()
        if len(found) != 1:
            msg = f"{self._uri}: census_info/datasets has {len(found)} rows for {dataset_id!r}, where one is needed."
            raise UsageError(msg)
        return dict(found[0])

    def counts_of(self, joinids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return cell, feature and value of every stored entry of some cells, as numbers of the experiment."""
        pieces = list(self._counts.read(coords=(pa.array(joinids, type=pa.int64()),)).tables())
        found = pa.concat_tables(pieces)
        cells, features, values = (found.column(name).to_numpy() for name in ("soma_dim_0", "soma_dim_1", "soma_data"))
        return cells, features, values

    def digest_of_counts(self, joinids: np.ndarray) -> str:
        """Return the digest of the counts of some cells, from digests of blocks of them."""
        whole = hashlib.sha256()
        for start in range(0, len(joinids), _HASHED_CELLS):
            cells, features, values = self.counts_of(joinids[start : start + _HASHED_CELLS])
            order = np.lexsort((features, cells))
            block = hashlib.sha256()
            for part in (cells[order].astype("<i8"), features[order].astype("<i8"), values[order].astype("<f8")):
                block.update(part.tobytes())
            whole.update(block.digest())
        return f"sha256:{whole.hexdigest()}"

    def _read_obs(self, where: str, columns: list[str] | None) -> Iterator[pa.Table]:
        soma = _soma()
        try:
            yield from self._obs.read(column_names=columns, value_filter=where or None)
        except (soma.SOMAError, TypeError, ValueError, SyntaxError) as error:
            names = ", ".join(self.columns)
            msg = f"census filter {where!r}: {_first_line(error)} Write conditions such as tissue_general == 'lung' and is_primary_data == True. Columns: {names}."
            raise UsageError(msg) from None


def digest_of_table(table: pa.Table) -> str:
    """Return the digest of the values of a table of cells; how they are encoded does not matter."""
    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        digest.update(f"{name}\0{column.type}\0".encode())
        values = pd.Series(column.to_pandas())
        digest.update(pd.util.hash_pandas_object(values, index=False).to_numpy().astype("<u8").tobytes())
    return f"sha256:{digest.hexdigest()}"


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line.removeprefix("SOMAError: ").strip("'")[:300].rstrip(".") + "."
