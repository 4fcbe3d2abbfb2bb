"""The cells of one data set under CELLxGENE's column names, with one word for what was not given.

Values are kept as the contributor wrote them, but for white space at their ends. What means "nothing" in a lab's
language (`NA`, `n/a`, `unassigned`, ...) becomes `unknown`, in labels the empty string, because unlabelled is not a
class (rule R4). Donors that stand for several persons become `pooled`. Nothing is guessed: a suspension type that
nobody gave stays unknown. Every such change is counted in a finding.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Int

from cytolabe.records import MISSING_WORDS, UNKNOWN, Finding, Severity
from cytolabe.standardize.words import Words
from cytolabe.store.names import Names

__all__ = ["POOLED", "STANDARD_COLUMNS", "CellFacts", "standardize_cells"]

POOLED = "pooled"
"""A donor value that stands for several persons."""

STANDARD_COLUMNS = (
    "cell_id", "dataset_id", "study", "row", "donor_id", "batch", "assay", "suspension_type", "site", "tissue", "disease",
    "sex", "organism", "contributor_label", "label_parent", "label_origin", "claimed_term", "n_counts", "n_genes",
)  # fmt: skip
"""What this stage makes, in order. Persons and reconciled terms are overlays that come later."""

_ROLE_OF_COLUMN = {
    "donor_id": "donor", "batch": "batch", "assay": "assay", "suspension_type": "suspension_type", "site": "site",
    "tissue": "tissue", "disease": "disease", "sex": "sex", "organism": "organism",
}  # fmt: skip
_NO_LABEL = MISSING_WORDS | {"unclassified", "not assigned", "no label", "nolabel", "ambiguous", "-", "?"}
_POOLED_DONOR = re.compile(
    r"pool(ed)?([ _.-].*|s|\d+)?|.*[ _.-]pool(ed)?|mixed|mixture|multiple|several|multiplexed|multiplet|doublet|"
    r".+[^ ]\s*[+;&|,]\s*[^ ].*"
)
"""A pool by its word (`pool1`, `Pool of 4`), or several donors joined by a sign (`D1+D2`)."""
_FLOAT_CODE = re.compile(r"-?\d+\.0")
_CL_ID = re.compile(r"(?:https?://\S*[/#])?CL[:_](\d{7})", re.IGNORECASE)
_SUSPENSION = {"cell": "cell", "cells": "cell", "nucleus": "nucleus", "nuclei": "nucleus"}


@dataclass(frozen=True, kw_only=True)
class CellFacts:
    """What is known of the cells of one data set beside their table.

    `columns` maps a role to the column that carries it, `constants` a role to the value of every cell. `unlabelled`
    are further words that mean no label. `cell_totals` and `cell_genes` come from the proven counts.
    """

    dataset_id: str
    study: str
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    cell_totals: Int[np.ndarray, " cells"]
    cell_genes: Int[np.ndarray, " cells"]
    label_origin: str = UNKNOWN
    unlabelled: tuple[str, ...] = field(default=())


def standardize_cells(
    cell_table: pd.DataFrame, cell_names: Sequence[str], *, facts: CellFacts
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Make the standard table of cells.

    Parameters
    ----------
    cell_table
        Columns as delivered, one row per cell.
    cell_names
        Names as delivered, in the same order.

    Returns
    -------
    cells
        One row per cell with `STANDARD_COLUMNS`, index 0..n-1, no missing value. Texts are categories, `cell_id` is
        Arrow text: there may be millions of cells.
    findings
        `E-CELL-01` refuses the data set; the others say what was changed.
    """
    names = Names.of(cell_names)
    findings = list(_unusable_names(names))
    n_cells = len(names)
    made: dict[str, object] = {
        "cell_id": names.series(f"{facts.dataset_id}:"),
        "dataset_id": _constant(facts.dataset_id, n_cells),
        "study": _constant(facts.study or facts.dataset_id, n_cells),
        "row": np.arange(n_cells, dtype=np.int64),
        "label_origin": _constant(facts.label_origin or UNKNOWN, n_cells),
        "n_counts": np.asarray(facts.cell_totals, dtype=np.int64),
        "n_genes": np.asarray(facts.cell_genes, dtype=np.int64),
    }
    repaired = {"donor_id": _pooled, "suspension_type": _suspension}
    for column, role in _ROLE_OF_COLUMN.items():
        values = _values_of(cell_table, role, facts=facts, findings=findings)
        made[column] = (repaired[column](values, findings) if column in repaired else values).categories()
    if "batch" not in facts.columns and "batch" not in facts.constants:
        made["batch"] = _constant(facts.dataset_id, n_cells)
    made["contributor_label"] = _labels(cell_table, "label", facts=facts, findings=findings).categories()
    made["label_parent"] = _labels(cell_table, "label_parent", facts=facts, findings=[]).categories()
    made["claimed_term"] = _claimed(cell_table, facts, findings).categories()
    cells = pd.DataFrame({name: made[name] for name in STANDARD_COLUMNS}, index=range(n_cells), copy=False)
    return cells, tuple(findings)


