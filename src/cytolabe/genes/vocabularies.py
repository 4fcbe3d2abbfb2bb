"""The genes that a model knows, and how much of a data set they are.

A vocabulary comes as the model's own file: a JSON object of symbols (scGPT) or a pickle of Ensembl ids (Geneformer),
both gene -> token; of a pickle nothing is run. Its names are led to the gene reference by the same rules as the features
of a data set, so a name that moved since the model was trained is compared by gene. What a vocabulary leaves out of a
data set is reported as genes and as counts: 30 % of the genes may be 2 % of the counts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytolabe.errors import UsageError
from cytolabe.genes.alignment import align_features
from cytolabe.genes.pickles import read_named
from cytolabe.genes.reference import GeneReference
from cytolabe.records import FeatureAlignment

__all__ = ["Coverage", "Vocabulary", "coverage_of", "read_vocabulary"]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The names of a vocabulary without its special tokens, sorted; `digest` is over the bytes of the file."""

    name: str
    digest: str
    names: tuple[str, ...]

    def genes(self, reference: GeneReference) -> frozenset[str]:
        """Return the genes of a reference that the names lead to."""
        alignment, _ = align_features(self.names, np.zeros(len(self.names)), reference=reference)
        return frozenset(alignment.measured_genes)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a data set a vocabulary covers; the shares are of its mapped genes and of all but spike-in counts."""

    n_genes: int
    n_covered: int
    genes_covered_fraction: float
    counts_covered_fraction: float


def read_vocabulary(path: Path) -> Vocabulary:
    """Read the vocabulary file of a model: JSON, or a pickle, whose bytes tell it.

    Raises
    ------
    UsageError
        If there is no such file.
    UnreadableInputError
        If it is neither an object whose keys are names of genes, nor a pickle of one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path}: the vocabulary cannot be read ({error.strerror})."
        raise UsageError(msg) from None
    found = read_named(content, where=path.name)
    names = tuple(sorted(name for name in found if not (name.startswith("<") and name.endswith(">"))))
    return Vocabulary(name=path.name, digest="sha256:" + hashlib.sha256(content).hexdigest(), names=names)


def coverage_of(alignment: FeatureAlignment, genes: frozenset[str]) -> Coverage:
    """Return how much of a data set some genes are; without counts the share of counts is 0."""
    measured = alignment.measured_genes
    biological = covered = 0.0
    for gene_id, status, share in zip(alignment.gene_ids, alignment.status, alignment.count_fraction, strict=True):
        biological += share if status != "spike_in" else 0.0
        covered += share if gene_id in genes else 0.0
    n_covered = len(genes.intersection(measured))
    return Coverage(
        n_genes=len(measured),
        n_covered=n_covered,
        genes_covered_fraction=n_covered / max(len(measured), 1),
        counts_covered_fraction=covered / biological if biological else 0.0,
    )
