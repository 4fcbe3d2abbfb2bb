"""The process that reads files of others for `flow.apart`: one task after the other, each answered in JSON.

It leaves no core dump, and ends when nobody asks it any more. Ctrl-C of a terminal reaches it as well; whoever started
it decides what that means.
"""

import dataclasses
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from cytolabe.flow.apart import end_with_caller, serve
from cytolabe.flow.examine import examine
from cytolabe.flow.meaning import donors_of
from cytolabe.ingest.sources import SourceFile

__all__ = ["KINDS"]


def _examined(source: SourceFile) -> Mapping[str, object]:
    found = examine(source)
    return {
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
        "unreadable": found.unreadable,
        "donors": {} if found.unreadable else dict(donors_of(source.path)),
    }


def _donors(path: Path) -> Mapping[str, object]:
    return dict(donors_of(path))


KINDS: Mapping[str, Callable[..., Mapping[str, object]]] = {"examine": _examined, "donors": _donors}
"""Kind of task -> what does it."""


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_caller()
    serve(Connection(int(sys.argv[1])), KINDS)
