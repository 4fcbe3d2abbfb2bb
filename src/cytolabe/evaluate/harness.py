"""Runs a study: every fold x gene policy x model x resolution becomes a row, whatever happens on the way.

Order inside a fold: which cells count, the audit of the split, the gene spaces, the floors, then the other models.
Each model is fitted on a train view that physically lacks the held-out cells; what it was fitted on is compared with
what it was allowed to be fitted on, and after the last fit of the fold its certificate is made. Its digest stands in
every score of the fold. Refusals belong to (claim, train, test): the same data set may be refused inside one split
and scored in another.

A fold under one gene policy is one task: tasks share nothing, so they may run in several processes, and the number of
processes never shows in a result. Nor does it show whether a run before had fitted a model (`evaluate.kept_fits`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.apply.counts import RememberedCounts
from cytolabe.audit.certificate import Grounds, certify, joint_digest
from cytolabe.audit.claims import cell_type_claim
from cytolabe.audit.duplicates import DuplicateReport
from cytolabe.audit.fit_scopes import CellSet, FitRules
from cytolabe.audit.leakage import FoldAudit, audit_fold
from cytolabe.engine import run_tasks, tell
from cytolabe.errors import UsageError
from cytolabe.evaluate.aggregate import pooled_scores
from cytolabe.evaluate.annotation import PREDICTION_COLUMNS, FoldRun, Ledger, score_annotator
from cytolabe.evaluate.batches import merged_batches, why_nested
from cytolabe.evaluate.controls import CeilingPlan, ceiling_plan
from cytolabe.evaluate.costs import StudyCosts, machine_facts
from cytolabe.evaluate.dimensions import dimension_tests, merged_codes, with_dimensions
from cytolabe.evaluate.fitting import ModelRunner, Models
from cytolabe.evaluate.folds import FoldData, PolicyData, fold_data, open_set_table, policy_data
from cytolabe.evaluate.integration import integration_scores
from cytolabe.evaluate.kept_fits import KeptFits, TaskFits, kept_fits
from cytolabe.evaluate.labels import LevelLabels, level_labels, support_table
from cytolabe.evaluate.limited import limited_scores, refuse_unknown_annotators
from cytolabe.evaluate.measures import Cells, measures_of
from cytolabe.evaluate.naming import term_names
from cytolabe.evaluate.plan import FLOOR_MODELS, AnnotatorPlan, EvaluationPlan, ModelPlan, annotator_plans, with_probes
from cytolabe.evaluate.results import Confusion, StudyResult
from cytolabe.evaluate.scoring import RowContext
from cytolabe.evaluate.thresholds import THRESHOLDS
from cytolabe.evaluate.verdicts import FoldVerdict, fold_verdict, folds_of_a_rule, refuse_malformed_folds
from cytolabe.ontology.resolutions import Resolutions
from cytolabe.randomness import derive_seed
from cytolabe.records import Certificate, FitScope, ModelCard, Score, ScoreStatus, Split
from cytolabe.snapshot.view import SnapshotView

__all__ = ["Confusion", "EvaluationPlan", "ModelPlan", "StudyResult", "evaluate_study"]


@dataclass(frozen=True, kw_only=True)
class _Study:
    """What all folds share."""

    snapshot: SnapshotView
    split: Split
    plan: EvaluationPlan
    annotators: tuple[AnnotatorPlan, ...]
    cards: Mapping[str, ModelCard]
    levels: tuple[LevelLabels, ...]
    resolutions: Resolutions
    names: Mapping[str, str]
    merged_batches: Mapping[str, tuple[int, int]]
    kept: KeptFits | None


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One fold under one gene policy: all that a process needs to run it."""

    study: _Study
    data: FoldData
    audit: FoldAudit
    verdict: FoldVerdict
    policy: str


