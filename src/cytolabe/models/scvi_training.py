"""Training of scVI: which cells choose the number of epochs, and one quiet, seeded thread.

Epochs are chosen on cells of training *persons* who are left out of the weights: after each epoch the ELBO of those
cells is taken, training stops when it has not improved for `patience` epochs or at `max_epochs`, and the weights of
the best epoch are kept. A person qualifies only if each of their batches holds cells of somebody else (or of nobody
known), because a batch without training cells has no weights; without a second known person who qualifies, cells of
each batch are left out instead, and the notes say so.

Everything that talks to scvi-tools, torch and lightning is in this module, inside `quiet_session`: one thread, torch's
generator forked and seeded (no global generator of numpy or Python is touched), loggers and progress bars off, nothing
written to a folder.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cytolabe.errors import ModelFailedError
from cytolabe.models.extras import import_extra
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.models.threads import single_thread
from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN

__all__ = [
    "SILENT_TRAINER",
    "CellsTable",
    "ScviSettings",
    "TrainedScvi",
    "best_epoch_callback",
    "blank_model",
    "cells_anndata",
    "divide_cells",
    "learning_rate",
    "map_query",
    "minibatch_size",
    "posterior_mean",
    "posterior_moments",
    "quiet_session",
    "train",
    "with_new_batches",
]

_STEPS_PER_EPOCH = 10
_SMALLEST_MINIBATCH, _LARGEST_MINIBATCH = 32, 512
_RATE_AT_128 = 1e-3
"""Learning rate of scvi-tools at its default minibatch of 128 cells."""

_EMBEDDING_MINIBATCH = 1024
_VALIDATION_FRACTION = 0.1
_LARGEST_VALIDATION_FRACTION = 0.34
_MONITOR = "elbo_validation"
_TALKERS = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric", "scvi")


@dataclass(frozen=True, kw_only=True)
class ScviSettings:
    """The shape of the network and the limits of its training."""

    n_latent: int
    n_hidden: int
    n_layers: int
    max_epochs: int
    patience: int


@dataclass(frozen=True, kw_only=True)
class CellsTable:
    """Counts (cells x genes, float32, dense or CSR) and the batch of each cell; every cell has a count."""

    counts: Any
    genes: tuple[str, ...]
    batch: pd.Categorical


@dataclass(frozen=True, kw_only=True)
class TrainedScvi:
    """The scvi-tools model at its best epoch, and what to say of the training."""

    model: Any
    best_epoch: int
    notes: tuple[str, ...]


def divide_cells(persons: np.ndarray, batches: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Divide training cells into those that fit the weights and those that choose the number of epochs.

    Parameters
    ----------
    persons
        Person key of each cell; `unknown` is nobody.
    batches
        Batch of each cell.
    seed
        The run's seed: it decides which persons, or cells, are left out.

    Returns
    -------
    tuple
        Rows that fit, rows that validate (each ascending; disjoint; together all cells), and a sentence for the notes.
    """
    rng = rng_for(seed, "models", "scvi", "validation")
    names = persons.astype(str)
    known = np.array(sorted(set(names.tolist()).difference({UNKNOWN, ""})), dtype=str)
    chosen = np.zeros(len(names), dtype=bool)
    held_out: list[str] = []
    for person in known[rng.permutation(len(known))] if len(known) > 1 else []:
        wider = chosen | (names == person)
        no_batch_lost = set(batches[~wider].tolist()) == set(batches.tolist())
        if no_batch_lost and wider.mean() <= _LARGEST_VALIDATION_FRACTION:
            chosen, held_out = wider, [*held_out, person]
        if chosen.mean() >= _VALIDATION_FRACTION:
            break
    if held_out:
        note = f"epochs chosen on {int(chosen.sum())} cells of {len(held_out)} training person(s)"
    else:
        chosen = _some_cells_of_each_batch(batches, rng)
        note = f"epochs chosen on {int(chosen.sum())} training cells, not persons: no two known persons share batches"
    return np.flatnonzero(~chosen), np.flatnonzero(chosen), note


