"""Commands that look back: `trace` a number down to raw reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytolabe.cli.options import AsJson
from cytolabe.cli.output import print_document, print_table
from cytolabe.files import place_of

if TYPE_CHECKING:
    from cytolabe.flow.trace import Node

__all__ = ["trace"]

RunOrAtlas = Annotated[
    Any, typer.Option("--in", parser=place_of, metavar="RUN|ATLAS", help="The run or the atlas that knows the id.")
]
"""A `files.Place`; typer knows no unions."""
DataFolders = Annotated[
    list[Path] | None, typer.Option(help="Folder of the files that a run read, to hash them. May be repeated.")
]


def trace(
    word: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Score id, certificate, split, run, snapshot or other digest (8 digits do), tag, data set, or the folder of a run.",
        ),
    ],
    place: RunOrAtlas = None,
    data: DataFolders = None,
    as_json: AsJson = False,
) -> int:
    """Show what a number rests on, down to the raw reads, and how far its cells reach back."""
    from cytolabe.flow.tracing import trace as traced
    from cytolabe.provenance import jsonable

    found = traced(word, place=place, data=data or ())
    if as_json:
        print_document(
            {
                "tree": jsonable(found.root),
                "cells": found.cells,
                "coverage": {**_fields(jsonable(found.coverage)), "sentence": found.coverage.sentence},
            }
        )
        return 0
    for line in _lines(found.root):
        typer.echo(line)
    typer.echo("")
    if found.coverage.by_hop:
        states = list(next(iter(found.coverage.by_hop.values())))
        print_table(
            ["hop", *states], [[hop, *counts.values()] for hop, counts in found.coverage.by_hop.items()]
        )  # fmt: skip
    typer.echo(f"{found.cells}: {found.coverage.sentence}")
    return 0


def _lines(node: "Node", lead: str = "", branch: str = "") -> Iterator[str]:
    """Yield a tree as text: state, what it is, the first digits of its digest, and what was told of it."""
    short = f" {node.digest[7:19]}" if node.digest else ""
    name = "" if node.digest.startswith(node.name) else f" {node.name}"
    detail = f": {node.detail}" if node.detail else ""
    yield f"{lead}{branch}{node.role}{name}{short} [{node.state}]{detail}"
    below = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
    for number, child in enumerate(node.children, start=1):
        yield from _lines(child, below, "└─ " if number == len(node.children) else "├─ ")


def _fields(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