# --- columns ------------------------------------------------------------------------------------------------------


def _texts(cell_table: pd.DataFrame, column: str) -> tuple[Words, int]:
    """Return a column as trimmed text, None where there is no value, and how many levels were trimmed."""
    raw = Words.of(cell_table[column], lambda levels: _whole([_text(level) for level in levels]))
    trimmed = tuple(None if text is None else text.strip() for text in raw.levels)
    n_trimmed = sum(one != other for one, other in zip(raw.levels, trimmed, strict=True))
    return Words(codes=raw.codes, levels=trimmed), n_trimmed


def _text(level: object) -> str:
    # Codes such as batch 1 are often stored as 1.0.
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def _whole(texts: list[str]) -> list[str]:
    """Take the `.0` off where every level has it: codes that were stored as categories of floats."""
    return [text[:-2] for text in texts] if texts and all(_FLOAT_CODE.fullmatch(text) for text in texts) else texts


def _values_of(cell_table: pd.DataFrame, role: str, *, facts: CellFacts, findings: list[Finding]) -> Words:
    if role not in facts.columns:
        return Words.constant(facts.constants.get(role, UNKNOWN).strip() or UNKNOWN, len(cell_table))
    column = facts.columns[role]
    texts, n_trimmed = _texts(cell_table, column)
    if n_trimmed:
        findings.append(_trimmed(column, n_trimmed))
    return texts.changed(lambda text: _instead_of(text, MISSING_WORDS, UNKNOWN))


def _labels(cell_table: pd.DataFrame, role: str, *, facts: CellFacts, findings: list[Finding]) -> Words:
    if role not in facts.columns:
        return Words.constant("", len(cell_table))
    column = facts.columns[role]
    texts, n_trimmed = _texts(cell_table, column)
    if n_trimmed:
        findings.append(_trimmed(column, n_trimmed))
    words = _NO_LABEL | {word.strip().lower() for word in facts.unlabelled}
    labels = texts.changed(lambda text: _instead_of(text, words, ""))
    n_without = labels.n_cells_in({""})
    if n_without:
        said: Counter[str] = Counter()
        for text, n_cells in zip(texts.levels, texts.n_cells_of().tolist(), strict=True):
            if n_cells and not _instead_of(text, words, ""):
                said["no value" if text is None else text] += n_cells
        findings.append(
            Finding(
                code="N-CELL-05",
                severity=Severity.NOTE,
                where=f"obs[{column!r}]",
                n_affected=n_without,
                n_total=len(labels),
                examples=tuple(
                    f"{word!r}: {times}" for word, times in sorted(said.items(), key=lambda p: (-p[1], p[0]))[:5]
                ),
                message=f"{n_without:,} of {len(labels):,} cells have no label; unlabelled is not a class.",
                remedy="Nothing to do; if one of these words is a type, rename it, and name others as unlabelled = [...].",
                rule="R4",
            )
        )
    return labels


