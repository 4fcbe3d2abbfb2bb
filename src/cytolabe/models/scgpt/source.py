"""What a study says of an scGPT: where the checkpoint lies and how it shall read cells. Light: nothing is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cytolabe.errors import UsageError
from cytolabe.models.cards import CARDS
from cytolabe.models.hub import checkpoint_folder
from cytolabe.models.learning import StepOptions, plan_of
from cytolabe.models.tuned import start_fields
from cytolabe.records import ModelCard, Protocol

if TYPE_CHECKING:
    from cytolabe.models.scgpt.annotator import ScgptAnnotator, ScgptTunedAnnotator
    from cytolabe.models.scgpt.embedder import ScgptEmbedder
    from cytolabe.models.scgpt.integrator import ScgptIntegrator
    from cytolabe.models.scgpt.pretrainer import ScgptPretrainer

__all__ = [
    "PRESETS",
    "Learning",
    "ScgptAnnotatorSource",
    "ScgptIntegratorSource",
    "ScgptOmicsSource",
    "ScgptRandomSource",
    "ScgptRandomTunedSource",
    "ScgptScratchSource",
    "ScgptScratchTunedSource",
    "ScgptSource",
    "ScgptTuning",
]

_RANDOM_TITLE = "A network of the shape of scGPT with random weights: what the shape alone gives"


@dataclass(frozen=True, kw_only=True)
class ScgptSource:
    """Options of the model `scgpt`."""

    checkpoint: Path | str
    """Folder with `args.json`, `vocab.json` and weights as safetensors; or `hf:owner/name@<commit>`."""
    expected: str = ""
    """Digest (`sha256:...`) that the weights must have."""
    expected_vocabulary: str = ""
    corpus: Sequence[str] = ()
    """Corpora of the ledger of pretraining that the weights were trained on; the checkpoint's word without it."""
    weights: Literal["checkpoint", "random"] = "checkpoint"
    """`random`: a network of the same shape that has learned nothing, the control of every table."""
    max_length: int = 0
    """Tokens of a cell; that of the checkpoint without it."""
    ties: Literal["random", "lower", "mid"] = "random"
    panels: Literal["refuse", "flag"] = "refuse"
    organism: str = "Homo sapiens"

    def read(self) -> "ScgptEmbedder":
        """Read the checkpoint.

        Raises
        ------
        UsageError
            If an option or the folder is wrong.
        IntegrityError
            If the checkpoint is not what was expected, or does not fit together.
        """
        # Kernels and the network come with these, which a question about the registry need not wait for.
        from cytolabe.models.scgpt.checkpoint import load_scgpt  # noqa: PLC0415
        from cytolabe.models.scgpt.embedder import ScgptEmbedder  # noqa: PLC0415

        named = {"weights": self.expected, "vocabulary": self.expected_vocabulary}
        model = load_scgpt(
            checkpoint_folder(self.checkpoint, expected=self.expected),
            expected={role: digest for role, digest in named.items() if digest},
        )
        if self.weights == "random":
            card = replace(CARDS["scgpt"], protocol=Protocol.CONTROL, pretraining=(), title=_RANDOM_TITLE)
        else:
            card = replace(
                CARDS["scgpt"],
                protocol=model.origin.protocol,
                pretraining=tuple(self.corpus) or model.origin.pretraining,
                weights_digest=model.weights_digest,
                scopes=model.origin.scopes,
            )
        return ScgptEmbedder(
            model=model,
            card=card,
            weights=self.weights,
            max_length=self.max_length,
            ties=self.ties,
            panels=self.panels,
            organism=self.organism,
        )


_FOR_PROCESSORS = {"dropout": 0.1, "attention_dropout": 0.0}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"d_model": 32, "n_heads": 4, "d_hidden": 64, "n_layers": 2, "max_length": 128, **_FOR_PROCESSORS},
    "small": {"d_model": 128, "n_heads": 4, "d_hidden": 256, "n_layers": 4, "max_length": 512, **_FOR_PROCESSORS},
    "base": {"d_model": 512, "n_heads": 8, "d_hidden": 512, "n_layers": 12, "dropout": 0.2, "max_length": 1200},
}
"""Sizes of networks that start from nothing; `base` is that of the published ones.

On processors torch has no fused attention with dropout: without it a step of `small` costs about half.
"""


