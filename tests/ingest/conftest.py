"""Small AnnData files, written by AnnData itself or by hand where a fault is planted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.testing.web_server import WebServer

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def _make_counts(n_cells=40, n_genes=60, seed=0):
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0.0, 0.6, size=(n_cells, 1))
    counts = rng.poisson(depth * rng.gamma(0.5, 3.0, size=(1, n_genes)))
    counts[:, 0] += 1
    return csr_matrix(counts.astype(np.float32))


def _make_adata(counts, **obs):
    n_cells, n_genes = counts.shape
    table = pd.DataFrame(obs, index=[f"cell{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(n_genes)])
    return anndata.AnnData(counts, obs=table, var=var)


@pytest.fixture
def counts():
    return _make_counts()


@pytest.fixture
def make_counts():
    """Counts with the scatter of real cells: every cell has a total of its own and a gene seen once."""
    return _make_counts


@pytest.fixture
def make_adata():
    return _make_adata


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    def _write(adata, name="file.h5ad", **options):
        path = tmp_path / name
        adata.write_h5ad(path, **options)
        return path

    return _write


@pytest.fixture
def plain(tmp_path, counts, write) -> Path:
    """A valid file to plant faults in."""
    return write(_make_adata(counts, cell_type=np.where(np.arange(40) < 20, "B cell", "T cell")))


@pytest.fixture
def edit():
    """Open a file for planting a fault."""
    return lambda path: h5py.File(path, "r+")


@pytest.fixture
def real():
    """Folder of real files; a test without it says so."""
    if not (REAL / "h5ad").is_dir():
        pytest.skip("the real files (../shared/data) are not here")
    return REAL / "h5ad"


@pytest.fixture
def web(monkeypatch) -> Iterator[WebServer]:
    """A server on this machine that misbehaves on request; no proxy stands before it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = WebServer()
    yield server
    server.close()
