"""`manifest.toml`: what a contributor says about the files beside it. Everything in it is optional.

Top-level keys hold for every file of the folder; a `[[dataset]]` table with `file = "x.h5ad"` adds to or overrides
them for one file. Three kinds of keys:

* facts about the whole file, such as `title` or `kit`;
* names of `obs` columns that carry a role: `label`, `label_parent`, `donor`, `batch`;
* values that hold for every cell, such as `assay` or `tissue`; where the cells differ, `assay_column` names the
  column instead. `donor_value` and `batch_value` are the constant forms of the column roles.
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.records.access import ACCESS_CLASSES

__all__ = ["LABEL_ORIGINS", "MANIFEST_NAME", "Manifest", "manifest_of", "read_manifests", "unknown_key_error"]

MANIFEST_NAME = "manifest.toml"
LABEL_ORIGINS = ("sorted", "genotype", "manual", "automated", "transferred", "simulated", "unknown")
"""Where labels come from (rule R7); `manual` means by hand from clusters, `simulated` that the cells are made up as well."""
_LONG_ORIGINS = {"manual-from-clusters": "manual"}
"""Longer words for the same; who writes one is understood."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was declared about one file. An empty string means that nothing was said."""

    id: str = ""
    title: str = ""
    organism: str = ""
    study: str = ""
    licence: str = ""
    access: str = ""
    citation: str = ""
    doi: str = ""
    collection: str = ""
    version: str = ""
    schema_version: str = ""
    source_url: str = ""
    date: str = ""
    collected: str = ""
    kit: str = ""
    library: str = ""
    reads: str = ""
    alignment: str = ""
    reference: str = ""
    pipeline: str = ""
    part: str = ""
    matrix: str = ""
    matrix_kind: str = ""
    label: str = ""
    label_parent: str = ""
    label_origin: str = ""
    label_tool: str = ""
    label_reference: str = ""
    unlabelled: tuple[str, ...] = ()
    donor: str = ""
    donor_value: str = ""
    batch: str = ""
    batch_value: str = ""
    assay: str = ""
    assay_column: str = ""
    suspension_type: str = ""
    suspension_type_column: str = ""
    tissue: str = ""
    tissue_column: str = ""
    disease: str = ""
    disease_column: str = ""
    sex: str = ""
    sex_column: str = ""
    site: str = ""
    site_column: str = ""

    def merged_with(self, other: "Manifest") -> "Manifest":
        """Return this manifest with everything that `other` says put on top."""
        said = {f.name: getattr(other, f.name) for f in dataclasses.fields(other) if getattr(other, f.name)}
        return dataclasses.replace(self, **said)


def manifest_of(table: Mapping[str, object], where: str) -> Manifest:
    """Turn a TOML table into a `Manifest`.

    Raises
    ------
    UsageError
        If a key is unknown, or a value has the wrong type or is none of the allowed words.
    """
    names = [f.name for f in dataclasses.fields(Manifest)]
    values: dict[str, str | tuple[str, ...]] = {}
    for key, value in table.items():
        if key not in names:
            raise unknown_key_error(key, names, where)
        if key == "unlabelled":
            values[key] = _strings(value, f"{where}: {key}")
        elif isinstance(value, str):
            values[key] = value
        else:
            # A TOML date is the one value that people write unquoted and that has an obvious text.
            values[key] = _date_text(value, f"{where}: {key}")
    origin = values.get("label_origin", "")
    if isinstance(origin, str) and origin in _LONG_ORIGINS:
        origin = values["label_origin"] = _LONG_ORIGINS[origin]
    if origin and origin not in LABEL_ORIGINS:
        msg = f"{where}: label_origin = {origin!r} is none of {', '.join(LABEL_ORIGINS)}."
        raise UsageError(msg)
    access = values.get("access", "")
    if access and access not in ACCESS_CLASSES:
        msg = f"{where}: access = {access!r} is none of {', '.join(ACCESS_CLASSES)}."
        raise UsageError(msg)
    return Manifest(**values)  # type: ignore[arg-type]


def read_manifests(directory: Path) -> dict[str, Manifest]:
    """Read `manifest.toml` of a folder: file name -> manifest, with `""` for files that have no table of their own.

    A folder without the file gives one empty manifest under `""`.
    """
    path = directory / MANIFEST_NAME
    if not path.exists():
        return {"": Manifest()}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not readable as TOML ({error})."
        raise UsageError(msg) from None
    tables = document.pop("dataset", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        msg = f"{path}: 'dataset' must be [[dataset]] tables, one for each file."
        raise UsageError(msg)
    shared = manifest_of(document, str(path))
    found = {"": shared}
    for table in tables:
        file = table.pop("file", None)
        if not isinstance(file, str):
            msg = f"{path}: a [[dataset]] table has no file = '...'; it would belong to no file."
            raise UsageError(msg)
        if file in found:
            msg = f"{path}: {file} has two [[dataset]] tables."
            raise UsageError(msg)
        found[file] = shared.merged_with(manifest_of(table, f"{path}: {file}"))
    return found


def unknown_key_error(key: str, names: list[str], where: str) -> UsageError:
    """Return the error for a key that nobody knows, with the nearest known one."""
    near = difflib.get_close_matches(key, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else f" Known keys: {', '.join(names)}."
    return UsageError(f"{where}: unknown key {key!r}.{hint}")


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        msg = f"{where} must be a list of strings."
        raise UsageError(msg)
    return tuple(value)


def _date_text(value: object, where: str) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    msg = f"{where} must be a string, not {type(value).__name__}."
    raise UsageError(msg)
