"""`cytolabe annotate`: labels for the cells of a file, with a confidence that was tested, or none."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import (
    AsJson,
    AsRecorded,
    ModelOptions,
    ReferenceAtlas,
    Seed,
    SnapshotName,
    model_options,
    told_model,
)
from cytolabe.cli.output import print_document, print_findings, print_table, progress, writable_file

__all__ = ["annotate"]


def annotate(
    query: Annotated[Path, typer.Argument(metavar="QUERY.h5ad", help="The file whose cells are named: raw counts.")],
    atlas: ReferenceAtlas,
    out: Annotated[Path, typer.Option("-o", "--out", help="The annotated copy, x.h5ad; a name that is not taken.")],
    report: Annotated[
        Path | None, typer.Option("--report", help="A page that says how far to trust it, x.html.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="A model that embeds a cell by itself: pca, or scgpt or geneformer with a checkpoint; or scanvi with a folder of train scanvi."
        ),
    ] = "pca",
    option: ModelOptions = None,
    precision: Annotated[
        float, typer.Option(help="The share of answers that is to be right, on held-out cells.")
    ] = 0.9,
    novel: Annotated[
        float, typer.Option(help="The share of cells of known types that may be called unlike all of them.")
    ] = 0.05,
    hold_out: Annotated[str, typer.Option(help="What is held out whole: person, or dataset.")] = "person",
    where: Annotated[
        str, typer.Option("--where", help="Learn from atlas cells that match only: tissue = 'lung'.")
    ] = "",
    open_types: Annotated[int, typer.Option(min=0, help="So many types, at most, are left out and asked for.")] = 12,
    prefix: Annotated[str, typer.Option(help="What the names of the columns begin with.")] = "cytolabe",
    seed: Seed = 0,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Name the cells of a file at the finest resolution that the evidence supports, or leave them unknown."""
    from cytolabe.engine import naming_shortage
    from cytolabe.evaluate.decisions import Wish
    from cytolabe.flow.annotate import AnnotationPlan, annotate_query, check_plan
    from cytolabe.flow.annotated_file import refuse_taken, write_annotated
    from cytolabe.flow.annotation_record import annotate_step, annotation_record
    from cytolabe.flow.answer_columns import COLUMNS
    from cytolabe.models.registry import smaller_options
    from cytolabe.report import write_annotation_page
    from cytolabe.snapshot.access import declared_access
    from cytolabe.snapshot.atlas import open_atlas

    plan = AnnotationPlan(
        model=model,
        options=model_options(option or []),
        wish=Wish(precision=precision, novel_fraction=novel),
        held_out=hold_out,
        where=where,
        max_open_types=open_types,
        seed=seed,
        prefix=prefix,
    )
    check_plan(plan)
    key = f"{prefix}_annotation"
    refuse_taken(query, writable_file(out, "--out"), [*(f"{prefix}_{name}" for name in COLUMNS), key])
    if report is not None:
        writable_file(report, "--report")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    smaller = f"Less: {smaller_options(model)} or fewer atlas cells (--where)."
    with naming_shortage(
        f"annotating {query.name} by {told_model(model, plan.options.get('checkpoint'))}", smaller=smaller
    ):
        made = annotate_query(frozen, query, plan, on_progress=progress())
    record = annotation_record(made, access=declared_access(frozen))
    write_annotated(query, out, made.columns, key=key, record=record)
    if report is not None:
        write_annotation_page(record, report)
    record_artifact(opened, "annotation", out, snapshot_id=frozen.snapshot_id, name=out.name)
    record_run(opened, annotate_step(record, made, out, report=report), snapshot_id=frozen.snapshot_id)
    document = {**record, "out": str(out), "report": None if report is None else str(report)}
    if not as_json:
        print_findings(made.findings)
    _print(document, as_json=as_json)
    return 0


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_document(document)
        return
    held, moved = document["held_out"], document["as_new_dataset"]
    print_table(
        ["answer", "term", "cells"],
        [[row["name"], row["term"], row["n_cells"]] for row in document["answers"]["terms"]],
    )
    typer.echo("")
    print_table(["what became of the cells", "cells"], list(document["answers"]["status"].items()))
    typer.echo("")
    tried = [("persons or units held out", held), *([("data sets left out", moved)] if moved is not None else [])]
    header = ["on atlas cells, with", "cells", "answered", "right", "calibration error", "before"]
    print_table(header, [
        [name, one["n_known"], f"{one['coverage']:.3f}", "" if one["precision"] is None else f"{one['precision']:.3f}", f"{one['ece']:.3f}", f"{one['ece_raw']:.3f}"]
        for name, one in tried
    ])  # fmt: skip
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(
        f"not evaluated: {len(document['not_evaluated'])} things, listed in the {'report' if document['report'] else 'record'}"
    )
    typer.echo(f"annotated: {document['out']}")
    if document["report"]:
        typer.echo(f"report: {document['report']}")
