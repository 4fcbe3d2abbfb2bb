"""A Geneformer on disk: `config.json`, `model.safetensors`, its dictionaries, and a card that ties them together.

    config.json                 the shape, in the words of transformers
    model.safetensors           the weights
    token_dictionary.json       gene -> token         (a pickle under its published name is read as well)
    gene_median_dictionary.json gene -> median
    ensembl_mapping_dict.json   id -> id that stands for it; only where the generation has one
    card.json                   digests of all of them, what was learned from what, and what was converted

Two published generations have vocabularies of one size, so a wrong dictionary fits every weight and shows nowhere. The
card names the dictionaries by digest and others are refused; a folder without a card is opened with a warning in its
notes, because nothing there says which dictionaries its weights were trained with.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.files import create_new
from cytolabe.models.geneformer.dictionaries import Dictionaries, read_dictionaries
from cytolabe.models.geneformer.network import KEY_RULES, filled_network
from cytolabe.models.geneformer.shapes import GeneformerShape, shape_of_config
from cytolabe.models.hub import checkpoint_folder
from cytolabe.models.weights import LoadedKeys, read_weights, stored_bytes, stored_digest
from cytolabe.provenance import canonical_json
from cytolabe.records import UNKNOWN, FitScope, Protocol

__all__ = [
    "CARD_NAME",
    "CONFIG_NAME",
    "DICTIONARY_STEMS",
    "WEIGHTS_NAME",
    "CheckpointCard",
    "GeneformerCheckpoint",
    "dictionary_contents",
    "from_pretrained",
    "network_digest",
    "read_card",
    "save_pretrained",
    "stored_dictionaries",
    "write_card",
]

FORMAT = "cytolabe-geneformer-1"
CARD_NAME, CONFIG_NAME, WEIGHTS_NAME = "card.json", "config.json", "model.safetensors"
DICTIONARY_STEMS: Mapping[str, str] = {
    "tokens": "token_dictionary",
    "medians": "gene_median_dictionary",
    "collapse": "ensembl_mapping_dict",
}
"""How the file of each dictionary is called, before the name of its corpus and the suffix."""

_METADATA = {"format": "pt"}
_NO_CARD = "no card: nothing says that these dictionaries are those that the weights were trained with"


@dataclass(frozen=True, kw_only=True)
class CheckpointCard:
    """What belongs together, by digest (`sha256:...`), and where the weights come from.

    `pretraining` names corpora of the ledger, `unknown` where nobody said. `scopes` names the cells that a training
    here was handed; such weights are `self_supervised` and never `zero_shot` (rule R13).
    """

    weights: str
    dictionaries: Mapping[str, str]
    protocol: Protocol = Protocol.ZERO_SHOT
    pretraining: tuple[str, ...] = (UNKNOWN,)
    scopes: tuple[FitScope, ...] = ()
    training: Mapping[str, object] = field(default_factory=dict)
    converted: tuple[Mapping[str, str], ...] = ()
    """Of each file that was made of an older one: `source`, `source_sha256`, `result`, `result_sha256`."""


@dataclass(frozen=True, kw_only=True)
class GeneformerCheckpoint:
    """A loaded checkpoint. `notes` says what a reader must know of it."""

    network: Any
    shape: GeneformerShape
    dictionaries: Dictionaries
    card: CheckpointCard
    keys: LoadedKeys
    notes: tuple[str, ...] = ()


def from_pretrained(
    name: Path | str, *, expected: str = "", dictionaries: Mapping[str, str] | None = None
) -> GeneformerCheckpoint:
    """Open a checkpoint of a local folder, or of a commit on the hub (`hf:owner/name@<commit>`, see `models.hub`).

    Parameters
    ----------
    expected
        Digest (`sha256:...`) that the weights must have; that of the card, or any, without it.
    dictionaries
        `tokens`, `medians`, `collapse` -> digest that each must have; those of the card, or any, without them.

    Raises
    ------
    UsageError
        If the folder is not there, or a hub id names no commit or comes without a digest.
    UnreadableInputError
        If the hub does not answer, a part is missing or unreadable, or the vocabulary is not that of the weights.
    IntegrityError
        If a part has another digest than the card or the caller says, or a key does not fit; its name is told.
    """
    directory = checkpoint_folder(name, expected=expected)
    if not directory.is_dir():
        msg = f"{directory}: there is no such folder. Give the folder of a checkpoint, with {CONFIG_NAME} and {WEIGHTS_NAME}."
        raise UsageError(msg)
    card = read_card(directory)
    shape = shape_of_config(_json(directory / CONFIG_NAME), where=CONFIG_NAME)
    wanted = {**(card.dictionaries if card else {}), **(dictionaries or {})}
    found = stored_dictionaries(directory, wanted)
    extra = sorted(found.digests.keys() - card.dictionaries.keys()) if card else []
    if extra:
        msg = f"{directory.name}: {DICTIONARY_STEMS[extra[0]]} is not on the card; cells would get other tokens than in training."
        raise UnreadableInputError(msg)
    _refuse_other_vocabulary(found, shape)
    weights, digest = read_weights(_weights_file(directory), expected=expected or (card.weights if card else ""))
    if card and digest != card.weights:
        msg = f"{WEIGHTS_NAME} has the digest {digest}, its card says {card.weights}: the card is of other weights."
        raise IntegrityError(msg)
    network, keys = filled_network(shape, weights, where=WEIGHTS_NAME)
    made = card or CheckpointCard(weights=digest, dictionaries=found.digests)
    is_vouched = card is not None or found.digests.keys() <= (dictionaries or {}).keys()
    return GeneformerCheckpoint(
        network=network, shape=shape, dictionaries=found, card=made, keys=keys, notes=() if is_vouched else (_NO_CARD,)
    )


def save_pretrained(
    directory: Path,
    network: Any,  # noqa: ANN401 - untyped library
    *,
    shape: GeneformerShape,
    dictionaries: Dictionaries,
    about: CheckpointCard,
) -> CheckpointCard:
    """Write a checkpoint that `from_pretrained` opens, and return its card with the digests of what was written.

    Raises
    ------
    ConflictError
        If the folder holds another one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    contents = dictionary_contents(dictionaries)
    roles = [role for role in DICTIONARY_STEMS if f"{DICTIONARY_STEMS[role]}.json" in contents]
    contents[WEIGHTS_NAME] = stored_bytes(_untied(network), metadata=_METADATA)
    contents[CONFIG_NAME] = canonical_json(shape.config)
    for name, content in contents.items():
        create_new(directory / name, content)
    card = CheckpointCard(
        weights=_digest(contents[WEIGHTS_NAME]),
        dictionaries={role: _digest(contents[f"{DICTIONARY_STEMS[role]}.json"]) for role in roles},
        protocol=about.protocol, pretraining=about.pretraining, scopes=about.scopes, training=about.training,
        converted=about.converted,
    )  # fmt: skip
    # The card last: whatever a crash leaves behind has none, or one that its weights do not match.
    write_card(directory, card)
    return card


