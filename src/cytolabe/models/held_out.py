"""Which training cells choose when to stop: those of whole persons, who then move no weight.

A random tenth of the cells would share its persons with the rest, and a network that remembers persons would look like
one that learned types. Persons are drawn until their cells are a tenth; `unknown` is nobody. Where fewer than two
persons are known there is no choice but cells, and the note says so. A person without
whom a class would have no cell to be learned from can be passed over.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN

__all__ = ["hold_out_persons"]

_LARGEST_FRACTION = 0.34


def hold_out_persons(
    persons: np.ndarray, *, fraction: float, seed: int, codes: Sequence[np.ndarray] = ()
) -> tuple[Int[np.ndarray, " fit"], Int[np.ndarray, " held"], str]:
    """Divide training cells into those that move weights and those that choose when to stop.

    Parameters
    ----------
    persons
        Person key of each cell.
    fraction
        Share of the cells to hold out, in [0, 1); 0 holds out none.
    codes
        Of each task the class of every cell, negative where it has none: no class loses all its persons.

    Returns
    -------
    tuple
        Rows that fit and rows that are held out (ascending, disjoint, together all cells), and a sentence for the notes.
    """
    names = persons.astype(str)
    if fraction <= 0 or len(names) < 2:
        return np.arange(len(names)), np.arange(0), "no cell was held out: training ended with its steps"
    rng = rng_for(seed, "models", "training", "held_out")
    known = np.array(sorted(set(names.tolist()).difference({UNKNOWN, ""})), dtype=str)
    chosen, held, n_needed = np.zeros(len(names), dtype=bool), 0, 0
    for person in known[rng.permutation(len(known))] if len(known) > 1 else []:
        wider = chosen | (names == person)
        if not all(_keeps_classes(one, ~wider) for one in codes):
            n_needed += 1
        elif wider.mean() <= max(_LARGEST_FRACTION, fraction) and not wider.all():
            chosen, held = wider, held + 1
        if chosen.mean() >= fraction:
            break
    if held:
        note = f"training ended by the loss on {int(chosen.sum())} cells of {held} training person(s)"
    else:
        chosen[rng.permutation(len(names))[: max(1, round(fraction * len(names)))]] = True
        note = f"training ended by the loss on {int(chosen.sum())} training cells, not persons: too few are known"
    note += f"; {n_needed} were passed over, without whom a class had no cell to be learned from" if n_needed else ""
    return np.flatnonzero(~chosen), np.flatnonzero(chosen), note


def _keeps_classes(codes: np.ndarray, rest: np.ndarray) -> bool:
    return len(np.unique(codes[codes >= 0])) == len(np.unique(codes[rest & (codes >= 0)]))
