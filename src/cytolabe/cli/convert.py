"""`cytolabe convert`: old weights and pickled dictionaries as safetensors and JSON."""

from pathlib import Path
from typing import Annotated

import typer

from cytolabe.cli.options import AsJson
from cytolabe.cli.output import made_folder, print_document, progress

__all__ = ["convert"]


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A file (.bin, .pt, .pkl) or a Geneformer's folder.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The new file (.safetensors, .json) or folder.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(help="Corpus of the ledger that the weights were trained on (genecorpus-30m). May be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Convert old weights and pickled dictionaries to safetensors and JSON; nothing of them is run."""
    from cytolabe.flow.convert import convert_file, convert_folder

    made_folder(out.parent, "--out")
    if source.is_dir():
        document = convert_folder(source, out, corpus=corpus or (), on_progress=progress())
    else:
        document = {"converted": [convert_file(source, out)]}
    if as_json:
        print_document(document)
    else:
        typer.echo(f"{source} -> {out}")
    return 0
