"""What a study says of a Geneformer: where the checkpoint lies and how it shall read cells. Light: nothing is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytolabe.models.cards import CARDS
from cytolabe.records import Protocol

if TYPE_CHECKING:
    from cytolabe.models.geneformer.embedder import GeneformerEmbedder

__all__ = ["GeneformerSource"]

_RANDOM_TITLE = "A network of the shape of Geneformer with random weights: what the shape alone gives"


@dataclass(frozen=True, kw_only=True)
class GeneformerSource:
    """Options of the model `geneformer`."""

    checkpoint: Path | str
    """Folder with `config.json`, `model.safetensors`, the dictionaries and, best, `card.json`."""
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

        model = from_pretrained(Path(self.checkpoint), expected=self.expected)
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
