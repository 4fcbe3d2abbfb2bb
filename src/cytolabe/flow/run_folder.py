"""The folder of a run: its record, and the atlas inside."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.provenance import digest_of
from cytolabe.snapshot.layout import Layout

__all__ = ["ATLAS", "RUN_RECORD", "RunFolder", "read_run_folder"]

RUN_RECORD = "run.json"
ATLAS = "atlas"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run that ended. `body` is its record without `record_id`, and has that digest."""

    path: Path
    record_id: str
    body: Mapping[str, Any]

    @property
    def layout(self) -> Layout:
        """Where the atlas of the run lies, if it was kept."""
        return Layout(self.path / ATLAS)

    @property
    def has_atlas(self) -> bool:
        """Whether the atlas is there."""
        return self.layout.marker.exists()

    def document(self, name: str) -> dict[str, Any]:
        """Return one of the JSON files of the run.

        Raises
        ------
        IntegrityError
            If it is missing or no JSON object.
        """
        try:
            found = json.loads((self.path / name).read_bytes())
        except (OSError, ValueError) as error:
            msg = f"{name} of {self.path} cannot be read ({error}); `cytolabe verify` tells what else was changed."
            raise IntegrityError(msg) from None
        if not isinstance(found, dict):
            msg = f"{name} of {self.path} is no JSON object; `cytolabe verify` tells what else was changed."
            raise IntegrityError(msg)
        return cast("dict[str, Any]", found)


def read_run_folder(path: Path) -> RunFolder:
    """Read the record of a run; `path` is its folder, or the record itself.

    Raises
    ------
    UsageError
        If there is none.
    IntegrityError
        If the record was edited.
    """
    folder = path.parent if path.name == RUN_RECORD else path
    if not (folder / RUN_RECORD).is_file():
        msg = (
            f"{path} is not the folder of a run: it has no {RUN_RECORD}. `cytolabe benchmark` writes one when it ends."
        )
        raise UsageError(msg)
    found = RunFolder(path=folder, record_id="", body={}).document(RUN_RECORD)
    record_id = str(found.pop("record_id", ""))
    if digest_of(found) != record_id:
        msg = f"{folder / RUN_RECORD} does not have the digest that it states: it was edited. `cytolabe verify` tells where."
        raise IntegrityError(msg)
    return RunFolder(path=folder, record_id=record_id, body=found)
