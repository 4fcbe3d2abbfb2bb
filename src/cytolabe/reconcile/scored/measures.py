"""What a scored table reports: how often the expert's term is first, among five, or on the lineage of the first.

Micro counts rows; macro is the mean over sources, so that one study with 600 labels does not speak for forty others. The
calibration error compares the stated probability with the share of right rows in 15 bins of equal width, weighted by rows. Beside
every lineage score stands the floor: always answering `eukaryotic cell` is nearly always on the lineage and says nothing.
The ceiling is how often two sources that both mapped the same label chose the same term.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cytolabe.reconcile.ranking.lexical import TermIndex, raw_words
from cytolabe.reconcile.scored.tables import LabelTable

__all__ = [
    "Outcome",
    "by_source",
    "calibration_error",
    "ceiling_of",
    "floor_of",
    "measures_of",
    "outcome_of",
    "verbatim_rows",
]

EUKARYOTIC_CELL = "CL:0000255"
_N_BINS = 15
_COVERAGES = tuple(round(0.1 * step, 1) for step in range(1, 11))


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Ranked terms of each row of a table against the expert's, with probabilities and acceptance where there are any."""

    source: tuple[str, ...]
    hit_1: Bool[np.ndarray, " rows"]
    hit_5: Bool[np.ndarray, " rows"]
    lineage: Bool[np.ndarray, " rows"]
    general: Bool[np.ndarray, " rows"]
    exact_probability: Float64[np.ndarray, " rows"] | None = None
    lineage_probability: Float64[np.ndarray, " rows"] | None = None
    accepted: Bool[np.ndarray, " rows"] | None = None


def outcome_of(
    terms: Int64[np.ndarray, "rows best"],
    truth: Int64[np.ndarray, " rows"],
    *,
    source: Sequence[str],
    index: TermIndex,
    probabilities: tuple[np.ndarray, np.ndarray] | None = None,
    accepted: Bool[np.ndarray, " rows"] | None = None,
) -> Outcome:
    """Compare ranked terms (-1 = none) with the truth, both by position in the index."""
    first = terms[:, 0]
    answered = first >= 0
    above = np.asarray(index.closure[truth, np.maximum(first, 0)]).ravel() > 0
    below = np.asarray(index.closure[np.maximum(first, 0), truth]).ravel() > 0
    return Outcome(
        source=tuple(source),
        hit_1=(first == truth) & answered,
        hit_5=(terms[:, :5] == truth[:, None]).any(axis=1),
        lineage=(above | below) & answered,
        general=above & (first != truth) & answered,
        exact_probability=probabilities[0] if probabilities else None,
        lineage_probability=probabilities[1] if probabilities else None,
        accepted=accepted,
    )


def measures_of(outcome: Outcome, *, rows: Bool[np.ndarray, " rows"] | None = None) -> dict[str, object]:
    """Return the measures of an outcome, or of some of its rows."""
    rows = np.ones(len(outcome.hit_1), dtype=bool) if rows is None else rows
    n = int(rows.sum())
    if n == 0:
        return {"n": 0}
    specific = outcome.lineage & ~outcome.hit_1 & ~outcome.general
    document: dict[str, object] = {
        "n": n,
        "hit_at_1": _share(outcome.hit_1, rows),
        "hit_at_5": _share(outcome.hit_5, rows),
        "lineage_compatible": _share(outcome.lineage, rows),
        "too_general": _share(outcome.general, rows),
        "too_specific": _share(specific, rows),
        "macro": _macro(outcome, rows),
    }
    if outcome.exact_probability is not None and outcome.lineage_probability is not None:
        document["ece"] = calibration_error(outcome.exact_probability[rows], outcome.hit_1[rows])
        document["ece_lineage"] = calibration_error(outcome.lineage_probability[rows], outcome.lineage[rows])
        document["precision_at_coverage"] = _curve(outcome, rows)
    if outcome.accepted is not None:
        document["auto"] = _auto(outcome, rows)
    return document


def by_source(outcome: Outcome, family: Mapping[str, str]) -> list[dict[str, object]]:
    """Return one entry per source, sorted by name."""
    names = np.array(outcome.source)
    found = []
    for source in sorted(set(outcome.source)):
        rows = names == source
        entry: dict[str, object] = {
            "source": source,
            "src_family": family[source],
            "n": int(rows.sum()),
            "hit_at_1": _share(outcome.hit_1, rows),
            "hit_at_5": _share(outcome.hit_5, rows),
            "lineage_compatible": _share(outcome.lineage, rows),
        }
        if outcome.accepted is not None:
            entry["auto"] = _auto(outcome, rows)
        found.append(entry)
    return found


def calibration_error(probability: Float64[np.ndarray, " rows"], is_right: Bool[np.ndarray, " rows"]) -> float:
    """Return the expected calibration error over 15 bins of equal width: 0 is best, in [0, 1]."""
    bins = np.minimum((probability * _N_BINS).astype(np.int64), _N_BINS - 1)
    n = np.bincount(bins, minlength=_N_BINS)
    gap = np.abs(np.bincount(bins, probability, _N_BINS) - np.bincount(bins, is_right.astype(float), _N_BINS))
    return _rounded(gap.sum() / max(int(n.sum()), 1))


