"""The evidence under the scores as rows of text: cells behind each class, genes, persons, copies, confounding.

These tables come as data frames that other rooms own. Where the columns are the known ones, a frame is laid out for
reading (one table per level, one row per fold); otherwise it is printed as it is.
"""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from cytolabe.report.content import ReportContent
from cytolabe.report.frames import frame_table
from cytolabe.report.leaderboard import term_name
from cytolabe.report.tables import Cell, Column, Table, cut, toned
from cytolabe.report.text import ABSENT, anything, count, counted, fraction, inert

__all__ = [
    "confounding_table",
    "duplicates_sentence",
    "duplicates_table",
    "gene_space_by_file",
    "gene_space_table",
    "not_testable_table",
    "pair_name",
    "persons_sentence",
    "persons_table",
    "support_tables",
]

_MAX_FILES_WIDE = 10
_MAX_PAIRS = 200
_AUDIT = "evidence.json"


def support_tables(content: ReportContent) -> tuple[Table, ...]:
    """Return one table per level: class x file, the cells behind it; then the cells that do not count, by reason."""
    frame = content.support
    note = "Cells that do not count are listed by reason; they are scored nowhere."
    needed = {"level", "dataset_id", "term", "reason", "n_cells"}
    if not needed <= set(frame.columns) or frame["dataset_id"].nunique() > _MAX_FILES_WIDE:
        return (
            frame_table(frame, key="support", caption="Cells behind each class", note=note, source="evidence.json"),
        )
    levels = [level for level in content.levels if level in set(frame["level"])]
    levels += sorted(set(frame["level"]) - set(levels))
    return tuple(_support_of(content, frame[frame["level"] == level], str(level), note=note) for level in levels)


def _support_of(content: ReportContent, frame: pd.DataFrame, level: str, *, note: str) -> Table:
    files = sorted(set(frame["dataset_id"]))
    by_key: dict[tuple[str, str], dict[str, int]] = {}
    for term, reason, file, n in zip(
        frame["term"], frame["reason"], frame["dataset_id"], frame["n_cells"], strict=True
    ):
        of_row = by_key.setdefault((str(term), str(reason)), {})
        of_row[file] = of_row.get(file, 0) + int(n)
    ordered = sorted(by_key, key=lambda key: (key[0] == "", -sum(by_key[key].values()), key))
    rows = tuple(
        (
            Cell(inert(term_name(content, term)), detail=inert(term))
            if term
            else Cell("not counted", "muted", inert(why)),
            *(Cell(count(by_key[term, why][file]) if file in by_key[term, why] else ABSENT) for file in files),
            Cell(count(sum(by_key[term, why].values()))),
        )
        for term, why in ordered
    )
    return Table(
        key="support",
        caption=f"Cells behind each class, level “{inert(level)}”",
        columns=(Column("Class"), *(Column(inert(file), "number") for file in files), Column("All files", "number")),
        rows=rows,
        note=note,
        source="evidence.json",
    )


def gene_space_table(content: ReportContent) -> Table:
    """Return one row per fold and gene policy: genes, share of the counts, counts left per cell, missing markers."""
    frame = content.gene_spaces
    needed = {
        "split", "policy", "n_genes", "train_datasets", "test_datasets", "left_out", "absent_markers",
        "counts_kept_fraction", "median_counts_left",
    }  # fmt: skip
    caption, note = "Gene space of each fold", "A gene that one file never measured is unmeasured, not zero."
    if not needed <= set(frame.columns):
        return frame_table(frame, key="genes", caption=caption, note=note, source="evidence.json")
    rows = tuple(
        _gene_space_cells(str(split), str(policy), part)
        for (split, policy), part in frame.groupby(["split", "policy"], sort=False)
    )
    return Table(
        key="genes",
        caption=caption,
        columns=(
            Column("Fold"),
            Column("Policy"),
            Column("Genes", "number"),
            Column("Counts kept", "number"),
            Column("Median counts left per cell", "number"),
            Column("Lineage markers that are missing", "prose"),
            Column("Files left out of the fit"),
        ),
        rows=rows,
        note=f"{note} Two numbers are the least and the most over the files of a fold. Under 500 genes every score is "
        "QUALIFIED(panel).",
        source="evidence.json",
        is_grouped=True,
    )


