"""Runs a study: every fold x gene policy x model x resolution becomes a row, whatever happens on the way.

Order inside a fold: which cells count, the audit of the split, the gene spaces, the floors, then the other models.
Each model is fitted on a train view that physically lacks the held-out cells; what it was fitted on is compared with
what it was allowed to be fitted on, and after the last fit of the fold its certificate is made. Its digest stands in
every score of the fold. Refusals belong to (claim, train, test): the same data set may be refused inside one split
and scored in another.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.audit.certificate import certify
from cytolabe.audit.claims import cell_type_claim
from cytolabe.audit.duplicates import DuplicateReport
from cytolabe.audit.leakage import FoldAudit, audit_fold
from cytolabe.errors import UsageError
from cytolabe.evaluate.aggregate import pooled_scores
from cytolabe.evaluate.annotation import PREDICTION_COLUMNS, FoldRun, Ledger, score_annotator
from cytolabe.evaluate.fitting import EMBEDS, ModelRunner, nested_batches
from cytolabe.evaluate.folds import FoldData, PolicyData, fold_data, fold_verdict, policy_data
from cytolabe.evaluate.labels import ClassSets, LevelLabels, class_sets, level_labels, support_table
from cytolabe.evaluate.measures import measures_of
from cytolabe.evaluate.naming import term_names
from cytolabe.evaluate.plan import FLOOR_MODELS, PROBES, AnnotatorPlan, EvaluationPlan, ModelPlan, annotator_plans
from cytolabe.evaluate.results import Confusion, StudyResult
from cytolabe.evaluate.scoring import RowContext
from cytolabe.evaluate.thresholds import THRESHOLDS
from cytolabe.ontology.resolutions import Resolutions
from cytolabe.randomness import derive_seed
from cytolabe.records import Certificate, ModelCard, Score, ScoreStatus, Split
from cytolabe.snapshot.view import SnapshotView

__all__ = ["Confusion", "EvaluationPlan", "ModelPlan", "StudyResult", "evaluate_study"]


@dataclass(frozen=True, kw_only=True)
class _Study:
    """What all folds share."""

    snapshot: SnapshotView
    split: Split
    plan: EvaluationPlan
    annotators: tuple[AnnotatorPlan, ...]
    levels: tuple[LevelLabels, ...]
    resolutions: Resolutions
    names: Mapping[str, str]
    merged_batches: Mapping[str, tuple[int, int]]
    say: Callable[[str], None]


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
        Models, gene policies, seeds and the decision level.
    resolutions
        Levels, coarse to fine.
    duplicates
        Identical cells of the snapshot.
    on_progress
        Gets one line before each model of a fold.

    Raises
    ------
    UsageError
        If the split is of another snapshot, or the plan names an unknown model, policy, probe or level.
    """
    study = _prepared(snapshot, split, plan, resolutions=resolutions, on_progress=on_progress)
    scores: list[Score] = []
    confusions: list[Confusion] = []
    predictions: list[pd.DataFrame] = []
    certificates: list[Certificate] = []
    audits: list[FoldAudit] = []
    policies: list[PolicyData] = []
    folds: list[FoldData] = []
    for fold in split.folds:
        data = fold_data(snapshot, fold, levels=study.levels, pairs=duplicates.pairs)
        cards = _cards(study)
        audit = audit_fold(snapshot, fold, duplicates=duplicates, cards=cards)
        ledger, spaces = _evaluate_fold(study, data, audit)
        certificate = certify(
            snapshot,
            fold,
            audit=audit,
            scopes={name: tuple(found) for name, found in sorted(ledger.scopes.items())},
            thresholds=THRESHOLDS,
        )
        scores += [dataclasses.replace(score, certificate=certificate.digest) for score in ledger.scores]
        confusions += ledger.confusions
        predictions += ledger.predictions
        certificates.append(certificate)
        audits.append(audit)
        policies += spaces
        folds.append(data)
    scores += pooled_scores(scores, confusions, n_folds=len(split.folds))
    return StudyResult(
        snapshot_id=snapshot.snapshot_id,
        study=plan.study,
        decision_level=plan.decision_level,
        scores=tuple(scores),
        confusions=tuple(confusions),
        gene_spaces=tuple(space for policy in policies for space in policy.spaces),
        support=_named_support(study),
        open_set=_open_set_table(study, folds),
        dropped=pd.concat([data.dropped for data in folds], ignore_index=True) if folds else pd.DataFrame(),
        certificates=tuple(certificates),
        audits=tuple(audits),
        predictions=_stacked(predictions),
    )


def _prepared(
    snapshot: SnapshotView,
    split: Split,
    plan: EvaluationPlan,
    *,
    resolutions: Resolutions,
    on_progress: Callable[[str], None] | None,
) -> _Study:
    """Check the plan before anything runs."""
    if split.snapshot_id != snapshot.snapshot_id:
        msg = f"The split is of snapshot {split.snapshot_id[:19]}, not of {snapshot.snapshot_id[:19]}: its rows mean other cells."
        raise UsageError(msg)
    names = [level.name for level in resolutions.levels]
    if plan.decision_level not in names:
        msg = f"The decision level {plan.decision_level!r} is none of {', '.join(names)}."
        raise UsageError(msg)
    levels = tuple(level_labels(snapshot.cells, resolutions, name) for name in names)
    everywhere = np.arange(len(snapshot.cells))
    terms = sorted({str(term) for labels in levels for term in labels.terms} - {""})
    return _Study(
        snapshot=snapshot,
        split=split,
        plan=plan,
        annotators=_expanded(annotator_plans(plan), ModelRunner(snapshot)),
        levels=levels,
        resolutions=resolutions,
        names=term_names(snapshot, terms),
        merged_batches=nested_batches(snapshot.cells, levels[-1].terms, everywhere),
        say=on_progress or _say_nothing,
    )


