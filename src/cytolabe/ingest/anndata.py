"""Read a group that is laid out as AnnData, in HDF5 or zarr: tables as delivered, matrices as streams of whole cells.

Scan the source first: this reader trusts that nothing leads out of it. It keeps to what is written there: nothing is
renamed, converted or left out without a finding. Old layouts (`raw.X`, compound tables) are read too.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.errors import RefusedError
from cytolabe.ingest.features import choose_features, kinds_of_features
from cytolabe.ingest.identity import digest_of
from cytolabe.ingest.joint_fits import joint_fits, joint_fits_finding
from cytolabe.ingest.matrices import MatrixHandle, RowReader, describe_matrix, obstacle_of, open_rows
from cytolabe.ingest.nodes import GroupNode, Node, is_array, is_group
from cytolabe.ingest.refusals import readable
from cytolabe.ingest.row_stream import RowStream
from cytolabe.ingest.simulated_stamp import SIMULATED
from cytolabe.ingest.tables import ContributedTable, plain_index, read_table, text_of
from cytolabe.records import Finding, Severity

__all__ = ["AnnDataSource", "said_beside"]

_NO = frozenset({"false", "0", "0.0", "no", "none", ""})
_KEPT = {"obs", "var", "X", "raw", "raw.X", "raw.var", "layers"}


class AnnDataSource(RowStream):
    """The `Source` over an AnnData group; it is valid inside the context that opened it.

    `part` is the modality whose group it is, or empty.
    """

    def __init__(self, path: Path, root: GroupNode, cleanup: ExitStack, *, part: str = "") -> None:
        self.path = path
        self._file = root
        self._cleanup = cleanup
        self._part = part
        super().__init__()
        self._uns = _group(root, "uns")

    def look(self) -> None:
        """Read the tables and describe the matrices, so that what contradicts itself is refused now."""
        _ = self._obs, self._described

    @cached_property
    def _obs(self) -> ContributedTable:
        return read_table(self._file["obs"], "obs", self._uns)

    @property
    def matrices(self) -> tuple[MatrixHandle, ...]:
        """The matrices whose shape agrees with the tables."""
        return self._described[0]

    @cached_property
    def source_digest(self) -> str:
        """`sha256:` and the digest of the bytes of the file, or of the files of a folder."""
        return "sha256:" + digest_of(self.path)

    @property
    def n_cells(self) -> int:
        """Rows of `obs`."""
        return len(self._obs.names)

    @property
    def cell_names(self) -> Sequence[str]:
        """Index of `obs`, as delivered."""
        return self._obs.names

    def names_of_cells(self, start: int, stop: int) -> tuple[str, ...]:
        """Return the names of cells `start` to `stop`, without reading the others where the file allows it."""
        if "_obs" in self.__dict__:
            return tuple(self.cell_names[start:stop])
        index = plain_index(self._file["obs"])
        if index is None:
            return tuple(self.cell_names[start:stop])
        with readable("obs"):
            return tuple(text_of(value) for value in index[start:stop])

    @property
    def cell_table(self) -> pd.DataFrame:
        """Columns of `obs` as delivered, rows 0..n-1; categories are text, a missing one is None. Do not modify."""
        return self._obs.columns

    @cached_property
    def uns_keys(self) -> tuple[str, ...]:
        """Names inside `uns`, sorted; a file that says that it is not simulated does not say that it is."""
        return said_beside(self._uns)

    @cached_property
    def title(self) -> str:
        """Title of the data set from `uns`, or an empty string."""
        title = self._uns_text("title")
        if title:
            return title
        try:
            corpora = json.loads(self._uns_text("corpora") or "{}")
        except json.JSONDecodeError:
            return ""
        return str(corpora.get("title", "")) if isinstance(corpora, dict) else ""

    @property
    def feature_findings(self) -> tuple[Finding, ...]:
        """What had to be decided for the names of the features, over all tables of features."""
        tables = sorted({_table_of(matrix.name) for matrix in self.matrices})
        return tuple(finding for table in tables for finding in self._features[table][1])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What could not be read or is not kept of the file."""
        return (*self._obs.findings, *self._described[1], *self._not_kept(), *self._joint_fits())

    def features(self, matrix: MatrixHandle) -> tuple[str, ...]:
        """Return one name per feature of a matrix, in its order."""
        return self._features[_table_of(matrix.name)][0]

    def feature_kinds(self, matrix: MatrixHandle) -> tuple[str, ...]:
        """Return what the file says that each feature is (`Gene Expression`, `Peaks`), or nothing."""
        return kinds_of_features(self._feature_tables[_table_of(matrix.name)].columns)

    def _open_rows(self, matrix: MatrixHandle) -> RowReader:
        return open_rows(self._nodes[matrix.name], matrix, self._cleanup)

    @cached_property
    def _nodes(self) -> Mapping[str, Node]:
        """Everything that could be a matrix, in the order in which raw counts are looked for."""
        nodes = {}
        raw = self._file.get("raw")
        if is_group(raw) and "X" in raw:
            nodes["raw/X"] = raw["X"]
        elif "raw.X" in self._file:
            nodes["raw/X"] = self._file["raw.X"]
        if "X" in self._file:
            nodes["X"] = self._file["X"]
        layers = self._file.get("layers")
        for name in sorted(layers) if is_group(layers) else ():
            nodes[f"layers/{name}"] = layers[name]
        return nodes

    @cached_property
    def _features(self) -> Mapping[str, tuple[tuple[str, ...], tuple[Finding, ...]]]:
        return {table: choose_features(read, table) for table, read in self._feature_tables.items()}

    @cached_property
    def _feature_tables(self) -> Mapping[str, ContributedTable]:
        found = {}
        for table in sorted({_table_of(name) for name in self._nodes}):
            node = self._file.get(table)
            if node is None and table == "raw/var":
                node = self._file.get("raw.var")
            found[table] = self._feature_table(table, node)
        return found

    def _feature_table(self, table: str, node: Node) -> ContributedTable:
        """Read a table of features; where there is none, or an empty one, count them."""
        if node is not None:
            try:
                return read_table(node, table, self._uns)
            except RefusedError:
                if is_array(node) or len(node):
                    raise
        n_features = max((_width(node) for name, node in self._nodes.items() if _table_of(name) == table), default=0)
        finding = Finding(
            code="W-FEATURE-03",
            severity=Severity.WARNING,
            where=table,
            n_affected=n_features,
            n_total=n_features,
            message=f"The file names none of its {n_features:,} features; they are counted from 0.",
            remedy="Write the gene ids into the index of var.",
            rule="cytolabe/features",
        )
        names = tuple(str(position) for position in range(n_features))
        return ContributedTable(names=names, columns=pd.DataFrame(index=range(n_features)), findings=(finding,))

    @cached_property
    def _described(self) -> tuple[tuple[MatrixHandle, ...], tuple[Finding, ...]]:
        """List the matrices whose shape agrees with the tables; every other one becomes a finding."""
        described, findings = [], []
        for name, node in self._nodes.items():
            matrix = describe_matrix(node, name, part=self._part)
            if matrix is None:
                if dict(node.attrs).get("encoding-type") != "null":
                    findings.append(_no_matrix(name, node))
                continue
            expected = (self.n_cells, len(self._features[_table_of(name)][0]))
            if matrix.shape != expected:
                findings.append(_wrong_shape(matrix, expected))
            else:
                described.append(matrix)
        return tuple(described), tuple(findings)

    def _uns_text(self, key: str) -> str:
        node = self._uns.get(key) if self._uns is not None else None
        if not is_array(node) or node.shape not in {(), (1,)} or node.dtype.kind not in "OS":
            return ""
        with readable(f"uns/{key}"):
            value = node[()]
        return text_of(value if node.shape == () else value.ravel()[0])

    def _joint_fits(self) -> tuple[Finding, ...]:
        """Name what was fitted on all cells of the file; no array of it is read."""
        found: list[str] = []
        for part in ("obsm", "obsp", "varm", "varp", "layers", "uns"):
            node = self._file.get(part)
            found += joint_fits(part, list(node)) if is_group(node) else ()
        for table, read in self._feature_tables.items():
            found += joint_fits(table.removeprefix("raw/"), list(map(str, read.columns.columns)))
        return joint_fits_finding(sorted(set(found)), self.path.name, n_cells=self.n_cells)

    def _not_kept(self) -> tuple[Finding, ...]:
        """Name what is delivered beside counts and tables: it is derived, and computed anew from the counts."""
        others: list[str] = []
        misplaced = {name for name in ("raw", "layers", "uns") if is_array(self._file.get(name))}
        for name in sorted((set(self._file) - _KEPT) | misplaced):
            node = self._file[name]
            others += [f"{name}/{key}" for key in sorted(node)] if is_group(node) else [name]
        if not others:
            return ()
        finding = Finding(
            code="N-H5AD-02",
            severity=Severity.NOTE,
            where=self.path.name,
            n_affected=len(others),
            n_total=len(others),
            examples=tuple(others[:5]),
            message=f"{len(others)} elements are not taken into the atlas ({', '.join(others[:5])}).",
            remedy="Nothing to do: embeddings and graphs are computed anew; the file itself is named by its digest.",
            rule="cytolabe/facts",
        )
        return (finding,)