def _claimed(cell_table: pd.DataFrame, facts: CellFacts, findings: list[Finding]) -> Words:
    """Return the Cell Ontology ids that the contributor gives; what is no such id is counted, not kept."""
    column = facts.columns.get("claimed_term", "")
    if not column:
        return Words.constant("", len(cell_table))
    texts = _texts(cell_table, column)[0].changed(lambda text: _instead_of(text, MISSING_WORDS, ""))
    wrong = {text for text in texts.levels if text and not _cl_id(text)}
    n_wrong = texts.n_cells_in(wrong)
    if n_wrong:
        examples = sorted(map(str, wrong))
        findings.append(
            Finding(
                code="W-CELL-06",
                severity=Severity.WARNING,
                where=f"obs[{column!r}]",
                n_affected=n_wrong,
                n_total=len(texts),
                examples=tuple(examples[:5]),
                message=f"{n_wrong:,} cells claim a term that is no Cell Ontology id ({', '.join(examples[:3])}).",
                remedy="Write ids as CL:0000000 (seven digits); the claims of these cells are not used.",
                rule="cytolabe/labels",
            )
        )
    return texts.changed(lambda text: _cl_id(str(text)))


def _cl_id(text: str) -> str:
    """Return a Cell Ontology id however it is written (`CL_0000236`, `cl:0000236`, the full address), or nothing."""
    match = _CL_ID.fullmatch(text)
    return f"CL:{match[1]}" if match else ""


def _instead_of(text: str | None, words: frozenset[str], instead: str) -> str:
    """Return `instead` for no value or one of `words`, whatever its case."""
    return instead if text is None or text.lower() in words else text


def _pooled(donors: Words, findings: list[Finding]) -> Words:
    pools = {donor for donor in donors.levels if _POOLED_DONOR.fullmatch(str(donor).lower())}
    n_pooled = donors.n_cells_in(pools)
    if n_pooled:
        findings.append(
            Finding(
                code="N-CELL-02",
                severity=Severity.NOTE,
                where="donor_id",
                n_affected=n_pooled,
                n_total=len(donors),
                examples=tuple(sorted(map(str, pools))[:5]),
                message=f"{n_pooled:,} cells come from pools of donors; they belong to no single person.",
                remedy="Give the donor of each cell if the pool was demultiplexed.",
                rule="R8",
            )
        )
    return donors.changed(lambda donor: POOLED if donor in pools else str(donor))


def _suspension(values: Words, findings: list[Finding]) -> Words:
    """Keep `cell` and `nucleus`; nothing else is a suspension type, and none is guessed from the assay."""
    known = values.changed(lambda word: _SUSPENSION.get(str(word).lower(), UNKNOWN))
    other = [str(word) for word in values.levels if word != UNKNOWN and str(word).lower() not in _SUSPENSION]
    n_affected = values.n_cells_in(other)
    if n_affected:
        findings.append(
            Finding(
                code="W-CELL-03",
                severity=Severity.WARNING,
                where="suspension_type",
                n_affected=n_affected,
                n_total=len(values),
                examples=tuple(other[:5]),
                message=f"{n_affected:,} cells have a suspension type that is neither cell nor nucleus; it is unknown.",
                remedy="Write 'cell' or 'nucleus'.",
                rule="R10",
            )
        )
    return known


def _constant(text: str, n_cells: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(n_cells, dtype=np.int8), pd.Index([text], dtype=object))


# --- findings -----------------------------------------------------------------------------------------------------


def _unusable_names(names: Names) -> tuple[Finding, ...]:
    """Refuse cells whose name is another cell's, or none."""
    repeated = sorted({*names.repeated(), *names.blank()})
    if not repeated:
        return ()
    shown = ", ".join(name if name.strip() else "an empty name" for name in repeated[:3])
    finding = Finding(
        code="E-CELL-01",
        severity=Severity.ERROR,
        where="obs index",
        n_affected=len(repeated),
        n_total=len(names),
        examples=tuple(repeated[:5]),
        message=f"{len(repeated):,} cell names occur more than once or are empty ({shown}); they name no single cell.",
        remedy="Put the library before the barcode (lib1_AAAC...), so that each cell has its own name.",
        rule="cytolabe/cells",
    )
    return (finding,)


def _trimmed(column: str, n_levels: int) -> Finding:
    return Finding(
        code="N-CELL-04",
        severity=Severity.NOTE,
        where=f"obs[{column!r}]",
        n_affected=n_levels,
        n_total=n_levels,
        message=f"{n_levels} values had white space at their ends, which was removed.",
        remedy="Nothing to do; values that differ by white space only are the same now.",
        rule="cytolabe/cells",
    )
