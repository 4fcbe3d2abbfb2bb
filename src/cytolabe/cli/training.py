"""`cytolabe train`: a model from scratch, or a fine-tuned one, on the training side of a split."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath, Seed, SnapshotName
from cytolabe.cli.output import made_folder, print_document, print_table, progress

__all__ = ["train"]

_SHARED = ("geneformer", "scgpt")
"""Trainings whose steps several processes can share."""

_ASKED = ("geneformer_cells", "scanvi")
"""Trainings that can be told which labels to learn."""


def train(
    model: Annotated[
        str,
        typer.Argument(
            help="geneformer, scgpt, scvi, scanvi, geneformer_cells (tasks of cells), or geneformer_genes (classes of genes)."
        ),
    ],
    atlas: AtlasPath,
    split: Annotated[Path, typer.Option("--split", help="The split whose training side is trained on.")],
    config: Annotated[Path, typer.Option("--config", help="The training file: preset, [network], [training].")],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="Folder of the model; a killed training there goes on (scvi, scanvi begin again)."
        ),
    ],
    fold: Annotated[str, typer.Option(help="Which fold: its id, or its number from 1. The only one by default.")] = "",
    processes: Annotated[
        int,
        typer.Option(
            min=0, help="geneformer, scgpt: processes that share the minibatches of a step; 0 = as the file says."
        ),
    ] = 0,
    engine: Annotated[
        str, typer.Option(help="geneformer, scgpt: whose processes they are: local, or workers of a Ray cluster (ray).")
    ] = "local",
    address: Annotated[str, typer.Option(help="A Ray cluster: host:port, or auto; without it one is started.")] = "",
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="geneformer_cells, scanvi: what to ask (cell_type, disease, sex, tissue, contributed.COLUMN); repeat it for geneformer_cells.",
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="geneformer_cells: the Geneformer to start from, in place of the file's.")
    ] = "",
    seed: Seed = 0,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Train a model from scratch, or fine-tune one, on the training side of a split, and on nothing else."""
    import dataclasses

    from cytolabe.engine import naming_shortage
    from cytolabe.flow.split_records import model_step
    from cytolabe.flow.training_files import TrainingOrder
    from cytolabe.snapshot.atlas import open_atlas

    read, pretrain = _training_of(model)
    means = {"processes": processes, "engine": engine, "address": address}
    asked = _with_options(read(config), model, means=means, task=tuple(task or ()), checkpoint=checkpoint)
    made_folder(out, "--out")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    order = TrainingOrder(split=split, fold=fold, seed=seed, out=out, on_progress=progress())
    with naming_shortage(f"training {model} of {config.name} on {split.name}", smaller=_smaller(model, config)):
        document = pretrain(frozen, asked, order)
    record_artifact(opened, "model", str(document["weights"]), snapshot_id=frozen.snapshot_id, name=out.name)
    step = model_step(document, split, config, model=model, out=out, seed=seed)
    if model in ("geneformer_genes", "geneformer_cells"):
        step = dataclasses.replace(step, inputs=[*step.inputs, *asked.artifacts])
    record_run(opened, step, snapshot_id=frozen.snapshot_id)
    if as_json:
        print_document(document)
    else:
        printed = {
            "geneformer_genes": _print_genes,
            "geneformer_cells": _print_cells,
            "scvi": _print_scvi,
            "scanvi": _print_scanvi,
        }
        printed.get(model, _print_steps)(document)
    return 0


def _with_options(
    asked: Any, model: str, *, means: dict[str, Any], task: tuple[str, ...], checkpoint: str  # noqa: ANN401 - of any model
) -> Any:  # fmt: skip # noqa: ANN401
    """Return what a training file asks for with what the command says in its place."""
    import dataclasses

    from cytolabe.errors import UsageError

    if (means["processes"] or means["engine"] != "local" or means["address"]) and model not in _SHARED:
        msg = f"--processes, --engine and --address are for {' and '.join(_SHARED)}; {model} is trained by one process here."
        raise UsageError(msg)
    if task and model not in _ASKED:
        msg = f"--task is for {' and '.join(_ASKED)}; {model} learns no label, or takes it from its training file."
        raise UsageError(msg)
    if checkpoint and model != "geneformer_cells":
        msg = f"--checkpoint is for geneformer_cells; {model} takes it from its training file, or not at all."
        raise UsageError(msg)
    if model in _SHARED:
        asked = dataclasses.replace(asked, **{**means, "processes": means["processes"] or asked.processes})
    if task:
        asked = dataclasses.replace(asked, tasks=task)
    if checkpoint:
        asked = dataclasses.replace(asked, learning=dataclasses.replace(asked.learning, checkpoint=checkpoint))
    return asked


_KEYS = {
    "geneformer": "minibatch or preset", "scgpt": "tokens_per_minibatch, max_length or preset", "scvi": "n_top_genes or n_hidden", "scanvi": "n_top_genes or n_hidden",
    "geneformer_cells": "minibatch or max_length", "geneformer_genes": "minibatch or max_length",
}  # fmt: skip
"""What makes a training smaller in its file."""


