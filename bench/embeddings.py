"""Cells per second that a small scGPT and a small Geneformer embed on one core: minibatches of like length beside padded ones.

The networks are `small` with random weights. Cells of scGPT are simulated with 290 to 950 genes in the vocabulary (5th to 95th
percentile). At 1,200 tokens most of a full-length minibatch is padding; at 512 most cells are cut to 512, and what is saved is the
last layer of all tokens but the first. The plain loop runs the whole encoder. Cells of Geneformer are those of `bench/training.py`
(90 to 510 genes), read by their mean over genes after the last layer, so that both loops run every layer; the plain one is BertModel of
transformers. The answers are compared, and differ by rounding alone.

    python bench/embeddings.py [CELLS [geneformer|scgpt]]
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
from cytolabe.models.geneformer.embedder import PoolingRule, pooled_states
from cytolabe.models.geneformer.minibatches import by_length
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import shape_named
from cytolabe.models.geneformer.tokenizer import TokenizedCells as RankedCells
from cytolabe.models.scgpt.checkpoint import fresh_network
from cytolabe.models.scgpt.configuration import ScgptConfig
from cytolabe.models.scgpt.embedder import cell_states, on_device
from cytolabe.models.scgpt.source import PRESETS
from cytolabe.models.scgpt.tokens import PaddedCells, ScgptTokenizer, TokenizedCells
from cytolabe.models.scgpt.vocabulary import ScgptVocabulary, read_scgpt_vocabulary
from measure import Row, compared, write_rows
from training import simulated as ranked_cells

N_GENES, N_PADDED = 8_000, 64
TOKENS_PER_MINIBATCH = 16_384


def main(n_cells: int, *, only: str = "") -> None:
    """Measure and write the rows."""
    import_extra("torch").set_num_threads(1)
    found = [] if only == "geneformer" else rows_of_scgpt(n_cells)
    write_rows("embeddings", [*found, *([] if only == "scgpt" else rows_of_geneformer(n_cells))])


def rows_of_scgpt(n_cells: int) -> list[Row]:
    """Return the rows of both lengths."""
    content = json.dumps({f"G{number}": number for number in range(N_GENES)}).encode()
    vocabulary = read_scgpt_vocabulary(content, where="vocab.json")
    return [row for length in (1200, 512) for row in rows(vocabulary, n_cells, max_length=length)]


def rows_of_geneformer(n_cells: int) -> Iterator[Row]:
    """Yield ours beside each way to fill up."""
    shape, cells = shape_named("small"), ranked_cells(n_cells)
    network = blank_network(shape, seed=0)
    like = list(by_length(cells.lengths, tokens_per_minibatch=TOKENS_PER_MINIBATCH))
    in_order = np.split(np.arange(n_cells), range(N_PADDED, n_cells, N_PADDED))
    rule = PoolingRule(n_layers=shape.n_layers, pooling="mean")

    def by_ours(rows: np.ndarray, width: int) -> np.ndarray:
        return pooled_states(network, cells.tokens[rows, :width], cells.lengths[rows], rule=rule)

    ours, expected = over_minibatches(by_ours, like, cells, width=0)
    for words, width, reach in (
        ("full-length", shape.n_positions, ">= 1.5"),
        ("padded to the longest of 64", 0, ""),
    ):
        peer, answer = over_minibatches(partial(plain_bert, network, cells), in_order, cells, width=width)
        difference = same(answer, expected)
        what = f"Geneformer small, cells embedded at up to {shape.n_positions:,} tokens"
        yield compared(what, "cells/s", ours=ours, peer=(words, peer), reach=reach, extra={"difference": difference})


def over_minibatches(
    embed: Callable[[np.ndarray, int], np.ndarray], minibatches: list[np.ndarray], cells: RankedCells, *, width: int
) -> tuple[float, np.ndarray]:
    """Return cells per second of processor time, and the embedding; width 0 is that of the longest cell of a minibatch."""
    n_cells = len(cells.lengths)
    found = np.empty((n_cells, shape_named("small").width), dtype=np.float32)
    before = time.process_time()
    for rows in minibatches:
        found[rows] = embed(rows, width or int(cells.lengths[rows].max()))
    return n_cells / (time.process_time() - before), found


def plain_bert(network: Any, cells: RankedCells, rows: np.ndarray, width: int) -> np.ndarray:  # noqa: ANN401, PLR0917
    """Return the mean state of the genes of each cell as a plain loop over BertModel has it."""
    torch = import_extra("torch")
    places, lengths = torch.arange(width)[None], torch.as_tensor(cells.lengths[rows])[:, None]
    with torch.inference_mode():
        ids = torch.as_tensor(cells.tokens[rows, :width].astype(np.int64))
        states = network.bert(input_ids=ids, attention_mask=(places < lengths).long()).last_hidden_state
        genes = ((places > 0) & (places < lengths - 1)).float()[..., None]
        return np.asarray(((states * genes).sum(dim=1) / genes.sum(dim=1)).numpy())


def same(answer: np.ndarray, expected: np.ndarray) -> float:
    """Return how far two embeddings are apart; stop where that is more than rounding."""
    difference = float(np.abs(answer - expected).max())
    if difference > 1e-4:
        msg = f"the two answers differ by {difference}"
        raise AssertionError(msg)
    return difference


def rows(vocabulary: ScgptVocabulary, n_cells: int, *, max_length: int) -> Iterator[Row]:
    """Yield the rows of one length."""
    sizes = {**PRESETS["small"], "max_length": max_length}
    network = fresh_network(
        ScgptConfig(n_tokens=len(vocabulary), pad_token=vocabulary.tokens["<pad>"], **sizes), seed=0
    )
    tokenizer = ScgptTokenizer(vocabulary=vocabulary, genes=vocabulary.genes, max_length=max_length)
    cells = tokenizer.tokenize(simulated(n_cells), cell_ids=[f"c{number}" for number in range(n_cells)], seed=0)
    ours, expected = measured(
        partial(cell_states, network), lambda: cells.by_length(tokens_per_minibatch=TOKENS_PER_MINIBATCH), n_cells
    )
    for words, width, reach in (("full-length", max_length, ">= 1.5"), ("padded to the longest of 64", 0, "")):
        peer, answer = measured(partial(plain, network), lambda width=width: padded(cells, width), n_cells)
        difference = same(answer, expected)
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
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 192, only=sys.argv[2] if len(sys.argv) > 2 else "")
