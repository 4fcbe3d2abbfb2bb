"""Options that several commands share, so that one name always means one thing."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.files import Place, place_of

__all__ = [
    "AsJson",
    "AsRecorded",
    "AtlasInUse",
    "AtlasOrFile",
    "AtlasOrRun",
    "AtlasPath",
    "CachePath",
    "ModelOptions",
    "OptionalAtlas",
    "OutPath",
    "ReferenceAtlas",
    "Seed",
    "SnapshotName",
    "Workers",
    "model_options",
    "source_or_place",
    "told_model",
]

_CATALOGS = ("cellxgene:", "census:")
"""How names of remote sources begin; only these are worth loading what knows them."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
AsRecorded = Annotated[
    bool, typer.Option("--as-recorded", help="Open a snapshot although persons withdrew since: to reproduce a number.")
]
AtlasInUse = Annotated[
    Any, typer.Option("--atlas", parser=place_of, help="Tell, too, which labels of this atlas mean the term.")
]
AtlasOrFile = Annotated[
    Any,
    typer.Argument(
        metavar="ATLAS|FILE.h5ad",
        parser=place_of,
        help="An atlas or its URL, or a file with raw counts that is in none.",
    ),
]
AtlasPath = Annotated[
    Any,
    typer.Argument(metavar="ATLAS", parser=place_of, help="Directory of the atlas, or its URL: s3://bucket/prefix."),
]
"""A `files.Place`; typer knows no unions."""

OptionalAtlas = Annotated[
    Any,
    typer.Argument(
        metavar="[ATLAS|SOURCE]",
        parser=place_of,
        help="An atlas or its URL; or a file, folder or list of labels (.csv) in no atlas: then nothing is put in force.",
    ),
]
"""An atlas, or what could go into one, that a command can do without."""

AtlasOrRun = Annotated[
    Any, typer.Argument(metavar="PATH", parser=place_of, help="An atlas or its URL, or the output folder of a run.")
]
CachePath = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for what is fetched; CYTOLABE_CACHE or the user's cache by default."),
]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="An option of the model, as in a study: layer=-1."),
]
OutPath = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
ReferenceAtlas = Annotated[
    Any, typer.Option("--atlas", parser=place_of, help="The atlas, or its URL, with its labels reconciled.")
]
Seed = Annotated[int, typer.Option(min=0, help="The one seed of the run.")]
SnapshotName = Annotated[str, typer.Option("--snapshot", help="Tag or id of a snapshot, @revision, or a day.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the work; results do not depend on it.")]


def source_or_place(text: str) -> "str | Place":
    """Return the name of a remote source as it is, and everything else as a place."""
    if text.startswith(_CATALOGS):
        from cytolabe.flow.remote import is_remote

        return text if is_remote(text) else place_of(text)
    return place_of(text)


def told_model(model: str, checkpoint: object) -> str:
    """Return the name of a model, with that of its checkpoint where it has one."""
    return f"{model} ({Path(str(checkpoint)).name})" if checkpoint else model


def model_options(words: list[str]) -> dict[str, object]:
    """Return options of a model from `NAME=VALUE`: a value is read as in TOML, and as text where it is none.

    Raises
    ------
    UsageError
        If a word is no such pair.
    """
    import tomllib

    from cytolabe.errors import UsageError

    options: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            msg = f"--option {word}: write NAME=VALUE, for example --option layer=-1."
            raise UsageError(msg)
        try:
            options[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            options[name] = value
    return options
