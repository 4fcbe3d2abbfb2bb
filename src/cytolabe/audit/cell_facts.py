"""The facts about cells that a certificate stands on, as one plain table that anybody can read.

`cells.tsv` has the facts of each cell in canonical order, then one column per fold with its side. The certificate names
the facts by a digest and the split the sides, so that a table that was edited no longer fits either. Tabs, line ends and
backslashes inside a value are written as in C. Format: docs/formats/certificate.md.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cytolabe.records import Fold

__all__ = ["FACTS", "cells_text", "counts_text", "facts_digest"]

FACTS = (
    "cell_id", "dataset_id", "study", "donor_id", "person_id", "person_state", "batch", "tissue", "label_origin",
)  # fmt: skip
"""Columns of the table of cells that tests read; the term and the label at each level follow."""
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def facts_digest(cells: pd.DataFrame, labels: Mapping[str, np.ndarray]) -> str:
    """Return the digest of the facts of all cells, in order; `labels` holds the label of each cell at each level."""
    columns = _facts(cells, labels)
    digest = hashlib.sha256("\x1f".join(columns).encode())
    for row in zip(*columns.values(), strict=True):
        digest.update(("\x1e" + "\x1f".join(row)).encode())
    return "sha256:" + digest.hexdigest()


def cells_text(cells: pd.DataFrame, labels: Mapping[str, np.ndarray], folds: Sequence[Fold]) -> str:
    """Return the table of cells as text: a line of column names, then a line per cell."""
    columns = _facts(cells, labels)
    for fold in folds:
        side = np.full(len(cells), "", dtype=object)
        side[fold.train_rows], side[fold.test_rows] = "train", "test"
        columns[f"side:{fold.split_id}"] = side.tolist()
    lines = ["\t".join(name.translate(_ESCAPES) for name in columns)]
    lines += ["\t".join(word.translate(_ESCAPES) for word in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


def counts_text(rows: Sequence[int], genes: Sequence[str], entries: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """Return counts as text: the genes, then for each position in the table of cells its genes (by number) and counts."""
    lines = ["\t".join(["#genes", *genes])]
    for row, (places, counts) in zip(rows, entries, strict=True):
        pairs = " ".join(f"{place}:{count}" for place, count in zip(places.tolist(), counts.tolist(), strict=True))
        lines.append(f"{row}\t{pairs}")
    return "\n".join(lines) + "\n"


def _facts(cells: pd.DataFrame, labels: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    columns = {name: cells[name].astype(str).tolist() for name in FACTS}
    columns["term"] = cells["cell_type_ontology_term_id"].astype(str).tolist()
    return columns | {f"label:{level}": labels[level].astype(str).tolist() for level in labels}
