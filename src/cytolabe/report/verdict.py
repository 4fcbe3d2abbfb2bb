"""The first minute: what a reader who stops after one screen has to take away.

Refusals stand beside results, not below them. A fold is shown as floor, best number and ceiling; the model of the best
number is not named, for the box ranks nothing: the best of several that were tried on one test side flatters, and the
next fold may have another.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cytolabe.records import Protocol, Score, ScoreStatus, Severity
from cytolabe.report.audit_tables import grouped_claims
from cytolabe.report.content import ReportContent
from cytolabe.report.leaderboard import POOLED, select, splits_of
from cytolabe.report.remarks import first_clause, interval_note
from cytolabe.report.text import count, counted, fraction, inert

__all__ = ["NO_RANKING", "FoldVerdict", "Verdict", "verdict_of"]

NO_RANKING = (
    "No model is ranked here: the best of several that were tried on the same cells looks better than it is. Every "
    "model's number is in the tables."
)
_ABOVE = (
    "Where the ceiling lies below the number: the ceiling is the same model trained inside the held-out study alone, "
    "often on fewer cells. It is a yardstick, no upper bound."
)
_MAPPED = frozenset({"auto", "reviewed"})


@dataclass(frozen=True, kw_only=True)
class FoldVerdict:
    """One fold at the decision level; `score` is its highest number, None where no model has one.

    `others` are the numbers of the other models, and `told` says what qualifies this fold alone.
    """

    split: str
    score: Score | None
    n_models: int
    others: tuple[float, ...]
    status: str
    told: str

    @property
    def is_above_ceiling(self) -> bool:
        """Whether the number lies above its ceiling, which needs a word."""
        score = self.score
        return score is not None and score.ceiling is not None and (score.value or 0.0) > score.ceiling


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The counts and sentences of the box on top of the page. `remarks` hold for all folds."""

    n_accepted: int
    n_refused: int
    n_cells: int
    n_labels: int
    n_labels_mapped: int
    n_cells_labeled: int
    n_cells_mapped: int
    folds: tuple[FoldVerdict, ...]
    remarks: tuple[str, ...]
    refused: tuple[str, ...]
    n_faults: int
    n_faults_caught: int

    @property
    def best_of(self) -> str:
        """What the column of the best numbers is called: of how many models, where that is the same in all folds."""
        sizes = {fold.n_models for fold in self.folds if fold.score is not None}
        return f"Best of {counted(sizes.pop(), 'model')}" if len(sizes) == 1 else "Best of the models"


def verdict_of(content: ReportContent) -> Verdict:
    """Count what the box says."""
    labels = [row for row in content.mappings if row.decision != "reserved"]
    mapped = [row for row in labels if row.term and row.decision in _MAPPED]
    used = [row for row in content.sources if row.status != "refused"]
    shared = _shared_reasons(content)
    folds = tuple(_fold_verdict(content, split, shared) for split in _folds_shown(content))
    return Verdict(
        n_accepted=len(used),
        n_refused=len(content.sources) - len(used),
        n_cells=sum(row.n_cells for row in used) if used else sum(row.n_cells for row in content.datasets),
        n_labels=len(labels),
        n_labels_mapped=len(mapped),
        n_cells_labeled=sum(row.n_cells for row in labels),
        n_cells_mapped=sum(row.n_cells for row in mapped),
        folds=folds,
        remarks=_remarks(folds, shared),
        refused=_refused(content),
        n_faults=len(content.planted_faults),
        n_faults_caught=sum(fault.caught for fault in content.planted_faults),
    )


def _folds_shown(content: ReportContent) -> tuple[str, ...]:
    """Return every fold, scored or not: a fold without a number is part of the verdict."""
    scored = [split for split in splits_of(content) if split != POOLED]
    silent = [fold.split_id for fold in content.folds if fold.split_id not in scored]
    return (*scored, *silent)


def _models(content: ReportContent, split: str) -> list[Score]:
    found = select(content, split, resolution=content.decision_level)
    return [score for score in found.values() if score.protocol is not Protocol.CONTROL]


def _best(scores: Sequence[Score]) -> Score | None:
    valued = [score for score in scores if score.value is not None]
    return max(valued, key=lambda score: (score.value or 0.0, score.model), default=None)


