"""`cytolabe crate` and `cytolabe snapshot release`: runs and cells in the words that other tools read."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from cytolabe.cli.lifecycle import record_artifact
from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath, OutPath, SnapshotName
from cytolabe.cli.output import made_folder, print_document, print_pairs
from cytolabe.errors import UsageError

__all__ = ["crate", "release"]

Access = Annotated[
    str,
    typer.Option(help="Strictest access class that may leave: registered or managed; else open or undeclared only."),
]
Published = Annotated[str, typer.Option("--date", help="Day of publication (2026-03-01); today by default.")]


def crate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Output folder of a study.")],
    out: OutPath,
    published: Published = "",
    license_text: Annotated[str, typer.Option("--license", help="Terms of the crate: a name or an address.")] = "",
    access: Access = "",
    as_json: AsJson = False,
) -> int:
    """Copy the outputs of a run as a Process Run Crate (RO-Crate), after comparing every digest."""
    from cytolabe.flow.crates import METADATA, write_crate

    day = _day(published)
    made_folder(out.parent, "--out")
    document = write_crate(run, out, published=day, license_text=license_text, access=_known(access))
    entities = {entity["@id"]: entity for entity in document["@graph"]}
    told: dict[str, object] = {
        "crate": str(out / METADATA),
        "run": entities["./"]["identifier"],
        "n_files": len(entities["./"]["hasPart"]),
        "access": entities["./"]["conditionsOfAccess"],
    }
    if as_json:
        print_document(told)
    else:
        print_pairs(told)
    return 0


def release(
    atlas: AtlasPath,
    out: OutPath,
    where: Annotated[str, typer.Option("--where", help="Filter: tissue = 'lung' and n_counts >= 500")] = "",
    published: Published = "",
    access: Access = "",
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Write cells of a snapshot, their table and a Croissant description into a new folder."""
    from cytolabe.flow.releases import CROISSANT, write_release
    from cytolabe.provenance import digest_of
    from cytolabe.snapshot.atlas import open_atlas

    day = _day(published)
    made_folder(out.parent, "--out")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    document = write_release(frozen, out, published=day, where=where, access=_known(access))
    record_artifact(opened, "release", digest_of(document), snapshot_id=frozen.snapshot_id, name=out.name)
    told: dict[str, object] = {
        "snapshot_id": frozen.snapshot_id,
        "croissant": str(out / CROISSANT),
        "files": [file["name"] for file in document["distribution"]],
        "access": document["conditionsOfAccess"],
    }
    if as_json:
        print_document(told)
    else:
        print_pairs(told)
    return 0


def _day(text: str) -> dt.date:
    if not text:
        return dt.datetime.now(dt.UTC).date()
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        msg = f"--date {text!r} is no day; write it like 2026-03-01."
        raise UsageError(msg) from None


def _known(access: str) -> str:
    from cytolabe.records.access import ACCESS_CLASSES

    if access and access not in ACCESS_CLASSES:
        msg = f"--access {access} is none of {', '.join(ACCESS_CLASSES)}."
        raise UsageError(msg)
    return access
