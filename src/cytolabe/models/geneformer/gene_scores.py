"""How well classes of genes are told, and by how much better than from how often and how high the genes stand.

Genes are divided into folds, stratified by class; genes of one group (paralogs, a complex) stay together. Each gene is
answered once, by a model that never saw its label, and on the same folds by a network of the same shape with random weights
that is fine-tuned alike, and by two floors: the larger class, and a logistic regression on frequency, mean rank and median
of the gene. Dosage-sensitive genes, transcription factors and the like differ in expression, so that a network is only
worth what it says beyond that.

A score is over genes, and so is its interval, by whole groups. Genes share pathways and ancestors: it is too narrow by what
they share beyond their group, and its population says so. How much higher the model scores than a control is paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cytolabe.errors import RefusedError, UsageError
from cytolabe.metrics import (
    Interval,
    accuracy,
    auroc,
    f1_per_class,
    macro_f1,
    percentile_interval,
    resampled_auroc,
    resampled_macro_f1,
    unit_resamples,
)
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint
from cytolabe.models.geneformer.gene_classes import fit_gene_classes, gene_groups, labelled_genes
from cytolabe.models.geneformer.in_silico import tokens_of
from cytolabe.models.geneformer.matched_null import occurrence_of
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.models.threads import single_thread
from cytolabe.randomness import rng_for

__all__ = ["GeneClassScores", "GeneQuestion", "GeneScore", "gene_folds", "score_gene_classes"]

_MAX_ITER = 2000
_MODEL, _RANDOM = "geneformer", "random"
_POPULATION = "labelled genes, taken as independent beyond their groups although they share pathways and ancestors; models held fixed"


@dataclass(frozen=True, kw_only=True)
class GeneQuestion:
    """Which genes are what, and how they are divided."""

    labels: Mapping[str, str]
    """Ensembl id -> class."""
    n_folds: int = 5
    groups: Mapping[str, str] = field(default_factory=dict)
    """Ensembl id -> group that stays in one fold; a gene without one is its own."""


@dataclass(frozen=True, kw_only=True)
class GeneScore:
    """Scores of one way to tell classes of genes. `auroc` is the mean over classes, one against the rest; higher is better."""

    name: str
    macro_f1: float
    auroc: float | None
    by_fold: tuple[float, ...]
    """Macro-F1 of each fold."""
    predicted: tuple[str, ...]
    probability: Float[np.ndarray, "genes classes"]
    accuracy: float
    """Share of the genes that were called what they are."""
    class_f1: Mapping[str, float | None]
    """F1 of each class."""
    macro_f1_interval: Interval | None = None
    """Over groups of genes; None under 20 of them."""
    auroc_interval: Interval | None = None
    gain: Interval | None = None
    """Of a control: macro-F1 of the model minus its own, paired by gene; above 0 the model says more."""


@dataclass(frozen=True, kw_only=True)
class GeneClassScores:
    """The model beside its floors, over the genes that cells have. `genes`, `labels`, `folds`, `n_cells` are parallel."""

    genes: tuple[str, ...]
    labels: tuple[str, ...]
    folds: Integer[np.ndarray, " genes"]
    n_cells: Integer[np.ndarray, " genes"]
    classes: tuple[str, ...]
    scores: tuple[GeneScore, ...]
    """`geneformer`, then the controls: `random` (unless it is random itself), `abundance` and `majority`."""
    without_token: tuple[str, ...]
    never_detected: tuple[str, ...]
    notes: tuple[str, ...]


def gene_folds(
    labels: Mapping[str, str], *, n_folds: int, seed: int, groups: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Return the fold of each gene: classes spread evenly, genes of one group in one fold.

    Raises
    ------
    UsageError
        If there are fewer than two folds.
    RefusedError
        If there are fewer than two classes, or a class stands in fewer groups than there are folds.
    """
    classes = sorted(set(labels.values()))
    if n_folds < 2:
        msg = f"n_folds = {n_folds}: a gene is answered by a model that was fitted on other genes, so two folds are needed."
        raise UsageError(msg)
    members: dict[str, list[str]] = {}
    for gene in sorted(labels):
        members.setdefault((groups or {}).get(gene) or gene, []).append(gene)
    standing = {name: sum(any(labels[g] == name for g in own) for own in members.values()) for name in classes}
    scarce = [f"{name} ({n})" for name, n in standing.items() if n < n_folds]
    if len(classes) < 2 or scarce:
        msg = (
            f"Genes of {len(classes)} class(es) ({', '.join(classes) or 'none'}) cannot be divided into {n_folds} folds that each "
            f"have every class; too few (groups of) genes: {', '.join(scarce) or 'no class'}. Label more genes, or take fewer folds."
        )
        raise RefusedError(msg)
    rng = rng_for(seed, "models", "geneformer", "gene_folds")
    counts = {name: np.zeros(n_folds) for name in classes}
    found: dict[str, int] = {}
    names = sorted(members)
    order = sorted(rng.permutation(len(names)).tolist(), key=lambda place: -len(members[names[place]]))
    for place in order:
        own = members[names[place]]
        # Where the classes of this group are fewest; ties by the total of the fold.
        load = sum(counts[labels[gene]] for gene in own) + 1e-6 * sum(counts.values())
        fold = int(np.argmin(load))
        for gene in own:
            found[gene] = fold
            counts[labels[gene]][fold] += 1
    without = [f"{name} (fold {int(np.argmin(counts[name]))})" for name in classes if not counts[name].all()]
    if without:
        msg = (
            f"Groups of genes hold several classes, and a fold is left without {', '.join(without)}: it could not be scored. "
            "Take fewer folds, or smaller groups."
        )
        raise RefusedError(msg)
    return found


