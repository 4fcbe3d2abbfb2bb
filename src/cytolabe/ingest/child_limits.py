"""What a process that looks through an untrusted file may use, and how it tells what it found."""

import dataclasses
import json
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cytolabe.records import Finding

__all__ = ["run_limited"]


def run_limited(look: Callable[..., Sequence[Finding]]) -> None:
    """Bound this process as its argument says, look through the file, and write the findings as JSON.

    No core dump is left of a crash, and no byte is written to any file. What the task has as `options`, the function
    gets as tuples behind the path.
    """
    task = json.loads(sys.argv[1])
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, int(task["memory"])),
        (resource.RLIMIT_CPU, int(task["seconds"])),
    ):
        hard = resource.getrlimit(kind)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (soft, hard if kind == resource.RLIMIT_CPU else soft))
    found = look(Path(task["path"]), *(tuple(option) for option in task.get("options", ())))
    sys.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in found]))
