"""totalVI: one embedding of RNA and surface proteins, and what proteins a cell without them would have shown.

RNA is a negative binomial, a protein the mixture of a background and a foreground (Gayoso et al. 2021,
doi:10.1038/s41592-020-01050-x), through scvi-tools. Epochs are chosen on held-out persons as for scVI, on one silent seeded
thread. A batch that training never saw is mapped by scArches surgery; where its proteins were not measured they play no part.

The background prior is learned from nothing: the published start (two Gaussians per cell) draws from numpy's global generator.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k
from cytolabe.errors import ModelFailedError, RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.models import scvi_training as training
from cytolabe.models.extras import import_extra
from cytolabe.models.omics import Measured, OmicsCells
from cytolabe.models.protocols import NOT_CONVERGED, EmbeddingFacts
from cytolabe.models.scopes import (
    columns_among,
    fit_scope,
    has_counts,
    refuse_not_finite,
    refuse_too_few_cells,
    refuse_unseen_batches,
)
from cytolabe.models.stored import features_digest, posterior_facts
from cytolabe.models.variable_genes import variable_genes
from cytolabe.randomness import derive_seed
from cytolabe.records import FitScope

__all__ = ["PROTEIN", "RNA", "FittedTotalvi", "Totalvi", "blank_totalvi", "contents_digest"]

RNA, PROTEIN = "rna", "protein"
"""Names of the two modalities of `OmicsCells` that are read."""

_LEAST_CELLS = 20
_MONITOR = "elbo_validation"
_N_SAMPLES = 25
_NO_ROWS = np.array([], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class FittedTotalvi:
    """A trained totalVI with the batches it knows; `trained` are those whose proteins it learned from."""

    genes: tuple[str, ...]
    proteins: tuple[str, ...]
    columns: np.ndarray
    batches: tuple[str, ...]
    trained: tuple[str, ...]
    settings: "Totalvi"
    model: Any
    seed: int
    contents: str
    """Digest of the cells that it was trained on, count for count (`contents_digest`)."""
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]

    @property
    def read_genes(self) -> tuple[str, ...]:
        """The genes that it reads, in their order; those of a file may be more."""
        return tuple(self.genes[column] for column in self.columns)

    @property
    def facts(self) -> EmbeddingFacts:
        """Where in the network the embedding comes from, and what else decides it."""
        features = {"genes": self.read_genes, "proteins": self.proteins}
        read = f"{len(self.columns)} genes and {len(self.proteins)} proteins"
        return posterior_facts(self.model, seed=self.seed, features=features, read=read)

    def over(self, genes: Sequence[str]) -> "FittedTotalvi":
        """Return the same model for cells over other genes, all of which that it reads are among them.

        Raises
        ------
        UnmeasuredGeneError
            If one is not: what was not measured is not zero.
        """
        return replace(self, genes=tuple(genes), columns=columns_among(genes, self.read_genes))

    def embed(self, cells: OmicsCells) -> Float[np.ndarray, "cells dims"]:
        """Return the mean of the approximate posterior of each cell, float64; nothing is drawn.

        Raises
        ------
        UnmeasuredGeneError
            If genes or proteins are not those of the fit.
        RefusedError
            If a cell has no count of RNA in these genes, or its batch was neither trained on nor mapped.
        ModelFailedError
            If a value is not finite.
        """
        with training.quiet_session(0):
            latent = np.asarray(self.model.get_latent_representation(self._anndata(cells)), dtype=np.float64)
            self.model.deregister_manager()
        refuse_not_finite(latent, model="totalVI")
        return latent

    def expected_proteins(self, cells: OmicsCells) -> Float[np.ndarray, "cells proteins"]:
        """Return the counts of proteins to be expected of each cell, background included, as in the batches of the training.

        The mean of 25 draws from the posterior, seeded; for a mapped cell without proteins from its RNA alone.

        Raises
        ------
        UnmeasuredGeneError, RefusedError, ModelFailedError
            As `embed`.
        """
        with training.quiet_session(derive_seed(self.seed, "models", "totalvi", "expected") % 2**31):
            _, expected = self.model.get_normalized_expression(
                self._anndata(cells), n_samples=_N_SAMPLES, return_mean=True, return_numpy=True,
                transform_batch=list(self.trained), include_protein_background=True,
            )  # fmt: skip
            self.model.deregister_manager()
        values = np.asarray(expected, dtype=np.float64)
        refuse_not_finite(values, model="totalVI")
        return values

    def map_query(self, cells: OmicsCells, *, epochs: int = 20) -> "FittedTotalvi":
        """Return a model that also knows the batches of these cells (scArches surgery); all other weights stay.

        A batch in which no protein has a count counts as not measured.

        Raises
        ------
        UnmeasuredGeneError, RefusedError
            As `embed`.
        """
        filled = _filled(cells, self.columns)
        table = self._anndata(cells.take(np.flatnonzero(filled)), known=None)
        unseen = tuple(sorted(set(table.obs["batch"].astype(str)).difference(self.batches)))
        if not unseen:
            return replace(self, notes=(*self.notes, "all query batches were seen in training: nothing was fitted"))
        # Cells of known libraries would move the weights of these libraries, and with them the training cells.
        table = self._anndata(
            cells.take(np.flatnonzero(filled & np.isin(cells.batches.astype(str), unseen))), known=None
        )
        with training.quiet_session(derive_seed(self.seed, "models", "totalvi", "query") % 2**31):
            model = training.with_new_batches(import_extra("scvi").model.TOTALVI, table, self.model)
            model.train(
                max_epochs=epochs, early_stopping=False, reduce_lr_on_plateau=False, adversarial_classifier=False,
                batch_size=training.minibatch_size(table.n_obs), external_indexing=[np.arange(table.n_obs), _NO_ROWS, _NO_ROWS],
                plan_kwargs={"weight_decay": 0.0}, **training.SILENT_TRAINER,
            )  # fmt: skip
            model.module.eval()
        scope = fit_scope("totalvi/query", cells.cell_ids.tolist())
        return replace(self, batches=(*self.batches, *unseen), model=model, scopes=(*self.scopes, scope))

    def _anndata(self, cells: OmicsCells, known: tuple[str, ...] | None = ()) -> Any:  # noqa: ANN401 - untyped library
        _refuse_other_features(cells, {RNA: self.genes, PROTEIN: self.proteins})
        if known is not None:
            refuse_unseen_batches(cells.batches.astype(str), self.batches, model="totalVI")
            _refuse_empty(cells, self.columns)
        return _anndata(cells, self.columns)


@dataclass(frozen=True, kw_only=True)
class Totalvi:
    """Options of a training."""

    n_latent: int = 20
    n_hidden: int = 128
    max_epochs: int = 200
    patience: int = 15
    n_top_genes: int = 2000
    learning_rate: float = 4e-3
    """The default of scvi-tools."""
    inputs: tuple[str, ...] = field(default=(RNA, PROTEIN), init=False)

    def fit(self, cells: OmicsCells, *, seed: int) -> FittedTotalvi:
        """Train on cells with both measurements; no label is read.

        Raises
        ------
        UsageError
            If one of the two modalities is missing.
        RefusedError
            If too few cells have counts, or the proteins of a batch were not measured.
        ModelFailedError
            If the loss of the held-out cells is never finite.
        MissingExtraError
            If scvi-tools is not installed.
        """
        _refuse_missing(cells)
        rna = cells.modalities[RNA].counts
        counted = has_counts(rna)
        columns = variable_genes(log1p_cp10k(rna[counted]), n_top=self.n_top_genes) if counted.any() else _NO_ROWS
        filled = _filled(cells, columns)
        refuse_too_few_cells(int(filled.sum()), least=_LEAST_CELLS, model="totalVI")
        kept = cells.take(np.flatnonzero(filled))
        _refuse_unmeasured_batches(kept)
        rows = training.divide_cells(kept.persons, kept.batches.astype(str), seed=seed)
        model, best = self._trained(_anndata(kept, columns), rows[:2], seed=seed)
        notes = [rows[2], f"best of at most {self.max_epochs} epochs: {best}"]
        if best >= self.max_epochs:
            notes.append(f"{NOT_CONVERGED}: totalVI at its cap of {self.max_epochs} epochs")
        if not filled.all():
            notes.append(f"{int((~filled).sum())} training cells have no counts in these genes and moved nothing")
        batches = tuple(sorted(set(kept.batches.astype(str).tolist())))
        scopes = tuple(fit_scope(f"totalvi/{step}", cells.cell_ids.tolist()) for step in ("genes", "epochs", "weights"))
        return FittedTotalvi(
            genes=cells.modalities[RNA].features, proteins=cells.modalities[PROTEIN].features, columns=columns,
            batches=batches, trained=batches, settings=self, model=model, seed=seed, contents=contents_digest(cells), scopes=scopes,
            notes=tuple(notes),
        )  # fmt: skip

    def _trained(self, table: Any, rows: tuple[np.ndarray, np.ndarray], *, seed: int) -> tuple[Any, int]:  # noqa: ANN401
        with training.quiet_session(derive_seed(seed, "models", "totalvi", "train") % 2**31):
            model = _new_model(table, self)
            best = training.best_epoch_callback(_MONITOR)
            model.train(
                max_epochs=self.max_epochs, lr=self.learning_rate, early_stopping=True, early_stopping_patience=self.patience,
                early_stopping_monitor=_MONITOR, adversarial_classifier=False, callbacks=[best],
                batch_size=training.minibatch_size(len(rows[0])), external_indexing=[*rows, _NO_ROWS], **training.SILENT_TRAINER,
            )  # fmt: skip
            if best.weights is None:
                msg = "totalVI training failed: the loss of the held-out cells was never finite."
                raise ModelFailedError(msg)
            model.module.load_state_dict(best.weights)
            model.module.eval()
        return model, int(best.epoch)


def blank_totalvi(
    settings: Totalvi, *, genes: tuple[str, ...], proteins: tuple[str, ...], batches: tuple[str, ...]
) -> Any:  # noqa: ANN401
    """Return an untrained model of the given shape, into which stored weights are loaded."""
    # Two cells of each library: scvi-tools takes the variance of their depths, and cannot count a table of one cell.
    n_cells = 2 * len(batches)
    cells = OmicsCells(
        cell_ids=np.array([f"cell{number}" for number in range(n_cells)], dtype=object),
        modalities={
            name: Measured(counts=csr_matrix(np.ones((n_cells, len(features)))), features=features, prefix=prefix)
            for name, features, prefix in ((RNA, genes, ""), (PROTEIN, proteins, "p_"))
        },
        batches=np.array([*batches, *batches], dtype=object),
        persons=np.full(n_cells, "unknown", dtype=object),
    )
    with training.quiet_session(0):
        model = _new_model(_anndata(cells, np.arange(len(genes))), settings)
        model.module.eval()
        model.is_trained_ = True
    return model


def contents_digest(cells: OmicsCells) -> str:
    """Return the digest of cells: their names, libraries, features and every count, in their order."""
    digest = hashlib.sha256()
    for name in (RNA, PROTEIN):
        counts = csr_matrix(cells.modalities[name].counts, dtype=np.int64)
        counts.sum_duplicates()
        counts.eliminate_zeros()
        digest.update(features_digest(cells.modalities[name].features).encode())
        for part in (counts.indptr, counts.indices, counts.data):
            digest.update(np.asarray(part, dtype=np.int64).tobytes())
    digest.update(features_digest((*cells.cell_ids.astype(str).tolist(), *cells.batches.astype(str).tolist())).encode())
    return "sha256:" + digest.hexdigest()


def _new_model(table: Any, settings: Totalvi) -> Any:  # noqa: ANN401 - untyped library
    kind = import_extra("scvi").model.TOTALVI
    kind.setup_anndata(table, protein_expression_obsm_key=PROTEIN, batch_key="batch")
    return kind(
        table, n_latent=settings.n_latent, n_hidden=settings.n_hidden, empirical_protein_background_prior=False,
        encode_covariates=True, use_layer_norm="both", use_batch_norm="none",
    )  # fmt: skip


def _anndata(cells: OmicsCells, columns: np.ndarray) -> Any:  # noqa: ANN401 - untyped library
    rna, protein = cells.modalities[RNA], cells.modalities[PROTEIN]
    table = training.cells_anndata(
        training.CellsTable(
            counts=csr_matrix(rna.counts[:, columns], dtype=np.float32),
            genes=tuple(rna.features[column] for column in columns),
            batch=pd.Categorical(cells.batches.astype(str)),
        )
    )
    values = protein.counts.toarray().astype(np.float32)
    table.obsm[PROTEIN] = pd.DataFrame(values, index=table.obs_names, columns=list(protein.features))
    return table


def _filled(cells: OmicsCells, columns: np.ndarray) -> Bool[np.ndarray, " cells"]:
    return has_counts(csr_matrix(cells.modalities[RNA].counts[:, columns]))


def _refuse_missing(cells: OmicsCells) -> None:
    missing = [name for name in (RNA, PROTEIN) if name not in cells.modalities]
    if missing:
        msg = f"totalVI reads counts of RNA and of proteins; {', '.join(missing)} is missing. It is no model of one of them."
        raise UsageError(msg)


def _refuse_other_features(cells: OmicsCells, expected: Mapping[str, tuple[str, ...]]) -> None:
    _refuse_missing(cells)
    for name, features in expected.items():
        if cells.modalities[name].features != features:
            msg = f"{name}: the features are not those of the fit. An unmeasured feature is not a zero."
            raise UnmeasuredGeneError(msg)


def _refuse_empty(cells: OmicsCells, columns: np.ndarray) -> None:
    n_empty = int((~_filled(cells, columns)).sum())
    if n_empty:
        msg = f"{n_empty} of {len(cells.cell_ids)} cells have no count of RNA in the genes of the model: nothing can be said of them. Leave them out."
        raise RefusedError(msg)


def _refuse_unmeasured_batches(cells: OmicsCells) -> None:
    total = np.asarray(cells.modalities[PROTEIN].counts.sum(axis=1)).ravel()
    names = cells.batches.astype(str)
    bare = [name for name in sorted(set(names.tolist())) if not total[names == name].any()]
    if bare:
        msg = (
            f"{len(bare)} training batch(es) have no count of any protein: {', '.join(bare[:3])}. What was not measured is not zero; "
            "leave them out of the training and map them."
        )
        raise RefusedError(msg)
