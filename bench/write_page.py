"""Write `docs/benchmarks.md` and the picture from the JSON of the last run; only measured numbers, no dates.

Ratios come first. A row whose reach was missed says NO, and below the table stands what `why.toml`, written by hand,
says about it. `large.md`, written by hand as well, ends the page. `python bench/write_page.py CELLS`.
"""

import json
import math
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytolabe.report.svg import Drawing, element
from measure import OUT

HOME = Path(__file__).resolve().parent
PAGE = HOME.parent / "docs" / "benchmarks.md"
PARTS = {
    "loaders": "Minibatches, tokens, bins and size",
    "ingest_memory": "Ingest",
    "tables": "SQL over tables",
    "sizes": "Size of real files",
    "validate": "Validating",
    "startup": "Starting",
    "confounding": "Confounding",
    "splits": "Splits",
    "embeddings": "Embedding",
    "embed_memory": "Memory of embedding",
    "training": "Training",
    "duplicates": "Copies",
}
MET = {True: "yes", False: "**NO**", None: ""}
PICTURED = "shuffled minibatches, canonical store"
BAR, LABEL, STEP = 420, 170, 22
STYLE = ".ours{fill:#2f6f8f}.peer{fill:#b8c4cc}text{font:12px sans-serif;fill:#444}"
Row = Mapping[str, object]


def main(n_cells: int) -> None:
    """Write both from what is in `bench/out`."""
    found = {name: json.loads((OUT / f"{name}.json").read_text(encoding="utf-8")) for name in PARTS if _is_there(name)}
    why = tomllib.loads((HOME / "why.toml").read_text(encoding="utf-8"))
    words = [
        "# Benchmarks",
        "",
        f"The steps of `make bench` on {os.cpu_count()} cores, one after the other, peers installed by it",
        "(the official validator, about 1.1 GB, as well; without a network its rows say that it is not there). Ratios are",
        "ours over the peer's and travel between machines better than rates do. Rates are of assembled minibatches of 256",
        "cells in random order, files in memory; `entropy` is that of data sets in a minibatch over a perfect shuffle's.",
        "The synthetic atlas has 6 data sets, 20,000 genes and about 1,650 non-zeros per cell.",
        f"Minibatches are of an atlas of {n_cells:,} cells; other rows name their size. This page is written by",
        "`bench/write_page.py`; why a reach was missed is written by hand.",
    ]
    for name, rows in found.items():
        words += ["", f"## {PARTS[name]}", "", *table(rows), *missed(rows, why)]
    words += ["", (HOME / "large.md").read_text(encoding="utf-8").rstrip()]
    PAGE.write_text("\n".join(words) + "\n", encoding="utf-8")
    if "loaders" in found:
        (OUT / "loaders.svg").write_text(str(picture(found["loaders"])) + "\n", encoding="utf-8")


def _is_there(name: str) -> bool:
    return (OUT / f"{name}.json").exists()


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as Markdown."""
    lines = [
        "| what | ratio | ours | peer | peer's | unit | reach | met | beside it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["what"], _number(row["ratio"]), _number(row["ours"]), row["peer"], _number(row["peer_value"]),
            row["unit"], row["reach"], MET[row["met"]], _beside(row),
        ]  # fmt: skip
        lines.append("| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return lines


def _beside(row: Row) -> str:
    return ", ".join(
        f"{name.replace('nnz_per_s', 'nnz/s').replace('_', ' ')} {_number(value)}"
        for name, value in row["extra"].items()
        if name != "cores" and value
    )


def missed(rows: Sequence[Row], why: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for each reach that was missed: what is said of it by hand, or that nothing is yet."""
    lines = []
    for what in dict.fromkeys(row["what"] for row in rows if row["met"] is False):
        said = why.get(str(what), {})
        reason = said.get("why", "The reason was not looked into.")
        lines.append(f"* Missed: *{what}*. {reason} {said.get('next', '')}".rstrip())
    return ["", *lines] if lines else []


def _number(value: object) -> str:
    if value is None:
        return ""
    number = float(str(value))
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.3g}"


def picture(rows: Sequence[Row]) -> object:
    """Draw shuffled minibatches a second of every contender, on a scale of tens."""
    chosen = [row for row in rows if row["what"] == PICTURED and row["peer_value"]]
    if not chosen:
        return ""
    bars = [("cytolabe", float(str(chosen[0]["ours"])), "ours")]
    bars += [(str(row["peer"]), float(str(row["peer_value"])), "peer") for row in chosen]
    bars.sort(key=lambda bar: -bar[1])
    title = "Shuffled minibatches, cells per second (logarithmic)"
    drawing = Drawing(
        title, f"{bars[0][0]} is first of {len(bars)}.", width=LABEL + BAR + 90, height=STEP * len(bars) + 36
    )
    drawing.add(element("style", STYLE))
    drawing.text(title, 4, 16)
    longest = math.log10(bars[0][1]) - 2
    for place, (name, value, kind) in enumerate(bars):
        y = 28 + place * STEP
        width = max(2.0, BAR * (math.log10(max(value, 101)) - 2) / longest)
        drawing.text(name, 4, y + 13)
        drawing.add(element("rect", x=LABEL, y=y, width=width, height=STEP - 6, class_=kind))
        drawing.text(f"{value:,.0f}", LABEL + width + 6, y + 13)
    return drawing.markup()


if __name__ == "__main__":
    main(int(sys.argv[1]))
