"""What the commands print: one JSON document or a table on standard output, progress and problems beside it."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["print_document", "print_error", "print_findings", "print_table", "print_usage_error", "progress"]


def print_document(document: Mapping[str, object]) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_error(error: Exception, *, as_json: bool) -> None:
    """Print a deliberate error: one line, or one JSON document."""
    if as_json:
        print_document({"error": {"type": type(error).__name__, "message": str(error)}})
    else:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")


def print_usage_error(message: str, *, as_json: bool) -> None:
    """Print an error of the call itself."""
    if as_json:
        print_document({"error": {"type": "UsageError", "message": message}})
    else:
        sys.stderr.write(f"{message}\nTry 'cytolabe --help'.\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a plain table: columns as wide as their content, numbers as they are."""
    texts = [[str(value) for value in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    for position, row in enumerate(texts):
        line = "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
        if position == 0:
            sys.stdout.write("  ".join("-" * width for width in widths) + "\n")


def print_findings(findings: Sequence[object], *, where: str = "") -> None:
    """Print findings, worst first: code, what, where, how many, and what to do."""
    order = {"error": 0, "warning": 1, "note": 2}
    lead = f"{where}: " if where else ""
    for finding in sorted(findings, key=lambda f: (order[str(f.severity)], f.code)):  # type: ignore[attr-defined]
        share = f" ({finding.n_affected:,} of {finding.n_total:,})" if finding.n_total else ""  # type: ignore[attr-defined]
        sys.stdout.write(f"{lead}{finding.code} {finding.where}{share}: {finding.message}\n")  # type: ignore[attr-defined]
        if finding.severity != "note":  # type: ignore[attr-defined]
            sys.stdout.write(f"    do: {finding.remedy}\n")  # type: ignore[attr-defined]


def progress() -> Callable[[str], None]:
    """Return a function that tells on standard error what is being done, with the seconds since the start."""
    start = time.monotonic()

    def tell(message: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - start:6.1f} s] {message}\n")
        sys.stderr.flush()

    return tell