def _smaller(model: str, config: Path) -> str:
    return f"Write a smaller {_KEYS[model]} into {config.name}; a training that saved its state goes on with its own file alone."


def _training_of(model: str) -> tuple[Any, Any]:
    """Return what reads the training file of a model, and what trains it."""
    from cytolabe.errors import UsageError

    if model == "geneformer":
        from cytolabe.flow.pretrain import pretrain_geneformer, read_pretraining

        return read_pretraining, pretrain_geneformer
    if model == "scgpt":
        from cytolabe.flow.pretrain_scgpt import pretrain_scgpt, read_scgpt_training

        return read_scgpt_training, pretrain_scgpt
    if model == "scvi":
        from cytolabe.flow.pretrain_scvi import pretrain_scvi, read_scvi_training

        return read_scvi_training, pretrain_scvi
    if model == "scanvi":
        from cytolabe.flow.pretrain_scanvi import pretrain_scanvi, read_scanvi_training

        return read_scanvi_training, pretrain_scanvi
    if model == "geneformer_genes":
        from cytolabe.flow.gene_classes import read_gene_training, train_gene_classes

        return read_gene_training, train_gene_classes
    if model == "geneformer_cells":
        from cytolabe.flow.cell_tasks import read_cell_training, train_cell_tasks

        return read_cell_training, train_cell_tasks
    msg = f"There is no training of {model!r} here. Known: geneformer, scgpt, scvi, scanvi, geneformer_cells, geneformer_genes."
    raise UsageError(msg)


def _print_steps(document: dict[str, Any]) -> None:
    told = f"{document['n_steps']} steps on {document['n_cells']} cells, loss {document['loss']:.3f}"
    typer.echo(f"{told}: {document['model']} (loss.svg)")
    if document["floor_loss"] is not None:
        held, floor = document["held_out_loss"], document["floor_loss"]
        naive = "the mean of each gene" if "hidden_values" in document else "gene frequencies"
        typer.echo(f"hidden genes of held-out cells: loss {held:.3f}, of {naive} alone {floor:.3f}")


def _print_scvi(document: dict[str, Any]) -> None:
    read = f"{document['n_read_genes']} of {document['n_genes']} genes"
    typer.echo(f"{document['n_cells']} cells, {read}, {document['n_dims']} dims: {document['model']}")
    for note in document["notes"]:
        typer.echo(f"note: {note}")


def _print_scanvi(document: dict[str, Any]) -> None:
    print_table(
        ["class", "name", "training cells"],
        [[one["class"], one["name"], one["n_train"]] for one in document["classes"]],
    )
    typer.echo(f"{document['n_labelled']} cells with a label of {document['task']}, {document['n_unlabelled']} without")
    _print_scvi(document)


def _print_genes(document: dict[str, Any]) -> None:
    header = ["by", "macro-F1", "", "AUROC", "", "model minus this"]
    rows = [
        [
            row["name"], f"{row['macro_f1']:.3f}", _range(row, "macro_f1"),
            "" if row["auroc"] is None else f"{row['auroc']:.3f}", _range(row, "auroc"), _range(row, "gain"),
        ]
        for row in document["scores"]
    ]  # fmt: skip
    print_table(header, rows)
    classes = ", ".join(f"{name} {n}" for name, n in document["classes"].items())
    typer.echo(f"{document['n_genes']} genes held out once each, in {document['n_folds']} folds ({classes})")
    left = ", ".join(f"{len(names)} {why.replace('_', ' ')}" for why, names in document["left_out"].items() if names)
    if left:
        typer.echo(f"genes left out: {left}")
    for note in (document["population"], *document["reasons"], *document["notes"]):
        if note:
            typer.echo(f"note: {note}")
    typer.echo(
        f"the model is fitted to all labels and has no score of its own: {document['model']} (report.html, genes.tsv)"
    )


def _print_cells(document: dict[str, Any]) -> None:
    header = ["task", "by", "macro-F1", "", "rare", "accuracy", "geneformer minus this", "", "status"]
    rows = [
        [
            one["task"], row["name"], _number(row["macro_f1"]), _range(row, "macro_f1"), _number(row["rare_macro_f1"]),
            _number(row["accuracy"]), _number(row["gain"]), _range(row, "gain"), row["status"],
        ]
        for one in document["tasks"]
        for row in one["models"]
    ]  # fmt: skip
    print_table(header, rows)
    for one in document["tasks"]:
        learned = f"{one['n_train']:,} training cells ({one['n_masked']:,} masked)"
        typer.echo(f"{one['task']}: {learned}, {one['n_test']:,} test cells of {one['n_donors']} known donors")
        reasons = {row["reason"]: row["name"] for row in reversed(one["models"]) if row["reason"]}
        for reason, name in reasons.items():
            typer.echo(f"  {name}: {reason}")
    for finding in document["findings"]:
        typer.echo(f"{finding['code']} {finding['where']}: {finding['message']}")
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(
        f"{document['n_steps']} steps on {document['n_cells']:,} cells: {document['model']} (report.html, cell_scores.json)"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _range(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None else f"{low:.3f} to {high:.3f}"
