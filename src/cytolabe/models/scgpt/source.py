"""What a study says of an scGPT: where the checkpoint lies and how it shall read cells. Light: nothing is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytolabe.models.cards import CARDS
from cytolabe.records import Protocol

if TYPE_CHECKING:
    from cytolabe.models.scgpt.embedder import ScgptEmbedder

__all__ = ["ScgptSource"]

_RANDOM_TITLE = "A network of the shape of scGPT with random weights: what the shape alone gives"


@dataclass(frozen=True, kw_only=True)
class ScgptSource:
    """Options of the model `scgpt`."""

    checkpoint: Path | str
    """Folder with `args.json`, `vocab.json` and weights as safetensors."""
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
        model = load_scgpt(Path(self.checkpoint), expected={role: digest for role, digest in named.items() if digest})
        if self.weights == "random":
            card = replace(CARDS["scgpt"], protocol=Protocol.CONTROL, pretraining=(), title=_RANDOM_TITLE)
        else:
            card = replace(
                CARDS["scgpt"],
                protocol=model.origin.protocol,
                pretraining=tuple(self.corpus) or model.origin.pretraining,
                weights_digest=model.weights_digest,
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