def score_gene_classes(
    learning: GeneformerLearning,
    checkpoint: GeneformerCheckpoint,
    cells: TokenizedCells,
    *,
    persons: np.ndarray,
    asked: GeneQuestion,
    seed: int,
) -> GeneClassScores:
    """Answer every gene by a model of the other folds, and score the answers beside the floors.

    Parameters
    ----------
    cells, persons
        Tokens of cells by the dictionary of the checkpoint, and the person of each cell.

    Raises
    ------
    UsageError
        If a label is empty or contradicts another one of the same gene.
    RefusedError
        If the genes that cells have are of fewer than two classes, or a class has too few for the folds.
    """
    known, lost = labelled_genes(asked.labels, dictionaries=checkpoint.dictionaries)
    names = sorted(known)
    features, n_cells = _abundance(names, cells, checkpoint)
    detected = np.flatnonzero(n_cells > 0)
    labels = {names[place]: known[names[place]] for place in detected}
    groups = gene_groups(asked.groups, dictionaries=checkpoint.dictionaries)
    folds = gene_folds(labels, n_folds=asked.n_folds, seed=seed, groups=groups)
    genes, classes = tuple(labels), tuple(sorted(set(labels.values())))
    truth, fold = np.array(list(labels.values()), dtype=object), np.array([folds[gene] for gene in genes])
    networks = (
        {_MODEL: learning}
        if learning.weights == "random"
        else {_MODEL: learning, _RANDOM: replace(learning, weights="random")}
    )
    answers = {name: np.zeros((len(genes), len(classes))) for name in (*networks, "abundance", "majority")}
    notes: dict[str, None] = {}
    for number in range(asked.n_folds):
        rest, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        for name, options in networks.items():
            kept = Path(options.folder) / f"{name}-{number + 1}" if options.folder else ""
            fitted = fit_gene_classes(
                replace(options, folder=kept), checkpoint, cells, persons=persons,
                labels={genes[place]: truth[place] for place in rest}, seed=seed,
            )  # fmt: skip
            answers[name][test] = fitted.predict(cells, [genes[place] for place in test]).probability
            notes |= dict.fromkeys(f"{name}: {note}" for note in fitted.notes)
        known_features = features[detected]
        answers["abundance"][test], told = _by_abundance(known_features[rest], truth[rest], known_features[test])
        answers["majority"][test] = [(truth[rest] == name).mean() for name in classes]
        notes |= dict.fromkeys(told)
    scores = [_score(name, answer, truth, fold=fold, classes=classes) for name, answer in answers.items()]
    units = np.array([groups.get(gene) or gene for gene in genes], dtype=object)
    return GeneClassScores(
        genes=genes, labels=tuple(labels.values()), folds=fold, n_cells=n_cells[detected], classes=classes,
        scores=_with_intervals(scores, truth, classes=classes, units=units, rng=rng_for(seed, "models", "geneformer", "gene_intervals")),
        without_token=lost, never_detected=tuple(name for name in names if name not in labels), notes=tuple(notes),
    )  # fmt: skip


