"""Models that answered without looking: one class for every cell, or one vector.

Such a model still has an accuracy, that of the commonest type, and probes still make classes of noise around a point. The
number is not wrong; that nothing was learned has to be said beside it.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cytolabe.evaluate.plan import FLOOR_MODELS
from cytolabe.evaluate.results import ALL_FOLDS, Confusion
from cytolabe.models.collapse import COLLAPSED
from cytolabe.records import Finding, Score, Severity

__all__ = ["collapse_findings", "collapsed_embedding", "collapsed_embeddings"]

_EXAMPLES = 5


def collapse_findings(confusions: Sequence[Confusion]) -> tuple[Finding, ...]:
    """Report models, other than floors, that gave all cells of a fold one class where the truth has several."""
    told: dict[str, list[str]] = defaultdict(list)
    asked: dict[str, int] = defaultdict(int)
    for confusion in confusions:
        if confusion.model in FLOOR_MODELS or np.count_nonzero(confusion.matrix.sum(axis=1)) < 2:
            continue
        asked[confusion.model] += 1
        if np.count_nonzero(confusion.matrix.sum(axis=0)) == 1:
            told[confusion.model].append(_told(confusion))
    return tuple(
        Finding(
            code="W-MODEL-01",
            severity=Severity.WARNING,
            where=model,
            message=f"{model} gave every cell one class in {len(cases)} of {asked[model]} tables, where the truth has several: it "
            "looked at nothing there, and its accuracy is that of a constant",
            remedy="look at its training (epochs, rates, labels per class) and at the genes it was given; read macro-F1 beside "
            "that of the majority",
            rule="R17",
            n_affected=len(cases),
            n_total=asked[model],
            examples=tuple(cases[:_EXAMPLES]),
        )
        for model, cases in sorted(told.items())
    )


def collapsed_embeddings(scores: Sequence[Score]) -> tuple[Finding, ...]:
    """Report models whose embedding collapsed, by the folds and gene policies where it did, as the notes of their scores say."""
    told: dict[str, dict[str, str]] = defaultdict(dict)
    asked: dict[str, set[str]] = defaultdict(set)
    for score in scores:
        if score.split == ALL_FOLDS:
            continue
        # Probes stand on one embedding.
        model, place = score.model.partition("+")[0], f"{score.split}, {score.gene_policy}"
        asked[model].add(place)
        note = next((note for note in score.notes if note.startswith(COLLAPSED)), "")
        if note:
            told[model][place] = note
    return tuple(
        collapsed_embedding(
            model,
            f"{next(iter(cases.values()))} (in {len(cases)} of {len(asked[model])} folds and gene policies)",
            n_affected=len(cases),
            n_total=len(asked[model]),
            examples=tuple(cases)[:_EXAMPLES],
        )
        for model, cases in sorted(told.items())
        if cases
    )


def collapsed_embedding(
    model: str, note: str, *, n_affected: int = 0, n_total: int = 0, examples: tuple[str, ...] = ()
) -> Finding:
    """Return the finding that an embedding of a model collapsed; `note` says how (`models.collapse`)."""
    return Finding(
        code="W-MODEL-02",
        severity=Severity.WARNING,
        where=model,
        message=f"{note}: whatever is read off it is noise, or little more",
        remedy="look at its training (epochs, rates, loss), its checkpoint and the genes it was given; a network with random weights "
        "may do this, one that was trained must not",
        rule="R17",
        n_affected=n_affected,
        n_total=n_total,
        examples=examples,
    )


def _told(confusion: Confusion) -> str:
    named = confusion.names[int(np.flatnonzero(confusion.matrix.sum(axis=0))[0])]
    return f"{confusion.split}, {confusion.resolution}, {confusion.gene_policy}: all {named}"
