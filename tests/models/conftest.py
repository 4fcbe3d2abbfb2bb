"""Small views with three well-separated types, for tests of models."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.models.protocols import QueryView, TrainView

N_GENES = 60
TERMS = np.array(["CL:0000084", "CL:0000236", "CL:0000576"], dtype=object)


def _arrays(
    dataset_id: str, n_cells: int, batches: Sequence[str], *, seed: int
) -> tuple[dict[str, object], np.ndarray]:
    rng = np.random.default_rng(seed)
    profiles = np.random.default_rng(1).gamma(0.5, 1.0, (3, N_GENES)) + 0.02
    kind = rng.integers(0, 3, n_cells)
    counts = rng.poisson(profiles[kind] * rng.uniform(1, 4, (n_cells, 1)))
    technical = pd.DataFrame(
        {
            "dataset_id": [dataset_id] * n_cells,
            "batch": [batches[cell % len(batches)] for cell in range(n_cells)],
            "assay": ["10x 3' v2"] * n_cells,
            "suspension_type": ["cell"] * n_cells,
            "site": ["unknown"] * n_cells,
        }
    )
    view = {
        "cell_ids": np.array([f"{dataset_id}:c{cell}" for cell in range(n_cells)], dtype=object),
        "counts": csr_matrix(counts, dtype=np.int64),
        "genes": tuple(f"ENSG{gene:011d}" for gene in range(N_GENES)),
        "technical": technical,
    }
    return view, kind


@pytest.fixture
def make_train() -> Callable[..., TrainView]:
    def make(n_cells: int = 150, *, batches: Sequence[str] = ("b1", "b2"), n_persons: int = 5, **changes) -> TrainView:
        view, kind = _arrays("lab1", n_cells, batches, seed=2)
        persons = np.array([f"p{cell // 2 % n_persons}" for cell in range(n_cells)], dtype=object)
        return TrainView(**{**view, "labels": TERMS[kind], "persons": persons, **changes})

    return make


@pytest.fixture
def make_query() -> Callable[..., QueryView]:
    def make(n_cells: int = 60, *, dataset_id: str = "lab0", batches: Sequence[str] = ("b1",), **changes) -> QueryView:
        view, _ = _arrays(dataset_id, n_cells, batches, seed=3)
        return QueryView(**{**view, **changes})

    return make


@pytest.fixture
def query_truth() -> Callable[[int], np.ndarray]:
    return lambda n_cells: TERMS[_arrays("lab0", n_cells, ("b1",), seed=3)[1]]


@pytest.fixture
def without_counts() -> Callable[[csr_matrix, Sequence[int]], csr_matrix]:
    """Take every count from some cells."""

    def empty(counts: csr_matrix, rows: Sequence[int]) -> csr_matrix:
        dense = counts.toarray()
        dense[list(rows)] = 0
        return csr_matrix(dense, dtype=np.int64)

    return empty


@pytest.fixture
def sign_again() -> Callable[[Path, str, Mapping[str, object]], None]:
    """Change the description of a stored model and its digest on the card with it: what is behind the digests is tested so."""

    def sign(folder: Path, name: str, description: Mapping[str, object]) -> None:
        content = json.dumps(description).encode()
        (folder / name).write_bytes(content)
        card = json.loads((folder / "model_card.json").read_bytes())
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        # The card says, too, which cells the model was fitted on.
        named = {**card["card"], "scopes": description.get("scopes", card["card"]["scopes"])}
        (folder / "model_card.json").write_text(json.dumps({**card, "card": named, "description": digest}))

    return sign
