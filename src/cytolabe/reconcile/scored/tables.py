"""A table of contributor labels with the term that an expert chose: read, checked, and its ids made live.

Columns `author_label, cl_id, source, src_family, tissue`; others are ignored. An obsolete id follows its replacement
and is counted; a row whose id is no term of the release, or whose label is empty, cannot be scored: it is counted, never
scored as wrong. A blank tissue, and `x`, `na` or `none`, mean that nobody said which; an id of UBERON is read as its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.errors import UnreadableInputError, UnresolvedLabelError, UsageError
from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.tissues import tissue_in_words

__all__ = ["TABLE_COLUMNS", "LabelTable", "label_table_of", "read_label_table"]

TABLE_COLUMNS = ("author_label", "cl_id", "source", "src_family", "tissue")
_NO_TISSUE = frozenset({"", "x", "na", "n/a", "nan", "none", "unknown", "unspecified"})
_CELL = "CL:0000000"


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelTable:
    """Rows that can be scored, in the table's order, and what was set aside.

    `replaced` counts rows whose obsolete id followed its replacement, `unusable` those without a live term or label.
    """

    label: tuple[str, ...]
    term: tuple[str, ...]
    source: tuple[str, ...]
    family: tuple[str, ...]
    tissue: tuple[str, ...]
    replaced: int = 0
    unusable: int = 0
    examples: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, chosen: np.ndarray) -> "LabelTable":
        """Return the chosen rows (positions) as a table of their own."""
        at = [int(row) for row in chosen]

        def pick(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(values[row] for row in at)

        return LabelTable(
            label=pick(self.label),
            term=pick(self.term),
            source=pick(self.source),
            family=pick(self.family),
            tissue=pick(self.tissue),
        )


def read_label_table(path: Path, *, ontology: Ontology) -> LabelTable:
    """Read a table (comma or tab separated) of labels and terms.

    Raises
    ------
    UnreadableInputError
        If the file is no such table.
    UsageError
        If a column is missing, or no row can be scored.
    """
    separator = "\t" if path.suffix.lower() in {".tsv", ".tab"} else ","
    try:
        frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        msg = f"{path.name}: cannot be read as a table ({error}). Give a UTF-8 CSV with a header, or a .tsv."
        raise UnreadableInputError(msg) from None
    return label_table_of(frame, name=path.name, ontology=ontology)


def label_table_of(frame: pd.DataFrame, *, name: str, ontology: Ontology) -> LabelTable:
    """Check a frame and resolve its ids; `name` is said in errors."""
    missing = [column for column in TABLE_COLUMNS if column not in frame]
    if missing:
        msg = (
            f"{name}: {len(missing)} of {len(TABLE_COLUMNS)} columns are missing: {', '.join(missing)}. Without source and "
            "family nobody can tell which rows were curated independently. Add the columns; a blank tissue is allowed."
        )
        raise UsageError(msg)
    kept: list[tuple[str, ...]] = []
    replaced, unusable = 0, []
    for row in frame[list(TABLE_COLUMNS)].astype(str).itertuples(index=False):
        label, written, source, family, tissue = (str(value).strip() for value in row)
        term = _live(written, ontology)
        if not label or term is None:
            unusable.append(f"{label!r}: {written!r}")
            continue
        replaced += term != written.replace("_", ":").upper()
        known = "" if tissue.lower() in _NO_TISSUE else tissue_in_words(tissue, cells=ontology)
        kept.append((label, term, source, family or source, known))
    if not kept:
        msg = f"{name}: none of {len(frame)} rows has a label and a live Cell Ontology id; there is nothing to score."
        raise UsageError(msg)
    columns = [tuple(column) for column in zip(*kept, strict=True)]
    return LabelTable(
        label=columns[0],
        term=columns[1],
        source=columns[2],
        family=columns[3],
        tissue=columns[4],
        replaced=replaced,
        unusable=len(unusable),
        examples=tuple(unusable[:5]),
    )


def _live(written: str, ontology: Ontology) -> str | None:
    try:
        term = ontology.resolve(written)
    except UnresolvedLabelError:
        return None
    return term if ontology.is_a(term, _CELL) else None
