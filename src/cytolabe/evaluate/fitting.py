"""Joins a model to cells: makes the views, fits once, keeps what the model answered and what it was fitted on.

An embedding is fitted once for each (model, options, cells, genes, seed) and shared by probes and resolutions: it
never sees a label, not even of training cells. Annotators and probes see the labelled training cells of one level, those
whose card says `unlabelled_cells` the others as well, without a label; a model that reads no expression is handed none. What an
annotator starts from without labels is made once for all levels and draws of labels, and is the frozen embedder of the same options. What a model raises becomes a `Failure` (`evaluate.answers`). What a run
before has fitted and kept is taken up (`evaluate.kept_fits`); probes are fitted again.

An integration batch key may not be nested with the label (rule R12): where every batch of a data set holds one type,
the model is given the data set as its batch, and the answer says so.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from cytolabe.apply.views import query_view, train_view
from cytolabe.engine import shortage_told
from cytolabe.errors import LeakageError, MissingExtraError, ModelFailedError, RefusedError
from cytolabe.evaluate.answers import (
    Answer,
    Failure,
    attempt,
    checked_embedding,
    checked_output,
    combined,
    last_line,
)
from cytolabe.evaluate.costs import Cost, Watch
from cytolabe.evaluate.fit_sources import files_of, package_of
from cytolabe.evaluate.fit_tasks import FitTask, cost_of
from cytolabe.evaluate.kept_fits import Fit, TaskFits
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.models.baselines.probes import fit_probe
from cytolabe.models.collapse import collapse_note
from cytolabe.models.protocols import (
    Annotator,
    AnnotatorOutput,
    Embedder,
    FittedEmbedder,
    Integrator,
    Model,
    QueryMapper,
    QueryView,
    TrainView,
    TunedAnnotator,
)
from cytolabe.models.registry import import_needs, make_model, smaller_options
from cytolabe.models.threads import fit_threads
from cytolabe.models.tuned import UNLABELLED_CELLS
from cytolabe.provenance import digest_of
from cytolabe.records import FitOnQuery, FitScope, ModelCard, ScoreStatus
from cytolabe.snapshot.view import SnapshotView

__all__ = ["EMBEDS", "Answer", "Failure", "FitTask", "ModelRunner", "Models", "combined"]

EMBEDS = "embed_cells"
"""Capability of a card: the model embeds cells. Without it the model answers with terms."""

_READS_NO_EXPRESSION = "none"
"""`value_semantics` of a card whose model looks at no count."""


@dataclass(frozen=True, kw_only=True)
class _Embedded:
    train: np.ndarray
    query: np.ndarray
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models of a study by component and options: made once, and a file is read once."""

    made: dict[str, Embedder | Integrator | Annotator | Failure] = field(default_factory=dict)

    def model(self, annotator: AnnotatorPlan) -> Model | Failure:
        """Return the model of an annotator, or why it is not there.

        Raises
        ------
        UsageError
            If the registry knows no model of that name, or the model refuses its options.
        UnreadableInputError
            If it is a file that is not there, or not readable.
        """
        key = _model_key(annotator)
        if key not in self.made:
            try:
                self.made[key] = make_model(annotator.component, **annotator.options)
            except MissingExtraError as error:
                self.made[key] = Failure(status=ScoreStatus.NOT_RUN, reason=last_line(str(error)))
            except RefusedError as error:
                self.made[key] = Failure(status=ScoreStatus.REFUSED, reason=last_line(str(error)))
            except ModelFailedError as error:
                self.made[key] = Failure(status=ScoreStatus.FAILED, reason=last_line(str(error)))
        return self.made[key]

    def card(self, annotator: AnnotatorPlan) -> ModelCard | None:
        """Return the card of an annotator's model; None where there is no model."""
        model = self.model(annotator)
        return None if isinstance(model, Failure) else model.card

    def is_start(self, embedder: Embedder) -> bool:
        """Tell whether an annotator among the models made so far is fine-tuned from what this embedder makes."""
        return any(isinstance(one, TunedAnnotator) and one.start == embedder for one in self.made.values())


