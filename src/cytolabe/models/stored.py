"""A trained model of scvi-tools on disk: weights, a description, and the card that ties them together.

    weights.safetensors                        the weights
    scvi.json, scanvi.json or totalvi.json     all else that the model is: genes in their order, batches, shape, scopes, notes
    model_card.json                            the `ModelCard`, what any artifact has to say of itself (layer, pooling, precision,
                                               longest cell, seed, digests of weights and genes), and the digest of the description

The card is written last, so that a folder without it is no model, whatever a crash left there. Loading checks it first: that it is of this
model, that genes, description and weights have its digests. Then an empty network of the described shape is filled; every weight has to be there,
with its shape, and none more. Never a pickle: `SCVI.save` writes one and `SCVI.load` executes it, and a file from another lab must not run code here.

A folder without a card is refused. Nothing in it would say that genes and weights belong together, and a list of genes in another order fits
every weight; the same data and seed give the same model again.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from cytolabe.errors import IntegrityError, UnreadableInputError
from cytolabe.files import create_new
from cytolabe.models.protocols import EmbeddingFacts
from cytolabe.models.weights import KeyRules, fill_network, read_weights, stored_bytes, stored_digest
from cytolabe.provenance import canonical_json, digest_of, jsonable
from cytolabe.records import FitOnQuery, FitScope, ModelCard, Protocol

__all__ = [
    "MODEL_CARD_NAME",
    "WEIGHTS_NAME",
    "StoredKind",
    "StoredModel",
    "described",
    "features_digest",
    "open_stored",
    "posterior_facts",
    "scopes_of",
    "weights_digest",
    "write_stored",
]

MODEL_CARD_NAME, WEIGHTS_NAME = "model_card.json", "weights.safetensors"
_CARD_FORMAT = "cytolabe-model-card-1"
_DESCRIPTIONS = ("scvi.json", "scanvi.json", "totalvi.json")
_AGAIN = (
    "Take the folder as it was saved, or fit the model again and save it: the same data and seed give the same model."
)


@dataclass(frozen=True, kw_only=True)
class StoredKind:
    """One kind of model on disk. `features` says under which role the card names which list of the description by digest."""

    model: str
    format: str
    description_name: str
    features: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A folder whose parts were found to belong together; the network is not made yet."""

    kind: StoredKind
    description: Mapping[str, Any]
    card: ModelCard
    facts: EmbeddingFacts
    weights: Mapping[str, Any]

    def fill(self, model: Any) -> None:  # noqa: ANN401 - untyped library
        """Put every stored weight into the network of a model of scvi-tools.

        Raises
        ------
        IntegrityError
            If one is missing, too many, of another shape or not finite: a weight that is passed over would be a random one.
        """
        where = f"{WEIGHTS_NAME} under {self.kind.description_name}"
        fill_network(model.module, self.weights, rules=KeyRules(tied={}), where=where)


def weights_digest(model: Any) -> str:  # noqa: ANN401 - untyped library
    """Return the digest that the file of a model's weights has, or would have."""
    return stored_digest(model.module.state_dict())


def features_digest(features: tuple[str, ...]) -> str:
    """Return the digest of a list of genes or proteins; another order is another list."""
    return digest_of(list(features))


def posterior_facts(model: Any, *, seed: int, features: Mapping[str, tuple[str, ...]], read: str) -> EmbeddingFacts:  # noqa: ANN401
    """Return what decides an embedding by the mean of a model's posterior.

    Parameters
    ----------
    features
        What a view has to have, by kind.
    read
        How many of them the network reads, in words.
    """
    return EmbeddingFacts(
        layer="mean of the approximate posterior",
        pooling="none: one vector for each cell",
        precision="float32",
        details={
            "weights": weights_digest(model),
            **{f"dictionary.{kind}": features_digest(names) for kind, names in features.items()},
            "max_length": f"none: all {read} are read",
            "seed": str(seed),
        },
    )


def write_stored(
    directory: Path, kind: StoredKind, *, model: Any, description: Mapping[str, object], about: tuple[ModelCard, EmbeddingFacts]  # noqa: ANN401
) -> ModelCard:  # fmt: skip
    """Write a model into a folder, and return its card with the digest of its weights.

    Parameters
    ----------
    description
        All of the model but its weights.
    about
        The card, which gets the digest of the weights, and what any artifact has to say of itself.

    Raises
    ------
    ConflictError
        If the folder holds another model.
    """
    content = stored_bytes(model.module.state_dict())
    described = canonical_json(
        jsonable({**description, "format": kind.format, "scvi_tools": metadata.version("scvi-tools")})
    )
    card, facts = replace(about[0], weights_digest=_digest(content)), about[1]
    full = {"format": _CARD_FORMAT, "card": asdict(card), "artifact": asdict(facts), "description": _digest(described)}
    create_new(directory / WEIGHTS_NAME, content)
    create_new(directory / kind.description_name, described)
    create_new(directory / MODEL_CARD_NAME, canonical_json(jsonable(full)))
    return card


