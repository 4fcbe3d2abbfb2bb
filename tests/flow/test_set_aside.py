"""While the counts of a file are written, what is known of each of its cells lies on the disk."""

import gc
import weakref

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.flow import contribute as contribution
from cytolabe.flow import work
from cytolabe.flow.examine import Accepted
from cytolabe.flow.means import Means
from cytolabe.flow.set_aside import fingerprints_aside, set_aside
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ingest.counts import find_counts
from cytolabe.ingest.source import open_source
from cytolabe.store.plan import PartitionPlan, read_plan, write_plan

GENES = 20
"""Genes of each cell."""


def write_lab(path, n_cells):
    rng = np.random.default_rng(5)
    features = sorted(load_reference().protein_coding)[: 20 * GENES]
    indices = rng.integers(0, 20, size=(n_cells, GENES)) + 20 * np.arange(GENES)
    counts = rng.geometric(0.5, size=n_cells * GENES).astype(np.float32)
    matrix = csr_matrix((counts, indices.ravel(), GENES * np.arange(n_cells + 1)), shape=(n_cells, len(features)))
    table = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(rng.integers(0, 4, n_cells), ["B cell", "NK", "T cell", "monocyte"]),
            "donor_id": pd.Categorical.from_codes(rng.integers(0, 2, n_cells), ["d1", "d2"]),
        },
        index=[f"cell{number}" for number in range(n_cells)],
    )
    anndata.AnnData(X=matrix, obs=table, var=pd.DataFrame(index=features)).write_h5ad(path)
    return path


def test_what_is_set_aside_of_the_cells_comes_back_range_by_range(tmp_path):
    with open_source(write_lab(tmp_path / "lab.h5ad", 1_000)) as opened:
        proof, names = find_counts(opened), opened.cell_names
    (tmp_path / "aside").mkdir()
    aside = set_aside(proof, names, tmp_path / "aside")
    assert aside.names == names
    assert aside.names.part(3, 5) == names[3:5]
    for start, stop in ((0, 1_000), (0, 1), (700, 1_000), (5, 5)):
        assert np.array_equal(aside.genes_of(start, stop), proof.cell_genes[start:stop])
        assert np.array_equal(fingerprints_aside(aside.fingerprints, start, stop), proof.fingerprints[start:stop])


def test_when_counts_are_written_nothing_that_has_a_value_per_cell_is_held(tmp_path, monkeypatch):
    held, alive = {}, []
    keep, write_part = contribution.set_aside, work.write_part

    def keep_and_note(proof, names, folder):
        made = next(item for item in gc.get_objects() if isinstance(item, Accepted) and item.proof is proof)
        arrays = {name: getattr(proof, name) for name in ("cell_totals", "cell_genes", "fingerprints")}
        tables = {"cells": made.cells, "contributed": made.contributed}
        held.update({name: weakref.ref(item) for name, item in {**arrays, **tables, "names": names}.items()})
        return keep(proof, names, folder)

    def write_and_look(task):
        gc.collect()
        alive.append([name for name, found in held.items() if found() is not None])
        return write_part(task)

    monkeypatch.setattr(contribution, "set_aside", keep_and_note)
    monkeypatch.setattr(work, "write_part", write_and_look)
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [write_lab(tmp_path / "lab.h5ad", 2_000)], means=Means())
    assert outcome.status == "accepted"
    assert len(held) == 6
    assert alive
    assert alive == [[]] * len(alive)


def test_the_pointers_of_a_plan_are_read_where_they_are_looked_at(tmp_path):
    plan = PartitionPlan(dataset_id="lab", features=("a",), first_row=0, indptr=np.arange(11), largest=1)
    write_plan(tmp_path, plan)
    found = read_plan(tmp_path).indptr
    assert np.array_equal(found, plan.indptr)
    assert isinstance(found.base, np.memmap)
