"""What a process that looks through an untrusted file may use, and how it tells what it found."""

import dataclasses
import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cytolabe.ingest.spill import Spill
from cytolabe.records import Finding

__all__ = ["limit_process", "open_nothing_more", "run_limited"]


def run_limited(look: Callable[..., Sequence[Finding]]) -> None:
    """Bound this process as its argument says, look through the file, and write the findings as JSON.

    No core dump is left of a crash, and no byte is written to any file. What the task has as `options`, the function
    gets as tuples behind the path, and as `spill` what it may keep outside of its memory, where the task has one.
    """
    task = json.loads(sys.argv[1])
    limit_process(task)
    kept = {"spill": Spill(tuple(task["spill"]))} if "spill" in task else {}
    found = look(Path(task["path"]), *(tuple(option) for option in task.get("options", ())), **kept)
    sys.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in found]))


def limit_process(task: Mapping[str, object]) -> None:
    """Bound this process: `memory` bytes of address space, `seconds` of processor, no core dump, no byte in any file."""
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, int(str(task["memory"]))),
        (resource.RLIMIT_CPU, int(str(task["seconds"]))),
    ):
        hard = resource.getrlimit(kind)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (soft, hard if kind == resource.RLIMIT_CPU else soft))


def open_nothing_more() -> None:
    """Let this process open no file and no socket from here on; what is open stays so. Imports fail afterwards."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
