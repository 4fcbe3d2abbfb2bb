"""Apply a patch: a copy of the file with the operations done, never the file itself.

The copy is made beside its target, changed there, and takes its name only when every operation found what its `old`
says. What was applied stands in the copy: `uns['cytolabe_patches']` names the patch, the file it was applied to, and
the number of operations, a line for each patch, so that a chain of repairs can be followed back.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cytolabe.errors import ConflictError, IntegrityError, RefusedError, UsageError
from cytolabe.files import publish_file, sha256_of_file, staged_directory
from cytolabe.flow.delivered_table import text_of
from cytolabe.ingest.refusals import readable, refusal
from cytolabe.ingest.source import scan_source
from cytolabe.provenance.canonical import canonical_json
from cytolabe.validate.patch import Patch, read_patch

__all__ = ["RECORD_KEY", "Amended", "amend_file"]

RECORD_KEY = "cytolabe_patches"
_TEXT = h5py.string_dtype("utf-8")
_TABLES: Mapping[str, str] = {"obs": "obs", "var": "var", "raw.var": "raw/var"}


@dataclass(frozen=True, kw_only=True)
class Amended:
    """What became of a file."""

    out: Path
    sha256: str
    patch_digest: str
    source_sha256: str
    n_operations: int


def amend_file(path: Path, patch_path: Path, out: Path) -> Amended:
    """Write a copy of a file with a patch applied.

    Raises
    ------
    UsageError
        If the patch cannot be read, or `out` is the file itself.
    UnreadableInputError
        If the file is hostile or damaged.
    IntegrityError
        If the file is not the one the patch was made for, or an operation does not find what it should replace.
    ConflictError
        If there is a file of the name `out` already.
    """
    patch = read_patch(patch_path.read_bytes())
    if out.resolve() == path.resolve():
        msg = "-o names the file itself; a patch is never applied in place. Name another file."
        raise UsageError(msg)
    if out.exists():
        msg = f"{out} exists already, and nothing is written over. Name another file, or remove it."
        raise ConflictError(msg)
    found = scan_source(path)
    if found:
        raise refusal(RefusedError, found)
    sha256 = sha256_of_file(path)
    if sha256 != patch.source_sha256:
        msg = (
            f"{path.name} has sha256 {sha256[:12]}..., and the patch was made for {patch.source_sha256[:12]}... "
            f"({patch.source_name}). Make a patch for this file: cytolabe validate {path.name} --fix PATCH."
        )
        raise IntegrityError(msg)
    with staged_directory(out.parent) as folder:
        copy = folder / "amended.h5ad"
        shutil.copyfile(path, copy)
        with readable(path.name), h5py.File(copy, "r+", locking=False) as file:
            for number, operation in enumerate(patch.operations, start=1):
                _apply(file, operation, number)
            _record(file, patch)
        digest = sha256_of_file(copy)
        if not publish_file(copy, out):
            msg = f"somebody else wrote {out} meanwhile, and nothing is written over. Name another file."
            raise ConflictError(msg)
    return Amended(
        out=out,
        sha256=digest,
        patch_digest=patch.digest,
        source_sha256=sha256,
        n_operations=len(patch.operations),
    )


def _apply(file: h5py.File, operation: Mapping[str, object], number: int) -> None:
    try:
        _OPERATIONS[str(operation["op"])](file, operation)
    except _AbsentError as error:
        msg = f"operation {number} of the patch ({operation['op']}): {error}. Nothing was written."
        raise IntegrityError(msg) from None


class _AbsentError(Exception):
    """What an operation is about is not there, or is something else."""


def _replace_value(file: h5py.File, operation: Mapping[str, object]) -> None:
    """Give the rows with one value another; where that exists already as a category, the two become one."""
    table, name = _table(file, operation), str(operation["column"])
    old, new = str(operation["old"]), str(operation["new"])
    column = _column(table, name)
    if isinstance(column, h5py.Dataset):
        values = np.array([text_of(value) for value in column[...]], dtype=object)
        if old not in values:
            raise _AbsentError(_nowhere(name, old))
        values[values == old] = new
        _rewrite(table, name, values)
        return
    levels = [text_of(level) for level in column["categories"][...]]
    if old not in levels:
        raise _AbsentError(_nowhere(name, old))
    if new not in levels:
        levels[levels.index(old)] = new
        _rewrite(column, "categories", np.array(levels, dtype=object))
        return
    codes = column["codes"][...]
    codes[codes == levels.index(old)] = levels.index(new)
    column["codes"][...] = codes
    _drop_levels(column, {old})


def _drop_categories(file: h5py.File, operation: Mapping[str, object]) -> None:
    column = _column(_table(file, operation), str(operation["column"]))
    wanted = operation["old"]
    names = {str(level) for level in wanted} if isinstance(wanted, list) else {str(wanted)}
    if isinstance(column, h5py.Dataset):
        msg = "the column has no categories"
        raise _AbsentError(msg)
    _drop_levels(column, names)


def _drop_levels(column: h5py.Group, names: set[str]) -> None:
    """Remove categories that no row bears, and number the others anew."""
    levels = [text_of(level) for level in column["categories"][...]]
    codes = column["codes"][...]
    borne = {levels[code] for code in np.unique(codes) if code >= 0}
    if borne & names:
        msg = f"rows bear {min(borne & names)!r}"
        raise _AbsentError(msg)
    kept = [level for level in levels if level not in names]
    place = {level: number for number, level in enumerate(kept)}
    moved = np.array([place.get(level, -1) for level in levels] + [-1], dtype=codes.dtype)
    column["codes"][...] = moved[codes]
    _rewrite(column, "categories", np.array(kept, dtype=object))


def _drop_column(file: h5py.File, operation: Mapping[str, object]) -> None:
    table, name = _table(file, operation), str(operation["column"])
    _column(table, name)
    del table[name]
    order = [text_of(other) for other in np.atleast_1d(table.attrs["column-order"])]
    left = [other for other in order if other != name]
    table.attrs["column-order"] = np.array(left, dtype=_TEXT) if left else np.array([], dtype=np.float64)


def _rename_rows(file: h5py.File, operation: Mapping[str, object]) -> None:
    table = _table(file, operation)
    index = text_of(table.attrs["_index"])
    old, new = operation["old"], operation["new"]
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        msg = "old and new are not two lists of one length"
        raise _AbsentError(msg)
    names = np.array([text_of(value) for value in table[index][...]], dtype=object)
    places = {name: place for place, name in enumerate(names)}
    for before, after in zip(old, new, strict=True):
        if before not in places:
            raise _AbsentError(_nowhere("the index", str(before)))
        names[places[before]] = after
    if len(set(names)) < len(names):
        msg = "two rows would get one name"
        raise _AbsentError(msg)
    _rewrite(table, index, names)


def _set_uns(file: h5py.File, operation: Mapping[str, object]) -> None:
    uns, key, old = file.require_group("uns"), str(operation["key"]), operation["old"]
    there = text_of(uns[key][()]) if key in uns else None
    if there != old:
        msg = f"uns[{key!r}] is {there!r} instead of {old!r}"
        raise _AbsentError(msg)
    if key in uns:
        del uns[key]
    uns.create_dataset(key, data=str(operation["new"]), dtype=_TEXT)
    uns[key].attrs.update({"encoding-type": "string", "encoding-version": "0.2.0"})


def _drop_uns(file: h5py.File, operation: Mapping[str, object]) -> None:
    key = str(operation["key"])
    if key not in file["uns"]:
        raise _AbsentError(_nowhere("uns", key))
    del file["uns"][key]


_OPERATIONS: Mapping[str, Callable[[h5py.File, Mapping[str, object]], None]] = {
    "replace_value": _replace_value,
    "drop_categories": _drop_categories,
    "drop_column": _drop_column,
    "rename_rows": _rename_rows,
    "set_uns": _set_uns,
    "drop_uns": _drop_uns,
}


def _record(file: h5py.File, patch: Patch) -> None:
    """Say in the copy what was applied to what."""
    uns = file.require_group("uns")
    lines = [text_of(line) for line in uns[RECORD_KEY][...]] if RECORD_KEY in uns else []
    applied = {"patch": patch.digest, "source_sha256": patch.source_sha256, "n_operations": len(patch.operations)}
    lines.append(canonical_json(applied).decode())
    if RECORD_KEY in uns:
        del uns[RECORD_KEY]
    uns.create_dataset(RECORD_KEY, data=np.array(lines, dtype=object), dtype=_TEXT)
    uns[RECORD_KEY].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def _table(file: h5py.File, operation: Mapping[str, object]) -> h5py.Group:
    name = str(operation["table"])
    if name not in _TABLES or _TABLES[name] not in file:
        raise _AbsentError(_nowhere("the file", name))
    return file[_TABLES[name]]


def _column(table: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    if "/" in name or name not in table:
        raise _AbsentError(_nowhere(table.name, name))
    return table[name]


def _rewrite(parent: h5py.Group, name: str, texts: np.ndarray) -> None:
    """Put other texts under a name, with the attributes that were there."""
    attributes = dict(parent[name].attrs)
    del parent[name]
    parent.create_dataset(name, data=texts, dtype=_TEXT)
    parent[name].attrs.update(attributes)


def _nowhere(where: str, what: str) -> str:
    return f"{where} has no {what!r}"
