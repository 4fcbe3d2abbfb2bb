"""`split.json`: a split as a small canonical file that can be run again.

The file holds the rule, the seed, the snapshot, and one digest per side, never a list of cells. Reading it runs the
rule on the snapshot at hand and compares: a file that was edited, or that names another snapshot, is not used.
Digests are over the positions of the rows in the canonical cell table (sorted, 64-bit little-endian), which the
snapshot id fixes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Integer

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.files import replace_file
from cytolabe.provenance import canonical_json, jsonable
from cytolabe.records import Fold, Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.groups import split_of
from cytolabe.split.keys import CELLS
from cytolabe.split.plan import PlannedFold, SplitPlan, plan_split
from cytolabe.split.rule import SplitRule, parse_rule, rule_of_document
from cytolabe.split.status import FoldFacts

__all__ = ["FOLDS_IN_FULL", "FORMAT", "plan_document", "read_split", "rows_digest", "split_document", "write_split"]

FORMAT = "cytolabe-split/2"
FOLDS_IN_FULL = 64
"""Of up to so many folds both sides are spelled out."""


def rows_digest(rows: Integer[np.ndarray, " rows"]) -> str:
    """Return the digest of a set of row positions."""
    ordered = np.unique(rows).astype("<i8")
    return "sha256:" + hashlib.sha256(ordered.tobytes()).hexdigest()


def plan_document(plan: SplitPlan) -> dict[str, Any]:
    """Return a planned split as JSON values: the same as `split_document` of its split, without listing a row."""
    in_full = len(plan.planned) <= FOLDS_IN_FULL
    digests = iter(plan.digests([side for fold in plan.planned for side in _told_sides(fold, in_full=in_full)]))
    folds = [_planned_fold(fold, digests, in_full=in_full) for fold in plan.planned]
    return _document(
        plan.rule, snapshot_id=plan.snapshot_id, seed=plan.seed, folds=folds, classes=plan.classes,
        findings=plan.findings,
    )  # fmt: skip


def split_document(split: Split) -> dict[str, Any]:
    """Return a split as JSON values: `splits` (one per fold), `classes`, `findings`, and what they follow from."""
    in_full = len(split.folds) <= FOLDS_IN_FULL
    folds = [_listed_fold(fold, n_cells=split.n_cells, in_full=in_full) for fold in split.folds]
    return _document(
        parse_rule(split.rule), snapshot_id=split.snapshot_id, seed=split.seed, folds=folds, classes=split.classes,
        findings=split.findings,
    )  # fmt: skip


def write_split(split: Split | SplitPlan, path: Path, *, access: str = "") -> dict[str, Any]:
    """Write a split under `path`, replacing what was there, and return its document.

    `access` is the access class of the snapshot, where one was declared; no side depends on it.
    """
    document = plan_document(split) if isinstance(split, SplitPlan) else split_document(split)
    document = {**document, "access": access} if access else document
    replace_file(path, canonical_json(document))
    return document


def _document(rule: SplitRule, *, folds: list[dict[str, object]], **known: object) -> dict[str, Any]:
    told = cast("dict[str, Any]", jsonable(rule))
    links, joins = told.pop("links"), told.pop("joins")
    return {
        "format": FORMAT,
        "rule": told,
        "links": links,
        "joins": joins,
        "leaky": CELLS in rule.by,
        "splits": folds,
        **{key: jsonable(value) for key, value in known.items() if key != "folds"},
    }


def read_split(path: Path, snapshot: SnapshotView) -> Split:
    """Read a split by running its rule on `snapshot` and comparing the sides.

    Raises
    ------
    UnreadableInputError
        If the file is missing or is not a split document.
    UsageError
        If it was made for another snapshot, or its rule is malformed.
    IntegrityError
        If the rule gives other rows than the file says.
    """
    document = {key: value for key, value in _parsed(path).items() if key != "access"}
    if document["snapshot_id"] != snapshot.snapshot_id:
        msg = (
            f"{path.name} was made for snapshot {document['snapshot_id']}, and this one is {snapshot.snapshot_id}. "
            "Its sides would not be what was audited; make the split again on this snapshot."
        )
        raise UsageError(msg)
    rule = rule_of_document({**document["rule"], "links": document["links"], "joins": document["joins"]})
    plan = plan_split(snapshot, rule, seed=document["seed"])
    _compare(path, document, plan_document(plan))
    return split_of(plan)


def _told_sides(fold: PlannedFold, *, in_full: bool) -> Iterator[Bool[np.ndarray, " strata"]]:
    """Yield the sides of which a digest is told, in the order in which `_planned_fold` takes the digests."""
    if in_full or not fold.train_is_rest:
        yield fold.train
    yield fold.test
    for one in fold.inner:
        yield from _told_sides(one, in_full=in_full)


def _planned_fold(fold: PlannedFold, digests: Iterator[str], *, in_full: bool) -> dict[str, object]:
    is_told = in_full or not fold.train_is_rest
    own = next(digests) if is_told else None, next(digests)
    inner = [_planned_fold(one, digests, in_full=in_full) for one in fold.inner]
    sizes = fold.facts.n_train, fold.facts.n_test
    return _fold_document(fold.facts, sizes, digests=own, is_rest=fold.train_is_rest, inner=inner)


def _listed_fold(fold: Fold, *, n_cells: int, in_full: bool) -> dict[str, object]:
    sizes = len(fold.train_rows), len(fold.test_rows)
    is_rest = sum(sizes) == n_cells
    digests = rows_digest(fold.train_rows) if in_full or not is_rest else None, rows_digest(fold.test_rows)
    inner = [_listed_fold(one, n_cells=n_cells, in_full=in_full) for one in fold.inner]
    return _fold_document(fold, sizes, digests=digests, is_rest=is_rest, inner=inner)


def _fold_document(
    fold: Fold | FoldFacts,
    sizes: tuple[int, int],
    *,
    digests: tuple[str | None, str],
    is_rest: bool,
    inner: list[dict[str, object]],
) -> dict[str, object]:
    """Say everything of one fold; of many folds the training side is told only where it is not simply all the rest.

    The file would grow with the square of the groups otherwise.
    """
    return {
        "split_id": fold.split_id,
        "held_out": fold.held_out,
        "n_train": sizes[0],
        "n_test": sizes[1],
        "groups_train": list(fold.groups_train) if digests[0] else None,
        "groups_test": list(fold.groups_test),
        "status": fold.status,
        "reason": fold.reason,
        "train_is_rest": is_rest,
        "train_rows_digest": digests[0],
        "test_rows_digest": digests[1],
        "inner": inner,
    }


def _parsed(path: Path) -> dict[str, Any]:
    try:
        document: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{path.name} is not readable as a split ({error}); write it again with `cytolabe split`."
        raise UnreadableInputError(msg) from None
    expected = {"snapshot_id": str, "rule": dict, "links": list, "joins": list, "seed": int, "splits": list}
    is_split = isinstance(document, dict) and document.get("format") == FORMAT
    wrong = [key for key, kind in expected.items() if not is_split or not isinstance(document.get(key), kind)]
    if wrong:
        msg = f"{path.name} is no split document of format {FORMAT}: wrong or missing {', '.join(wrong)}."
        raise UnreadableInputError(msg)
    return cast("dict[str, Any]", document)


def _compare(path: Path, recorded: Mapping[str, Any], computed: Mapping[str, Any]) -> None:
    """Raise unless both documents are equal, naming the first fold that differs."""
    if canonical_json(recorded) == canonical_json(computed):
        return
    said = {str(fold.get("split_id")): fold for fold in recorded["splits"] if isinstance(fold, dict)}
    differing = [fold["split_id"] for fold in computed["splits"] if said.get(fold["split_id"]) != fold]
    where = ", ".join(differing[:5]) or "its list of folds or findings"
    msg = (
        f"{path.name}: the rule gives other sides than the file records ({where}). "
        "The file was changed after it was written; make the split again."
    )
    raise IntegrityError(msg)