def _say_nothing(line: str) -> None:
    del line


def _expanded(annotators: Sequence[AnnotatorPlan], runner: ModelRunner) -> tuple[AnnotatorPlan, ...]:
    """Put every probe on a model without one that turns out to be an embedder (a file of embeddings)."""
    found: list[AnnotatorPlan] = []
    for annotator in annotators:
        card = runner.card(annotator)
        if card is not None and EMBEDS in card.capabilities and not annotator.probe:
            found += [dataclasses.replace(annotator, name=f"{annotator.name}+{probe}", probe=probe) for probe in PROBES]
        else:
            found.append(annotator)
    return tuple(found)


def _cards(study: _Study) -> tuple[ModelCard, ...]:
    runner = ModelRunner(study.snapshot)
    cards = [runner.card(annotator) for annotator in study.annotators]
    found = {card.name: card for card in cards if card is not None}
    return tuple(found[name] for name in sorted(found))


def _evaluate_fold(study: _Study, data: FoldData, audit: FoldAudit) -> tuple[Ledger, list[PolicyData]]:
    runner = ModelRunner(study.snapshot, merged_batches=frozenset(study.merged_batches))
    seed = derive_seed(study.plan.seed, "evaluate", data.fold.split_id) % 2**31
    ledger = Ledger()
    policies = []
    asked = (*study.plan.gene_policies, *(p for a in study.annotators for p in a.gene_policies))
    for policy in dict.fromkeys(asked):
        genes = policy_data(study.snapshot, data, policy, seed=seed)
        run = FoldRun(
            snapshot=study.snapshot,
            plan=study.plan,
            resolutions=study.resolutions,
            names=study.names,
            merged_batches=study.merged_batches,
            data=data,
            genes=genes,
            audit=audit,
            runner=runner,
            ledger=ledger,
        )
        wanted = [annotator for annotator in study.annotators if policy in annotator.gene_policies]
        policies.append(genes)
        contexts = {labels.level: _context(study, data, audit, genes=genes, level=labels) for labels in study.levels}
        floors: dict[str, dict[tuple[str, str], float]] = {labels.level: {} for labels in study.levels}
        for annotator in wanted:
            study.say(f"{data.fold.split_id}: {annotator.name} ({policy})")
            for labels in study.levels:
                found = score_annotator(run, annotator, contexts[labels.level], floors=floors[labels.level])
                if annotator.name in FLOOR_MODELS:
                    for key, value in found.values.items():
                        floors[labels.level][key] = max(value, floors[labels.level].get(key, value))
    return ledger, policies


def _context(study: _Study, data: FoldData, audit: FoldAudit, *, genes: PolicyData, level: LevelLabels) -> RowContext:
    """Fix the rows of a fold at a level, and what refuses or qualifies all of them."""
    refusals, qualifications, notes = fold_verdict(study.snapshot, data, audit, rule=study.split.rule)
    places, cells = data.cells_at(study.snapshot, level.level)
    train_terms = data.train_terms[level.level]
    labelled = data.train_rows[train_terms[data.train_rows] != ""]
    closed_rows = data.query_rows[places][cells.is_closed]
    if len(labelled) and len(closed_rows):
        terms = np.where(train_terms != "", train_terms, data.test_terms[level.level])
        claim = cell_type_claim(study.snapshot.cells, terms, train_rows=labelled, test_rows=closed_rows)
        notes += tuple(claim.notes)
        refusals += (claim.reason,) if claim.status is ScoreStatus.REFUSED else ()
        qualifications += (claim.reason,) if claim.status is ScoreStatus.QUALIFIED else ()
    classes = _class_sets(data, level.level)
    studies = sorted(set(study.snapshot.cells["study"].to_numpy(dtype=object)[data.query_rows].tolist()))
    return RowContext(
        study=study.plan.study,
        split=data.fold.split_id,
        resolution=level.level,
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
        measures=measures_of(cells, classes, data.test_datasets),
    )


def _class_sets(data: FoldData, level: str) -> ClassSets:
    return class_sets(data.train_terms[level][data.train_rows], data.test_terms[level][data.query_rows])


def _named_support(study: _Study) -> pd.DataFrame:
    """Return the support table with the name of each class."""
    table = support_table(study.snapshot.cells, study.levels)
    return table.assign(name=[study.names.get(str(term), "") for term in table["term"]])


def _open_set_table(study: _Study, folds: Sequence[FoldData]) -> pd.DataFrame:
    """List the classes that only a test side has: split, level, term, name, n_cells."""
    rows = []
    for data in folds:
        for labels in study.levels:
            test = data.test_terms[labels.level][data.query_rows]
            rows += [
                {
                    "split": data.fold.split_id,
                    "level": labels.level,
                    "term": term,
                    "name": study.names.get(term, term),
                    "n_cells": int((test == term).sum()),
                }
                for term in _class_sets(data, labels.level).open_set
            ]
    return pd.DataFrame(rows, columns=["split", "level", "term", "name", "n_cells"])


def _stacked(predictions: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if not predictions:
        return pd.DataFrame(columns=list(PREDICTION_COLUMNS))
    return pd.concat(predictions, ignore_index=True)
