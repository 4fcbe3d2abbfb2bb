"""`cytolabe benchmark --ladder`: the same models on ever harder splits of one study.

Rungs hold out everything that the rungs below hold out, and more: random cells; persons; persons and batches; and data
sets; and time: the groups of the last rung that are younger than a day, learned from what is older. All have the same
number of folds, so that every rung trains on about the same share of the cells; time has one fold, after the day that
leaves about that share to train on. A rung that cannot be run is told with its reason: without two groups, or without
dates of publication or collection in the manifests.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cytolabe.evaluate import EvaluationPlan, evaluate_study
from cytolabe.evaluate.documents import rounded
from cytolabe.evaluate.ladder import Rung, inflation
from cytolabe.files import replace_file
from cytolabe.flow.interpret import links_of
from cytolabe.flow.study import StudyEvidence, plan_of_study
from cytolabe.provenance import canonical_json
from cytolabe.records import ScoreStatus, Split
from cytolabe.split import DateOf, RuleKind, SplitRule, dividing_day, plan_rule, split_of
from cytolabe.split.keys import CELLS
from cytolabe.split.plan import SplitPlan

__all__ = ["LADDER_FILE", "Ladder", "run_ladder", "write_ladder"]

LADDER_FILE = "ladder.json"
_WORDS = ("person", "batch", "dataset")
MAX_FOLDS = 5
STAMP = "LEAKY: the random rung divides single cells; its numbers measure memory and are here to be compared with only"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ladder:
    """All rungs, and the table of gaps (`evaluate.ladder.LADDER_COLUMNS`)."""

    rungs: tuple[Rung, ...]
    table: pd.DataFrame

    def rung_table(self) -> pd.DataFrame:
        """Return one row per rung: what it holds out, its groups and folds, and what was refused of it and why."""
        return pd.DataFrame([
            {
                "rung": rung.name, "status": _status(rung), "held_out": " + ".join(rung.by), "n_groups": rung.n_groups,
                "n_folds": rung.n_folds, "n_folds_refused": len(rung.refused or {}),
                "reason": rung.why_not or "; ".join([*([rung.told] if rung.told else []), *sorted(set((rung.refused or {}).values()))]),
            }
            for rung in self.rungs
        ])  # fmt: skip


def run_ladder(
    evidence: StudyEvidence, *, n_workers: int = 1, on_progress: Callable[[str], None] = lambda _: None
) -> Ladder:
    """Run the models of a study on every rung; the study itself is not run again.

    Raises
    ------
    UsageError
        If the study has fewer cells than folds.
    """
    study, snapshot = evidence.study, evidence.snapshot
    asked = _rungs(evidence)
    sizes = [_n_groups(evidence, rule) for _, rule in asked]
    usable = [n for (_, rule), n in zip(asked, sizes, strict=True) if n >= 2 and rule.by != (CELLS,)]
    n_folds = min([MAX_FOLDS, *usable])
    plan = dataclasses.replace(
        plan_of_study(study, n_workers=n_workers),
        ceilings=False,
        n_seeds=1,
        gene_policies=study.gene_policies[:1],
        limited_labels=None,
    )
    rungs = []
    for (name, rule), n_groups in zip(asked, sizes, strict=True):
        if n_groups < 2 and rule.by != (CELLS,):
            told = f"all cells are one group by {' + '.join(rule.by)}"
            rungs.append(Rung(name=name, by=rule.by, n_groups=n_groups, why_not=told))
            continue
        on_progress(f"ladder: {name}, {n_folds} folds")
        rung = Rung(name=name, by=rule.by, n_groups=n_groups, n_folds=n_folds)
        rungs.append(_run(evidence, rung, dataclasses.replace(rule, n_folds=n_folds), plan=plan))
    rungs.append(_time(evidence, plan=plan, n_folds=n_folds, on_progress=on_progress))
    table = inflation(
        rungs, snapshot, resolutions=evidence.resolutions, level=study.decision_level,
        gene_policy=study.gene_policies[0], seed=study.seed,
    )  # fmt: skip
    return Ladder(rungs=tuple(rungs), table=table)


def write_ladder(ladder: Ladder, out: Path, *, snapshot_id: str) -> dict[str, object]:
    """Write `ladder.json` and return its document."""
    document: dict[str, object] = {
        "snapshot_id": snapshot_id,
        "stamp": STAMP,
        "rungs": ladder.rung_table().to_dict("records"),
        "inflation": [
            {key: rounded(None if pd.isna(value) else value) for key, value in row.items()}
            for row in ladder.table.to_dict("records")
        ],
    }
    replace_file(out / LADDER_FILE, canonical_json(document))
    return document


def _status(rung: Rung) -> str:
    """Return whether a rung ran, and whether the split left anything of it."""
    if rung.result is None:
        return "NOT_RUN"
    return "REFUSED" if len(rung.refused or {}) == rung.n_folds else "RUN"


def _rungs(evidence: StudyEvidence) -> list[tuple[str, SplitRule]]:
    """Return the rungs that have folds, by name: all but time."""
    links = links_of(evidence.study)
    rules = [("random", SplitRule(kind=RuleKind.GROUPED_FOLDS, by=(CELLS,)))]
    for n_words, name in enumerate(_WORDS, start=1):
        rules.append((name, SplitRule(kind=RuleKind.GROUPED_FOLDS, by=_WORDS[:n_words], links=links)))
    return rules


def _n_groups(evidence: StudyEvidence, rule: SplitRule) -> int:
    if rule.by == (CELLS,):
        return evidence.snapshot.n_cells
    return len(_groups(evidence, rule).components.table)


def _groups(evidence: StudyEvidence, rule: SplitRule) -> SplitPlan:
    """Return the groups of a rule, each a fold."""
    alone = dataclasses.replace(rule, kind=RuleKind.LEAVE_ONE_GROUP_OUT)
    return plan_rule(evidence.snapshot, alone, seed=evidence.study.seed, duplicates=evidence.duplicates.pairs)


def _time(evidence: StudyEvidence, *, plan: EvaluationPlan, n_folds: int, on_progress: Callable[[str], None]) -> Rung:
    """Train on what is older than a day and test on what is younger; without a day, say why."""
    dates, kind = _dates(evidence)
    rung = Rung(name="time", by=(*_WORDS, "time"), n_groups=0)
    n_dated = sum(one.date != "" for one in dates)
    if not n_dated:
        told = f"none of {len(dates)} manifests tells when its data set was published (date) or collected (collected)"
        return dataclasses.replace(rung, why_not=told)
    rule = SplitRule(kind=RuleKind.AFTER_DATE, by=_WORDS, links=links_of(evidence.study), dates=dates)
    groups = _groups(evidence, rule)
    rung = dataclasses.replace(rung, n_groups=len(groups.components.table))
    day = dividing_day(groups, test_share=1 / n_folds)
    if not day:
        told = f"no day divides the data sets into older and younger ones with labelled cells on both sides; {n_dated} of {len(dates)} tell their {kind}"
        return dataclasses.replace(rung, why_not=told)
    on_progress(f"ladder: time, after {day}")
    found = _run(evidence, dataclasses.replace(rung, n_folds=1), dataclasses.replace(rule, after=day), plan=plan)
    undated = len(dates) - n_dated
    few = f"; {undated} of {len(dates)} data sets do not tell it and are on neither side" if undated else ""
    return dataclasses.replace(
        found, told="; ".join((f"by {kind}, tested after {day}{few}", *([found.told] if found.told else [])))
    )


def _dates(evidence: StudyEvidence) -> tuple[tuple[DateOf, ...], str]:
    """Return the date of each data set, and its kind: of publication, or where nobody tells it the begin of collection."""
    records = evidence.snapshot.datasets
    for key, kind in (("date", "date of publication"), ("collected", "begin of collection")):
        dates = tuple(DateOf(dataset_id=name, date=record.declared.get(key, "")) for name, record in records.items())
        if any(one.date for one in dates):
            return dates, kind
    return tuple(DateOf(dataset_id=name, date="") for name in records), ""


def _run(evidence: StudyEvidence, rung: Rung, rule: SplitRule, *, plan: EvaluationPlan) -> Rung:
    duplicates = evidence.duplicates
    split = split_of(plan_rule(evidence.snapshot, rule, seed=evidence.study.seed, duplicates=duplicates.pairs))
    result = evaluate_study(
        evidence.snapshot, split=split, plan=plan, resolutions=evidence.resolutions, duplicates=duplicates
    )
    refused = {fold.split_id: fold.reason for fold in split.folds if fold.status == ScoreStatus.REFUSED}
    return dataclasses.replace(rung, result=result, refused=refused, told=_left_out(split))


def _left_out(split: Split) -> str:
    """Say how many cells are on no side: a rung that trains on less loses for that, too."""
    n_left = split.n_cells - max(len(fold.train_rows) + len(fold.test_rows) for fold in split.folds)
    return f"{n_left} cells on neither side" if n_left else ""