def network_digest(network: Any) -> str:  # noqa: ANN401 - untyped library
    """Return the digest of the weights of a network: that of the file in which `save_pretrained` writes them."""
    return stored_digest(_untied(network), metadata=_METADATA)


def _untied(network: Any) -> dict[str, Any]:  # noqa: ANN401 - untyped library
    """Return the weights by name, without the decoder's, which are those of the embeddings."""
    return {name: weight for name, weight in network.state_dict().items() if name not in KEY_RULES.tied}


def dictionary_contents(dictionaries: Dictionaries) -> dict[str, bytes]:
    """Return the files of dictionaries, by name."""
    tables: dict[str, Mapping[str, object]] = {"tokens": dictionaries.tokens, "medians": dictionaries.medians}
    if dictionaries.collapse is not None:
        tables["collapse"] = dictionaries.collapse
    return {f"{DICTIONARY_STEMS[role]}.json": canonical_json(dict(table)) for role, table in tables.items()}


def write_card(directory: Path, card: CheckpointCard) -> None:
    """Write the card of a folder.

    Raises
    ------
    ConflictError
        If it has another one.
    """
    create_new(directory / CARD_NAME, canonical_json({"format": FORMAT, "card": card}))


def read_card(directory: Path) -> CheckpointCard | None:
    """Return the card of a folder; None where there is none.

    Raises
    ------
    UnreadableInputError
        If it is of another format, or lacks a part.
    """
    path = directory / CARD_NAME
    if not path.exists():
        return None
    document = _json(path)
    if document.get("format") != FORMAT:
        msg = f"{CARD_NAME} has format {document.get('format')!r}, and this version reads {FORMAT}."
        raise UnreadableInputError(msg)
    try:
        card = dict(document["card"])
        return CheckpointCard(
            **{
                **card,
                "protocol": Protocol(card["protocol"]),
                "pretraining": tuple(card["pretraining"]),
                "scopes": tuple(FitScope(**scope) for scope in card["scopes"]),
                "converted": tuple(card["converted"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"{CARD_NAME} lacks or garbles a part ({type(error).__name__}: {error}). Convert or train the model again."
        )
        raise UnreadableInputError(msg) from None


def stored_dictionaries(directory: Path, wanted: Mapping[str, str]) -> Dictionaries:
    """Read the dictionaries of a folder; those of `wanted` MUST be there, with these digests.

    Raises
    ------
    UsageError
        If there are several of one name.
    UnreadableInputError
        If one is missing.
    IntegrityError
        If one has another digest.
    """
    paths = {role: _dictionary_file(directory, role) for role in DICTIONARY_STEMS}
    lost = sorted(role for role in wanted if paths.get(role) is None)
    tokens, medians = paths["tokens"], paths["medians"]
    if tokens is None or medians is None or lost:
        needed = " and ".join(f"{DICTIONARY_STEMS[role]}*.json" for role in lost or ("tokens", "medians"))
        msg = (
            f"{directory.name}: {needed} must lie beside the weights; without them a token is a number without a gene."
        )
        raise UnreadableInputError(msg)
    return read_dictionaries(tokens, medians, collapse=paths["collapse"], expected=wanted)


def _dictionary_file(directory: Path, role: str) -> Path | None:
    """Return the file of a dictionary; JSON before a pickle of the same name, several names are refused."""
    stem = DICTIONARY_STEMS[role]
    found = sorted(path for path in directory.glob(f"{stem}*") if path.suffix in (".json", ".pkl"))
    names = {path.stem for path in found}
    if len(names) > 1:
        msg = f"{directory.name} holds {len(names)} files {stem}*: {', '.join(sorted(names))}. Keep that of these weights."
        raise UsageError(msg)
    return found[0] if found else None


def _refuse_other_vocabulary(found: Dictionaries, shape: GeneformerShape) -> None:
    if len(found.tokens) != shape.n_tokens:
        msg = (
            f"The token dictionary has {len(found.tokens):,} tokens, the network {shape.n_tokens:,}: they are of different "
            "checkpoints. Every gene behind the first difference would be read as another: take both from one."
        )
        raise UnreadableInputError(msg)


def _weights_file(directory: Path) -> Path:
    path = directory / WEIGHTS_NAME
    old = [name for name in ("pytorch_model.bin", "model.pt") if (directory / name).exists()]
    if not path.exists() and old:
        msg = f"{directory.name} holds {old[0]}, whose loading would run what it names. Run: cytolabe convert {directory.name} -o NEW."
        raise UnreadableInputError(msg)
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{path.name} cannot be read ({type(error).__name__}): this folder holds no Geneformer, or half of one."
        raise UnreadableInputError(msg) from None
    if not isinstance(found, dict):
        msg = f"{path.name} is no JSON object: this folder holds no Geneformer."
        raise UnreadableInputError(msg)
    return found


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
