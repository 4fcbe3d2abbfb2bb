"""Decode `obs` and `var` of an AnnData file as they were written, over all encodings since version 0.6.

Values stay verbatim. Categories become text with None for a missing one; a column that cannot be decoded is a
finding, never left out in silence. What is known of old files: until 0.6 a table is one compound data set and
its categories lie in `uns/<column>_categories`; 0.7 keeps integer codes with a reference to `__categories/<column>`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa

from cytolabe.errors import CytolabeError, RefusedError
from cytolabe.ingest.native import native
from cytolabe.ingest.nodes import ArrayNode, GroupNode, Node, is_array, is_group
from cytolabe.ingest.refusals import readable, refusal
from cytolabe.records import Finding, Severity
from cytolabe.store.names import Names

__all__ = ["ContributedTable", "plain_index", "read_table", "text_of", "unread_finding"]

Values = pd.api.extensions.ExtensionArray | np.ndarray

_NAMES_AT_A_TIME = 1 << 14
_WRITE_PLAINLY = "Write them as plain text, numbers or categories if they are needed."
_UNREAD = "columns have an encoding that is not known, or are declared but absent"
_MANY_LEVELS = 1 << 16
"""Texts that differ, above which a column is text rather than categories."""
_OLD_INDEX_NAMES = ("index", "_index", "obs_names", "var_names")


@dataclass(frozen=True, kw_only=True)
class ContributedTable:
    """A table as delivered: one name per row, the columns, and what could not be read of it.

    The table of cells may have millions of rows: its texts are categories or Arrow text, never one object per cell.
    """

    names: Sequence[str]
    columns: pd.DataFrame
    findings: tuple[Finding, ...] = ()


def read_table(node: Node, where: str, uns: GroupNode | None) -> ContributedTable:
    """Read `obs` or `var`.

    Parameters
    ----------
    where
        Name of the table in findings.
    uns
        Where files of version 0.6 keep categories.

    Raises
    ------
    RefusedError
        If a column contradicts the table: another length, or a category code without a category.
    UnreadableInputError
        If bytes are damaged.
    """
    with readable(where):
        return _read_group(node, where) if is_group(node) else _read_compound(node, where, uns)


def text_of(value: object) -> str:
    """Return text as delivered; bytes are UTF-8, or Latin-1 where they cannot be."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return str(value)


def plain_index(node: Node) -> ArrayNode | None:
    """Return the index of a table where it is one array of texts that can be read in part, or None."""
    if not is_group(node):
        return None
    index = node.get(_index_name(node) or "_index")
    is_text = is_array(index) and len(index.shape or ()) == 1 and h5py.check_string_dtype(index.dtype) is not None
    return index if is_text else None


# --- groups: 0.7 and later ----------------------------------------------------------------------------------------


def _read_group(group: GroupNode, where: str) -> ContributedTable:
    index_name = _index_name(group)
    if not index_name:
        raise _refused(code="E-TABLE-01", where=where, message="The table has no index, so its rows have no names.")
    names = _index_of(group, index_name, where)
    declared = list(dict.fromkeys(text_of(name) for name in np.atleast_1d(group.attrs.get("column-order", []))))
    extra = sorted(
        set(group) - set(declared) - {index_name, "__categories"} - {name.split("/")[0] for name in declared}
    )
    columns: dict[str, pd.Series] = {}
    unread: list[str] = []
    for name in [*declared, *extra]:
        if name not in group:
            unread.append(f"{name} (declared, but not there)")
            continue
        values = _column(group[name], group, f"{where}[{name!r}]", is_compact=where == "obs")
        if values is None:
            unread.append(name)
            continue
        if len(values) != len(names):
            message = f"The column has {len(values):,} values for {len(names):,} rows."
            raise _refused(code="E-TABLE-02", where=f"{where}[{name!r}]", message=message)
        columns[name] = pd.Series(values, index=range(len(names)))
    table = pd.DataFrame(columns, index=range(len(names)))
    return ContributedTable(names=names, columns=table, findings=unread_finding(unread, len(columns), where))


def _index_name(group: GroupNode) -> str:
    name = text_of(group.attrs.get("_index", "_index"))
    return name if name in group else next((name for name in _OLD_INDEX_NAMES if name in group), "")


def _index_of(group: Node, index_name: str, where: str) -> Sequence[str]:
    index: Node = plain_index(group) if where == "obs" else None
    if index is not None and index.name.rsplit("/", 1)[-1] == index_name:
        chunks = list(_pieces_of_text(index))
        return Names(pa.chunked_array(chunks, type=pa.string()))
    values = _decoded(group[index_name], group, f"{where}/{index_name}")
    if values is None:
        raise _refused(code="E-TABLE-01", where=where, message="The index of the table cannot be decoded.")
    words = values.spelled() if isinstance(values, _Coded) else values
    return tuple(text_of(word) for word in words)


