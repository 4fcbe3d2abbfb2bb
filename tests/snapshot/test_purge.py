"""What is purged is gone from the disk, told by `verify`, and finished by `recover` where it was interrupted."""

import shutil

import numpy as np
import pytest

from cytolabe.errors import UsageError, WithdrawnError
from cytolabe.files import local
from cytolabe.snapshot import purge
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.purge import purge_withdrawn
from cytolabe.snapshot.upkeep import recover_atlas
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.snapshot.withdraw import withdraw_person
from cytolabe.store.tables import read_table
from cytolabe.testing.disk import FailingOperations


def found(path, severity):
    return [finding.code for finding in verify_atlas(path)[1] if finding.severity.value == severity]


@pytest.fixture
def withdrawn(atlas, make):
    """An atlas with a snapshot of a person who withdrew since."""
    atlas.put_persons(make.persons(("kang", "d1", "Mrs-Secret", "resolved"), ("kang", "d0", "kang/d0", "resolved")))
    atlas.freeze("v1")
    atlas.register_artifact("split", "sha256:" + "1" * 64, atlas.resolve("v1"))
    withdraw_person(atlas, person_id="Mrs-Secret")
    return atlas


def test_nothing_of_them_is_left_on_the_disk(withdrawn):
    before = {path for path in withdrawn.path.rglob("*") if path.is_file()}
    old = withdrawn.entry("kang")
    done = purge_withdrawn(withdrawn)
    assert done.datasets == ("kang",)
    assert done.n_cells == 6
    kang = withdrawn.entry("kang")
    assert kang.digest != old.digest
    assert kang.n_cells == 6
    assert not (withdrawn.path / "tables" / old.tables["cells"].file).exists()
    assert not list((withdrawn.path / "partitions").glob(old.partitions[0].digest.removeprefix("sha256:")))
    cells = read_table(withdrawn.path / "tables", kang.tables["cells"])
    assert set(cells["donor_id"]) == {"d0"}
    assert cells["row"].tolist() == list(range(6))
    left = {path for path in withdrawn.path.rglob("*") if path.is_file()}
    assert before - left
    assert not [path for path in left if b"Mrs-Secret" in path.read_bytes()]


def test_training_caches_go_before_the_objects_by_which_an_interrupted_purge_knows_itself(withdrawn, monkeypatch):
    before = withdrawn.snapshot("v1", as_recorded=True)
    before.cached_stream(before.stream(), kind="raw")
    assert list((withdrawn.path / "cache").iterdir())

    def interrupted(path):
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(purge, "_remove", interrupted)
        with pytest.raises(OSError, match="Input/output"):
            purge_withdrawn(withdrawn)
    assert not (withdrawn.path / "cache").exists()
    recover_atlas(open_atlas(withdrawn.path), grace_seconds=0.0)
    assert found(withdrawn.path, "error") == []


def test_quality_of_their_cells_goes_with_them(withdrawn):
    kept = withdrawn.layout.quality / "table.parquet"
    kept.parent.mkdir()
    kept.write_bytes(b"measures of cells that are gone")
    purge_withdrawn(withdrawn)
    assert not kept.exists()


def test_counts_of_the_others_stay_as_they_were(withdrawn):
    before = withdrawn.freeze("v2")
    genes = ["G-CD3D", "G-MS4A1"]
    rows = np.arange(len(before.cells))
    cells, counts = before.cells, before.counts(rows, genes).toarray()
    purge_withdrawn(withdrawn)
    after = withdrawn.freeze("v3")
    assert after.cells["cell_id"].tolist() == cells["cell_id"].tolist()
    assert (after.counts(rows, genes).toarray() == counts).all()


def test_what_descends_from_them_is_listed(withdrawn):
    old = withdrawn.resolve("v1")
    done = purge_withdrawn(withdrawn)
    assert done.snapshots == (old,)
    assert [(artifact.kind, artifact.snapshot_id) for artifact in done.artifacts] == [("split", old)]


