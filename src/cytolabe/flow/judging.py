"""Whether a run was reproduced: each component by the class that it declares.

    bit_exact           the same digest, or it differs
    numerically_close   scores within `CLOSE`: sums of floats in another order, another BLAS or number of threads
    statistical         scores within the spread of the seeds that the first run reports; with one seed nobody can tell
    unknown             a file that was made elsewhere: the same digest, or nobody can tell

Cards of models declare theirs; what a run writes before any model comes is exact. Files in which the numbers of several
models stand follow from these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cytolabe.models.cards import CARDS
from cytolabe.records import UNKNOWN

__all__ = ["CLOSE", "EXACT_FILES", "Component", "judge_files", "judge_models", "judge_parents"]

CLOSE = 1e-3
"""How far apart two scores of a numerically close model may be: a few of 1,000 cells at a border between classes."""

EXACT_FILES = ("cells.tsv", "certificate.json", "mappings.sssom.tsv", "split.json", "verify_certificate.py")
_WEAKEST_LAST = ("bit_exact", "numerically_close", "statistical", UNKNOWN)
_EXACT_PARENTS = ("snapshot", "dataset", "mapping", "persons", "overlay", "levels")
_KEY = ("task", "split", "gene_policy", "resolution", "model", "metric", "stratum")


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of a run. `status` is identical, within (its class), follows (from models), differs or not_judged."""

    name: str
    determinism: str
    status: str
    detail: str = ""

    @property
    def is_reproduced(self) -> bool:
        """Whether it is what its class promises."""
        return self.status in {"identical", "within", "follows"}


def judge_parents(first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]]) -> tuple[Component, ...]:
    """Judge what was made before any model: snapshot, data sets, mappings, persons, levels; all of it is exact."""
    before, after = ({(row["role"], row["name"]): row["digest"] for row in rows} for rows in (first, second))
    named = [key for key in dict.fromkeys([*before, *after]) if key[0] in _EXACT_PARENTS and key[0] != "snapshot"]
    found = [_exact(f"{role} {name}", before.get((role, name)), after.get((role, name))) for role, name in named]
    snapshots = [[row["digest"] for row in rows if row["role"] == "snapshot"] for rows in (first, second)]
    return (_exact("snapshot", *(rows[0] if rows else None for rows in snapshots)), *found)


def judge_files(
    first: Mapping[str, str], second: Mapping[str, str], *, models: Sequence[Component]
) -> tuple[Component, ...]:
    """Judge the files that both runs wrote, by SHA-256; those in which numbers of models stand follow from these."""
    weakest = max((model.determinism for model in models), key=_WEAKEST_LAST.index, default="bit_exact")
    found = []
    for name in sorted({*first, *second}):
        exact = _exact(name, first.get(name), second.get(name))
        if (
            name in EXACT_FILES
            or weakest == "bit_exact"
            or exact.status == "identical"
            or None in (first.get(name), second.get(name))
        ):
            determinism = "bit_exact" if name in EXACT_FILES else weakest
            found.append(Component(name=name, determinism=determinism, status=exact.status, detail=exact.detail))
        else:
            detail = "its bytes differ; the numbers in it are judged by model"
            found.append(Component(name=name, determinism=weakest, status="follows", detail=detail))
    return tuple(found)


def judge_models(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> tuple[Component, ...]:
    """Judge the scores of each model by its class, by name of the model; rows are those of `scores.json`."""
    before, after = ({tuple(str(row[key]) for key in _KEY): row for row in rows} for rows in (first, second))
    names = sorted({str(row["model"]).partition("+")[0] for row in (*first, *second)})
    return tuple(_model(name, before, after) for name in names)


def _model(
    name: str, before: Mapping[tuple[str, ...], Mapping[str, Any]], after: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> Component:
    card = CARDS.get(name.partition(":")[0])
    determinism = card.determinism if card is not None and card.determinism in _WEAKEST_LAST else UNKNOWN
    keys = [key for key in dict.fromkeys([*before, *after]) if key[_KEY.index("model")].partition("+")[0] == name]
    worst, told, n_differ, largest = "identical", "", 0, 0.0
    for key in keys:
        status, delta = _row(determinism, before.get(key), after.get(key))
        n_differ += status != "identical"
        largest = max(largest, delta)
        if _RANK.index(status) > _RANK.index(worst):
            worst, told = status, ", ".join(key)
    detail = f"{len(keys)} scores"
    if n_differ:
        detail = f"{n_differ} of {len(keys)} scores differ, by at most {largest:.3g}" + (
            f"; first {told}" if told else ""
        )
    return Component(name=f"model {name}", determinism=determinism, status=worst, detail=detail)


_RANK = ("identical", "within", "not_judged", "differs")


def _row(determinism: str, one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> tuple[str, float]:
    """Return the status of one score, and how far the two are apart. Floors and ceilings are scores of other models."""
    if one is None or other is None or one["status"] != other["status"]:
        return "differs", 0.0
    values = [(one[key], other[key]) for key in ("value", "raw_value")]
    if all(first == second for first, second in values):
        return "identical", 0.0
    if any((first is None) != (second is None) for first, second in values):
        return "differs", 0.0
    delta = max(abs(second - first) for first, second in values if first is not None)
    return _by_class(determinism, delta, list(one.get("seeds", {}).values())), delta


def _by_class(determinism: str, delta: float, seeds: Sequence[float]) -> str:
    """Return the status of a score that is not the same, by what its model promises."""
    if determinism == "numerically_close":
        return "within" if delta <= CLOSE else "differs"
    if determinism == "statistical" and len(seeds) > 1:
        return "within" if delta <= max(seeds) - min(seeds) else "differs"
    return "differs" if determinism == "bit_exact" else "not_judged"


def _exact(name: str, one: str | None, other: str | None) -> Component:
    if one is not None and one == other:
        return Component(name=name, determinism="bit_exact", status="identical")
    shown = [digest.removeprefix("sha256:")[:12] if digest else "nothing" for digest in (one, other)]
    return Component(name=name, determinism="bit_exact", status="differs", detail=f"{shown[0]} -> {shown[1]}")
