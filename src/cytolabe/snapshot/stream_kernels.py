"""The kernel that makes a minibatch of a pool: picks cells, turns own features into genes, and adds up what is one gene.

Where the genes of a data set's features ascend with the features, as they do where both are named by id, a cell is
copied entry by entry. Elsewhere it goes through a table as wide as the genes and a list that is sorted: exact, and
slower.
"""

import numpy as np

from cytolabe.compiled import kernel

__all__ = ["ASCENDING", "IDENTITY", "SCATTERED", "assemble", "room_of", "totals_of"]

SCATTERED, ASCENDING, IDENTITY = 0, 1, 2
"""How own features become genes: through a table, entry by entry, or not at all: they are the genes."""


@kernel
def room_of(bounds: tuple[np.ndarray, np.ndarray], picked: np.ndarray) -> int:
    """Return the entries of some cells of a pool together."""
    starts, stops = bounds
    total = np.int64(0)
    for cell in picked:
        total += stops[cell] - starts[cell]
    return total


@kernel
def assemble(
    pool: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    genes: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    out: tuple[int, np.ndarray, np.ndarray, np.ndarray],
) -> int:
    """Append picked cells of a pool to a minibatch.

    Parameters
    ----------
    pool
        (columns, counts, starts, stops, picked): entries of the pool, where each cell of it begins and ends, and the
        cells that are wanted.
    genes
        (maps, map_of_cell, kinds, table, marked): column of each own feature, or -1, maps x features; the map of each
        cell of the pool; how each map is applied; scratch as wide as the genes (zeros), and a list
        as long.
    out
        (first, indptr, columns, counts): number of the first cell, and the arrays of the minibatch.

    Returns
    -------
    :
        Number of entries of the minibatch so far.
    """
    own_columns, own_counts, starts, stops, picked = pool
    maps, map_of_cell, kinds, table, marked = genes
    first, indptr, columns, counts = out
    end = indptr[first]
    for place in range(len(picked)):
        cell = picked[place]
        source = own_columns[starts[cell] : stops[cell]], own_counts[starts[cell] : stops[cell]]
        target = columns[end:], counts[end:]
        lookup = maps[map_of_cell[cell]]
        kind = kinds[map_of_cell[cell]]
        if kind == IDENTITY:
            end += _copied(source, target)
        elif kind == ASCENDING:
            end += _mapped(source, lookup, target)
        else:
            end += _collected(source, (lookup, table, marked), target)
        indptr[first + place + 1] = end
    return end


@kernel
def _copied(source: tuple[np.ndarray, np.ndarray], target: tuple[np.ndarray, np.ndarray]) -> int:
    own, values = source
    columns, counts = target[0][: len(own)], target[1][: len(own)]
    for entry in range(len(own)):
        columns[entry] = own[entry]
        counts[entry] = values[entry]
    return len(own)


@kernel
def _mapped(source: tuple[np.ndarray, np.ndarray], lookup: np.ndarray, target: tuple[np.ndarray, np.ndarray]) -> int:
    """Copy a cell whose genes ascend with its features: those of one gene are neighbors."""
    own, values = source
    columns, counts = target
    end = 0
    last = np.int64(-1)
    for entry in range(len(own)):
        column = lookup[own[entry]]
        if column < 0:
            continue
        if column == last:
            counts[end - 1] += np.int32(values[entry])
        else:
            columns[end] = column
            counts[end] = np.int32(values[entry])
            end += 1
            last = np.int64(column)
    return end


@kernel
def _collected(
    source: tuple[np.ndarray, np.ndarray],
    genes: tuple[np.ndarray, np.ndarray, np.ndarray],
    target: tuple[np.ndarray, np.ndarray],
) -> int:
    """Add up the genes of a cell in a table, and copy them in their order."""
    own, values = source
    lookup, table, marked = genes
    columns, counts = target
    n_marked = 0
    for entry in range(len(own)):
        column = lookup[own[entry]]
        if column < 0:
            continue
        if table[column] == 0:
            marked[n_marked] = column
            n_marked += 1
        table[column] += np.int32(values[entry])
    marked[:n_marked].sort()
    for number in range(n_marked):
        column = marked[number]
        columns[number] = column
        counts[number] = table[column]
        table[column] = 0
    return n_marked


@kernel
def totals_of(bounds: tuple[np.ndarray, np.ndarray], counts: np.ndarray, totals: np.ndarray) -> int:
    """Write the sum of the counts of each cell, and return the largest of these sums."""
    starts, stops = bounds
    largest = np.int64(0)
    for cell in range(len(starts)):
        total = np.int64(0)
        for count in counts[starts[cell] : stops[cell]]:
            total += np.int64(count)
        totals[cell] = total
        largest = max(largest, total)
    return largest
