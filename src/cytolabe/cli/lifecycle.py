"""`cytolabe snapshot withdraw|purge|expire|gc|recover`: what changes an atlas and cleans it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytolabe.cli.options import AsJson, AtlasPath
from cytolabe.cli.output import print_document, print_pairs, progress
from cytolabe.errors import UsageError

if TYPE_CHECKING:
    from cytolabe.flow.recording import Step
    from cytolabe.snapshot.atlas import Atlas

__all__ = ["expire", "gc", "purge", "record_artifact", "record_run", "recover", "withdraw"]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")]


def withdraw(
    atlas: AtlasPath,
    person: Annotated[str, typer.Option(help="Person id, as `cytolabe reconcile` resolved it.")] = "",
    donor: Annotated[str, typer.Option(help="DATASET:DONOR, the donor of a data set, and the person behind it.")] = "",
    dataset: Annotated[str, typer.Option(help="Take a whole data set out of force instead.")] = "",
    as_json: AsJson = False,
) -> int:
    """Leave a person, or a data set, out of every snapshot from now on; nothing is deleted."""
    from cytolabe.provenance import jsonable
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.snapshot.withdraw import withdraw_person

    if sum(bool(word) for word in (person, donor, dataset)) != 1:
        msg = "withdraw needs one of --person ID, --donor DATASET:DONOR or --dataset ID."
        raise UsageError(msg)
    opened = open_atlas(atlas)
    document: dict[str, object]
    if dataset:
        document = {"dataset": dataset, "revision": opened.remove_dataset(dataset).number}
    else:
        name, mark, rest = donor.partition(":")
        if donor and not (mark and rest):
            msg = "--donor is DATASET:DONOR, for example kang:patient-7."
            raise UsageError(msg)
        progress()("looking for the cells of the person, and copies of them, in every data set")
        found = withdraw_person(opened, person_id=person, donor=(name, rest) if donor else None)
        document = {
            "withdrawal": found.withdrawal,
            "revision": found.revision,
            "n_cells": dict(found.n_cells),
            "snapshots": list(found.snapshots),
            "artifacts": jsonable(found.artifacts),
            "runs": [
                {"record_id": run.record_id, "kind": run.kind, "results": jsonable(run.results)} for run in found.runs
            ],
        }
    _print(document, as_json=as_json)
    return 0


def purge(
    atlas: AtlasPath,
    confirmed: Annotated[bool, typer.Option("--yes", help="Needed: what is purged cannot be had back.")] = False,
    as_json: AsJson = False,
) -> int:
    """Remove the cells of everybody who withdrew for good, and tell what was made of them."""
    from cytolabe.provenance import jsonable
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.snapshot.purge import purge_withdrawn

    if not confirmed:
        msg = "purge removes counts for good, also from snapshots that were frozen before. Say --yes if that is meant."
        raise UsageError(msg)
    done = purge_withdrawn(open_atlas(atlas))
    document = {
        "revision": done.revision,
        "withdrawals": list(done.withdrawals),
        "datasets": list(done.datasets),
        "n_cells": done.n_cells,
        "objects": list(done.objects),
        "snapshots": list(done.snapshots),
        "artifacts": jsonable(done.artifacts),
    }
    _print(document, as_json=as_json)
    return 0


def expire(
    atlas: AtlasPath,
    keep: Annotated[int, typer.Option(min=0, help="So many of the last revisions stay.")] = 0,
    older_than: Annotated[str, typer.Option(help="Only what is older goes: 12h, 30d, 4w.")] = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Drop old revisions; never the head, nor one whose snapshot has a tag or an artifact."""
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.snapshot.upkeep import expire_revisions, parse_age

    age = parse_age(older_than) if older_than else None
    gone = expire_revisions(open_atlas(atlas), keep=keep, older_than=age, dry_run=dry_run)
    _print({"dry_run": dry_run, "n_expired": len(gone), "expired": list(gone)}, as_json=as_json)
    return 0


def gc(
    atlas: AtlasPath,
    grace: Annotated[str, typer.Option(help="What is younger stays: 12h, 30d, 4w.")] = "7d",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Free what no revision, snapshot, artifact or running command reaches."""
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.snapshot.upkeep import free_unreachable, parse_age

    freed = free_unreachable(open_atlas(atlas), dry_run=dry_run, grace_seconds=parse_age(grace).total_seconds())
    document: dict[str, object] = {
        "dry_run": dry_run,
        "n_freed": len(freed.objects),
        "n_bytes": freed.n_bytes,
        "n_young": freed.n_young,
        "held_by": [f"{lease.host}:{lease.pid}" for lease in freed.held_by],
        "freed": list(freed.objects),
    }
    _print(document, as_json=as_json)
    return 0


def recover(
    atlas: AtlasPath,
    grace: Annotated[str, typer.Option(help="What is younger may be in use by somebody unknown: 12h, 30d, 4w.")] = "1h",
    as_json: AsJson = False,
) -> int:
    """Clean what a crash left, and finish what was interrupted; a second call finds nothing."""
    from cytolabe.provenance import jsonable
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.snapshot.upkeep import parse_age, recover_atlas

    found = recover_atlas(open_atlas(atlas), grace_seconds=parse_age(grace).total_seconds())
    names = ("staged", "scratches", "leases", "purged", "revisions", "snapshots")
    document: dict[str, object] = {name: jsonable(getattr(found, name)) for name in names}
    document["held_by"] = [f"{lease.host}:{lease.pid}" for lease in found.held_by]
    _print(document, as_json=as_json)
    return 0


def record_artifact(atlas: "Atlas", kind: str, made: "str | Path", *, snapshot_id: str, name: str = "") -> None:
    """Record in the atlas what was made of a snapshot; where the atlas cannot be written to, only say so."""
    try:
        atlas.register_artifact(kind, made, snapshot_id, name=name)
    except OSError as error:
        progress()(
            f"{kind} {name or made} is not recorded in the atlas ({error.strerror or error}): a withdrawal will not list it"
        )


def record_run(atlas: "Atlas", step: "Step", *, snapshot_id: str) -> None:
    """Write what a command did into the ledger of the atlas; where it cannot be written to, only say so."""
    from cytolabe.flow.recording import record_step

    try:
        record_step(atlas.layout, step, snapshot_id=snapshot_id)
    except OSError as error:
        progress()(f"{step.kind} is not recorded in the ledger of the atlas ({error.strerror or error})")


def _print(document: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_document(document)
    else:
        print_pairs(document)