@dataclass(frozen=True, kw_only=True)
class ScgptTuning(StepOptions):
    """Options of steps that all trainings share, whatever they start from and however they read cells.

    Raises
    ------
    UsageError
        If a number or a word is out of its range.
    """

    n_steps: int = 400
    learning_rate: float = 1e-4
    warm_up: int = 20
    check_every: int = 50
    patience: int = 5
    save_every: int = 100
    held_out_fraction: float = 0.1
    """Share of the training cells, by whole persons, that choose when to stop."""
    tokens_per_minibatch: int = 8_192
    folder: Path | str = ""
    """Where checkpoints of the training are kept, to go on after a kill; none are without it."""

    def __post_init__(self) -> None:
        """Refuse what no training could follow, before a cell is read."""
        plan_of(self)


@dataclass(frozen=True, kw_only=True)
class Learning(ScgptTuning):
    """Options that all trainings share."""

    checkpoint: Path | str = ""
    """Folder of the checkpoint to start from; a fresh network of `preset` without it."""
    expected: str = ""
    """Digest (`sha256:...`) that the weights of the checkpoint must have."""
    corpus: Sequence[str] = ()
    """Corpora of the ledger of pretraining that the checkpoint was trained on; its own word without it."""
    preset: Literal["tiny", "small", "base"] = "small"
    max_length: int = 0
    ties: Literal["random", "lower", "mid"] = "random"
    panels: Literal["refuse", "flag"] = "refuse"
    organism: str = "Homo sapiens"

    def card_of(self, name: str) -> ModelCard:
        """Return the card of a model that starts as these options say.

        Raises
        ------
        UsageError
            If there is no such checkpoint.
        IntegrityError
            If it is not what was expected.
        """
        card = CARDS[name]
        if not self.checkpoint:
            return card
        from cytolabe.models.scgpt.checkpoint import load_scgpt  # noqa: PLC0415 - brings kernels and the network

        model = load_scgpt(
            checkpoint_folder(self.checkpoint, expected=self.expected),
            expected={"weights": self.expected} if self.expected else {},
        )
        return replace(
            card,
            protocol=Protocol.FINE_TUNED,
            pretraining=tuple(self.corpus) or model.origin.pretraining,
            weights_digest=model.weights_digest,
            scopes=model.origin.scopes,
        )


@dataclass(frozen=True, kw_only=True)
class ScgptAnnotatorSource(Learning):
    """Options of the model `scgpt_annotator`. From nothing, take a larger learning rate, about 1e-3."""

    balanced: bool = True
    """Whether classes weigh the same in the loss, because macro-F1 comes first; the published code weighs cells."""
    hierarchical: bool = False
    """Whether it learns from labels above its classes, too (marginal loss, rule R5)."""

    def read(self) -> "ScgptAnnotator":
        """Make the annotator."""
        from cytolabe.models.scgpt.annotator import ScgptAnnotator  # noqa: PLC0415

        card = self.card_of("scgpt_annotator")
        if self.hierarchical:
            card = replace(card, capabilities=(*card.capabilities, "coarse_labels"))
        return ScgptAnnotator(learning=self, card=card)


@dataclass(frozen=True, kw_only=True)
class ScgptScratchSource(Learning):
    """Options of the model `scgpt_scratch`."""

    learning_rate: float = 1e-3

    def read(self) -> "ScgptPretrainer":
        """Make the embedder."""
        from cytolabe.models.scgpt.pretrainer import ScgptPretrainer  # noqa: PLC0415

        return ScgptPretrainer(learning=self, card=self.card_of("scgpt_scratch"))


@dataclass(frozen=True, kw_only=True)
class ScgptRandomSource:
    """Options of the model `scgpt_random`: the shape of `scgpt_scratch`, and weights that learned nothing."""

    preset: Literal["tiny", "small", "base"] = "small"
    max_length: int = 0
    ties: Literal["random", "lower", "mid"] = "random"
    panels: Literal["refuse", "flag"] = "refuse"

    def read(self) -> "ScgptPretrainer":
        """Make the embedder."""
        from cytolabe.models.scgpt.pretrainer import ScgptPretrainer  # noqa: PLC0415

        learning = ScgptScratchSource(
            preset=self.preset, max_length=self.max_length, ties=self.ties, panels=self.panels
        )
        return ScgptPretrainer(learning=learning, card=CARDS["scgpt_random"])


