"""A reader sees a whole file or the previous one, and two writers never share a name."""

import os
from pathlib import Path

import pytest

from cytolabe import files
from cytolabe.errors import ConflictError, IntegrityError
from cytolabe.files import local
from cytolabe.testing.disk import FailingOperations

N_CALLS = {"replace": 5, "create": 6}
"""Calls that write until a file has its name: open, write, flush, rename or link with unlink, flush of the directory."""


def write(word, path, content):
    (files.replace_file if word == "replace" else files.create_new)(path, content)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
@pytest.mark.parametrize(("word", "n_th"), [(word, n) for word, n_calls in N_CALLS.items() for n in range(n_calls)])
def test_every_call_that_fails_leaves_the_old_content_or_the_new_one_whole(tmp_path, monkeypatch, word, n_th, error):
    target = tmp_path / "a.json"
    before = set()
    if word == "replace":
        target.write_bytes(b"old")
        before = {b"old"}
    failing = FailingOperations(n_th, error=error)
    monkeypatch.setattr(local, "operations", failing)
    names = {"replace": ["open", "write", "fsync", "rename", "fsync"]}.get(
        word, ["open", "write", "fsync", "link", "unlink", "fsync"]
    )
    if names[n_th] == "unlink":
        write(word, target, b"new")  # what cannot be cleared away is left, and is no reason to fail
    else:
        with pytest.raises(OSError, match=os.strerror(failing.errno)):
            write(word, target, b"new")
    assert failing.calls[n_th] == names[n_th]
    content = {target.read_bytes()} if target.exists() else set()
    assert content <= {b"new"} | before
    assert before <= content | {b"old"}
    left = {path.name for path in tmp_path.iterdir()} - {"a.json"}
    assert len(left) == (names[n_th] == "unlink")
    monkeypatch.undo()
    write(word, target, b"new")
    assert target.read_bytes() == b"new"


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    class Short(local.Operations):
        def write(self, handle, content):
            return super().write(handle, content[:3])

    monkeypatch.setattr(local, "operations", Short())
    files.replace_file(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_directories_that_are_made_on_the_way_are_flushed_into_those_that_hold_them(tmp_path, monkeypatch):
    flushed = []

    class Watched(local.Operations):
        def fsync(self, handle):
            flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
            super().fsync(handle)

    monkeypatch.setattr(local, "operations", Watched())
    files.create_new(tmp_path / "a" / "b" / "c.json", b"x")
    assert [str(tmp_path), str(tmp_path / "a")] == flushed[:2]
    assert flushed[-1] == str(tmp_path / "a" / "b")
    flushed.clear()
    with files.staged_directory(tmp_path / "p") as staged:
        files.replace_file(staged / "X" / "c" / "0", b"1")
        flushed.clear()
        files.publish_directory(staged, tmp_path / "p" / "digest")
    below = {str(staged / part) for part in ("", "X", "X/c", "X/c/0")}
    assert below <= set(flushed)
    assert flushed[-1] == str(tmp_path / "p")


def test_a_file_system_that_cannot_flush_directories_is_written_to_all_the_same(tmp_path, monkeypatch):
    class Network(local.Operations):
        def fsync(self, handle):
            if Path(f"/proc/self/fd/{handle}").is_dir():
                raise OSError(22, "Invalid argument")
            super().fsync(handle)

    monkeypatch.setattr(local, "operations", Network())
    files.create_new(tmp_path / "a" / "b", b"x")
    assert (tmp_path / "a" / "b").read_bytes() == b"x"


def test_the_second_writer_of_a_name_is_told_of_the_conflict(tmp_path):
    files.create_new(tmp_path / "1.json", b"mine")
    with pytest.raises(ConflictError, match=r"1\.json was published by somebody else"):
        files.create_new(tmp_path / "1.json", b"yours")
    assert (tmp_path / "1.json").read_bytes() == b"mine"


def test_publishing_equal_bytes_twice_is_harmless(tmp_path):
    files.create_new(tmp_path / "1.json", b"mine")
    files.create_new(tmp_path / "1.json", b"mine")
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]


def test_changed_or_missing_bytes_are_an_integrity_error_and_never_zeros(tmp_path):
    path = tmp_path / "chunk"
    path.write_bytes(b"counts")
    digest = files.sha256_of_file(path)
    assert files.read_verified(path, digest) == b"counts"
    path.write_bytes(b"countz")
    with pytest.raises(IntegrityError, match="bytes were changed"):
        files.read_verified(path, digest)
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        files.read_verified(path, digest)


def test_a_staged_directory_is_gone_unless_it_was_published(tmp_path):
    with files.staged_directory(tmp_path) as staged:
        (staged / "x").write_bytes(b"1")
    assert list(tmp_path.iterdir()) == []
    with files.staged_directory(tmp_path) as staged:
        (staged / "x").write_bytes(b"1")
        assert files.publish_directory(staged, tmp_path / "final")
    assert (tmp_path / "final" / "x").read_bytes() == b"1"


def test_a_published_directory_is_never_overwritten(tmp_path):
    took = []
    for content in (b"first", b"second"):
        with files.staged_directory(tmp_path) as staged:
            (staged / "x").write_bytes(content)
            took.append(files.publish_directory(staged, tmp_path / "digest"))
    assert (tmp_path / "digest" / "x").read_bytes() == b"first"
    assert took == [True, False]


def test_removing_a_directory_removes_its_description_first_and_follows_no_link(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_bytes(b"1")
    files.replace_file(tmp_path / "p" / "X" / "0", b"1")
    files.replace_file(tmp_path / "p" / "zarr.json", b"{}")
    (tmp_path / "p" / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(local, "operations", FailingOperations(1, error="EIO"))
    with pytest.raises(OSError, match="Input/output"):
        files.remove_directory(tmp_path / "p")
    assert not (tmp_path / "p" / "zarr.json").exists()
    monkeypatch.undo()
    files.remove_directory(tmp_path / "p")
    files.remove_directory(tmp_path / "p")
    files.remove(tmp_path / "absent")
    assert not (tmp_path / "p").exists()
    assert (tmp_path / "elsewhere" / "kept").exists()
