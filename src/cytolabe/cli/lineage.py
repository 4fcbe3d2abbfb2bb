"""Commands that look back: `trace` a number down to raw reads, `compare` two runs, `reproduce` one."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytolabe.cli.options import AsJson, CachePath, Workers
from cytolabe.cli.output import print_document, print_table, progress
from cytolabe.files import place_of

if TYPE_CHECKING:
    from cytolabe.flow.trace import Node

__all__ = ["compare", "reproduce", "trace"]

_SHOWN = 20

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


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of another one.")],
    as_json: AsJson = False,
) -> int:
    """Tell in what two runs differ first, and then which of their scores do."""
    from cytolabe.flow.comparison import compare_runs
    from cytolabe.provenance import jsonable

    found = compare_runs(first, second)
    if as_json:
        print_document(
            {
                "runs": list(found.record_ids),
                "first": jsonable(found.first),
                "causes": jsonable(found.causes),
                "n_same": found.n_same,
                "scores": jsonable(found.scores),
                "incomparable": found.incomparable,
            }
        )
        return 0
    if found.first is None:
        typer.echo("the records name no difference")
    else:
        typer.echo(
            f"first difference: {found.first.kind} {found.first.name}: {found.first.first} -> {found.first.second}\n"
        )
        shown = [[one.kind, one.name, one.first[:40], one.second[:40]] for one in found.causes[:_SHOWN]]
        print_table(["kind", "name", "first run", "second run"], shown)
        _tell_more(len(found.causes) - _SHOWN)
    typer.echo("")
    scores = [
        [
            *(row.score[key] for key in ("metric", "model", "resolution", "split", "stratum")),
            row.field,
            row.first,
            row.second,
        ]
        for row in found.scores[:_SHOWN]
    ]
    if scores:
        print_table(["metric", "model", "level", "split", "stratum", "field", "first run", "second run"], scores)
        _tell_more(len(found.scores) - _SHOWN)
    typer.echo(f"{found.n_same} score(s) are the same, {len(found.scores)} field(s) of scores differ")
    if found.incomparable:
        typer.echo(f"NOT COMPARABLE: {found.incomparable}")
    return 0


def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: DataFolders = None,
    out: Annotated[
        Path | None, typer.Option(help="Empty folder to keep the new run in; without it, it is thrown away.")
    ] = None,
    cache: CachePath = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> int:
    """Run a study again from its record and compare digests, each component by the class that it declares."""
    from cytolabe.flow.reproduce import reproduce_run
    from cytolabe.provenance import jsonable

    found = reproduce_run(run, data=data or (), out=out, cache=cache, n_workers=workers, on_progress=progress())
    if as_json:
        print_document(
            {
                "reproduced": found.is_reproduced,
                "runs": list(found.record_ids),
                "conditions": jsonable(found.conditions),
                "components": jsonable(found.components),
                "first": jsonable(found.first),
            }
        )
        return 0 if found.is_reproduced else 1
    for condition in found.conditions:
        typer.echo(f"other than in the run: {condition.sentence}")
    rows = [[one.name, one.determinism, one.status, one.detail] for one in found.components]
    print_table(["component", "class", "status", "detail"], rows)
    n_wrong = sum(not one.is_reproduced for one in found.components)
    if found.is_reproduced:
        n_same = sum(one.status == "identical" for one in found.components)
        typer.echo(
            f"REPRODUCED: {n_same} of {len(found.components)} components to the bit, the others as their class allows"
        )
        return 0
    typer.echo(f"NOT REPRODUCED: {n_wrong} of {len(found.components)} components are not what their class promises")
    if found.first is not None:
        typer.echo(
            f"first difference: {found.first.kind} {found.first.name}: {found.first.first} -> {found.first.second}"
        )
    return 1


def _tell_more(n: int) -> None:
    if n > 0:
        typer.echo(f"... and {n} more: --json lists them")


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
