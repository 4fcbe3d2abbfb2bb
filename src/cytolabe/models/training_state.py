"""How far a training is, in memory and on disk: `step-<number>/` with weights, moments of the optimizer and the curve.

A checkpoint takes its name when it is whole (a renamed directory), and the one before it goes only after that; so
whoever is killed finds the last whole one. Tensors are safetensors, everything else canonical JSON, in which a float is
written so that it is read back to the bit.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cytolabe.errors import ConflictError, IntegrityError
from cytolabe.files import publish_directory, remove_directory, replace_file, staged_directory
from cytolabe.models.extras import import_extra
from cytolabe.models.weights import read_weights, stored_bytes
from cytolabe.provenance import canonical_json, digest_of

__all__ = ["Progress", "Step", "beginning_of", "load_progress", "save_progress"]

FORMAT = "cytolabe-training-1"
_STATE, _NETWORK, _BEST, _OPTIMIZER = "state.json", "network.safetensors", "best.safetensors", "optimizer.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One move of the weights: `loss` is the mean over `n_terms`; `held_out_loss` where a look followed it."""

    number: int
    epoch: int
    loss: float
    n_terms: int
    learning_rate: float
    gradient_norm: float
    held_out_loss: float | None = None


@dataclass(kw_only=True)
class Progress:
    """How far a training is. `position` = steps taken in this epoch."""

    steps: list[Step] = field(default_factory=list)
    epoch: int = 0
    position: int = 0
    best_step: int = 0
    best_loss: float | None = None
    n_looks_without_gain: int = 0
    best_weights: dict[str, Any] = field(default_factory=dict)


def beginning_of(network: Any) -> str:  # noqa: ANN401 - a module of torch
    """Return the digest of a network: its weights by name, which of them move, and what it drops in training."""
    torch, digest = import_extra("torch"), hashlib.sha256()
    moving = {name for name, weight in network.named_parameters() if weight.requires_grad}
    for name, weight in network.state_dict().items():
        values = weight.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)} {name in moving}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    dropped = [[name, part.p] for name, part in network.named_modules() if isinstance(part, torch.nn.Dropout)]
    return digest_of([digest.hexdigest(), dropped])


def save_progress(folder: Path, progress: Progress, *, network: Any, optimizer: Any, identity: str) -> None:  # noqa: ANN401
    """Write a checkpoint beside the last one, then remove that."""
    before = _checkpoints(folder)
    contents = {
        _NETWORK: stored_bytes(network.state_dict()),
        _OPTIMIZER: stored_bytes(_moments(network, optimizer)),
        **({_BEST: stored_bytes(progress.best_weights)} if progress.best_weights else {}),
    }
    told = {name: value for name, value in vars(progress).items() if name not in ("steps", "best_weights")}
    state = {"format": FORMAT, "identity": identity, **told, "steps": [asdict(step) for step in progress.steps]}
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{len(progress.steps):08d}"
    with staged_directory(folder) as staged:
        for name, content in {**contents, _STATE: canonical_json(state)}.items():
            replace_file(staged / name, content)
        publish_directory(staged, target)
    for old in before:
        if old != target:
            remove_directory(old)


def load_progress(folder: Path, progress: Progress, *, network: Any, optimizer: Any, identity: str) -> bool:  # noqa: ANN401
    """Put the last checkpoint of a folder into progress, network and optimizer; False where there is none.

    Raises
    ------
    ConflictError
        If it is of another training.
    IntegrityError
        If a part of it is missing or damaged.
    """
    found = _checkpoints(folder)
    if not found:
        return False
    place = found[-1]
    try:
        state = json.loads((place / _STATE).read_bytes())
        is_ours = state["format"] == FORMAT and state["identity"] == identity
        steps = [_step(step) for step in state["steps"]]
        told = {name: state[name] for name in ("epoch", "position", "best_step", "best_loss", "n_looks_without_gain")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{place}: {_STATE} is missing or damaged ({type(error).__name__}). Remove this checkpoint; training begins anew."
        raise IntegrityError(msg) from None
    if not is_ours:
        msg = f"{folder} holds a training of other data, options or seed, or that began with another network. Give this one a folder of its own."
        raise ConflictError(msg)
    network.load_state_dict(read_weights(place / _NETWORK)[0])
    _put_moments(network, optimizer, read_weights(place / _OPTIMIZER)[0])
    progress.steps[:] = steps
    for name, value in told.items():
        setattr(progress, name, float(value) if name == "best_loss" and value is not None else value)
    progress.best_weights = read_weights(place / _BEST)[0] if progress.best_step else {}
    return True


def _step(row: Mapping[str, Any]) -> Step:
    """Return a step of the curve; canonical JSON writes 2.0 as 2."""
    whole = ("number", "epoch", "n_terms")
    read: dict[str, Any] = {
        name: value if name in whole or value is None else float(value) for name, value in row.items()
    }
    return Step(**read)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _moments(network: Any, optimizer: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        f"{moment}/{name}": optimizer.state[weight][moment]
        for name, weight in network.named_parameters()
        if weight in optimizer.state
        for moment in _MOMENTS
    }


def _put_moments(network: Any, optimizer: Any, moments: Mapping[str, Any]) -> None:  # noqa: ANN401
    torch = import_extra("torch")
    for name, weight in network.named_parameters():
        kept = {moment: moments[f"{moment}/{name}"] for moment in _MOMENTS if f"{moment}/{name}" in moments}
        if kept:
            # The count of steps stays where AdamW keeps it; the moments lie beside their weight.
            optimizer.state[weight] = {
                moment: value if moment == "step" else torch.as_tensor(value, device=weight.device)
                for moment, value in kept.items()
            }
