"""Annotate the cells of a file by the labelled cells of an atlas: `cytolabe annotate`.

In this order: the query is proven and aligned; the atlas' labelled cells are divided into folds of whole persons; the genes that both
measure are settled; held-out cells calibrate, choose thresholds and judge; types are left out and asked for; the model is fitted on all labelled cells; the
query is answered for a block at a time. Labels of the query, if it has any, are never read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.apply.counts import RememberedCounts
from cytolabe.apply.reference_model import ReferencePlan, inductive_embedder
from cytolabe.apply.scoring_model import ScoringModel
from cytolabe.audit.duplicates import identical_pairs
from cytolabe.errors import RefusedError, UsageError
from cytolabe.evaluate.collapse import collapsed_embedding
from cytolabe.evaluate.decisions import AnswerSpace, Decisions, HeldOutCells, Wish, decide_crosswise, fit_decisions
from cytolabe.evaluate.held_out import Laboratory, held_out_cells
from cytolabe.evaluate.held_out_record import HeldOutRecord, held_out_record
from cytolabe.evaluate.open_types import open_set
from cytolabe.evaluate.reference_cells import ReferenceCells, reference_cells
from cytolabe.flow.annotate_stored import (
    NOT_LEFT_OUT,
    NOT_MOVED,
    StoredLaboratory,
    laboratory_of,
    mapped_query,
    refuse_unmeasured,
    stored_annotator,
    stored_sides,
    unread_reference,
)
from cytolabe.flow.answer_columns import answer_columns, answered_blocks
from cytolabe.flow.query_file import GeneGate, QueryFile, gene_gate, read_query
from cytolabe.models.scanvi_source import StoredScanviAnnotator
from cytolabe.ontology.answers import answer_terms
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of
from cytolabe.records import UNKNOWN, Finding, ModelCard
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["Annotation", "AnnotationPlan", "annotate_query", "check_plan"]

_BLOCK_CELLS = 20_000

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class AnnotationPlan:
    """What is asked: model, options, precision of answers, which units are held out, which atlas cells (`where`), names of columns."""

    model: str = "pca"
    options: Mapping[str, object] = field(default_factory=dict)
    wish: Wish = field(default_factory=Wish)
    held_out: str = "person"
    where: str = ""
    max_open_types: int = 12
    seed: int = 0
    prefix: str = "cytolabe"


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotation:
    """Answers for every cell of the query, and all that they rest on.

    `as_new_dataset` is the record of the same decisions on data sets left out whole; None where that could not be tried, and
    `not_evaluated` says why.
    """

    query: QueryFile
    plan: AnnotationPlan
    snapshot_id: str
    ontology_release: str
    gate: GeneGate
    card: ModelCard
    facts: Mapping[str, str]
    """Of the embedding: digests of weights, layer, pooling, precision, lengths; empty where there is one way alone."""
    reference: ReferenceCells
    space: AnswerSpace
    decisions: Decisions
    held_out: HeldOutRecord
    as_new_dataset: HeldOutRecord | None
    open_set: pd.DataFrame
    columns: pd.DataFrame
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    not_evaluated: tuple[str, ...]


def check_plan(plan: AnnotationPlan) -> StoredScanviAnnotator | None:
    """Refuse a plan that cannot be meant, before anything is read; return the stored annotator that it names, if it does.

    Raises
    ------
    UsageError
        If a number is out of its range, the prefix is no name, or the model cannot annotate.
    """
    if not 0.5 <= plan.wish.precision < 1.0:
        msg = f"--precision {plan.wish.precision}: the share of answers that is to be right, from 0.5 to below 1."
        raise UsageError(msg)
    if not 0.0 <= plan.wish.novel_fraction < 0.5:
        msg = f"--novel {plan.wish.novel_fraction}: the share of known cells that may be called unlike all types, from 0 to below 0.5."
        raise UsageError(msg)
    if not plan.prefix.isidentifier():
        msg = f"--prefix {plan.prefix!r}: the columns need a name of letters, digits and _."
        raise UsageError(msg)
    annotator = stored_annotator(plan.model, plan.options)
    if annotator is None:
        inductive_embedder(plan.model, plan.options)
    return annotator


def annotate_query(
    frozen: Snapshot, path: Path, plan: AnnotationPlan, *, on_progress: Progress = lambda _: None
) -> Annotation:
    """Answer for every cell of a file; nothing is written.

    Raises
    ------
    UsageError
        If the plan or the call is wrong.
    RefusedError
        If query and atlas do not go together, or nothing can be held out to calibrate on.
    UnreadableInputError
        If the query cannot be read safely.
    """
    annotator = check_plan(plan)
    ontology = load_ontology("CL")
    rows = frozen.rows(plan.where) if plan.where else np.arange(frozen.n_cells, dtype=np.int64)
    query = read_query(path, on_progress=on_progress)
    on_progress("looking for copies among the labelled cells of the atlas")
    ground = _Ground(
        frozen=frozen, query=query, plan=plan, rows=rows, pairs=identical_pairs(frozen), ontology=ontology, on_progress=on_progress
    )  # fmt: skip
    laboratory, space, gate = ground.fitted_here() if annotator is None else ground.stored(annotator)
    reference = laboratory.reference
    held = held_out_cells(laboratory, space, on_progress=on_progress)
    names = dict(zip(space.answers.terms, space.answers.names, strict=True))
    record = held_out_record(held, decide_crosswise(held, space, wish=plan.wish), space, names=names)
    decisions = fit_decisions(held, space, wish=plan.wish)
    table, moved, untried = ground.tried(laboratory, space, held)
    model, told = ground.model(laboratory)
    columns = answer_columns(
        answered_blocks(query, model, decisions, space=space, on_progress=on_progress),
        space,
        plan.wish,
        prefix=plan.prefix,
    )
    return Annotation(
        query=query,
        plan=plan,
        snapshot_id=frozen.snapshot_id,
        ontology_release=ontology.release,
        gate=gate,
        card=model.card,
        facts=model.facts,
        reference=reference,
        space=space,
        decisions=decisions,
        held_out=record,
        as_new_dataset=moved,
        open_set=table.assign(name=[ontology.name(term) for term in table["term"]]),
        columns=columns,
        findings=(collapsed_embedding(plan.model, model.collapse),) if model.collapse else (),
        notes=_qualified_first(
            gate.notes, reference.notes, told, model.notes, _warnings(columns, plan), _release_note(frozen, ontology)
        ),
        not_evaluated=(*_never_answered(space, decisions), *untried, *_NEVER_EVALUATED),
    )


_NEVER_EVALUATED = (
    "the answers for this file: it may have labels, and none were read; the numbers are those of held-out atlas cells",
    "cells that the query and the atlas share, and near-identical cells inside the atlas",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ground:
    """What an annotation rests on: the atlas cells that may be used, and the file."""

    frozen: Snapshot
    query: QueryFile
    plan: AnnotationPlan
    rows: np.ndarray
    pairs: pd.DataFrame
    ontology: Ontology
    on_progress: Progress

    def fitted_here(self) -> tuple[Laboratory, AnswerSpace, GeneGate]:
        """Return what fits a model on the labelled cells over the genes that the file and all of their data sets measure."""
        frozen, plan = self.frozen, self.plan
        reference = reference_cells(
            frozen, rows=self.rows, pairs=self.pairs, ontology=self.ontology, held_out=plan.held_out
        )
        genes = _atlas_genes(frozen, reference)
        gate = gene_gate(
            self.query, genes, _totals(frozen, reference, genes), organism=_organism(frozen, reference)
        )  # fmt: skip
        return *self._laboratory(reference, gate), gate

    def stored(self, annotator: StoredScanviAnnotator) -> tuple[Laboratory, AnswerSpace, GeneGate]:
        """Return what holds a stored model to the labelled cells of nobody whom it has read."""
        frozen = self.frozen
        folder = Path(str(self.plan.options["checkpoint"]))
        sides = stored_sides(frozen, folder, annotator, pairs=self.pairs, held_out=self.plan.held_out)
        reference = unread_reference(
            frozen, sides, rows=self.rows, pairs=self.pairs, ontology=self.ontology, held_out=self.plan.held_out
        )
        genes = tuple(sorted(annotator.stored.base.read_genes))
        gate = gene_gate(
            self.query, genes, _totals(frozen, reference, genes), organism=_organism(frozen, reference)
        )  # fmt: skip
        refuse_unmeasured(self.query, gate, genes)
        base, space = self._laboratory(reference, gate, classes=annotator.stored.classes)
        candidates = self.rows[sides.unread[self.rows]]
        return laboratory_of(frozen, sides, base, candidates=candidates, on_progress=self.on_progress), space, gate

    def _laboratory(
        self, reference: ReferenceCells, gate: GeneGate, *, classes: tuple[str, ...] = ()
    ) -> tuple[Laboratory, AnswerSpace]:
        tree = hierarchy_of(reference.terms.tolist(), ontology=self.ontology, classes=classes)
        if len(tree.classes) < 2:
            msg = f"The labelled cells of the atlas are all {tree.classes[0]} or above it: there is nothing to tell apart. Choose more of the atlas."
            raise RefusedError(msg)
        plan = self.plan
        return Laboratory(
            snapshot=RememberedCounts(self.frozen),
            reference=reference,
            plan=ReferencePlan(
                genes=gate.genes, classes=tree.classes, model=plan.model, options=plan.options, seed=plan.seed
            ),
            ontology=self.ontology,
        ), AnswerSpace.of(tree, answer_terms(tree, ontology=self.ontology), ontology=self.ontology)

    def tried(
        self, laboratory: Laboratory, space: AnswerSpace, held: HeldOutCells
    ) -> tuple[pd.DataFrame, HeldOutRecord | None, tuple[str, ...]]:
        """Leave types and data sets out; a stored model cannot be fitted without them, and says so."""
        wish, told = self.plan.wish, self.on_progress
        if isinstance(laboratory, StoredLaboratory):
            table, _ = open_set(laboratory, space, held, wish=wish, max_types=0)
            return table, None, (NOT_LEFT_OUT, NOT_MOVED)
        table, not_asked = open_set(
            laboratory, space, held, wish=wish, max_types=self.plan.max_open_types, on_progress=told
        )
        moved, why_not = _as_new_dataset(laboratory, space, held, wish=wish, pairs=self.pairs, on_progress=told)
        return table, moved, (*not_asked, *why_not)

    def model(self, laboratory: Laboratory) -> tuple[ScoringModel, tuple[str, ...]]:
        """Return what answers for the file, and what a reader must know of how it came about."""
        if isinstance(laboratory, StoredLaboratory):
            model, composition = mapped_query(self.query, laboratory, on_progress=self.on_progress)
            return model, (*laboratory.notes, composition)
        n_cells = len(laboratory.reference.rows)
        self.on_progress(f"fitting {self.plan.model} on {n_cells:,} labelled cells")
        return laboratory.fit(np.ones(n_cells, dtype=bool)), ()


def _atlas_genes(frozen: Snapshot, reference: ReferenceCells) -> tuple[str, ...]:
    """Return the genes that all data sets of the labelled cells measure, sorted."""
    numbers = np.unique(frozen.locate(reference.rows)[0])
    names = [list(frozen.entries)[number] for number in numbers]
    return tuple(sorted(set.intersection(*(set(frozen.measured_genes(name)) for name in names))))


def _totals(frozen: Snapshot, reference: ReferenceCells, genes: tuple[str, ...]) -> np.ndarray:
    """Return the counts of each gene over the labelled cells."""
    totals = np.zeros(len(genes))
    for start in range(0, len(reference.rows) if genes else 0, _BLOCK_CELLS):
        block = frozen.counts(reference.rows[start : start + _BLOCK_CELLS], genes)
        totals += np.asarray(block.sum(axis=0), dtype=np.float64).ravel()
    return totals


def _organism(frozen: Snapshot, reference: ReferenceCells) -> str:
    number = int(frozen.locate(reference.rows[:1])[0][0])
    return next(record.organism for place, record in enumerate(frozen.datasets.values()) if place == number)


def _as_new_dataset(
    laboratory: Laboratory,
    space: AnswerSpace,
    held: HeldOutCells,
    *,
    wish: Wish,
    pairs: pd.DataFrame,
    on_progress: Progress,
) -> tuple[HeldOutRecord | None, tuple[str, ...]]:
    """Hold answers to data sets left out whole, of the model and of what decides: a query is a data set of its own."""
    asked, names = laboratory.reference, dict(zip(space.answers.terms, space.answers.names, strict=True))
    if set(asked.kinds) == {"dataset"}:
        return None, ()
    lead = "answers for a data set that the atlas does not have"
    try:
        reference = reference_cells(
            laboratory.snapshot, rows=asked.rows, pairs=pairs, ontology=laboratory.ontology, held_out="dataset"
        )
        moved = Laboratory(
            snapshot=laboratory.snapshot, reference=reference, plan=laboratory.plan, ontology=laboratory.ontology
        )
        left = held_out_cells(moved, space, on_progress=lambda told: on_progress(f"as a new data set: {told}"))
        decided = decide_crosswise(left, space, wish=wish, others=held)
        return held_out_record(left, decided, space, names=names), ()
    except RefusedError as error:
        return None, (f"{lead}: {error}",)


def _never_answered(space: AnswerSpace, decisions: Decisions) -> tuple[str, ...]:
    return tuple(
        f"{term} {name}: never an answer; on held-out cells it had too few, or not the asked precision at any probability"
        for term, name, least in zip(space.answers.terms, space.answers.names, decisions.thresholds.least, strict=True)
        if not np.isfinite(least)
    )


def _warnings(columns: pd.DataFrame, plan: AnnotationPlan) -> tuple[str, ...]:
    """Say where the query lies much farther from the atlas than held-out cells do."""
    novelty = columns[f"{plan.prefix}_novelty"].to_numpy()
    far = float(np.mean(novelty[np.isfinite(novelty)] >= 1 - plan.wish.novel_fraction)) if len(novelty) else 0.0
    if far <= max(0.1, 2 * plan.wish.novel_fraction):
        return ()
    msg = (
        f"QUALIFIED(shift): {far:.0%} of the query lies farther from the atlas than {1 - plan.wish.novel_fraction:.0%} of held-out cells do: new types, or another technique. "
        "The confidence of the others was calibrated without such a shift; --hold-out dataset calibrates across data sets"
    )
    return (msg,)


def _qualified_first(*notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return notes with those that qualify every answer before those that inform."""
    told = [note for some in notes for note in some]
    return tuple(sorted(told, key=lambda note: not note.startswith("QUALIFIED")))


def _release_note(frozen: Snapshot, ontology: Ontology) -> tuple[str, ...]:
    own = frozen.ontology_release
    if own in {ontology.release, UNKNOWN}:
        return ()
    return (f"labels were mapped under {own}, answers climb {ontology.release}",)
