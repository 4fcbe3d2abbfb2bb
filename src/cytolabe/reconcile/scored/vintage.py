"""How old the terms are that the curators of a family choose, from their other studies.

Nobody answers with a term that his release of CL did not have. Ids of CL are given in blocks, upwards, so what a family
never takes from a block, in many labels, it did not know or did not want. A family is of one vintage: its share of a block is
either next to nothing or like everybody's. That is what a prior worth a single label says, and that label is spread over the
blocks as the labels of all teachers are. The logarithm of the family's share over everybody's is added to the score of each
term: the shift of a prior, with no weight to be learned, 0 where nothing of the family may teach.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cytolabe.reconcile.ranking.features import id_blocks
from cytolabe.reconcile.ranking.lexical import TermIndex

__all__ = ["vintage_shift"]


def vintage_shift(
    taught: Int64[np.ndarray, " labels"], is_own: Bool[np.ndarray, " labels"], *, index: TermIndex
) -> Float64[np.ndarray, " terms"]:
    """Return for each term how much likelier its block of ids is in the own family than in all, as a log ratio.

    `taught` are the terms of all teaching labels by position in the index, `is_own` marks those of the family.
    """
    block = id_blocks(index)
    n_blocks = int(block.max()) + 1
    by_all = np.bincount(block[taught], minlength=n_blocks) + np.bincount(block) / len(block)
    share = by_all / by_all.sum()
    by_own = np.bincount(block[taught[is_own]], minlength=n_blocks)
    own_share = (by_own + share) / (by_own.sum() + 1)
    return np.asarray(np.log(own_share / share)[block], dtype=np.float64)
