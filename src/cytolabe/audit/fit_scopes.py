"""Which cells was each step of a model fitted on? Compared by digest, never by a caller's word (rules R13, R16).

A step that met test cells is a finding, unless the model's card says that it fits on the query without labels
(`fit_on_query` = `unlabelled_query` or `joint`): then it is exempt, and the certificate says so. A step whose cells
have no name here cannot be shown to be clean, so it is a finding as well.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cytolabe.records import Finding, FitOnQuery, FitScope, ModelCard, Severity

__all__ = ["CellSet", "FitRules", "check_fit_scopes", "may_fit_on", "scope_test"]


@dataclass(frozen=True, kw_only=True)
class CellSet:
    """A set of cells with a name; `n_test` of them are of the test side, beside `n_train` of the training side."""

    name: str
    n_train: int = 0
    n_test: int = 0


@dataclass(frozen=True, kw_only=True)
class FitRules:
    """What the fits of a fold are judged by: the card of each model, and the names of sets of cells, by digest."""

    cards: Mapping[str, ModelCard] = field(default_factory=dict)
    cell_sets: Mapping[str, CellSet] = field(default_factory=dict)


def may_fit_on(card: ModelCard | None, cells: CellSet, *, digest: str) -> bool:
    """Tell whether a card allows a step on these cells: training cells always, query cells as `fit_on_query` says.

    `digest` is that of the cells. What a model was trained on before it came here, which its card names, is no query of this fold.
    """
    if not cells.n_test:
        return True
    if card is None or card.fit_on_query is FitOnQuery.NONE or digest in {one.cells_digest for one in card.scopes}:
        return False
    return card.fit_on_query is FitOnQuery.JOINT or not cells.n_train


def check_fit_scopes(scopes: Sequence[FitScope], *, allowed: Mapping[str, str]) -> tuple[Finding, ...]:
    """Report every step that was fitted on other cells than it was allowed to see.

    Parameters
    ----------
    scopes
        What the steps of a model say they were fitted on.
    allowed
        Digest of a set of cells -> its name, for every set that the model may be fitted on.
    """
    return tuple(
        Finding(
            code="E-LEAK-04",
            severity=Severity.ERROR,
            where=scope.step,
            message=f"the step was fitted on {scope.n_cells} cells (digest {scope.cells_digest[:19]}) that are none of: "
            f"{', '.join(sorted(set(allowed.values()))) or 'nothing allowed'}; it may have seen the test side",
            remedy="fit every step (genes, scaling, components, classifier) on the train view only",
            rule="R13",
            n_affected=scope.n_cells,
            n_total=scope.n_cells,
            examples=(scope.cells_digest,),
        )
        for scope in scopes
        if scope.cells_digest not in allowed
    )


def scope_test(
    model: str, scopes: Sequence[FitScope], *, card: ModelCard | None, known: Mapping[str, CellSet]
) -> dict[str, object]:
    """Return the test of a certificate: the cells behind each step of a model.

    Parameters
    ----------
    model
        Name of the model.
    scopes
        What its steps say they were fitted on.
    card
        Its card; None allows nothing but training cells.
    known
        Digest -> cells, for every set that has a name in this fold.
    """
    steps = Counter((scope.step, scope.n_cells, scope.cells_digest) for scope in scopes)
    sets = [(known.get(digest), digest) for _, _, digest in steps]
    may_see = [found is not None and may_fit_on(card, found, digest=digest) for found, digest in sets]
    n_exempt = sum(allowed and found.n_test > 0 for allowed, (found, _) in zip(may_see, sets, strict=True) if found)
    test: dict[str, object] = {
        "test": f"fit scope of {model}",
        "n_tested": len(steps),
        "n_found": len(sets) - sum(may_see),
        "power": "by digest of the cells that each step was handed",
        "steps": [
            {"step": step, "n_cells": n_cells, "cells_digest": digest, "cells": _name(known.get(digest))}
            for step, n_cells, digest in sorted(steps)
        ],
    }
    if n_exempt and card is not None:
        test["n_exempt"] = n_exempt
        test["exempt"] = (
            f"{n_exempt} step(s) met test cells, without labels, as the model's card says: fit_on_query = "
            f"{card.fit_on_query.value}"
        )
    return test


def _name(found: CellSet | None) -> str:
    return found.name if found is not None else "cells that have no name in this fold"