def _gene_space_cells(split: str, policy: str, part: pd.DataFrame) -> tuple[Cell, ...]:
    pairs = part.drop_duplicates(["train_datasets", "test_datasets"])
    missing = [{name for name in str(text).split(", ") if name} for text in pairs["absent_markers"]]
    always, ever = set.intersection(*missing), set.union(*missing)
    told = ", ".join(sorted(always)) or "none"
    if ever > always:
        told = f"in every pair: {told}; in some: {', '.join(sorted(ever - always))}"
    left_out = sorted({name for text in part["left_out"] for name in str(text).split(", ") if name})
    return (
        Cell(inert(split)),
        Cell(inert(policy), detail=f"{counted(len(pairs), 'pair')} of files" if len(pairs) > 1 else ""),
        Cell(_range([count(int(value)) for value in (part["n_genes"].min(), part["n_genes"].max())])),
        Cell(
            _range(
                [
                    fraction(float(part["counts_kept_fraction"].min())),
                    fraction(float(part["counts_kept_fraction"].max())),
                ]
            )
        ),
        Cell(
            _range(
                [count(round(value)) for value in (part["median_counts_left"].min(), part["median_counts_left"].max())]
            )
        ),
        Cell(inert(told, 400)),
        Cell(inert(", ".join(left_out), 200) or ABSENT),
    )