def _shared_reasons(content: ReportContent) -> tuple[str, ...]:
    """Return the reasons that qualify the number of every fold; one fold alone shares nothing."""
    best = [found for split in _folds_shown(content) if (found := _best(_models(content, split))) is not None]
    if len(best) < 2:
        return ()
    reasons = [score.reason.split("; ") for score in best]
    return tuple(text for text in dict.fromkeys(reasons[0]) if text and all(text in others for others in reasons))


def _fold_verdict(content: ReportContent, split: str, shared: Sequence[str]) -> FoldVerdict:
    models = _models(content, split)
    best = _best(models)
    if best is None:
        reasons = [fold.reason for fold in content.folds if fold.split_id == split and fold.reason]
        reasons += [score.reason for score in models if score.reason]
        told = inert(reasons[0], 200) if reasons else "no model was scored"
        status = next(
            (fold.status for fold in content.folds if fold.split_id == split and fold.status == "REFUSED"), ""
        )
        status = status or next((score.status.value for score in models), ScoreStatus.NOT_RUN.value)
        return FoldVerdict(split=split, score=None, n_models=0, others=(), status=status, told=told)
    others = tuple(score.value for score in models if score.value is not None and score is not best)
    words = [] if best.floor is None or (best.value or 0.0) > best.floor else ["no model beats the floor"]
    words += [text for text in dict.fromkeys(best.reason.split("; ")) if text and text not in shared]
    return FoldVerdict(
        split=split,
        score=best,
        n_models=len(others) + 1,
        others=others,
        status=best.status.value,
        told=inert("; ".join(words), 200),
    )


def _remarks(folds: Sequence[FoldVerdict], shared: Sequence[str]) -> tuple[str, ...]:
    scored = [fold for fold in folds if fold.score is not None]
    if not scored:
        return ()
    told = [f"Every number is QUALIFIED: {inert('; '.join(shared), 400)}."] if shared else []
    told.append(interval_note([fold.score for fold in scored if fold.score is not None]))
    if any(fold.is_above_ceiling for fold in scored):
        told.append(_ABOVE)
    return tuple(told)


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
    lines += _refused_claims(content)
    lines += _scores_without_number(content)
    abstained = [row for row in content.mappings if not row.term and row.decision == "abstained"]
    if abstained:
        total = sum(row.n_cells for row in content.mappings)
        n_cells = sum(row.n_cells for row in abstained)
        share = f" ({fraction(n_cells / total)} of labeled cells)" if total else ""
        lines.append(f"{counted(len(abstained), 'label')}: no guess was made{share}")
    return tuple(lines)


def _refused_claims(content: ReportContent) -> list[str]:
    """Return one line per kind of claim: in how many of the places where it was judged it is refused, and why first."""
    groups = grouped_claims(content.claims_refused)
    lines = []
    for claim in dict.fromkeys(name for name, *_ in groups):
        judged = sum(len(places) for name, _, places, _ in groups if name == claim)
        refused = [(places, reason) for name, status, places, reason in groups if name == claim and status == "REFUSED"]
        n_refused = sum(len(places) for places, _ in refused)
        if n_refused:
            why = first_clause(max(refused, key=lambda item: len(item[0]))[1], 120)
            word = "because" if len(refused) == 1 else "mostly because"
            lines.append(f"Claim “{inert(claim, 80)}” in {n_refused} of {judged} places, {word}: {inert(why, 160)}")
    return lines


def _scores_without_number(content: ReportContent) -> list[str]:
    lines = []
    refused = [score for score in content.scores if score.status is ScoreStatus.REFUSED]
    if refused:
        # Scores of a refused fold are no news: the fold has its own line.
        whole = {fold.split_id for fold in content.folds if fold.status == "REFUSED"}
        single = Counter(first_clause(score.reason, 120) for score in refused if score.split not in whole)
        if single:
            why, _ = max(single.items(), key=lambda item: (item[1], item[0]))
            n_all = count(len(content.scores))
            word = "because" if len(single) == 1 else "mostly because"
            told = f"{count(single.total())} of {n_all} scores in the other folds, {word}: {inert(why, 160)}"
            lines.append(f"{told}. They are outside every aggregate")
    failed = sum(score.status is ScoreStatus.FAILED for score in content.scores)
    if failed:
        lines.append(f"{counted(failed, 'score')}: the model failed; that is no zero")
    return lines
