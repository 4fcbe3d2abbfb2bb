"""How the simulated labs write their files: where the counts lie, how genes and columns are called.

As labs do: counts in `X`, in a layer or in `raw`, beside log-normalized values; ids with and without version, old
symbols, a few composites; the column names of CELLxGENE, of Seurat, or the lab's own.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.encode.normalize import log1p_cp10k
from cytolabe.randomness import rng_for
from cytolabe.testing.cell_types import CELL_TYPES, DIALECTS
from cytolabe.testing.expression import ExpressionModel
from cytolabe.testing.faults import ceil_cp10k, composite_names, log_normalized
from cytolabe.testing.laboratories import LABORATORIES, Laboratory

__all__ = ["N_COMPOSITES", "Contribution", "manifest_text", "write_h5ad"]

N_COMPOSITES = 30
"""Features of the symbol file that are written `SYMBOL_ENSG...`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contribution:
    """One file before it is written; `genes` are columns of the model, in the file's order."""

    laboratory: Laboratory
    names: np.ndarray
    types: np.ndarray
    labels: np.ndarray
    donors: np.ndarray
    genes: np.ndarray
    counts: csr_matrix


def write_h5ad(path: Path, contribution: Contribution, model: ExpressionModel) -> None:
    """Write the file as its lab would: counts in X, in a layer or in raw, beside log-normalized values."""
    laboratory, counts = contribution.laboratory, contribution.counts
    var = pd.DataFrame(index=pd.Index(_feature_names(contribution, model)))
    raw_counts = csr_matrix(counts, dtype=np.float32)
    made = {"log_normalized": log_normalized, "ceil_cp10k": ceil_cp10k}.get(laboratory.matrix)
    inside = csr_matrix(made(counts), dtype=np.float32) if made else raw_counts
    if laboratory.matrix in {"layers/counts", "raw/X"}:
        inside = log1p_cp10k(counts)
    file = anndata.AnnData(X=inside, obs=_cell_table(contribution), var=var)
    if laboratory.matrix == "layers/counts":
        file.layers["counts"] = raw_counts
    if laboratory.matrix == "raw/X":
        file.raw = anndata.AnnData(X=raw_counts, obs=file.obs[[]], var=var)
    file.uns["title"] = f"{laboratory.dataset_id.replace('_', ' ').capitalize()}: blood cells (simulated)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's notes on future defaults; nothing here depends on them
        file.write_h5ad(path, compression="gzip")


def _feature_names(contribution: Contribution, model: ExpressionModel) -> list[str]:
    genes = contribution.genes
    ids = [model.genes[gene] for gene in genes]
    if contribution.laboratory.features == "versioned_ids":
        return [f"{gene_id}.{1 + int(gene_id[-2:]) % 17}" for gene_id in ids]
    if contribution.laboratory.features == "old_symbols":
        rows = rng_for(model.seed, "simulate", "composites").choice(len(ids), size=N_COMPOSITES, replace=False)
        return composite_names([model.old_symbols[gene] for gene in genes], ids, rows=rows)
    return ids


def _cell_table(contribution: Contribution) -> pd.DataFrame:
    """Return the obs table with the lab's own column names."""
    laboratory = contribution.laboratory
    donors = [laboratory.donors[i] if i >= 0 else None for i in contribution.donors]
    values = {
        # Copied cells come from a person of another lab; whoever copied them made up a name.
        "donor": [donor.name if donor else "E0" for donor in donors],
        "assay": [(donor or laboratory.donors[0]).assay for donor in donors],
        "disease": [(donor or laboratory.donors[0]).disease for donor in donors],
        "sex": [donor.sex if donor else "unknown" for donor in donors],
        "tissue": ["blood"] * len(donors),
        "suspension_type": ["cell"] * len(donors),
        "label": contribution.labels,
        "claimed_term": _terms(contribution),
    }
    table = pd.DataFrame({column: values[role] for role, column in laboratory.columns.items()})
    table.index = pd.Index(contribution.names)
    if laboratory.matrix == "layers/counts":  # this lab works with Seurat, which adds its columns
        table["orig.ident"] = laboratory.dataset_id
        table["nCount_RNA"] = np.asarray(contribution.counts.sum(axis=1)).ravel()
        table["nFeature_RNA"] = np.diff(contribution.counts.indptr)
    return table.astype(dict.fromkeys(table.select_dtypes("object"), "category"))


def manifest_text() -> str:
    """Return the manifest of the labs that wrote one."""
    lines = ["# Written by the labs that gave more than their files."]
    for laboratory in LABORATORIES:
        if laboratory.manifest:
            lines += ["", "[[dataset]]", f'file = "{laboratory.dataset_id}.h5ad"']
            lines += [f"{key} = {json.dumps(value)}" for key, value in laboratory.manifest.items()]
    return "\n".join(lines) + "\n"


def _terms(contribution: Contribution) -> list[str]:
    """Return the true term of each cell's label; the simulated type's where the lab gave none."""
    words = DIALECTS.get(contribution.laboratory.dialect, {})
    pairs = zip(contribution.labels, contribution.types, strict=True)
    return [words[label][0] if label in words else CELL_TYPES[name].term for label, name in pairs]
