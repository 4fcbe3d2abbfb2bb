"""Full disks, failing disks and dying processes: an atlas is before or after a change, never between.

For each n, the n-th system call that writes fails, or takes the process with it. Afterwards the atlas opens at the
revision before or a new one, `verify` finds no error, and the same command again ends as if nothing had happened.
"""

import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cytolabe.files import local, replace_file
from cytolabe.snapshot import open_atlas
from cytolabe.testing.disk import FailingOperations

PROGRAM = Path(__file__).with_name("disk_sweep.py")
_SPEC = importlib.util.spec_from_file_location("disk_sweep", PROGRAM)
disk = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(disk)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return disk.Sweep(tmp_path_factory.mktemp("sweep"))


@pytest.mark.slow
def test_a_call_that_fails_and_a_process_that_dies_leave_the_state_before_or_after(tmp_path):
    done = subprocess.run(  # noqa: S603 - a program of these tests
        [sys.executable, str(PROGRAM), str(tmp_path)], capture_output=True, text=True, check=False, timeout=270
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["wrong"] == {}
    assert len(told["calls"]) > 100
    assert {"open", "write", "fsync", "link", "rename", "unlink", "mkdir", "rmdir"} == set(told["calls"])
    assert told["n_left"] > 50, "a process that dies leaves temporary names; if none are seen, it did not die"


def test_publishing_that_is_neither_whole_nor_nothing_would_be_caught(sweep, monkeypatch):
    """The planted fault: a file that has its name before it has its content."""

    def written_in_place(path, content):
        local.make_directory(path.parent)
        path.unlink(missing_ok=True)
        handle = local.operations.open(path)
        try:
            local.operations.write(handle, memoryview(content))
        finally:
            os.close(handle)

    monkeypatch.setattr(local, "create_file", written_in_place)
    counted = FailingOperations(-1)
    disk.with_operations(counted, disk.run_command, sweep.fresh("hasty"))
    found = []
    for n_th in [n for n, name in enumerate(counted.calls) if name == "write"][-4:]:
        atlas = sweep.fresh(f"hasty-{n_th}")
        with pytest.raises(OSError, match="Input/output"):
            disk.with_operations(FailingOperations(n_th), disk.run_command, atlas)
        found.append(disk.afterwards(sweep, atlas))
    assert any("bytes were changed" in problem for problem in found), found


def test_a_limit_on_the_size_of_files_is_an_error_of_the_system_and_leaves_nothing(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; from cytolabe import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    files.replace_file(Path(sys.argv[1]) / 'a', bytes(5000))\n"
        "except OSError as error:\n    print(error.errno)\n"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "27"  # EFBIG
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser writes into read-only directories")
def test_a_read_only_atlas_is_read_and_not_changed(sweep):
    atlas = sweep.fresh("read-only")
    folders = [atlas, *(path for path in atlas.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert open_atlas(atlas).dataset_ids == ("zheng",)
        with pytest.raises(PermissionError):
            disk.run_command(atlas)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sweep.wrong(atlas) == ""


def test_a_read_only_disk_is_told_and_nothing_is_changed(sweep, monkeypatch):
    atlas = sweep.fresh("erofs")

    class ReadOnly(FailingOperations):
        def _count(self, name, path=None):
            raise OSError(30, os.strerror(30), None if path is None else str(path))

    before = sorted(path.name for path in atlas.rglob("*"))
    with pytest.raises(OSError, match="Read-only file system") as caught:
        disk.with_operations(ReadOnly(0), disk.run_command, atlas)
    assert caught.value.filename
    assert sorted(path.name for path in atlas.rglob("*")) == before
    assert open_atlas(atlas).dataset_ids == ("zheng",)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_that_is_always_full_refuses_the_first_byte(tmp_path, monkeypatch):
    class Full(local.Operations):
        def write(self, handle, content):
            full = os.open("/dev/full", os.O_WRONLY)
            try:
                return os.write(full, content)
            finally:
                os.close(full)

    monkeypatch.setattr(local, "operations", Full())
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left on device"):
        replace_file(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]
