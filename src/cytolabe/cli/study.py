"""Commands that run models: demo, benchmark, specification, embed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import (
    AsJson,
    AsRecorded,
    AtlasPath,
    CachePath,
    ModelOptions,
    OutPath,
    Seed,
    SnapshotName,
    Workers,
    model_options,
    told_model,
)
from cytolabe.cli.output import made_folder, print_document, print_findings, print_table, progress, writable_file

if TYPE_CHECKING:
    from cytolabe.flow.runs import FinishedRun

__all__ = ["benchmark", "demo", "embed", "specification"]

RecipePath = Annotated[
    Path | None,
    typer.Option(
        help="Another study file: its data sets, persons, levels, contexts and protocol, in place of the study's own."
    ),
]


def demo(
    out: OutPath = Path("demo-out"),
    data: Annotated[
        Path | None, typer.Option(help="A folder of your own h5ad files, in place of the simulation.")
    ] = None,
    seed: Seed = 0,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> int:
    """Run the main job on simulated contributions with planted faults, or on real files."""
    import dataclasses

    from cytolabe.flow.demo import DEMO_STUDY, run_demo
    from cytolabe.flow.runs import run_on_folder

    tell = progress()
    made_folder(out, "--out")
    if data is not None:
        finished = run_on_folder(data, out, seed=seed, n_workers=workers, on_progress=tell)
    else:
        study = dataclasses.replace(DEMO_STUDY, seed=seed)
        finished = run_demo(out, study=study, n_workers=workers, on_progress=tell)
    _print_run(finished, out, as_json=as_json)
    return finished.exit_code


def benchmark(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")],
    out: OutPath,
    data: Annotated[Path | None, typer.Option(help="Folder of the contributions, in place of the study's own.")] = None,
    recipe: RecipePath = None,
    cache: CachePath = None,
    ladder: Annotated[
        bool, typer.Option("--ladder", help="Run the models on random, person, batch, data-set and time splits, too.")
    ] = False,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> int:
    """Run a whole study: atlas, splits, audits, models, scores and the report."""
    from cytolabe.config import read_study, read_study_on_recipe
    from cytolabe.engine import naming_shortage
    from cytolabe.flow.runs import climbed, evidence_of_study, published

    made_folder(out, "--out")
    tell = progress()
    asked = read_study(study, data=data) if recipe is None else read_study_on_recipe(study, recipe=recipe, data=data)
    smaller = (
        f"Less: fewer --workers ({workers}), or fewer cells or models in {study.name}; fits that are done are taken up."
    )
    with naming_shortage(f"the study {study.name}", smaller=smaller):
        evidence = evidence_of_study(asked, out, cache=cache, n_workers=workers, on_progress=tell)
        finished = climbed(evidence, out, n_workers=workers, on_progress=tell) if ladder else published(evidence, out)
    _print_run(finished, out, as_json=as_json)
    return finished.exit_code


def specification(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")],
    out: OutPath,
    data: Annotated[Path | None, typer.Option(help="Folder of the contributions, in place of the study's own.")] = None,
    recipe: RecipePath = None,
    cache: CachePath = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> int:
    """Score a study under every gene policy, mapping set and refusal setting."""
    from cytolabe.config import read_study_on_recipe
    from cytolabe.config.study import read_study
    from cytolabe.flow.specification import run_specification, spread_table
    from cytolabe.flow.study import study_sources

    made_folder(out, "--out")
    tell = progress()
    asked = read_study(study, data=data) if recipe is None else read_study_on_recipe(study, recipe=recipe, data=data)
    sources = study_sources(asked, cache=cache, on_progress=tell)
    document = run_specification(asked, out, sources=sources, n_workers=workers, on_progress=tell)
    if as_json:
        print_document(document)
        return 0
    spread = spread_table(cast("list[dict[str, object]]", document["rows"]), level=asked.decision_level)
    print_table(list(spread.columns), spread.astype(object).where(spread.notna(), None).to_numpy().tolist())
    typer.echo(f"macro-F1 at level {asked.decision_level}, over all specifications: {out / 'specification.json'}")
    return 0


def embed(
    model: Annotated[
        str, typer.Argument(help="pca, harmony, scvi (with a checkpoint, too), or scgpt or geneformer with one.")
    ],
    atlas: AtlasPath,
    split: Annotated[Path, typer.Option("--split", help="The split whose training side the model is fitted on.")],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="x.parquet (cell_id, d0, d1, ...), or x.zarr, which a killed run goes on with."
        ),
    ],
    fold: Annotated[str, typer.Option(help="Which fold: its id, or its number from 1. The only one by default.")] = "",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of a checkpoint (geneformer: or hf:owner/name@COMMIT).")
    ] = None,
    expected: Annotated[
        str, typer.Option("--expect", help="Digest (sha256:...) that the weights of the checkpoint must have.")
    ] = "",
    option: ModelOptions = None,
    seed: Seed = 0,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Fit an embedding on the training side of a split and embed both sides."""
    from cytolabe.engine import naming_shortage
    from cytolabe.flow.split_records import embed_step
    from cytolabe.flow.splits import embed_fold
    from cytolabe.models.registry import smaller_options
    from cytolabe.snapshot.atlas import open_atlas

    if out.suffix == ".zarr":
        made_folder(out.parent, "--out")
    else:
        writable_file(out, "--out")
    given = {"checkpoint": checkpoint, "expected": expected}
    options = {**model_options(option or []), **{name: value for name, value in given.items() if value}}
    progress()(f"fitting {model} on the training side")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    smaller = f"Less: {smaller_options(model)} or a fold with fewer cells (--fold)."
    with naming_shortage(f"embedding the cells of {split.name} by {told_model(model, checkpoint)}", smaller=smaller):
        document, findings = embed_fold(
            frozen, model=model, split_file=split, fold_id=fold, seed=seed, out=out, **options
        )
    named = str(document["content"])
    record_artifact(opened, "embedding", named, snapshot_id=frozen.snapshot_id, name=out.name)
    record_run(
        opened, embed_step(document, split, out, seed=seed, checkpoint=checkpoint), snapshot_id=frozen.snapshot_id
    )
    if as_json:
        print_document(document)
    else:
        print_findings(findings)
        typer.echo(f"{document['n_cells']} cells x {document['n_dims']} dims: {out}")
    return 0


def _print_run(finished: "FinishedRun", out: Path, *, as_json: bool) -> None:
    if as_json:
        print_document(finished.document)
        return
    from rich.console import Console

    from cytolabe.report import faults_table, ladder_tables, leaderboard_table, sources_table, verdict_lines

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(sources_table(finished.content))
    for fold in finished.content.folds:
        console.print(leaderboard_table(finished.content, fold.split_id))
    if finished.content.planted_faults:
        console.print(faults_table(finished.content))
    for table in ladder_tables(finished.content):
        console.print(table)
    for line in verdict_lines(finished.content):
        console.print(line, markup=False)
    console.print(f"report: {out / 'report.html'}", markup=False)
