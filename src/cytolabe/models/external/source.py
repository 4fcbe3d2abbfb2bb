"""The model `external`: a program that is asked by files, in two steps, and stands in a study like any other model.

    fit                 training cells (with their labels where the model predicts labels) -> whatever it keeps in `state/`
    embed or predict    cells and what it kept -> an embedding, or a label for each

The query is written after the fit has ended, into another folder: a program cannot fit on what does not exist yet. What a
fit was handed is therefore known here and not told by the program, and is the `FitScope`. A `zero_shot` program has no first step.

Everything that the program says of itself comes with its answer, too late for the audit: so the study says what the model
was trained on before, and an answer that says something else is refused.
"""

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cytolabe.errors import MissingExtraError, RefusedError, UnreadableInputError, UsageError
from cytolabe.models.cards import external_card
from cytolabe.models.external.answer import Manifest, read_embedding, read_labels, read_manifest
from cytolabe.models.external.process import clean_environment, run_step, thread_number
from cytolabe.models.external.request import Codes, Request, write_request
from cytolabe.models.protocols import AnnotatorOutput, QueryView, TrainView
from cytolabe.models.scopes import fit_scope, refuse_other_genes
from cytolabe.records import UNKNOWN, FitScope, ModelCard, Protocol

__all__ = ["ExternalModel", "ExternalSource", "FittedExternal"]

_TASKS = ("embed_cells", "predict_labels")
_FROM_NOTHING = (Protocol.SUPERVISED, Protocol.SELF_SUPERVISED)
_FROM_WEIGHTS = (Protocol.ZERO_SHOT, Protocol.FINE_TUNED)
_STATE = "state"


