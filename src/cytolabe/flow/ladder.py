"""`cytolabe benchmark --ladder`: the same models on ever harder splits of one study.

Rungs hold out everything that the rungs below hold out, and more: random cells; persons; persons and batches; and data
sets; and dates, where manifests tell them. All have the same number of folds, so that every rung trains on about the same
share of the cells; a rung without two groups is told and not run.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cytolabe.evaluate import EvaluationPlan, evaluate_study
from cytolabe.evaluate.documents import rounded
from cytolabe.evaluate.ladder import Rung, inflation
from cytolabe.files import replace_file
from cytolabe.flow.interpret import links_of
from cytolabe.flow.study import StudyEvidence, plan_of_study
from cytolabe.provenance import canonical_json
from cytolabe.records import ScoreStatus
from cytolabe.split import DateOf, RuleKind, SplitRule, plan_rule, split_of
from cytolabe.split.keys import CELLS

__all__ = ["LADDER_FILE", "Ladder", "run_ladder", "write_ladder"]

LADDER_FILE = "ladder.json"
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
                "rung": rung.name, "held_out": " + ".join(rung.by), "n_groups": rung.n_groups, "n_folds": rung.n_folds,
                "n_folds_refused": len(rung.refused or {}),
                "reason": rung.why_not or "; ".join(sorted(set((rung.refused or {}).values()))),
            }
            for rung in self.rungs
        ])  # fmt: skip


def run_ladder(
    evidence: StudyEvidence, *, n_workers: int = 1, on_progress: Callable[[str], None] = lambda _: None
) -> Ladder:
    """Run the models of a study on every rung; the study itself is not run again."""
    study, snapshot = evidence.study, evidence.snapshot
    asked = _rungs(evidence)
    sizes = [_n_groups(evidence, rule) for _, rule in asked]
    usable = [n for (_, rule), n in zip(asked, sizes, strict=True) if n >= 2 and rule.by != (CELLS,)]
    n_folds = min([MAX_FOLDS, *usable])
    plan = dataclasses.replace(
        plan_of_study(study, n_workers=n_workers), ceilings=False, n_seeds=1, gene_policies=study.gene_policies[:1]
    )
    rungs = []
    for (name, rule), n_groups in zip(asked, sizes, strict=True):
        if n_groups < 2 and rule.by != (CELLS,):
            told = f"all cells are one group by {' + '.join(rule.by)}"
            rungs.append(Rung(name=name, by=rule.by, n_groups=n_groups, why_not=told))
            continue
        on_progress(f"ladder: {name}, {n_folds} folds")
        rungs.append(_run(evidence, name, rule, plan=plan, n_folds=n_folds, n_groups=n_groups))
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


def _rungs(evidence: StudyEvidence) -> list[tuple[str, SplitRule]]:
    links = links_of(evidence.study)
    dates = tuple(
        DateOf(dataset_id=name, date=record.declared.get("date", ""))
        for name, record in evidence.snapshot.datasets.items()
    )
    words: Sequence[str] = ("person", "batch", "dataset", *(("time",) if any(one.date for one in dates) else ()))
    rules = [("random", SplitRule(kind=RuleKind.GROUPED_FOLDS, by=(CELLS,)))]
    for n_words in range(1, len(words) + 1):
        by = tuple(words[:n_words])
        own_dates = dates if "time" in by else ()
        rule = SplitRule(kind=RuleKind.GROUPED_FOLDS, by=by, links=links, dates=own_dates)
        rules.append((words[n_words - 1], rule))
    return rules


def _n_groups(evidence: StudyEvidence, rule: SplitRule) -> int:
    if rule.by == (CELLS,):
        return evidence.snapshot.n_cells
    alone = dataclasses.replace(rule, kind=RuleKind.LEAVE_ONE_GROUP_OUT)
    plan = plan_rule(evidence.snapshot, alone, seed=evidence.study.seed, duplicates=evidence.duplicates.pairs)
    return len(plan.components.table)


def _run(
    evidence: StudyEvidence, name: str, rule: SplitRule, *, plan: EvaluationPlan, n_folds: int, n_groups: int
) -> Rung:
    asked = dataclasses.replace(rule, n_folds=n_folds)
    duplicates = evidence.duplicates
    split = split_of(plan_rule(evidence.snapshot, asked, seed=evidence.study.seed, duplicates=duplicates.pairs))
    result = evaluate_study(
        evidence.snapshot, split=split, plan=plan, resolutions=evidence.resolutions, duplicates=duplicates
    )
    refused = {fold.split_id: fold.reason for fold in split.folds if fold.status == ScoreStatus.REFUSED}
    return Rung(name=name, by=rule.by, n_groups=n_groups, n_folds=n_folds, result=result, refused=refused)
