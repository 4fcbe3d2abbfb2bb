"""Tables as tab-separated text that any reader of such tables gives back as they were."""

import csv
import io
from collections.abc import Iterable, Sequence

__all__ = ["tsv_text"]

_CSV_END = "\r\n"


def tsv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines that end with a line feed; None is empty, and a field with a tab, quote or end of line is quoted.

    A carriage return inside a field is quoted as well: bare, it would end the line for whoever reads it.
    """
    stream = io.StringIO(newline="")
    # csv quotes a carriage return only where one is part of the end of its lines, which is taken off again.
    writer = csv.writer(_PlainEnds(stream), delimiter="\t", lineterminator=_CSV_END)
    writer.writerows(rows)
    return stream.getvalue()


class _PlainEnds:
    """Takes lines as csv ends them and passes them on with a line feed alone."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        """Pass on one line."""
        return self._stream.write(line.removesuffix(_CSV_END) + "\n")
