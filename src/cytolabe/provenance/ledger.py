"""The ledger of a run: small results of tasks, kept until the run is over, so that a killed run goes on where it was.

A ledger is a directory named by a digest of everything that the results follow from: the source (path, size, time of
its last change), the parameters, and the code. With another source or another code it is another ledger, so nothing
in it can be stale. A result is JSON and arrays in one `.npz` file, written whole or not at all; nothing is pickled.
"""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.files import replace_file
from cytolabe.provenance.canonical import canonical_json, digest_of
from cytolabe.provenance.runs import code_identity

__all__ = ["Ledger", "ledger_key", "packed", "source_state", "unpacked"]

_DOCUMENT = "document"


class Ledger:
    """Results of finished tasks by name, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, name: str) -> tuple[dict[str, object], dict[str, np.ndarray]] | None:
        """Return the document and the arrays of a finished task, or None where it has to be done.

        A result that cannot be read has to be done again; it is never an error.
        """
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            return unpacked(path.read_bytes())
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, name: str, document: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
        """Record what a task found."""
        replace_file(self._path(name), packed(document, arrays))

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.npz"


def packed(document: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a document and arrays as the bytes of one `.npz` file; an array keeps its type, shape and order of axes."""
    content = io.BytesIO()
    text = np.frombuffer(canonical_json(document), dtype=np.uint8)
    np.savez(content, allow_pickle=False, **{_DOCUMENT: text}, **arrays)
    return content.getvalue()


def unpacked(content: bytes | memoryview) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the document and the arrays of `packed`.

    Raises
    ------
    ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile
        If these bytes are not what it made.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    return json.loads(arrays.pop(_DOCUMENT).tobytes()), arrays


def ledger_key(**inputs: object) -> str:
    """Return 32 digits for everything that the results of a run follow from; the code is added."""
    return digest_of({**inputs, "code": _code_digest()}).removeprefix("sha256:")[:32]


def source_state(path: Path) -> dict[str, object]:
    """Return what tells a file, or the files of a folder, from their state after a change, without reading them."""
    found = path.stat()
    state: dict[str, object] = {
        "path": _text(path.resolve()),
        "size": found.st_size,
        "mtime_ns": str(found.st_mtime_ns),
        "inode": str(found.st_ino),
    }
    if path.is_dir():
        inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
        stats = [(_text(entry.relative_to(path)), entry.stat()) for entry in inside]
        state["files"] = digest_of([[name, found.st_size, str(found.st_mtime_ns)] for name, found in stats])
    return state


def _text(path: Path) -> str:
    """Return a path as text; bytes in it that are none, which a name on a disk may have, are spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@cache
def _code_digest() -> str:
    return code_identity()["source_sha256"]