def _some_cells_of_each_batch(batches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose a tenth of the cells of each batch; at least one cell in all, never the only cell of a batch."""
    chosen = np.zeros(len(batches), dtype=bool)
    names, codes, n_cells = np.unique(batches.astype(str), return_inverse=True, return_counts=True)
    for code in range(len(names)):
        rows = rng.permutation(np.flatnonzero(codes == code))
        chosen[rows[: int(n_cells[code] * _VALIDATION_FRACTION)]] = True
    if not chosen.any():
        chosen[np.flatnonzero(codes == n_cells.argmax())[0]] = True
    return chosen


def minibatch_size(n_cells: int) -> int:
    """Return how many cells make one training step: a tenth of the cells, between 32 and 512.

    Large steps save most of the time on one core; the learning rate grows with them, and on 5,400 cells of the PBMC
    study 512 and 256 cells per step reached the same validation ELBO after the same epochs. Small data sets keep ten
    steps per epoch, so that an epoch means as much.
    """
    return int(np.clip(n_cells // _STEPS_PER_EPOCH, _SMALLEST_MINIBATCH, _LARGEST_MINIBATCH))


def learning_rate(n_cells: int) -> float:
    """Return the learning rate in proportion to the minibatch, never under that of scvi-tools."""
    return _RATE_AT_128 * max(1.0, minibatch_size(n_cells) / 128)


def train(
    table: CellsTable,
    *,
    settings: ScviSettings,
    rows: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> TrainedScvi:
    """Train scVI and keep the weights of the epoch that suited the validation cells best.

    Parameters
    ----------
    table
        Every training cell with counts.
    settings
        Network and limits.
    rows
        Rows that fit and rows that validate, from `divide_cells`.
    seed
        Seed of torch's generator, 0 or greater.

    Raises
    ------
    ModelFailedError
        If the validation ELBO is never finite.
    """
    fit_rows, validation_rows = rows
    with quiet_session(seed):
        model = _new_model(table, settings)
        model._training_plan_cls = _terse_plan()
        best = best_epoch_callback(_MONITOR)
        model.train(
            max_epochs=settings.max_epochs,
            early_stopping=True,
            early_stopping_patience=settings.patience,
            early_stopping_monitor=_MONITOR,
            batch_size=minibatch_size(len(fit_rows)),
            datasplitter_kwargs={"external_indexing": [fit_rows, validation_rows, np.array([], dtype=np.int64)]},
            callbacks=[best],
            plan_kwargs={"lr": learning_rate(len(fit_rows))},
            **SILENT_TRAINER,
        )
        if best.weights is None:
            msg = "scVI training failed: the ELBO of the validation cells was never finite."
            raise ModelFailedError(msg)
        model.module.load_state_dict(best.weights)
        model.module.eval()
    notes = [f"best of at most {settings.max_epochs} epochs: {best.epoch}"]
    if best.epoch >= settings.max_epochs:
        # The validation ELBO was still falling: more epochs would have given another model.
        notes.append(f"{NOT_CONVERGED}: scVI at its cap of {settings.max_epochs} epochs")
    return TrainedScvi(model=model, best_epoch=best.epoch, notes=tuple(notes))


def map_query(model: object, table: CellsTable, *, epochs: int, seed: int) -> Any:  # noqa: ANN401 - untyped library
    """Return a copy of the model that also knows the batches of the query (scArches surgery).

    Only the weights of the new batches are fitted: everything else is frozen and weight decay is off, so the embedding
    of a training cell stays what it was. The number of epochs is fixed, because the query has no side to choose it on.
    """
    with quiet_session(seed):
        scvi = import_extra("scvi")
        adata = cells_anndata(table)
        mapped = with_new_batches(scvi.model.SCVI, adata, model)
        mapped._training_plan_cls = _terse_plan()
        n_cells = len(table.batch)
        empty = np.array([], dtype=np.int64)
        mapped.train(
            max_epochs=epochs,
            batch_size=minibatch_size(n_cells),
            datasplitter_kwargs={"external_indexing": [np.arange(n_cells), empty, empty]},
            plan_kwargs={"lr": learning_rate(n_cells), "weight_decay": 0.0},
            **SILENT_TRAINER,
        )
        mapped.module.eval()
    return mapped


def with_new_batches(kind: Any, adata: Any, model: Any) -> Any:  # noqa: ANN401 - untyped library
    """Return the model that surgery starts from: all weights of `model`, and random ones for the batches of `adata` that it never saw.

    A network of one batch has no weight for it, because it tells nothing apart. scvi-tools draws one as for a new batch, which would
    move every training cell by chance; it is zero here, which is what the network did.
    """
    mapped = kind.load_query_data(adata, model, accelerator="cpu")
    known = model.module.state_dict()
    if model.summary_stats.n_batch == 1:
        n_new = mapped.summary_stats.n_batch - 1
        with import_extra("torch").no_grad():
            for name, weight in mapped.module.named_parameters():
                # What has a column for each batch even where there is one (totalVI's background) has its old one still.
                if name in known and weight.shape[-1] - known[name].shape[-1] > n_new:
                    weight[..., known[name].shape[-1]] = 0.0
    return mapped


def posterior_mean(model: Any, table: CellsTable) -> Float[np.ndarray, "cells dims"]:  # noqa: ANN401 - untyped library
    """Return the mean of the approximate posterior of each cell, float64. Nothing is drawn."""
    with quiet_session(0):
        latent = model.get_latent_representation(cells_anndata(table), give_mean=True, batch_size=_EMBEDDING_MINIBATCH)
        # scvi-tools keeps every table it was ever given, for all models of the process; a study has hundreds.
        model.deregister_manager()
    return np.asarray(latent, dtype=np.float64)


def posterior_moments(
    model: Any,  # noqa: ANN401 - untyped library
    table: CellsTable,
    *,
    more: Mapping[str, str] | None = None,
) -> tuple[Float[np.ndarray, "cells dims"], Float[np.ndarray, "cells dims"]]:
    """Return mean and variance of the approximate posterior of each cell, float64: what a minified model of scvi-tools keeps.

    Parameters
    ----------
    more
        Further columns that the model was set up with, one value for all cells.
    """
    with quiet_session(0):
        adata = cells_anndata(table)
        for name, value in (more or {}).items():
            adata.obs[name] = value
        mean, variance = model.get_latent_representation(adata, return_dist=True, batch_size=_EMBEDDING_MINIBATCH)
        model.deregister_manager()
    return np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64)


def blank_model(genes: tuple[str, ...], batches: tuple[str, ...], settings: ScviSettings) -> Any:  # noqa: ANN401
    """Return an untrained model of the given shape, into which stored weights are loaded."""
    table = CellsTable(
        counts=np.ones((len(batches), len(genes)), dtype=np.float32),
        genes=genes,
        batch=pd.Categorical(np.array(batches, dtype=object), categories=list(batches)),
    )
    with quiet_session(0):
        model = _new_model(table, settings)
        model.module.eval()
        model.is_trained_ = True
    return model


SILENT_TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "benchmark": False,
}


def _new_model(table: CellsTable, settings: ScviSettings) -> Any:  # noqa: ANN401 - untyped library
    """Make a model whose embedding surgery can change: the encoder reads the batch, layers are normalized per cell."""
    scvi = import_extra("scvi")
    adata = cells_anndata(table)
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    return scvi.model.SCVI(
        adata,
        n_latent=settings.n_latent,
        n_hidden=settings.n_hidden,
        n_layers=settings.n_layers,
        gene_likelihood="nb",
        encode_covariates=True,
        use_layer_norm="both",
        use_batch_norm="none",
    )


def cells_anndata(table: CellsTable) -> Any:  # noqa: ANN401 - untyped library
    """Return the cells as scvi-tools takes them, with the column `batch`."""
    anndata = import_extra("anndata")
    names = [f"cell{row}" for row in range(len(table.batch))]
    return anndata.AnnData(
        table.counts,
        obs=pd.DataFrame({"batch": table.batch}, index=names),
        var=pd.DataFrame(index=list(table.genes)),
    )


def _terse_plan() -> Any:  # noqa: ANN401 - its base class exists only where scvi-tools is installed
    """Return scVI's training plan without the metrics of training steps, which nobody reads and a third of the time takes.

    The losses, the steps and the random numbers are the same; the metrics of the validation cells stay.
    """
    plan = import_extra("scvi.train").TrainingPlan
    return type("TersePlan", (plan,), {"log": _log_validation, "compute_and_log_metrics": _validation_metrics})


def _log_validation(plan: Any, name: str, *values: Any, **options: Any) -> None:  # noqa: ANN401 - untyped library
    if name.endswith("_validation") or name == "validation_loss":
        super(type(plan), plan).log(name, *values, **options)


def _validation_metrics(plan: Any, *loss_metrics_mode: Any) -> None:  # noqa: ANN401 - untyped library
    if loss_metrics_mode[-1] == "validation":
        super(type(plan), plan).compute_and_log_metrics(*loss_metrics_mode)


def best_epoch_callback(monitor: str) -> Any:  # noqa: ANN401 - its base class exists only where lightning is installed
    """Return a lightning callback that keeps, in memory, the weights of the epoch with the least of a loss."""
    callback = import_extra("lightning.pytorch").Callback
    instance = type("BestEpoch", (callback,), {"on_validation_end": _keep_if_best})()
    instance.loss, instance.epoch, instance.weights, instance.monitor = np.inf, 0, None, monitor
    return instance


def _keep_if_best(best: Any, trainer: Any, plan: Any) -> None:  # noqa: ANN401 - untyped library
    loss = float(trainer.callback_metrics[best.monitor])
    if loss < best.loss:
        best.loss, best.epoch = loss, int(trainer.current_epoch) + 1
        best.weights = {name: weight.detach().clone() for name, weight in plan.module.state_dict().items()}


@contextlib.contextmanager
def quiet_session(seed: int) -> Iterator[None]:
    """Run torch on one thread, from its own seeded generator, without a word; put everything back afterwards."""
    torch = import_extra("torch")
    import_extra("scvi")
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    n_threads = torch.get_num_threads()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        torch.set_num_threads(1)
        # An early stop is told by `print`, which would end up in the JSON of a command.
        silent = contextlib.redirect_stdout(io.StringIO())
        with warnings.catch_warnings(), single_thread(), torch.random.fork_rng(devices=[]), silent:
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(n_threads)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
