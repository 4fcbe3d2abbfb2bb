"""The page of an annotation: what the cells were called, how far to trust it, and what nobody looked at.

It is made of the record that stands in the file (`uns`), so it can be drawn again from the file alone. One page: no script, nothing from elsewhere, the same bytes
for the same record.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolabe.files import replace_file
from cytolabe.records import UNKNOWN
from cytolabe.report.annotation_figures import answers_figure, curve_figure, reliability_figure
from cytolabe.report.pages import page_environment
from cytolabe.report.tables import Cell, Column, Table
from cytolabe.report.text import count, fraction, inert, number

__all__ = ["render_annotation", "write_annotation_page"]

_LEVEL_WORDS = {
    "fine": "one class", "mid": "several subtypes", "broad": "a lineage", "lineage": "a compartment", "unknown": "no term",
}  # fmt: skip
_UNITS = {"person": ("person", "persons"), "library": ("library", "libraries"), "dataset": ("data set", "data sets")}


def write_annotation_page(record: Mapping[str, Any], path: Path) -> None:
    """Write the page; a reader of `path` sees the old one or the whole new one."""
    replace_file(path, render_annotation(record).encode("utf-8"))


def render_annotation(record: Mapping[str, Any]) -> str:
    """Return the page of a record (`flow.annotation_record`)."""
    held, status = record["held_out"], record["answers"]["status"]
    n_cells = int(record["query"]["n_cells"])
    return page_environment().get_template("annotation.html.j2").render(
        record=record,
        held=held,
        moved=record["as_new_dataset"],
        status=status,
        n_cells=n_cells,
        n_named=int(status["labelled"]) + int(status["coarser"]),
        units=_units_told(record["reference"]),
        figures={
            "answers": answers_figure(status),
            "curve": curve_figure(held["curve"], held),
            "reliability": reliability_figure(held["bins_raw"], held["bins"]),
        },
        tables={
            "terms": _terms_table(record["answers"]["terms"], n_cells),
            "levels": _levels_table(record),
            "classes": _classes_table(held["classes"]),
            "open_set": _open_table(record["open_set"]),
            "selective": _selective_table(held["selective"]),
            "units": _units_table(held["units"]),
        },
    )  # fmt: skip


def _units_told(reference: Mapping[str, Any]) -> str:
    told = [f"{count(int(n))} {_UNITS[kind][n != 1]}" for kind, n in reference["units"].items()]
    return " and ".join(told)


def _share(value: float | None) -> Cell:
    return Cell(fraction(value))


def _terms_table(terms: Sequence[Mapping[str, Any]], n_cells: int) -> Table:
    rows = tuple(
        (Cell(inert(row["name"])), Cell("" if row["term"] == UNKNOWN else inert(row["term"])), Cell(count(int(row["n_cells"]))), _share(row["n_cells"] / n_cells))
        for row in sorted(terms, key=lambda row: row["term"] == UNKNOWN)
    )  # fmt: skip
    columns = (Column("Answer"), Column("Term", "code"), Column("Cells", "number"), Column("Share", "number"))
    return Table(key="terms", caption="What the cells were called", columns=columns, rows=rows, source="the file")


def _levels_table(record: Mapping[str, Any]) -> Table:
    least, tuned = record["thresholds"], record["thresholds_chosen_on_cells"]
    rows = []
    for row in record["held_out"]["levels"]:
        level = str(row["level"])
        limit = least.get(level)
        how = "" if level == "unknown" else "closed" if level in least and limit is None else number(limit)
        why = "" if level not in least or tuned[level] else "too few cells to choose it: the asked precision"
        rows.append((
            Cell(level, detail=_LEVEL_WORDS[level]), Cell(how, detail=why), Cell(count(int(row["n_cells"]))),
            _share(row["cells_fraction"]), _share(row["precision"]),
        ))  # fmt: skip
    return Table(
        key="levels",
        caption="Held-out cells by the level of their answer",
        columns=(
            Column("Level"), Column("Answers from", "number"), Column("Held-out cells", "number"), Column("Share", "number"), Column("Right", "number"),
        ),
        rows=tuple(rows),
        remarks=_raised(record),
        note="“Answers from” is the least calibrated probability at which a term of the level answers. What decided over a fold was fitted on the other folds.",
    )  # fmt: skip


def _raised(record: Mapping[str, Any]) -> tuple[str, ...]:
    least = record["term_thresholds"]
    n_never = sum(value is None for value in least.values())
    n_raised = sum(value is not None and value not in set(record["thresholds"].values()) for value in least.values())
    if not n_never + n_raised:
        return ()
    return (
        f"{count(n_raised)} terms need more, to keep the asked precision by themselves, and {count(n_never)} never answer (listed below).",
    )


def _classes_table(classes: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            Cell(inert(row["name"]), detail=inert(row["term"])), Cell(count(int(row["n_cells"]))), Cell(number(row["f1"])),
            Cell(number(row["ece"])), Cell(count(int(row["n_answered"]))), _share(row["confidence"]), _share(row["precision"]),
            _share(row["answered_fraction"]), _share(row["unknown_fraction"]),
        )
        for row in sorted(classes, key=lambda row: (-row["n_cells"], row["term"]))
    )  # fmt: skip
    columns = (
        Column("Class"), Column("Held-out cells", "number"), Column("F1", "number"), Column("Calibration error", "number"), Column("Answered as it", "number"),
        Column("claimed right", "number"), Column("found right", "number"), Column("Of its cells, answered as it", "number"), Column("unknown", "number"),
    )  # fmt: skip
    note = (
        "F1 and calibration error are those of the most probable class, before anything is left unanswered; the calibration error of a rare class is small "
        "whatever was said. The other columns are about the answers given."
    )
    return Table(key="classes", caption="Each class, on held-out cells", columns=columns, rows=rows, note=note)


def _open_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = tuple(
        (
            Cell(inert(row["name"]), detail=_left_out_told(row)), Cell(count(int(row["n_cells"]))), Cell(number(row["auroc_novelty"])),
            Cell(number(row["auroc_confidence"])), _share(row["unknown_fraction"]), _share(row["above_fraction"]), _share(row["wrong_fraction"]),
            _share(row["known_unknown_fraction"]),
        )
        for row in rows
    )  # fmt: skip
    columns = (
        Column("Type left out"), Column("Cells asked", "number"), Column("AUROC of novelty", "number"), Column("AUROC of confidence", "number"),
        Column("unknown", "number"), Column("a term above it", "number"), Column("wrong", "number"), Column("known cells called unknown", "number"),
    )  # fmt: skip
    note = (
        "Each type and its descendants were left out of training, and held-out cells of all of them were asked for beside cells of known types: classes, and types "
        "above several. AUROC 0.5 knows nothing. “wrong” is what a type that the atlas lacks would be called. Types that were not asked stand under “What was not evaluated”."
    )
    return Table(key="open_set", caption="Types that the model never saw", columns=columns, rows=shown, note=note)


def _left_out_told(row: Mapping[str, Any]) -> str:
    n = int(row["n_classes"])
    below = f", with the {n} classes below it" if n > 1 else ", with the class below it"
    return f"{inert(row['term'])}{below if row['is_inner'] else ''}"


def _selective_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = tuple(
        (_share(row["coverage"]), Cell(number(row["macro_f1"])), Cell(count(int(row["n_cells"]))), Cell(count(int(row["n_classes"]))))
        for row in rows
    )  # fmt: skip
    columns = (
        Column("Cells kept", "number"), Column("Macro-F1", "number"), Column("Cells", "number"), Column("Classes left", "number"),
    )  # fmt: skip
    return Table(key="selective", caption="Macro-F1 of the most confident held-out cells", columns=columns, rows=shown)


def _units_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = tuple(
        (Cell(str(place)), Cell(count(int(row["n_cells"]))), _share(row["coverage"]), _share(row["precision"]))
        for place, row in enumerate(rows, start=1)
    )
    columns = (
        Column("Unit", "number"),
        Column("Cells", "number"),
        Column("Answered", "number"),
        Column("Right", "number"),
    )
    return Table(key="units", caption="Each unit that was held out, by size", columns=columns, rows=shown)
