"""Whether a data set carries what a rank over the whole transcriptome needs (rule R3).

A rank token says where a gene stands among all genes of the cell, and divides by the total of the cell. On a panel, or
on a file whose genes were subset before it was shared, both are those of another cell: nothing in the tokens shows it.
"""

__all__ = ["FULL_TOTAL_FRACTION", "TRANSCRIPTOME_GENES", "why_not_ranked"]

TRANSCRIPTOME_GENES = 5_000
"""Measured genes from which on a file counts as a transcriptome."""
FULL_TOTAL_FRACTION = 0.95
"""Share of a cell's counts that must be left in the file."""


def why_not_ranked(n_genes: int, upstream_fraction_of_counts: float | None) -> str:
    """Return why the cells of a data set cannot be ranked, or an empty text.

    Parameters
    ----------
    n_genes
        Genes of the reference that the data set measures.
    upstream_fraction_of_counts
        Share of the declared totals that is left in the file; None where nothing says so.
    """
    if n_genes < TRANSCRIPTOME_GENES:
        return f"it measures {n_genes:,} genes, and a rank among all genes needs {TRANSCRIPTOME_GENES:,}"
    if upstream_fraction_of_counts is not None and upstream_fraction_of_counts < FULL_TOTAL_FRACTION:
        return f"only {upstream_fraction_of_counts:.0%} of the declared total of its cells is left in the file"
    return ""
