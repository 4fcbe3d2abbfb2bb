"""The models by name, and whether they can run here.

Adding a model = a card in `cards`, a frozen dataclass whose fields are its options, and a line here. Nothing of torch
is imported to answer `is_available` or to make a model: only `fit` does that.

Other installed packages add models by an entry point (`models.entry_points`). Ours come first: a package can add a name
and never take one, and a name that two packages offer is nobody's.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from cytolabe.errors import MissingExtraError, UsageError
from cytolabe.models.baselines.gene_annotators import Centroid, OneVsRest
from cytolabe.models.baselines.majority import Majority
from cytolabe.models.baselines.metadata import MetadataOnly
from cytolabe.models.baselines.pca import PcaEmbedder
from cytolabe.models.baselines.variable_genes import VariableGenesEmbedder
from cytolabe.models.cards import CARDS
from cytolabe.models.entry_points import LoadedOffer, Offer, load_offer, offers
from cytolabe.models.external.source import ExternalSource
from cytolabe.models.extras import import_extra, is_installed, missing_extra_message
from cytolabe.models.geneformer.source import (
    GeneformerAnnotatorSource,
    GeneformerRandomSource,
    GeneformerRandomTunedSource,
    GeneformerScratchSource,
    GeneformerScratchTunedSource,
    GeneformerSource,
)
from cytolabe.models.harmony import HarmonyIntegrator
from cytolabe.models.hierarchical_annotator import HierarchicalAnnotator
from cytolabe.models.precomputed import PrecomputedSource
from cytolabe.models.protocols import Model
from cytolabe.models.scanvi_source import ScanviSource
from cytolabe.models.scgpt.source import (
    ScgptAnnotatorSource,
    ScgptIntegratorSource,
    ScgptRandomSource,
    ScgptRandomTunedSource,
    ScgptScratchSource,
    ScgptScratchTunedSource,
    ScgptSource,
)
from cytolabe.models.scvi_source import ScviSource
from cytolabe.models.symphony import SymphonyEmbedder
from cytolabe.records import ModelCard

__all__ = [
    "MODEL_NAMES",
    "card_named",
    "import_needs",
    "is_available",
    "make_model",
    "model_options",
    "offer_named",
    "offered_names",
    "refused_offers",
    "smaller_options",
]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """How a model is made: its options, a factory over them, and the modules that it needs."""

    options: type
    make: Callable[..., Model]
    needs: tuple[str, ...] = ()


def _made_of(source: type) -> Callable[..., Model]:
    """Return a factory over options that are read before there is a model."""

    def make(**options: object) -> Model:
        made: Model = source(**options).read()
        return made

    return make


_REGISTRY: Mapping[str, _Entry] = {
    "majority": _Entry(options=Majority, make=Majority),
    "metadata_only": _Entry(options=MetadataOnly, make=MetadataOnly),
    "pca": _Entry(options=PcaEmbedder, make=PcaEmbedder),
    "hvg": _Entry(options=VariableGenesEmbedder, make=VariableGenesEmbedder),
    "one_vs_rest": _Entry(options=OneVsRest, make=OneVsRest),
    "centroid": _Entry(options=Centroid, make=Centroid),
    "hierarchical": _Entry(options=HierarchicalAnnotator, make=HierarchicalAnnotator),
    "harmony": _Entry(options=HarmonyIntegrator, make=HarmonyIntegrator, needs=("harmonypy",)),
    "symphony": _Entry(options=SymphonyEmbedder, make=SymphonyEmbedder, needs=("harmonypy",)),
    "scvi": _Entry(options=ScviSource, make=_made_of(ScviSource), needs=("scvi", "torch", "safetensors")),
    "scanvi": _Entry(options=ScanviSource, make=_made_of(ScanviSource), needs=("scvi", "torch", "safetensors")),
    **{
        name: _Entry(options=source, make=_made_of(source), needs=("torch", "safetensors"))
        for name, source in (
            ("scgpt", ScgptSource),
            ("scgpt_annotator", ScgptAnnotatorSource),
            ("scgpt_scratch", ScgptScratchSource),
            ("scgpt_random", ScgptRandomSource),
            ("scgpt_integrator", ScgptIntegratorSource),
            ("scgpt_scratch_tuned", ScgptScratchTunedSource),
            ("scgpt_random_tuned", ScgptRandomTunedSource),
        )
    },
    **{
        name: _Entry(options=source, make=_made_of(source), needs=("transformers", "torch", "safetensors"))
        for name, source in (
            ("geneformer", GeneformerSource),
            ("geneformer_annotator", GeneformerAnnotatorSource),
            ("geneformer_scratch", GeneformerScratchSource),
            ("geneformer_random", GeneformerRandomSource),
            ("geneformer_scratch_tuned", GeneformerScratchTunedSource),
            ("geneformer_random_tuned", GeneformerRandomTunedSource),
        )
    },
    "precomputed": _Entry(options=PrecomputedSource, make=_made_of(PrecomputedSource)),
    "external": _Entry(options=ExternalSource, make=_made_of(ExternalSource)),
}

_ELSEWHERE: Mapping[str, str] = {
    "totalvi": "totalvi reads counts of proteins beside those of RNA, and an atlas keeps one matrix of RNA per data set and no counts of "
    "proteins, so that no study, split or query of an atlas can hand them over. 'cytolabe omics FILE.h5ad --proteins KEY' trains and applies it on a "
    "CITE-seq file; beside RNA alone, scvi is its kin in a study.",
}
"""Models that are here and that no atlas can feed, and what to do instead."""

MODEL_NAMES: tuple[str, ...] = tuple(_REGISTRY)
"""Every model of this package; floors first."""


def offered_names() -> tuple[str, ...]:
    """Return the names that other packages offer and that are free, sorted. Nothing of them is imported."""
    return tuple(sorted({offer.name for offer in offers() if not _is_ours(offer.name) and offer.name}))


def refused_offers() -> tuple[tuple[Offer, str], ...]:
    """Return the entries of other packages that no model comes of, whatever is in them, and why."""
    found = []
    for offer in offers():
        same = [one for one in offers() if one.name == offer.name]
        if _is_ours(offer.name):
            found.append((offer, f"{offer.name} is a model of cytolabe; a package cannot take its name"))
        elif offer.name and len(same) > 1:
            packages = ", ".join(one.told for one in same)
            found.append((offer, f"{offer.name} is offered by {packages}: remove one of them"))
        elif offer.problem:
            found.append((offer, offer.problem))
    return tuple(found)


def offer_named(name: str) -> LoadedOffer | None:
    """Return the model that another package offers under a name, imported; None where nobody does, or the name is ours.

    Raises
    ------
    UsageError
        If two packages offer it, it cannot be imported, or is no model.
    """
    found = [] if _is_ours(name) else [offer for offer in offers() if offer.name == name and name]
    if not found:
        return None
    refused = next((why for offer, why in refused_offers() if offer == found[0]), "")
    if refused:
        msg = f"The model {name!r} of the package {found[0].told} cannot be used: {refused}."
        raise UsageError(msg)
    return load_offer(found[0])


def card_named(name: str) -> ModelCard | None:
    """Return the card under which the registry has a model; None where there is none, or it cannot be imported."""
    if name in CARDS:
        return CARDS[name]
    try:
        offer = offer_named(name)
    except UsageError:
        return None
    return None if offer is None else offer.card


def _is_ours(name: str) -> bool:
    return name in _REGISTRY or name in _ELSEWHERE


def is_available(name: str) -> tuple[bool, str]:
    """Say whether a model can run here, and if not, what to do. Nothing of ours is imported; a model of another package is.

    Raises
    ------
    UsageError
        If there is no such model.
    """
    if name in offered_names():
        try:
            offer_named(name)
        except UsageError as error:
            return False, str(error)
    for module in _entry(name).needs:
        if not is_installed(module):
            return False, missing_extra_message(module)
    return True, ""


def import_needs(name: str) -> None:
    """Import what a model needs, which it would do itself; a model that is not of this registry needs nothing here.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    if name in _REGISTRY:
        for module in _REGISTRY[name].needs:
            import_extra(module)


