"""Principal components of log-normalized counts, every step fitted on training cells only.

In this order: log1p_cp10k over all genes of the view; the most variable genes where there are more than `n_top_genes`;
each gene to mean 0 and standard deviation 1 of the training cells, cut at +-10 so that one outlying count does not
become a component; the leading eigenvectors of the exact covariance. No random start: the signs of the components are
fixed by making each one's largest loading positive, and all of it runs on one thread, so that two runs agree.

A cell without a count in these genes has no composition. It moves nothing in the fit; its embedding is the training
mean (all zeros), and the notes say how many cells that was.

A fit is a function of the counts alone, and Harmony starts from the same one: the last few are remembered by the
SHA-256 of their counts.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import QueryView
from cytolabe.models.scopes import fit_scope, has_counts, refuse_other_genes, refuse_too_few_cells
from cytolabe.models.threads import single_thread
from cytolabe.models.variable_genes import variable_genes
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedPca", "PcaEmbedder"]

_CLIP = 10.0
_CELLS_PER_STEP = 4096
"""How many cells are dense at a time: memory is bounded by cells x genes of one step, not of the atlas."""

_RANK_TOLERANCE = 1e-10
"""Components whose variance is under this share of the largest are rounding, not signal."""

_N_REMEMBERED = 6


@dataclass(frozen=True, kw_only=True)
class _Components:
    """What a fit computes from counts; nothing of it depends on the names of cells or genes."""

    columns: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    loadings: np.ndarray


_REMEMBERED: OrderedDict[str, _Components] = OrderedDict()


@dataclass(frozen=True, kw_only=True)
class FittedPca:
    """Scaling and loadings of the training cells. `notes` grows with what the views brought."""

    genes: tuple[str, ...]
    columns: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    loadings: np.ndarray
    scopes: tuple[FitScope, ...]
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit and of the views that it embedded."""
        return tuple(self._met)

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Project each cell onto the training components.

        Returns
        -------
        numpy.ndarray
            Cells x dims, float64; zeros (the training mean) for a cell without counts in the genes of the fit.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        refuse_other_genes(view, self.genes)
        filled = has_counts(view.counts)
        embedding = np.zeros((len(filled), self.loadings.shape[1]))
        with single_thread():
            values = log1p_cp10k(view.counts[filled])[:, self.columns]
            pieces = [
                (_standardized(values[start : start + _CELLS_PER_STEP], self.mean, self.scale) - self.center)
                @ self.loadings
                for start in range(0, values.shape[0], _CELLS_PER_STEP)
            ]
        if pieces:
            embedding[filled] = np.concatenate(pieces)
        n_empty = int((~filled).sum())
        if n_empty:
            self._met[f"{n_empty} of {filled.size} cells have no counts in these genes: at the training mean"] = None
        return embedding


@dataclass(frozen=True, kw_only=True)
class PcaEmbedder:
    """Embedder of `n_dims` principal components over at most `n_top_genes` genes."""

    n_dims: int = 50
    n_top_genes: int = 2000
    card: ModelCard = field(default=CARDS["pca"], init=False)

    def fit(self, train: QueryView, *, query: QueryView | None, seed: int) -> FittedPca:  # noqa: ARG002
        """Choose genes, scale and find the components on the training cells; a view without labels and persons will do.

        Raises
        ------
        RefusedError
            If fewer than three training cells have counts.
        """
        filled = has_counts(train.counts)
        refuse_too_few_cells(int(filled.sum()), least=3, model="PCA")
        n_dims = min(self.n_dims, int(filled.sum()) - 1)
        found = _remembered(train.counts[filled], n_top_genes=self.n_top_genes, n_dims=n_dims)
        notes = self._fit_notes(len(train.genes), found.loadings.shape[1], n_empty=int((~filled).sum()))
        return FittedPca(
            genes=train.genes,
            columns=found.columns,
            mean=found.mean,
            scale=found.scale,
            center=found.center,
            loadings=found.loadings,
            scopes=tuple(fit_scope(step, train.cell_ids) for step in ("pca/genes", "pca/scale", "pca/components")),
            _met=dict.fromkeys(notes),
        )

    def _fit_notes(self, n_genes: int, n_dims: int, *, n_empty: int) -> list[str]:
        notes = []
        if n_genes <= self.n_top_genes:
            notes.append(f"all {n_genes} genes used: no more than the {self.n_top_genes} that would be chosen")
        if n_dims < self.n_dims:
            notes.append(f"{n_dims} components instead of {self.n_dims}: the training cells carry no more")
        if n_empty:
            notes.append(f"{n_empty} training cells have no counts in these genes and moved nothing")
        return notes


