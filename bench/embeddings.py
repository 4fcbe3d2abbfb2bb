"""Cells per second that a small scGPT embeds on one core: minibatches of like length beside padded full-length ones.

The network is `small` with random weights, the cells are simulated with 290 to 950 genes in the vocabulary (5th to 95th
percentile). At 1,200 tokens most of a full-length minibatch is padding; at 512 most cells are cut to 512, and what is saved is the
last layer of all tokens but the first. The plain loop runs the whole encoder. The answers are compared, and differ by rounding alone.

    python bench/embeddings.py [CELLS]
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.models.extras import import_extra
from cytolabe.models.scgpt.checkpoint import fresh_network
from cytolabe.models.scgpt.configuration import ScgptConfig
from cytolabe.models.scgpt.embedder import cell_states, on_device
from cytolabe.models.scgpt.source import PRESETS
from cytolabe.models.scgpt.tokens import PaddedCells, ScgptTokenizer, TokenizedCells
from cytolabe.models.scgpt.vocabulary import ScgptVocabulary, read_scgpt_vocabulary
from measure import Row, compared, write_rows

N_GENES, N_PADDED = 8_000, 64


def main(n_cells: int) -> None:
    """Measure and write the rows."""
    import_extra("torch").set_num_threads(1)
    content = json.dumps({f"G{number}": number for number in range(N_GENES)}).encode()
    vocabulary = read_scgpt_vocabulary(content, where="vocab.json")
    write_rows("embeddings", [row for length in (1200, 512) for row in rows(vocabulary, n_cells, max_length=length)])


def rows(vocabulary: ScgptVocabulary, n_cells: int, *, max_length: int) -> Iterator[Row]:
    """Yield the rows of one length."""
    sizes = {**PRESETS["small"], "max_length": max_length}
    network = fresh_network(
        ScgptConfig(n_tokens=len(vocabulary), pad_token=vocabulary.tokens["<pad>"], **sizes), seed=0
    )
    tokenizer = ScgptTokenizer(vocabulary=vocabulary, genes=vocabulary.genes, max_length=max_length)
    cells = tokenizer.tokenize(simulated(n_cells), cell_ids=[f"c{number}" for number in range(n_cells)], seed=0)
    ours, expected = measured(
        partial(cell_states, network), lambda: cells.by_length(tokens_per_minibatch=16_384), n_cells
    )
    for words, width, reach in (("full-length", max_length, ">= 1.5"), ("padded to the longest of 64", 0, "")):
        peer, answer = measured(partial(plain, network), lambda width=width: padded(cells, width), n_cells)
        difference = float(np.abs(answer - expected).max())
        if difference > 1e-4:
            msg = f"the two answers differ by {difference}"
            raise AssertionError(msg)
        what = f"scGPT small, cells embedded at up to {max_length:,} tokens"
        yield compared(what, "cells/s", ours=ours, peer=(words, peer), reach=reach, extra={"difference": difference})


def padded(cells: TokenizedCells, width: int) -> Iterator[PaddedCells]:
    """Yield minibatches of 64 cells in their order."""
    for start in range(0, len(cells.lengths), N_PADDED):
        yield cells.padded(np.arange(start, min(start + N_PADDED, len(cells.lengths))), width=width)


def plain(network: Any, minibatch: PaddedCells) -> np.ndarray:  # noqa: ANN401 - torch
    """Return the first state of what the whole encoder gives, as a plain loop asks for it."""
    with import_extra("torch").no_grad():
        return np.asarray(network.encode(on_device(network, minibatch)).cells.numpy())


def measured(
    embed: Callable[[PaddedCells], np.ndarray], minibatches: Callable[[], Iterator[PaddedCells]], n_cells: int
) -> tuple[float, np.ndarray]:
    """Return cells per second of processor time, and the embedding."""
    found = np.empty((n_cells, PRESETS["small"]["d_model"]), dtype=np.float32)
    before = time.process_time()
    for minibatch in minibatches():
        found[minibatch.rows] = embed(minibatch)
    return n_cells / (time.process_time() - before), found


def simulated(n_cells: int) -> csr_matrix:
    """Return counts of cells of very different depth."""
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0.0, 0.6, (n_cells, 1))
    profile = rng.gamma(0.08, 1.0, (1, N_GENES))
    return csr_matrix(rng.poisson(profile / profile.mean() * depth * 0.12))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 192)
