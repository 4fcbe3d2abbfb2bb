"""Tokens per second that a small Geneformer is trained on by one core: our loop beside a plain one over padded minibatches.

Masked training of the shape `small` at up to 512 tokens, over simulated cells of 90 to 510 genes (5th to 95th percentile).
The plain loop is what a Trainer does: BertForMaskedLM of transformers with labels, AdamW, minibatches of 16 cells in random
order, filled up to full length, or to the longest of each. Ours groups cells by length and decodes hidden positions only. Only tokens
of cells count, what fills up does not. Both losses are compared on the same hidden tokens and differ by rounding alone.

    python bench/training.py [CELLS]
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from cytolabe.encode.masking import NOT_CHOSEN, masked_tokens
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.masked import MaskedTraining, masked_loss
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape, shape_named
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.training import TrainingPlan, train
from measure import Row, compared, write_rows

SIZE, N_GENES, N_POSITIONS = 16, 20_271, 512


def main(n_cells: int) -> None:
    """Measure and write the rows."""
    import_extra("torch").set_num_threads(1)
    write_rows("training", list(rows(n_cells)))


def rows(n_cells: int) -> Iterator[Row]:
    """Yield ours beside each way to fill up."""
    genes = [f"ENSG{number:011d}" for number in range(N_GENES)]
    names = ["<pad>", "<mask>", "<cls>", "<eos>", *genes]
    known = Dictionaries(
        tokens={name: number for number, name in enumerate(names)}, medians=dict.fromkeys(genes, 1.0), digests={}
    )
    shape, cells = shape_named("small"), simulated(n_cells)
    objective = MaskedTraining(
        network=blank_network(shape, seed=0), dictionaries=known, cells=cells, fit_rows=np.arange(n_cells),
        cell_ids=np.array([f"c{number}" for number in range(n_cells)], dtype=object), held_out_rows=np.arange(0), size=SIZE, seed=0,
    )  # fmt: skip
    n_tokens, n_steps = int(cells.lengths.sum()), len(objective.minibatches(0))
    difference = same_loss(objective)
    before = time.process_time()
    train(objective, TrainingPlan(n_steps=n_steps), seed=0)
    ours = n_tokens / (time.process_time() - before)
    for words, is_full in (("plain loop, full-length", True), ("plain loop, padded to the longest of 16", False)):
        peer = n_tokens / plain_epoch(objective, shape, is_full=is_full)
        yield compared(
            "Geneformer small, masked training at up to 512 tokens", "tokens/s", ours=ours, peer=(words, peer),
            reach=">= 1.5" if is_full else ">= 1", extra={"difference": difference},
        )  # fmt: skip


def plain_epoch(objective: MaskedTraining, shape: GeneformerShape, *, is_full: bool) -> float:
    """Train one epoch as a Trainer does, and return the seconds of processor time."""
    torch = import_extra("torch")
    network = blank_network(shape, seed=0).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.001)
    order = np.random.default_rng(0).permutation(len(objective.cells.lengths))
    before = time.process_time()
    for start in range(0, len(order), SIZE):
        rows = order[start : start + SIZE]
        width = N_POSITIONS if is_full else int(objective.cells.lengths[rows].max())
        loss = plain_loss(network, *hidden(objective, rows, width), lengths=objective.cells.lengths[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return time.process_time() - before


def plain_loss(network: Any, tokens: np.ndarray, asked: np.ndarray, *, lengths: np.ndarray) -> Any:  # noqa: ANN401
    """Return the loss that transformers gives to hidden tokens."""
    torch = import_extra("torch")
    mask = torch.as_tensor(np.arange(tokens.shape[1])[None] < lengths[:, None]).long()
    return network(torch.as_tensor(tokens), attention_mask=mask, labels=torch.as_tensor(asked)).loss


def hidden(objective: MaskedTraining, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of some cells with some of them hidden, and what is asked."""
    tokens = objective.cells.tokens[rows, :width]
    keys = rows.astype(np.uint64)
    genes = np.arange(4, N_GENES + 4)
    return masked_tokens(tokens, cell_keys=keys, genes=genes, mask=1, seed=0, epoch=0)


def same_loss(objective: MaskedTraining) -> float:
    """Return how far the two losses of the same hidden tokens are apart; stop where that is more than rounding."""
    torch, rows = import_extra("torch"), np.arange(SIZE)
    tokens, asked = hidden(objective, rows, N_POSITIONS)
    lengths = objective.cells.lengths[rows]
    with torch.inference_mode():
        plain = float(plain_loss(objective.network, tokens, asked, lengths=lengths))
        total, n_asked = masked_loss(objective.network, tokens, asked, lengths=lengths)
    difference = abs(float(total) / n_asked - plain)
    if n_asked != int((asked != NOT_CHOSEN).sum()) or difference > 1e-4:
        msg = f"the two losses differ by {difference}"
        raise AssertionError(msg)
    return difference


def simulated(n_cells: int) -> TokenizedCells:
    """Return cells of very different length, of genes in random order."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.4, 0.55, n_cells), 20, N_POSITIONS).astype(np.int64)
    tokens = np.zeros((n_cells, N_POSITIONS), dtype=np.int32)
    for cell, length in enumerate(lengths):
        tokens[cell, :length] = [2, *(rng.choice(N_GENES, length - 2, replace=False) + 4), 3]
    return TokenizedCells(tokens=tokens, lengths=lengths)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
