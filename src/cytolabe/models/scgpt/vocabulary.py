"""The vocabulary of an scGPT checkpoint: gene symbol -> row of the gene embedding.

The file is a JSON object. Published gene lists lack the special tokens, and checkpoints were trained with them appended
in this order: `<pad>`, `<cls>`, `<eoc>`; a vocabulary that lacks one gets it in the same way. A vocabulary that is off
by one gives every gene the vector of another, and nothing in an embedding shows it: so the number of rows is compared
with the weights (`checkpoint`), and the digest of the file goes with every artifact.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Integer

from cytolabe.errors import UnreadableInputError
from cytolabe.genes.alignment import align_features
from cytolabe.genes.pickles import read_named
from cytolabe.genes.reference import GeneReference

__all__ = ["CLS", "EOC", "PAD", "ScgptVocabulary", "read_scgpt_vocabulary"]

PAD, CLS, EOC = "<pad>", "<cls>", "<eoc>"
_SPECIALS = (PAD, CLS, EOC)


@dataclass(frozen=True, kw_only=True)
class ScgptVocabulary:
    """Tokens by name, the special ones among them.

    Raises
    ------
    UnreadableInputError
        If tokens are not 0 to n - 1, each once.
    """

    tokens: Mapping[str, int]
    digest: str
    """SHA-256 of the file, `sha256:...`."""

    def __post_init__(self) -> None:
        """Refuse what would give a gene the row of another."""
        numbers = sorted(self.tokens.values())
        if numbers != list(range(len(numbers))):
            wrong = sorted(set(range(len(numbers))).symmetric_difference(numbers))
            msg = (
                f"The vocabulary has {len(numbers):,} names, whose tokens must be 0 to {len(numbers) - 1:,}, each once; "
                f"{len(wrong):,} are missing or beyond, for example {wrong[0] if wrong else numbers[0]}. A gene would be "
                "read as another: take the vocab.json of the checkpoint."
            )
            raise UnreadableInputError(msg)

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Names that are no special token, in the order of their tokens."""
        ordered = sorted(self.tokens, key=self.tokens.__getitem__)
        return tuple(name for name in ordered if not (name.startswith("<") and name.endswith(">")))

    def columns(self, genes: Sequence[str], reference: GeneReference | None = None) -> Integer[np.ndarray, " genes"]:
        """Return the token of each gene, -1 where the vocabulary has none.

        Parameters
        ----------
        genes
            Names as the vocabulary has them, or ids of `reference`.
        reference
            Leads the names of the vocabulary, symbols of several years, to the ids that an atlas speaks. A gene that
            two names of the vocabulary lead to has no token: nobody knows which row is meant.
        """
        by_id = {} if reference is None else self._by_id(reference)
        return np.array([self.tokens.get(gene, by_id.get(gene, -1)) for gene in genes], dtype=np.int64)

    @cached_property
    def _led(self) -> dict[str, dict[str, int]]:
        """Tokens by id, for each reference that was asked for: a model is put over the genes of many data sets."""
        return {}

    def _by_id(self, reference: GeneReference) -> dict[str, int]:
        if reference.digest not in self._led:
            alignment, _ = align_features(self.genes, np.zeros(len(self.genes)), reference=reference)
            found = zip(alignment.gene_ids, self.genes, strict=True)
            self._led[reference.digest] = {gene_id: self.tokens[name] for gene_id, name in found if gene_id}
        return self._led[reference.digest]


def read_scgpt_vocabulary(content: bytes, *, where: str) -> ScgptVocabulary:
    """Read a vocabulary and append the special tokens that it lacks.

    Raises
    ------
    UnreadableInputError
        If it is no JSON object of names and tokens, or the tokens are not 0 to n - 1.
    """
    found = read_named(content, where=where)
    tokens: dict[str, int] = {}
    for name, token in found.items():
        if isinstance(token, bool) or not isinstance(token, int):
            msg = f"{where}: the token of {name!r} is {token!r}, which is no number of a row."
            raise UnreadableInputError(msg)
        tokens[name] = token
    for name in _SPECIALS:
        tokens.setdefault(name, len(tokens))
    return ScgptVocabulary(tokens=tokens, digest="sha256:" + hashlib.sha256(content).hexdigest())
