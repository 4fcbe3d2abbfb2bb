"""Hypothesis strategies for property tests: tables of cells, counts, gene spaces, whole snapshots in memory.

Kept out of the package's namespace, because hypothesis is needed by tests only. Everything is small on purpose: the
laws that are tested hold for six cells as for six million, and small examples shrink to readable ones.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from cytolabe.records import UNKNOWN
from cytolabe.testing.memory import MemorySnapshot, memory_snapshot

__all__ = ["cell_tables", "count_matrices", "gene_spaces", "snapshots"]

_ASSAYS = ("10x 3' v2", "10x 3' v3", UNKNOWN)
_LABELS = ("B", "NK", "T_CD4", "T_CD8", "Mono CD14", "")
_TERMS: Mapping[str, str] = {
    "B": "CL:0000236",
    "NK": "CL:0000623",
    "T_CD4": "CL:0000624",
    "T_CD8": "CL:0000625",
    "Mono CD14": "CL:0000860",
    "": UNKNOWN,
}
_POOL = tuple(f"ENSG{number:011d}" for number in range(1, 31))


def gene_spaces(*, min_genes: int = 1, max_genes: int = 12) -> st.SearchStrategy[tuple[str, ...]]:
    """Return gene ids that a data set measures: unique, in any order, from a pool of 30."""
    return st.lists(st.sampled_from(_POOL), min_size=min_genes, max_size=max_genes, unique=True).map(tuple)


def count_matrices(
    n_cells: int, n_genes: int, *, max_count: int = 50, no_empty_cells: bool = True
) -> st.SearchStrategy[csr_matrix]:
    """Return raw counts, cells x genes, int64; by default every cell has at least one count."""
    dense = arrays(np.int64, (n_cells, n_genes), elements=st.integers(0, max_count), fill=st.just(0))
    return dense.map(_filled if no_empty_cells else csr_matrix)


@st.composite
def cell_tables(
    draw: Callable[..., Any], *, min_cells: int = 1, max_cells: int = 24, max_datasets: int = 3, max_persons: int = 4
) -> pd.DataFrame:
    """Return cells with data set, donor, person, assay, label and term, as `memory_snapshot` takes them.

    Donor names collide between data sets, a person may be in several data sets, and some cells have no person, no
    label or no assay.
    """
    n_cells = draw(st.integers(min_cells, max_cells))
    datasets = [f"lab{i}" for i in range(draw(st.integers(1, min(max_datasets, n_cells))))]
    # Every data set has a cell: a data set without cells is refused long before.
    extra = draw(st.lists(st.sampled_from(datasets), min_size=n_cells - len(datasets), max_size=n_cells))
    dataset = sorted([*datasets, *extra][:n_cells])
    persons = [*(f"person{i}" for i in range(draw(st.integers(1, max_persons)))), UNKNOWN]
    person = draw(st.lists(st.sampled_from(persons), min_size=n_cells, max_size=n_cells))
    labels = draw(st.lists(st.sampled_from(_LABELS), min_size=n_cells, max_size=n_cells))
    return pd.DataFrame(
        {
            "dataset_id": dataset,
            "donor_id": [UNKNOWN if name == UNKNOWN else f"D{name[-1]}" for name in person],
            "person_id": person,
            "assay": draw(st.lists(st.sampled_from(_ASSAYS), min_size=n_cells, max_size=n_cells)),
            "contributor_label": labels,
            "cell_type_ontology_term_id": [_TERMS[label] for label in labels],
        }
    )


@st.composite
def snapshots(
    draw: Callable[..., Any], *, min_cells: int = 1, max_cells: int = 24, max_datasets: int = 3, min_genes: int = 1
) -> MemorySnapshot:
    """Return a whole snapshot in memory; its data sets measure different genes and may share none."""
    cells = draw(cell_tables(min_cells=min_cells, max_cells=max_cells, max_datasets=max_datasets))
    sizes = cells["dataset_id"].value_counts()
    genes = {str(name): draw(gene_spaces(min_genes=min_genes)) for name in sorted(sizes.index)}
    matrices = {name: draw(count_matrices(int(sizes[name]), len(measured))) for name, measured in genes.items()}
    # Run-time type checkers sample containers with the global generator, which hypothesis takes for hidden randomness.
    state = random.getstate()
    snapshot = memory_snapshot(cells, matrices, genes=genes)
    random.setstate(state)
    return snapshot


def _filled(dense: np.ndarray) -> csr_matrix:
    """Give cells without any count one count of the first gene."""
    full = dense.copy()
    full[dense.sum(axis=1) == 0, 0] = 1
    return csr_matrix(full)