def _remembered(counts: csr_matrix, *, n_top_genes: int, n_dims: int) -> _Components:
    """Return the components of these counts, computed now or a moment ago."""
    digest = hashlib.sha256(f"{counts.shape} {counts.dtype} {n_top_genes} {n_dims}".encode())
    for part in (counts.indptr, counts.indices, counts.data):
        digest.update(np.ascontiguousarray(part).data)
    key = digest.hexdigest()
    if key in _REMEMBERED:
        _REMEMBERED.move_to_end(key)
        return _REMEMBERED[key]
    found = _components(counts, n_top_genes=n_top_genes, n_dims=n_dims)
    for part in (found.columns, found.mean, found.scale, found.center, found.loadings):
        part.flags.writeable = False
    _REMEMBERED[key] = found
    if len(_REMEMBERED) > _N_REMEMBERED:
        _REMEMBERED.popitem(last=False)
    return found


def _components(counts: csr_matrix, *, n_top_genes: int, n_dims: int) -> _Components:
    with single_thread():
        values = log1p_cp10k(counts)
        columns = variable_genes(values, n_top=n_top_genes)
        values = values[:, columns]
        mean, scale = _mean_and_scale(values)
        center, covariance = _moments(values, mean, scale)
        loadings = _leading_components(covariance, n_dims=n_dims)
    return _Components(columns=columns, mean=mean, scale=scale, center=center, loadings=loadings)


def _standardized(values: csr_matrix, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return cells x genes, dense float64: training mean 0, training standard deviation 1, cut at +-10."""
    scaled = (values.toarray().astype(np.float64) - mean) / scale
    return np.asarray(np.clip(scaled, -_CLIP, _CLIP, out=scaled))


def _mean_and_scale(values: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation (n - 1) of each gene; 1 where a gene never varies."""
    n_cells = values.shape[0]
    precise = values.astype(np.float64)
    mean = np.asarray(precise.mean(axis=0)).ravel()
    square = np.asarray(precise.multiply(precise).mean(axis=0)).ravel()
    variance = np.maximum(square - mean**2, 0.0) * n_cells / (n_cells - 1)
    # A constant gene leaves a variance of rounding size, which must not be blown up to 1.
    varies = variance > _RANK_TOLERANCE * np.maximum(square, 1e-300)
    return mean, np.sqrt(np.where(varies, variance, 1.0))


def _moments(values: csr_matrix, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (cutting moves it off 0) and the covariance of the standardized values, in two passes."""
    n_cells, n_genes = values.shape
    steps = range(0, n_cells, _CELLS_PER_STEP)
    center = np.zeros(n_genes)
    for start in steps:
        center += _standardized(values[start : start + _CELLS_PER_STEP], mean, scale).sum(axis=0)
    center /= n_cells
    covariance = np.zeros((n_genes, n_genes))
    for start in steps:
        centered = _standardized(values[start : start + _CELLS_PER_STEP], mean, scale) - center
        covariance += centered.T @ centered
    return center, covariance / (n_cells - 1)


def _leading_components(covariance: np.ndarray, *, n_dims: int) -> np.ndarray:
    """Return genes x dims of unit loadings, by falling variance, each with its largest loading positive."""
    n_genes = covariance.shape[0]
    n_kept = min(n_dims, n_genes)
    variance, vectors = eigh(covariance, subset_by_index=(n_genes - n_kept, n_genes - 1))
    variance, vectors = variance[::-1], vectors[:, ::-1]
    vectors = vectors[:, variance > _RANK_TOLERANCE * max(float(variance[0]), 1e-300)]
    if vectors.shape[1] == 0:
        # No gene varies: one dimension in which all cells are equal, rather than an embedding without dimensions.
        return np.zeros((n_genes, 1))
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return np.ascontiguousarray(vectors * signs)
