"""Read the HDF5 files of Cell Ranger: `matrix` since version 3, one group per genome before.

They hold features x cells by columns, which is cells x features by rows: cells stream without being turned over.
Everything is read through `genes_of_10x`, so that a matrix of the atlas holds genes of one genome.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from cytolabe.errors import RefusedError, UnreadableInputError
from cytolabe.ingest.genes_of_10x import choose_genes, choose_genome, empty_table
from cytolabe.ingest.hdf5_files import open_hdf5
from cytolabe.ingest.matrices import MatrixHandle, RowReader, obstacle_of_arrays, open_rows
from cytolabe.ingest.nodes import GroupNode, is_array, is_group
from cytolabe.ingest.opened import Contents, OpenSource, StoredMatrix
from cytolabe.ingest.refusals import readable, refusal
from cytolabe.ingest.rows import SelectedFeatures
from cytolabe.ingest.tables import ContributedTable, text_of
from cytolabe.records import Finding, Severity

__all__ = ["is_tenx", "open_tenx_h5"]

_FEATURE_COLUMNS = {"name": "gene_name", "feature_type": "feature_types", "genome": "genome"}


def is_tenx(root: GroupNode) -> bool:
    """Tell whether an HDF5 file was written by Cell Ranger."""
    return bool(_groups(root))


@contextmanager
def open_tenx_h5(path: Path, *, part: str = "") -> Iterator[OpenSource]:
    """Open a scanned 10x file for reading.

    Raises
    ------
    UnreadableInputError
        If bytes are damaged, or an array is missing.
    RefusedError
        If it has genes of several genomes and `part` names none, or its arrays contradict each other.
    """
    with ExitStack() as cleanup:
        with readable(path.name):
            file = cleanup.enter_context(open_hdf5(path))
            contents = _contents(path, file, part)
        yield OpenSource(path, contents, cleanup)


def _groups(root: GroupNode) -> dict[str, GroupNode]:
    return {
        name: root[name]
        for name in root
        if is_group(node := root[name]) and "barcodes" in node and ("features" in node or "genes" in node)
    }


def _contents(path: Path, file: h5py.File, part: str) -> Contents:
    groups = _groups(file)
    if list(groups) == ["matrix"]:
        group, wanted = groups["matrix"], part
    else:
        genome = choose_genome(sorted(groups), part=part, path=path)
        group, wanted = groups[genome], ""
    why = obstacle_of_arrays(group) or ("" if is_array(group.get("shape")) else "it has no array 'shape'")
    if why:
        raise _refused(UnreadableInputError, path, f"The matrix of 10x cannot be read: {why}.")
    barcodes, table = _texts(group, "barcodes"), _features(group)
    shape = [int(length) for length in np.asarray(group["shape"][...]).ravel()]
    if shape != [len(table.names), len(barcodes)]:
        message = f"Its shape says {shape}, but it names {len(table.names):,} features and {len(barcodes):,} cells."
        raise _refused(RefusedError, path, message)
    genes = choose_genes(table, part=wanted, path=path)
    whole = MatrixHandle(
        name="X", shape=(shape[1], shape[0]), encoding="csr", dtype=str(group["data"].dtype),
        n_nonzero=int(group["data"].shape[0]), part=part,
    )  # fmt: skip
    opening: Callable[[ExitStack], RowReader] = partial(open_rows, group, whole)
    chosen = StoredMatrix(handle=whole, features="features", open_rows=opening)
    if len(genes.positions) < shape[0]:
        handle = MatrixHandle(
            name="X", shape=(shape[1], len(genes.positions)), encoding="csr", dtype=whole.dtype,
            n_nonzero=whole.n_nonzero, part=part,
        )  # fmt: skip

        def open_genes(cleanup: ExitStack) -> RowReader:
            return SelectedFeatures(opening(cleanup), genes.positions, n_features=shape[0])

        chosen = StoredMatrix(handle=handle, features="features", open_rows=open_genes)
    return Contents(
        cells=empty_table(barcodes), features={"features": genes.table}, matrices=(chosen,), findings=genes.findings
    )


def _features(group: GroupNode) -> ContributedTable:
    """Read the table of features: a group since version 3, two arrays before."""
    if "genes" in group:
        names = _texts(group, "genes")
        columns = {"gene_name": _texts(group, "gene_names")} if "gene_names" in group else {}
    else:
        features = group["features"]
        names = _texts(features, "id")
        columns = {ours: _texts(features, theirs) for theirs, ours in _FEATURE_COLUMNS.items() if theirs in features}
    wrong = [name for name, values in columns.items() if len(values) != len(names)]
    if wrong:
        raise _refused(RefusedError, Path(group.name), f"{wrong[0]} has not one value for each feature.")
    return ContributedTable(names=names, columns=pd.DataFrame(columns, index=range(len(names)), dtype=object))


def _texts(group: GroupNode, name: str) -> tuple[str, ...]:
    node = group[name]
    if not is_array(node) or len(node.shape or ()) != 1:
        raise _refused(UnreadableInputError, Path(group.name), f"{name} is no list of names.")
    return tuple(text_of(value) for value in node[...])


def _refused(kind: type[UnreadableInputError | RefusedError], path: Path, message: str) -> Exception:
    finding = Finding(
        code="E-TENX-02",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        message=message,
        remedy="Copy the file again from the output of Cell Ranger, or write it anew.",
        rule="cytolabe/readable",
    )
    return refusal(kind, [finding])
