"""What hidden values cost on held-out cells: by the network, and by the mean of each gene, which reads no cell.

The mean of a gene is that of its binned values over the cells that move weights and have it among their tokens: a gene is
hidden only where it is a token, so that cells without counts of it have no part in the mean (zeros would make a floor that
is easier to pass). A gene that none of these cells has gets the mean over all their genes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from cytolabe.models.scgpt.tokens import TokenizedCells

__all__ = ["HiddenErrors", "gene_means"]


@dataclass(frozen=True, kw_only=True)
class HiddenErrors:
    """Mean squared errors over the same hidden values of held-out cells, in bins squared; lower is better."""

    n_values: int
    gene_means: float
    """By the mean of each gene in the cells that move weights: the floor of every other."""
    from_genes: float
    """By the network from the genes that are shown (GEP)."""
    from_cell: float | None
    """From the cell embedding alone (MVC); None for a network without that head."""
    from_embedding: float
    """Generated with the cell embedding in place of `<cls>`."""

    @property
    def floor_loss(self) -> float:
        """The held-out loss of a network that says the mean of each gene in every way that counts in that loss."""
        return self.gene_means * (2 if self.from_cell is None else 3)

    @property
    def told(self) -> str:
        """A sentence for the notes."""
        cell = "" if self.from_cell is None else f", {self.from_cell:.2f} from the cell embedding"
        return (
            f"hidden values of held-out cells: squared error {self.from_genes:.2f} from the other genes{cell}, "
            f"{self.gene_means:.2f} by the mean of each gene alone"
        )


def gene_means(
    cells: TokenizedCells, rows: Integer[np.ndarray, " rows"], *, n_tokens: int
) -> Float[np.ndarray, " genes"]:
    """Return the mean value of each token of the vocabulary over the cells of some rows that have it, without `<cls>`.

    Parameters
    ----------
    n_tokens
        Size of the vocabulary; a token that no cell has gets the mean over all that they have.
    """
    chosen = np.zeros(len(cells.lengths), dtype=bool)
    chosen[rows] = True
    is_gene = np.repeat(chosen, cells.lengths)
    is_gene[cells.bounds[:-1]] = False
    genes, values = cells.genes[is_gene], cells.values[is_gene].astype(np.float64)
    n_seen = np.bincount(genes, minlength=n_tokens)
    overall = values.mean() if len(values) else 0.0
    sums = np.bincount(genes, weights=values, minlength=n_tokens)
    means: np.ndarray = np.where(n_seen > 0, sums / np.maximum(n_seen, 1), overall)
    return means
