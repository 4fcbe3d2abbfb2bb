"""Looks for labels in the embeddings that a fold's models gave, before a probe is believed (see `audit.coded_dimensions`)."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cytolabe.audit.coded_dimensions import CodedDimensions, coded_dimensions, dimensions_test
from cytolabe.audit.leakage import FoldAudit
from cytolabe.evaluate.fitting import Failure, FitTask, ModelRunner
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.records import Fold
from cytolabe.snapshot.view import SnapshotView

__all__ = ["codes_in_embeddings", "dimension_tests", "embedder_name", "merged_codes", "with_dimensions"]

Codes = Mapping[str, Sequence[CodedDimensions]]


def embedder_name(annotator: AnnotatorPlan) -> str:
    """Return the name of the embedder below a probe."""
    return annotator.name.removesuffix(f"+{annotator.probe}")


def codes_in_embeddings(
    snapshot: SnapshotView, fold: Fold, runner: ModelRunner, *, annotator: AnnotatorPlan, tasks: Iterable[FitTask]
) -> tuple[CodedDimensions, ...]:
    """Return what the dimensions of each embedding of these fits hold; the runner keeps what it has embedded."""
    found = []
    for task in tasks:
        values = runner.embedding(annotator, task)
        if not isinstance(values, Failure):
            rows = np.concatenate([task.train_rows, task.query_rows])
            found.append(coded_dimensions(values, snapshot.cells, fold, rows=rows))
    return tuple(found)


def merged_codes(codes: Iterable[Codes]) -> dict[str, list[CodedDimensions]]:
    """Put together what was found under several gene policies, by embedder."""
    merged: dict[str, list[CodedDimensions]] = {}
    for one in codes:
        for name, found in one.items():
            merged.setdefault(name, []).extend(found)
    return merged


def dimension_tests(codes: Codes) -> list[dict[str, object]]:
    """Return the tests of a certificate, one for each embedder."""
    return [dimensions_test(name, found) for name, found in sorted(codes.items())]


def with_dimensions(audit: FoldAudit, codes: Codes) -> FoldAudit:
    """Return what the audit of a fold found together with the findings of its embeddings; they refuse their model alone."""
    found = tuple(
        finding
        for name in sorted(codes)
        for finding in next((one.findings(name) for one in codes[name] if one.both), ())
    )
    return dataclasses.replace(audit, findings=(*audit.findings, *found)) if found else audit
