"""What runs: which annotators, under which gene policies, with how many seeds.

An embedder alone is no annotator: `pca` in a plan stands for `pca+knn` and `pca+logistic`. The floors `majority` and
`metadata_only` run whether or not a plan names them: a score without its floor is not published.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.errors import UsageError
from cytolabe.evaluate.gene_space import GENE_POLICIES
from cytolabe.models.cards import CARDS
from cytolabe.models.registry import card_named
from cytolabe.records import ModelCard

__all__ = [
    "FLOOR_MODELS",
    "NAMED_BY_PLAN",
    "PROBES",
    "AnnotatorPlan",
    "EvaluationPlan",
    "ModelPlan",
    "annotator_plans",
    "default_models",
    "refuse_idle_probe",
    "with_probes",
]

FLOOR_MODELS = ("majority", "metadata_only")
"""Controls that bound a score from below."""

PROBES = ("knn", "logistic")
"""What turns an embedding into terms."""

NAMED_BY_PLAN = ("precomputed", "external")
"""Models of which a plan may hold several, each with a card of its own under the name that the plan gives it."""
_EMBEDDERS = ("pca", "harmony", "scvi")


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """One model of a plan: a name of the registry, `<embedder>+<probe>`, `precomputed:<name>` or `external:<name>`.

    `options` go to the model. `gene_policies` narrows the plan's policies for this model; empty takes them all.
    """

    name: str
    options: Mapping[str, object] = field(default_factory=dict)
    gene_policies: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """Everything that an evaluation is told. The first gene policy is the default one.

    `n_seeds` holds for models whose fit is random; `ceilings` says whether the ceiling of each model is computed.
    `n_workers` processes share the folds; no result depends on their number. `override` lets refused numbers out, and
    says why: it is stamped on every row and in every certificate (rule R12). Empty refuses as the rules say.
    `limited_labels` says how few training labels are tried as well; None tries none.
    `flagged_rows` are positions of cells flagged for their quality: scores come with and without them (rule R10); None
    where quality was not measured.
    `kept_fits` is a folder where fits are kept until the study is over, for a run that goes on after this one was killed
    (`evaluate.kept_fits`); None keeps none. Whoever names it removes it.
    """

    study: str
    models: tuple[ModelPlan, ...]
    gene_policies: tuple[str, ...] = ("intersection",)
    decision_level: str = "mid"
    seed: int = 0
    n_seeds: int = 3
    ceilings: bool = True
    n_workers: int = 1
    override: str = ""
    limited_labels: LimitedLabels | None = None
    flagged_rows: np.ndarray | None = field(default=None, repr=False, compare=False)
    kept_fits: Path | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class AnnotatorPlan:
    """One row of the table of results: a component, and the probe on top of it if it is an embedder."""

    name: str
    component: str
    probe: str
    options: Mapping[str, object]
    gene_policies: tuple[str, ...]


def default_models() -> tuple[ModelPlan, ...]:
    """Return the models that run where a study names none: the floors and three embedders."""
    return tuple(ModelPlan(name=name) for name in (*FLOOR_MODELS, *_EMBEDDERS))


def annotator_plans(plan: EvaluationPlan) -> tuple[AnnotatorPlan, ...]:
    """Spell out the annotators of a plan, floors first, in the plan's order.

    Raises
    ------
    UsageError
        If a policy or probe is unknown, or two models of the plan have one name.
    """
    for policy in (*plan.gene_policies, *(policy for model in plan.models for policy in model.gene_policies)):
        if policy not in GENE_POLICIES:
            msg = f"Gene policy {policy!r} is none of {', '.join(GENE_POLICIES)}."
            raise UsageError(msg)
    if not plan.gene_policies:
        msg = "The plan names no gene policy; gene_policies = ['intersection'] is the default."
        raise UsageError(msg)
    if plan.n_seeds < 1:
        msg = f"n_seeds = {plan.n_seeds}: a model needs at least one seed."
        raise UsageError(msg)
    named = {model.name for model in plan.models}
    floors = [ModelPlan(name=name) for name in FLOOR_MODELS if name not in named]
    models = [*floors, *plan.models]
    models.sort(key=lambda model: FLOOR_MODELS.index(model.name) if model.name in FLOOR_MODELS else len(FLOOR_MODELS))
    found = [annotator for model in models for annotator in _annotators(model, plan)]
    names = [annotator.name for annotator in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"The plan holds {', '.join(twice)} more than once; its rows could not be told apart."
        raise UsageError(msg)
    return tuple(found)


def with_probes(
    annotators: Sequence[AnnotatorPlan], *, card_of: Callable[[AnnotatorPlan], ModelCard | None]
) -> tuple[AnnotatorPlan, ...]:
    """Put every probe on a model without one that turns out to be an embedder (a file of embeddings).

    Raises
    ------
    UsageError
        If one with a probe turns out to name cells itself.
    """
    found: list[AnnotatorPlan] = []
    for annotator in annotators:
        card = card_of(annotator)
        refuse_idle_probe(annotator.name, card)
        probes = PROBES if _embeds(card) and not annotator.probe else ()
        found += [replace(annotator, name=f"{annotator.name}+{probe}", probe=probe) for probe in probes] or [annotator]
    return tuple(found)


def refuse_idle_probe(name: str, card: ModelCard | None) -> None:
    """Refuse a probe on a model that names cells itself: the row would be called by what it never had.

    Parameters
    ----------
    name
        `<model>+<probe>` as the plan has it.
    card
        Of the model; None where there is none to ask, which another message tells.

    Raises
    ------
    UsageError
        If the model embeds no cells.
    """
    base, _, probe = name.partition("+")
    if probe and card is not None and not _embeds(card):
        msg = f"Model {name!r}: {base} names cells itself and takes no probe. Leave out +{probe}."
        raise UsageError(msg)


def _embeds(card: ModelCard | None) -> bool:
    return card is not None and "embed_cells" in card.capabilities


def _annotators(model: ModelPlan, plan: EvaluationPlan) -> list[AnnotatorPlan]:
    base, _, probe = model.name.partition("+")
    component = base.partition(":")[0]
    if probe and probe not in PROBES:
        msg = f"Model {model.name!r}: probe {probe!r} is none of {', '.join(PROBES)}."
        raise UsageError(msg)
    # What a file or a program is, its own card says, when it is made; a package's model that cannot be made has no probe.
    card = None if component in NAMED_BY_PLAN else card_named(component)
    refuse_idle_probe(model.name, card)
    probes = (probe,) if probe else PROBES if component in CARDS and _embeds(card) else ("",)
    named = {**model.options, "name": base} if component in NAMED_BY_PLAN else model.options
    return [
        AnnotatorPlan(
            name=f"{base}+{one}" if one else base,
            component=component,
            probe=one,
            options=named,
            gene_policies=model.gene_policies or plan.gene_policies,
        )
        for one in probes
    ]