def evaluate_study(
    snapshot: SnapshotView,
    *,
    split: Split,
    plan: EvaluationPlan,
    resolutions: Resolutions,
    duplicates: DuplicateReport,
    on_progress: Callable[[str], None] | None = None,
) -> StudyResult:
    """Score every planned model on every fold of a split.

    Parameters
    ----------
    snapshot
        The frozen snapshot that the split names.
    split
        Its folds.
    plan
        Models, gene policies, seeds, the decision level, the number of processes, and where fits are kept.
    resolutions
        Levels, coarse to fine.
    duplicates
        Identical cells of the snapshot.
    on_progress
        Gets a line for each model of a fold and for each of its trainings on few labels; with several processes one for
        each finished fold and gene policy, too. Where fits are kept, it gets how many were taken up.

    Raises
    ------
    UsageError
        If the split is of another snapshot, or the plan names an unknown model, policy, probe or level.
    LeakageError
        If a cell is on both sides of a fold.
    """
    study = _prepared(snapshot, split, plan, resolutions=resolutions)
    tasks = _tasks(study, duplicates)
    say = on_progress or _say_nothing
    results = _run_told(study, tasks, say)
    scores: list[Score] = []
    integration: list[Score] = []
    limited: list[Score] = []
    certificates: list[Certificate] = []
    audits: list[FoldAudit] = []
    for fold in split.folds:
        own = [(task, ledger) for task, (ledger, _) in zip(tasks, results, strict=True) if task.data.fold is fold]
        certificate = _certificate(study, own)
        scores += _quoting(certificate, [score for _, ledger in own for score in ledger.scores])
        integration += _quoting(certificate, [score for _, ledger in own for score in ledger.integration])
        limited += _quoting(certificate, [score for _, ledger in own for score in ledger.limited])
        certificates.append(certificate)
        audits.append(with_dimensions(own[0][0].audit, merged_codes(ledger.coded for _, ledger in own)))
    ledgers = [ledger for ledger, _ in results]
    confusions = [confusion for ledger in ledgers for confusion in ledger.confusions]
    joint = joint_digest([certificate.digest for certificate in certificates])
    pooled = pooled_scores(scores, confusions, n_folds=len(split.folds))
    scores += [dataclasses.replace(score, certificate=joint) for score in pooled]
    folds = [task.data for task in tasks if task.policy == tasks[0].policy]
    return StudyResult(
        snapshot_id=snapshot.snapshot_id,
        ontology_release=resolutions.ontology_release,
        levels_digest=resolutions.digest,
        study=plan.study,
        decision_level=plan.decision_level,
        scores=tuple(scores),
        integration=tuple(integration),
        limited=tuple(limited),
        confusions=tuple(confusions),
        gene_spaces=tuple(space for _, genes in results for space in genes.spaces),
        support=_named_support(study),
        open_set=open_set_table(folds, [one.level for one in study.levels], names=study.names),
        dropped=_stacked([data.dropped for data in folds], ("split", "dataset_id", "reason", "n_cells")),
        certificates=tuple(certificates),
        audits=tuple(audits),
        predictions=_stacked([table for ledger in ledgers for table in ledger.predictions], PREDICTION_COLUMNS),
        costs=StudyCosts(
            rows=tuple(cost for ledger in ledgers for cost in ledger.costs),
            machine=machine_facts(),
            n_workers=plan.n_workers,
        ),
    )


def _quoting(certificate: Certificate, scores: Sequence[Score]) -> list[Score]:
    return [dataclasses.replace(score, certificate=certificate.digest) for score in scores]


def _prepared(snapshot: SnapshotView, split: Split, plan: EvaluationPlan, *, resolutions: Resolutions) -> _Study:
    """Check the plan before anything runs."""
    if split.snapshot_id != snapshot.snapshot_id:
        msg = f"The split is of snapshot {split.snapshot_id[:19]}, not of {snapshot.snapshot_id[:19]}: its rows mean other cells."
        raise UsageError(msg)
    names = [level.name for level in resolutions.levels]
    if plan.decision_level not in names:
        msg = f"The decision level {plan.decision_level!r} is none of {', '.join(names)}."
        raise UsageError(msg)
    refuse_malformed_folds(split, len(snapshot.cells))
    models = Models()
    annotators = with_probes(annotator_plans(plan), card_of=models.card)
    refuse_unknown_annotators(plan, annotators)
    cards = {annotator.name: models.card(annotator) for annotator in annotators}
    levels = tuple(level_labels(snapshot.cells, resolutions, name) for name in names)
    terms = sorted({str(term) for labels in levels for term in labels.terms} - {""})
    return _Study(
        snapshot=snapshot,
        split=split,
        plan=plan,
        annotators=annotators,
        cards={name: card for name, card in cards.items() if card is not None},
        levels=levels,
        resolutions=resolutions,
        names=term_names(snapshot, terms),
        merged_batches=merged_batches(snapshot.cells, [labels.terms for labels in levels]),
        kept=kept_fits(plan.kept_fits) if plan.kept_fits is not None else None,
    )


