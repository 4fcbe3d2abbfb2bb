"""A hidden modality is said from the others alone, in bins within a cell."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

from cytolabe.errors import UsageError  # noqa: E402
from cytolabe.genes.reference import load_reference  # noqa: E402
from cytolabe.models.omics import Measured, OmicsCells  # noqa: E402
from cytolabe.models.scgpt.checkpoint import save_scgpt  # noqa: E402
from cytolabe.models.scgpt.learning import started  # noqa: E402
from cytolabe.models.scgpt.omics import fit_omics, random_control  # noqa: E402
from cytolabe.models.scgpt.omics_hidden import bins_among, expected_bins, read_columns  # noqa: E402
from cytolabe.models.scgpt.source import ScgptOmicsSource  # noqa: E402
from cytolabe.models.weights import stored_digest  # noqa: E402
from cytolabe.records import Protocol  # noqa: E402

pytestmark = pytest.mark.models

QUICK = ScgptOmicsSource(
    preset="tiny", n_steps=2, learning_rate=3e-3, warm_up=1, ties="mid", tokens_per_minibatch=512, check_every=20,
    patience=50,
)  # fmt: skip


def cells_of(seed, *, n_batches=1, n_cells=48):
    """Return two kinds of cells, whose antibodies A and B follow the genes, and a third that binds all alike."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 2
    is_own = np.where(kind[:, None] == 0, np.arange(16) < 8, np.arange(16) >= 8)
    protein = np.stack([np.where(kind == 0, 80, 4), np.where(kind == 1, 60, 3), np.full(n_cells, 12)], axis=1)
    return OmicsCells(
        cell_ids=np.array([f"c{seed}{n}" for n in range(n_cells)], dtype=object),
        modalities={
            "rna": Measured(
                counts=csr_matrix(rng.poisson(0.3 + 4 * is_own)), features=tuple(f"G{n}" for n in range(16))
            ),
            "protein": Measured(counts=csr_matrix(rng.poisson(protein)), features=("A", "B", "C"), prefix="p_"),
        },
        batches=np.array([f"b{n % n_batches}" for n in range(n_cells)], dtype=object),
        persons=np.array([f"p{n // 2 % 4}" for n in range(n_cells)], dtype=object),
    )


def test_what_the_genes_tell_of_hidden_proteins_is_learned_and_a_random_network_knows_nothing_of_it():
    fitted = fit_omics(cells_of(0), dataclasses.replace(QUICK, n_steps=300, warm_up=20, check_every=50), seed=0)
    held = cells_of(1)
    truth = bins_among(held.modalities["protein"].counts, n_bins=51)
    said = expected_bins(fitted, held, hidden="protein")
    control = random_control(fitted, seed=0)
    assert control.model.origin.protocol is Protocol.CONTROL
    assert control.scopes == ()
    assert control.facts.details["weights"] == stored_digest(control.model.network.state_dict())
    assert control.facts.details["weights"] == random_control(fitted, seed=0).model.weights_digest
    assert control.facts.details["weights"] != fitted.facts.details["weights"] == fitted.model.weights_digest
    guessed = expected_bins(control, held, hidden="protein")
    for antibody in (0, 1):
        assert np.corrcoef(said[:, antibody], truth[:, antibody])[0, 1] > 0.8
        assert np.abs(said - truth)[:, antibody].mean() < np.abs(guessed - truth)[:, antibody].mean()


@pytest.mark.parametrize("n_batches", [1, 2])
def test_counts_of_a_hidden_modality_and_the_library_of_a_cell_are_not_read(n_batches):
    fitted = fit_omics(cells_of(0, n_batches=n_batches), QUICK, seed=0)
    held = cells_of(1)
    said = expected_bins(fitted, held, hidden="protein")
    assert said.shape == (48, 3)
    # Not merely more of each: bins within a cell would be the same.
    turned = csr_matrix(held.modalities["protein"].counts.toarray()[:, ::-1])
    other = dataclasses.replace(held.modalities["protein"], counts=turned)
    changed = dataclasses.replace(
        held, modalities={**held.modalities, "protein": other}, batches=np.full(48, "new", dtype=object)
    )
    np.testing.assert_array_equal(expected_bins(fitted, changed, hidden="protein"), said)
    # Neither do other cells move it, nor the fill of its minibatch.
    alone = expected_bins(fitted, held.take(np.array([5])), hidden="protein")
    np.testing.assert_allclose(alone[0], said[5], atol=1e-4)
    hidden_rna = expected_bins(fitted, held, hidden="rna")
    assert hidden_rna.shape == (48, 16)


def test_bins_are_places_within_a_cell_whatever_its_depth():
    counts = csr_matrix(np.array([[1, 10, 100, 0], [5, 50, 500, 0], [0, 0, 0, 0]]))
    bins = bins_among(counts, n_bins=51)
    np.testing.assert_array_equal(bins[0], bins[1])
    assert bins[0, 3] == 0
    assert (np.diff(bins[0, :3]) > 0).all()
    assert (bins[2] == 0).all()


def test_read_are_variable_genes_that_the_checkpoint_has_and_the_peaks_of_most_cells(tmp_path):
    reference = load_reference()
    genes = tuple(sorted(reference.protein_coding)[:20])
    rng = np.random.default_rng(0)
    peaks = csr_matrix((rng.random((30, 5)) < np.array([0.9, 0.1, 0.8, 0.0, 0.5])).astype(np.int64))
    cells = OmicsCells(
        cell_ids=np.array([f"c{n}" for n in range(30)], dtype=object),
        modalities={
            "rna": Measured(counts=csr_matrix(rng.poisson(2, (30, 20))), features=genes),
            "peak": Measured(counts=peaks, features=tuple(f"chr1:{n}-{n + 1}" for n in range(5))),
        },
        batches=np.full(30, "b", dtype=object),
        persons=np.full(30, "p", dtype=object),
    )
    options = dataclasses.replace(QUICK, n_top_genes=8, n_top_peaks=3)
    names = {"genes": "rna", "peaks": "peak", "reference": reference}
    columns, _ = read_columns(cells, options, **names)
    assert columns["peak"].tolist() == [0, 2, 4]
    assert len(columns["rna"]) == 8
    known = [reference.primary.symbols[gene] for gene in genes[:6]]
    save_scgpt(started(QUICK, known, seed=0, fields={}), tmp_path / "some")
    led, notes = read_columns(cells, dataclasses.replace(options, checkpoint=tmp_path / "some"), **names)
    assert set(led["rna"].tolist()) <= set(range(6))
    assert any("genes are not in the vocabulary of the checkpoint" in note for note in notes)
    save_scgpt(started(QUICK, ["no", "gene"], seed=0, fields={}), tmp_path / "none")
    with pytest.raises(UsageError, match="None of 20 genes is in the vocabulary"):
        read_columns(cells, dataclasses.replace(options, checkpoint=tmp_path / "none"), **names)
