"""totalVI: both measurements in one embedding, proteins of cells that have none, and what it refuses."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix

pytest.importorskip("scvi", reason="the [models] extra is not installed")

from cytolabe.errors import IntegrityError, RefusedError, UnmeasuredGeneError, UnreadableInputError, UsageError
from cytolabe.models import scvi_training as training
from cytolabe.models.omics import Measured, OmicsCells
from cytolabe.models.registry import is_available, make_model
from cytolabe.models.stored import MODEL_CARD_NAME, WEIGHTS_NAME
from cytolabe.models.totalvi import PROTEIN, RNA, Totalvi, _anndata, contents_digest
from cytolabe.models.totalvi_files import TOTALVI_KIND, load_totalvi, save_totalvi

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


def test_mapping_onto_a_model_of_one_library_moves_none_of_its_cells():
    cells, _ = cells_of(batches=("run1",))
    one = Totalvi(n_latent=4, n_hidden=16, max_epochs=3).fit(cells, seed=0)
    query, _ = cells_of(40, batches=("run3",), seed=5)
    np.testing.assert_allclose(one.map_query(query, epochs=2).embed(cells), one.embed(cells), atol=1e-5)
    # The background of proteins has a column for each library: that of the new one begins as scvi-tools draws it.
    with training.quiet_session(0):
        started = training.with_new_batches(type(one.model), _anndata(query, one.columns), one.model)
    assert dict(started.module.named_parameters())["background_pro_alpha"][:, 1].abs().min() > 0


def test_cells_of_known_libraries_among_the_query_move_nothing(fitted):
    cells, _ = cells_of()
    mixed, _ = cells_of(40, batches=("run1", "run3"), seed=5)
    mapped = fitted.map_query(mixed, epochs=2)
    assert mapped.batches[-1] == "run3"
    np.testing.assert_allclose(mapped.embed(cells), fitted.embed(cells), atol=1e-5)


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


def test_a_stored_model_answers_known_and_new_libraries_as_the_process_that_trained_it(fitted, tmp_path):
    card = save_totalvi(fitted, tmp_path)
    assert save_totalvi(fitted, tmp_path) == card
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    cells, _ = cells_of()
    loaded = load_totalvi(tmp_path).over(cells.modalities[RNA].features)
    assert loaded.embed(cells).tobytes() == fitted.embed(cells).tobytes()
    assert loaded.expected_proteins(cells).tobytes() == fitted.expected_proteins(cells).tobytes()
    query, _ = cells_of(40, batches=("run3",), seed=5)
    bare = without_proteins(query)
    here, there = fitted.map_query(bare, epochs=2), loaded.map_query(bare, epochs=2)
    assert there.embed(bare).tobytes() == here.embed(bare).tobytes()
    assert there.expected_proteins(bare).tobytes() == here.expected_proteins(bare).tobytes()
    assert (loaded.scopes, loaded.notes, loaded.facts) == (fitted.scopes, fitted.notes, fitted.facts)
    assert (card.name, card.scopes, card.weights_digest) == ("totalvi", fitted.scopes, fitted.facts.details["weights"])
    assert set(fitted.facts.details) == {"weights", "dictionary.genes", "dictionary.proteins", "max_length", "seed"}


def test_a_model_that_reads_some_genes_finds_them_in_a_file_with_more_in_another_order(tmp_path):
    cells, _ = cells_of()
    few = Totalvi(n_latent=4, n_hidden=16, max_epochs=2, n_top_genes=12).fit(cells, seed=0)
    save_totalvi(few, tmp_path)
    rna = cells.modalities[RNA]
    order = np.arange(30)[::-1]
    turned = dataclasses.replace(rna, counts=rna.counts[:, order], features=tuple(GENES[n] for n in order))
    other = dataclasses.replace(cells, modalities={**cells.modalities, RNA: turned})
    found = load_totalvi(tmp_path).over(turned.features)
    assert len(found.read_genes) == 12
    assert found.embed(other).tobytes() == few.embed(cells).tobytes()
    lacking = [gene for gene in GENES if gene != few.read_genes[3]]
    with pytest.raises(
        UnmeasuredGeneError, match=rf"1 of 12 genes that the model reads were not .*{few.read_genes[3]}"
    ):
        found.over(lacking)


def test_a_mapped_model_is_neither_stored_nor_opened(fitted, tmp_path, sign_again):
    query, _ = cells_of(40, batches=("run3",), seed=5)
    mapped = fitted.map_query(query, epochs=1)
    with pytest.raises(RefusedError, match=r"was mapped to 40 cells of a query.*Store the model before it is mapped"):
        save_totalvi(mapped, tmp_path)
    assert list(tmp_path.iterdir()) == []
    save_totalvi(fitted, tmp_path)
    said = json.loads((tmp_path / TOTALVI_KIND.description_name).read_bytes())
    scopes = [*said["scopes"], dataclasses.asdict(mapped.scopes[-1])]
    sign_again(tmp_path, TOTALVI_KIND.description_name, {**said, "scopes": scopes})
    with pytest.raises(RefusedError, match=r"totalvi\.json was mapped to 40 cells"):
        load_totalvi(tmp_path)


@pytest.mark.parametrize("part", ["genes", "proteins", "batches"])
def test_another_order_of_genes_proteins_or_libraries_is_refused_although_every_weight_fits(fitted, tmp_path, part):
    save_totalvi(fitted, tmp_path)
    path = tmp_path / TOTALVI_KIND.description_name
    said = json.loads(path.read_bytes())
    path.write_text(json.dumps({**said, part: said[part][::-1]}))
    told = "the description" if part == "batches" else part
    with pytest.raises(
        IntegrityError, match=rf"totalvi\.json: {told} has the digest .*; the card expects .*fit the model"
    ):
        load_totalvi(tmp_path)


def test_changed_weights_and_a_lost_card_are_refused(fitted, tmp_path, sign_again):
    save_totalvi(fitted, tmp_path)
    said = json.loads((tmp_path / TOTALVI_KIND.description_name).read_bytes())
    sign_again(tmp_path, TOTALVI_KIND.description_name, {**said, "settings": {**said["settings"], "n_hidden": 17}})
    with pytest.raises(IntegrityError, match=r"do not fit the .* of the network"):
        load_totalvi(tmp_path)
    content = (tmp_path / WEIGHTS_NAME).read_bytes()
    (tmp_path / WEIGHTS_NAME).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"weights\.safetensors has the digest"):
        load_totalvi(tmp_path)
    (tmp_path / MODEL_CARD_NAME).unlink()
    with pytest.raises(UnreadableInputError, match=r"model_card\.json is missing"):
        load_totalvi(tmp_path)


def test_contents_are_told_apart_by_one_count_and_not_by_how_they_are_stored():
    cells, _ = cells_of(20)
    rna = cells.modalities[RNA]
    dense = dataclasses.replace(rna, counts=csr_matrix(rna.counts.toarray().astype(np.float32)))
    assert contents_digest(dataclasses.replace(cells, modalities={**cells.modalities, RNA: dense})) == contents_digest(
        cells
    )
    protein = cells.modalities[PROTEIN]
    counts = protein.counts.tolil()
    counts[3, 1] += 1
    other = dataclasses.replace(protein, counts=csr_matrix(counts))
    assert contents_digest(
        dataclasses.replace(cells, modalities={**cells.modalities, PROTEIN: other})
    ) != contents_digest(cells)


def test_a_study_that_names_totalvi_is_told_why_no_atlas_can_feed_it():
    for ask in (make_model, is_available):
        with pytest.raises(UsageError, match=r"no counts of proteins.*cytolabe omics"):
            ask("totalvi")
