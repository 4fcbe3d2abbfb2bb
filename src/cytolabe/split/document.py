"""`split.json`: a split as a small canonical file that can be run again.

The file holds the rule, the seed, the snapshot, and one digest per side, never a list of cells. Reading it runs the
rule on the snapshot at hand and compares: a file that was edited, or that names another snapshot, is not used.
Digests are over the positions of the rows in the canonical cell table (sorted, 64-bit little-endian), which the
snapshot id fixes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Integer

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.files import replace_file
from cytolabe.provenance import canonical_json, jsonable
from cytolabe.records import Fold, Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.groups import apply_rule
from cytolabe.split.rule import parse_rule, rule_of_document

__all__ = ["FORMAT", "read_split", "rows_digest", "split_document", "write_split"]

FORMAT = "cytolabe-split/1"


def rows_digest(rows: Integer[np.ndarray, " rows"]) -> str:
    """Return the digest of a set of row positions."""
    ordered = np.unique(rows).astype("<i8")
    return "sha256:" + hashlib.sha256(ordered.tobytes()).hexdigest()


def split_document(split: Split) -> dict[str, Any]:
    """Return a split as JSON values: `splits` (one per fold), `findings`, and what they follow from."""
    rule = cast("dict[str, Any]", jsonable(parse_rule(split.rule)))
    links, joins = rule.pop("links"), rule.pop("joins")
    return {
        "format": FORMAT,
        "snapshot_id": split.snapshot_id,
        "rule": rule,
        "links": links,
        "joins": joins,
        "seed": split.seed,
        "splits": [_fold_document(fold) for fold in split.folds],
        "findings": jsonable(split.findings),
    }


def write_split(split: Split, path: Path) -> None:
    """Write a split under `path`, replacing what was there."""
    replace_file(path, canonical_json(split_document(split)))


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
    document = _parsed(path)
    if document["snapshot_id"] != snapshot.snapshot_id:
        msg = (
            f"{path.name} was made for snapshot {document['snapshot_id']}, and this one is {snapshot.snapshot_id}. "
            "Its sides would not be what was audited; make the split again on this snapshot."
        )
        raise UsageError(msg)
    rule = rule_of_document({**document["rule"], "links": document["links"], "joins": document["joins"]})
    split = apply_rule(snapshot, rule, seed=document["seed"])
    _compare(path, document, split_document(split))
    return split


def _fold_document(fold: Fold) -> dict[str, object]:
    return {
        "split_id": fold.split_id,
        "held_out": fold.held_out,
        "n_train": len(fold.train_rows),
        "n_test": len(fold.test_rows),
        "groups_train": list(fold.groups_train),
        "groups_test": list(fold.groups_test),
        "status": fold.status,
        "reason": fold.reason,
        "train_rows_digest": rows_digest(fold.train_rows),
        "test_rows_digest": rows_digest(fold.test_rows),
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
