"""One publish and one freeze on a tiny atlas, repeated with a disk that fails, or a process that dies, at the n-th call.

Run as a program (`disk_sweep.py FOLDER`) it does this for each n, and prints as JSON what is wrong. It is a program so
that it has no other threads: a process that is to die is a fork of it.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np

from cytolabe.errors import CytolabeError
from cytolabe.files import STAGED_PREFIX, local
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.testing.disk import KILLED, FailingOperations

_SPEC = importlib.util.spec_from_file_location(
    "atlas_fixtures", Path(__file__).resolve().parent.parent / "snapshot" / "conftest.py"
)
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)


class Sweep:
    """The atlas before the command, and what the command makes of it when nothing goes wrong."""

    def __init__(self, folder: Path) -> None:
        self._base = folder / "base"
        self._folder = folder
        self.n_left = 0
        self.judged: dict[str, str] = {}
        """What is wrong with states of a disk: many faults leave the same one."""
        atlas = create_atlas(self._base)
        atlas.publish([write_dataset(self._base, content=_FIXTURES.content_of("zheng"))])
        self._revision = atlas.revision
        whole = shutil.copytree(self._base, folder / "whole")
        counted = FailingOperations(-1)
        self.snapshot_id = with_operations(counted, run_command, whole)
        self.calls = counted.calls
        self._counts = open_atlas(whole).snapshot("v1").counts(np.arange(24), ["G-CD3D"])

    def fresh(self, name: str) -> Path:
        """Return a copy of the atlas before the command."""
        return shutil.copytree(self._base, self._folder / name)

    def wrong(self, atlas: Path) -> str:
        """Return what is wrong with an atlas after a fault, and after the command was repeated; empty if nothing."""
        opened = open_atlas(atlas)
        expected = ("zheng",) if opened.revision == self._revision else ("kang", "zheng")
        if opened.revision not in range(self._revision, self._revision + 3) or opened.dataset_ids != expected:
            return f"revision {opened.revision} has the data sets {opened.dataset_ids}"
        if errors := [finding for finding in verify_atlas(atlas)[1] if finding.severity.value == "error"]:
            return f"before it was repeated: {errors[0].code} {errors[0].where}"
        if with_operations(FailingOperations(-1), run_command, atlas) != self.snapshot_id:
            return "another snapshot id"
        if findings := verify_atlas(atlas)[1]:
            return f"after it was repeated: {findings[0].code} {findings[0].where}"
        counts = open_atlas(atlas).snapshot("v1").counts(np.arange(24), ["G-CD3D"])
        return "other counts" if (counts != self._counts).nnz else ""


def run_command(atlas: Path) -> str:
    """Publish a data set, freeze, and return the id of the snapshot."""
    opened = open_atlas(atlas)
    opened.publish([write_dataset(atlas, content=_FIXTURES.content_of("kang"))])
    return opened.freeze("v1").snapshot_id


def with_operations(operations, function, argument):
    """Call a function while the disk is another one."""
    usual, local.operations = local.operations, operations
    try:
        return function(argument)
    finally:
        local.operations = usual


def state_of(atlas: Path) -> str:
    """Return a digest of all names and bytes below a directory; temporary names are equal, being random."""
    digest = hashlib.sha256()
    for path in sorted(atlas.rglob("*")):
        name = re.sub(rf"{STAGED_PREFIX}\w+", STAGED_PREFIX, path.relative_to(atlas).as_posix())
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()


def left_behind(atlas: Path) -> list[str]:
    """Return the temporary names in an atlas."""
    return [path.name for path in atlas.rglob(f"{STAGED_PREFIX}*")]


def fail_at(sweep: Sweep, n_th: int) -> str:
    """Let the n-th call fail, and return what is wrong with that or afterwards."""
    name = sweep.calls[n_th]
    is_cleanup = name in {"unlink", "rmdir"}
    failing = FailingOperations(n_th, error="EIO" if name == "fsync" else "ENOSPC")
    atlas = sweep.fresh(f"failed-{n_th}")
    try:
        with_operations(failing, run_command, atlas)
        told = 0
    except OSError as error:
        told = error.errno or -1
    # What cannot be cleared away may be left, and is then no reason to fail.
    if told != failing.errno and (told or not is_cleanup):
        return f"told {told}"
    if not is_cleanup and left_behind(atlas):
        return f"left {left_behind(atlas)}"
    return afterwards(sweep, atlas)


def die_at(sweep: Sweep, n_th: int) -> str:
    """Let a process die at the n-th call, and return what is wrong afterwards."""
    atlas = sweep.fresh(f"killed-{n_th}")
    child = os.fork()
    if not child:
        try:
            with_operations(FailingOperations(n_th, error="KILL"), run_command, atlas)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != KILLED:
        return f"ended with {code}"
    sweep.n_left += bool(left_behind(atlas))
    return afterwards(sweep, atlas)


def afterwards(sweep: Sweep, atlas: Path) -> str:
    """Return what is wrong with an atlas, which is removed."""
    try:
        state = state_of(atlas)
        if state not in sweep.judged:
            sweep.judged[state] = sweep.wrong(atlas)
        return sweep.judged[state]
    except (CytolabeError, OSError) as error:
        return repr(error)
    finally:
        shutil.rmtree(atlas)


def main(folder: Path) -> None:
    """Let each call fail, and a process die at it, and print what was wrong."""
    sweep = Sweep(folder)
    wrong = {
        f"{test.__name__} {n_th} {name}": problem
        for n_th, name in enumerate(sweep.calls)
        for test in (fail_at, die_at)
        # Nothing is on the disk after a flush that was not before: to die behind it is to die at it.
        if test is fail_at or n_th == 0 or sweep.calls[n_th - 1] != "fsync"
        if (problem := test(sweep, n_th))
    }
    sys.stdout.write(
        json.dumps({"calls": sweep.calls, "n_left": sweep.n_left, "n_states": len(sweep.judged), "wrong": wrong})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
