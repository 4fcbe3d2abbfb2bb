"""Withdrawing, purging, expiring and freeing in an object store: what leaves is gone from the bucket, as from a disk."""

import pytest

from cytolabe import files
from cytolabe.errors import ConflictError, WithdrawnError
from cytolabe.files import objects
from cytolabe.snapshot import create_atlas, open_atlas, verify_atlas, write_dataset
from cytolabe.snapshot.purge import purge_withdrawn
from cytolabe.snapshot.upkeep import expire_revisions, free_unreachable, recover_atlas
from cytolabe.snapshot.withdraw import withdraw_person
from cytolabe.store.leases import held_lease


@pytest.fixture
def url(bucket):
    return f"{bucket}/labs/atlas"


@pytest.fixture
def filled(make):
    """A function that makes an atlas of two data sets at a place, freezes it, and lets a person withdraw."""

    def made(place):
        atlas = create_atlas(place)
        atlas.publish([write_dataset(place, content=make.content(name)) for name in ("zheng", "kang")])
        atlas.put_persons(make.persons(("kang", "d1", "Mrs-Secret", "resolved"), ("kang", "d0", "kang/d0", "resolved")))
        atlas.freeze("v1")
        withdraw_person(atlas, person_id="Mrs-Secret")
        return atlas

    return made


def errors(place):
    return [finding.code for finding in verify_atlas(place)[1] if finding.severity.value != "note"]


def contents(place):
    root = files.place_of(place)
    return {name: (root / name).read_bytes() for name in files.list_files(root)}


def test_a_purge_leaves_in_the_bucket_what_it_leaves_on_a_disk(filled, url, tmp_path):
    here, there = filled(tmp_path / "atlas"), filled(url)
    before = set(contents(url))
    done = purge_withdrawn(there)
    on_disk = purge_withdrawn(here)
    assert (done.datasets, done.n_cells, done.snapshots) == (on_disk.datasets, on_disk.n_cells, on_disk.snapshots)
    left = contents(url)
    # Pseudonyms hang on a key of each atlas, and with them the names of some documents.
    counted = [name for name in left if name.startswith(("partitions/", "tables/", "datasets/"))]
    assert sorted(counted) == sorted(
        name for name in contents(tmp_path / "atlas") if name.startswith(("partitions/", "tables/", "datasets/"))
    )
    for gone in done.objects:
        assert any(name.startswith(gone) for name in before)
        assert not any(name.startswith(gone) for name in left)
    assert not [name for name, content in left.items() if b"Mrs-Secret" in content]
    assert errors(url) == []
    with pytest.raises(WithdrawnError, match="purged"):
        open_atlas(url).snapshot("v1", as_recorded=True)
    assert there.freeze().snapshot_id == here.freeze().snapshot_id


def test_a_purge_that_the_network_interrupts_is_finished_by_recover(filled, url, monkeypatch):
    atlas = filled(url)
    asked, remove = [], objects.remove_object

    def stop(path):
        # The root of the partition is gone then, its chunks are not.
        asked.append(path)
        if "/partitions/" in str(path) and not str(path).endswith("/zarr.json"):
            raise OSError(5, "the network is gone")
        remove(path)

    with monkeypatch.context() as broken:
        broken.setattr(objects, "remove_object", stop)
        with pytest.raises(OSError, match="network is gone"):
            purge_withdrawn(atlas)
    assert len(asked) > 1
    assert "W-INTEGRITY-03" in errors(url)
    assert recover_atlas(open_atlas(url), grace_seconds=0.0).purged
    assert errors(url) == []
    assert not [name for name, content in contents(url).items() if b"Mrs-Secret" in content]


def test_what_expired_is_told_then_freed_from_the_bucket_and_never_while_somebody_writes(filled, url, make):
    atlas = filled(url)
    old = f"partitions/{atlas.entry('zheng').partitions[0].digest.removeprefix('sha256:')}"
    atlas.publish([write_dataset(url, content=make.content("zheng", make.matrix("zheng", n_cells=9)))])
    assert free_unreachable(atlas, grace_seconds=0.0).objects == (), "a revision names it"
    atlas.publish([write_dataset(url, content=make.content("zheng", make.matrix("zheng", n_cells=7)))])
    replaced = {name for name in contents(url) if name.startswith("partitions/") and not name.startswith(old)}
    expire_revisions(atlas, keep=1)
    before = contents(url)
    told = free_unreachable(atlas, dry_run=True, grace_seconds=0.0)
    assert told.objects
    assert contents(url) == before, "a dry run writes nothing"
    with held_lease(atlas.layout.leases, "write"):
        assert free_unreachable(atlas, grace_seconds=0.0).objects == ()
    assert free_unreachable(atlas, grace_seconds=0.0).objects == told.objects
    left = contents(url)
    assert any(name.startswith(old) for name in left)
    assert replaced - set(left)
    assert errors(url) == []
    assert len(open_atlas(url).snapshot("v1", as_recorded=True).cells) == 24


def test_of_a_purge_and_a_replacement_that_race_none_is_lost(filled, url, make):
    atlas = filled(url)
    late = open_atlas(url)
    entry = write_dataset(url, content=make.content("kang", make.matrix("kang") * 2))
    purge_withdrawn(atlas)
    with pytest.raises(ConflictError, match="datasets/kang"):
        late.publish([entry])
    late.refresh().publish([entry])
    assert "Mrs-Secret" not in set(late.freeze().cells["person_id"])
    assert len(late.freeze().cells) == 18