def _pieces_of_text(node: ArrayNode) -> Iterator[pa.Array]:
    """Read texts a piece at a time: an object per cell is held for the cells of one piece only."""
    for start in range(0, (node.shape or (0,))[0], _NAMES_AT_A_TIME):
        piece = node[start : start + _NAMES_AT_A_TIME]
        yield pa.array([text_of(value) for value in piece], type=pa.string())


def _column(node: Node, table: Node, where: str, *, is_compact: bool) -> Values | None:
    """Return a column, or None where its encoding is unknown; a compact one is never one object per row on the way."""
    if is_compact and _is_plain_text(node):
        return _compact_texts(pa.chunked_array(list(_pieces_of_text(node)), type=pa.string()))
    values = _decoded(node, table, where)
    if isinstance(values, _Coded):
        return values.compact() if is_compact else values.spelled()
    return _compact(values) if is_compact and values is not None else values


def _is_plain_text(node: Node) -> bool:
    """Tell whether a column is an axis of texts, and no codes that point to them."""
    is_text = is_array(node) and len(node.shape or ()) == 1 and h5py.check_string_dtype(node.dtype) is not None
    return is_text and node.attrs.get("categories") is None


def _compact_texts(texts: pa.ChunkedArray) -> Values:
    """Hold texts once each where they repeat, and in Arrow buffers where they do not."""
    coded = texts.dictionary_encode().combine_chunks()
    codes, levels = (
        (coded.indices, coded.dictionary) if len(texts) else (pa.array([], pa.int32()), pa.array([], pa.string()))
    )
    if len(levels) > _MANY_LEVELS:
        return pd.arrays.ArrowStringArray(texts)
    numbers = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    return pd.Categorical.from_codes(numbers, pd.Index(levels.to_pylist(), dtype=object))


def _compact(values: Values) -> Values:
    """Hold texts that come as objects compactly; numbers, and objects that are no text, stay as they are."""
    if values.dtype != object or not all(value is None or isinstance(value, str) for value in values):
        return values
    return _compact_texts(pa.chunked_array([pa.array(values, type=pa.string())]))


@dataclass(frozen=True, kw_only=True)
class _Coded:
    """A column of categories: the place of each row's word, -1 for none."""

    codes: np.ndarray
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def spelled(self) -> np.ndarray:
        """Return one object per row."""
        return np.array([*self.words, None], dtype=object)[self.codes.astype(np.int64)]

    def compact(self) -> Values:
        """Return the words that occur, each once and in the order in which they do, and a code per row."""
        first = {word: code for code, word in reversed(list(enumerate(self.words)))}
        merged = np.array([*(first[word] for word in self.words), -1], dtype=np.int32)[self.codes]
        found = pd.unique(merged)
        found = found[found >= 0]
        if len(found) > _MANY_LEVELS:
            codes = pa.array(merged, mask=merged < 0)
            return pd.arrays.ArrowStringArray(
                pa.DictionaryArray.from_arrays(codes, pa.array(self.words, pa.string())).dictionary_decode()
            )
        table = np.full(len(self.words) + 1, -1, dtype=np.min_scalar_type(-len(found) - 1))
        table[found] = np.arange(len(found))
        return pd.Categorical.from_codes(table[merged], pd.Index([self.words[code] for code in found], dtype=object))


def _decoded(node: Node, table: Node, where: str) -> "Values | _Coded | None":
    """Return the values of one column, or None where its encoding is unknown."""
    if is_group(node):
        if "codes" in node and "categories" in node:
            codes, categories = _plain(node["codes"]), _plain(node["categories"])
            return None if codes is None or categories is None else _categories(codes, categories, where)
        return _masked(node, where)
    reference = node.attrs.get("categories")
    if isinstance(reference, h5py.Reference) or (isinstance(reference, str) and "__categories" in table):
        # Zarr has no references: there the attribute is the path of the categories inside the whole.
        at = (
            table.file[reference]
            if isinstance(reference, h5py.Reference)
            else table["__categories"].get(PurePosixPath(reference).name)
        )
        codes, categories = _plain(node), None if at is None else _plain(at)
        return None if codes is None or categories is None else _categories(codes, categories, where)
    return _plain(node)


def _plain(node: Node) -> np.ndarray | None:
    """Return one axis of texts, numbers or truth values, or None where a node holds anything else."""
    if is_group(node):
        # Categories may themselves be a nullable string array.
        masked = _masked(node, node.name)
        return None if masked is None else np.asarray(masked, dtype=object)
    if len(node.shape or ()) != 1:
        return None
    enum = h5py.check_enum_dtype(node.dtype)
    if enum is not None and node.dtype.kind != "b":
        names = {int(code): str(name) for name, code in enum.items()}
        return np.array([names.get(int(code)) for code in node[...]], dtype=object)
    if node.dtype.kind == "S" or h5py.check_string_dtype(node.dtype) is not None:
        return np.array([text_of(value) for value in node[...]], dtype=object)
    return native(np.asarray(node[...])) if node.dtype.kind in "biuf" else None


