"""`cytolabe snapshot quality`: measure the quality of cells and say which are flagged."""

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

import typer

from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath, SnapshotName
from cytolabe.cli.output import print_document, print_table, progress

__all__ = ["quality"]

_COLUMNS = {
    "low_counts": "few counts", "low_genes": "few genes", "high_mt": "high MT", "low_nuclear": "low nuclear",
    "likely_doublet": "doublets",
}  # fmt: skip


def quality(
    atlas: AtlasPath,
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", help="Id of a data set; all of the snapshot by default.")
    ] = None,
    where: Annotated[
        str, typer.Option("--where", help="Tell of matching cells only: tissue = 'lung' and not sex is unknown.")
    ] = "",
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Measure quality per cell (counts, genes, mitochondrial share, doublet score per library) and flag; nothing is removed."""
    from cytolabe.flow.quality import quality_document, quality_of_snapshot, quality_where
    from cytolabe.snapshot.atlas import open_atlas

    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    found = quality_of_snapshot(opened.layout, frozen, datasets=datasets or (), on_progress=progress())
    if where:
        found = quality_where(frozen, found, where)
    document = quality_document(frozen, found) | ({"where": where} if where else {})
    if as_json:
        print_document(document)
        return 0
    rows = cast("list[Mapping[str, object]]", document["datasets"])
    print_table(["data set", "cells", "flagged", *_COLUMNS.values()], [_counted(row) for row in rows])
    for row in rows:
        _print_states(row)
        _print_purity(row)
    typer.echo(f"\nthresholds {document['thresholds']}; flags only: no cell is removed")
    return 0


def _counted(row: Mapping[str, object]) -> list[object]:
    flagged = cast("Mapping[str, int]", row["flagged"])
    return [row["dataset_id"], row["n_cells"], row["n_flagged"], *(flagged[name] for name in _COLUMNS)]


def _print_states(row: Mapping[str, object]) -> None:
    states = cast("Mapping[str, Mapping[str, str]]", row["states"])
    told = [[name, state["state"], state["reason"]] for name, state in states.items() if state["state"] != "measured"]
    if told:
        typer.echo(f"\n{row['dataset_id']}: what could not be assessed, or not whole")
        print_table(["measure", "state", "why"], told)


def _print_purity(row: Mapping[str, object]) -> None:
    """Print the purity of sorted gates; that of other labels is in the JSON document."""
    if "sorted" not in (row["label_origin"], row["label_origin_suspected"]):
        return
    typer.echo(f"\n{row['dataset_id']}: markers in sorted gates, and in other lineages at the depth of the gate")
    purity = cast("Sequence[Mapping[str, object]]", row["marker_purity"])
    print_table(
        ["gate", "cells", "lineage", "marker", "state", "in the gate", "elsewhere"],
        [
            [
                r["contributor_label"], r["n_cells"], r["lineage"], r["marker"], r["state"],
                _share(r["detected_fraction"]), _share(r["elsewhere_fraction"]),
            ]
            for r in purity
        ],
    )  # fmt: skip


def _share(value: object) -> str:
    return "" if value is None else f"{cast('float', value):.2f}"