@dataclass(frozen=True, kw_only=True)
class ScgptIntegratorSource(Learning):
    """Options of the model `scgpt_integrator`: what corrects batches."""

    learning_rate: float = 1e-3
    adversary: bool = True
    norm_by_batch: bool = True
    explicit_zero: bool = True
    keeps_zeros: bool = False
    """Whether genes without counts are tokens, as in the published tutorial (over at most 1,200 variable genes)."""
    similarity: float = 10.0
    contrast: float = 0.0
    """Weight of the contrast of two passes of a cell (CCE), each with its own dropout; off, as published, where it weighs 10 when on."""

    def read(self) -> "ScgptIntegrator":
        """Make the embedder."""
        from cytolabe.models.scgpt.integrator import ScgptIntegrator  # noqa: PLC0415

        return ScgptIntegrator(options=self, card=self.card_of("scgpt_integrator"))


@dataclass(frozen=True, kw_only=True)
class ScgptRandomTunedSource(ScgptTuning):
    """Options of the model `scgpt_random_tuned`: `scgpt_random`, fine-tuned as `scgpt_scratch_tuned` is."""

    learning_rate: float = 1e-3
    balanced: bool = True
    """Whether classes weigh the same in the loss, because macro-F1 comes first."""
    hierarchical: bool = False
    """Whether it learns from labels above its classes, too (marginal loss, rule R5)."""
    start: Mapping[str, object] = field(default_factory=dict)
    """Options of the network that is fine-tuned: those of `scgpt_random`. How it reads cells holds for both."""

    def read(self) -> "ScgptTunedAnnotator":
        """Make the annotator.

        Raises
        ------
        UsageError
            If an option is wrong.
        """
        chosen = ScgptRandomSource(**start_fields(self.start, ScgptRandomSource, model="scgpt_random_tuned"))  # type: ignore[arg-type]
        return self._made("scgpt_random_tuned", chosen.read())

    def _made(self, name: str, start: "ScgptPretrainer") -> "ScgptTunedAnnotator":
        from cytolabe.models.scgpt.annotator import ScgptTunedAnnotator  # noqa: PLC0415

        said = {one.name: getattr(self, one.name) for one in fields(ScgptTuning)}
        read = start.learning
        learning = ScgptAnnotatorSource(
            max_length=read.max_length, ties=read.ties, panels=read.panels, balanced=self.balanced,
            hierarchical=self.hierarchical, **said,
        )  # fmt: skip
        card = CARDS[name]
        if self.hierarchical:
            card = replace(card, capabilities=(*card.capabilities, "coarse_labels"))
        return ScgptTunedAnnotator(start=start, learning=learning, card=card)


@dataclass(frozen=True, kw_only=True)
class ScgptScratchTunedSource(ScgptRandomTunedSource):
    """Options of the model `scgpt_scratch_tuned`; those of `start` are the options of `scgpt_scratch`."""

    def read(self) -> "ScgptTunedAnnotator":
        """Make the annotator.

        Raises
        ------
        UsageError
            If an option is wrong.
        """
        chosen = ScgptScratchSource(**start_fields(self.start, ScgptScratchSource, model="scgpt_scratch_tuned"))  # type: ignore[arg-type]
        if chosen.checkpoint:
            msg = "scgpt_scratch_tuned: start names a checkpoint, which is not from scratch. Fine-tune it by scgpt_annotator."
            raise UsageError(msg)
        return self._made("scgpt_scratch_tuned", chosen.read())


@dataclass(frozen=True, kw_only=True)
class ScgptOmicsSource(Learning):
    """Options of scGPT over several modalities of the same cells, in `cytolabe omics`."""

    learning_rate: float = 1e-3
    n_top_genes: int = 1200
    """Variable genes of the training cells that are read, as in the published tutorials."""
    n_top_peaks: int = 4000
    """Peaks that are read: those with a count in the most training cells."""
    contrast: float = 0.0
    """Weight of the contrast of two passes of a cell (CCE), each with its own dropout; off, as published, where it weighs 10 when on."""
