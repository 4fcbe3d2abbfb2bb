"""Old revisions go, what nothing reaches is freed, what a crash left is cleaned; what is reached stays."""

import errno
import json
import os
import shutil
import time
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cytolabe.errors import ConflictError, IntegrityError, UsageError
from cytolabe.files import local
from cytolabe.snapshot import upkeep
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.upkeep import expire_revisions, free_unreachable, parse_age, recover_atlas
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.snapshot.withdraw import withdraw_person
from cytolabe.store.documents import read_sealed, sealed_bytes
from cytolabe.store.leases import held_lease, live_leases


def problems(path):
    return [(found.code, found.where) for found in verify_atlas(path)[1] if found.severity.value != "note"]


def rewritten(path, **changes):
    content = {key: value for key, value in read_sealed(path).items() if key != "seal"}
    path.write_bytes(sealed_bytes({**content, **changes}))


def test_expired_revisions_are_a_legal_gap_and_tagged_ones_stay(atlas):
    atlas.freeze("v1")
    tagged = atlas.revision
    for number in range(3):
        atlas.put_mappings(atlas.mappings()[: number + 1])
    gone = expire_revisions(atlas, keep=1)
    assert set(gone) == set(range(atlas.revision)) - {tagged}
    assert [revision.number for revision in atlas.history()] == [tagged, atlas.revision]
    assert problems(atlas.path) == []
    assert len(open_atlas(atlas.path).snapshot("v1").cells) == 24
    with pytest.raises(UsageError, match="was expired"):
        atlas.at("@1")


def test_a_revision_that_somebody_removed_is_no_legal_gap(atlas):
    atlas.freeze("v1")
    expire_revisions(atlas, keep=2)
    (atlas.path / "revisions" / f"{atlas.revision - 1}.json").unlink()
    assert problems(atlas.path) == [("E-INTEGRITY-01", f"revisions/{atlas.revision - 1}.json")]


def test_a_forged_record_of_expiry_breaks_the_chain(atlas):
    expire_revisions(atlas, keep=1)
    (record,) = (atlas.path / "expired").iterdir()
    rows = read_sealed(record)["revisions"]
    rewritten(record, revisions=[*rows[:-1], {**rows[-1], "seal": "sha256:" + "0" * 64}])
    assert ("E-INTEGRITY-06", f"revisions/{atlas.revision}.json") in problems(atlas.path)


def test_an_expired_revision_that_is_restored_is_told_and_removed_again(atlas):
    old = (atlas.path / "revisions" / "1.json").read_bytes()
    expire_revisions(atlas, keep=1)
    (atlas.path / "revisions" / "1.json").write_bytes(old)
    assert problems(atlas.path) == [("W-INTEGRITY-02", "revisions/1.json")]
    assert recover_atlas(atlas).revisions == (1,)
    assert problems(atlas.path) == []


def test_an_older_log_that_is_restored_over_a_newer_one_is_not_opened(atlas, tmp_path):
    shutil.copytree(atlas.path / "revisions", tmp_path / "old")
    atlas.freeze("v1")
    shutil.rmtree(atlas.path / "revisions")
    shutil.copytree(tmp_path / "old", atlas.path / "revisions")
    with pytest.raises(IntegrityError, match="rolled back"):
        open_atlas(atlas.path)


def test_expire_without_a_limit_is_refused_and_a_dry_run_changes_nothing(atlas):
    with pytest.raises(UsageError, match="--keep"):
        expire_revisions(atlas)
    before = len(atlas.history())
    assert len(expire_revisions(atlas, keep=1, dry_run=True)) == before - 1
    assert len(atlas.history()) == before
    assert expire_revisions(atlas, older_than=timedelta(days=1)) == (0,), "revision 0 has no time: it is the oldest"


