"""Models that other installed packages offer, by the entry point group `cytolabe.models`.

    [project.entry-points."cytolabe.models"]
    mean_expression = "their_package.models:MeanExpression"

The object is what a line of our own registry names: a dataclass whose fields are its options, with its `ModelCard` as the
class attribute `card` and `fit`, or `integrate` where it is a joint method (`models.protocols`). Names are read from the metadata of distributions, and nothing of a
package is imported before its model is asked for. What is wrong with one entry (a name that is taken, an import that fails,
an object that is no model) is told with the name of its package and touches no other model.

A card of another package is its own word. Package and version are put in front of the card's `source`, so that whatever
goes by the digest of a card (records of runs, kept fits) goes by them as well; `code` is a digest over the sources beside the
object, for packages whose code changes while their version stays.
"""

import dataclasses
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cytolabe.errors import CytolabeError, ModelFailedError, UsageError
from cytolabe.models.protocols import FittedEmbedder, QueryView, TrainView
from cytolabe.records import UNKNOWN, FitOnQuery, ModelCard

__all__ = [
    "GROUP",
    "LoadedOffer",
    "Offer",
    "OfferedIntegrator",
    "OfferedMapper",
    "OfferedModel",
    "load_offer",
    "offers",
]

GROUP = "cytolabe.models"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_CAPABILITIES = ("embed_cells", "predict_labels")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One entry of a package, as its metadata has it; `problem` says why it cannot be a model, empty where nothing is known.

    `name` is empty where not even that can be read.
    """

    name: str
    package: str
    version: str
    entry: metadata.EntryPoint | None = field(default=None, repr=False)
    problem: str = ""

    @property
    def told(self) -> str:
        """The package with its version, as messages name it."""
        return f"{self.package} {self.version}"


@dataclass(frozen=True, kw_only=True)
class LoadedOffer:
    """An entry whose object was imported and is a model; `card` names package and version."""

    offer: Offer
    options: type
    card: ModelCard
    code: str

    def make(self, **options: object) -> "OfferedModel | OfferedIntegrator":
        """Make the model.

        Raises
        ------
        ModelFailedError
            If the package raises something that is no word of ours, or makes another model than its entry says.
        """
        where = f"The model {self.offer.name} of {self.offer.told}"
        try:
            model = self.options(**options)
            card = model.card
        except CytolabeError:
            raise
        except Exception as error:
            msg = f"{where} cannot be made: {type(error).__name__}: {error}"
            raise ModelFailedError(msg) from error
        is_joint = _is_joint(self.options)
        wrong = _wrong_with_card(card, self.offer.name, is_joint=is_joint)
        if wrong:
            msg = f"{where} was made with a card that {wrong}."
            raise ModelFailedError(msg)
        if is_joint:
            return OfferedIntegrator(model=model, card=_signed(card, self.offer))
        kind = OfferedMapper if hasattr(model, "map_query") else OfferedModel
        return kind(model=model, card=_signed(card, self.offer))


@dataclass(frozen=True, kw_only=True)
class OfferedModel:
    """A model of another package, with the card that says which."""

    model: Any
    card: ModelCard

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> Any:  # noqa: ANN401 - of another package
        """Fit it."""
        return self.model.fit(train, query=query, seed=seed)


@dataclass(frozen=True, kw_only=True)
class OfferedMapper(OfferedModel):
    """One that maps a query onto a fit (`protocols.QueryMapper`)."""

    def map_query(self, fitted: FittedEmbedder, query: QueryView, *, seed: int) -> Any:  # noqa: ANN401 - of another package
        """Return a copy of `fitted` that has also seen the unlabelled query."""
        return self.model.map_query(fitted, query, seed=seed)


@dataclass(frozen=True, kw_only=True)
class OfferedIntegrator:
    """A joint method of another package (`protocols.Integrator`), with the card that says which."""

    model: Any
    card: ModelCard

    def integrate(self, train: QueryView, *, query: QueryView | None, seed: int) -> Any:  # noqa: ANN401 - of another package
        """Place the cells of both views in one space."""
        return self.model.integrate(train, query=query, seed=seed)


def offers() -> tuple[Offer, ...]:
    """Return every entry of the group, sorted by name and package. Nothing of a package is imported."""
    return _offers_on(tuple(sys.path))


@lru_cache(maxsize=8)
def load_offer(offer: Offer) -> LoadedOffer:
    """Import the object of an entry and look whether it is a model.

    Raises
    ------
    UsageError
        If it is not, or cannot be imported; the message names the package.
    """
    where = f"The model {offer.name!r} of the package {offer.told}"
    if offer.problem or offer.entry is None:
        msg = f"{where} cannot be used: {offer.problem}."
        raise UsageError(msg)
    try:
        loaded = offer.entry.load()
    except (Exception, SystemExit) as error:
        msg = (
            f"{where} cannot be imported ({offer.entry.value}): {type(error).__name__}: {error}. Mend or remove the "
            "package; every other model is as it was."
        )
        raise UsageError(msg) from error
    wrong = _wrong_with(loaded, offer.name)
    if wrong:
        msg = (
            f"{where} ({offer.entry.value}) is no model: it {wrong}. See docs/flow/models.md, Models of other packages."
        )
        raise UsageError(msg)
    return LoadedOffer(offer=offer, options=loaded, card=_signed(loaded.card, offer), code=_code_of(loaded))


@lru_cache(maxsize=4)
def _offers_on(path: tuple[str, ...]) -> tuple[Offer, ...]:
    del path  # what the answer depends on
    found = [offer for distribution in _distributions() for offer in _offers_of(distribution)]
    return tuple(sorted(found, key=lambda offer: (offer.name, offer.package, offer.version)))


def _distributions() -> Iterator[metadata.Distribution]:
    """Yield what is installed; of two with one name the first on the path, which is the one that an import finds."""
    seen = set()
    for distribution in metadata.distributions():
        name = _text_of(distribution, "Name")
        plain = re.sub(r"[-_.]+", "-", name).lower()
        if name == UNKNOWN or plain not in seen:
            seen.add(plain)
            yield distribution


def _offers_of(distribution: metadata.Distribution) -> Iterator[Offer]:
    package, version = _text_of(distribution, "Name"), _text_of(distribution, "Version")
    try:
        text = distribution.read_text("entry_points.txt") or ""
        if GROUP not in text:
            return  # most have none: their lists need not be read
        entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
    except Exception as error:  # noqa: BLE001 - whatever a broken list raises, it is of one package
        problem = f"its entry_points.txt cannot be read ({type(error).__name__}: {error})"
        yield Offer(name="", package=package, version=version, problem=problem)
        return
    for entry in entries:
        is_name = _NAME.fullmatch(entry.name) is not None
        problem = "" if is_name else "a name has letters, digits, _, . and - only, and begins with a letter"
        yield Offer(name=entry.name, package=package, version=version, entry=entry, problem=problem)


def _text_of(distribution: metadata.Distribution, key: str) -> str:
    try:
        return str(distribution.metadata[key] or UNKNOWN)
    except Exception:  # noqa: BLE001 - a distribution without metadata is no reason to lose the others
        return UNKNOWN


def _wrong_with(loaded: object, name: str) -> str:
    """Say why an object is no model; nothing where it is one."""
    if not (isinstance(loaded, type) and dataclasses.is_dataclass(loaded)):
        return "is no dataclass, whose fields would be its options"
    if callable(getattr(loaded, "fit", None)) is _is_joint(loaded):
        told = "both methods" if _is_joint(loaded) else "no method"
        return f"has {told} fit(train, *, query, seed) and integrate(train, *, query, seed): an Embedder or Annotator has the first, an Integrator the second"
    if any(one.name == "card" and one.init for one in dataclasses.fields(loaded)):
        return "takes its card as an option: whoever names the model could say what it has seen"
    wrong = _wrong_with_card(getattr(loaded, "card", None), name, is_joint=_is_joint(loaded))
    return f"has a card that {wrong}" if wrong else ""


def _is_joint(loaded: object) -> bool:
    return callable(getattr(loaded, "integrate", None))


def _wrong_with_card(card: object, name: str, *, is_joint: bool) -> str:
    if not isinstance(card, ModelCard):
        return "is no cytolabe.records.ModelCard (give it as the class attribute `card`)"
    if card.name != name:
        return f"is called {card.name!r}; exposures and certificates go by that name"
    able = [one for one in _CAPABILITIES if one in card.capabilities]
    if len(able) != 1:
        return f"names {' and '.join(able) or 'neither'} of {' and '.join(_CAPABILITIES)} among its capabilities, and not one"
    if is_joint and able != ["embed_cells"]:
        return "predicts labels, where an Integrator sees none: it embeds cells"
    # Of an annotator `joint` is no contradiction: its fit is handed the query beside the labels of training.
    says_joint = card.fit_on_query is FitOnQuery.JOINT
    if able == ["embed_cells"] and is_joint is not says_joint:
        return f"says fit_on_query = {card.fit_on_query.value}: that is `joint` where there is integrate(train, *, query, seed), and nowhere else"
    return ""


def _signed(card: ModelCard, offer: Offer) -> ModelCard:
    return replace(card, source=f"{offer.told}; {card.source}")


def _code_of(loaded: type) -> str:
    """Return a digest over the sources of the top-level package, or of the module, in which a class was defined."""
    module = sys.modules.get(loaded.__module__.partition(".")[0])
    digest = hashlib.sha256()
    for place in getattr(module, "__path__", None) or [getattr(module, "__file__", None) or ""]:
        root = Path(place)
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root] if root.is_file() else []:
            digest.update(path.relative_to(root.parent).as_posix().encode() + b"\x00" + path.read_bytes() + b"\x00")
    return f"sha256:{digest.hexdigest()}"
