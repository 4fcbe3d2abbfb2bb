"""A bare list of labels, with no file of cells behind it: read and checked, as rows that the mapper takes.

Columns `author_label` and, where they are known, `tissue`, `n_cells` and `source`; each source is a data set of its own,
and a list without sources is one. Whatever is wrong is told at once and nothing is mapped: an empty label, a number that
counts no cells and a row that stands there twice are slips of whoever made the list, not facts about cells.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cytolabe.errors import RefusedError, UnreadableInputError
from cytolabe.ingest.sources import slug_of
from cytolabe.reconcile.labels import label_table
from cytolabe.records import Finding, Severity

__all__ = ["LIST_SUFFIXES", "labels_of_list"]

LIST_SUFFIXES = (".csv", ".tsv", ".tab")
_LABEL, _OTHERS = "author_label", ("tissue", "n_cells", "source")
_N_EXAMPLES = 5
_MOST_CELLS = 10**12
_Row = Mapping[str, str]


def labels_of_list(path: Path) -> tuple[pd.DataFrame, Finding]:
    """Read a list of labels.

    Parameters
    ----------
    path
        UTF-8 text with a header, separated by tabs where its suffix is .tsv or .tab, else by commas.

    Returns
    -------
    labels
        One row per source and label (`LABEL_COLUMNS`), tissues of one label joined and its cells summed.
    finding
        What a list cannot give, and which of its columns are not used.

    Raises
    ------
    UnreadableInputError
        If the file is no table, or has no column of labels.
    RefusedError
        If rows cannot be used: all of them are told.
    """
    header, rows = _rows_of(path)
    problems = [
        *_told("no label", [place for place, row in rows if not row[_LABEL]], "the row says nothing; take it out"),
        *_told(
            "an n_cells that counts no cells",
            [f"{place} ({row['n_cells']!r})" for place, row in rows if not _counts_cells(row.get("n_cells", ""))],
            f"give a whole number from 1 to {_MOST_CELLS:,}, or leave the column out",
        ),
        *_told("a label that stands in an earlier row with the same source and tissue", _repeated(rows), "keep one of them"),
        *_told("a source that another one is called alike", _alike(rows), "ids know no case and no signs: rename one"),
    ]  # fmt: skip
    if problems:
        msg = f"{path.name}: {'; '.join(problems)}. No label was mapped: a list with slips in it maps something else than was meant."
        raise RefusedError(msg)
    if not rows:
        msg = f"{path.name}: there is a header and no row under it; give one label a row."
        raise RefusedError(msg)
    return _table(rows), _finding(path, header, rows)


def _rows_of(path: Path) -> tuple[list[str], list[tuple[str, _Row]]]:
    """Return the header, and each row that is not blank with its place and its fields without blanks around them."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path.name}: no UTF-8 text ({error.reason} at byte {error.start:,}). Save it as UTF-8 CSV."
        raise UnreadableInputError(msg) from None
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
        lines = [(reader.line_num, [field.strip() for field in line]) for line in reader]
    except csv.Error as error:
        msg = f"{path.name}: cannot be read as a table ({error}). Quotes have to come in pairs."
        raise UnreadableInputError(msg) from None
    header = lines[0][1] if lines else []
    if header.count(_LABEL) != 1 or len(set(header)) != len(header):
        doubled = sorted({name for name in header if header.count(name) > 1})
        how = (
            f"several columns are called {', '.join(map(repr, doubled))}"
            if doubled
            else f"no column is called {_LABEL!r}"
        )
        msg = (
            f"{path.name}: {how} (found: {', '.join(header)[:200] or 'nothing'}). A list of labels has {_LABEL} and, "
            f"where they are known, {', '.join(_OTHERS)}, in the first line."
        )
        raise UnreadableInputError(msg)
    filled = [(number, line) for number, line in lines[1:] if any(line)]
    uneven = [f"line {number} ({len(line)})" for number, line in filled if len(line) != len(header)]
    if uneven:
        msg = (
            f"{path.name}: {len(uneven):,} of {len(filled):,} rows have another number of fields than the header's "
            f"{len(header)}: {', '.join(uneven[:_N_EXAMPLES])}. Quote a field that has the separator in it."
        )
        raise UnreadableInputError(msg)
    rows = [(f"line {number}", dict(zip(header, line, strict=True))) for number, line in filled]
    return header, [(place, {**row, "source": row.get("source") or path.stem}) for place, row in rows]


def _told(what: str, places: Sequence[str], remedy: str) -> list[str]:
    if not places:
        return []
    shown = ", ".join(places[:_N_EXAMPLES]) + (", ..." if len(places) > _N_EXAMPLES else "")
    return [f"{len(places):,} row(s) have {what}: {shown} ({remedy})"]


def _counts_cells(written: str) -> bool:
    """Tell whether a number of cells can be used; an empty one means that nobody counted."""
    is_number = written.isascii() and written.isdigit() and len(written) <= len(str(_MOST_CELLS))
    return not written or (is_number and 0 < int(written) <= _MOST_CELLS)


def _repeated(rows: Sequence[tuple[str, _Row]]) -> list[str]:
    first: dict[tuple[str, str, str], str] = {}
    found = []
    for place, row in rows:
        key = (row["source"], row[_LABEL], row.get("tissue", ""))
        if row[_LABEL] and key in first:
            found.append(f"{place} ({row[_LABEL]!r}, as {first[key]})")
        first.setdefault(key, place)
    return found


def _alike(rows: Sequence[tuple[str, _Row]]) -> list[str]:
    borne: dict[str, tuple[str, str]] = {}
    found = []
    for place, row in rows:
        source = row["source"]
        other, where = borne.setdefault(slug_of(source), (source, place))
        if other != source:
            found.append(f"{place} ({source!r}, {other!r} in {where})")
    return found


def _table(rows: Sequence[tuple[str, _Row]]) -> pd.DataFrame:
    """Return one row per label; a label in several tissues is joined as the cells of an atlas are."""
    each = pd.DataFrame({
        "dataset_id": [slug_of(row["source"]) for _, row in rows],
        "contributor_label": [row[_LABEL] for _, row in rows],
        "label_parent": "",
        "tissue": [row.get("tissue", "") for _, row in rows],
        "claimed_term": "",
    })  # fmt: skip
    each["n_cells"] = [int(row.get("n_cells") or 1) for _, row in rows]
    labels = label_table(each.drop(columns="n_cells"))
    n_cells = each.groupby(["dataset_id", "contributor_label"], sort=True)["n_cells"].sum()
    return labels.assign(n_cells=n_cells.to_numpy(dtype="int64"))


def _finding(path: Path, header: Sequence[str], rows: Sequence[tuple[str, _Row]]) -> Finding:
    n_rows, n_uncounted = len(rows), sum(not row.get("n_cells") for _, row in rows)
    unused = [name for name in header if name not in {_LABEL, *_OTHERS}]
    alone = "words, tissue and the other labels of a source decide alone"
    said = [f"There are no cells behind these labels, so no expression, parent labels or claimed ids: {alone}."]
    if n_uncounted:
        said.append(
            f"{n_uncounted:,} row(s) have no n_cells and count as one cell each; the queue is ordered by cells x doubt."
        )
    if unused:
        said.append(f"{len(unused)} column(s) are not used: {', '.join(unused[:_N_EXAMPLES])}.")
    return Finding(
        code="N-LABEL-15",
        severity=Severity.NOTE,
        where=path.name,
        n_affected=n_rows,
        n_total=n_rows,
        message=" ".join(said),
        remedy="Map the labels of the file itself where there is one: cytolabe reconcile FILE.",
        rule="cytolabe/labels",
    )
