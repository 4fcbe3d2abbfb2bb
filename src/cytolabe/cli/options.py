"""Options that several commands share, so that one name always means one thing."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.files import place_of

__all__ = ["AsJson", "AtlasOrRun", "AtlasPath", "OutPath", "Seed", "SnapshotName", "Workers"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
AtlasPath = Annotated[
    Any,
    typer.Argument(metavar="ATLAS", parser=place_of, help="Directory of the atlas, or its URL: s3://bucket/prefix."),
]
"""A `files.Place`; typer knows no unions."""

AtlasOrRun = Annotated[
    Any, typer.Argument(metavar="PATH", parser=place_of, help="An atlas or its URL, or the output folder of a run.")
]
OutPath = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Seed = Annotated[int, typer.Option(min=0, help="The one seed of the run.")]
SnapshotName = Annotated[str, typer.Option("--snapshot", help="Tag or id of a snapshot.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the work; results do not depend on it.")]
