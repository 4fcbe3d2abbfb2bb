"""What a certificate says of labels: what decided them, where they come from, and whether their contrasts are estimable.

Labels are the truth that scores stand on, so a certificate tests them like the cells: mappings that expression decided
(rule R6b), labels that a program gave (rule R7: circular), and for each level that is scored the groups of labels that
never share a library in training (rule R12).
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from cytolabe.audit.claims import cell_type_claim
from cytolabe.audit.designs import codes_of, design_of
from cytolabe.audit.evidence import is_by_expression
from cytolabe.audit.units import is_known, library_keys
from cytolabe.records import UNKNOWN, Fold
from cytolabe.snapshot.view import SnapshotView

__all__ = ["label_tests"]

_CIRCULAR = frozenset({"automated", "transferred"})


def label_tests(snapshot: SnapshotView, fold: Fold, labels: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """Return the tests of the labels of a fold; `labels` holds one label per cell for each level that is scored."""
    of_levels = [_estimability(snapshot.cells, fold, level, labels=labels[level]) for level in labels]
    return [_label_evidence(snapshot, fold), _label_origin(snapshot.cells, fold), *of_levels]


def _label_evidence(snapshot: SnapshotView, fold: Fold) -> dict[str, object]:
    """Count what justifies the labels that serve as truth, in labels of the test side (rule R6b)."""
    part = snapshot.cells.iloc[fold.test_rows]
    used = set(zip(part["dataset_id"], part["contributor_label"], strict=True))
    mappings = [mapping for mapping in snapshot.mappings if (mapping.dataset_id, mapping.contributor_label) in used]
    by_expression = [mapping for mapping in mappings if is_by_expression(mapping)]
    return {
        "test": "label evidence",
        "n_tested": len(mappings),
        "n_found": len(by_expression),
        "power": "by the justification that each mapping names",
        "justifications": dict(sorted(Counter(m.justification for m in mappings).items())),
        "decisions": dict(sorted(Counter(m.decision for m in mappings).items())),
    }


def _label_origin(cells: pd.DataFrame, fold: Fold) -> dict[str, object]:
    """Count the test cells whose labels a program or another data set gave (rule R7)."""
    part = cells.iloc[fold.test_rows]
    origins = Counter(part.loc[is_known(part["cell_type_ontology_term_id"]), "label_origin"].astype(str).tolist())
    return {
        "test": "label origin",
        "n_tested": sum(origins.values()),
        "n_found": sum(n for origin, n in origins.items() if origin in _CIRCULAR),
        "power": "as declared, in test cells with a term",
        "origins": dict(sorted(origins.items())),
    }


def _estimability(cells: pd.DataFrame, fold: Fold, level: str, *, labels: np.ndarray) -> dict[str, object]:
    """Count the test labels that training has, and the contrasts of them that no library of training holds."""
    known = ~np.isin(labels.astype(str), ["", UNKNOWN])
    train = fold.train_rows[known[fold.train_rows]]
    libraries = library_keys(cells.iloc[train])
    everywhere = np.ones(len(train), dtype=bool)
    names = labels[train].astype(str)
    design = design_of(
        np.arange(len(train)), codes_of(libraries, everywhere), codes_of(names, everywhere)
    )  # fmt: skip
    group_of = dict(zip(names[design.units].tolist(), design.components.tolist(), strict=True))
    tested = sorted(set(labels[fold.test_rows].astype(str).tolist()) & set(group_of))
    verdict = cell_type_claim(cells, labels, train_rows=fold.train_rows, test_rows=fold.test_rows)
    return {
        "test": f"estimability, {level}",
        "n_tested": len(tested),
        "n_found": max(0, len({group_of[label] for label in tested}) - 1),
        "power": "exact, by library: contrasts of test labels that no library of training holds",
        "verdict": verdict.status.value,
        "reason": verdict.reason,
    }
