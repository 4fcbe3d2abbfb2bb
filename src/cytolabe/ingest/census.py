"""Read the cells of one data set out of a SOMA experiment: the CELLxGENE Census, or another of its layout.

What is read is named by a descriptor, a small JSON file that `census_query` writes: where the experiment is, the filter,
the data set, and the digests of the table of cells and of the counts that were found there. Its bytes are therefore
the digest of the source. The name of a descriptor ends with `.census.json` as well, so that a contribution of any other
name never makes this process open an address that its author chose.

Counts are read in the order of `soma_joinid`, a run of cells at a time. A gene that the presence matrix of the
measurement does not list for the data set is left out: nobody looked for it, and unmeasured is never zero.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

from cytolabe.errors import CytolabeError, IntegrityError, RefusedError, UnreadableInputError
from cytolabe.ingest.census_experiment import CensusExperiment, digest_of_table, open_experiment
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.opened import Contents, OpenSource, StoredMatrix
from cytolabe.ingest.refusals import refusal
from cytolabe.ingest.tables import ContributedTable
from cytolabe.records import Finding, Severity
from cytolabe.store.names import Names

__all__ = ["DESCRIPTOR_SUFFIX", "CensusDescriptor", "CensusRows", "is_census", "open_census"]

DESCRIPTOR_SUFFIX = ".census.json"
_FORMAT = "cytolabe/census/1"
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class CensusDescriptor:
    """One data set of a query: all that has to be known to read it again, and what it was."""

    uri: str
    region: str
    organism: str
    release: str
    filter: str
    dataset_id: str
    n_cells: int
    cells_digest: str
    counts_digest: str

    def document(self) -> bytes:
        """Return the bytes of the file."""
        return (json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n").encode()


def is_census(path: Path) -> bool:
    """Tell whether a file is a descriptor, by its name and its content."""
    return (
        path.name.endswith(DESCRIPTOR_SUFFIX) and path.is_file() and _FORMAT.encode() in path.read_bytes()[:_MAX_BYTES]
    )


@contextmanager
def open_census(path: Path) -> Iterator[OpenSource]:
    """Open what a descriptor names for reading.

    Raises
    ------
    UnreadableInputError
        If the file is no descriptor.
    IntegrityError
        If the experiment holds other cells than when the descriptor was written.
    """
    told = _descriptor(path)
    with ExitStack() as cleanup:
        experiment = cleanup.enter_context(open_experiment(told.uri, organism=told.organism, region=told.region))
        cells = experiment.cells_of(told.filter, told.dataset_id)
        if digest_of_table(cells) != told.cells_digest:
            msg = f"{path.name}: the experiment at {told.uri} holds other cells of {told.dataset_id} than when it was asked. Ingest the query again."
            raise IntegrityError(msg)
        yield OpenSource(path, _contents(experiment, cells, told.dataset_id), cleanup)


def _descriptor(path: Path) -> CensusDescriptor:
    try:
        document = json.loads(path.read_bytes()[:_MAX_BYTES])
        return CensusDescriptor(**{key: value for key, value in document.items() if key != "format"})
    except (ValueError, TypeError, AttributeError) as error:
        finding = Finding(
            code="E-CENSUS-01",
            severity=Severity.ERROR,
            where=path.name,
            n_affected=1,
            n_total=1,
            message=f"This is no description of a query of the Census ({type(error).__name__}).",
            remedy="Delete the file and ingest the query again; such files are made by ingest, not by hand.",
            rule="cytolabe/sources",
        )
        raise refusal(UnreadableInputError, [finding]) from None


def _contents(experiment: CensusExperiment, cells: pa.Table, dataset_id: str) -> Contents:
    joinids = cells.column("soma_joinid").to_numpy()
    features, measured = experiment.features_of(dataset_id)
    sizes = _sizes(cells)
    handle = MatrixHandle(
        name="raw/X",
        shape=(len(joinids), len(features)),
        encoding="csr",
        dtype=experiment.counts_dtype,
        n_nonzero=None if sizes is None else int(sizes[-1]),
    )
    rows = CensusRows(experiment, joinids, features=features["soma_joinid"].to_numpy(), sizes=sizes)
    return Contents(
        cells=ContributedTable(names=_names(cells), columns=_columns(cells)),
        features={"var": _feature_table(features)},
        matrices=(StoredMatrix(handle=handle, features="var", open_rows=lambda _: rows),),
        findings=() if measured else (_nothing_says_what_was_measured(len(features)),),
    )


def _sizes(cells: pa.Table) -> np.ndarray | None:
    """Return entries before each cell where the table says them (`nnz`); they only plan how much is read at once."""
    if "nnz" not in cells.column_names or not pa.types.is_integer(cells.schema.field("nnz").type):
        return None
    sizes = cells.column("nnz").to_numpy()
    return np.concatenate([[0], np.cumsum(np.maximum(sizes, 0))]).astype(np.int64)


def _names(cells: pa.Table) -> Names:
    """Return `observation_joinid`, which the file at Discover has too, or `soma_joinid` where it is absent or missing."""
    if "observation_joinid" in cells.column_names:
        texts = cells.column("observation_joinid")
        texts = texts.cast(pa.string()) if not pa.types.is_dictionary(texts.type) else texts.cast(texts.type.value_type)
        if not texts.null_count:
            return Names(texts.cast(pa.string()))
    return Names(cells.column("soma_joinid").cast(pa.string()))


def _columns(cells: pa.Table) -> pd.DataFrame:
    """Return all columns; texts as categories, which a missing value is no part of."""
    columns: dict[str, pd.Series] = {}
    for name in cells.column_names:
        column = cells.column(name)
        if pa.types.is_large_string(column.type) or pa.types.is_string(column.type):
            column = column.cast(pa.string()).dictionary_encode()
        values = column.to_pandas()
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.cat.remove_unused_categories()
            values = values.cat.set_categories(pd.Index(values.cat.categories.to_list(), dtype=object))
        columns[name] = values
    return pd.DataFrame(columns, index=range(cells.num_rows))


def _feature_table(features: pd.DataFrame) -> ContributedTable:
    column = next((name for name in ("feature_id", "var_id", "feature_name") if name in features), "soma_joinid")
    names = tuple(str(name) for name in features[column])
    return ContributedTable(names=names, columns=features.drop(columns="soma_joinid").reset_index(drop=True))


def _nothing_says_what_was_measured(n_features: int) -> Finding:
    return Finding(
        code="W-CENSUS-02",
        severity=Severity.WARNING,
        where="ms/RNA",
        n_affected=n_features,
        n_total=n_features,
        message=f"The experiment has no feature_dataset_presence_matrix, so all {n_features:,} features count as measured.",
        remedy="If its data sets measured different genes, ingest their own files: an unmeasured gene is not a zero.",
        rule="cytolabe/features",
    )


class CensusRows:
    """Counts of the cells of one data set, read by runs of cells; the others are never read."""

    def __init__(
        self, experiment: CensusExperiment, joinids: np.ndarray, *, features: np.ndarray, sizes: np.ndarray | None
    ) -> None:
        self._experiment = experiment
        self._joinids = joinids
        self._features = features
        self._sizes = sizes

    def entries_before(self) -> np.ndarray | None:
        """Return the entries before each cell, as the table of cells says them, or None."""
        return self._sizes

    def read(self, start: int, stop: int) -> csr_matrix:
        """Return cells `start` to `stop` in the order of `soma_joinid`."""
        wanted = self._joinids[start:stop]
        rows, columns, values = self._experiment.counts_of(wanted)
        at = np.searchsorted(self._features, columns)
        known = at < len(self._features)
        known[known] = self._features[at[known]] == columns[known]
        if values[~known].any():
            raise _counts_of_unmeasured(int(np.count_nonzero(values[~known])), len(values))
        cells = np.searchsorted(wanted, rows[known])
        shape = (stop - start, len(self._features))
        block = csr_matrix((values[known], (cells, at[known])), shape=shape)
        block.sort_indices()
        return block


def _counts_of_unmeasured(n_affected: int, n_total: int) -> CytolabeError:
    finding = Finding(
        code="E-CENSUS-03",
        severity=Severity.ERROR,
        where="ms/RNA",
        n_affected=n_affected,
        n_total=n_total,
        message=f"{n_affected:,} counts belong to genes that the presence matrix says the data set did not measure.",
        remedy="Tell whoever made the experiment; ingest the data set's own file until one of the two is corrected.",
        rule="cytolabe/features",
    )
    return refusal(RefusedError, [finding])