def _abundance(
    names: Sequence[str], cells: TokenizedCells, checkpoint: GeneformerCheckpoint
) -> tuple[Float[np.ndarray, "genes 3"], Integer[np.ndarray, " genes"]]:
    """Return what is known of genes without a network, and the number of cells that have each."""
    known = checkpoint.dictionaries
    occurrence = occurrence_of(cells, dictionaries=known)
    places = np.searchsorted(occurrence.tokens, tokens_of(names, dictionaries=known))
    n_cells, medians = occurrence.n_cells[places], np.array([known.medians[name] for name in names])
    return np.column_stack([np.log1p(n_cells), occurrence.rank_share[places], np.log(medians)]), n_cells


def _by_abundance(
    values: np.ndarray, labels: np.ndarray, asked: np.ndarray
) -> tuple[Float[np.ndarray, "genes classes"], tuple[str, ...]]:
    regression = LogisticRegression(class_weight="balanced", max_iter=_MAX_ITER)
    with single_thread():
        made = make_pipeline(StandardScaler(), regression).fit(values, labels.astype(str))
        probability: np.ndarray = made.predict_proba(asked)
    is_capped = int(np.max(regression.n_iter_)) >= _MAX_ITER
    return probability, (f"{NOT_CONVERGED}: the floor in {_MAX_ITER} iterations",) if is_capped else ()


def _score(
    name: str, probability: np.ndarray, truth: np.ndarray, *, fold: np.ndarray, classes: tuple[str, ...]
) -> GeneScore:
    predicted = np.array(classes, dtype=object)[probability.argmax(axis=1)]
    areas = [auroc(truth == one, probability[:, k]) for k, one in enumerate(classes)]
    known = [area for area in areas if area is not None]
    by_fold = [
        macro_f1(truth[fold == number], predicted[fold == number], classes=classes)
        for number in sorted(set(fold.tolist()))
    ]
    return GeneScore(
        name=name, macro_f1=macro_f1(truth, predicted, classes=classes), auroc=float(np.mean(known)) if known else None,
        by_fold=tuple(by_fold), predicted=tuple(predicted.tolist()), probability=probability,
        accuracy=accuracy(truth, predicted), class_f1=f1_per_class(truth, predicted, classes=classes),
    )  # fmt: skip


def _with_intervals(
    scores: Sequence[GeneScore],
    truth: np.ndarray,
    *,
    classes: tuple[str, ...],
    units: np.ndarray,
    rng: np.random.Generator,
) -> tuple[GeneScore, ...]:
    """Add intervals over whole groups of genes, all scores by the same resamples."""
    times = unit_resamples(units, rng=rng)
    if times is None:
        return tuple(scores)
    codes = np.searchsorted(np.array(classes), truth.astype(str))
    method = f"bootstrap over {len(set(units.tolist()))} groups of genes, {len(times)} resamples"

    def bounds(values: np.ndarray) -> Interval | None:
        return percentile_interval(values, method=method, population=_POPULATION)

    found, of_model = [], None
    for score in scores:
        answered = score.probability.argmax(axis=1)
        resampled = resampled_macro_f1(codes, answered, n_classes=len(classes), times=times)
        areas = [resampled_auroc(codes == k, score.probability[:, k], times=times) for k in range(len(classes))]
        of_model = resampled if of_model is None else of_model
        found.append(
            replace(
                score, macro_f1_interval=bounds(resampled), auroc_interval=bounds(np.mean(areas, axis=0)),
                gain=bounds(of_model - resampled) if score.name != _MODEL else None,
            )
        )  # fmt: skip
    return tuple(found)
