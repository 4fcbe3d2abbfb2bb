"""A study as the record of its run tells it: everything that was asked, with the files found again by name.

What is built has to say the same as the record, field by field; a study that cannot be built so is not run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.config.manifest import Manifest
from cytolabe.config.study import (
    JoinedSpec,
    LabelContextSpec,
    LevelSpec,
    ModelSpec,
    PersonSpec,
    Study,
    StudyDataset,
    StudyFile,
)
from cytolabe.errors import IntegrityError, UsageError
from cytolabe.flow.recording import parameters_of
from cytolabe.models.hub import HUB_PREFIX
from cytolabe.provenance import canonical_json
from cytolabe.provenance.differences import differences

__all__ = ["BESIDE_THE_STUDY", "found_by_name", "restored_study"]

BESIDE_THE_STUDY = ("levels_digest", "simulation")
"""Parameters of a run that are no part of its study."""

_PARTS: Mapping[str, type] = {
    "levels": LevelSpec,
    "context": LabelContextSpec,
    "persons": PersonSpec,
    "joined": JoinedSpec,
}


def restored_study(parameters: Mapping[str, Any], *, data: Sequence[Path]) -> Study:
    """Return the study of a run.

    Parameters
    ----------
    parameters
        The parameters of its record.
    data
        Folders in which data sets, files of models and checkpoints are looked for by name.

    Raises
    ------
    UsageError
        If a file is in none of the folders.
    IntegrityError
        If the record tells of something that this version does not know.
    """
    said = {key: value for key, value in parameters.items() if key not in BESIDE_THE_STUDY}
    try:
        parts: dict[str, Any] = {
            name: tuple(_record(cls, table) for table in said[name]) for name, cls in _PARTS.items()
        }
        parts["datasets"] = tuple(_dataset(table, data) for table in said["datasets"])
        parts["models"] = tuple(_model(table, data) for table in said["models"])
        if "limited_labels" in said:
            parts["limited_labels"] = _record(LimitedLabels, said["limited_labels"])
        parts["combined_from"] = tuple(_record(StudyFile, table) for table in said.get("combined_from", ()))
        study = Study(**{**{key: _frozen(value) for key, value in said.items()}, **parts})
    except (KeyError, TypeError) as error:
        msg = f"the record of the run tells of something that this version does not know ({error}); use the version that made it."
        raise IntegrityError(msg) from None
    again = parameters_of(study)
    if canonical_json(again) != canonical_json(said):
        first = next(iter(differences(said, again)), None)
        msg = f"the study cannot be built again from its record: {first.sentence if first else 'another order'}. Use the version that made it."
        raise IntegrityError(msg)
    return study


def found_by_name(name: str, data: Sequence[Path]) -> Path:
    """Return the file or folder of that name in one of some folders, or below.

    Raises
    ------
    UsageError
        If it is in none.
    """
    for folder in data:
        direct = folder / name
        if direct.exists():
            return direct
        below = sorted(path for path in folder.rglob(name))
        if below:
            return below[0]
    where = ", ".join(map(str, data)) or "no folder was named"
    msg = (
        f"{name}, which the run read, is not at hand ({where}). Name its folder: cytolabe reproduce RUN --data FOLDER."
    )
    raise UsageError(msg)


def _dataset(table: Mapping[str, Any], data: Sequence[Path]) -> StudyDataset:
    path = found_by_name(table["path"], data) if table["path"] is not None else None
    return StudyDataset(path=path, manifest=_record(Manifest, table["manifest"]), source=table["source"])


def _model(table: Mapping[str, Any], data: Sequence[Path]) -> ModelSpec:
    options = dict(table["options"])
    if "checkpoint" in options and not str(options["checkpoint"]).startswith(HUB_PREFIX):
        options["checkpoint"] = found_by_name(options["checkpoint"], data)
    if options.get("program"):
        options["program"] = found_by_name(options["program"], data)
    path = found_by_name(table["path"], data) if table["path"] is not None else None
    return ModelSpec(name=table["name"], kind=table["kind"], path=path, options=options)


def _record(cls: type, table: Mapping[str, Any]) -> Any:  # noqa: ANN401 - of the class that was asked for
    unknown = sorted(set(table) - {one.name for one in fields(cls)})
    if unknown:
        raise KeyError(unknown[0])
    return cls(**{key: _frozen(value) for key, value in table.items()})


def _frozen(value: object) -> object:
    """Return a JSON value as records hold it: lists are tuples."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in cast("list[object]", value))
    return value