def _range(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"


def gene_space_by_file(content: ReportContent) -> Table:
    """Return what each file has left in each gene space."""
    frame = content.gene_spaces
    # Which files make a pair is told only where there are pairs; elsewhere the fold says it.
    hidden = {"left_out", "absent_markers"}
    if "policy" in frame.columns and "pairwise" not in set(frame["policy"]):
        hidden |= {"train_datasets", "test_datasets"}
    return frame_table(
        frame[[name for name in frame.columns if name not in hidden]],
        key="genes_by_file",
        caption="What each file has left in each gene space",
        source="evidence.json",
        is_grouped=True,
    )


def persons_table(content: ReportContent) -> Table:
    """Return the persons, and what ties or separates them."""
    return frame_table(
        content.persons,
        key="persons",
        caption="Persons",
        note="A donor name is not a person: names collide across labs. Where nothing tells two donors apart, they are "
        "assumed to be different, and the certificate counts that.",
        source=_AUDIT,
    )


def persons_sentence(content: ReportContent) -> str:
    """Say in one line how many persons there are and how many cells have none."""
    frame = content.persons
    if frame.empty or not {"state", "n_cells"} <= set(frame.columns):
        return ""
    parts = []
    for state in sorted(set(frame["state"].astype(str)), key=lambda state: (state != "resolved", state)):
        of_state = frame[frame["state"].astype(str) == state]
        n_cells = counted(int(of_state["n_cells"].sum()), "cell")
        if state == "resolved":
            parts.append(f"{counted(len(of_state), 'person')} with {n_cells}")
        else:
            parts.append(f"{n_cells} of {inert(state, 40)} persons")
    return "; ".join(parts) + "."


def duplicates_table(content: ReportContent) -> Table:
    """Return the first pairs of copied cells; a cell id names its data set."""
    frame = pd.DataFrame() if content.duplicates is None else content.duplicates
    told_by_ids = {"a_row", "b_row", *({"dataset_a", "dataset_b"} if "cell_a" in frame.columns else ())}
    table = frame_table(
        frame[[name for name in frame.columns if name not in told_by_ids]],
        key="duplicates",
        caption="Copied cells across files",
        note="Shared genes: measured by both files. Shared nonzero: genes on which both cells have counts above zero; the "
        "more, the less it can be chance. Identical: equal on all shared genes. Near: one droplet counted twice; dispersion is the "
        "chi-square per degree of freedom, about 1 between unrelated cells of one type. Similarity: correlation of the counts.",
        source=_AUDIT,
    )
    return cut(table, _MAX_PAIRS)


def not_testable_table(content: ReportContent) -> Table:
    """Return for which pairs of files how many cells were too shallow to tell a copy."""
    found = content.duplicates_not_testable
    rows = tuple(
        (Cell(pair_name(pair)), Cell(count(found[pair])))
        for pair in sorted(found, key=lambda pair: (-found[pair], pair))
    )
    return Table(
        key="not_testable",
        caption="Cells too shallow to tell whether they are copies",
        columns=(Column("Files compared"), Column("Cells not testable", "number")),
        rows=rows,
        note="One cell is counted in every comparison in which it is too shallow.",
        source=_AUDIT,
    )


def pair_name(pair: str) -> str:
    """Return a comparison of two files, written `a|b`, as words."""
    first, _, second = pair.partition("|")
    if not second:
        return inert(pair)
    return f"within {inert(first, 80)}" if first == second else f"{inert(first, 80)} and {inert(second, 80)}"


def confounding_table(content: ReportContent) -> Table:
    """Return the associations that could be measured or matter; pairs without two known levels are only counted."""
    frame = content.confounding
    caption = "Technical and biological columns that move together"
    note = (
        "Measured over donors (or the finest unit that is known), never over cells. V is Cramér's, U Theil's: they "
        "describe and refuse nothing by "
        "themselves; the last column says whether a contrast made inside these data could be believed. Lost: contrasts between "
        "levels that never share a technical level, not even through others. Shortcut: how often the technique of the "
        "other units names the biology of one (balanced); a dash where every level would be new."
    )
    if "dataset_id" in frame.columns:
        named = [value if isinstance(value, str) and value else "all files" for value in frame["dataset_id"]]
        frame = frame.assign(dataset_id=named)
    needed = {"dataset_id", "technical", "biological", "unit", "cramers_v", "theils_u", "n_units", "status", "reason"}
    if not needed <= set(frame.columns):
        return frame_table(frame, key="confounding", caption=caption, note=note, source=_AUDIT)
    idle = frame["status"].astype(str) == "NOT_RUN"
    told = (
        f" {counted(int(idle.sum()), 'pair')} without two known levels on both sides are not listed."
        if idle.any()
        else ""
    )
    shown = sorted(frame[~idle].to_dict("records"), key=lambda row: row["dataset_id"] != "all files")
    return Table(
        key="confounding",
        caption=caption,
        columns=(
            Column("Data set"),
            Column("Technical"),
            Column("Biological"),
            Column("V", "number"),
            Column("U", "number"),
            Column("Lost", "number"),
            Column("Shortcut", "number"),
            Column("Measured over", "number"),
            Column("A contrast inside", "status"),
        ),
        rows=tuple(
            (
                Cell(inert(str(row["dataset_id"]))),
                Cell(inert(str(row["technical"]))),
                Cell(inert(_column_name(str(row["biological"])))),
                Cell(anything(row["cramers_v"])),
                Cell(anything(row["theils_u"])),
                Cell(anything(row.get("n_lost"))),
                Cell(anything(row.get("shortcut"))),
                Cell(counted(int(row["n_units"]), inert(str(row["unit"]), 20))),
                toned(
                    "possible" if str(row["status"]) == "SCORED" else str(row["status"]), inert(str(row["reason"]), 400)
                ),
            )
            for row in shown
        ),
        note=note + told,
        source=_AUDIT,
        is_grouped=True,
    )


def _column_name(column: str) -> str:
    """Return the name of a biological column; cell types at a level name the level."""
    if column.startswith("cell_type_"):
        return f"cell type ({column.removeprefix('cell_type_').replace('_', ' ')})"
    return column.replace("_", " ")


def duplicates_sentence(content: ReportContent) -> str:
    """Say between which files copies were found."""
    frame = content.duplicates
    if frame is None or not {"dataset_a", "dataset_b"} <= set(frame.columns) or frame.empty:
        return ""
    pairs = Counter(zip(frame["dataset_a"].astype(str), frame["dataset_b"].astype(str), strict=True))
    told = [f"{count(pairs[a, b])} between {inert(a, 80)} and {inert(b, 80)}" for a, b in sorted(pairs)]
    return "; ".join(told) + "."
