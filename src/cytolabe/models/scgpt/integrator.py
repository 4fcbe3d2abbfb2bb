"""Batch correction by scGPT: masked counts, and three things that keep the batch out of the cell embedding.

As in the published integration tutorial: elastic similarity (ECS), an adversary that learns the batch behind a reversed
gradient (DAB), and a normalization of its own for each batch (DSBN); the contrast of two passes (CCE) is off unless an
option weighs it. Batches of a query that training never saw get a
normalization whose statistics come from the unlabelled query cells (`fit_on_query = unlabelled_query`); no weight moves.

Decoders read the batch, so that the embedding need not hold it. The published tutorial reads 1,200 variable genes with
their zeros; here the genes with counts are read unless `keeps_zeros` says otherwise, so numbers differ from the tutorial's.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cytolabe.errors import RefusedError
from cytolabe.models.extras import import_extra
from cytolabe.models.learning import run_training
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.protocols import EmbeddingFacts, QueryView, TrainView
from cytolabe.models.scgpt.checkpoint import Scgpt
from cytolabe.models.scgpt.embedder import on_device, unit_states
from cytolabe.models.scgpt.learning import learned, prepare
from cytolabe.models.scgpt.source import ScgptIntegratorSource
from cytolabe.models.scgpt.tokens import ScgptTokenizer
from cytolabe.models.scopes import batch_levels, fit_scope, refuse_other_genes, refuse_shared_cells
from cytolabe.models.weights import stored_digest
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedScgptIntegrator", "ScgptIntegrator"]


@dataclass(frozen=True, kw_only=True)
class FittedScgptIntegrator:
    """A trained network and the batches that it knows."""

    model: Scgpt
    tokenizer: ScgptTokenizer
    batches: tuple[str, ...]
    seed: int
    scopes: tuple[FitScope, ...]
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit."""
        return tuple(self._met)

    @property
    def network_size(self) -> NetworkSize:
        """Weights of the network, all of them trained."""
        return size_of(self.model.network, is_trained=True)

    @property
    def weights_digest(self) -> str:
        """Digest of the weights."""
        return self.model.weights_digest

    @property
    def facts(self) -> EmbeddingFacts:
        """Where in the network the embedding comes from."""
        return EmbeddingFacts(
            layer=f"{self.model.config.n_layers} (last)",
            pooling="<cls>, length 1",
            precision="float32",
            details={
                "weights": self.weights_digest,
                "vocabulary": self.model.vocabulary.digest,
                "max_length": str(self.tokenizer.max_length),
                "n_bins": str(self.tokenizer.n_bins),
                "ties": self.tokenizer.ties,
            },
        )

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return the state of `<cls>` of each cell, scaled to length 1, float32.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        RefusedError
            If cells are normalized by batch, and a cell's batch was in neither view of the fit.
        ModelFailedError
            If a value is not finite.
        """
        refuse_other_genes(view, tuple(self.tokenizer.genes))
        codes = self._codes(view)
        cells = self.tokenizer.tokenize(view.counts, cell_ids=view.cell_ids, seed=self.seed)
        return unit_states(self.model.network, cells, batches=codes)

    def _codes(self, view: QueryView) -> np.ndarray:
        place = {name: number for number, name in enumerate(self.batches)}
        levels = batch_levels(view.technical)
        unseen = sorted(set(levels.tolist()).difference(place))
        if unseen and self.model.config.batch_norm != "none":
            msg = (
                f"{len(unseen)} batch(es) were in neither view of the fit: {', '.join(unseen[:3])}. There is no "
                "normalization for them; give these cells as the query of `fit`."
            )
            raise RefusedError(msg)
        return np.array([place.get(level, 0) for level in levels.tolist()], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class ScgptIntegrator:
    """Embedder by a network that is trained against batches."""

    options: ScgptIntegratorSource
    card: ModelCard
    batch_key: tuple[str, ...] = field(default=("dataset_id", "batch"), init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScgptIntegrator:
        """Train on the cells of the train view, then normalize the query's unseen batches; labels are not read.

        Raises
        ------
        RefusedError
            If there is one batch only, too few cells have counts, or the genes are those of a panel.
        LeakageError
            If a cell is in both views.
        """
        import_extra("torch")
        from cytolabe.models.scgpt.tasks import MaskedTask, MaskedWeights  # noqa: PLC0415 - needs torch to be imported

        if query is not None:
            refuse_shared_cells(train, query)
            refuse_other_genes(query, train.genes)
        levels = batch_levels(train.technical)
        batches = tuple(sorted(set(levels.tolist())))
        if len(batches) < 2:
            msg = f"All training cells are of one batch ({batches[0] if batches else 'none'}): there is nothing to correct."
            raise RefusedError(msg)
        rows = np.arange(len(levels))
        prepared = prepare(self.options, train, rows=rows, seed=seed, fields=self._fields(len(batches)))
        if self.options.keeps_zeros:
            prepared = _with_zeros(prepared, train, seed=seed)
        task = MaskedTask(
            network=prepared.model.network,
            cells=prepared.cells,
            fit_rows=prepared.fit_rows,
            held_rows=prepared.held_rows,
            seed=seed,
            tokens_per_minibatch=self.options.tokens_per_minibatch,
            groups=np.searchsorted(np.array(batches, dtype=object), levels).astype(np.int64),
            weights=MaskedWeights(similarity=self.options.similarity, contrast=self.options.contrast),
        )
        _, told = run_training(self.options, task, seed=seed)
        scope = fit_scope("scgpt/integration", train.cell_ids)
        model = learned(prepared.model, protocol=self.card.protocol, scopes=(scope,))
        fitted = FittedScgptIntegrator(
            model=model,
            tokenizer=prepared.tokenizer,
            batches=batches,
            seed=seed,
            scopes=model.origin.scopes,
            _met=dict.fromkeys((*prepared.notes, told)),
        )
        return fitted if query is None else self.map_query(fitted, query, seed=seed)

    def map_query(self, fitted: FittedScgptIntegrator, query: QueryView, *, seed: int) -> FittedScgptIntegrator:  # noqa: ARG002
        """Give batches that training never saw a normalization with the statistics of the unlabelled query cells.

        Raises
        ------
        UnmeasuredGeneError
            If the query has other genes than the fit.
        """
        refuse_other_genes(query, tuple(fitted.tokenizer.genes))
        levels = batch_levels(query.technical)
        unseen = tuple(sorted(set(levels.tolist()).difference(fitted.batches)))
        if not unseen or fitted.model.config.batch_norm == "none":
            note = "nothing was fitted on the query: no unseen batch has a normalization of its own"
            return replace(fitted, _met={**fitted._met, note: None})
        network = copy.deepcopy(fitted.model.network)
        cells = fitted.tokenizer.tokenize(query.counts, cell_ids=query.cell_ids, seed=fitted.seed)
        for batch in unseen:
            states = _states_before_norm(network, cells, np.flatnonzero(levels == batch))
            network.dsbn.bns.append(_normalization(network.dsbn.bns[0], states))
        scope = fit_scope("scgpt/query", query.cell_ids)
        return replace(
            fitted,
            model=replace(fitted.model, network=network, weights_digest=stored_digest(network.state_dict())),
            batches=(*fitted.batches, *unseen),
            scopes=(*fitted.scopes, scope),
            _met=dict(fitted._met),
        )

    def _fields(self, n_batches: int) -> dict[str, object]:
        options = self.options
        return {
            "n_batches": n_batches,
            "mvc_style": "inner product",
            "explicit_zero": options.explicit_zero,
            "batch_input": True,
            "adversary": options.adversary,
            "batch_norm": "by_batch" if options.norm_by_batch else "none",
        }


def _with_zeros(prepared: Any, train: TrainView, *, seed: int) -> Any:  # noqa: ANN401 - Prepared
    """Return what was prepared with genes without counts among the tokens."""
    tokenizer = replace(prepared.tokenizer, keeps_zeros=True)
    cells = tokenizer.tokenize(train.counts, cell_ids=train.cell_ids, seed=seed)
    return replace(prepared, tokenizer=tokenizer, cells=cells)


def _states_before_norm(network: Any, cells: Any, rows: np.ndarray) -> Any:  # noqa: ANN401 - torch
    """Return embedded genes and values of cells, tokens x dims, as they enter the normalization."""
    torch = import_extra("torch")
    found = []
    for start in range(0, len(rows), 256):
        tokens = on_device(network, cells.padded(rows[start : start + 256]))
        with torch.no_grad():
            states = network.valued(network.encoder(tokens.genes), tokens.values)
        # Of tokens alone: how much padding there is, is chance.
        found.append(states[~tokens.padding])
    return torch.cat(found)


def _normalization(like: Any, states: Any) -> Any:  # noqa: ANN401 - torch
    """Return a normalization with the mean and variance of states (tokens x dims)."""
    norm = copy.deepcopy(like)
    norm.running_mean.copy_(states.mean(dim=0))
    norm.running_var.copy_(states.var(dim=0, unbiased=len(states) > 1))
    return norm