@dataclass(frozen=True, kw_only=True)
class ExternalSource:
    """Options of the model `external`.

    The command is `command`, then `program` where it is given (a file, whose contents then decide whether a kept fit may be
    taken up), then the folder of the step. `checkpoint` is a file or folder of weights, handed on by its path. `settings` are
    handed on as they are. `pretraining` is what the model was trained on before: `["unknown"]`, `[]` for nothing, or names;
    `protocol` has to fit to it. `environment` names variables that the program may have.
    """

    task: str
    command: Sequence[str] = ()
    program: Path | str | None = None
    checkpoint: Path | str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    pretraining: Sequence[str] = (UNKNOWN,)
    protocol: str = "unknown"
    environment: Sequence[str] = ()
    timeout_seconds: float = 3600.0
    n_seeds: int = 1
    name: str = "external"

    def read(self) -> "ExternalModel":
        """Check the options and return the model; nothing is run.

        Raises
        ------
        UsageError
            If an option has no meaning, or the protocol does not fit to the pretraining (rule R13).
        UnreadableInputError
            If the program or the checkpoint is not there.
        MissingExtraError
            If no program of the name of the command is found here.
        """
        if self.task not in _TASKS:
            msg = f"{self.name}: task {self.task!r} is none of {', '.join(_TASKS)}."
            raise UsageError(msg)
        for option in ("command", "pretraining", "environment"):
            value = getattr(self, option)
            if isinstance(value, str) or not all(isinstance(one, str) and one for one in value):
                msg = f"{self.name}: {option} is a list of texts, for example command = ['python3']."
                raise UsageError(msg)
        if not self.timeout_seconds > 0 or self.n_seeds < 1:
            msg = f"{self.name}: timeout_seconds and n_seeds have to be positive."
            raise UsageError(msg)
        for path in (self.program, self.checkpoint):
            if path is not None and not Path(path).exists():
                msg = f"{self.name}: {path} is not there. Paths are relative to the study file."
                raise UnreadableInputError(msg)
        words = [*self.command, *([str(Path(self.program).resolve())] if self.program is not None else [])]
        if not words:
            msg = f"{self.name} needs a command or a program."
            raise UsageError(msg)
        if shutil.which(words[0]) is None:
            msg = f"{self.name}: there is no program {words[0]} here that may be run. Install it, or give command = ['python3'] before it."
            raise MissingExtraError(msg)
        card = external_card(
            self.name, capability=self.task, protocol=self._protocol(), pretraining=tuple(self.pretraining), n_seeds=self.n_seeds
        )  # fmt: skip
        return ExternalModel(card=card, words=tuple(words), source=self)

    def _protocol(self) -> Protocol:
        past = tuple(self.pretraining)
        known = (Protocol.UNKNOWN,) if UNKNOWN in past else _FROM_WEIGHTS if past else _FROM_NOTHING
        if self.protocol not in known or (UNKNOWN in past and len(past) > 1):
            msg = (
                f"{self.name}: protocol {self.protocol!r} does not fit to pretraining {list(past)}: that takes {' or '.join(known)}. "
                "['unknown'] stands alone, [] is a model that learns here from nothing."
            )
            raise UsageError(msg)
        return Protocol(self.protocol)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExternalModel:
    """A program that can be asked; an embedder or an annotator by the capability of its card."""

    card: ModelCard
    words: tuple[str, ...]
    source: ExternalSource

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> "FittedExternal":
        """Hand over the training cells, and keep what the program keeps. `query` is never handed over.

        Raises
        ------
        ModelFailedError, RefusedError
            As the program fails, or what it answers.
        """
        del query
        root = Path(tempfile.mkdtemp(prefix="cytolabe-external-"))
        words = {
            name: frozenset(map(str, train.technical[name]))
            for name in ("assay", "suspension_type")
            if name in train.technical
        }
        is_frozen = self.card.protocol is Protocol.ZERO_SHOT
        fitted = FittedExternal(
            model=self,
            root=root,
            genes=train.genes,
            classes=tuple(sorted(set(map(str, train.labels)) - {""})),
            seed=seed,
            codes=Codes(words=words),
            scopes=(fit_scope("external/frozen" if is_frozen else "external/fit", train.cell_ids),),
        )  # fmt: skip
        weakref.finalize(fitted, shutil.rmtree, root, ignore_errors=True)
        if not is_frozen:
            fitted.learn(train)
        return fitted


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedExternal:
    """A program after its fit, with what it kept in a folder that is removed with this object."""

    model: ExternalModel
    root: Path
    genes: tuple[str, ...]
    classes: tuple[str, ...]
    seed: int
    codes: Codes
    scopes: tuple[FitScope, ...]
    manifests: list[Manifest] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the program says of itself; empty before it has answered."""
        return tuple(dict.fromkeys(manifest.note for manifest in self.manifests))

    def learn(self, train: TrainView) -> None:
        """Run the step that fits."""
        folder, _ = self._run("fit", train)
        kept = folder / _STATE
        if kept.is_dir() and not kept.is_symlink():
            kept.rename(self.root / _STATE)
        shutil.rmtree(folder, ignore_errors=True)

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return the embedding that the program gives of the cells of a view."""
        folder, request = self._run("embed", view)
        found = read_embedding(folder, request, told=self._told("embed"))
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return the answers that the program gives to the cells of a view."""
        folder, request = self._run("predict", query)
        found = read_labels(folder, request, classes=self.classes, told=self._told("predict"))
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _told(self, step: str) -> str:
        return f"{self.model.card.name} ({step})"

    def _run(self, step: str, view: QueryView) -> tuple[Path, Request]:
        refuse_other_genes(view, self.genes)
        source, told = self.model.source, self._told(step)
        folder = Path(tempfile.mkdtemp(prefix=f"{step}-", dir=self.root))
        # A copy: what one step writes there can reach no other.
        if (self.root / _STATE).is_dir():
            shutil.copytree(self.root / _STATE, folder / _STATE, symlinks=True)
        else:
            (folder / _STATE).mkdir()
        said: dict[str, Any] = {
            "step": step,
            "task": source.task,
            "seed": self.seed,
            "threads": thread_number(),
            "settings": dict(source.settings),
            "checkpoint": None if source.checkpoint is None else str(Path(source.checkpoint).resolve()),
            "classes": list(self.classes) if source.task == "predict_labels" else [],
        }
        with_labels = step == "fit" and source.task == "predict_labels"
        if step != "fit" and isinstance(view, TrainView):
            view = QueryView(cell_ids=view.cell_ids, counts=view.counts, genes=view.genes, technical=view.technical)
        request = write_request(folder, view, codes=self.codes, said=said, with_labels=with_labels)
        environment = clean_environment(self.root, inherited=source.environment)
        run_step(self.model.words, folder, environment=environment, timeout=source.timeout_seconds, told=told)
        manifest = read_manifest(folder, request, pretraining=self.model.card.pretraining, told=told)
        if self.manifests and manifest != self.manifests[0]:
            msg = f"{told}: the program says something else of itself than in the step before: {manifest.note}; before: {self.manifests[0].note}"
            raise RefusedError(msg)
        self.manifests.append(manifest)
        return folder, request
