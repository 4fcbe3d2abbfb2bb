"""The process that reads an old file of weights or a pickled dictionary, and writes what is left of it to a pipe.

Before it reads a byte it is bounded in memory and time and can write to no file; after its modules are loaded and the
one file is open, it can open nothing more, neither file nor socket. What the file would have run is not run even so.
"""

import codecs
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cytolabe.errors import CytolabeError, UnreadableInputError
from cytolabe.genes.pickles import plain_scalar, read_inert
from cytolabe.ingest.child_limits import limit_process, open_nothing_more
from cytolabe.models.torch_archives import safetensors_of_archive
from cytolabe.provenance import canonical_json

__all__ = ["DICTIONARY_GLOBALS", "converted"]

_ENCODINGS = ("ascii", "cp437", "latin-1", "raw-unicode-escape", "utf-16-be")
"""Of names in archives, of texts in pickles, of sorted keys: modules of their own, loaded on first use, which is too late."""
DICTIONARY_GLOBALS = frozenset({"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"})
"""All that a pickled dictionary of numbers or names holds beside plain values."""


def converted(file: BinaryIO, *, kind: str, where: str) -> Iterator[bytes]:
    """Yield the converted bytes of an open file.

    Parameters
    ----------
    kind
        `weights` (an archive of torch) or `dictionary` (a pickle).

    Raises
    ------
    HostileInputError
        If the file names anything outside the list of its kind.
    UnreadableInputError
        If it is no file of its kind.
    """
    if kind == "weights":
        yield from safetensors_of_archive(file, where=where)
        return
    found = read_inert(file.read(), where=where, allowed=DICTIONARY_GLOBALS)
    table = found if isinstance(found, dict) else {}
    plain = {str(name): plain_scalar(value, where=where) for name, value in table.items()}
    if (
        not plain
        or len(plain) != len(table)
        or not all(isinstance(value, str | int | float) for value in plain.values())
    ):
        msg = f"{where}: holds no table of numbers or names; a gene dictionary was expected."
        raise UnreadableInputError(msg)
    yield canonical_json(plain)


def _main() -> int:
    task = json.loads(sys.argv[1])
    limit_process(task)
    path = Path(task["path"])
    try:
        with path.open("rb") as file:
            for name in _ENCODINGS:
                codecs.lookup(name)
            open_nothing_more()
            for piece in converted(file, kind=task["kind"], where=path.name):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except CytolabeError as error:
        sys.stderr.write(json.dumps({"type": type(error).__name__, "message": str(error)}))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(_main())
