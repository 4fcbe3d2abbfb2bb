"""An object store is written to and read like a disk: whole or not at all, and one of two writers wins."""

import errno
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from cytolabe import files
from cytolabe.errors import ConflictError, IntegrityError, MissingExtraError, UsageError
from cytolabe.files import objects


@pytest.fixture(params=["s3", "memory"])
def prefix(request, tmp_path):
    """A prefix in a real S3-compatible server, and in the store of this process."""
    if request.param == "memory":
        pytest.importorskip("obstore")
        return files.place_of(f"memory://{tmp_path.name}/atlas")
    return files.place_of(request.getfixturevalue("bucket") + "/atlas")


def test_what_is_written_is_read(prefix):
    path = prefix / "tables" / "a.parquet"
    assert not path.exists()
    files.replace_file(path, b"old")
    files.replace_file(path, b"0123456789")
    assert path.read_bytes() == b"0123456789"
    assert files.size_of(path) == 10
    assert files.read_range(path, 2, 3) == b"234"
    assert files.read_range(path, 8, 5) == b"89"
    assert files.read_range(path, 10, 5) == b""
    assert files.read_range(path, 3, 0) == b""
    assert files.read_verified(path, files.sha256_of_file(path)) == b"0123456789"
    assert (path.exists(), path.is_file(), path.is_dir()) == (True, True, False)
    assert (prefix.exists(), prefix.is_file(), prefix.is_dir()) == (True, False, True)
    files.remove(path)
    files.remove(path)
    assert not prefix.exists()


def test_a_lost_object_is_a_missing_file(prefix):
    for read in (
        lambda path: path.read_bytes(),
        lambda path: path.size(),
        lambda path: files.read_range(path, 0, 4),
        files.sha256_of_file,
    ):
        with pytest.raises(FileNotFoundError) as caught:
            read(prefix / "lost")
        assert caught.value.filename == f"{prefix}/lost"
    with pytest.raises(IntegrityError, match="lost is missing"):
        files.read_verified(prefix / "lost", "0" * 64)


def test_a_name_is_taken_once_and_equal_bytes_are_a_success(prefix):
    files.create_new(prefix / "1.json", b"mine")
    files.create_new(prefix / "1.json", b"mine")
    with pytest.raises(ConflictError, match=r"1\.json was published by somebody else"):
        files.create_new(prefix / "1.json", b"yours")
    assert (prefix / "1.json").read_bytes() == b"mine"


def test_of_many_writers_of_one_name_one_wins(prefix):
    won, lost = [], []

    def publish(number):
        try:
            files.create_new(prefix / "7.json", b"%d" % number)
            won.append(number)
        except ConflictError:
            lost.append(number)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7
    assert (prefix / "7.json").read_bytes() == b"%d" % won[0]


def test_lists_speak_of_paths_below_and_need_one_call(prefix, monkeypatch):
    for name in ("revisions/0.json", "revisions/1.json", "revisions/note.txt", "revisions/deep/2.json", "revisionsX"):
        files.replace_file(prefix / name, b"x" * 3)
    asked = []
    store = objects._store
    monkeypatch.setattr(objects, "_store", lambda path: asked.append(path) or store(path))
    log = prefix / "revisions"
    assert [path.name for path in log.glob("*.json")] == ["0.json", "1.json"]
    assert len(asked) == 1
    assert files.list_files(log) == {"0.json": 3, "1.json": 3, "deep/2.json": 3, "note.txt": 3}
    assert len(asked) == 2
    assert [path.name for path in log.iterdir()] == ["0.json", "1.json", "deep", "note.txt"]
    assert [path.is_file() for path in log.iterdir()] == [True, True, False, True]


def test_a_directory_is_uploaded_with_its_description_last(prefix, monkeypatch):
    target = prefix / "partitions" / "digest"
    put = []
    create = objects.create_object
    monkeypatch.setattr(objects, "create_object", lambda path, content: (put.append(path.name), create(path, content)))
    with files.staged_directory(prefix / "partitions") as staged:
        assert isinstance(staged, Path)
        for name in ("zarr.json", "X/zarr.json", "X/data/c/0", "obs/c"):
            files.replace_file(staged / name, name.encode())
        assert files.publish_directory(staged, target)
        assert not files.publish_directory(staged, target)
    assert not staged.exists()
    assert files.list_files(target) == {"X/data/c/0": 10, "X/zarr.json": 11, "obs/c": 5, "zarr.json": 9}
    assert put[-1] == "zarr.json"
    assert len(put) == 4
    files.remove_directory(target)
    assert not target.exists()


def test_an_interrupted_upload_is_continued_and_one_of_other_bytes_is_not_overwritten(prefix):
    target = prefix / "partitions" / "digest"
    with files.staged_directory(prefix) as staged:
        for name in ("zarr.json", "0", "1"):
            files.replace_file(staged / name, name.encode())
        files.replace_file(target / "0", b"0")
        assert files.publish_directory(staged, target)
        assert len(files.list_files(target)) == 3
        other = prefix / "partitions" / "other"
        files.replace_file(other / "1", b"of another version")
        with pytest.raises(ConflictError, match="holds files of other bytes"):
            files.publish_directory(staged, other)
        assert not (other / "zarr.json").exists()
        assert (other / "1").read_bytes() == b"of another version"


def test_a_network_that_does_not_answer_is_an_error_of_the_system(bucket, monkeypatch):
    monkeypatch.setattr(objects, "RETRY", {"max_retries": 0, "retry_timeout": timedelta(seconds=1)})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    path = files.place_of(f"{bucket}/a/b.json")
    for act in (path.read_bytes, path.exists, lambda: list(path.glob("*")), lambda: files.create_new(path, b"x")):
        with pytest.raises(OSError, match="object store did not do it; what was published stays whole") as caught:
            act()
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == str(path)
        assert "Debug source" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told_as_such(bucket):
    place = files.place_of("s3://no-such-bucket/atlas")
    for act in (lambda: list(place.iterdir()), lambda: files.create_new(place / "a", b"x"), (place / "a").read_bytes):
        with pytest.raises(UsageError, match="there is no bucket s3://no-such-bucket"):
            act()


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"cytolabe\[cloud\]"):
        files.place_of("s3://bucket/atlas").read_bytes()
