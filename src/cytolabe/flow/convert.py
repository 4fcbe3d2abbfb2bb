"""`cytolabe convert`: old weights and pickled dictionaries as safetensors and JSON, with the digests of both in the card.

Every file is read in a process of its own (`convert_child`) that can open, write and call nothing. A folder becomes a
folder that `from_pretrained` opens: it is put together beside its place, opened once, and takes its name when it is whole.
What belongs to no model (`training_args.bin`, a pickle of a trainer) is left behind and told.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cytolabe import errors
from cytolabe.errors import ConflictError, CytolabeError, UnreadableInputError, UsageError
from cytolabe.files import publish_directory, publish_file, staged_directory
from cytolabe.ingest.inspection import child_environment
from cytolabe.models.geneformer.checkpoint import (
    CARD_NAME,
    CONFIG_NAME,
    DICTIONARY_STEMS,
    WEIGHTS_NAME,
    CheckpointCard,
    from_pretrained,
    write_card,
)
from cytolabe.records import UNKNOWN

__all__ = ["convert_file", "convert_folder"]

_KINDS = {".bin": "weights", ".pt": "weights", ".pkl": "dictionary", ".pickle": "dictionary"}
_OLD_WEIGHTS = "pytorch_model.bin"
_PIECE = 1 << 20
_LEAST_MEMORY, _MEMORY_PER_BYTE = 1 << 30, 3
_CPU_SECONDS, _BYTES_PER_SECOND = 60, 5_000_000
_CHILD = "cytolabe.flow.convert_child"


def convert_file(source: Path, out: Path) -> dict[str, str]:
    """Convert one file: `*.bin` and `*.pt` to safetensors, `*.pkl` to JSON; return names and digests of both.

    Raises
    ------
    UsageError
        If there is no such file, or its suffix says nothing.
    HostileInputError
        If it would call anything that such a file does not need.
    UnreadableInputError
        If it cannot be read within its bounds.
    ConflictError
        If something lies at `out` already.
    """
    kind = _KINDS.get(source.suffix)
    if kind is None or not source.is_file():
        reason = "there is no such file" if kind else f"its suffix is none of {', '.join(_KINDS)}"
        msg = f"{source}: {reason}; nothing to convert."
        raise UsageError(msg)
    with staged_directory(out.parent) as staged:
        digest = _run_child(source, staged / out.name, kind=kind)
        if not publish_file(staged / out.name, out):
            msg = f"{out} is there already. Choose another name."
            raise ConflictError(msg)
    return {
        "source": source.name, "source_sha256": _digest(source), "result": out.name, "result_sha256": digest,
    }  # fmt: skip


def convert_folder(
    source: Path, out: Path, *, corpus: Sequence[str] = (), on_progress: Callable[[str], None] = lambda _: None
) -> dict[str, object]:
    """Convert the folder of a Geneformer and return its card's digests.

    Parameters
    ----------
    corpus
        Corpora of the ledger of pretraining that the weights were trained on; `unknown` without a word.

    Raises
    ------
    UsageError
        If a part is missing, or there are several of one part.
    ConflictError
        If something lies at `out` already.
    """
    if out.exists():
        msg = f"{out} is there already. Choose another name."
        raise ConflictError(msg)
    if not (source / CONFIG_NAME).is_file():
        msg = f"{source}: {CONFIG_NAME} is missing; only the folder of a Geneformer is converted as a whole."
        raise UsageError(msg)
    parts = {WEIGHTS_NAME: _weights_of(source), **_dictionaries_of(source)}
    used = {CONFIG_NAME, CARD_NAME, *(path.name for path in parts.values())}
    left = sorted(path.name for path in source.iterdir() if path.name not in used)
    with staged_directory(out.parent) as staged:
        place = staged / out.name
        place.mkdir()
        (place / CONFIG_NAME).write_bytes((source / CONFIG_NAME).read_bytes())
        made = []
        for name, path in parts.items():
            on_progress(f"converting {path.name}")
            if path.suffix in _KINDS:
                made.append(convert_file(path, place / name))
            else:
                (place / name).write_bytes(path.read_bytes())
        roles = {role: f"{stem}.json" for role, stem in DICTIONARY_STEMS.items() if (place / f"{stem}.json").exists()}
        card = CheckpointCard(
            weights=_digest(place / WEIGHTS_NAME),
            dictionaries={role: _digest(place / name) for role, name in roles.items()},
            pretraining=tuple(corpus) or (UNKNOWN,),
            converted=tuple(made),
        )
        write_card(place, card)
        opened = from_pretrained(place)
        if not publish_directory(place, out):
            msg = f"{out} is there already. Choose another name."
            raise ConflictError(msg)
    keys = opened.keys
    return {
        "model": str(out), "weights": card.weights, "dictionaries": dict(card.dictionaries), "converted": made,
        "pretraining": list(card.pretraining), "left_behind": left,
        "keys": {"loaded": len(keys.loaded), "missing": list(keys.missing), "ignored": list(keys.ignored)},
    }  # fmt: skip


def _weights_of(source: Path) -> Path:
    found = [source / name for name in (WEIGHTS_NAME, _OLD_WEIGHTS) if (source / name).is_file()]
    if not found:
        msg = f"{source}: neither {WEIGHTS_NAME} nor {_OLD_WEIGHTS} is there."
        raise UsageError(msg)
    return found[0]


def _dictionaries_of(source: Path) -> dict[str, Path]:
    parts: dict[str, Path] = {}
    for role, stem in DICTIONARY_STEMS.items():
        found = sorted(path for path in source.glob(f"{stem}*") if path.suffix in (".json", ".pkl"))
        if len(found) > 1 or (not found and role != "collapse"):
            msg = f"{source}: {len(found)} files {stem}*.pkl or .json; put the one that came with these weights beside them."
            raise UsageError(msg)
        if found:
            parts[f"{stem}.json"] = found[0]
    return parts


def _run_child(source: Path, target: Path, *, kind: str) -> str:
    """Let the child convert a file, write what it gives, and return the digest of that."""
    size = source.stat().st_size
    task = {
        "path": str(source.resolve()), "kind": kind, "memory": _LEAST_MEMORY + _MEMORY_PER_BYTE * size,
        "seconds": _CPU_SECONDS + size // _BYTES_PER_SECOND,
    }  # fmt: skip
    command = [sys.executable, "-m", _CHILD, json.dumps(task)]
    digest = hashlib.sha256()
    with (
        subprocess.Popen(  # noqa: S603 - this interpreter, a module of this package, one JSON argument
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=child_environment()
        ) as child,
        target.open("wb") as result,
    ):
        pipe, told = _pipes(child)
        while piece := pipe.read(_PIECE):
            digest.update(piece)
            result.write(piece)
        said = told.read().decode("utf-8", "replace")
        code = child.wait()
        result.flush()
        os.fsync(result.fileno())
    if code:
        raise _error(said, code, where=source.name)
    return "sha256:" + digest.hexdigest()


def _pipes(child: "subprocess.Popen[bytes]") -> tuple[Any, Any]:
    return child.stdout, child.stderr


def _error(said: str, code: int, *, where: str) -> CytolabeError:
    """Return what the child said as the error that it is, or how it ended."""
    last = (said.strip().splitlines() or [""])[-1]
    try:
        told = json.loads(last)
        kind: type[CytolabeError] = getattr(errors, told["type"])
        return kind(told["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        how = signal.Signals(-code).name if code < 0 else last[:200]
        return UnreadableInputError(f"{where}: the process that read it ended with {how}; nothing of it was kept.")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return "sha256:" + digest.hexdigest()
