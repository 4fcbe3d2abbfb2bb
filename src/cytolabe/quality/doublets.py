"""How much a cell looks like two cells of its own library: the share of simulated doublets among its neighbors.

After Wolock et al. 2019 (Scrublet, doi:10.1016/j.cels.2018.11.005), written anew. Pairs of cells of one library are
added up; cells and pairs are scaled to one total, reduced to variable genes and to the leading axes of the cells alone;
of the nearest neighbors of a cell among both, the share of pairs becomes a probability by Bayes' rule. Two cells of
one type added up look like one cell of that type: such doublets are not found, and `detectable` says which share of the
pairs is.

Memory is bounded: the model stands on at most `max_reference` cells of a library, drawn with a named seed, and the
others are scored against it block by block. A score is comparable inside its library only.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh
from scipy.sparse import csr_matrix

from cytolabe.quality.thresholds import DoubletSettings

__all__ = ["DoubletModel", "fit_doublets"]

_BLOCK = 1024
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class DoubletModel:
    """What cells of one library are held against: cells and simulated pairs on the leading axes of the cells.

    `columns` are the variable genes, `center`, `scale` and `axes` take scaled logarithms to coordinates. The first
    `n_cells` of `points` are cells, the others pairs. `detectable` is the share of pairs that score like pairs.
    """

    columns: Int[np.ndarray, " genes"]
    target: float
    center: Float[np.ndarray, " genes"]
    scale: Float[np.ndarray, " genes"]
    axes: Float[np.ndarray, "genes dims"]
    points: Float[np.ndarray, "points dims"]
    n_cells: int
    n_neighbors: int
    settings: DoubletSettings

    def scores(self, counts: csr_matrix, *, own: Int[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
        """Return the score of cells, in [0, 1].

        Parameters
        ----------
        counts
            Cells x all genes of the library.
        own
            Place of each cell among the cells of the model, or -1: a cell is no neighbor of its own.
        """
        found = np.zeros(counts.shape[0])
        for start in range(0, counts.shape[0], _BLOCK):
            here = slice(start, start + _BLOCK)
            points = self._points(csr_matrix(counts[here]), total=np.asarray(counts[here].sum(axis=1)).ravel())
            found[here] = self._scores_at(points, own[here])
        return found

    def pair_scores(self) -> Float[np.ndarray, " pairs"]:
        """Return the scores of the first thousand simulated pairs, each without itself among its neighbors."""
        places = np.arange(self.n_cells, min(len(self.points), self.n_cells + 1000))
        return np.concatenate(
            [self._scores_at(self.points[part], part) for part in np.array_split(places, -(-len(places) // _BLOCK))]
        )

    def _points(self, counts: csr_matrix, *, total: np.ndarray) -> np.ndarray:
        scaled = _scaled_logs(counts, self.columns, total, target=self.target)
        return np.asarray(((scaled - self.center) / self.scale) @ self.axes, dtype=np.float64)

    def _scores_at(self, points: np.ndarray, own: np.ndarray) -> np.ndarray:
        distances = (self.points**2).sum(axis=1)[None, :] - 2.0 * (points @ self.points.T)
        mine = np.flatnonzero(own >= 0)
        distances[mine, own[mine]] = np.inf
        nearest = np.argpartition(distances, self.n_neighbors - 1, axis=1)[:, : self.n_neighbors]
        share = ((nearest >= self.n_cells).sum(axis=1) + 1.0) / (self.n_neighbors + 2.0)
        ratio = (len(self.points) - self.n_cells) / self.n_cells
        rate = self.settings.expected_rate
        # Bayes: pairs are `ratio` times as many as cells here, doublets a share `rate` of the cells.
        likely = share * rate / ratio
        return np.asarray(likely / (likely + (1.0 - share) * (1.0 - rate)), dtype=np.float64)


def fit_doublets(counts: csr_matrix, settings: DoubletSettings, *, rng: np.random.Generator) -> DoubletModel | None:
    """Make the model of a library from cells of it, or None where they vary in nothing.

    Parameters
    ----------
    counts
        Raw counts, cells x genes: at most `settings.max_reference` cells, none of them empty.
    settings
        How many pairs, genes, axes and neighbors.
    rng
        Draws the pairs.
    """
    n_cells = counts.shape[0]
    total = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    target = float(np.median(total))
    columns = _variable_genes(counts, total, target=target, settings=settings)
    if len(columns) < settings.min_genes:
        return None
    logs = _scaled_logs(counts, columns, total, target=target)
    center, scale = logs.mean(axis=0), logs.std(axis=0)
    logs = (logs - center) / scale
    n_axes = min(settings.n_axes, len(columns) - 1, n_cells - 1)
    gram = np.asarray(logs.T @ logs, dtype=np.float64) / n_cells
    _, axes = eigh(gram, subset_by_index=[len(columns) - n_axes, len(columns) - 1])
    first, second = rng.integers(0, n_cells, size=(2, settings.pairs_per_cell * n_cells))
    slim = csr_matrix(counts[:, columns])
    pairs = _scaled_logs(csr_matrix(slim[first] + slim[second]), None, total[first] + total[second], target=target)
    points = np.concatenate([logs @ axes, ((pairs - center) / scale) @ axes])
    ratio = settings.pairs_per_cell
    n_neighbors = round(settings.neighbors_per_root * np.sqrt(n_cells) * (1 + ratio))
    return DoubletModel(
        columns=columns,
        target=target,
        center=center,
        scale=scale,
        axes=axes,
        points=points,
        n_cells=n_cells,
        n_neighbors=max(5, min(n_neighbors, len(points) - 1)),
        settings=settings,
    )


def _scaled_logs(counts: csr_matrix, columns: np.ndarray | None, total: np.ndarray, *, target: float) -> np.ndarray:
    """Return log(1 + counts scaled to `target`) over some genes, dense."""
    dense = (counts if columns is None else counts[:, columns]).toarray().astype(np.float64)
    dense *= (target / np.maximum(total, 1.0))[:, None]
    return np.log1p(dense)


def _variable_genes(counts: csr_matrix, total: np.ndarray, *, target: float, settings: DoubletSettings) -> np.ndarray:
    """Return the genes whose scaled counts vary most beyond their mean, ascending: variance over a fit mean + c mean^2."""
    scaled = csr_matrix(counts, dtype=np.float64)
    scaled.data *= np.repeat(target / np.maximum(total, 1.0), np.diff(scaled.indptr))
    n_cells = counts.shape[0]
    mean = np.asarray(scaled.sum(axis=0)).ravel() / n_cells
    scaled.data **= 2
    variance = np.asarray(scaled.sum(axis=0)).ravel() / n_cells - mean**2
    is_seen = (counts.getnnz(axis=0) >= settings.min_cells_per_gene) & (variance > _LEAST_VARIANCE)
    seen = np.flatnonzero(is_seen)
    if not len(seen):
        return seen
    # Beyond sampling, genes that vary least do so by the scatter of cell sizes: their squared variation is the fit.
    beyond = (variance[seen] - mean[seen]) / mean[seen] ** 2
    common = max(0.0, float(np.quantile(beyond[mean[seen] >= np.median(mean[seen])], 0.2)))
    excess = variance[seen] / (mean[seen] + common * mean[seen] ** 2)
    chosen = seen[np.argsort(-excess, kind="stable")[: settings.n_genes]]
    return np.sort(chosen)
