"""The dictionaries of a Geneformer that starts from nothing: those of the cells that it is trained on, and of no other."""

from collections.abc import Mapping, Sequence

import numpy as np

from cytolabe.encode.medians import MedianDigest
from cytolabe.errors import RefusedError
from cytolabe.models.geneformer.dictionaries import Dictionaries

__all__ = ["dictionaries_of_medians"]

_SPECIALS = ("<pad>", "<mask>", "<cls>", "<eos>")


def dictionaries_of_medians(genes: Sequence[str], digest: MedianDigest, *, n_cells: int) -> Dictionaries:
    """Return a token for each gene that a cell has, in the order of `genes`, behind the specials of the second generation.

    Parameters
    ----------
    digest
        The cells, counted over `genes`. Medians are those of the cells that have the gene.
    n_cells
        How many cells that were, for the error.

    Raises
    ------
    RefusedError
        If no cell has a count.
    """
    medians: Mapping[str, float] = {
        gene: float(median) for gene, median in zip(genes, digest.medians(), strict=True) if np.isfinite(median)
    }
    if not medians:
        msg = f"None of {n_cells:,} training cells has a count of any gene: there is nothing to rank. Choose another fold."
        raise RefusedError(msg)
    tokens = {name: number for number, name in enumerate((*_SPECIALS, *medians))}
    return Dictionaries(tokens=tokens, medians=medians, digests={})
