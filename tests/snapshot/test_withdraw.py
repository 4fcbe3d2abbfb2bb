"""A person who withdraws is in no snapshot any more, nor are copies of their cells; nothing of it names them."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import ConflictError, IntegrityError, UsageError, WithdrawnError
from cytolabe.snapshot import copies
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.snapshot.withdraw import withdraw_person


@pytest.fixture
def small_cells(monkeypatch):
    """Cells of these tests have five features; compare them all the same."""
    monkeypatch.setattr(copies, "MIN_COUNTS", 1)
    monkeypatch.setattr(copies, "MIN_GENES", 1)


def damage(path):
    return [finding.code for finding in verify_atlas(path)[1] if finding.severity.value != "note"]


def test_their_cells_leave_cells_counts_tables_and_questions(atlas):
    before = atlas.freeze("v1")
    withdraw_person(atlas, donor=("kang", "d1"))
    after = atlas.freeze("v2")
    gone = before.cells[(before.cells["dataset_id"] == "kang") & (before.cells["donor_id"] == "d1")]
    left = before.cells.drop(index=gone.index)
    assert len(gone) == 6
    assert after.cells["cell_id"].tolist() == left["cell_id"].tolist()
    genes = ["G-CD3D", "G-MS4A1"]
    expected = before.counts(left.index.to_numpy(), genes).toarray()
    assert (after.counts(np.arange(len(after.cells)), genes).toarray() == expected).all()
    assert after.datasets["kang"].n_cells == 6
    assert len(after.contributed("kang")) == 6
    blocks = list(after.iter_blocks("kang"))
    assert [name for block in blocks for name in block.cell_names] == [f"cell{row}" for row in range(0, 12, 2)]
    assert [block.start for block in blocks] == [0]
    found = after.query("SELECT cell_id, position FROM cells ORDER BY position").to_pydict()
    assert found["cell_id"] == after.cells["cell_id"].tolist()
    assert found["position"] == list(range(18))
    assert after.query("SELECT count(*) AS n FROM contributed.kang").to_pydict() == {"n": [6]}
    assert after.query("SELECT n_cells FROM datasets WHERE dataset_id = 'kang'").to_pydict() == {"n_cells": [6]}
    seen = np.concatenate([minibatch.rows.copy() for minibatch in after.stream(minibatch_size=4, seed=1)])
    assert sorted(seen.tolist()) == list(range(18))
    streamed = {}
    for minibatch in after.stream(genes=genes, minibatch_size=4, seed=1):
        streamed |= dict(zip(minibatch.rows.tolist(), minibatch.to_csr().toarray().tolist(), strict=True))
    assert [streamed[position] for position in range(18)] == expected.tolist()
    assert damage(atlas.path) == []


def test_the_working_state_forgets_them_at_once(atlas):
    withdraw_person(atlas, donor=("kang", "d1"))
    cells = atlas.cells()
    assert set(cells.loc[cells["dataset_id"] == "kang", "donor_id"]) == {"d0"}


def test_a_snapshot_from_before_opens_only_as_recorded(atlas):
    before = atlas.freeze("v1")
    cells = before.cells
    withdraw_person(atlas, donor=("kang", "d1"))
    for name in ("v1", "latest", before.snapshot_id, f"@{atlas.revision - 1}"):
        with pytest.raises(WithdrawnError, match="holds 6 cell"):
            atlas.snapshot(name)
    with pytest.raises(WithdrawnError):
        open_atlas(atlas.path).at(f"@{atlas.revision - 1}").snapshot("v1")
    assert atlas.snapshot("v1", as_recorded=True).cells.equals(cells)
    atlas.freeze("v2")
    assert len(atlas.snapshot("v2").cells) == 18


def test_a_person_is_withdrawn_with_all_donors_that_are_resolved_to_it(atlas, make):
    atlas.put_persons(make.persons(("kang", "d0", "p", "resolved"), ("zheng", "d1", "p", "resolved")))
    found = withdraw_person(atlas, donor=("zheng", "d1"))
    assert found.n_cells == {"kang": 6, "zheng": 6}
    assert not len(atlas.persons())


def test_no_published_document_names_them(atlas, make):
    atlas.put_persons(make.persons(("kang", "d1", "Mrs-Secret", "resolved")))
    withdraw_person(atlas, person_id="Mrs-Secret", author="Ada")
    atlas.freeze("v2")
    message = atlas.history()[-2].message
    assert message.startswith("withdraw p-")
    documents = [path for path in atlas.path.rglob("*.json") if "partitions" not in path.parts]
    assert not [path for path in documents if b"Mrs-Secret" in path.read_bytes()]
    table = atlas.state.overlays["withdrawals"].file
    assert b"Mrs-Secret" not in (atlas.path / "overlays" / "withdrawals" / table).read_bytes()


@pytest.mark.usefixtures("small_cells")
def test_copies_of_their_cells_go_along(atlas, make):
    # The cells of kang, written down by zheng under other names and in its own order of genes.
    kang = make.matrix("kang").toarray()
    cd3d, nkg7, ms4a1 = kang[:, 0] + kang[:, 3], kang[:, 1], kang[:, 2]
    copied = np.column_stack([ms4a1, cd3d, nkg7])
    atlas.publish([write_dataset(atlas.path, content=make.content("zheng", csr_matrix(copied)))])
    theirs = {tuple(row) for row in copied[1::2].tolist() if any(row)}
    expected = sum(tuple(row) in theirs for row in copied.tolist())
    found = withdraw_person(atlas, donor=("kang", "d1"))
    assert found.n_cells == {"kang": 6, "zheng": expected}
    assert expected >= 6
    assert len(atlas.freeze().cells) == 24 - 6 - expected


@pytest.mark.usefixtures("small_cells")
@pytest.mark.parametrize("seed", range(6))
def test_sketches_name_every_copy_and_spare_reading_the_others(tmp_path, make, monkeypatch, seed):
    monkeypatch.setattr(copies, "_BLOCK_CELLS", 1)
    rng = np.random.default_rng(seed)
    kang = rng.integers(0, 3, size=(12, 5))
    # Of kang zheng holds some cells on the genes of both, among others of its own.
    zheng = rng.integers(0, 4, size=(40, 3))
    zheng[5:11] = np.column_stack([kang[:, 2], kang[:, 0] + kang[:, 3], kang[:, 1]])[rng.permutation(12)[:6]]
    atlas = create_atlas(tmp_path / "atlas")
    contents = [make.content("kang", csr_matrix(kang)), make.content("zheng", csr_matrix(zheng))]
    atlas.publish([write_dataset(atlas.path, content=content) for content in contents])
    views = [copies.GeneView(atlas.layout, atlas.entry(name)) for name in ("kang", "zheng")]
    rows = np.arange(1, 12, 2)
    shared = tuple(sorted(set(views[0].genes) & set(views[1].genes)))
    prints = copies.fingerprints_of(views[0], rows, shared)
    among = views[1].candidates(views[0], rows, shared)
    expected = copies.copies_of(prints, views[1], shared)
    assert copies.copies_of(prints, views[1], shared, among=among).tolist() == expected.tolist()
    assert len(among) < 40
    assert len(list(views[1].fingerprints(shared, among))) == len(among)


@pytest.mark.usefixtures("small_cells")
def test_copies_that_arrive_after_a_withdrawal_are_found_when_frozen(atlas, make):
    # The features of zheng are written down again, as another data set with a cell of the person in it.
    withdraw_person(atlas, donor=("zheng", "d1"))
    matrix = make.matrix("zheng").toarray()
    kang = np.zeros((12, 5), dtype=int)
    kang[:, 0], kang[:, 1], kang[:, 2] = matrix[:, 1], matrix[:, 2], matrix[:, 0]
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", csr_matrix(kang)))])
    cells = atlas.freeze().cells
    theirs = {tuple(row) for row in matrix[1::2].tolist() if any(row)}
    expected = [f"kang:cell{row}" for row in range(12) if tuple(matrix[row].tolist()) not in theirs]
    assert cells.loc[cells["dataset_id"] == "kang", "cell_id"].tolist() == expected


def test_what_arrives_later_is_looked_through_before_it_is_frozen(atlas, make):
    withdraw_person(atlas, donor=("kang", "d1"))
    more = make.matrix("kang", n_cells=20)
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", more))])
    assert set(atlas.cells()["donor_id"][atlas.cells()["dataset_id"] == "kang"]) == {"d0"}
    snapshot = atlas.freeze()
    assert (snapshot.cells["dataset_id"] == "kang").sum() == 10
    assert set(snapshot.cells.loc[snapshot.cells["dataset_id"] == "kang", "donor_id"]) == {"d0"}


def test_a_withdrawal_that_races_with_an_ingest_is_not_lost(atlas, make):
    ingesting, withdrawing = open_atlas(atlas.path), open_atlas(atlas.path)
    entry = write_dataset(atlas.path, content=make.content("kang", make.matrix("kang", n_cells=20)))
    withdraw_person(withdrawing, donor=("kang", "d1"))
    ingesting.publish([entry])
    assert (open_atlas(atlas.path).freeze().cells["dataset_id"] == "kang").sum() == 10


def test_a_freeze_that_races_with_a_withdrawal_is_told(atlas):
    late = open_atlas(atlas.path)
    withdraw_person(atlas, donor=("kang", "d1"))
    with pytest.raises(ConflictError, match="overlays/withdrawals was changed"):
        late.freeze("v1")


def test_withdrawing_twice_changes_nothing(atlas):
    first = withdraw_person(atlas, donor=("kang", "d1"))
    again = withdraw_person(open_atlas(atlas.path), donor=("kang", "d1"))
    assert (again.withdrawal, again.revision) == (first.withdrawal, first.revision)


def test_several_withdrawals_add_up(atlas):
    withdraw_person(atlas, donor=("kang", "d1"))
    withdraw_person(atlas, donor=("zheng", "d0"))
    assert len(atlas.freeze().cells) == 12


@pytest.mark.parametrize("donor", [("kang", "nobody"), ("kang", "unknown"), ("other", "d1")])
def test_nobody_cannot_withdraw(atlas, donor):
    revision = atlas.revision
    with pytest.raises(UsageError) as told:
        withdraw_person(atlas, donor=donor)
    assert "nobody" not in str(told.value) or donor[1] != "nobody"
    assert open_atlas(atlas.path).revision == revision


def test_without_the_key_of_the_pseudonyms_nothing_is_frozen(atlas, make):
    withdraw_person(atlas, donor=("kang", "d1"))
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", make.matrix("kang", n_cells=20)))])
    (atlas.path / "withdrawals.key.json").unlink()
    assert "E-INTEGRITY-01" in damage(atlas.path)
    with pytest.raises(IntegrityError, match="cannot be recognized"):
        atlas.freeze()


def test_a_snapshot_after_a_withdrawal_has_the_id_of_its_content(atlas, make, tmp_path):
    withdraw_person(atlas, donor=("kang", "d1"))
    other = create_atlas(tmp_path / "other")
    for name in ("kang", "zheng"):
        other.publish([write_dataset(other.path, content=make.content(name, size=3))])
    other.put_mappings(atlas.mappings())
    other.put_persons(make.persons(("kang", "d0", "kang/d0", "resolved"), ("kang", "d1", "unknown", "pooled")))
    withdraw_person(other, donor=("kang", "d1"))
    assert other.freeze().snapshot_id == atlas.freeze().snapshot_id, "the keys of the two atlases differ"