def test_verify_reports_purged_and_no_damage(withdrawn):
    purge_withdrawn(withdrawn)
    assert found(withdrawn.path, "error") == found(withdrawn.path, "warning") == []
    assert set(found(withdrawn.path, "note")) == {"N-INTEGRITY-02"}


def test_an_older_snapshot_cannot_be_opened_by_anybody(withdrawn):
    purge_withdrawn(withdrawn)
    for as_recorded in (False, True):
        with pytest.raises(WithdrawnError, match="cannot be read any more"):
            withdrawn.snapshot("v1", as_recorded=as_recorded)


def test_the_data_set_that_was_purged_cannot_be_brought_back(withdrawn, make):
    purge_withdrawn(withdrawn)
    entry = write_dataset(withdrawn.path, content=make.content("kang"))
    with pytest.raises(WithdrawnError, match="version without them"):
        withdrawn.publish([entry])
    assert recover_atlas(withdrawn, grace_seconds=0.0).purged
    assert found(withdrawn.path, "error") == found(withdrawn.path, "warning") == []
    assert len(withdrawn.freeze().cells) == 18


def test_a_later_version_of_the_data_set_is_looked_through(withdrawn, make):
    purge_withdrawn(withdrawn)
    entry = write_dataset(withdrawn.path, content=make.content("kang", make.matrix("kang", n_cells=20)))
    withdrawn.publish([entry])
    cells = withdrawn.freeze("v4").cells
    assert set(cells.loc[cells["dataset_id"] == "kang", "donor_id"]) == {"d0"}
    recover_atlas(withdrawn, grace_seconds=0.0)
    assert found(withdrawn.path, "error") == []
    assert len(purge_withdrawn(withdrawn).objects) > 0
    assert found(withdrawn.path, "error") == []


def test_a_data_set_that_was_theirs_alone_leaves(atlas):
    withdraw_person(atlas, donor=("kang", "d0"))
    withdraw_person(atlas, donor=("kang", "d1"))
    done = purge_withdrawn(atlas)
    assert done.datasets == ("kang",)
    assert atlas.dataset_ids == ("zheng",)
    assert found(atlas.path, "error") == []


def test_nobody_to_purge_is_told(atlas):
    with pytest.raises(UsageError, match="nobody withdrew"):
        purge_withdrawn(atlas)


def test_a_purge_that_fails_anywhere_is_finished_by_the_next_command(withdrawn, monkeypatch, tmp_path):
    counted = FailingOperations(10**9)
    trial = tmp_path / "counted"
    shutil.copytree(withdrawn.path, trial)
    monkeypatch.setattr(local, "operations", counted)
    purge_withdrawn(open_atlas(trial))
    n_calls = len(counted.calls)
    assert n_calls > 100
    for sampled in range(7, n_calls, max(1, n_calls // 6)):
        # A staged file that cannot be cleared away once it has its name is no failure.
        n_th = sampled + (counted.calls[sampled - 1 : sampled + 1] == ["link", "unlink"])
        trial = tmp_path / f"trial{n_th}"
        shutil.copytree(withdrawn.path, trial)
        monkeypatch.setattr(local, "operations", FailingOperations(n_th))
        with pytest.raises(OSError, match="Input/output"):
            purge_withdrawn(open_atlas(trial))
        monkeypatch.setattr(local, "operations", local.Operations())
        recover_atlas(open_atlas(trial), grace_seconds=0.0)
        atlas = open_atlas(trial)
        if atlas.entry("kang").n_cells == 12:
            purge_withdrawn(atlas)
        recover_atlas(atlas, grace_seconds=0.0)
        assert found(trial, "error") == [], n_th
        assert not [path for path in trial.rglob("*") if path.is_file() and b"Mrs-Secret" in path.read_bytes()], n_th
        shutil.rmtree(trial)
