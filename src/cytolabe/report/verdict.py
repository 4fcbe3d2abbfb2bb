"""The first minute: what a reader who stops after one screen has to take away.

Refusals stand beside results, not below them. The number of a fold is the best of the models that were tried on that
very test side, which flatters it a little; the text beside it says so.
"""

from dataclasses import dataclass

from cytolabe.records import Protocol, Score, ScoreStatus, Severity
from cytolabe.report.content import ReportContent
from cytolabe.report.leaderboard import POOLED, select, splits_of
from cytolabe.report.text import count, counted, fraction, inert

__all__ = ["FoldVerdict", "Verdict", "verdict_of"]

_MAPPED = frozenset({"auto", "reviewed"})


@dataclass(frozen=True, kw_only=True)
class FoldVerdict:
    """Best model of one fold at the decision level; `score` is None where no model has a number."""

    split: str
    score: Score | None
    n_models: int
    told: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The counts and sentences of the box on top of the page."""

    n_accepted: int
    n_refused: int
    n_cells: int
    n_labels: int
    n_labels_mapped: int
    n_cells_labeled: int
    n_cells_mapped: int
    folds: tuple[FoldVerdict, ...]
    refused: tuple[str, ...]
    n_faults: int
    n_faults_caught: int


def verdict_of(content: ReportContent) -> Verdict:
    """Count what the box says."""
    labels = [row for row in content.mappings if row.decision != "reserved"]
    mapped = [row for row in labels if row.term and row.decision in _MAPPED]
    used = [row for row in content.sources if row.status != "refused"]
    return Verdict(
        n_accepted=len(used),
        n_refused=len(content.sources) - len(used),
        n_cells=sum(row.n_cells for row in used) if used else sum(row.n_cells for row in content.datasets),
        n_labels=len(labels),
        n_labels_mapped=len(mapped),
        n_cells_labeled=sum(row.n_cells for row in labels),
        n_cells_mapped=sum(row.n_cells for row in mapped),
        folds=tuple(_fold_verdict(content, split) for split in _folds_shown(content)),
        refused=_refused(content),
        n_faults=len(content.planted_faults),
        n_faults_caught=sum(fault.caught for fault in content.planted_faults),
    )


def _folds_shown(content: ReportContent) -> tuple[str, ...]:
    """Return every fold, scored or not: a fold without a number is part of the verdict."""
    scored = [split for split in splits_of(content) if split != POOLED]
    silent = [fold.split_id for fold in content.folds if fold.split_id not in scored]
    return (*scored, *silent)


def _fold_verdict(content: ReportContent, split: str) -> FoldVerdict:
    found = select(content, split, resolution=content.decision_level)
    models = [score for score in found.values() if score.protocol is not Protocol.CONTROL]
    valued = [score for score in models if score.value is not None]
    if not valued:
        reasons = [fold.reason for fold in content.folds if fold.split_id == split and fold.reason]
        reasons += [score.reason for score in models if score.reason]
        told = inert(reasons[0], 200) if reasons else "no model was scored"
        return FoldVerdict(split=split, score=None, n_models=len(models), told=told)
    best = max(valued, key=lambda score: (score.value or 0.0, score.model))
    told = f"best of {counted(len(valued), 'model')} tried on this test side"
    if best.floor is not None and best.value is not None and best.value <= best.floor:
        told = f"no model beats the floor; {told}"
    if best.status is ScoreStatus.QUALIFIED:
        told += f"; qualified: {inert(best.reason, 160)}"
    return FoldVerdict(split=split, score=best, n_models=len(models), told=told)


def _refused(content: ReportContent) -> tuple[str, ...]:
    lines = []
    for row in sorted(content.sources, key=lambda row: row.source):
        if row.status == "refused":
            errors = [finding for finding in row.findings if finding.severity is Severity.ERROR]
            why = inert(errors[0].message, 240) if errors else "no reason was recorded"
            lines.append(f"File {inert(row.source, 80)}: {why}")
    lines += [
        f"Fold {inert(fold.split_id, 80)}: {inert(fold.reason, 240) or 'no reason was recorded'}"
        for fold in content.folds
        if fold.status == "REFUSED"
    ]
    if len(content.claims_refused):
        lines.append(f"{counted(len(content.claims_refused), 'claim')} that these data cannot carry (see below)")
    refused = sum(score.status is ScoreStatus.REFUSED for score in content.scores)
    failed = sum(score.status is ScoreStatus.FAILED for score in content.scores)
    if refused:
        lines.append(f"{count(refused)} of {count(len(content.scores))} scores: refused, kept outside every aggregate")
    if failed:
        lines.append(f"{counted(failed, 'score')}: the model failed; that is no zero")
    abstained = [row for row in content.mappings if not row.term and row.decision == "abstained"]
    if abstained:
        total = sum(row.n_cells for row in content.mappings)
        n_cells = sum(row.n_cells for row in abstained)
        share = f" ({fraction(n_cells / total)} of labeled cells)" if total else ""
        lines.append(f"{counted(len(abstained), 'label')}: no guess was made{share}")
    return tuple(lines)