def open_stored(directory: Path, kind: StoredKind) -> StoredModel:
    """Read a folder that `write_stored` wrote, and check that its parts belong together.

    Raises
    ------
    UnreadableInputError
        If a part is missing, is not JSON, is of another format or garbled.
    IntegrityError
        If the card is of another model, or the genes, the cells that it was fitted on, the description or the weights are not those that it names.
    """
    description, content = _described_by(directory / kind.description_name, kind)
    card, facts, expected = _card_of(directory / MODEL_CARD_NAME)
    if card.name != kind.model:
        msg = (
            f"{directory / MODEL_CARD_NAME} is the card of {card.name!r}; expected was that of {kind.model!r}. {_AGAIN}"
        )
        raise IntegrityError(msg)
    for role, name in kind.features.items():
        with described(kind):
            found = features_digest(tuple(map(str, description[name])))
        _refuse_other(directory / kind.description_name, name, found=found, expected=facts.details.get(role, "none"))
    with described(kind):
        fitted_on = scopes_of(description)
    if fitted_on != card.scopes:
        msg = f"{directory / MODEL_CARD_NAME} names other cells that the model was fitted on than {kind.description_name}. {_AGAIN}"
        raise IntegrityError(msg)
    _refuse_other(directory / kind.description_name, "the description", found=_digest(content), expected=expected)
    weights, _ = read_weights(directory / WEIGHTS_NAME, expected=card.weights_digest)
    return StoredModel(kind=kind, description=description, card=card, facts=facts, weights=weights)


@contextlib.contextmanager
def described(kind: StoredKind) -> Iterator[None]:
    """Read parts of a description: what is missing or garbled there is told by its name.

    Raises
    ------
    UnreadableInputError
        If a part is missing, or has another form.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        msg = f"{kind.description_name} lacks or garbles a part ({type(error).__name__}: {error}). {_AGAIN}"
        raise UnreadableInputError(msg) from None


def scopes_of(description: Mapping[str, Any]) -> tuple[FitScope, ...]:
    """Return the scopes of a description."""
    return tuple(FitScope(**scope) for scope in description["scopes"])


def _described_by(path: Path, kind: StoredKind) -> tuple[dict[str, Any], bytes]:
    try:
        content = path.read_bytes()
        description = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path} cannot be read ({type(error).__name__}): this folder holds no stored {kind.model}.{_holds_instead(path)}"
        raise UnreadableInputError(msg) from None
    found = description.get("format") if isinstance(description, dict) else None
    if found != kind.format:
        msg = f"{path} has format {found!r}; expected was {kind.format}. {_AGAIN}"
        raise UnreadableInputError(msg)
    return dict(description), content


def _holds_instead(path: Path) -> str:
    """Say which other model a folder holds, and which folders of it hold the one that was asked for."""
    others = [
        name.removesuffix(".json") for name in _DESCRIPTIONS if name != path.name and (path.parent / name).is_file()
    ]
    told = "".join(f" It holds a stored {name}: ask for that model." for name in others)
    inside = sorted(one.parent.name for one in path.parent.glob(f"*/{path.name}")) if others else []
    return told + "".join(f" Its folder {name} is what it began with, which is one." for name in inside)


def _card_of(path: Path) -> tuple[ModelCard, EmbeddingFacts, str]:
    if not path.exists():
        msg = f"{path} is missing; expected was a card, without which nothing says that these genes and weights belong together. {_AGAIN}"
        raise UnreadableInputError(msg)
    try:
        document = json.loads(path.read_bytes())
        said, artifact = dict(document["card"]), dict(document["artifact"])
        facts = EmbeddingFacts(**{**artifact, "details": dict(artifact["details"])})
        lists = {name: tuple(said[name]) for name in ("capabilities", "inputs", "pretraining")}
        kinds = {"protocol": Protocol(said["protocol"]), "fit_on_query": FitOnQuery(said["fit_on_query"])}
        card = ModelCard(**{**said, **lists, **kinds, "scopes": scopes_of(said)})
        found, expected = document["format"], str(document["description"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        msg = f"{path} lacks or garbles a part of the card ({type(error).__name__}: {error}). {_AGAIN}"
        raise UnreadableInputError(msg) from None
    if found != _CARD_FORMAT:
        msg = f"{path} has format {found!r}; expected was {_CARD_FORMAT}. {_AGAIN}"
        raise UnreadableInputError(msg)
    return card, facts, expected


def _refuse_other(path: Path, part: str, *, found: str, expected: str) -> None:
    if found != expected:
        msg = f"{path}: {part} has the digest {found}; the card expects {expected}: changed since, or of another model. {_AGAIN}"
        raise IntegrityError(msg)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
