"""Several measurements of the same cells in one scGPT: RNA with proteins, or with peaks.

Each feature of each modality is a token; bins are taken within a modality, because a count of antibodies and a count of
transcripts are no amounts of one scale. Decoders read the modality of a token (`n_modalities`: 0 padding, 1 `<cls>`, then one
for each). Proteins are told from genes of the same name by `p_` before theirs, as in the published tutorial.

From a checkpoint only the rows of known genes are inherited, as there: the encoder learned what a cell of RNA looks like,
and everything else starts fresh. Its vocabulary speaks symbols; where genes are ids, a reference leads them to it, and a gene that
it does not have is not read.

Where a modality has no value but 0 and 1 (peaks that are open or not), every value is a tie and a random bin would say
something of each that nobody measured: all get the middle bin. `<cls>` then reads which features are there, and no amounts.

This is a component for arrays, which `cytolabe omics` hands it from a file; the stages of an atlas hand RNA alone to their models.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cytolabe.errors import UnmeasuredGeneError, UsageError
from cytolabe.genes.reference import GeneReference
from cytolabe.models.extras import import_extra
from cytolabe.models.held_out import hold_out_persons
from cytolabe.models.learning import run_training
from cytolabe.models.omics import Measured, OmicsCells
from cytolabe.models.protocols import EmbeddingFacts
from cytolabe.models.scgpt.checkpoint import Scgpt, fresh_network
from cytolabe.models.scgpt.configuration import ScgptConfig
from cytolabe.models.scgpt.embedder import unit_states
from cytolabe.models.scgpt.learning import learned, started
from cytolabe.models.scgpt.source import Learning
from cytolabe.models.scgpt.tokens import ScgptTokenizer, TokenizedCells
from cytolabe.models.scgpt.vocabulary import ScgptVocabulary
from cytolabe.models.scopes import fit_scope
from cytolabe.models.weights import stored_digest
from cytolabe.provenance import canonical_json
from cytolabe.randomness import derive_seed
from cytolabe.records import FitScope, Protocol

__all__ = ["FIRST_MODALITY", "FittedOmics", "extended", "fit_omics", "joined", "random_control"]

FIRST_MODALITY = 2
"""Code of the first modality; 0 is padding and 1 is `<cls>`."""


@dataclass(frozen=True, kw_only=True)
class FittedOmics:
    """A trained network over several modalities."""

    model: Scgpt
    tokenizers: Mapping[str, ScgptTokenizer]
    seed: int
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]

    @property
    def facts(self) -> EmbeddingFacts:
        """Where in the network the embedding comes from, and what else decides it."""
        tokenizers = self.tokenizers
        return EmbeddingFacts(
            layer=f"{self.model.config.n_layers} (last)",
            pooling="<cls>, length 1",
            precision="float32",
            details={
                "weights": self.model.weights_digest,
                "vocabulary": self.model.vocabulary.digest,
                "seed": str(self.seed),
                "n_bins": str(self.model.config.n_bins),
                **{f"max_length.{name}": str(one.max_length) for name, one in tokenizers.items()},
                **{f"ties.{name}": one.ties for name, one in tokenizers.items()},
            },
        )

    def embed(self, cells: OmicsCells) -> Float[np.ndarray, "cells dims"]:
        """Return the state of `<cls>` of each cell, scaled to length 1, float32.

        A cell of which a modality was not measured at all has no tokens of it: leave that modality's counts at zero.

        Raises
        ------
        UnmeasuredGeneError
            If a modality or a feature of the fit is missing, added or moved.
        ModelFailedError
            If a value is not finite.
        """
        tokens, _ = self.read(cells)
        return unit_states(self.model.network, tokens)

    def read(self, cells: OmicsCells) -> tuple[TokenizedCells, np.ndarray]:
        """Return the tokens of cells, and the modality of each; see `joined`.

        Raises
        ------
        UnmeasuredGeneError
            If a modality or a feature of the fit is missing, added or moved.
        """
        for name, tokenizer in self.tokenizers.items():
            found = cells.modalities.get(name)
            if found is None or found.names != tuple(tokenizer.genes):
                msg = f"{name}: the features are not those of the fit. An unmeasured feature is not a zero."
                raise UnmeasuredGeneError(msg)
        return joined(_tokenized(self.tokenizers, cells, seed=self.seed))


def joined(parts: Sequence[TokenizedCells]) -> tuple[TokenizedCells, np.ndarray]:
    """Put the tokens of several modalities of the same cells behind one `<cls>`.

    Returns
    -------
    tuple
        The cells, and the modality of each of their tokens: 1 for `<cls>`, 2 for those of the first part, and so on.
    """
    first = parts[0]
    n_tokens = np.sum([part.lengths - 1 for part in parts], axis=0) + 1
    bounds = np.concatenate([[0], np.cumsum(n_tokens)])
    genes = np.empty(bounds[-1], dtype=np.int64)
    values = np.empty(bounds[-1], dtype=np.float32)
    codes = np.ones(bounds[-1], dtype=np.int64)
    genes[bounds[:-1]], values[bounds[:-1]] = first.genes[first.bounds[:-1]], first.values[first.bounds[:-1]]
    start = bounds[:-1] + 1
    for number, part in enumerate(parts):
        n_own = part.lengths - 1
        own = np.repeat(np.arange(len(n_own)), n_own)
        step = np.arange(n_own.sum()) - np.repeat(np.cumsum(n_own) - n_own, n_own)
        target, source = start[own] + step, part.bounds[:-1][own] + 1 + step
        genes[target], values[target], codes[target] = part.genes[source], part.values[source], FIRST_MODALITY + number
        start = start + n_own
    return replace(first, genes=genes, values=values, bounds=bounds), codes


def extended(model: Scgpt, names: Sequence[str], *, seed: int, fields: Mapping[str, Any]) -> Scgpt:
    """Return a network over the vocabulary of another and further names, of which only the rows of genes are inherited.

    Parameters
    ----------
    names
        Tokens of the other modalities; those that the vocabulary has already keep their rows.
    fields
        Fields of `ScgptConfig` that differ: heads, modalities.
    """
    tokens = dict(model.vocabulary.tokens)
    for name in names:
        tokens.setdefault(name, len(tokens))
    digest = "sha256:" + hashlib.sha256(canonical_json(tokens)).hexdigest()
    config = ScgptConfig(**{**vars(model.config), "n_tokens": len(tokens), **fields})
    network = fresh_network(config, seed=seed)
    torch = import_extra("torch")
    with torch.no_grad():
        network.encoder.embedding.weight[: len(model.vocabulary)] = model.network.encoder.embedding.weight
    return replace(model, network=network, vocabulary=ScgptVocabulary(tokens=tokens, digest=digest), weights_digest="")


def random_control(fitted: FittedOmics, *, seed: int) -> FittedOmics:
    """Return the same reading of cells by a network of the same shape that has learned nothing: what the shape alone gives."""
    network = fresh_network(fitted.model.config, seed=derive_seed(seed, "models", "scgpt", "control"))
    origin = replace(fitted.model.origin, protocol=Protocol.CONTROL, pretraining=(), scopes=())
    model = replace(fitted.model, network=network, weights_digest=stored_digest(network.state_dict()), origin=origin)
    return replace(fitted, model=model, scopes=(), notes=())


def fit_omics(
    cells: OmicsCells,
    learning: Learning,
    *,
    seed: int,
    contrast: float = 0.0,
    reference: GeneReference | None = None,
) -> FittedOmics:
    """Train a network on masked counts of all modalities; no label is read.

    Where cells are of several batches, decoders read the batch and an adversary is trained against it, as in the
    published tutorial; there is no normalization by batch.

    Parameters
    ----------
    contrast
        Weight of the contrast of two passes of a cell (CCE); off as published, 10 where the published code has it on.
    reference
        Leads symbols of a checkpoint to features that are ids of it. A feature of the first modality that the vocabulary does
        not have is then not read; without a reference it is a new token.

    Raises
    ------
    UsageError
        If there is no modality, or two features have one name.
    """
    import_extra("torch")
    from cytolabe.models.scgpt.tasks import MaskedTask, MaskedWeights  # noqa: PLC0415 - needs torch to be imported

    if not cells.modalities:
        msg = "No modality was given, so that there is nothing to learn from."
        raise UsageError(msg)
    first = next(iter(cells.modalities))
    by_id = reference if learning.checkpoint else None
    names = [token for name, one in cells.modalities.items() for token in one.names if by_id is None or name != first]
    levels = np.unique(cells.batches.astype(str))
    model = _start(learning, names, n_modalities=len(cells.modalities), n_batches=len(levels), seed=seed)
    tokenizers = {
        name: _tokenizer(model, learning, measured, reference=by_id if name == first else None)
        for name, measured in cells.modalities.items()
    }
    tokens, codes = joined(_tokenized(tokenizers, cells, seed=seed))
    fit, held, note = hold_out_persons(
        cells.persons, fraction=learning.held_out_fraction, seed=derive_seed(seed, "models", "scgpt")
    )
    task = MaskedTask(
        network=model.network,
        cells=tokens,
        fit_rows=fit,
        held_rows=held,
        seed=seed,
        tokens_per_minibatch=learning.tokens_per_minibatch,
        groups=np.searchsorted(levels, cells.batches.astype(str)).astype(np.int64) if len(levels) > 1 else None,
        modalities=codes,
        weights=MaskedWeights(similarity=0.0, contrast=contrast),
    )
    _, told = run_training(learning, task, seed=seed)
    scope = fit_scope("scgpt/omics", cells.cell_ids)
    protocol = Protocol.FINE_TUNED if learning.checkpoint else Protocol.SELF_SUPERVISED
    model = learned(model, protocol=protocol, scopes=(scope,))
    notes = (note, told, *_said_of(tokenizers, learning))
    return FittedOmics(model=model, tokenizers=tokenizers, seed=seed, scopes=model.origin.scopes, notes=notes)


def _tokenizer(
    model: Scgpt, learning: Learning, measured: Measured, *, reference: GeneReference | None
) -> ScgptTokenizer:
    return ScgptTokenizer(
        vocabulary=model.vocabulary,
        genes=measured.names,
        reference=reference,
        max_length=learning.max_length or model.config.max_length,
        n_bins=model.config.n_bins,
        ties="mid" if measured.is_binary else learning.ties,
        pad_value=model.config.pad_value,
        cls_value=model.config.pad_value,
    )


def _said_of(tokenizers: Mapping[str, ScgptTokenizer], learning: Learning) -> list[str]:
    notes = []
    for name, tokenizer in tokenizers.items():
        if tokenizer.lost:
            notes.append(
                f"{len(tokenizer.lost):,} of {len(tokenizer.genes):,} features of {name} are not in the vocabulary of the checkpoint and not read"
            )
        if tokenizer.ties != learning.ties:
            notes.append(f"{name} has no value but 0 and 1: read is which features are there, in the middle bin")
    return notes


def _start(learning: Learning, names: Sequence[str], *, n_modalities: int, n_batches: int, seed: int) -> Scgpt:
    fields: dict[str, Any] = {
        "mvc_style": "inner product",
        "explicit_zero": True,
        "n_modalities": FIRST_MODALITY + n_modalities,
        "n_batches": n_batches if n_batches > 1 else 0,
        "batch_input": n_batches > 1,
        "adversary": n_batches > 1,
        "batch_norm": "none",
        "n_classes": 0,
        "generation": "none",
    }
    if not learning.checkpoint:
        return started(learning, names, seed=seed, fields=fields)
    return extended(started(learning, (), seed=seed, fields={}), names, seed=seed, fields=fields)


def _tokenized(tokenizers: Mapping[str, ScgptTokenizer], cells: OmicsCells, *, seed: int) -> list[TokenizedCells]:
    return [
        tokenizer.tokenize(cells.modalities[name].counts, cell_ids=cells.cell_ids, seed=seed)
        for name, tokenizer in tokenizers.items()
    ]
