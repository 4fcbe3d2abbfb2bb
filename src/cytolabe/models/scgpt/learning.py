"""What every training of scGPT here shares: sizes, a vocabulary of the genes at hand, and the plan of the steps.

A network that starts from nothing reads the genes of its training cells and no others; one that starts from a checkpoint
keeps that one's vocabulary. Cells of whole persons choose when to stop (`models.held_out`).
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cytolabe.errors import RefusedError
from cytolabe.genes import load_reference
from cytolabe.genes.panels import why_not_ranked
from cytolabe.models.held_out import hold_out_persons
from cytolabe.models.hub import checkpoint_folder
from cytolabe.models.protocols import TrainView
from cytolabe.models.scgpt.checkpoint import Origin, Scgpt, fresh_network, grown_scgpt, load_scgpt
from cytolabe.models.scgpt.configuration import ScgptConfig
from cytolabe.models.scgpt.source import PRESETS, Learning
from cytolabe.models.scgpt.tokens import ScgptTokenizer, TokenizedCells
from cytolabe.models.scgpt.vocabulary import CLS, EOC, PAD, ScgptVocabulary
from cytolabe.models.scopes import refuse_too_few_cells
from cytolabe.models.weights import LoadedKeys, stored_digest
from cytolabe.provenance import canonical_json
from cytolabe.randomness import derive_seed
from cytolabe.records import Protocol

__all__ = ["Prepared", "learned", "prepare", "started"]

_LEAST_CELLS = 10


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A network to train, its tokens of the training cells, and who chooses when to stop."""

    model: Scgpt
    tokenizer: ScgptTokenizer
    cells: TokenizedCells
    fit_rows: np.ndarray
    held_rows: np.ndarray
    notes: tuple[str, ...]


def prepare(
    learning: Learning,
    train_view: TrainView,
    *,
    rows: np.ndarray,
    seed: int,
    fields: Mapping[str, object],
    made: Scgpt | None = None,
) -> Prepared:
    """Build a network for the training cells.

    Parameters
    ----------
    rows
        Cells of the view to train on.
    fields
        Heads: fields of `ScgptConfig`.
    made
        A network that was made here of the genes of the view, to start from a copy of; without it the options say.

    Raises
    ------
    RefusedError
        If the genes are those of a panel (rule R3) and `panels` is `refuse`, or cells with counts are too few.
    """
    why_not = why_not_ranked(len(train_view.genes), None)
    if why_not and learning.panels == "refuse":
        msg = f"scGPT is not trained here: {why_not} (rule R3). Say panels = 'flag' to look at it all the same."
        raise RefusedError(msg)
    if made is None:
        model = started(learning, train_view.genes, seed=seed, fields=fields)
    else:
        model = grown_scgpt(made, seed=seed, **fields)
    config = model.config
    tokenizer = ScgptTokenizer(
        vocabulary=model.vocabulary,
        genes=train_view.genes,
        reference=load_reference(learning.organism) if learning.checkpoint else None,
        max_length=learning.max_length or config.max_length,
        n_bins=config.n_bins,
        ties=learning.ties,
        pad_value=config.pad_value,
        cls_value=config.pad_value,
    )
    cells = tokenizer.tokenize(train_view.counts[rows], cell_ids=train_view.cell_ids[rows], seed=seed)
    filled = np.flatnonzero(cells.lengths > 1)
    refuse_too_few_cells(len(filled), least=_LEAST_CELLS, model="scGPT")
    fit, held, note = hold_out_persons(
        train_view.persons[rows][filled], fraction=learning.held_out_fraction, seed=derive_seed(seed, "models", "scgpt")
    )
    n_empty = len(rows) - len(filled)
    notes = [
        note,
        *([f"{n_empty} training cells have no counts in the vocabulary and moved nothing"] if n_empty else []),
    ]
    notes += [f"a panel: {why_not}"] if why_not else []
    return Prepared(
        model=model, tokenizer=tokenizer, cells=cells, fit_rows=filled[fit], held_rows=filled[held], notes=tuple(notes)
    )


def started(learning: Learning, genes: Sequence[str], *, seed: int, fields: Mapping[str, object]) -> Scgpt:
    """Return the network that a training starts from: that of the checkpoint, or a fresh one over `genes`."""
    if learning.checkpoint:
        wanted = {"weights": learning.expected} if learning.expected else {}
        return load_scgpt(
            checkpoint_folder(learning.checkpoint, expected=learning.expected), expected=wanted, seed=seed, **fields
        )
    tokens = {name: number for number, name in enumerate((PAD, CLS, EOC, *genes))}
    digest = "sha256:" + hashlib.sha256(canonical_json(tokens)).hexdigest()
    vocabulary = ScgptVocabulary(tokens=tokens, digest=digest)
    config = ScgptConfig(n_tokens=len(tokens), pad_token=tokens[PAD], **{**PRESETS[learning.preset], **fields})
    network = fresh_network(config, seed=seed)
    keys = LoadedKeys(loaded=(), missing=tuple(sorted(network.state_dict())), ignored=())
    origin = Origin(protocol=Protocol.SELF_SUPERVISED, pretraining=(), scopes=())
    return Scgpt(network=network, vocabulary=vocabulary, weights_digest="", keys=keys, origin=origin)


def learned(model: Scgpt, *, protocol: Protocol, scopes: Sequence[Any]) -> Scgpt:
    """Return a model whose weights have moved: the digest that they have now, and scopes of what it was handed beside the old."""
    origin = dataclasses.replace(model.origin, protocol=protocol, scopes=(*model.origin.scopes, *scopes))
    return dataclasses.replace(model, origin=origin, weights_digest=stored_digest(model.network.state_dict()))
