"""The kernel that makes a minibatch of a pool: picks cells, turns own features into genes, and adds up what is one gene.

Where the genes of a data set's features ascend with the features, as they do where both are named by id, a cell is
copied entry by entry. Elsewhere it goes through a table as wide as the genes and a list that is sorted: exact, and
slower.
"""

import numpy as np

from cytolabe.compiled import kernel

__all__ = ["assemble", "room_of", "totals_of"]


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
        (maps, map_of_cell, is_ascending, table, marked): column of each own feature, or -1, maps x features; the map
        of each cell of the pool; whether the columns of a map ascend; scratch as wide as the genes (zeros), and a list
        as long.
    out
        (first, indptr, columns, counts): number of the first cell, and the arrays of the minibatch.

    Returns
    -------
    :
        Number of entries of the minibatch so far.
    """
    own_columns, own_counts, starts, stops, picked = pool
    maps, map_of_cell, is_ascending, table, marked = genes
    first, indptr, columns, counts = out
    end = indptr[first]
    for place in range(len(picked)):
        cell = picked[place]
        lookup = maps[map_of_cell[cell]]
        source = own_columns[starts[cell] : stops[cell]]
        values = own_counts[starts[cell] : stops[cell]]
        if is_ascending[map_of_cell[cell]]:
            last = np.int64(-1)
            for entry in range(len(source)):
                column = lookup[source[entry]]
                if column < 0:
                    continue
                if column == last:
                    counts[end - 1] += np.int32(values[entry])
                else:
                    columns[end] = column
                    counts[end] = np.int32(values[entry])
                    end += 1
                    last = np.int64(column)
        else:
            n_marked = 0
            for entry in range(len(source)):
                column = lookup[source[entry]]
                if column < 0:
                    continue
                if table[column] == 0:
                    marked[n_marked] = column
                    n_marked += 1
                table[column] += np.int32(values[entry])
            marked[:n_marked].sort()
            for number in range(n_marked):
                column = marked[number]
                columns[end] = column
                counts[end] = table[column]
                table[column] = 0
                end += 1
        indptr[first + place + 1] = end
    return end


@kernel
def totals_of(bounds: tuple[np.ndarray, np.ndarray], counts: np.ndarray, totals: np.ndarray) -> int:
    """Write the sum of the counts of each cell, and return the largest count of all."""
    starts, stops = bounds
    largest = np.uint32(0)
    for cell in range(len(starts)):
        total = np.int64(0)
        for count in counts[starts[cell] : stops[cell]]:
            total += np.int64(count)
            largest = max(largest, count)
        totals[cell] = total
    return np.int64(largest)
