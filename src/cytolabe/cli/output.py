"""What the commands print: one JSON document or a table on standard output, progress and problems beside it.

Where a result is to be written is looked at before the work begins: an hour of reading must not end at a folder that
cannot be made.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cytolabe.errors import UsageError

if TYPE_CHECKING:
    from cytolabe.records import Finding

__all__ = [
    "made_folder",
    "print_document",
    "print_error",
    "print_findings",
    "print_pairs",
    "print_table",
    "progress",
    "shown",
    "writable_file",
]

_ORDER = {"error": 0, "warning": 1, "note": 2}


def print_document(document: Mapping[str, object]) -> None:
    """Print one JSON document on standard output; NaN and infinity are no JSON and never printed."""
    # Where the terminal has another alphabet, the escapes of JSON stand for what it lacks.
    is_unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not is_unicode, allow_nan=False) + "\n")


def print_error(kind: str, message: str, *, as_json: bool) -> None:
    """Print why a command stopped: one JSON document on standard output, or one line beside it."""
    if as_json:
        print_document({"error": {"type": kind, "message": message}})
    else:
        sys.stderr.write("\n".join(shown(line) for line in f"{kind}: {message}".split("\n")) + "\n")


def shown(text: str) -> str:
    """Return a text of others as it may stand on a terminal: its control and direction characters spelled out."""
    if text.isprintable():
        return text
    from cytolabe.report.text import inert

    return inert(text, limit=len(text))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a plain table: columns as wide as their content, numbers as they are."""
    texts = [["" if value is None else shown(str(value)) for value in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    for position, row in enumerate(texts):
        line = "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
        if position == 0:
            sys.stdout.write("  ".join("-" * width for width in widths) + "\n")


def print_pairs(document: Mapping[str, object]) -> None:
    """Print one line per key, values in one column."""
    width = max(map(len, document))
    for key, value in document.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
        sys.stdout.write(f"{key.ljust(width)}  {shown(text)}".rstrip() + "\n")


def print_findings(findings: Sequence["Finding"], *, where: str = "") -> None:
    """Print findings, worst first: code, what, where, how many, and what to do."""
    lead = f"{where}: " if where else ""
    for finding in sorted(findings, key=lambda f: (_ORDER[str(f.severity)], f.code)):
        share = f" ({finding.n_affected:,} of {finding.n_total:,})" if finding.n_total else ""
        sys.stdout.write(shown(f"{lead}{finding.code} {finding.where}{share}: {finding.message}") + "\n")
        if str(finding.severity) != "note":
            sys.stdout.write(f"    do: {shown(finding.remedy)}\n")


def progress() -> Callable[[str], None]:
    """Return a function that tells on standard error what is being done, with the seconds since the start."""
    start = time.monotonic()

    def tell(message: str) -> None:
        if sys.stderr is not None:
            # Whoever read them is gone or closed it: the work goes on for those who want its results.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"[{time.monotonic() - start:6.1f} s] {message}\n")
                sys.stderr.flush()

    return tell


def writable_file(path: Path, option: str) -> Path:
    """Return the path of a result after its folder was made.

    Raises
    ------
    UsageError
        If the path is a folder, or its folder cannot be made.
    """
    if path.is_dir():
        msg = f"{option} {path} is a folder; name a file, for example {path / 'result'}{path.suffix}."
        raise UsageError(msg)
    made_folder(path.parent, option)
    return path


def made_folder(path: Path, option: str) -> Path:
    """Make a folder for results, with those above it, and return it.

    Raises
    ------
    UsageError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{option}: the folder {path} cannot be made ({error.strerror}). Name another place."
        raise UsageError(msg) from None
    return path