def test_a_dry_run_writes_nothing_so_that_a_read_only_atlas_can_be_asked(atlas, make, monkeypatch):
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", make.matrix("kang", n_cells=9)))])
    expire_revisions(atlas, keep=1)
    expected = free_unreachable(atlas, dry_run=True, grace_seconds=0.0)
    assert expected.objects

    def refused(*_arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    for operation in ("open", "write", "link", "rename", "unlink", "mkdir", "rmdir"):
        monkeypatch.setattr(local.operations, operation, refused)
    opened = open_atlas(atlas.path)
    assert free_unreachable(opened, dry_run=True, grace_seconds=0.0) == expected
    assert expire_revisions(opened, older_than=timedelta(0), dry_run=True) == ()
    with pytest.raises(OSError, match="Read-only"):
        free_unreachable(opened, grace_seconds=0.0)


def test_gc_frees_what_was_replaced_only_after_its_revision_expired(atlas, make):
    old = atlas.entry("kang").partitions[0].digest.removeprefix("sha256:")
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", make.matrix("kang", n_cells=9)))])
    assert free_unreachable(atlas, grace_seconds=0.0).objects == ()
    expire_revisions(atlas, keep=1)
    assert free_unreachable(atlas).n_young > 0, "what is young stays"
    told = free_unreachable(atlas, dry_run=True, grace_seconds=0.0)
    assert f"partitions/{old}" in told.objects
    assert told.n_bytes > 0
    assert (atlas.path / "partitions" / old).exists()
    assert free_unreachable(atlas, grace_seconds=0.0).objects == told.objects
    assert not (atlas.path / "partitions" / old).exists()
    assert free_unreachable(atlas, grace_seconds=0.0).objects == ()
    assert problems(atlas.path) == []


def test_a_snapshot_with_an_artifact_or_under_a_lease_is_not_freed(atlas, make):
    kept = atlas.freeze()
    atlas.register_artifact("embedding", "sha256:" + "2" * 64, kept.snapshot_id)
    atlas.put_mappings([])
    read = atlas.freeze()
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", make.matrix("kang", n_cells=9)))])
    atlas.freeze()
    with held_lease(atlas.layout.leases, "read", snapshots=[read.snapshot_id]):
        expire_revisions(atlas, keep=1)
        free_unreachable(atlas, grace_seconds=0.0)
        assert len(read.cells) == len(kept.cells) == 24
    assert problems(atlas.path) == []


def test_gc_frees_nothing_while_somebody_writes(atlas, make):
    entry = write_dataset(atlas.path, content=make.content("kang", make.matrix("kang", n_cells=9)))
    with held_lease(atlas.layout.leases, "write"):
        freed = free_unreachable(atlas, grace_seconds=0.0)
    assert freed.objects == ()
    assert [lease.pid for lease in freed.held_by] == [os.getpid()]
    atlas.publish([entry])
    assert problems(atlas.path) == []


def test_what_gc_freed_before_it_was_published_is_never_published(atlas, make):
    entry = write_dataset(atlas.path, content=make.content("kang", make.matrix("kang", n_cells=9)))
    assert free_unreachable(atlas, grace_seconds=0.0).objects
    before = atlas.revision
    with pytest.raises(IntegrityError, match="Ingest it again"):
        atlas.publish([entry])
    assert open_atlas(atlas.path).revision == before


def test_a_writer_waits_for_gc_and_then_gives_up(atlas):
    with (
        held_lease(atlas.layout.leases, "gc"),
        pytest.raises(ConflictError, match="`gc` is running"),
        held_lease(atlas.layout.leases, "write", patience=0.1),
    ):
        pass
    with held_lease(atlas.layout.leases, "write", patience=0.1):
        pass


@pytest.mark.parametrize(
    ("changes", "is_live"),
    [
        ({"host": "elsewhere"}, True),
        ({"host": "elsewhere", "renewed": -1_000}, True),
        ({"host": "elsewhere", "renewed": -1_300}, False),
        ({"host": "elsewhere", "renewed": 600}, True),
        ({"pid": 2**22 + 1}, False),
    ],
    ids=["other host", "late, within the skew", "dead", "clock ahead", "process gone"],
)
def test_a_lease_is_over_when_its_owner_cannot_be_at_work_any_more(atlas, changes, is_live):
    with held_lease(atlas.layout.leases, "write"):
        (path,) = atlas.layout.leases.iterdir()
        kept = path.read_bytes()
    path.write_bytes(kept)
    if "renewed" in changes:
        changes = {**changes, "renewed": round((time.time() + changes["renewed"]) * 1000)}
    rewritten(path, **changes)
    assert bool(live_leases(atlas.layout.leases)) is is_live
    assert bool(recover_atlas(atlas).leases) is not is_live


def test_recover_cleans_what_a_crash_left_once_nobody_can_own_it(atlas):
    for folder in ("partitions", "tables"):
        (atlas.path / folder / ".staged-1").mkdir()
        (atlas.path / folder / ".staged-1" / "half").write_bytes(b"x")
    (atlas.path / "revisions" / ".staged-2").write_bytes(b"{")
    (atlas.path / "snapshots").mkdir(exist_ok=True)
    frozen = {"body": {}, "datasets": {}, "overlays": {}}
    (atlas.path / "snapshots" / ("0" * 64 + ".json")).write_bytes(sealed_bytes(frozen))
    assert recover_atlas(atlas).staged == (), "younger than an hour"
    with held_lease(atlas.layout.leases, "write"):
        assert recover_atlas(atlas, grace_seconds=0.0).held_by
    found = recover_atlas(atlas, grace_seconds=0.0)
    assert found.staged == ("partitions/.staged-1", "revisions/.staged-2", "tables/.staged-1")
    assert found.snapshots == (f"snapshots/{'0' * 64}.json",)
    assert recover_atlas(atlas, grace_seconds=0.0) == upkeep.Recovered()
    assert problems(atlas.path) == []


def test_an_age_is_a_number_and_a_unit():
    assert parse_age("12h") == timedelta(hours=12)
    assert parse_age("4w") == timedelta(weeks=4)
    with pytest.raises(UsageError, match="no length of time"):
        parse_age("a while")


class AtlasLife(RuleBasedStateMachine):
    """An atlas against a plain model: data sets by size, snapshots by the cells that they hold."""

    def __init__(self):
        super().__init__()
        self.datasets, self.frozen, self.withdrawn = {}, {}, set()

    @initialize()
    def create(self):
        self.path = self.folder / str(next(self.numbers))
        self.atlas = create_atlas(self.path)

    @rule(name=st.sampled_from(["kang", "zheng"]), n_cells=st.sampled_from([4, 6]))
    def publish(self, name, n_cells):
        content = self.make.content(name, self.make.matrix(name, n_cells=n_cells))
        self.atlas.publish([write_dataset(self.path, content=content)])
        self.datasets[name] = n_cells

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def remove(self, data):
        name = data.draw(st.sampled_from(sorted(self.datasets)))
        self.atlas.remove_dataset(name)
        del self.datasets[name]

    @precondition(lambda self: self.datasets and not self.withdrawn)
    @rule(data=st.data())
    def withdraw(self, data):
        name = data.draw(st.sampled_from(sorted(self.datasets)))
        withdraw_person(self.atlas, donor=(name, "d1"))
        self.withdrawn.add(name)

    @precondition(lambda self: self.datasets)
    @rule()
    def freeze(self):
        tag = f"v{len(self.frozen)}"
        self.atlas.freeze(tag)
        self.frozen[tag] = self.cells()

    @rule(keep=st.integers(1, 3))
    def expire(self, keep):
        expire_revisions(self.atlas, keep=keep)

    @rule()
    def collect(self):
        free_unreachable(self.atlas, grace_seconds=0.0)

    @rule()
    def recover(self):
        recover_atlas(self.atlas, grace_seconds=0.0)

    @rule()
    def reopen(self):
        self.atlas = open_atlas(self.path)

    def cells(self):
        return sorted(
            f"{name}:cell{row}"
            for name, n_cells in self.datasets.items()
            for row in range(n_cells)
            if not (name in self.withdrawn and row % 2)
        )

    @invariant()
    def the_state_is_that_of_the_model(self):
        if hasattr(self, "atlas"):
            assert self.atlas.dataset_ids == tuple(sorted(self.datasets))
            assert sorted(self.atlas.cells()["cell_id"]) == self.cells()

    def teardown(self):
        for tag, cells in self.frozen.items():
            assert sorted(self.atlas.snapshot(tag, as_recorded=True).cells["cell_id"]) == cells
        assert problems(self.path) == []


def test_an_atlas_is_what_its_model_says_whatever_happens_to_it(tmp_path, make):
    class Life(AtlasLife):
        folder, numbers = tmp_path, iter(range(10**6))

    Life.make = make
    bounded = settings(max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Life, settings=bounded)


def test_a_gc_that_overlooks_what_is_reached_would_be_caught(atlas, monkeypatch):
    """The planted fault: objects that only a snapshot reaches count as loose."""
    atlas.freeze("v1")
    atlas.remove_dataset("kang")
    expire_revisions(atlas, keep=1)
    whole = upkeep.reachable
    monkeypatch.setattr(
        upkeep, "reachable", lambda layout: {path for path in whole(layout) if path.parent.name != "partitions"}
    )
    free_unreachable(atlas, grace_seconds=0.0)
    assert {code for code, _ in problems(atlas.path)} == {"E-INTEGRITY-01"}


def test_an_edited_artifact_is_found(atlas):
    snapshot = atlas.freeze("v1")
    atlas.register_artifact("split", "sha256:" + "3" * 64, snapshot.snapshot_id)
    (path,) = (atlas.path / "artifacts").iterdir()
    whole = path.read_bytes()
    document = json.loads(whole)
    path.write_bytes(json.dumps(document).encode())
    assert problems(atlas.path) == [("E-INTEGRITY-05", f"artifacts/{path.name}")]
    path.write_bytes(whole)
    rewritten(path, what="model")
    assert problems(atlas.path) == [("E-INTEGRITY-05", f"artifacts/{path.name}")]