def said_beside(said: GroupNode | None) -> tuple[str, ...]:
    """Return the names of what is said beside the tables, sorted; who says that a file is not simulated does not say that it is."""
    names = sorted(said) if said is not None else ()
    return tuple(name for name in names if name != SIMULATED or said is None or not _is_denied(said[name], name))


def _is_denied(node: Node, name: str) -> bool:
    if not is_array(node) or node.shape not in {(), (1,)}:
        return False
    with readable(name):
        value = np.ravel(node[()])[0]
    return text_of(value).strip().casefold() in _NO


def _group(root: GroupNode, name: str) -> GroupNode | None:
    node = root.get(name)
    return node if is_group(node) else None


def _table_of(matrix_name: str) -> str:
    return "raw/var" if matrix_name == "raw/X" else "var"


def _width(node: Node) -> int:
    matrix = describe_matrix(node, "")
    return matrix.shape[1] if matrix is not None else 0


def _no_matrix(name: str, node: Node) -> Finding:
    why = obstacle_of(node)
    return Finding(
        code="W-MATRIX-05",
        severity=Severity.WARNING,
        where=name,
        n_affected=1,
        n_total=1,
        examples=(why,),
        message=f"{name} is no matrix of numbers that can be read: {why}. It is left out.",
        remedy="If it holds the counts, write it as csr_matrix, csc_matrix or a dense array of numbers.",
        rule="cytolabe/matrix",
    )


def _wrong_shape(matrix: MatrixHandle, expected: tuple[int, int]) -> Finding:
    return Finding(
        code="E-MATRIX-06",
        severity=Severity.ERROR,
        where=matrix.name,
        n_affected=1,
        n_total=1,
        examples=(str(matrix.shape), str(expected)),
        message=(
            f"The matrix has {matrix.shape[0]:,} x {matrix.shape[1]:,} values, but the tables name {expected[0]:,} "
            f"cells and {expected[1]:,} features: which value belongs to which cell is not said."
        ),
        remedy="Write the file anew from the object that is right.",
        rule="cytolabe/matrix",
    )