def _categories(codes: np.ndarray, categories: np.ndarray, where: str) -> _Coded:
    if codes.dtype.kind not in "iu":
        message = f"The category codes are no integers ({codes.dtype}), so they point to no category."
        raise _refused(code="E-TABLE-03", where=where, message=message)
    wrong = np.flatnonzero((codes < -1) | (codes >= len(categories)))
    if len(wrong):
        message = (
            f"{len(wrong):,} of {len(codes):,} category codes have no category "
            f"(first at row {wrong[0]}: code {codes[wrong[0]]}, {len(categories)} categories)."
        )
        raise _refused(code="E-TABLE-03", where=where, message=message, rows=wrong.tolist())
    return _Coded(codes=codes, words=tuple(text_of(value) for value in categories))


def _masked(node: GroupNode, where: str) -> Values | None:
    """Return a nullable array, or None where the group is none."""
    parts = [_plain(node[part]) if is_array(node.get(part)) else None for part in ("values", "mask")]
    values, marks = parts
    if values is None or marks is None or marks.dtype.kind not in "biu":
        return None
    if len(values) != len(marks):
        message = f"{len(values):,} values have {len(marks):,} marks of what is missing."
        raise _refused(code="E-TABLE-02", where=where, message=message)
    mask = marks.astype(bool)
    if values.dtype.kind == "b":
        return pd.arrays.BooleanArray(values, mask)
    if values.dtype.kind in "iu":
        return pd.arrays.IntegerArray(values, mask)
    if values.dtype.kind == "f":
        return np.where(mask, np.nan, values)
    texts = values.astype(object)
    texts[mask] = None
    return texts


# --- compound data sets: until 0.6 --------------------------------------------------------------------------------


def _read_compound(dataset: ArrayNode, where: str, uns: GroupNode | None) -> ContributedTable:
    fields = dataset.dtype.names or ()
    index_name = next((name for name in _OLD_INDEX_NAMES if name in fields), "")
    if not index_name:
        raise _refused(code="E-TABLE-01", where=where, message="The table has no index, so its rows have no names.")
    rows = dataset[...]
    columns: dict[str, np.ndarray] = {}
    unread: list[str] = []
    for name in fields:
        values = rows[name]
        if name == index_name:
            continue
        if values.ndim != 1 or values.dtype.kind not in "biufSO":
            unread.append(name)
            continue
        categories = _categories_in_uns(uns, name) if values.dtype.kind in "iu" else None
        if categories is not None:
            columns[name] = _categories(values, categories, f"{where}[{name!r}]").spelled()
        elif values.dtype.kind in "SO":
            columns[name] = np.array([text_of(value) for value in values], dtype=object)
        else:
            columns[name] = native(values)
    names = tuple(text_of(value) for value in rows[index_name])
    table = pd.DataFrame(columns, index=range(len(names)))
    return ContributedTable(names=names, columns=table, findings=unread_finding(unread, len(columns), where))


def _categories_in_uns(uns: GroupNode | None, name: str) -> np.ndarray | None:
    node = uns.get(f"{name}_categories") if uns is not None else None
    if not is_array(node):
        return None
    if node.shape == ():
        return np.array([text_of(node[()])], dtype=object)
    return _plain(node)


# --- findings -----------------------------------------------------------------------------------------------------


def unread_finding(
    unread: list[str], n_read: int, where: str, *, why: str = _UNREAD, remedy: str = _WRITE_PLAINLY
) -> tuple[Finding, ...]:
    """Return what to say of columns that were not read, if there are any; `n_read` others were."""
    if not unread:
        return ()
    finding = Finding(
        code="W-TABLE-04",
        severity=Severity.WARNING,
        where=where,
        n_affected=len(unread),
        n_total=n_read + len(unread),
        examples=tuple(unread[:5]),
        message=f"{len(unread)} {why}: {', '.join(unread[:5])}.",
        remedy=remedy,
        rule="cytolabe/readable",
    )
    return (finding,)


def _refused(*, code: str, where: str, message: str, rows: Sequence[int] = ()) -> CytolabeError:
    finding = Finding(
        code=code,
        severity=Severity.ERROR,
        where=where,
        n_affected=max(1, len(rows)),
        n_total=max(1, len(rows)),
        examples=tuple(f"row {row}" for row in rows[:5]),
        message=message,
        remedy="Write the file anew with a current AnnData from the object that is right.",
        rule="cytolabe/readable",
    )
    return refusal(RefusedError, [finding])
