"""`cytolabe snapshot`: freeze the state of an atlas, list what was frozen, tell what changed."""

from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from cytolabe.cli import exchange as exchange_commands
from cytolabe.cli import lifecycle as lifecycle_commands
from cytolabe.cli import quality as quality_commands
from cytolabe.cli import query as query_commands
from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath
from cytolabe.cli.output import print_document, print_pairs, print_table, progress

__all__ = ["snapshot_app"]


class _SnapshotGroup(TyperGroup):
    """`snapshot ATLAS` freezes; `snapshot list ATLAS` and `snapshot diff ATLAS A B` look."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer exports no name for it
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["freeze", *args]
        return super().parse_args(ctx, args)


snapshot_app = typer.Typer(
    cls=_SnapshotGroup, help="Freeze the state of an atlas (snapshot ATLAS), list and compare snapshots.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip


@snapshot_app.command("freeze")
def freeze(
    atlas: AtlasPath,
    tag: Annotated[str, typer.Option(help="A name for the snapshot; it is never moved to another one.")] = "",
    as_json: AsJson = False,
) -> int:
    """Freeze the state of an atlas; `snapshot ATLAS` is short for it."""
    from cytolabe.snapshot.atlas import open_atlas

    opened = open_atlas(atlas)
    snapshot = opened.freeze(tag=tag)
    if snapshot.datasets and not snapshot.mappings:
        progress()(
            f"no label is mapped yet: run cytolabe reconcile {atlas}, then freeze again, before anything is scored"
        )
    document: dict[str, object] = {
        "snapshot_id": snapshot.snapshot_id,
        "revision": opened.revision,
        "tag": tag or None,
        # An atlas without data sets has a snapshot, too; it has no table of cells to count.
        "n_cells": sum(record.n_cells for record in snapshot.datasets.values()),
        "n_datasets": len(snapshot.datasets),
    }
    if as_json:
        print_document(document)
    else:
        print_pairs(document)
    return 0


@snapshot_app.command("list")
def list_snapshots(atlas: AtlasPath, as_json: AsJson = False) -> int:
    """List the snapshots of an atlas with their tags, and the revision and time at which each was frozen first."""
    from cytolabe.snapshot.atlas import open_atlas

    opened = open_atlas(atlas)
    rows: list[dict[str, object]] = []
    for snapshot_id, revision in opened.freezes().items():
        tags = [tag for tag, named in opened.tags.items() if named == snapshot_id]
        rows.append(
            {"snapshot_id": snapshot_id, "tags": tags, "revision": revision.number, "time": revision.time or None}
        )
    if as_json:
        print_document({"snapshots": rows, "revision": opened.revision})
    else:
        header = ["snapshot", "tags", "revision", "time"]
        shown = [
            [row["snapshot_id"], ", ".join(cast("list[str]", row["tags"])), row["revision"], row["time"]]
            for row in rows
        ]
        print_table(header, shown)
    return 0


@snapshot_app.command("diff")
def diff(
    atlas: AtlasPath,
    first: Annotated[str, typer.Argument(help="Tag, id or its first 12 digits, @revision, or a day.")],
    second: Annotated[str, typer.Argument(help="Tag, id or its first 12 digits, @revision, or a day.")],
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Tell what changed from one snapshot to another."""
    from cytolabe.flow.interpret import diff_document

    document = diff_document(atlas, first, second, as_recorded=as_recorded)
    if as_json:
        print_document(document)
        return 0
    print_pairs({key: value for key, value in document.items() if key != "relabeled"})
    rows = cast("list[dict[str, object]]", document["relabeled"])
    if rows:
        typer.echo("")
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    return 0


snapshot_app.command("query")(query_commands.query)
snapshot_app.command("quality")(quality_commands.quality)
snapshot_app.command("export")(query_commands.export)
snapshot_app.command("release")(exchange_commands.release)
snapshot_app.command("withdraw")(lifecycle_commands.withdraw)
snapshot_app.command("purge")(lifecycle_commands.purge)
snapshot_app.command("expire")(lifecycle_commands.expire)
snapshot_app.command("gc")(lifecycle_commands.gc)
snapshot_app.command("recover")(lifecycle_commands.recover)
