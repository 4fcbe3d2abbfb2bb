"""An atlas in an object store is the same atlas: ids, counts, conflicts and damage are those of a disk."""

import threading

import numpy as np
import pytest

import cytolabe
from cytolabe import files
from cytolabe.errors import ConflictError, IntegrityError, UsageError
from cytolabe.snapshot import create_atlas, open_atlas, verify_atlas, write_dataset
from cytolabe.snapshot.layout import Layout


@pytest.fixture
def url(bucket):
    return f"{bucket}/labs/atlas"


@pytest.fixture
def fill(make):
    """A function that puts two data sets, mappings and persons into the atlas at a place."""

    def filled(place):
        atlas = create_atlas(place)
        atlas.publish([write_dataset(place, content=make.content(name)) for name in ("zheng", "kang")])
        atlas.put_mappings([make.mapping("kang", "T cell", "CL:0000084"), make.mapping("zheng", "B", "")])
        atlas.put_persons(make.persons(("kang", "d0", "kang/d0", "resolved")))
        return atlas

    return filled


def test_the_snapshot_is_that_of_a_disk_with_equal_counts_and_cells(fill, url, tmp_path):
    here, there = fill(tmp_path / "atlas").freeze("v1"), fill(url).freeze("v1")
    assert here.snapshot_id == there.snapshot_id
    opened = cytolabe.open(url)
    assert opened.tags == {"v1": there.snapshot_id}
    read = opened.snapshot("v1")
    assert read.cells.equals(here.cells)
    rows, genes = np.arange(24)[::-1], ["G-MS4A1", "G-CD3D"]
    assert (read.counts(rows, genes) != here.counts(rows, genes)).nnz == 0
    assert verify_atlas(url) == verify_atlas(tmp_path / "atlas")
    # The objects have the names of the files.
    assert files.list_files(files.place_of(url)).keys() == files.list_files(tmp_path / "atlas").keys()


def test_writing_equal_content_again_changes_nothing(fill, url):
    revision = fill(url).revision
    before = files.list_files(files.place_of(url))
    assert fill(url).revision == revision
    assert files.list_files(files.place_of(url)) == before


def test_an_open_atlas_costs_few_requests(fill, url, monkeypatch):
    fill(url)
    asked = []
    store = files.objects._store
    monkeypatch.setattr(files.objects, "_store", lambda path: asked.append(path) or store(path))
    open_atlas(url)
    assert len(asked) == 5, "marker: is it there, what is in it; log: its witness, one list, its last revision"


def test_writers_of_different_data_sets_that_race_for_one_number_both_land(make, url):
    create_atlas(url)
    entries = {name: write_dataset(url, content=make.content(name)) for name in ("kang", "zheng")}
    atlases = {name: open_atlas(url) for name in entries}
    start = threading.Barrier(len(entries))

    def publish(name):
        start.wait()
        atlases[name].publish([entries[name]], author=name)

    threads = [threading.Thread(target=publish, args=(name,)) for name in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    head = open_atlas(url)
    assert (head.revision, head.dataset_ids) == (2, ("kang", "zheng"))
    assert [revision.author for revision in head.history()][1:] in (["kang", "zheng"], ["zheng", "kang"])


def test_the_second_writer_of_one_data_set_is_told(make, url):
    create_atlas(url)
    first, second = open_atlas(url), open_atlas(url)
    matrix = make.matrix("kang")
    first.publish([write_dataset(url, content=make.content("kang"))])
    with pytest.raises(ConflictError, match="datasets/kang was changed by revision 1"):
        second.publish([write_dataset(url, content=make.content("kang", matrix + matrix))])
    assert open_atlas(url).revision == 1


def test_a_lost_object_of_any_kind_is_found_and_never_read_as_zeros(fill, url):
    fill(url).freeze("v1")
    root = files.place_of(url)
    names = sorted(files.list_files(root))
    kinds = ("datasets/", "overlays/genes/", "revisions/0", "snapshots/", "tables/", "X/data/c/", "zarr.json")
    for kind in kinds:
        name = next(name for name in names if kind in name)
        content = (root / name).read_bytes()
        files.remove(root / name)
        findings = verify_atlas(url)[1]
        assert any(name.rpartition("/")[2] in finding.where for finding in findings), name
        files.replace_file(root / name, content)
    assert verify_atlas(url)[1] == ()
    shard = next(name for name in names if "X/data/c/" in name)
    files.remove(root / shard)
    with pytest.raises(IntegrityError, match="is missing"):
        open_atlas(url).snapshot("v1").counts(np.arange(24), ["G-CD3D"])


def test_a_changed_object_is_found(fill, url):
    fill(url).freeze("v1")
    root = files.place_of(url)
    shard = next(name for name in files.list_files(root) if "X/data/c/" in name)
    content = bytearray((root / shard).read_bytes())
    content[3] ^= 1
    files.replace_file(root / shard, bytes(content))
    findings = verify_atlas(url)[1]
    assert [(finding.code, finding.where.rpartition("/")[2]) for finding in findings] == [("E-INTEGRITY-02", "0")]


def test_an_upload_that_stopped_is_invisible_and_is_continued(make, url, monkeypatch):
    create_atlas(url)
    create, put = files.objects.create_object, []

    def stop_before_the_root(path, content):
        if path.name == "zarr.json" and path.parent.parent.name == "partitions":
            raise OSError(5, "the network is gone")
        put.append(path)
        create(path, content)

    with monkeypatch.context() as broken:
        broken.setattr(files.objects, "create_object", stop_before_the_root)
        with pytest.raises(OSError, match="network"):
            write_dataset(url, content=make.content("kang"))
    assert len(put) > 3
    assert [finding for finding in verify_atlas(url)[1] if finding.severity.value != "note"] == []
    atlas = open_atlas(url)
    atlas.publish([write_dataset(url, content=make.content("kang"))])
    assert verify_atlas(url)[1] == ()
    assert (
        atlas.freeze().counts(np.arange(12), ["G-MS4A1"]).toarray().ravel()
        == make.matrix("kang")[:, 2].toarray().ravel()
    ).all()


def test_what_is_no_atlas_is_told(bucket):
    files.replace_file(files.place_of(bucket) / "other" / "thing", b"x")
    with pytest.raises(UsageError, match="is no atlas"):
        open_atlas(f"{bucket}/other")
    with pytest.raises(UsageError, match="is not empty and no atlas"):
        create_atlas(f"{bucket}/other")
    with pytest.raises(UsageError, match="there is no bucket"):
        create_atlas("s3://nowhere-at-all/atlas")
    assert Layout(files.place_of(bucket)).name_of(files.place_of(bucket) / "tables" / "x") == "tables/x"
