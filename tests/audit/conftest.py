"""Small atlases for the audits: profiles deep enough that identical cells are testable."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.testing.memory import MemorySnapshot, memory_snapshot

N_GENES = 300


def deep_counts(n_cells: int, seed: int) -> np.ndarray:
    """Cells x genes, each cell with over 100 genes and over 300 counts."""
    return np.random.default_rng(seed).poisson(2.5, size=(n_cells, N_GENES))


def table_of(sizes: dict[str, int], **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"dataset_id": np.repeat(list(sizes), list(sizes.values()))})
    frame["contributor_label"] = "B cell"
    return frame.assign(**columns)


@pytest.fixture
def overlapping() -> Callable[..., MemorySnapshot]:
    """Two labs with different gene sets; `copies` cells of lab b are cells of lab a on the genes that both measure."""

    def make(*, copies: int = 3, labelled_b: int = 6, **columns: object) -> MemorySnapshot:
        genes = tuple(f"G{n:03d}" for n in range(N_GENES))
        a, b = deep_counts(6, 1), deep_counts(6, 2)
        b[:copies] = a[:copies]
        kept = {"a": slice(0, 250), "b": slice(20, 300)}
        matrices = {"a": csr_matrix(a[:, kept["a"]]), "b": csr_matrix(b[:, kept["b"]])}
        # The columns of b are stored in another order: the hash may not depend on it.
        matrices["b"] = csr_matrix(matrices["b"][:, ::-1])
        names = {"a": genes[kept["a"]], "b": genes[kept["b"]][::-1]}
        cells = table_of({"a": 6, "b": 6}, **columns)
        cells.loc[6 + labelled_b :, "contributor_label"] = ""
        return memory_snapshot(cells, matrices, genes=names)

    return make
