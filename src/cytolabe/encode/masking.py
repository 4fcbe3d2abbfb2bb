"""Which tokens of a cell are hidden in masked training: a hash of (seed, epoch, cell, position), and no generator.

As in the published training: each gene is chosen with probability 15 %; of the chosen, 80 % become the mask token, 10 %
another gene, 10 % stay. Special tokens and what fills up are never chosen, nor put in a gene's place (the published
collator draws replacements from all tokens, four in 20,275 of which are special). A cell is masked alike in any order,
minibatch, company and process, so that a run can be taken up anywhere and a held-out loss is a number of the weights.
"""

import numpy as np
from jaxtyping import Integer

from cytolabe.compiled import kernel
from cytolabe.encode.keyed import mixed

__all__ = ["CHOSEN_FRACTION", "NOT_CHOSEN", "masked_tokens"]

CHOSEN_FRACTION, _MASKED, _MASKED_OR_REPLACED = 0.15, 0.8, 0.9
NOT_CHOSEN = -100
"""Target of a position that asks nothing, as torch's cross-entropy has it."""
_SALT = np.uint64(0x3A5C)
"""Apart from other chance with the same keys."""


def masked_tokens(
    tokens: Integer[np.ndarray, "cells positions"],
    *,
    cell_keys: Integer[np.ndarray, " cells"],
    genes: Integer[np.ndarray, " genes"],
    mask: int,
    seed: int,
    epoch: int,
) -> tuple[Integer[np.ndarray, "cells positions"], Integer[np.ndarray, "cells positions"]]:
    """Return tokens with some hidden, and what is asked: the true token where one was chosen, else `NOT_CHOSEN`.

    Parameters
    ----------
    cell_keys
        `encode.keyed.keys_of` the cell ids.
    genes
        Tokens that are genes; all others are left alone.
    mask
        The mask token.
    """
    hidden, asked = tokens.astype(np.int64), np.full(tokens.shape, NOT_CHOSEN, dtype=np.int64)
    is_gene = np.zeros(max(int(tokens.max(initial=0)), int(genes.max(initial=0))) + 1, dtype=np.bool_)
    is_gene[genes] = True
    _hide(
        (hidden, asked), (cell_keys.astype(np.uint64), genes.astype(np.int64), is_gene), (np.uint64(seed), epoch, mask)
    )
    return hidden, asked


@kernel
def _hide(
    cells: tuple[np.ndarray, np.ndarray], keys: tuple[np.ndarray, np.ndarray, np.ndarray], rule: tuple[int, int, int]
) -> None:
    """Choose, hide and ask in place."""
    hidden, asked = cells
    cell_keys, genes, is_gene = keys
    seed, epoch, mask = rule
    unit = 1.0 / 9007199254740992.0
    for cell in range(hidden.shape[0]):
        key = mixed(mixed(mixed(seed ^ _SALT) ^ np.uint64(epoch)) ^ mixed(cell_keys[cell]))
        for position in range(hidden.shape[1]):
            token = hidden[cell, position]
            if not is_gene[token]:
                continue
            draw = mixed(key ^ np.uint64(position))
            if np.float64(draw >> np.uint64(11)) * unit >= CHOSEN_FRACTION:
                continue
            asked[cell, position] = token
            fate = mixed(draw)
            share = np.float64(fate >> np.uint64(11)) * unit
            if share < _MASKED:
                hidden[cell, position] = mask
            elif share < _MASKED_OR_REPLACED:
                hidden[cell, position] = genes[np.int64(mixed(fate) % np.uint64(len(genes)))]
