"""The dictionaries of a Geneformer checkpoint: gene -> token, gene -> median, and which ids are one gene.

Three published generations have two vocabularies of one size, so a wrong pairing shows nowhere: each dictionary is
named by the SHA-256 of its file, and that is what an artifact has to carry. Which tokens are special is read from the
file; their numbers are nowhere written down here.

The files are pickles of numpy scalars, or JSON. Of a pickle nothing is run (`genes.pickles`).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.genes.pickles import plain_scalar, read_named

__all__ = ["Dictionaries", "read_dictionaries"]

_Value = TypeVar("_Value", int, str, float)

_PAD, _MASK, _START, _END = "<pad>", "<mask>", "<cls>", "<eos>"
_GENERATIONS = {frozenset({_PAD, _MASK}): 2048, frozenset({_PAD, _MASK, _START, _END}): 4096}


@dataclass(frozen=True, kw_only=True)
class Dictionaries:
    """What a checkpoint reads genes by.

    Raises
    ------
    UnreadableInputError
        If tokens are not 0 to n - 1, the special tokens are of no known generation, or a gene has no usable median.
    """

    tokens: Mapping[str, int]
    """Token of each gene and of each special token."""
    medians: Mapping[str, float]
    """Median of each gene over the cells of the corpus that have it."""
    collapse: Mapping[str, str] | None = None
    """Ensembl id -> the id that stands for it; without it an id stands for itself."""
    digests: Mapping[str, str]
    """SHA-256 of the file of each of the three."""

    def __post_init__(self) -> None:
        """Refuse what would give another meaning to a row of the embedding matrix."""
        numbers = sorted(self.tokens.values())
        if numbers != list(range(len(numbers))):
            msg = (
                f"The token dictionary has {len(numbers):,} names for tokens {numbers[0] if numbers else 'none'} to "
                f"{numbers[-1] if numbers else 'none'}; each of 0 to {len(numbers) - 1:,} must occur once. A row of the "
                "checkpoint would be read as that of another gene: take the dictionary that came with the checkpoint."
            )
            raise UnreadableInputError(msg)
        if self.specials not in _GENERATIONS:
            known = " or ".join(", ".join(sorted(names)) for names in _GENERATIONS)
            msg = f"The token dictionary has the special tokens {sorted(self.specials)}; Geneformer has {known}."
            raise UnreadableInputError(msg)
        lacking = [gene for gene in self.genes if not _divides(self.medians.get(gene, 0.0))]
        if lacking:
            msg = (
                f"{len(lacking):,} of {len(self.genes):,} genes with a token have no positive median, for example "
                f"{lacking[0]}. The two dictionaries are of different checkpoints: take both from one."
            )
            raise UnreadableInputError(msg)

    @property
    def specials(self) -> frozenset[str]:
        """Names of the tokens that are no gene."""
        return frozenset(name for name in self.tokens if name.startswith("<") and name.endswith(">"))

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of the tokens that are genes."""
        specials = self.specials
        return tuple(name for name in self.tokens if name not in specials)

    @property
    def max_length(self) -> int:
        """Positions of a cell in the published models of this generation."""
        return _GENERATIONS[self.specials]

    @property
    def pad(self) -> int:
        """Token that fills up a cell."""
        return self.tokens[_PAD]

    @property
    def bounds(self) -> tuple[int, int] | None:
        """Tokens before and behind the genes of a cell; None in the first generation, which has none."""
        return (self.tokens[_START], self.tokens[_END]) if _START in self.tokens else None


def read_dictionaries(
    tokens: Path, medians: Path, *, collapse: Path | None = None, expected: Mapping[str, str] | None = None
) -> Dictionaries:
    """Read the dictionaries of a checkpoint.

    Parameters
    ----------
    tokens, medians, collapse
        Files, each a pickle of a dictionary or a JSON object.
    expected
        `tokens`, `medians`, `collapse` -> the digest (`sha256:...`) that the file must have.

    Raises
    ------
    UsageError
        If a file cannot be read.
    UnreadableInputError
        If one is no dictionary of the right kind, or they do not go together.
    IntegrityError
        If one has another digest than expected.
    """
    paths = {"tokens": tokens, "medians": medians} | ({"collapse": collapse} if collapse else {})
    found = {role: _read(path, (expected or {}).get(role)) for role, path in paths.items()}
    token_of = {name: _typed(value, int, tokens) for name, value in found["tokens"][0].items()}
    median_of = {name: _number(value, medians) for name, value in found["medians"][0].items()}
    stands_for = None
    if collapse is not None:
        stands_for = {name.upper(): str(_typed(value, str, collapse)) for name, value in found["collapse"][0].items()}
    digests = {role: digest for role, (_, digest) in found.items()}
    return Dictionaries(tokens=token_of, medians=median_of, collapse=stands_for, digests=digests)


def _read(path: Path, expected: str | None) -> tuple[dict[str, object], str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path}: the dictionary cannot be read ({error.strerror})."
        raise UsageError(msg) from None
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if expected is not None and digest != expected:
        msg = f"{path.name} has the digest {digest}, expected was {expected}: it is of another checkpoint, or changed."
        raise IntegrityError(msg)
    found = read_named(content, where=path.name)
    return {name: plain_scalar(value, where=path.name) for name, value in found.items()}, digest


def _typed(value: object, kind: type[_Value], path: Path) -> _Value:
    if isinstance(value, bool) or not isinstance(value, kind):
        msg = f"{path.name}: holds {str(value)[:40]!r} where a value of type {kind.__name__} is needed."
        raise UnreadableInputError(msg)
    return value


def _number(value: object, path: Path) -> float:
    return float(value if isinstance(value, int) and not isinstance(value, bool) else _typed(value, float, path))


def _divides(median: float) -> bool:
    return math.isfinite(median) and median > 0