def verbatim_rows(table: LabelTable, index: TermIndex) -> Bool[np.ndarray, " rows"]:
    """Return which labels are, but for case and punctuation, the name of a term."""
    names = {raw_words(index.ontology.name(term)) for term in index.terms}
    return np.array([raw_words(label) in names for label in table.label], dtype=bool)


def floor_of(truth: Int64[np.ndarray, " rows"], index: TermIndex) -> dict[str, object]:
    """Return what always answering `eukaryotic cell` scores."""
    at = index.position.get(EUKARYOTIC_CELL)
    if at is None:
        return {"term": EUKARYOTIC_CELL, "hit_at_1": None, "lineage_compatible": None}
    related = np.asarray(index.closure[truth, at].todense()).ravel() > 0
    related |= np.asarray(index.closure[at, truth].todense()).ravel() > 0
    return {
        "term": EUKARYOTIC_CELL,
        "hit_at_1": _rounded(float((truth == at).mean())),
        "lineage_compatible": _rounded(float(related.mean())),
    }


def ceiling_of(table: LabelTable, *, index: TermIndex) -> dict[str, object]:
    """Return how often two sources agree on a label that both mapped: over all pairs, and where the families differ.

    A label that one source maps to several terms counts with the share of agreeing pairs of its terms.
    """
    mapped: dict[str, dict[str, list[str]]] = {}
    family = dict(zip(table.source, table.family, strict=True))
    for label, term, source in zip(table.label, table.term, table.source, strict=True):
        mapped.setdefault(raw_words(label), {}).setdefault(source, []).append(term)
    found: dict[str, list[tuple[float, float]]] = {"all": [], "other_family": []}
    per_label: list[tuple[float, float]] = []
    for sources in mapped.values():
        mine = []
        for first, other in combinations(sorted(sources), 2):
            agreed = _agreement(sources[first], sources[other], index)
            mine.append(agreed)
            found["all"].append(agreed)
            if family[first] != family[other]:
                found["other_family"].append(agreed)
        if mine:
            per_label.append((_mean(mine, 0), _mean(mine, 1)))
    return {
        "n_labels": len(per_label),
        **{
            name: {"n_pairs": len(pairs), "exact": _rounded(_mean(pairs, 0)), "lineage_compatible": _rounded(_mean(pairs, 1))}
            for name, pairs in found.items()
        },
        "macro_over_labels": {"exact": _rounded(_mean(per_label, 0)), "lineage_compatible": _rounded(_mean(per_label, 1))},
    }  # fmt: skip


def _agreement(first: Sequence[str], other: Sequence[str], index: TermIndex) -> tuple[float, float]:
    pairs = [(a, b) for a in first for b in other]
    exact = sum(a == b for a, b in pairs) / len(pairs)
    return exact, sum(index.ontology.related(a, b) for a, b in pairs) / len(pairs)


def _macro(outcome: Outcome, rows: Bool[np.ndarray, " rows"]) -> dict[str, object]:
    names, at = np.unique(np.array(outcome.source)[rows], return_inverse=True)
    n = np.bincount(at, minlength=len(names))
    shown: dict[str, object] = {"n_sources": len(names)}
    for name, hit in (
        ("hit_at_1", outcome.hit_1),
        ("hit_at_5", outcome.hit_5),
        ("lineage_compatible", outcome.lineage),
    ):
        shown[name] = _rounded(float((np.bincount(at, hit[rows].astype(float), len(names)) / n).mean()))
    return shown


def _curve(outcome: Outcome, rows: Bool[np.ndarray, " rows"]) -> list[dict[str, float]]:
    """Return exact and lineage precision among the most certain rows, at each coverage."""
    if outcome.exact_probability is None:
        return []
    order = np.argsort(-outcome.exact_probability[rows], kind="stable")
    hit, lineage = outcome.hit_1[rows][order], outcome.lineage[rows][order]
    found = []
    for coverage in _COVERAGES:
        n = max(1, round(coverage * len(order)))
        found.append({"coverage": coverage, "exact": _rounded(hit[:n].mean()), "lineage_compatible": _rounded(lineage[:n].mean())})  # fmt: skip
    return found


def _auto(outcome: Outcome, rows: Bool[np.ndarray, " rows"]) -> dict[str, object]:
    if outcome.accepted is None:
        return {}
    taken = rows & outcome.accepted
    n = int(taken.sum())
    return {
        "n": n,
        "coverage": _rounded(n / max(int(rows.sum()), 1)),
        "exact": _share(outcome.hit_1, taken) if n else None,
        "lineage_compatible": _share(outcome.lineage, taken) if n else None,
    }


def _share(values: Bool[np.ndarray, " rows"], rows: Bool[np.ndarray, " rows"]) -> float:
    return _rounded(float(values[rows].mean()))


def _mean(pairs: Sequence[tuple[float, float]], at: int) -> float:
    return sum(pair[at] for pair in pairs) / len(pairs) if pairs else 0.0


def _rounded(value: float) -> float:
    return round(float(value), 4)
