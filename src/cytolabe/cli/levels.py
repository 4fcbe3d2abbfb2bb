"""Levels on a terminal: a tree with the cells of each class, and under it what has no class and which ties were broken."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from cytolabe.cli.output import print_table

if TYPE_CHECKING:
    from cytolabe.flow.interpret import ReconcileSummary
    from cytolabe.ontology import LevelNode

__all__ = ["levels_document", "print_levels"]


def levels_document(summary: "ReconcileSummary") -> dict[str, object]:
    """Return what `--levels` adds to the JSON document."""
    from cytolabe.provenance import jsonable

    return {
        "levels": {name: [f"{term} {text}" for term, text in terms] for name, terms in summary.levels.items()},
        "levels_digest": summary.levels_digest,
        "tree": jsonable(summary.tree),
        "left_out": jsonable(summary.left_out),
        "ties": [{"level": level, "term": term, "rule": rule} for level, term, rule in summary.ties],
    }


def print_levels(summary: "ReconcileSummary") -> None:
    """Print the tree of the levels of an atlas."""
    typer.echo("")
    print_table(
        ["class", "cells", "labels", "levels"],
        [
            [text, node.n_cells, node.n_labels, ", ".join(node.levels)]
            for root in summary.tree
            for text, node in _lines(root, "", "")
        ],
    )
    if summary.left_out:
        typer.echo("")
        print_table(
            ["no class at", "term", "name", "cells", "why"],
            [[row.level, row.term, row.name, row.n_cells, row.reason] for row in summary.left_out],
        )
    if summary.ties:
        typer.echo("")
        print_table(["tie at", "term", "rule"], [list(tie) for tie in summary.ties])
    typer.echo(f"\nlevels: {summary.levels_digest}")


def _lines(node: "LevelNode", branch: str, under: str) -> "Iterator[tuple[str, LevelNode]]":
    """Yield a node and all below it, each with its name behind the lines of the tree."""
    yield f"{branch}{node.name} ({node.term})", node
    for number, child in enumerate(node.children, start=1):
        is_last = number == len(node.children)
        corner, along = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _lines(child, under + corner, under + along)
