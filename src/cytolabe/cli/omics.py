"""`cytolabe omics`: RNA with proteins or peaks of the same cells in one embedding."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.cli.options import AsJson, ModelOptions, Seed, model_options
from cytolabe.cli.output import print_document, print_findings, print_table, progress, writable_file

__all__ = ["omics"]

_SMALLER = {"totalvi": "n_top_genes or n_hidden", "scgpt": "tokens_per_minibatch, max_length or preset"}
"""Options that bound the memory of a training, by kind."""

_ON_LOGS = {
    "totalvi": (
        ("r totalVI", "totalvi_r"), ("r regression", "regression_r"), ("error totalVI", "totalvi_error"),
        ("error regression", "regression_error"), ("error mean", "mean_error"),
    ),
    "scgpt": (
        ("r scGPT", "scgpt_r"), ("r random", "random_r"), ("r regression", "regression_r"), ("error scGPT", "scgpt_bin_error"),
        ("error random", "random_bin_error"), ("error regression", "regression_bin_error"), ("error mean", "mean_bin_error"),
    ),
}  # fmt: skip
_READ = {
    "totalvi": "r compares cells of the library; errors are of levels too, which follow the depth of its antibodies, unknown without them",
    "scgpt": "r is that of expected bins (regression: log counts) with measured log counts; errors are of bins, a place among the proteins of a cell",
}
_INTEGRATION = ("avg_bio", "bras", "cilisi", "ilisi", "pcr_batch")


def omics(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.h5ad", help="Raw counts of RNA, and of proteins or peaks in obsm.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="x.parquet: cell_id, d0, d1, ...")],
    proteins: Annotated[str, typer.Option(metavar="KEY", help="The array of obsm with counts of proteins.")] = "",
    protein_names: Annotated[
        str, typer.Option(metavar="KEY", help="The array of uns with their names, where obsm is no table.")
    ] = "",
    peaks: Annotated[
        str, typer.Option(metavar="KEY", help="The array of obsm with peaks, counts or 0 and 1 (scgpt).")
    ] = "",
    peak_names: Annotated[
        str, typer.Option(metavar="KEY", help="The array of uns with their places, as chr1:100-600.")
    ] = "",
    batch: Annotated[str, typer.Option(metavar="COLUMN", help="Column of obs: the library of a cell.")] = "",
    person: Annotated[str, typer.Option(metavar="COLUMN", help="Column of obs: who it is from.")] = "",
    label: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of obs: what it was called; only the embedding is held to it.")
    ] = "",
    hold_out: Annotated[
        str, typer.Option(metavar="BATCH", help="A library whose proteins are hidden, expected and compared.")
    ] = "",
    model_kind: Annotated[str, typer.Option(metavar="KIND", help="What is trained: totalvi, or scgpt.")] = "totalvi",
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A stored totalVI that answers; nothing is trained.")
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Store the totalVI, as it was trained.")] = None,
    option: ModelOptions = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> int:
    """Embed RNA with proteins or peaks of the same cells, and tell how well hidden proteins are expected."""
    from cytolabe.engine import naming_shortage
    from cytolabe.flow.omics import embed_omics
    from cytolabe.flow.omics_file import AskedOmics

    writable_file(out, "--out")
    asked = AskedOmics(
        proteins=proteins, names=protein_names, peaks=peaks, peak_names=peak_names, batch=batch, person=person, label=label,
        held_out=hold_out, kind=model_kind, options=model_options(option or []), seed=seed, model=model, save=save,
    )  # fmt: skip
    smaller = (
        f"Less: --option {_SMALLER.get(model_kind, 'n_top_genes')} below what it was, or fewer cells in {file.name}."
    )
    with naming_shortage(f"embedding {file.name} by {model_kind}", smaller=smaller):
        document, findings = embed_omics(file, asked, out=out, on_progress=progress())
    if as_json:
        print_document(document)
    else:
        _print(document)
        print_findings(findings)
    return 0


def _print(document: dict[str, Any]) -> None:
    if document["proteins"]:
        names = _ON_LOGS[document["model"]]
        rows = [[row["protein"], *(_number(row[name]) for _, name in names)] for row in document["proteins"]]
        print_table(["protein", *(heading for heading, _ in names)], rows)
        typer.echo(
            f"{document['n_held_out']} cells of {document['held_out']}, whose proteins no model saw, on log counts; one library, so no interval"
        )
        typer.echo(_READ[document["model"]])
    _print_integration(document["integration"])
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"weights {document['weights']}" + (f", stored in {document['saved']}" if document["saved"] else ""))
    typer.echo(
        f"{document['protocol']}: {document['n_cells']} cells x {document['n_dims']} dims: {document['embedding']}"
    )


def _print_integration(found: dict[str, Any]) -> None:
    names = [name for name in _INTEGRATION if any(row[name] is not None for row in found["rows"])]
    if names:
        rows = [[row["name"], *(_number(row[name]) for name in names)] for row in found["rows"]]
        print_table(["embedding", *names], rows)
    typer.echo(f"integration of {found['n_cells']} cells: {found['status']}: {found['reason']}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
