"""What a multi-omics scGPT says of a modality that was hidden, and which of its features such a network reads.

Every feature of the hidden modality stands as a token whose value is masked, beside all tokens of the others, and the decoder of
masked values (GEP) says its bin. Two things follow. A bin is a place among the features of the modality *in one cell*, no count: how
deeply a library was stained is neither in it nor asked. And a network that was trained behind masks of 40 % meets a modality that is masked
as a whole for the first time. Decoders that read a batch are asked for each batch of the training, and the mean is taken: that of a cell
which nobody trained on is not among them.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k, value_bins
from cytolabe.errors import UsageError
from cytolabe.genes.reference import GeneReference
from cytolabe.models.extras import import_extra
from cytolabe.models.hub import checkpoint_folder
from cytolabe.models.omics import OmicsCells
from cytolabe.models.scgpt.checkpoint import load_scgpt
from cytolabe.models.scgpt.embedder import on_device
from cytolabe.models.scgpt.omics import FIRST_MODALITY, FittedOmics
from cytolabe.models.scgpt.source import ScgptOmicsSource
from cytolabe.models.scgpt.tokens import PaddedCells, TokenizedCells
from cytolabe.models.scopes import refuse_not_finite
from cytolabe.models.variable_genes import variable_genes

__all__ = ["bins_among", "expected_bins", "read_columns"]

_TOKENS_PER_MINIBATCH = 16_384


def expected_bins(fitted: FittedOmics, cells: OmicsCells, *, hidden: str) -> Float[np.ndarray, "cells features"]:
    """Return the bin that each feature of a modality is said to have in each cell, from its other modalities alone.

    From 1 to `n_bins` - 1 where the network is right; it is not cut to that. Counts of the hidden modality are not read.

    Raises
    ------
    UnmeasuredGeneError
        As `FittedOmics.embed`.
    ModelFailedError
        If a value is not finite.
    """
    tokens, codes = fitted.read(cells.without(hidden, np.ones(len(cells.cell_ids), dtype=bool)))
    tokenizer, network = fitted.tokenizers[hidden], fitted.model.network
    code = FIRST_MODALITY + list(fitted.tokenizers).index(hidden)
    n_batches = network.config.n_batches if network.config.batch_input else 0
    found = np.zeros((len(cells.cell_ids), len(tokenizer.genes)))
    for minibatch in tokens.by_length(tokens_per_minibatch=_TOKENS_PER_MINIBATCH):
        asked = _asked(minibatch, tokenizer.tokens, mask_value=network.config.mask_value)
        modalities = _asked_codes(tokens, codes, minibatch, n_more=len(tokenizer.genes), code=code)
        for batch in range(n_batches) if n_batches else (None,):
            more = {} if batch is None else {"batches": np.full(len(minibatch.rows), batch, dtype=np.int64)}
            found[minibatch.rows] += _said(network, asked, modalities=modalities, **more)[:, minibatch.genes.shape[1] :]
    refuse_not_finite(found, model="scGPT")
    return found / max(1, n_batches)


def bins_among(counts: csr_matrix, *, n_bins: int) -> Float[np.ndarray, "cells features"]:
    """Return the bin of each count among the features of its cell, ties in the middle, 0 for what was not counted."""
    read = csr_matrix(counts, copy=True)
    read.eliminate_zeros()
    # Where ties go to the middle nothing is drawn, so that no key is read.
    keys = [np.zeros(n, dtype=np.uint64) for n in read.shape]
    bins = value_bins(read, cell_keys=keys[0], gene_keys=keys[1], n_bins=n_bins, ties="mid")
    return np.asarray(bins.toarray(), dtype=np.float64)


def read_columns(
    cells: OmicsCells, options: ScgptOmicsSource, *, genes: str, peaks: str, reference: GeneReference
) -> tuple[Mapping[str, np.ndarray], tuple[str, ...]]:
    """Return which features of genes and peaks are read, chosen on training cells, and notes; all features of others are read.

    Parameters
    ----------
    genes, peaks
        Names of the two modalities; that of the peaks need not be there.
    reference
        Leads symbols of a checkpoint to ids, where one is given: variable genes are chosen among those that it has.

    Raises
    ------
    UsageError
        If none of the genes is in the vocabulary of the checkpoint, or it is no folder of one.
    IntegrityError
        As `load_scgpt`.
    """
    notes = []
    rna = cells.modalities[genes]
    known = np.arange(len(rna.features))
    if options.checkpoint:
        expected = {"weights": options.expected} if options.expected else {}
        folder = checkpoint_folder(options.checkpoint, expected=options.expected)
        known = np.flatnonzero(load_scgpt(folder, expected=expected).vocabulary.columns(rna.features, reference) >= 0)
        if not len(known):
            msg = f"None of {len(rna.features):,} genes is in the vocabulary of the checkpoint, for example {rna.features[0]!r}. Is it of {options.organism}?"
            raise UsageError(msg)
        n_lost = len(rna.features) - len(known)
        notes.append(f"{n_lost:,} of {len(rna.features):,} genes are not in the vocabulary of the checkpoint")
    counts = csr_matrix(rna.counts[:, known])
    counted = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() > 0)
    chosen = variable_genes(log1p_cp10k(csr_matrix(counts[counted])), n_top=options.n_top_genes)
    found = {genes: known[chosen]}
    if peaks in cells.modalities:
        n_cells = np.asarray((cells.modalities[peaks].counts > 0).sum(axis=0)).ravel()
        found[peaks] = np.sort(np.argsort(-n_cells, kind="stable")[: options.n_top_peaks])
        notes.append(
            f"{len(found[peaks]):,} of {len(n_cells):,} peaks are read: those with a count in the most training cells"
        )
    return found, tuple(notes)


def _asked(minibatch: PaddedCells, tokens: np.ndarray, *, mask_value: int) -> PaddedCells:
    """Put tokens with masked values behind the tokens of each cell, its padding included."""
    shape = (len(minibatch.rows), len(tokens))
    return PaddedCells(
        rows=minibatch.rows,
        genes=np.concatenate([minibatch.genes, np.broadcast_to(tokens, shape)], axis=1),
        values=np.concatenate([minibatch.values, np.full(shape, mask_value, dtype=np.float32)], axis=1),
        padding=np.concatenate([minibatch.padding, np.zeros(shape, dtype=bool)], axis=1),
    )


def _asked_codes(
    tokens: TokenizedCells, codes: np.ndarray, minibatch: PaddedCells, *, n_more: int, code: int
) -> Int[np.ndarray, "cells tokens"]:
    place = tokens.bounds[minibatch.rows][:, None] + np.arange(minibatch.genes.shape[1])[None, :]
    own = np.where(minibatch.padding, 0, codes[np.where(minibatch.padding, 0, place)])
    return np.concatenate([own, np.full((len(minibatch.rows), n_more), code, dtype=np.int64)], axis=1)


def _said(network: object, asked: PaddedCells, **more: np.ndarray) -> np.ndarray:
    torch = import_extra("torch")
    with torch.no_grad():
        answer = network(on_device(network, asked, **more))  # type: ignore[operator]
    return np.asarray(answer.gep.values.float().cpu().numpy(), dtype=np.float64)
