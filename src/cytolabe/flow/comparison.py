"""Why two runs gave other numbers: the first thing in which they differ, and then the scores that do.

Causes come before what follows from them: files that went in, what was asked, ontology and genes, what was made of labels
and persons, the seed, the snapshot and the split, models and their weights, and last the code and its libraries. A
snapshot differs wherever a mapping does, so the first difference is the one to look at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cytolabe.errors import CytolabeError
from cytolabe.flow.mapping_rows import MAPPING_TABLE, differing_rows
from cytolabe.flow.run_folder import RunFolder, read_run_folder
from cytolabe.provenance.differences import ABSENT, differences
from cytolabe.reconcile import read_sssom

__all__ = ["CAUSES", "Cause", "RunComparison", "ScoreDifference", "compare_runs", "score_differences"]

CAUSES = (
    "input", "dataset", "parameter", "ontology", "gene_reference", "mapping", "persons", "overlay", "levels", "seed",
    "snapshot", "split", "model", "weights", "code", "environment",
)  # fmt: skip
"""Kinds of causes, in the order in which they are told."""

_KEY = ("task", "split", "gene_policy", "resolution", "model", "metric", "stratum")
_COMPARED = ("value", "raw_value", "low", "high", "floor", "ceiling", "status", "n_cells", "n_donors", "n_genes")
_SEED = ("seed", "n_seeds")
_NO_CAUSES = ("levels_digest", "persons")
"""Parameters that parents name: they have a kind of their own."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One thing in which two runs differ; `first` and `second` are what it is in either."""

    kind: str
    name: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class ScoreDifference:
    """A score that differs in a value, bound or status, or that only one run has (`field` is then `row`)."""

    score: Mapping[str, str]
    field: str
    first: object
    second: object
    delta: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """What differs between two runs. `incomparable` says why equal names are not equal metrics; empty if they are."""

    record_ids: tuple[str, str]
    causes: tuple[Cause, ...]
    n_same: int
    scores: tuple[ScoreDifference, ...]
    incomparable: str

    @property
    def first(self) -> Cause | None:
        """The first cause, or None where nothing that the records name differs."""
        return self.causes[0] if self.causes else None


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compare two runs by their records and scores.

    Raises
    ------
    UsageError
        If one is no folder of a run.
    IntegrityError
        If a record was edited, or a file of a run cannot be read.
    """
    a, b = read_run_folder(first), read_run_folder(second)
    found = sorted(_causes(a, b), key=lambda cause: CAUSES.index(cause.kind))
    before, after = a.document("scores.json"), b.document("scores.json")
    n_same, scores = score_differences(before["scores"], after["scores"])
    reasons = [f"{key} differs" for key in ("ontology_release", "levels_digest") if before.get(key) != after.get(key)]
    incomparable = f"{' and '.join(reasons)}: scores of one name are other metrics" if reasons else ""
    return RunComparison(
        record_ids=(a.record_id, b.record_id),
        causes=tuple(found),
        n_same=n_same,
        scores=scores,
        incomparable=incomparable,
    )


def score_differences(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> tuple[int, tuple[ScoreDifference, ...]]:
    """Return how many scores are the same, and those that are not: the largest differences first."""
    before, after = ({tuple(str(row[key]) for key in _KEY): row for row in rows} for rows in (first, second))
    n_same, told = 0, []
    for key in [*before, *(key for key in after if key not in before)]:
        one, other = before.get(key), after.get(key)
        named = dict(zip(_KEY, key, strict=True))
        if one is None or other is None:
            told.append(
                ScoreDifference(
                    score=named, field="row", first=ABSENT if one is None else _told(one),
                    second=ABSENT if other is None else _told(other),
                )
            )  # fmt: skip
            continue
        fields = [name for name in _COMPARED if one[name] != other[name]]
        n_same += not fields
        told += [
            ScoreDifference(
                score=named, field=name, first=one[name], second=other[name], delta=_delta(one[name], other[name])
            )
            for name in fields
        ]  # fmt: skip
    return n_same, tuple(sorted(told, key=lambda row: (row.field != "value", -abs(row.delta or 0.0))))


def _told(row: Mapping[str, Any]) -> object:
    return row["value"] if row["value"] is not None else row["status"]


def _delta(one: object, other: object) -> float | None:
    if isinstance(one, int | float) and isinstance(other, int | float):
        # Scores have six significant digits; a difference has no more.
        return float(f"{other - one:.6g}")
    return None


def _causes(a: RunFolder, b: RunFolder) -> Iterator[Cause]:
    yield from _things("input", _inputs(a), _inputs(b))
    for kind in CAUSES:
        if kind not in {"input", "parameter", "seed", "environment", "mapping"}:
            yield from _things(kind, _parents(a, kind), _parents(b, kind))
    mappings = list(_things("mapping", _parents(a, "mapping"), _parents(b, "mapping")))
    yield from _rows(a, b) if mappings else ()
    yield from mappings
    for found in differences(_parameters(a), _parameters(b)):
        kind = "seed" if found.path in _SEED else "parameter"
        yield Cause(kind=kind, name=found.path, first=str(found.first), second=str(found.second))
    if a.body["parameters"].get("persons") != b.body["parameters"].get("persons"):
        yield Cause(kind="parameter", name="persons", first="declared", second="declared otherwise")
    for found in differences(a.body["environment"], b.body["environment"]):
        yield Cause(kind="environment", name=found.path, first=str(found.first), second=str(found.second))


def _rows(a: RunFolder, b: RunFolder) -> Iterator[Cause]:
    """Yield the rows of the mappings that differ, where both tables can be read."""
    try:
        tables = [pd.DataFrame([vars(row) for row in read_sssom(run.path / MAPPING_TABLE)]) for run in (a, b)]
    except CytolabeError:
        return
    for row in differing_rows(*tables):
        yield Cause(
            kind="mapping", name=f"{row.label!r} of {row.dataset_id}, {row.field}", first=row.first, second=row.second
        )


def _things(kind: str, first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[Cause]:
    for name in [*first, *(name for name in second if name not in first)]:
        one, other = first.get(name, ABSENT), second.get(name, ABSENT)
        if one != other:
            yield Cause(kind=kind, name=name, first=one, second=other)


def _inputs(run: RunFolder) -> dict[str, str]:
    return {f"{item['role']} {item['name']}": f"sha256:{item['sha256']}" for item in run.body["inputs"]}


def _parents(run: RunFolder, role: str) -> dict[str, str]:
    """Return the parents of one role by name; of what there is only one of, the name is no key: it may be a release."""
    found = {row["name"]: row["digest"] for row in run.body["parents"] if row["role"] == role}
    if role in {"dataset", "model", "weights", "overlay"}:
        return found
    with_name = role in {"ontology", "gene_reference", "code"}
    values = [f"{name} {digest}" if with_name else digest for name, digest in found.items()]
    return {role: ", ".join(values)} if values else {}


def _parameters(run: RunFolder) -> dict[str, Any]:
    return {key: value for key, value in run.body["parameters"].items() if key not in _NO_CAUSES}
