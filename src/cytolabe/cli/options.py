"""Options that several commands share, so that one name always means one thing."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "AtlasPath", "OutPath", "Seed", "SnapshotName", "Workers"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
AtlasPath = Annotated[Path, typer.Argument(metavar="ATLAS", help="Directory of the atlas.")]
OutPath = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Seed = Annotated[int, typer.Option(min=0, help="The one seed of the run.")]
SnapshotName = Annotated[str, typer.Option("--snapshot", help="Tag or id of a snapshot.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the work; results do not depend on it.")]