def _say_nothing(line: str) -> None:
    del line


def _tasks(study: _Study, duplicates: DuplicateReport) -> list[_Task]:
    """Return the tasks of all folds, in the order of folds and policies."""
    by_name = {card.name: card for card in study.cards.values()}
    cards = tuple(by_name[name] for name in sorted(by_name))
    asked = (*study.plan.gene_policies, *(policy for one in study.annotators for policy in one.gene_policies))
    of_a_rule = folds_of_a_rule(study.snapshot, study.split)
    tasks = []
    for fold in study.split.folds:
        data = fold_data(study.snapshot, fold, levels=study.levels, pairs=duplicates.pairs)
        data = dataclasses.replace(data, flagged_rows=study.plan.flagged_rows)
        audit = audit_fold(study.snapshot, fold, duplicates=duplicates, cards=cards)
        verdict = fold_verdict(
            study.snapshot, data, audit, rule=study.split.rule, follows_rule=fold.split_id in of_a_rule
        )
        tasks += [
            _Task(study=study, data=data, audit=audit, verdict=verdict, policy=policy)
            for policy in dict.fromkeys(asked)
        ]
    return tasks


def _run_told(study: _Study, tasks: Sequence[_Task], say: Callable[[str], None]) -> list[tuple[Ledger, PolicyData]]:
    """Run the tasks; say before what a run before left of fits, and after how many of these were taken up."""
    if study.kept is not None and (told := study.kept.told()):
        say(told)
    results = _run(tasks, say, n_workers=study.plan.n_workers)
    if n_taken_up := sum(ledger.n_taken_up for ledger, _ in results):
        say(f"{n_taken_up} fit(s) of the run before were taken up")
    return results


def _run(tasks: Sequence[_Task], say: Callable[[str], None], *, n_workers: int) -> list[tuple[Ledger, PolicyData]]:
    if n_workers == 1:
        models = Models()
        return [_evaluate(task, models, say) for task in tasks]

    def done(n_done: int, n_tasks: int) -> None:
        say(f"{n_done} of {n_tasks} folds and gene policies evaluated")

    return run_tasks(_evaluate_alone, tasks, n_workers=n_workers, on_done=done, on_line=say)


def _evaluate_alone(task: _Task) -> tuple[Ledger, PolicyData]:
    """Run a task in a process of its own, which makes its own models and reads its own counts."""
    return _evaluate(task, Models(), tell)


def _evaluate(task: _Task, models: Models, say: Callable[[str], None]) -> tuple[Ledger, PolicyData]:
    study, data = task.study, task.data
    seed = derive_seed(study.plan.seed, "evaluate", data.fold.split_id) % 2**31
    remembered = RememberedCounts(study.snapshot)
    merged = frozenset(study.merged_batches)
    genes = policy_data(remembered, data, task.policy, seed=seed)
    fits = TaskFits(kept=study.kept, task=(data.fold.split_id, task.policy), say=say)
    run = FoldRun(
        snapshot=study.snapshot,
        plan=study.plan,
        resolutions=study.resolutions,
        names=study.names,
        merged_batches=study.merged_batches,
        data=data,
        genes=genes,
        audit=task.audit,
        runner=ModelRunner(remembered, models=models, merged_batches=merged, fits=fits),
        ledger=Ledger(),
        say=say,
    )
    wanted = [annotator for annotator in study.annotators if task.policy in annotator.gene_policies]
    for annotator in wanted:
        models.model(annotator)  # all before the first fit: which of them start from which is known then
    contexts = {labels.level: _context(task, genes, level=labels.level) for labels in study.levels}
    floors: dict[str, dict[tuple[str, str], float]] = {labels.level: {} for labels in study.levels}
    for annotator in wanted:
        say(f"{data.fold.split_id}: {annotator.name} ({task.policy})")
        for labels in study.levels:
            found = score_annotator(run, annotator, contexts[labels.level], floors=floors[labels.level])
            if annotator.name in FLOOR_MODELS:
                for key, value in found.values.items():
                    floors[labels.level][key] = max(value, floors[labels.level].get(key, value))
    level = study.plan.decision_level
    run.ledger.integration += integration_scores(run, contexts[level], wanted)
    run.ledger.limited += limited_scores(run, contexts[level], wanted, floors=floors[level])
    run.ledger.costs += [
        dataclasses.replace(cost, split=data.fold.split_id, gene_policy=task.policy) for cost in run.runner.costs
    ]
    run.ledger.n_taken_up = fits.n_taken_up
    return run.ledger, genes


