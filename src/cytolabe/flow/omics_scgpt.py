"""scGPT over RNA and proteins or peaks of one file: trained on the libraries that are not held out, then frozen.

Read are variable genes of the training cells, all proteins, and the peaks that are open in the most cells. Without a checkpoint the network starts from
nothing (`self_supervised`); with `--option checkpoint=FOLDER` it inherits the rows of known genes and all else starts fresh, as published
(`fine_tuned`). No weight moves for the library that is held out.

What is hidden of that library is asked of the decoder of masked values, which says bins within the proteins of a cell and no counts. So r is
told beside measured log counts, as for totalVI, with the same regression; errors are told in bins, with regression and mean on bins. A network of the
same shape with random weights stands beside both and beside the embedding. Hidden peaks are not asked for: a closed peak is no token, so that the network
never learned to tell it from an open one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np

from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.omics_file import PEAK, AskedOmics
from cytolabe.flow.omics_hidden import correlation, counted_rows, regression
from cytolabe.genes import load_reference
from cytolabe.genes.panels import why_not_ranked
from cytolabe.models.cards import SCGPT_OMICS_CARD
from cytolabe.models.omics import OmicsCells
from cytolabe.models.scgpt.omics import FittedOmics, fit_omics, random_control
from cytolabe.models.scgpt.omics_hidden import bins_among, expected_bins, read_columns
from cytolabe.models.scgpt.source import ScgptOmicsSource
from cytolabe.models.totalvi import PROTEIN, RNA
from cytolabe.records import ModelCard

__all__ = ["check_scgpt", "hidden_by_scgpt", "scgpt_card", "train_scgpt"]

_NO_COUNTS = "scGPT says bins, a place among the proteins of a cell, and no counts: r is beside measured log counts, errors are of bins"
_FROM_ZERO = {"max_length", "held_out_fraction", "warm_up", "weight_decay", "clip_norm", "contrast"}
_NOT_ASKED = "hidden proteins or peaks: not asked, because no library was held out (--hold-out)"

Progress = Callable[[str], None]


def check_scgpt(asked: AskedOmics) -> ScgptOmicsSource:
    """Return the options of a training, before a file is read.

    Raises
    ------
    UsageError
        If an option is unknown or no such value, or something is asked that only totalVI does.
    """
    for option, is_said in (("--model", asked.model), ("--save", asked.save)):
        if is_said is not None:
            msg = f"{option} goes with totalVI alone: a trained scGPT over several measurements is not stored. Leave it out."
            raise UsageError(msg)
    if asked.peaks and asked.held_out:
        msg = (
            "--hold-out with --peaks: hidden peaks are not expected by scGPT, which reads open peaks and never met a closed one. "
            "Leave --hold-out out to embed both, or give --proteins alone to compare hidden proteins."
        )
        raise UsageError(msg)
    hints = get_type_hints(ScgptOmicsSource)
    known = {one.name: hints[one.name] for one in dataclasses.fields(ScgptOmicsSource)}
    for name, value in asked.options.items():
        if name not in known:
            msg = f"--option {name}: scgpt knows {', '.join(sorted(known))}."
            raise UsageError(msg)
        _refuse_value(name, value, known[name])
    # On a command line 10 is a weight, too.
    said: dict[str, Any] = {
        name: float(value) if known[name] is float else value for name, value in asked.options.items()
    }
    return ScgptOmicsSource(**said)


def train_scgpt(
    train: OmicsCells, options: ScgptOmicsSource, *, seed: int, on_progress: Progress
) -> tuple[FittedOmics, Mapping[str, np.ndarray], tuple[str, ...]]:
    """Train on cells, and return the model, the features that it reads, and notes.

    Raises
    ------
    RefusedError
        If the file measures a panel of genes (rule R3) and the option `panels` is `refuse`.
    UsageError, IntegrityError
        If the checkpoint is none, or not what was expected.
    MissingExtraError
        If torch is not installed.
    """
    why_not = why_not_ranked(len(train.modalities[RNA].features), None)
    if why_not and options.panels == "refuse":
        msg = f"scGPT is not trained here: {why_not} (rule R3). Say --option panels=flag to look at it all the same."
        raise RefusedError(msg)
    reference = load_reference(options.organism)
    columns, notes = read_columns(train, options, genes=RNA, peaks=PEAK, reference=reference)
    on_progress(f"training scGPT on {len(train.cell_ids):,} cells")
    fitted = fit_omics(train.over(columns), options, seed=seed, contrast=options.contrast, reference=reference)
    return fitted, columns, (*notes, *fitted.notes, *([f"QUALIFIED(panel): {why_not}"] if why_not else []))


def scgpt_card(fitted: FittedOmics, options: ScgptOmicsSource) -> ModelCard:
    """Return the card of a trained network."""
    origin = fitted.model.origin
    return replace(
        SCGPT_OMICS_CARD, protocol=origin.protocol, scopes=fitted.scopes, weights_digest=fitted.model.weights_digest,
        pretraining=tuple(options.corpus) or origin.pretraining,
    )  # fmt: skip


def hidden_by_scgpt(
    fitted: FittedOmics, train: OmicsCells, held: OmicsCells, *, columns: Mapping[str, np.ndarray]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Hold what is said of hidden proteins to what was measured, and say in notes what was not asked.

    Raises
    ------
    RefusedError
        If no cell of the library has a count of RNA.
    """
    if not len(held.cell_ids):
        return [], [_NOT_ASKED]
    read = np.zeros(len(held.modalities[RNA].features), dtype=bool)
    read[columns[RNA]] = True
    asked = held.take(counted_rows(held, np.flatnonzero(read)))
    train = train.take(np.flatnonzero(np.asarray(train.modalities[RNA].counts.sum(axis=1)).ravel() > 0))
    n_bins = fitted.model.config.n_bins
    said = expected_bins(fitted, asked.over(columns), hidden=PROTEIN)
    control = expected_bins(random_control(fitted, seed=fitted.seed), asked.over(columns), hidden=PROTEIN)
    truth, known = (one.modalities[PROTEIN].counts for one in (asked, train))
    logs, of_logs = np.log1p(truth.toarray()), np.log1p(known.toarray())
    bins, of_bins = bins_among(truth, n_bins=n_bins), bins_among(known, n_bins=n_bins)
    by_logs, by_bins = regression(train, asked, of_logs), regression(train, asked, of_bins)
    rows = []
    for k, name in enumerate(asked.modalities[PROTEIN].features):
        mean_log, mean_bin = of_logs[:, k].mean(), of_bins[:, k].mean()
        rows.append({
            "protein": name,
            "scgpt_r": correlation(said[:, k], logs[:, k]), "random_r": correlation(control[:, k], logs[:, k]),
            "regression_r": correlation(by_logs[:, k], logs[:, k]),
            "regression_error": _error(by_logs[:, k], logs[:, k]), "mean_error": _error(mean_log, logs[:, k]),
            "scgpt_bin_r": correlation(said[:, k], bins[:, k]), "random_bin_r": correlation(control[:, k], bins[:, k]),
            "regression_bin_r": correlation(by_bins[:, k], bins[:, k]),
            "scgpt_bin_error": _error(said[:, k], bins[:, k]), "random_bin_error": _error(control[:, k], bins[:, k]),
            "regression_bin_error": _error(by_bins[:, k], bins[:, k]), "mean_bin_error": _error(mean_bin, bins[:, k]),
        })  # fmt: skip
    return rows, [_NO_COUNTS]


def _error(found: Any, truth: np.ndarray) -> float:  # noqa: ANN401 - one value or an array of them
    return float(np.abs(found - truth).mean())


def _refuse_value(name: str, value: object, kind: Any) -> None:  # noqa: ANN401 - a type, or a union of them
    words = [word for word in get_args(kind) if isinstance(word, str)]
    if words and value not in words:
        msg = f"--option {name}={value}: one of {', '.join(words)}."
        raise UsageError(msg)
    if kind in {int, float}:
        is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        least = 0 if name in _FROM_ZERO else None
        if not is_number or (value < 0 if least == 0 else value <= 0):  # type: ignore[operator]
            what = "a number of 0 or more" if least == 0 else "a number above 0"
            msg = f"--option {name}={value}: {what} is needed{', a whole one' if kind is int else ''}."
            raise UsageError(msg)