def model_options(name: str) -> tuple[str, ...]:
    """Return the options of a model, sorted.

    Raises
    ------
    UsageError
        If there is no such model.
    """
    return tuple(sorted(field.name for field in dataclasses.fields(_entry(name).options) if field.init))


def make_model(name: str, /, **options: object) -> Model:
    """Make a model by name.

    Parameters
    ----------
    name
        One of `MODEL_NAMES`, or one that another package offers.
    options
        Fields of the model's dataclass, for example `n_dims=20` of `pca`.

    Raises
    ------
    UsageError
        If the model or an option is unknown, or a required one is missing.
    MissingExtraError
        If a library that the model needs is not installed.
    ModelFailedError
        If a model of another package cannot be made.
    """
    entry = _entry(name)
    known = model_options(name)
    unknown = sorted(set(options).difference(known))
    if unknown:
        msg = f"{name} has no option {unknown[0]!r}{_did_you_mean(unknown[0], known)} Known: {', '.join(known)}."
        raise UsageError(msg)
    required = [field.name for field in dataclasses.fields(entry.options) if field.init and _has_no_default(field)]
    missing = [option for option in required if option not in options]
    if missing:
        msg = f"{name} needs the option(s) {', '.join(missing)}."
        raise UsageError(msg)
    available, remedy = is_available(name)
    if not available:
        msg = f"The model {name} cannot run here: {remedy}"
        raise MissingExtraError(msg)
    return entry.make(**options)


def _has_no_default(field: "dataclasses.Field[object]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


_SMALLER = ("minibatch", "tokens_per_minibatch", "max_length", "preset", "n_top_genes", "n_hidden")
"""Options that bound the memory of a fit, those that move it most first."""


def smaller_options(name: str) -> str:
    """Say which options of a model make it smaller in memory, as the beginning of a list; empty where there is none."""
    try:
        own = set(model_options(name))
    except UsageError:
        return ""
    told = [option for option in _SMALLER if option in own]
    return f"a smaller {' or '.join(told)} of the model," if told else ""


def _entry(name: str) -> _Entry:
    if name in _ELSEWHERE:
        raise UsageError(_ELSEWHERE[name])
    if name in _REGISTRY:
        return _REGISTRY[name]
    offer = offer_named(name)
    if offer is None:
        known = (*MODEL_NAMES, *offered_names())
        msg = f"There is no model {name!r}{_did_you_mean(name, known)} Known: {', '.join(known)}."
        raise UsageError(msg)
    return _Entry(options=offer.options, make=offer.make)


def _did_you_mean(word: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else "."
