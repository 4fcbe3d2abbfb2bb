"""totalVI: both measurements in one embedding, proteins of cells that have none, and what it refuses."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix

pytest.importorskip("scvi", reason="the [models] extra is not installed")

from cytolabe.errors import RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.models.omics import Measured, OmicsCells
from cytolabe.models.totalvi import PROTEIN, RNA, Totalvi

pytestmark = pytest.mark.models

GENES, PROTEINS = tuple(f"GENE{n}" for n in range(30)), ("CD3", "CD19", "isotype")


def cells_of(n_cells=160, *, batches=("run1", "run2"), seed=0):
    """Return cells of two kinds: each has genes and a protein of its own; one antibody binds nothing."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) // len(batches) % 2
    marks = np.where(kind[:, None] == 0, np.arange(30) < 8, np.arange(30) >= 22)
    depth = rng.lognormal(0, 0.3, (n_cells, 1))
    protein = np.stack([np.where(kind == 0, 80, 4), np.where(kind == 1, 60, 3), np.full(n_cells, 3)], axis=1)
    cells = OmicsCells(
        cell_ids=np.array([f"c{seed}-{n}" for n in range(n_cells)], dtype=object),
        modalities={
            RNA: Measured(counts=csr_matrix(rng.poisson(depth * (0.4 + 3.0 * marks))), features=GENES),
            PROTEIN: Measured(counts=csr_matrix(rng.poisson(protein)), features=PROTEINS, prefix="p_"),
        },
        batches=np.array([batches[n % len(batches)] for n in range(n_cells)], dtype=object),
        persons=np.array([f"p{n // 2 % 4}" for n in range(n_cells)], dtype=object),
    )
    return cells, kind


def without_proteins(cells):
    protein = cells.modalities[PROTEIN]
    bare = dataclasses.replace(protein, counts=csr_matrix(protein.counts.shape, dtype=protein.counts.dtype))
    return dataclasses.replace(cells, modalities={**cells.modalities, PROTEIN: bare})


@pytest.fixture(scope="module")
def fitted():
    cells, _ = cells_of()
    return Totalvi(n_latent=4, n_hidden=16, max_epochs=40).fit(cells, seed=0)


def test_a_fit_is_the_same_to_the_bit_silent_and_disturbs_no_global_generator(fitted, monkeypatch, capfd):
    reseeded = []
    monkeypatch.setattr("numpy.random.seed", lambda *seeds: reseeded.append(seeds))
    monkeypatch.setattr("random.seed", lambda *seeds: reseeded.append(seeds))
    cells, _ = cells_of()
    again = Totalvi(n_latent=4, n_hidden=16, max_epochs=40).fit(cells, seed=0)
    assert np.array_equal(again.embed(cells), fitted.embed(cells))
    assert np.array_equal(again.expected_proteins(cells), fitted.expected_proteins(cells))
    assert reseeded == []
    assert capfd.readouterr() == ("", "")
    other = Totalvi(n_latent=4, n_hidden=16, max_epochs=2).fit(cells, seed=1)
    assert not np.array_equal(other.embed(cells), fitted.embed(cells))


def test_kinds_lie_apart_and_held_out_persons_choose_the_epochs(fitted):
    cells, kind = cells_of()
    found = fitted.embed(cells)
    centers = np.stack([found[kind == one].mean(axis=0) for one in (0, 1)])
    nearest = np.linalg.norm(found[:, None] - centers[None], axis=2).argmin(axis=1)
    assert (nearest == kind).mean() > 0.95
    assert "training person(s)" in fitted.notes[0]
    assert {scope.step for scope in fitted.scopes} == {"totalvi/genes", "totalvi/epochs", "totalvi/weights"}


def test_proteins_of_a_library_without_any_are_expected_from_its_rna(fitted):
    cells, kind = cells_of(60, batches=("run3",), seed=5)
    mapped = fitted.map_query(without_proteins(cells), epochs=5)
    expected = mapped.expected_proteins(without_proteins(cells))
    truth = cells.modalities[PROTEIN].counts.toarray()
    assert expected.shape == (60, 3)
    assert np.corrcoef(np.log1p(expected[:, 0]), np.log1p(truth[:, 0]))[0, 1] > 0.8
    assert expected[kind == 1, 1].mean() > 5 * expected[kind == 0, 1].mean()
    # An antibody that binds nothing tells nobody's kind.
    assert 0.7 < expected[kind == 1, 2].mean() / expected[kind == 0, 2].mean() < 1.4
    assert mapped.scopes[-1].step == "totalvi/query"


def test_mapping_moves_no_cell_of_the_training(fitted):
    cells, _ = cells_of()
    query, _ = cells_of(40, batches=("run3",), seed=5)
    mapped = fitted.map_query(without_proteins(query), epochs=2)
    np.testing.assert_allclose(mapped.embed(cells), fitted.embed(cells), atol=1e-5)
    assert "nothing was fitted" in fitted.map_query(cells).notes[-1]


def test_what_was_not_measured_is_refused_and_never_read_as_zero(fitted):
    cells, _ = cells_of()
    with pytest.raises(RefusedError, match=r"2 training batch\(es\) have no count of any protein: run1, run2"):
        Totalvi().fit(without_proteins(cells), seed=0)
    with pytest.raises(UsageError, match="protein is missing"):
        Totalvi().fit(dataclasses.replace(cells, modalities={RNA: cells.modalities[RNA]}), seed=0)
    with pytest.raises(RefusedError, match=r"1 batch\(es\) were in neither view.*run3"):
        fitted.embed(cells_of(20, batches=("run3",))[0])
    renamed = dataclasses.replace(cells.modalities[PROTEIN], features=("CD19", "CD3", "isotype"))
    with pytest.raises(UnmeasuredGeneError, match="protein: the features are not those of the fit"):
        fitted.embed(dataclasses.replace(cells, modalities={**cells.modalities, PROTEIN: renamed}))
    with pytest.raises(RefusedError, match="needs at least 20"):
        Totalvi().fit(cells.take(np.arange(12)), seed=0)
    counts = cells.modalities[RNA].counts.tolil()
    counts[3] = 0
    empty = dataclasses.replace(cells.modalities[RNA], counts=csr_matrix(counts))
    with pytest.raises(RefusedError, match="1 of 160 cells have no count of RNA"):
        fitted.embed(dataclasses.replace(cells, modalities={**cells.modalities, RNA: empty}))
