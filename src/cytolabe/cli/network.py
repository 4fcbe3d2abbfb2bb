"""`cytolabe network`: what a model's network says of genes, as features for gene networks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import (
    AsJson,
    AsRecorded,
    AtlasOrFile,
    ModelOptions,
    Seed,
    SnapshotName,
    model_options,
    told_model,
)
from cytolabe.cli.output import made_folder, print_document, progress

__all__ = ["network"]


def network(
    model: Annotated[str, typer.Argument(help="geneformer or scgpt.")],
    source: AtlasOrFile,
    checkpoint: Annotated[
        Path, typer.Option(help="Folder of the model, published or trained here, or hf:owner/name@COMMIT.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="New folder for the tables and network.json.")],
    genes: Annotated[str, typer.Option(metavar="GENE[,GENE...]", help="These genes: symbols or Ensembl ids.")] = "",
    gene_list: Annotated[Path | None, typer.Option(help="File with one gene a line, in place of --genes.")] = None,
    most_frequent: Annotated[
        int, typer.Option(min=1, help="Without names: so many genes that most cells have, at most 2000.")
    ] = 200,
    expected: Annotated[str, typer.Option("--expect", help="Digest (sha256:...) that the weights must have.")] = "",
    where: Annotated[str, typer.Option(help="Filter of the cells of an atlas, as in snapshot query.")] = "",
    cells: Annotated[int, typer.Option(min=0, help="Most cells, drawn by the seed; 0 = all.")] = 1000,
    layer: Annotated[int, typer.Option(min=0, help="Layer of states and attention; 1 = the first, 0 = the last.")] = 0,
    attention: Annotated[
        str, typer.Option(help="rank (as the scGPT tutorial), raw (weights) or none (embeddings alone).")
    ] = "rank",
    heads: Annotated[str, typer.Option(metavar="N[,N...]", help="Heads, from 0; the mean of all without it.")] = "",
    neighbors: Annotated[int, typer.Option(min=0, help="Nearest genes by cosine that are told of each.")] = 10,
    option: ModelOptions = None,
    seed: Seed = 0,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Write embeddings of genes and the attention between them over cells; features, and no claim about regulation."""
    from cytolabe.engine import naming_shortage
    from cytolabe.flow.network import AskedNetwork, network_of_file, network_of_snapshot, network_step
    from cytolabe.models.gene_features import AttentionRule
    from cytolabe.snapshot.atlas import open_atlas

    made_folder(out.parent, "--out")
    named = _names(genes, gene_list)
    asked = AskedNetwork(
        model=model, options={**model_options(option or []), "checkpoint": checkpoint, "expected": expected},
        genes=named, n_most_frequent=0 if named else most_frequent, where=where, n_cells=cells, layer=layer,
        attention=AttentionRule(measure=attention, heads=_heads(heads)), n_neighbors=neighbors, seed=seed,
    )  # fmt: skip
    told = f"reading genes off {told_model(model, checkpoint)}"
    smaller = f"Less: fewer --genes or --most-frequent ({most_frequent}), fewer --cells ({cells}; 0 = all), or --option max_length below what it was."
    if isinstance(source, Path) and source.is_file():
        with naming_shortage(told, smaller=smaller):
            document = network_of_file(source, asked, out=out, on_progress=progress())
    else:
        opened = open_atlas(source)
        frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
        with naming_shortage(told, smaller=smaller):
            document = network_of_snapshot(frozen, asked, out=out, on_progress=progress())
        made = str(document["content"])
        record_artifact(opened, "gene features", made, snapshot_id=frozen.snapshot_id, name=out.name)
        record_run(
            opened, network_step(document, asked, checkpoint=checkpoint, out=out), snapshot_id=frozen.snapshot_id
        )
    if as_json:
        print_document(document)
    else:
        _print(document)
    return 0


def _names(genes: str, gene_list: Path | None) -> tuple[str, ...]:
    from cytolabe.errors import UsageError

    if genes and gene_list is not None:
        msg = "give either --genes or --gene-list."
        raise UsageError(msg)
    try:
        text = genes.replace(",", "\n") if gene_list is None else gene_list.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"--gene-list {gene_list} cannot be read as text: {error}."
        raise UsageError(msg) from None
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if gene_list is not None and not found:
        msg = f"--gene-list {gene_list} names no gene."
        raise UsageError(msg)
    return found


def _heads(words: str) -> tuple[int, ...]:
    from cytolabe.errors import UsageError

    try:
        return tuple(int(word) for word in words.split(",")) if words else ()
    except ValueError:
        msg = f"--heads {words}: numbers from 0, with commas between them."
        raise UsageError(msg) from None


def _print(document: dict[str, Any]) -> None:
    pairs = f"{document['n_pairs'] - document['n_pairs_never_together']:,} of {document['n_pairs']:,} pairs were read together"
    typer.echo(
        f"{document['n_genes']:,} genes over {document['n_cells']:,} cells, layer {document['layer']} of {document['n_layers']}; {pairs}"
    )
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"{document['reading']}\n{document['out']}")
