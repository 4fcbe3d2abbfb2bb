"""scGPT on disk: `args.json` + `vocab.json` + weights as safetensors, as published and as written here.

`load_scgpt` builds the network that the three files describe and fills it by name (`keys`). The weights are named by
SHA-256; a digest that is expected is checked before anything is read into a network. Weights that come as a pickle
(`best_model.pt`) are converted first: nothing is unpickled here.

What is written here is a checkpoint like any other, whose `args.json` also has the whole configuration under
`cytolabe`, with what the weights were learned from.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.files import create_new
from cytolabe.models.devices import placed
from cytolabe.models.extras import import_extra
from cytolabe.models.scgpt.configuration import ScgptConfig, read_arguments
from cytolabe.models.scgpt.keys import exceptions, heads_of, native_names
from cytolabe.models.scgpt.vocabulary import PAD, ScgptVocabulary, read_scgpt_vocabulary
from cytolabe.models.weights import KeyRules, LoadedKeys, fill_network, read_weights, stored_bytes
from cytolabe.provenance import canonical_json
from cytolabe.randomness import derive_seed
from cytolabe.records import UNKNOWN, FitScope, Protocol

__all__ = [
    "ARGUMENTS_NAME",
    "VOCABULARY_NAME",
    "WEIGHTS_NAME",
    "Origin",
    "Scgpt",
    "fresh_network",
    "grown_scgpt",
    "load_scgpt",
    "save_scgpt",
]

ARGUMENTS_NAME, VOCABULARY_NAME, WEIGHTS_NAME = "args.json", "vocab.json", "model.safetensors"
_PICKLES = ("*.pt", "*.pth", "*.bin", "*.ckpt")
_OURS = "cytolabe"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What weights were learned from. Those that were trained here name their cells and are never `zero_shot`."""

    protocol: Protocol = Protocol.ZERO_SHOT
    pretraining: tuple[str, ...] = (UNKNOWN,)
    """Corpora of the ledger; `unknown` where nobody said."""
    scopes: tuple[FitScope, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scgpt:
    """A network with weights, and what they are."""

    network: Any
    """A `ScgptNetwork`, in evaluation mode."""
    vocabulary: ScgptVocabulary
    weights_digest: str
    """SHA-256 of the file of weights, or of the one that trained weights would have (`sha256:...`); empty for fresh ones."""
    keys: LoadedKeys
    """What became of each weight: loaded, fresh (`missing`) or left out (`ignored`)."""
    origin: Origin = Origin()

    @property
    def config(self) -> ScgptConfig:
        """What the network is made of."""
        config: ScgptConfig = self.network.config
        return config


def fresh_network(config: ScgptConfig, *, seed: int) -> Any:  # noqa: ANN401 - a torch module
    """Return a network with random weights that depend on the seed alone, in evaluation mode and where it computes fastest.

    Every network of scGPT here begins as this one, whatever fills it then.
    """
    torch = import_extra("torch")
    from cytolabe.models.scgpt.network import ScgptNetwork  # noqa: PLC0415 - needs torch to be imported

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "models", "scgpt", "weights"))
        return placed(ScgptNetwork(config).eval())


def load_scgpt(folder: Path, *, expected: Mapping[str, str] | None = None, seed: int = 0, **changes: object) -> Scgpt:
    """Read a checkpoint.

    Parameters
    ----------
    folder
        Holds `args.json`, `vocab.json` and one file `*.safetensors`.
    expected
        `weights`, `vocabulary` -> the digest (`sha256:...`) that the file must have.
    seed
        Of parts that start fresh.
    changes
        Fields of `ScgptConfig` that shall differ from the checkpoint's, for example `n_classes=12`. Parts that these
        add or reshape start fresh, and `keys.missing` names them.

    Raises
    ------
    UsageError
        If the folder lacks a file, or has several files of weights.
    UnreadableInputError
        If a file is no JSON, or the weights are no safetensors.
    IntegrityError
        If a digest differs, the weights are cut off, or one is missing, too many, of another shape or not finite.
    """
    arguments = _read(folder, ARGUMENTS_NAME)
    vocabulary = read_scgpt_vocabulary(_read(folder, VOCABULARY_NAME), where=VOCABULARY_NAME)
    _check_vocabulary(vocabulary, expected or {})
    path = _weights_file(folder)
    named, digest = read_weights(path, expected=(expected or {}).get("weights", ""))
    weights = native_names(named)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    config, origin = _described(arguments, vocabulary, shapes)
    asked = dataclasses.replace(config, **changes)  # type: ignore[arg-type]
    network = fresh_network(asked, seed=seed)
    keys = _filled(network, weights, file=config, where=path.name)
    return Scgpt(network=network, vocabulary=vocabulary, weights_digest=digest, keys=keys, origin=origin)


def grown_scgpt(model: Scgpt, *, seed: int, **changes: object) -> Scgpt:
    """Return a copy of a model in which fields of `ScgptConfig` differ, as `load_scgpt` would give of its files.

    Parameters
    ----------
    seed
        Of parts that start fresh.
    changes
        For example `n_classes=12`; `keys.missing` names what these add or reshape.
    """
    network = fresh_network(dataclasses.replace(model.config, **changes), seed=seed)  # type: ignore[arg-type]
    weights = {name: weight.detach().cpu() for name, weight in model.network.state_dict().items()}
    keys = _filled(network, weights, file=model.config, where="a network that was trained here")
    return dataclasses.replace(model, network=network, keys=keys)


