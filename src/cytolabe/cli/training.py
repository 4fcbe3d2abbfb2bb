"""`cytolabe train`: a model from scratch on the training side of a split."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath, Seed, SnapshotName
from cytolabe.cli.output import made_folder, print_document, progress

__all__ = ["train"]


def train(
    model: Annotated[str, typer.Argument(help="geneformer or scgpt.")],
    atlas: AtlasPath,
    split: Annotated[Path, typer.Option("--split", help="The split whose training side is trained on.")],
    config: Annotated[Path, typer.Option("--config", help="The training file: preset, [network], [training].")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the model; a killed training there goes on.")],
    fold: Annotated[str, typer.Option(help="Which fold: its id, or its number from 1. The only one by default.")] = "",
    processes: Annotated[
        int,
        typer.Option(min=0, help="geneformer: processes that share the minibatches of a step; 0 = as the file says."),
    ] = 0,
    seed: Seed = 0,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Train a model from scratch on the training side of a split, and on nothing else."""
    import dataclasses

    from cytolabe.errors import UsageError
    from cytolabe.flow.pretrain import pretrain_geneformer, read_pretraining
    from cytolabe.flow.pretrain_scgpt import pretrain_scgpt, read_scgpt_training
    from cytolabe.flow.split_records import model_step
    from cytolabe.snapshot.atlas import open_atlas

    if model not in ("geneformer", "scgpt"):
        msg = f"There is no training of {model!r} here. Known: geneformer, scgpt."
        raise UsageError(msg)
    is_scgpt = model == "scgpt"
    asked: Any = read_scgpt_training(config) if is_scgpt else read_pretraining(config)
    if processes and is_scgpt:
        msg = "--processes is for geneformer; scgpt is trained by one process."
        raise UsageError(msg)
    asked = dataclasses.replace(asked, processes=processes) if processes else asked
    pretrain: Any = pretrain_scgpt if is_scgpt else pretrain_geneformer
    made_folder(out, "--out")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    document = pretrain(frozen, asked, split=(split, fold), seed=seed, out=out, on_progress=progress())
    record_artifact(opened, "model", str(document["weights"]), snapshot_id=frozen.snapshot_id, name=out.name)
    step = model_step(document, split, config, model=model, out=out, seed=seed)
    record_run(opened, step, snapshot_id=frozen.snapshot_id)
    if as_json:
        print_document(document)
    else:
        typer.echo(
            f"{document['n_steps']} steps on {document['n_cells']} cells, loss {document['loss']:.3f}: {out} (loss.svg)"
        )
    return 0
