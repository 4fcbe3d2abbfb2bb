"""What a study says of a Geneformer: where the checkpoint lies, how it shall read cells, how it is trained. Light: nothing is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytolabe.errors import UsageError
from cytolabe.models.cards import CARDS
from cytolabe.models.learning import StepOptions, plan_of
from cytolabe.models.tuned import start_fields
from cytolabe.records import Protocol

if TYPE_CHECKING:
    from cytolabe.models.geneformer.annotator import GeneformerAnnotator, GeneformerTunedAnnotator
    from cytolabe.models.geneformer.embedder import GeneformerEmbedder
    from cytolabe.models.geneformer.pretrainer import GeneformerPretrainer

__all__ = [
    "GeneformerAnnotatorSource",
    "GeneformerLearning",
    "GeneformerRandomSource",
    "GeneformerRandomTunedSource",
    "GeneformerScratchSource",
    "GeneformerScratchTunedSource",
    "GeneformerSource",
    "GeneformerTuning",
]

_RANDOM_TITLE = "A network of the shape of Geneformer with random weights: what the shape alone gives"


@dataclass(frozen=True, kw_only=True)
class GeneformerSource:
    """Options of the model `geneformer`."""

    checkpoint: Path | str
    """Folder with `config.json`, `model.safetensors`, the dictionaries and, best, `card.json`; or `hf:owner/name@<commit>`."""
    expected: str = ""
    """Digest (`sha256:...`) that the weights must have."""
    corpus: Sequence[str] = ()
    """Corpora of the ledger of pretraining that the weights were trained on; the card's word without it."""
    weights: Literal["checkpoint", "random"] = "checkpoint"
    """`random`: a network of the same shape that has learned nothing, the control of every table."""
    layer: int = -1
    pooling: str = ""
    precision: Literal["float32", "bfloat16"] = "float32"
    max_length: int = 0
    panels: Literal["refuse", "flag"] = "refuse"

    def read(self) -> "GeneformerEmbedder":
        """Read the checkpoint; layer, pooling, precision and lengths are explained at `GeneformerEmbedder`.

        Raises
        ------
        UsageError
            If an option or the folder is wrong.
        UnreadableInputError
            If a part of the folder is missing or no part of a Geneformer.
        IntegrityError
            If the checkpoint is not what was expected, or does not fit together.
        """
        # Kernels and the network come with these, which a question about the registry need not wait for.
        from cytolabe.models.geneformer.checkpoint import from_pretrained  # noqa: PLC0415
        from cytolabe.models.geneformer.embedder import GeneformerEmbedder  # noqa: PLC0415

        model = from_pretrained(self.checkpoint, expected=self.expected)
        if self.weights == "random":
            card = replace(CARDS["geneformer"], protocol=Protocol.CONTROL, pretraining=(), title=_RANDOM_TITLE)
        else:
            card = replace(
                CARDS["geneformer"],
                protocol=model.card.protocol,
                pretraining=tuple(self.corpus) or model.card.pretraining,
                weights_digest=model.card.weights,
                scopes=model.card.scopes,
            )
        return GeneformerEmbedder(
            checkpoint=model, card=card, layer=self.layer, pooling=self.pooling, precision=self.precision,
            max_length=self.max_length, weights=self.weights, panels=self.panels,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GeneformerTuning(StepOptions):
    """Options that all fine-tunings share, whatever they start from.

    The published ones train 10 epochs with 12 cells a minibatch and a rate of 5e-5 that falls linearly after 500 steps of
    warm-up (the 6-layer model); here steps are counted, and the loss on held-out persons ends them.
    """

    pooling: str = ""
    """`pooler` (position 0 through a layer with tanh, as published), `cls`, `mean` over genes or `attention`."""
    frozen_layers: int = 0
    """First layers of the trunk that stay as they are; as published, embeddings move all the same."""
    frozen_embeddings: bool = False
    balanced: bool = True
    """Whether classes weigh the same in the loss, because macro-F1 comes first; the published code weighs cells."""
    task_weighting: Literal["fixed", "learned"] = "fixed"
    """Whether the weights of several tasks are given, or learned from their uncertainty."""
    n_steps: int = 400
    learning_rate: float = 5e-5
    warm_up: int = 20
    check_every: int = 50
    patience: int = 5
    save_every: int = 100
    held_out_fraction: float = 0.1
    """Share of the training cells, by whole persons, that choose when to stop."""
    keep_classes: bool = False
    """Whether a person without whom a class had no cell to be learned from moves weights, and does not choose when to stop."""
    minibatch: int = 12
    """Cells of a minibatch."""
    max_length: int = 0
    """Positions of a cell, special tokens among them; those of the network without it."""
    folder: Path | str = ""
    """Where checkpoints of the training are kept, to go on after a kill; none are without it."""

    def __post_init__(self) -> None:
        """Refuse what no training can follow.

        Raises
        ------
        UsageError
            If a number or a word is out of its range.
        """
        plan_of(self)
        wrong = [f"minibatch = {self.minibatch}"] if self.minibatch < 1 else []
        wrong += [f"held_out_fraction = {self.held_out_fraction}"] if not 0 <= self.held_out_fraction < 1 else []
        wrong += [f"max_length = {self.max_length}"] if self.max_length < 0 else []
        if wrong:
            msg = f"No training can follow these options: {'; '.join(wrong)}."
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class GeneformerLearning(GeneformerTuning):
    """Options of a fine-tuning that starts from a checkpoint."""

    checkpoint: Path | str
    """Folder of the checkpoint to start from, or `hf:owner/name@<commit>`."""
    expected: str = ""
    """Digest (`sha256:...`) that the weights must have."""
    corpus: Sequence[str] = ()
    """Corpora of the ledger of pretraining that the weights were trained on; the card's word without it."""
    weights: Literal["checkpoint", "random"] = "checkpoint"
    """`random`: start from a network of the same shape that has learned nothing, and read the same dictionaries."""
    panels: Literal["refuse", "flag"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class GeneformerAnnotatorSource(GeneformerLearning):
    """Options of the model `geneformer_annotator`. From random weights, take a larger learning rate, about 1e-3."""

    hierarchical: bool = False
    """Whether it learns from labels above its classes, too (marginal loss, rule R5)."""

    def read(self) -> "GeneformerAnnotator":
        """Read the checkpoint.

        Raises
        ------
        UsageError
            If an option or the folder is wrong.
        IntegrityError
            If the checkpoint is not what was expected, or does not fit together.
        """
        from cytolabe.models.geneformer.annotator import GeneformerAnnotator  # noqa: PLC0415
        from cytolabe.models.geneformer.checkpoint import from_pretrained  # noqa: PLC0415

        model = from_pretrained(self.checkpoint, expected=self.expected)
        if self.max_length > model.shape.n_positions:
            msg = f"max_length = {self.max_length:,}: the network has {model.shape.n_positions:,} positions."
            raise UsageError(msg)
        card = CARDS["geneformer_annotator"]
        if self.hierarchical:
            card = replace(card, capabilities=(*card.capabilities, "coarse_labels"))
        if self.weights == "random":
            card = replace(card, protocol=Protocol.SUPERVISED, pretraining=())
        else:
            card = replace(
                card,
                pretraining=tuple(self.corpus) or model.card.pretraining,
                weights_digest=model.card.weights,
                scopes=model.card.scopes,
            )
        return GeneformerAnnotator(learning=self, checkpoint=model, card=card)


@dataclass(frozen=True, kw_only=True)
class GeneformerRandomSource:
    """Options of the model `geneformer_random`: the shape of `geneformer_scratch`, and weights that learned nothing."""

    preset: Literal["tiny", "small", "base"] = "small"
    layer: int = -1
    pooling: str = ""
    panels: Literal["refuse", "flag"] = "refuse"

    def read(self) -> "GeneformerPretrainer":
        """Make the embedder."""
        from cytolabe.models.geneformer.pretrainer import GeneformerPretrainer  # noqa: PLC0415

        learning = GeneformerScratchSource(
            preset=self.preset, layer=self.layer, pooling=self.pooling, panels=self.panels
        )
        return GeneformerPretrainer(learning=learning, card=CARDS["geneformer_random"])


@dataclass(frozen=True, kw_only=True)
class GeneformerScratchSource(GeneformerRandomSource, StepOptions):
    """Options of the model `geneformer_scratch`."""

    n_steps: int = 400
    learning_rate: float = 1e-3
    warm_up: int = 20
    check_every: int = 50
    patience: int = 5
    save_every: int = 100
    held_out_fraction: float = 0.1
    """Share of the training cells, by whole persons, that choose when to stop."""
    minibatch: int = 16
    """Cells of a minibatch."""
    folder: Path | str = ""
    """Where checkpoints of the training are kept, to go on after a kill; none are without it."""

    def __post_init__(self) -> None:
        """Refuse steps that nobody can take, before a cell is read.

        Raises
        ------
        UsageError
            If a number or a word is out of its range.
        """
        plan_of(self)

    def read(self) -> "GeneformerPretrainer":
        """Make the embedder."""
        from cytolabe.models.geneformer.pretrainer import GeneformerPretrainer  # noqa: PLC0415

        return GeneformerPretrainer(learning=self, card=CARDS["geneformer_scratch"])


@dataclass(frozen=True, kw_only=True)
class GeneformerRandomTunedSource(GeneformerTuning):
    """Options of the model `geneformer_random_tuned`: `geneformer_random`, fine-tuned as `geneformer_scratch_tuned` is."""

    learning_rate: float = 1e-3
    hierarchical: bool = False
    """Whether it learns from labels above its classes, too (marginal loss, rule R5)."""
    start: Mapping[str, object] = field(default_factory=dict)
    """Options of the network that is fine-tuned: those of `geneformer_random`."""

    def read(self) -> "GeneformerTunedAnnotator":
        """Make the annotator.

        Raises
        ------
        UsageError
            If an option is wrong.
        """
        return self._made("geneformer_random_tuned", GeneformerRandomSource)

    def _made(self, name: str, options: type[GeneformerRandomSource]) -> "GeneformerTunedAnnotator":
        from cytolabe.models.geneformer.annotator import GeneformerTunedAnnotator  # noqa: PLC0415
        from cytolabe.models.geneformer.shapes import shape_named  # noqa: PLC0415

        chosen = options(**start_fields(self.start, options, model=name))  # type: ignore[arg-type]
        n_positions = shape_named(chosen.preset).n_positions
        if self.max_length > n_positions:
            msg = f"max_length = {self.max_length:,}: the network has {n_positions:,} positions."
            raise UsageError(msg)
        said = {one.name: getattr(self, one.name) for one in fields(GeneformerTuning)}
        learning = GeneformerAnnotatorSource(
            checkpoint="", panels=chosen.panels, hierarchical=self.hierarchical, **said
        )
        card = CARDS[name]
        if self.hierarchical:
            card = replace(card, capabilities=(*card.capabilities, "coarse_labels"))
        return GeneformerTunedAnnotator(start=chosen.read(), learning=learning, card=card)


@dataclass(frozen=True, kw_only=True)
class GeneformerScratchTunedSource(GeneformerRandomTunedSource):
    """Options of the model `geneformer_scratch_tuned`; those of `start` are the options of `geneformer_scratch`."""

    def read(self) -> "GeneformerTunedAnnotator":
        """Make the annotator.

        Raises
        ------
        UsageError
            If an option is wrong.
        """
        return self._made("geneformer_scratch_tuned", GeneformerScratchSource)
