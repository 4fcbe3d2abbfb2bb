"""`cytolabe split`: divide the cells of a snapshot by whole groups."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath, Seed, SnapshotName
from cytolabe.cli.output import print_document, print_findings, print_table, progress, writable_file

if TYPE_CHECKING:
    from cytolabe.records import Finding

__all__ = ["split"]

_CLASSES_SHOWN = 12

By = Annotated[
    str,
    typer.Option(
        help="What no two sides share, joined by commas: component, person, donor, library, batch, dataset, study, "
        "assay, suspension_type, tissue, disease, site, time, perturbation, or contributed.COLUMN."
    ),
]
Leaks = Annotated[bool, typer.Option("--i-know-this-leaks", help="Let --by cells pass, stamped on every output of it.")]


def split(
    atlas: AtlasPath,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the split is written.")] = Path("split.json"),
    by: By = "component",
    test_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Hold out about this share once; 0 = leave each group out in turn.")
    ] = 0.0,
    folds: Annotated[
        int, typer.Option(min=0, help="Divide the groups into so many folds; 0 = one fold per group.")
    ] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Divide anew so many times.")] = 1,
    inner_folds: Annotated[
        int, typer.Option(min=0, help="Divide each training side again into so many folds (nested).")
    ] = 0,
    after: Annotated[str, typer.Option(help="Test on groups younger than this day (2024-06-30).")] = "",
    after_cutoff: Annotated[
        str, typer.Option(metavar="MODEL", help="The same for the cut-off of a model's card, or of a file x.json.")
    ] = "",
    time_column: Annotated[
        str, typer.Option(help="Contributors' column of the date of collection; else the date of the data set.")
    ] = "",
    perturbation: Annotated[str, typer.Option(help="Contributors' column of the perturbation: A, A+B, control.")] = "",
    unseen_perturbations: Annotated[
        bool,
        typer.Option("--unseen-perturbations", help="Hold out genes: single ones, and combinations by parts seen."),
    ] = False,
    control: Annotated[list[str] | None, typer.Option(help="Word for unperturbed cells. May be repeated.")] = None,
    seed: Seed = 0,
    leaks: Leaks = False,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Divide the cells of a snapshot by whole groups that share nothing."""
    from cytolabe.flow.split_records import split_step
    from cytolabe.flow.splitting import CONTROLS, AskedSplit, make_split, rule_asked
    from cytolabe.snapshot.access import declared_access
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.split import write_split

    writable_file(out, "--out")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    asked = AskedSplit(
        by=tuple(word.strip() for word in by.split(",")), test_fraction=test_fraction, n_folds=folds,
        n_repeats=repeats, n_inner=inner_folds, after=after, cutoff_model=after_cutoff, time_column=time_column,
        perturbation=perturbation, unseen=unseen_perturbations, controls=tuple(control or CONTROLS), leaks=leaks,
    )  # fmt: skip
    rule = rule_asked(frozen, asked)
    if not leaks:
        progress()(f"comparing {frozen.n_cells:,} cells, so that copies stay together")
    not_searched: list[Finding] = []
    plan = make_split(frozen, rule, seed=seed, on_finding=not_searched.append)
    document = write_split(plan, out, access=declared_access(frozen))
    record_artifact(opened, "split", out, snapshot_id=frozen.snapshot_id)
    record_run(opened, split_step(document, out), snapshot_id=frozen.snapshot_id)
    if as_json:
        # The document is that of the file, to the key.
        print_document(document)
        for finding in not_searched:
            typer.echo(f"{finding.code} {finding.where}: {finding.message}", err=True)
    else:
        _print_split(document)
        print_findings(not_searched)
        typer.echo(f"written to {out}")
    return 1 if any(finding["severity"] == "error" for finding in document["findings"]) else 0


def _print_split(document: dict[str, Any]) -> None:
    """Print the folds, and the classes that the fewest donors carry."""
    from cytolabe.records import Finding

    header = ["split", "train cells", "test cells", "status", "reason"]
    rows = [[f["split_id"], f["n_train"], f["n_test"], f["status"], f["reason"]] for f in document["splits"]]
    print_table(header, rows)
    if document["leaky"]:
        typer.echo("LEAKY: single cells were divided; persons, libraries and data sets are on both sides")
    classes = sorted(document["classes"], key=lambda row: (row["min_test_persons"], row["min_test_cells"]))
    if classes:
        columns = [
            "label",
            "n_cells",
            "n_persons",
            "n_groups",
            "min_test_cells",
            "min_test_persons",
            "min_train_persons",
        ]
        names = ["class", "cells", "donors", "groups", "least test cells", "least test donors", "least training donors"]
        print_table(names, [[row[key] for key in columns] for row in classes[:_CLASSES_SHOWN]])
        if len(classes) > _CLASSES_SHOWN:
            typer.echo(f"... and {len(classes) - _CLASSES_SHOWN} classes more, all in the file")
    print_findings([Finding(**{**f, "examples": tuple(f["examples"])}) for f in document["findings"]])