def _filled(network: Any, weights: Mapping[str, Any], *, file: ScgptConfig, where: str) -> LoadedKeys:  # noqa: ANN401
    """Fill a fresh network with the weights of one that `file` describes; what both differ in stays fresh."""
    state = network.state_dict()
    shapes, wanted = ({name: tuple(one.shape) for name, one in found.items()} for found in (weights, state))
    fresh, left = exceptions(shapes, wanted, file=file, network=network.config)
    offered = {name: weight for name, weight in weights.items() if name not in left}
    filled = fill_network(
        network, {**offered, **{name: state[name] for name in fresh}}, rules=KeyRules(tied={}), where=where
    )
    loaded = tuple(name for name in filled.loaded if name not in fresh)
    return LoadedKeys(loaded=loaded, missing=tuple(sorted(fresh)), ignored=tuple(sorted(left)))


def save_scgpt(model: Scgpt, folder: Path) -> str:
    """Write a checkpoint into a folder and return the digest of its weights, `sha256:...`.

    Raises
    ------
    ConflictError
        If the folder holds another one.
    """
    config = model.config
    content = stored_bytes(model.network.state_dict())
    # A share of its own is named where there is one, so that models without read as those that were saved before there was any.
    described = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    ours = {"config": described, "origin": dataclasses.asdict(model.origin)}
    arguments = {
        "embsize": config.d_model, "nheads": config.n_heads, "d_hid": config.d_hidden, "nlayers": config.n_layers,
        "n_layers_cls": config.n_layers_cls, "dropout": config.dropout, "n_bins": config.n_bins,
        "max_seq_len": config.max_length, "mask_value": config.mask_value, "pad_value": config.pad_value,
        "pad_token": PAD, _OURS: ours,
    }  # fmt: skip
    create_new(folder / WEIGHTS_NAME, content)
    create_new(folder / VOCABULARY_NAME, canonical_json(dict(model.vocabulary.tokens)))
    # The description last: a folder without it is no checkpoint, whatever a crash left there.
    create_new(folder / ARGUMENTS_NAME, canonical_json(arguments))
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        msg = (
            f"{folder / name} cannot be read ({error.strerror}). A checkpoint of scGPT is a folder with {ARGUMENTS_NAME}, "
            f"{VOCABULARY_NAME} and weights as safetensors."
        )
        raise UsageError(msg) from None


def _weights_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if not found and pickles:
        msg = (
            f"{folder} has its weights as {pickles[0]}, a pickle, which could run code here. Convert it first: "
            f"cytolabe convert {folder / pickles[0]} -o {folder / WEIGHTS_NAME}"
        )
        raise UsageError(msg)
    msg = f"{folder} has {len(found)} files *.safetensors{''.join(f', {path.name}' for path in found[:3])}; one is needed."
    raise UsageError(msg)


def _check_vocabulary(vocabulary: ScgptVocabulary, expected: Mapping[str, str]) -> None:
    unknown = sorted(set(expected).difference(("weights", "vocabulary")))
    if unknown:
        msg = f"There is no digest of {unknown[0]!r}; weights and vocabulary have one."
        raise UsageError(msg)
    wanted = expected.get("vocabulary", vocabulary.digest)
    if vocabulary.digest != wanted:
        msg = (
            f"{VOCABULARY_NAME} has the digest {vocabulary.digest}, expected was {wanted}: the vocabulary of another "
            "checkpoint, or one that changed. Genes would be read as others."
        )
        raise IntegrityError(msg)


def _described(
    arguments: bytes, vocabulary: ScgptVocabulary, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[ScgptConfig, Origin]:
    """Return the configuration of the checkpoint: as written here, or of its arguments, vocabulary and weights."""
    fields = read_arguments(arguments, where=ARGUMENTS_NAME)
    rows = shapes.get("encoder.embedding.weight", (0,))[0]
    if rows != len(vocabulary):
        msg = (
            f"{VOCABULARY_NAME} has {len(vocabulary):,} tokens with the special ones, the weights have {rows:,} rows of "
            "genes: every gene behind the difference would get the row of another. Take the vocabulary of the checkpoint."
        )
        raise IntegrityError(msg)
    ours = json.loads(arguments).get(_OURS)
    if ours is None:
        told = {"n_tokens": rows, "pad_token": vocabulary.tokens[PAD], **fields, **heads_of(shapes)}
        return ScgptConfig(**told), Origin()
    try:
        # Canonical JSON writes 0.0 as 0; a model that was saved before attention had a share of its own has none here.
        shares = {"dropout": ours["config"]["dropout"], "attention_dropout": ours["config"].get("attention_dropout")}
        config = {**ours["config"], **{name: None if one is None else float(one) for name, one in shares.items()}}
        origin = ours["origin"]
        return ScgptConfig(**config), Origin(
            protocol=Protocol(origin["protocol"]),
            pretraining=tuple(origin["pretraining"]),
            scopes=tuple(FitScope(**scope) for scope in origin["scopes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{ARGUMENTS_NAME}: the part {_OURS!r} lacks or garbles something ({error}). Save the model again."
        raise UnreadableInputError(msg) from None
