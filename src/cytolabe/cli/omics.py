"""`cytolabe omics`: RNA and proteins of a CITE-seq file in one embedding."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.cli.options import AsJson, ModelOptions, Seed, model_options
from cytolabe.cli.output import print_document, print_table, progress, writable_file

__all__ = ["omics"]


def omics(
    file: Annotated[Path, typer.Argument(metavar="FILE.h5ad", help="Raw counts of RNA, and of proteins in obsm.")],
    proteins: Annotated[str, typer.Option(metavar="KEY", help="The array of obsm with counts of proteins.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="x.parquet: cell_id, d0, d1, ...")],
    protein_names: Annotated[
        str, typer.Option(metavar="KEY", help="The array of uns with their names, where obsm is no table.")
    ] = "",
    batch: Annotated[str, typer.Option(metavar="COLUMN", help="Column of obs: the library of a cell.")] = "",
    person: Annotated[str, typer.Option(metavar="COLUMN", help="Column of obs: who it is from.")] = "",
    hold_out: Annotated[
        str, typer.Option(metavar="BATCH", help="A library whose proteins are hidden, expected and compared.")
    ] = "",
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A stored model that answers; nothing is trained.")
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Store the model, as it was trained.")] = None,
    option: ModelOptions = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> int:
    """Embed RNA and proteins of the same cells by totalVI, and tell how well hidden proteins are expected."""
    from cytolabe.flow.omics import AskedOmics, embed_omics

    writable_file(out, "--out")
    asked = AskedOmics(
        proteins=proteins, names=protein_names, batch=batch, person=person, held_out=hold_out,
        options=model_options(option or []), seed=seed, model=model, save=save,
    )  # fmt: skip
    document = embed_omics(file, asked, out=out, on_progress=progress())
    if as_json:
        print_document(document)
    else:
        _print(document)
    return 0


def _print(document: dict[str, Any]) -> None:
    if document["proteins"]:
        header = ["protein", "r totalVI", "r regression", "error totalVI", "error regression", "error mean"]
        names = ("totalvi_r", "regression_r", "totalvi_error", "regression_error", "mean_error")
        rows = [[row["protein"], *(_number(row[name]) for name in names)] for row in document["proteins"]]
        print_table(header, rows)
        typer.echo(
            f"log counts of {document['n_held_out']} cells of {document['held_out']}, whose proteins no model saw; one library, so no interval"
        )
        typer.echo(
            "r compares cells of the library; errors are of levels too, which follow the depth of its antibodies, unknown without them"
        )
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"weights {document['weights']}" + (f", stored in {document['saved']}" if document["saved"] else ""))
    typer.echo(f"{document['n_cells']} cells x {document['n_dims']} dims: {document['embedding']}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