class ModelRunner:
    """Fits the models of one fold and gene policy. Make a new one for each: it keeps every embedding."""

    def __init__(
        self,
        snapshot: SnapshotView,
        *,
        models: Models | None = None,
        merged_batches: frozenset[str] = frozenset(),
        fits: TaskFits | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._models = models or Models()
        self._merged_batches = merged_batches
        self._fits = fits or TaskFits()
        self._embeddings: dict[str, _Embedded | Failure] = {}
        self._trained: dict[str, FittedEmbedder] = {}
        self._starts: dict[str, FittedEmbedder] = {}
        self.costs: list[Cost] = []

    def card(self, annotator: AnnotatorPlan) -> ModelCard | None:
        """Return the card of an annotator's model; None where there is no model."""
        return self._models.card(annotator)

    def annotate(self, annotator: AnnotatorPlan, task: FitTask, terms: np.ndarray) -> Answer | Failure:
        """Fit and answer for the query cells of a task.

        Parameters
        ----------
        terms
            One term per cell of the snapshot, empty where the label does not count; only those of training cells
            are handed on.
        """
        model = self._models.model(annotator)
        if isinstance(model, Failure):
            return model
        if not (terms[task.train_rows] != "").any():
            return Failure(status=ScoreStatus.REFUSED, reason="no training cell has a label at this level")
        if EMBEDS in model.card.capabilities:
            embedded = self._embedded(annotator, cast("Embedder | Integrator", model), task)
            if isinstance(embedded, Failure):
                return embedded
            return attempt(
                lambda: self._probed(annotator, embedded, task, terms=terms), told=_told_shortage(annotator, task)
            )
        return attempt(
            lambda: self._annotated(annotator, cast("Annotator", model), task, terms=terms),
            told=_told_shortage(annotator, task),
        )

    def embedding(self, annotator: AnnotatorPlan, task: FitTask) -> Float[np.ndarray, "cells dims"] | Failure:
        """Return the embedding of the training cells and then the query cells of a task, or why there is none."""
        model = self._models.model(annotator)
        if isinstance(model, Failure):
            return model
        found = self._embedded(annotator, cast("Embedder | Integrator", model), task)
        return found if isinstance(found, Failure) else np.concatenate([found.train, found.query])

    def _embedded(self, annotator: AnnotatorPlan, model: Embedder | Integrator, task: FitTask) -> _Embedded | Failure:
        key = f"{_model_key(annotator)} {task.key}"
        if key not in self._embeddings:
            self._embeddings[key] = attempt(
                lambda: self._embed(annotator, model, task), told=_told_shortage(annotator, task)
            )
        return self._embeddings[key]

    def _embed(self, annotator: AnnotatorPlan, model: Embedder | Integrator, task: FitTask) -> _Embedded:
        """Embed both sides, by a run before or by a fit now."""
        _refuse_shared_rows(task)
        cost = cost_of(annotator, "embedding", task, n_train=len(task.train_rows))
        fit = self._fits.fit(
            lambda: self._follows_from(annotator, model, task, labels=None),
            cost,
            costs=self.costs,
            work=lambda: self._embed_anew(annotator, model, task, cost=cost),
        )
        return _Embedded(train=fit.arrays["train"], query=fit.arrays["query"], scopes=fit.scopes, notes=fit.notes)

    def _embed_anew(self, annotator: AnnotatorPlan, model: Embedder | Integrator, task: FitTask, *, cost: Cost) -> Fit:
        """Fit on unlabelled training cells, and embed both sides."""
        query = self._query_view(task.query_rows, task.genes)
        train, fit = self._fit_of(annotator, model, query=query, task=task)
        with _on_few_threads(annotator.component), Watch(cost, into=self.costs) as watch:
            fitted = fit()
            watch.answering(fitted)
            of_train = checked_embedding(fitted.embed(train), len(task.train_rows))
            of_query = checked_embedding(fitted.embed(query), len(task.query_rows))
        collapsed = collapse_note(of_train)
        return Fit(
            arrays={"train": of_train, "query": of_query},
            scopes=tuple(fitted.scopes),
            notes=(*fitted.notes, *((collapsed,) if collapsed else ())),
        )

    def _fit_of(
        self, annotator: AnnotatorPlan, model: Embedder | Integrator, *, query: QueryView, task: FitTask
    ) -> tuple[QueryView, Callable[[], FittedEmbedder]]:
        """Return the view of the training cells, and what fits the model on it.

        An integrator is handed both sides, and labels and persons of neither; an embedder the query only where its card says so.
        """
        if isinstance(model, Integrator):
            cells = self._query_view(task.train_rows, task.genes)
            return cells, lambda: model.integrate(cells, query=query, seed=task.seed)
        train = self._train_view(task.train_rows, task.genes, labels=np.full(len(task.train_rows), "", dtype=object))
        shared = query if model.card.fit_on_query is FitOnQuery.UNLABELLED else None
        if shared is not None and isinstance(model, QueryMapper):
            return train, lambda: model.map_query(
                self._training(annotator, model, train, task=task), shared, seed=task.seed
            )
        if self._models.is_start(model):
            return train, lambda: self._start(model, train, task=task)
        return train, lambda: model.fit(train, query=shared, seed=task.seed)

    def _follows_from(
        self, annotator: AnnotatorPlan, model: Model, task: FitTask, *, labels: np.ndarray | None
    ) -> dict[str, object]:
        """Return all that an answer follows from, beside code, libraries and machine; `labels` are those of training."""
        return {
            "snapshot": self._snapshot.snapshot_id,
            "model": _model_key(annotator),
            "card": digest_of(model.card),
            "files": files_of(annotator),
            "package": package_of(annotator),
            "fit": task.key,
            "merged_batches": self._merged_batches,
            "labels": None if labels is None else digest_of(labels),
        }

    def _training(
        self, annotator: AnnotatorPlan, model: Embedder, train: TrainView, *, task: FitTask
    ) -> FittedEmbedder:
        """Train without a query, or return what the same training gave before."""
        key = f"{_model_key(annotator)} {task.training_key}"
        if key in self._trained:
            return self._trained[key]
        fitted = model.fit(train, query=None, seed=task.seed)
        if task.is_asked_again:
            self._trained[key] = fitted
        return fitted

    def _probed(self, annotator: AnnotatorPlan, embedded: _Embedded, task: FitTask, *, terms: np.ndarray) -> Answer:
        own = terms[task.train_rows]
        is_labelled = own != ""
        labels = own[is_labelled]
        ids = self._snapshot.cells["cell_id"].to_numpy(dtype=object)[task.train_rows[is_labelled]]
        with Watch(cost_of(annotator, "probe", task, n_train=len(labels)), into=self.costs) as watch:
            probe = fit_probe(
                annotator.probe, embedded.train[is_labelled], labels, seed=task.seed, cell_ids=np.asarray(ids)
            )
            watch.answering(probe)
            output = checked_output(probe.predict_probability(embedded.query), len(task.query_rows))
        # An embedding that says nothing of what it was fitted on is not made clean by a probe that does.
        scopes = (*embedded.scopes, *probe.scopes) if embedded.scopes else ()
        return _answer(output, scopes, (*embedded.notes, *probe.notes))

    def _annotated(self, annotator: AnnotatorPlan, model: Annotator, task: FitTask, *, terms: np.ndarray) -> Answer:
        """Answer for the query, by a run before or by a fit now."""
        _refuse_shared_rows(task)
        labels = terms[task.train_rows]
        cost = cost_of(annotator, "annotator", task, n_train=int((labels != "").sum()))
        fit = self._fits.fit(
            lambda: self._follows_from(annotator, model, task, labels=labels),
            cost,
            costs=self.costs,
            work=lambda: self._annotate_anew(annotator, model, task, terms=terms, cost=cost),
        )
        return Answer(classes=fit.classes, probability=fit.arrays["probability"], scopes=fit.scopes, notes=fit.notes)

    def _annotate_anew(
        self, annotator: AnnotatorPlan, model: Annotator, task: FitTask, *, terms: np.ndarray, cost: Cost
    ) -> Fit:
        labelled = task.train_rows[terms[task.train_rows] != ""]
        rows = task.train_rows if UNLABELLED_CELLS in model.card.capabilities else labelled
        genes = () if model.card.value_semantics == _READS_NO_EXPRESSION else task.genes
        train = self._train_view(rows, genes, labels=terms[rows])
        query = self._query_view(task.query_rows, genes)
        started = self._started(annotator, model, train, task=task) if isinstance(model, TunedAnnotator) else None
        with _on_few_threads(annotator.component), Watch(cost, into=self.costs) as watch:
            if started is not None and isinstance(model, TunedAnnotator):
                fitted = model.tune(started, train, seed=task.seed)
            else:
                shared = None if model.card.fit_on_query is FitOnQuery.NONE else query
                fitted = model.fit(train, query=shared, seed=task.seed)
            watch.answering(fitted)
            output = checked_output(fitted.predict(query), len(task.query_rows))
        return Fit(
            arrays={"probability": output.probability},
            classes=tuple(output.classes),
            scopes=tuple(fitted.scopes),
            notes=tuple(fitted.notes),
        )

    def _started(
        self, annotator: AnnotatorPlan, model: TunedAnnotator, train: TrainView, *, task: FitTask
    ) -> FittedEmbedder:
        """Return what an annotator is fine-tuned from; what making it costs is a row of its own, of whoever asked first."""
        if _start_key(model.start, task) in self._starts:
            return self._start(model.start, train, task=task)
        cost = dataclasses.replace(
            cost_of(annotator, "start", task, n_train=len(train.cell_ids)), resolution="", n_query=0
        )
        with _on_few_threads(annotator.component), Watch(cost, into=self.costs) as watch:
            fitted = self._start(model.start, train, task=task)
            watch.answering(fitted)
        return fitted

    def _start(self, start: Embedder, train: TrainView, *, task: FitTask) -> FittedEmbedder:
        """Fit a start on training cells without their labels, or return what the same fit gave before.

        Levels, draws of labels and the frozen embedder ask for one again, a ceiling does not.
        """
        key = _start_key(start, task)
        if key in self._starts:
            return self._starts[key]
        bare = dataclasses.replace(train, labels=np.full(len(train.cell_ids), "", dtype=object))
        fitted = start.fit(bare, query=None, seed=task.seed)
        if task.purpose != "ceiling":
            self._starts[key] = fitted
        return fitted

    def _train_view(self, rows: np.ndarray, genes: tuple[str, ...], *, labels: np.ndarray) -> TrainView:
        view = train_view(self._snapshot, rows, genes=genes, labels=labels)
        return dataclasses.replace(view, technical=self._merged(view.technical))

    def _query_view(self, rows: np.ndarray, genes: tuple[str, ...]) -> QueryView:
        view = query_view(self._snapshot, rows, genes=genes)
        return dataclasses.replace(view, technical=self._merged(view.technical))

    def _merged(self, technical: pd.DataFrame) -> pd.DataFrame:
        is_merged = technical["dataset_id"].isin(sorted(self._merged_batches))
        return technical.assign(batch=technical["batch"].where(~is_merged, technical["dataset_id"]))


def _told_shortage(annotator: AnnotatorPlan, task: FitTask) -> Callable[[str], str]:
    """Return what is told where memory runs out in a fit: whose it was, what was asked for, and what makes it smaller."""

    def told(asked: str) -> str:
        n_train, n_query, n_genes = len(task.train_rows), len(task.query_rows), len(task.genes)
        step = f"{annotator.name} on {n_train:,} training and {n_query:,} query cells, {n_genes:,} genes"
        smaller = f"Less: {smaller_options(annotator.component)} fewer --workers at a time, or fewer cells."
        return shortage_told(step, asked, smaller=smaller)

    return told


def _model_key(annotator: AnnotatorPlan) -> str:
    return f"{annotator.component} {digest_of(dict(annotator.options))}"


def _start_key(start: Embedder, task: FitTask) -> str:
    return f"{digest_of(start)} {task.key}"


@contextmanager
def _on_few_threads(component: str) -> Iterator[None]:
    import_needs(component)
    with fit_threads():
        yield


def _refuse_shared_rows(task: FitTask) -> None:
    n_shared = len(np.intersect1d(task.train_rows, task.query_rows))
    if n_shared:
        msg = f"{n_shared} cells are in the training and in the query of one fit: a score would measure memory."
        raise LeakageError(msg)


def _answer(output: AnnotatorOutput, scopes: tuple[FitScope, ...], notes: tuple[str, ...]) -> Answer:
    return Answer(classes=tuple(output.classes), probability=output.probability, scopes=scopes, notes=notes)