def _certificate(study: _Study, own: Sequence[tuple[_Task, Ledger]]) -> Certificate:
    """Certify a fold from what its tasks fitted under all gene policies."""
    task = own[0][0]
    scopes: dict[str, dict[FitScope, None]] = {}
    sets: dict[str, CellSet] = {}
    for _, ledger in own:
        for name, found in ledger.scopes.items():
            scopes.setdefault(name, {}).update(found)
        sets |= ledger.cell_sets
    return certify(
        study.snapshot,
        task.data.fold,
        audit=task.audit,
        scopes={name: tuple(found) for name, found in sorted(scopes.items())},
        rules=FitRules(cards=study.cards, cell_sets=sets),
        grounds=Grounds(
            thresholds={**THRESHOLDS, "refusals_overridden": study.plan.override}
            if study.plan.override
            else THRESHOLDS,
            labels={labels.level: labels.terms for labels in study.levels},
            tests=[
                *(test for _, ledger in own for test in ledger.tests),
                *dimension_tests(merged_codes(ledger.coded for _, ledger in own)),
            ],
        ),
    )


def _context(task: _Task, genes: PolicyData, *, level: str) -> RowContext:
    """Fix the rows of a fold at a level, and what refuses or qualifies all of them."""
    study, data, verdict = task.study, task.data, task.verdict
    refusals, qualifications, notes = verdict.refusals, verdict.qualifications, verdict.notes
    places, cells = data.cells_at(study.snapshot, level)
    train_terms = data.train_terms[level]
    closed_rows = data.query_rows[places][cells.is_closed]
    if len(closed_rows):
        # Unlabelled training cells are handed over, too: a step without labels sees their libraries.
        terms = np.where(train_terms != "", train_terms, data.test_terms[level])
        claim = cell_type_claim(study.snapshot.cells, terms, train_rows=data.train_rows, test_rows=closed_rows)
        notes += tuple(claim.notes)
        refusals += (claim.reason,) if claim.status is ScoreStatus.REFUSED else ()
        qualifications += (claim.reason,) if claim.status is ScoreStatus.QUALIFIED else ()
    classes = data.classes_at(level)
    studies = sorted(set(study.snapshot.cells["study"].to_numpy(dtype=object)[data.query_rows].tolist()))
    return RowContext(
        study=study.plan.study,
        split=data.fold.split_id,
        resolution=level,
        gene_policy=genes.policy,
        n_genes=genes.n_genes,
        is_panel=any(space.is_panel for space in genes.spaces if space.genes),
        why_none=genes.why_none,
        refusals=refusals,
        qualifications=qualifications,
        notes=(*notes, *genes.notes),
        population=f"donors of {', '.join(studies)}, not labs",
        seed=study.plan.seed,
        cells=cells,
        places=places,
        closed_rows=closed_rows,
        n_train_labelled=int((train_terms[data.train_rows] != "").sum()),
        measures=measures_of(cells, classes, data.test_datasets),
        ceilings=_ceilings(task, genes, cells=cells, level=level),
        nested_batches=_nested_batches(task, genes, level=level),
        override=study.plan.override,
        circular=verdict.circular,
    )


def _ceilings(task: _Task, genes: PolicyData, *, cells: Cells, level: str) -> CeilingPlan | None:
    if not task.study.plan.ceilings or not cells.is_closed.any():
        return None
    closed = set(cells.closed().truth.tolist())
    own = task.data.test_terms[level]
    terms = np.array([term if term in closed else "" for term in own], dtype=object)
    return ceiling_plan(genes.ceilings, cells=task.study.snapshot.cells, terms=terms)


def _nested_batches(task: _Task, genes: PolicyData, *, level: str) -> str:
    """Say why a model that integrates batches may not be fitted here, whatever fit of the policy it is."""
    terms = task.data.train_terms[level]
    merged = frozenset(task.study.merged_batches)
    why = [why_nested(task.study.snapshot.cells, terms, fit.train_rows, merged=merged) for fit in genes.tasks.values()]
    return next((text for text in why if text), "")


def _named_support(study: _Study) -> pd.DataFrame:
    """Return the support table with the name of each class."""
    table = support_table(study.snapshot.cells, study.levels)
    return table.assign(name=[study.names.get(str(term), "") for term in table["term"]])


def _stacked(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))
