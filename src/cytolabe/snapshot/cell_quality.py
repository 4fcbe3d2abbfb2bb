"""The quality of the cells of a data set as it is kept beside the atlas: one table, and what could be assessed.

    quality/<key>.json        sealed: of which entry, by which thresholds, the states of the measures, the libraries
    quality/<digest>.parquet  one row per cell that the snapshot holds

The key stands for counts, cells, alignment, the rows that withdrawals leave out, and the thresholds. Quality follows from
these, so it enters no id, is measured again where it is missing, and goes with a purge.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd

from cytolabe.files import replace_file
from cytolabe.provenance import digest_of
from cytolabe.quality.thresholds import load_thresholds
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.store.documents import read_sealed, sealed_bytes
from cytolabe.store.tables import TableEntry, read_table, write_table

__all__ = ["QUALITY_COLUMNS", "QualityRecord", "quality_key", "read_quality", "read_quality_cells", "write_quality"]

KIND = "cytolabe/quality/1"
QUALITY_COLUMNS: Mapping[str, str] = {
    "row": "int64: row in the source",
    "library": "str: the cells that were captured together",
    "n_counts": "int64",
    "n_genes": "int64",
    "mt_fraction": "double: share of counts of mitochondrial genes, null where none is measured",
    "malat1_fraction": "double: share of counts of MALAT1, null where it is not measured; no nuclear fraction",
    "nuclear_fraction": "double: unspliced over all molecules, null where introns were not counted",
    "doublet_score": "double: comparable inside its library only, null where not assessable",
    "markers": "int64: bit k = the k-th marker of the panel is detected",
    "low_counts": "bool",
    "low_genes": "bool",
    "high_mt": "bool",
    "low_nuclear": "bool",
    "likely_doublet": "bool",
    "is_flagged": "bool: any of the flags; nothing is removed",
}
"""Columns of a table of quality: name -> type and meaning."""


@dataclass(frozen=True, kw_only=True)
class QualityRecord:
    """What stands beside a table of quality.

    `states` maps a measure to `state` (measured, partial, not_assessable) and `reason`; `libraries` has a row for each.
    """

    dataset_id: str
    thresholds: str
    states: Mapping[str, Mapping[str, str]]
    libraries: Sequence[Mapping[str, object]]
    table: TableEntry


def quality_key(entry: DatasetEntry, excluded: Collection[int]) -> str:
    """Return what names the quality of a data set, without rows of persons who withdrew."""
    rows = sorted(int(row) for row in excluded)
    return digest_of({"kind": KIND, "entry": entry.logical(), "excluded": rows, "thresholds": load_thresholds().digest})


def write_quality(
    layout: Layout, key: str, frame: pd.DataFrame, *, entry_digest: str, about: Mapping[str, object]
) -> QualityRecord:
    """Write the quality of a data set; `about` has the fields of a `QualityRecord` but for the table."""
    table = write_table(frame[list(QUALITY_COLUMNS)], layout.quality)
    physical = {"digest": table.digest, "file": table.file, "sha256": table.sha256, "n_rows": table.n_rows,
                "footer_sha256": table.footer_sha256}  # fmt: skip
    content = {"kind": KIND, "entry": entry_digest, "about": dict(about), "table": physical}
    replace_file(layout.document(layout.quality, key), sealed_bytes(content))
    found = read_quality(layout, key)
    if found is None:
        msg = f"quality of {about['dataset_id']} was written and is not there"
        raise AssertionError(msg)
    return found


def read_quality(layout: Layout, key: str) -> QualityRecord | None:
    """Return what is known under a key, or None where it was not measured.

    Raises
    ------
    IntegrityError
        If the document was changed.
    """
    path = layout.document(layout.quality, key)
    if not path.is_file():
        return None
    document = read_sealed(path)
    about = cast("dict[str, object]", document["about"])
    table = TableEntry(**cast("dict[str, object]", document["table"]))  # type: ignore[arg-type]
    return QualityRecord(**{**about, "table": table})  # type: ignore[arg-type]


def read_quality_cells(layout: Layout, record: QualityRecord) -> pd.DataFrame:
    """Return the table, one row per cell; missing numbers are NaN."""
    return read_table(layout.quality, record.table)
