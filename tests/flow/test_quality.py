"""Quality is measured once, kept beside the atlas, asked in SQL, freed with its data set, and never part of an id."""

import errno
import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, vstack
from sklearn.metrics import roc_auc_score

from cytolabe.errors import UsageError
from cytolabe.files import local
from cytolabe.flow.contribute import contribute
from cytolabe.flow.quality import flagged_positions, purity_of, quality_document, quality_of_snapshot, quality_where
from cytolabe.genes.reference import load_reference
from cytolabe.ingest.sources import find_sources
from cytolabe.quality.doublets import fit_doublets
from cytolabe.quality.thresholds import load_thresholds
from cytolabe.randomness import rng_for
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.upkeep import free_unreachable
from cytolabe.snapshot.withdraw import withdraw_person

N_CELLS, N_DOUBLETS = 300, 8


def write_library(path, *, seed):
    """Write one library of three types with doublets of two types at its end, a cell of few genes, and a stressed one."""
    rng = np.random.default_rng(seed)
    reference = load_reference()
    mt = sorted(s for s in reference.primary.ids_of if s.startswith("MT-") and not s.startswith(("MT-T", "MT-R")))
    others = [s for s in sorted(reference.primary.ids_of) if not s.startswith(("MT-", "ENSG"))][::6][:5200]
    markers = ["CD3D", "CD79A", "MALAT1"]
    genes = list(dict.fromkeys([*mt, *markers, *others]))
    mean = rng.lognormal(-2.0, 1.2, len(genes))
    mean[: len(mt)] = 1.5
    profiles = []
    for kind in range(3):
        profile = mean.copy()
        profile[len(mt) + 3 + 150 * kind : len(mt) + 153 + 150 * kind] *= 20.0
        profile[genes.index("CD3D")] = 6.0 if kind == 0 else 0.01
        profile[genes.index("CD79A")] = 6.0 if kind == 1 else 0.01
        profiles.append(profile)
    types = np.concatenate([rng.integers(0, 3, N_CELLS), np.tile([0, 1, 1, 2], N_DOUBLETS // 2)])
    counts = csr_matrix(rng.poisson(np.array(profiles)[types]))
    pairs = counts[N_CELLS::2] + counts[N_CELLS + 1 :: 2]
    together = vstack([counts[:N_CELLS], pairs]).tolil()
    together[0, len(mt) :] = together[0, len(mt) :].multiply(rng.random(len(genes) - len(mt)) < 0.02)
    together[1, : len(mt)] = 400
    together[0, : len(mt)] = 0
    labels = np.array(["T cell", "B cell", "monocyte"])[np.concatenate([types[:N_CELLS], np.zeros(N_DOUBLETS, int)])]
    obs = pd.DataFrame({"cell_type": labels, "donor_id": "d1"}, index=[f"c{i}" for i in range(len(labels))])
    anndata.AnnData(csr_matrix(together, dtype=np.float32), obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(path)


def frozen_library(home):
    write_library(home / "lib.h5ad", seed=1)
    atlas = create_atlas(home / "atlas")
    sources, _ = find_sources([home / "lib.h5ad"])
    (outcome,) = contribute(atlas, sources)
    assert outcome.status == "accepted", outcome.findings
    return atlas, atlas.freeze()


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    return frozen_library(tmp_path_factory.mktemp("quality"))


def test_before_it_is_measured_a_question_is_refused_and_says_how(tmp_path):
    _, snapshot = frozen_library(tmp_path)
    with pytest.raises(UsageError, match="cytolabe snapshot quality"):
        snapshot.query("SELECT count(*) FROM quality")
    assert snapshot.query("WITH quality AS (SELECT 1 AS one) SELECT one FROM quality").to_pydict() == {"one": [1]}


def test_planted_cells_are_flagged_and_stay_in_the_atlas(frozen):
    atlas, snapshot = frozen
    before = snapshot.snapshot_id
    found = quality_of_snapshot(atlas.layout, snapshot)
    cells = found["lib"].cells
    assert cells["low_genes"].iloc[0]
    assert cells["high_mt"].iloc[1]
    is_doublet = np.arange(len(cells)) >= N_CELLS
    # Flags are strict, so that few singlets get one; the score tells far more.
    assert cells["likely_doublet"][is_doublet].mean() > 0.25
    assert cells["likely_doublet"][~is_doublet].mean() < 0.03
    assert roc_auc_score(is_doublet, cells["doublet_score"]) > 0.9
    assert atlas.freeze().snapshot_id == before, "quality enters no id"
    np.testing.assert_array_equal(flagged_positions(snapshot, found), cells["is_flagged"])
    share = snapshot.query("SELECT sum(is_flagged::INT) AS n FROM quality q JOIN cells c USING (dataset_id, row)")
    assert share.to_pydict()["n"] == [int(cells["is_flagged"].sum())]


def test_an_atlas_that_cannot_be_written_is_measured_all_the_same(tmp_path, monkeypatch):
    atlas, snapshot = frozen_library(tmp_path)
    usual, disk = local.operations, local.Operations()

    def denied(path, *rest):
        if path.is_relative_to(atlas.path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return type(disk).open(disk, path, *rest)

    before = sorted(tmp_path.rglob("*"))
    said = []
    monkeypatch.setattr(usual, "open", denied)
    measured = quality_of_snapshot(atlas.layout, snapshot, on_progress=said.append)
    monkeypatch.undo()
    assert any("not kept, because this atlas cannot be written (Permission denied)" in line for line in said)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {path for path in before if path.is_file()}
    kept = quality_of_snapshot(atlas.layout, snapshot)
    pd.testing.assert_frame_equal(measured["lib"].cells, kept["lib"].cells)
    assert measured["lib"].record == kept["lib"].record


def test_a_full_disk_is_no_atlas_that_cannot_be_written(tmp_path, monkeypatch):
    atlas, snapshot = frozen_library(tmp_path)

    def full(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(local.operations, "open", full)
    with pytest.raises(OSError, match="No space left"):
        quality_of_snapshot(atlas.layout, snapshot)


def test_what_cannot_be_assessed_is_null_and_says_why(frozen):
    atlas, snapshot = frozen
    found = quality_of_snapshot(atlas.layout, snapshot)
    document = json.loads(json.dumps(quality_document(snapshot, found)))
    (row,) = document["datasets"]
    assert row["states"]["ambient_fraction"]["state"] == "not_assessable"
    assert row["states"]["nuclear_fraction"]["state"] == "not_assessable"
    assert row["states"]["mt_fraction"] == {"state": "measured", "reason": ""}
    assert row["medians"]["nuclear_fraction"] is None
    assert row["medians"]["mt_fraction"] > 0
    assert row["n_cells"] == N_CELLS + N_DOUBLETS


def test_a_second_look_reads_what_is_there(frozen, monkeypatch):
    atlas, snapshot = frozen
    first = quality_of_snapshot(atlas.layout, snapshot)
    monkeypatch.setattr("cytolabe.flow.quality.fit_doublets", None)
    again = quality_of_snapshot(atlas.layout, snapshot)
    pd.testing.assert_frame_equal(first["lib"].cells, again["lib"].cells)


def test_purity_needs_a_mapping_and_says_where_there_is_none(frozen):
    atlas, snapshot = frozen
    table = purity_of(snapshot, "lib", quality_of_snapshot(atlas.layout, snapshot)["lib"])
    assert set(table["state"]) == {"not_mapped"}


def test_gc_keeps_quality_of_what_is_reached_and_frees_it_with_its_data_set(tmp_path):
    write_library(tmp_path / "lib.h5ad", seed=2)
    atlas = create_atlas(tmp_path / "atlas")
    contribute(atlas, find_sources([tmp_path / "lib.h5ad"])[0])
    snapshot = atlas.freeze()
    quality_of_snapshot(atlas.layout, snapshot)
    kept = sorted(path.name for path in atlas.layout.quality.iterdir())
    assert len(kept) == 2
    free_unreachable(atlas, grace_seconds=0.0)
    assert sorted(path.name for path in atlas.layout.quality.iterdir()) == kept
    # An entry that nobody has: its document and its table are nobody's.
    (document,) = atlas.layout.quality.glob("*.json")
    document.write_bytes(b"{}")
    free_unreachable(atlas, grace_seconds=0.0)
    assert list(atlas.layout.quality.iterdir()) == []


def test_a_filter_tells_of_the_matching_cells_and_measures_nothing_anew(frozen):
    atlas, snapshot = frozen
    whole = quality_of_snapshot(atlas.layout, snapshot)
    part = quality_where(snapshot, whole, "contributor_label = 'B cell'")
    labels = snapshot.cells["contributor_label"].to_numpy()
    pd.testing.assert_frame_equal(part["lib"].cells, whole["lib"].cells[labels == "B cell"].reset_index(drop=True))
    (row,) = quality_document(snapshot, part)["datasets"]
    assert row["n_cells"] == (labels == "B cell").sum() < len(labels)
    assert {purity["contributor_label"] for purity in row["marker_purity"]} == {"B cell"}
    assert quality_where(snapshot, whole, "contributor_label = 'none of them'") == {}


def test_layers_of_introns_and_exons_give_the_nuclear_fraction_its_flag_and_a_withdrawal_takes_the_rows(tmp_path):
    """Ambient debris is what has cytoplasmic transcripts only: three of its cells stand in a library of 60 nuclei."""
    rng = np.random.default_rng(4)
    genes = sorted(load_reference().protein_coding)[:600]
    spliced, unspliced = rng.poisson(2.0, size=(60, 600)), rng.poisson(4.0, size=(60, 600))
    unspliced[:3] = rng.poisson(0.05, size=(3, 600))
    layers = {"spliced": csr_matrix(spliced * 1.0), "unspliced": csr_matrix(unspliced * 1.0)}
    obs = pd.DataFrame({"donor_id": np.repeat(["d1", "d2"], 30)}, index=[f"c{i}" for i in range(60)])
    x = csr_matrix((spliced + unspliced) * 1.0)
    anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=genes), layers=layers).write_h5ad(tmp_path / "nuclei.h5ad")
    atlas = create_atlas(tmp_path / "atlas")
    contribute(atlas, find_sources([tmp_path / "nuclei.h5ad"])[0])
    frozen = atlas.freeze()
    found = quality_of_snapshot(atlas.layout, frozen)["nuclei"]
    wanted = unspliced.sum(axis=1) / (spliced + unspliced).sum(axis=1)
    np.testing.assert_allclose(found.cells["nuclear_fraction"], wanted)
    assert found.record.states["nuclear_fraction"]["state"] == "measured"
    assert np.flatnonzero(found.cells["low_nuclear"]).tolist() == [0, 1, 2]
    [asked] = frozen.query('SELECT sum("layer_counts.unspliced") AS n FROM contributed.nuclei').to_pylist()
    assert int(asked["n"]) == unspliced.sum()
    withdraw_person(atlas, donor=("nuclei", "d1"))
    left = quality_of_snapshot(atlas.layout, atlas.freeze())["nuclei"]
    np.testing.assert_allclose(left.cells["nuclear_fraction"], wanted[30:])


LIBRARIES = {"deep": 110, "shallow": 120, "few": 99}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """An atlas of a file with three libraries, one of them small, of a panel and of read counts; and its quality."""
    folder, rng = tmp_path_factory.mktemp("libraries"), np.random.default_rng(8)
    genes = sorted(load_reference().protein_coding)[:550]
    names = np.repeat(list(LIBRARIES), list(LIBRARIES.values()))
    kinds = rng.integers(0, 2, len(names)) + 2 * (names == "shallow")
    profiles = rng.lognormal(-0.5, 1.0, size=(4, 550))
    depth = np.where(names == "deep", 4.0, 1.0)
    counts = rng.poisson(profiles[kinds] * depth[:, None] + 0.05).astype(np.float32)
    obs = pd.DataFrame({"library_id": names, "donor_id": "d1"}, index=[f"c{i}" for i in range(len(names))])
    for name, n_genes in {"libs": 550, "panel": 300, "smart": 550}.items():
        table = anndata.AnnData(csr_matrix(counts[:, :n_genes]), obs=obs, var=pd.DataFrame(index=genes[:n_genes]))
        table.write_h5ad(folder / f"{name}.h5ad")
        counts = counts[::-1].copy()
    (folder / "manifest.toml").write_text('[[dataset]]\nfile = "smart.h5ad"\nmatrix_kind = "reads"\n')
    atlas = create_atlas(folder / "atlas")
    outcomes = contribute(atlas, find_sources([folder])[0])
    assert [outcome.status for outcome in outcomes] == ["accepted"] * 3, outcomes
    snapshot = atlas.freeze()
    return snapshot, quality_of_snapshot(atlas.layout, snapshot)


def test_a_doublet_is_looked_for_among_the_cells_of_its_own_library(libraries):
    snapshot, found = libraries
    cells, settings = found["libs"].cells, load_thresholds().doublet
    genes = snapshot.measured_genes("libs")
    own = np.flatnonzero((snapshot.cells["dataset_id"] == "libs").to_numpy())
    for name in ("deep", "shallow"):
        is_here = (cells["library"] == name).to_numpy()
        assert is_here.sum() == LIBRARIES[name]
        counts = snapshot.counts(own[is_here], genes)
        model = fit_doublets(counts, settings, rng=rng_for(settings.seed, "quality", "doublets"))
        alone = model.scores(counts, own=np.arange(LIBRARIES[name]))
        np.testing.assert_allclose(cells["doublet_score"][is_here], alone)
    assert [row["n_cells"] for row in found["libs"].record.libraries] == [110, 99, 120]


def test_a_library_of_few_cells_has_no_doublet_score_and_says_so(libraries):
    _, found = libraries
    cells, record = found["libs"].cells, found["libs"].record
    assert cells["doublet_score"].isna().to_numpy().tolist() == (cells["library"] == "few").tolist()
    assert record.states["doublet_score"] == {"state": "partial", "reason": "2 of 3 libraries can be assessed"}
    (few,) = [row for row in record.libraries if row["library"] == "few"]
    assert (few["state"], few["reason"]) == ("not_assessable", "under 100 cells")
    assert few["detectable_doublet_fraction"] is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [("panel", "a panel of 300 genes"), ("smart", "reads counts: two cells do not add up to a doublet of reads")],
)
def test_panels_and_reads_have_no_doublet_score(libraries, name, reason):
    _, found = libraries
    assert found[name].record.states["doublet_score"] == {"state": "not_assessable", "reason": reason}
    assert found[name].cells["doublet_score"].isna().all()
    assert not found[name].cells["likely_doublet"].any()
    assert {row["reason"] for row in found[name].record.libraries} == {reason}
