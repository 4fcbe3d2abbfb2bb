"""A model of the labelled cells of a snapshot that annotates cells of other files: embedding, regression, distances.

An embedder of the registry is fitted on the labelled cells, its dims are brought to mean 0 and deviation 1 of them, and the
hierarchical logistic regression learns from labels of any depth (R5: those above the classes by the marginal loss). With `pca` this
is the model `hierarchical` of a study. An embedder that fits on its query cannot annotate: what it says of a cell
would depend on the cells that are asked along with it, and a held-out person could not stand for a later query.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped

from cytolabe.apply.views import train_view
from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.collapse import MAX_CELLS, collapse_note
from cytolabe.models.hierarchical import HierarchicalLogisticRegression
from cytolabe.models.novelty import NoveltyReference, novelty_reference
from cytolabe.models.protocols import DescribedEmbedder, Embedder, FittedEmbedder, Integrator, QueryView
from cytolabe.models.registry import make_model
from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.hierarchy import hierarchy_of
from cytolabe.randomness import derive_seed, rng_for
from cytolabe.records import FitOnQuery, FitScope, ModelCard
from cytolabe.snapshot.view import SnapshotView

__all__ = ["ReferenceModel", "ReferencePlan", "fit_reference_model", "inductive_embedder"]

_EMBEDS = "embed_cells"


@dataclass(frozen=True, kw_only=True)
class ReferencePlan:
    """Which embedder is fitted, with which options and genes; `classes` are all that there are to tell apart."""

    genes: tuple[str, ...]
    classes: tuple[str, ...]
    model: str = "pca"
    options: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceModel:
    """What was fitted. `classes` are those of the plan, whether or not this fit knew them.

    `collapse` says how the embedding of the training cells collapsed, if it did.
    """

    genes: tuple[str, ...]
    classes: tuple[str, ...]
    fitted: FittedEmbedder
    mean: np.ndarray
    scale: np.ndarray
    regression: HierarchicalLogisticRegression
    novelty: NoveltyReference
    collapse: str
    scopes: tuple[FitScope, ...]
    card: ModelCard

    @property
    def facts(self) -> dict[str, str]:
        """Where the embedding comes from and what else decides it, by name: digests of weights, layer, pooling, precision, lengths."""
        if not isinstance(self.fitted, DescribedEmbedder):
            return {}
        facts = self.fitted.facts
        return {"layer": facts.layer, "pooling": facts.pooling, "precision": facts.precision, **facts.details}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: no convergence, coarse labels, what the embedder says and what it was trained on before."""
        return tuple(dict.fromkeys((*_exposed(self.card), *self.fitted.notes, *self.regression.notes_)))

    def annotate(self, view: QueryView) -> tuple[Float[np.ndarray, "cells classes"], Float[np.ndarray, " cells"]]:
        """Return the scores of each cell (minus infinity for a class that this fit did not know), and its distance to training."""
        embedding = np.asarray(self.fitted.embed(view), dtype=np.float64)
        values = (embedding - self.mean) / self.scale
        known = self.regression.classes_.tolist()
        scores = np.full((len(values), len(self.classes)), -np.inf)
        places = [self.classes.index(name) for name in known]
        scores[:, places] = values @ self.regression.coef_.T + self.regression.intercept_
        return scores, self.novelty.distance(embedding)


def inductive_embedder(model: str, options: Mapping[str, object]) -> Embedder:
    """Return an embedder that is fitted once and embeds any cell by itself.

    Raises
    ------
    UsageError
        If the model or an option is unknown, it predicts labels instead of embedding, or it fits on its query.
    """
    made = make_model(model, **options)
    card = made.card
    if not isinstance(made, Embedder | Integrator) or _EMBEDS not in card.capabilities:
        hint = (
            "annotate itself puts the hierarchical regression on an embedding: say --model pca"
            if model == "hierarchical"
            else "annotate needs a model that embeds cells, for example pca, or a scANVI that is stored (--option checkpoint=FOLDER)"
        )
        msg = f"{model} predicts labels and embeds no cells; {hint}."
        raise UsageError(msg)
    if isinstance(made, Integrator) or card.fit_on_query is not FitOnQuery.NONE:
        msg = (
            f"{model} fits on its query ({card.fit_on_query.value}): what it says of a cell would depend on the other cells "
            "of the file, and persons held out of the atlas would not stand for it. Choose one that embeds a cell by itself, for example pca."
        )
        raise UsageError(msg)
    return made


def fit_reference_model(
    snapshot: SnapshotView,
    plan: ReferencePlan,
    *,
    rows: np.ndarray,
    terms: Shaped[np.ndarray, " rows"],
    ontology: Ontology,
) -> ReferenceModel:
    """Fit on labelled cells of a snapshot.

    Parameters
    ----------
    rows
        Positions in `snapshot.cells`; all of their data sets measure the plan's genes.
    terms
        Live terms of the ontology, one per row. A label above no class that is present here teaches nothing and is left out.

    Raises
    ------
    RefusedError
        If fewer than two classes are present: there is nothing to tell apart.
    UsageError
        As `inductive_embedder`.
    """
    present = sorted(set(terms.tolist()) & set(plan.classes))
    if len(present) < 2:
        msg = f"{len(present)} class(es) among {len(rows)} labelled cells: there is nothing to tell apart. Take more of the atlas."
        raise RefusedError(msg)
    hierarchy = hierarchy_of(sorted(set(terms.tolist())), ontology=ontology, classes=present)
    teaches = np.isin(terms.astype(str), hierarchy.labels)
    labels = terms[teaches].astype(str)
    view = train_view(snapshot, rows[teaches], genes=plan.genes, labels=np.full(len(labels), "", dtype=object))
    embedder = inductive_embedder(plan.model, plan.options)
    seed = derive_seed(plan.seed, "annotate", "embed") % 2**31
    fitted = embedder.fit(view, query=None, seed=seed)
    values = _finite(np.asarray(fitted.embed(view), dtype=np.float64), plan.model)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    return ReferenceModel(
        genes=plan.genes,
        classes=plan.classes,
        fitted=fitted,
        mean=mean,
        scale=scale,
        regression=HierarchicalLogisticRegression(hierarchy=hierarchy).fit((values - mean) / scale, labels),
        novelty=novelty_reference(values, labels, rng=rng_for(plan.seed, "annotate", "novelty")),
        collapse=collapse_note(values[:: -(-len(values) // MAX_CELLS)]),
        scopes=tuple(dataclasses.replace(scope, step=f"annotate/{scope.step}") for scope in fitted.scopes),
        card=embedder.card,
    )


def _exposed(card: ModelCard) -> tuple[str, ...]:
    """Say that a network was trained before anybody was held out."""
    if not (card.scopes or card.pretraining):
        return ()
    n_cells = sum(scope.n_cells for scope in card.scopes)
    own = [f"{n_cells:,} cells that its folder names by digest"] if n_cells else []
    told = (
        f"QUALIFIED(exposure): the network was trained before on {', '.join([*card.pretraining, *own])}; whether cells that are held out here, or those of the "
        "query, are among them was not asked"
    )
    return (told,)


def _finite(values: np.ndarray, model: str) -> np.ndarray:
    n_bad = int((~np.isfinite(values)).any(axis=1).sum())
    if n_bad:
        msg = f"{model} gave {n_bad} of {len(values)} atlas cells an embedding that is not finite; nothing can be learned on it."
        raise RefusedError(msg)
    return values
