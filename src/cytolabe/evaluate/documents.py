"""The machine-readable results: `scores.json` (canonical bytes) and `scores.parquet`, with the same rows.

Rows stand in canonical order and numbers have 6 significant digits; there is no path, host, time or duration in them,
so a second run of the same study gives the same bytes.
"""

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cytolabe.evaluate.rare_types import rare_types
from cytolabe.evaluate.results import StudyResult
from cytolabe.files import replace_file
from cytolabe.provenance import canonical_json, digest_of, jsonable
from cytolabe.records import Score

__all__ = ["SIGNIFICANT_DIGITS", "rounded", "score_id_of", "scores_document", "scores_table", "write_scores"]

SIGNIFICANT_DIGITS = 6
_ID = "score_id"

_ORDER = ("task", "study", "split", "gene_policy", "resolution", "model", "metric", "stratum")


def rounded(value: object) -> object:
    """Round every float inside to 6 significant digits; everything else stays."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def scores_document(result: StudyResult, snapshot_id: str) -> dict[str, object]:
    """Return the document of `scores.json`: snapshot, ontology release, levels, every row, and the rare types, in canonical order.

    Parameters
    ----------
    result
        What an evaluation found.
    snapshot_id
        The snapshot that it was run on.
    """
    ordered = sorted(
        (*result.scores, *result.integration, *result.limited),
        key=lambda score: tuple(str(getattr(score, name)) for name in _ORDER),
    )
    return {
        "snapshot_id": snapshot_id,
        "ontology_release": result.ontology_release,
        "levels_digest": result.levels_digest,
        "scores": [_row(score) for score in ordered],
        "rare_types": _rare_types(result),
    }


def _rare_types(result: StudyResult) -> list[object]:
    """Return the rare types at the decision level, by fold, gene policy and model, those with the lowest recall first."""
    found = rare_types(result.confusions, level=result.decision_level)
    ordered = sorted(found, key=lambda one: (one.split, one.gene_policy, one.model))
    return [rounded({**cast("dict[str, object]", jsonable(one)), "recall": one.recall}) for one in ordered]


def score_id_of(row: Mapping[str, object]) -> str:
    """Return the id of a row of the document: the digest of everything else in it."""
    return digest_of({key: value for key, value in row.items() if key != _ID})


def _row(score: Score) -> dict[str, object]:
    row = {field.name: rounded(jsonable(getattr(score, field.name))) for field in dataclasses.fields(score)}
    return {**row, _ID: score_id_of(row)}


def scores_table(result: StudyResult, snapshot_id: str) -> pd.DataFrame:
    """Return the rows of the document as a table; nested values are canonical JSON text."""
    document = scores_document(result, snapshot_id)
    names = [*(field.name for field in dataclasses.fields(Score)), _ID]
    rows = document["scores"]
    if not isinstance(rows, list):
        msg = "the document of scores has no list of rows"
        raise TypeError(msg)
    flat = [
        {name: canonical_json(cell).decode() if isinstance(cell, dict | list) else cell for name, cell in row.items()}
        for row in rows
    ]
    return pd.DataFrame(flat, columns=names).assign(snapshot_id=snapshot_id)


def write_scores(result: StudyResult, directory: Path) -> None:
    """Write `scores.json` and `scores.parquet` into a directory, each all or nothing."""
    replace_file(directory / "scores.json", canonical_json(scores_document(result, result.snapshot_id)))
    table = pa.Table.from_pandas(scores_table(result, result.snapshot_id), schema=_SCHEMA, preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    replace_file(directory / "scores.parquet", buffer.getvalue())


_FLOATS = ("value", "low", "high", "floor", "ceiling", "raw_value")
_INTEGERS = ("n_cells", "n_donors", "n_genes")
_SCHEMA = pa.schema(
    [
        (name, pa.float64() if name in _FLOATS else pa.int64() if name in _INTEGERS else pa.string())
        for name in (*(field.name for field in dataclasses.fields(Score)), _ID, "snapshot_id")
    ]
)
"""Column types are given, not guessed: a column of nulls keeps its type."""
