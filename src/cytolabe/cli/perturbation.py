"""`cytolabe perturb`: what a model's vectors do when genes are taken away, or ranked first."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import (
    AsJson,
    AsRecorded,
    AtlasPath,
    ModelOptions,
    Seed,
    SnapshotName,
    model_options,
    told_model,
)
from cytolabe.cli.output import print_document, print_table, progress, writable_file

__all__ = ["perturb"]

_Genes = "GENE[,GENE...]"


def perturb(
    atlas: AtlasPath,
    checkpoint: Annotated[Path, typer.Option(help="Folder of a Geneformer, or hf:owner/name@COMMIT.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="x.parquet or x.tsv: one row a gene or combination.")],
    delete: Annotated[str, typer.Option(metavar=_Genes, help="Take these genes away: symbols or Ensembl ids.")] = "",
    overexpress: Annotated[str, typer.Option(metavar=_Genes, help="Rank these genes first, in this order.")] = "",
    expected: Annotated[str, typer.Option("--expect", help="Digest (sha256:...) that the weights must have.")] = "",
    where: Annotated[str, typer.Option(help="Filter of the cells, as in snapshot query; all without it.")] = "",
    goal: Annotated[str, typer.Option(help="Filter of other cells whose mean vector is the goal of a shift.")] = "",
    combinations: Annotated[int, typer.Option(min=1, help="Genes together: 2 = each gene and each pair.")] = 1,
    cells: Annotated[int, typer.Option(min=1, help="Most cells, drawn by the seed; of the goal as well.")] = 200,
    matched: Annotated[
        int, typer.Option(min=0, help="Perturbations of like frequency and rank beside each; 0 = no p-value.")
    ] = 100,
    option: ModelOptions = None,
    seed: Seed = 0,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Delete genes in cells, or rank them first, and tell how far a Geneformer's vectors move beside matched genes."""
    from cytolabe.engine import naming_shortage
    from cytolabe.errors import UsageError
    from cytolabe.flow.perturb import AskedPerturbation, perturb_snapshot, perturb_step
    from cytolabe.snapshot.atlas import open_atlas

    if bool(delete) == bool(overexpress):
        msg = "give either --delete GENE[,GENE] or --overexpress GENE[,GENE]."
        raise UsageError(msg)
    writable_file(out, "--out")
    asked = AskedPerturbation(
        genes=[name.strip() for name in (delete or overexpress).split(",") if name.strip()],
        kind="delete" if delete else "overexpress", where=where, goal=goal, size=combinations, n_cells=cells,
        n_matched=matched, seed=seed,
    )  # fmt: skip
    options = {**model_options(option or []), "checkpoint": checkpoint, "expected": expected}
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    smaller = f"Less: fewer --cells ({cells}) or --matched ({matched}), or --option max_length=N."
    with naming_shortage(f"perturbing cells by {told_model('geneformer', checkpoint)}", smaller=smaller):
        document = perturb_snapshot(frozen, asked, out=out, on_progress=progress(), **options)
    record_artifact(opened, "perturbation", out, snapshot_id=frozen.snapshot_id, name=out.name)
    record_run(opened, perturb_step(document, asked, checkpoint=checkpoint, out=out), snapshot_id=frozen.snapshot_id)
    if as_json:
        print_document(document)
        return 0
    rows = cast("list[dict[str, Any]]", document["perturbations"])
    names = (
        "symbols",
        "measure",
        "n_cells",
        "n_persons",
        "effect",
        "effect_of_matched",
        "n_matched",
        "p_value",
        "q_value",
    )
    print_table(names, [[_short(row[name]) for name in names] for row in rows])
    typer.echo(f"{document['reading']}\n{out}")
    return 0


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
