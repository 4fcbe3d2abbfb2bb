"""A reader sees a whole file or the previous one, and two writers never share a name."""

import os
from pathlib import Path

import pytest

from cytolabe import files
from cytolabe.errors import ConflictError, IntegrityError


def test_a_failed_rename_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    files.replace_file(target, b"old")

    def fail(self: Path, other: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.replace_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("n_th", range(1, 3))
def test_every_failed_flush_leaves_the_old_content_or_the_new_one_whole(tmp_path, monkeypatch, n_th):
    target = tmp_path / "a.json"
    files.replace_file(target, b"old")
    calls = {"n": 0}
    real = os.fsync

    def fail_at_n(handle: int) -> None:
        calls["n"] += 1
        if calls["n"] == n_th:
            raise OSError(5, "Input/output error")
        real(handle)

    monkeypatch.setattr(os, "fsync", fail_at_n)
    with pytest.raises(OSError, match="Input/output"):
        files.replace_file(target, b"new")
    assert target.read_bytes() in {b"old", b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


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
        files.publish_directory(staged, tmp_path / "final")
    assert (tmp_path / "final" / "x").read_bytes() == b"1"


def test_a_published_directory_is_never_overwritten(tmp_path):
    for content in (b"first", b"second"):
        with files.staged_directory(tmp_path) as staged:
            (staged / "x").write_bytes(content)
            files.publish_directory(staged, tmp_path / "digest")
    assert (tmp_path / "digest" / "x").read_bytes() == b"first"
