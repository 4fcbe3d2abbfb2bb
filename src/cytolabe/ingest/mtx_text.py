"""Read a MatrixMarket file as a stream: pieces of text become arrays of entries, and nothing is held whole.

The text is parsed by a kernel, piece by piece; each line has to be `row column value` with numbers from 1 on. What the
header says is compared with what follows: a reader that believes it allocates whatever it claims.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np

from cytolabe.compiled import kernel
from cytolabe.errors import CytolabeError, UnreadableInputError
from cytolabe.ingest.refusals import refusal
from cytolabe.records import Finding, Severity

__all__ = ["MtxHeader", "iter_entries", "mtx_problem", "read_header"]

_PIECE_BYTES = 4 << 20
_MAX_LINE = 1 << 16
_MAX_COMMENT_BYTES = 1 << 20
_MAX_ENTRY_BYTES = 256
"""Bytes of text for each entry, on average over the file: a small compressed file may be made of blanks without end."""
_HEADER = re.compile(rb"%%MatrixMarket\s+matrix\s+coordinate\s+(integer|real)\s+general\s*", re.IGNORECASE)
_SIZES = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})\s+(\d{1,18})\s*")
_LARGEST_EXACT = 2**53


@dataclass(frozen=True, kw_only=True)
class MtxHeader:
    """What the first lines of a MatrixMarket file claim."""

    n_rows: int
    n_columns: int
    n_entries: int


def read_header(stream: BufferedIOBase, where: str) -> MtxHeader:
    """Read the header and leave the stream at the first entry.

    Raises
    ------
    UnreadableInputError
        If it is no MatrixMarket file of plain numbers in coordinates.
    """
    first = stream.readline(_MAX_LINE)
    if not _HEADER.fullmatch(first):
        raise mtx_problem(where, f"The first line is {first[:60]!r}, not that of numbers in coordinates.")
    line, n_bytes = stream.readline(_MAX_LINE), 0
    while line.startswith(b"%") or (line and not line.strip()):
        n_bytes += len(line)
        if n_bytes > _MAX_COMMENT_BYTES:
            raise mtx_problem(
                where, f"Over {_MAX_COMMENT_BYTES:,} bytes of comments and blanks stand before the sizes."
            )
        line = stream.readline(_MAX_LINE)
    sizes = _SIZES.fullmatch(line)
    if sizes is None:
        raise mtx_problem(where, f"The line of the sizes is {line[:60]!r}, not three numbers.")
    return MtxHeader(n_rows=int(sizes[1]), n_columns=int(sizes[2]), n_entries=int(sizes[3]))


def iter_entries(
    stream: BufferedIOBase, header: MtxHeader, where: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows, columns (both from 0) and values of the entries in the order of the file, a piece at a time.

    Raises
    ------
    UnreadableInputError
        If a line is no entry, lies outside of the matrix, or there are more or fewer than the header says.
    """
    n_seen, n_bytes, rest = 0, 0, b""
    while True:
        piece = stream.read(_PIECE_BYTES)
        n_bytes += len(piece)
        text = rest + piece if piece else rest + b"\n"
        end = text.rfind(b"\n") + 1
        if not end and len(text) > _MAX_LINE:
            raise mtx_problem(where, f"A line after entry {n_seen:,} has over {_MAX_LINE:,} bytes.")
        lines, rest = text[:end], text[end:]
        rows, columns, values, wrong = _parsed(lines)
        if wrong >= 0:
            line = lines[wrong : wrong + 60].split(b"\n")[0]
            raise mtx_problem(where, f"The line {line!r} (after entry {n_seen + len(rows):,}) is no entry.")
        outside = (rows < 0) | (rows >= header.n_rows) | (columns < 0) | (columns >= header.n_columns)
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            message = (
                f"Entry {n_seen + at + 1:,} lies at row {rows[at] + 1:,}, column {columns[at] + 1:,} of a matrix of "
                f"{header.n_rows:,} x {header.n_columns:,}."
            )
            raise mtx_problem(where, message)
        n_seen += len(rows)
        if n_seen > header.n_entries or (not piece and n_seen < header.n_entries):
            than = "more" if n_seen > header.n_entries else "fewer"
            message = (
                f"The header says {header.n_entries:,} entries, and there are {than} ({n_seen:,} when it was seen)."
            )
            raise mtx_problem(where, message)
        if n_bytes > 2 * _PIECE_BYTES + _MAX_ENTRY_BYTES * n_seen:
            message = (
                f"{n_seen:,} entries are spread over {n_bytes:,} bytes of text and more: nearly all of it is blank."
            )
            raise mtx_problem(where, message)
        yield rows, columns, values
        if not piece:
            return


def mtx_problem(where: str, message: str) -> CytolabeError:
    """Return the error for a MatrixMarket file that cannot be used."""
    finding = Finding(
        code="E-MTX-01",
        severity=Severity.ERROR,
        where=where,
        n_affected=1,
        n_total=1,
        message=message,
        remedy="Copy the file again and compare the sizes, or write it anew; a file that was cut off looks like this.",
        rule="cytolabe/readable",
    )
    return refusal(UnreadableInputError, [finding])


def _parsed(lines: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    text = np.frombuffer(lines, dtype=np.uint8)
    most = lines.count(b"\n")
    places, values = np.empty((2, most), np.int64), np.empty(most, np.float64)
    n_found, wrong = _parse(text, places, values)
    return places[0, :n_found], places[1, :n_found], values[:n_found], wrong


@kernel
def _parse(text: np.ndarray, places: np.ndarray, values: np.ndarray) -> tuple[int, int]:
    """Return how many entries were found, and where the first line begins that is none (-1: all are)."""
    n_found, n_fields, at, start = 0, 0, 0, 0
    while at < len(text):
        if text[at] == 10:
            if n_fields not in {0, 3}:
                return n_found, start
            n_found += n_fields == 3
            n_fields, at = 0, at + 1
            start = at
        elif _is_blank(text[at]):
            at += 1
        else:
            whole, scale, after = _number(text, at)
            is_place = n_fields < 2 and scale == 0 and 48 <= text[at] <= 57
            if after < 0 or not (is_place or n_fields == 2):
                return n_found, start
            if is_place:
                places[n_fields, n_found] = whole - 1
            else:
                values[n_found] = _value(whole, scale)
            n_fields, at = n_fields + 1, after
    return n_found, -1


@kernel
def _is_blank(byte: int) -> bool:
    return byte in {32, 9, 13}


@kernel
def _value(whole: int, scale: int) -> float:
    """Return whole * 10 ** scale; what lies above 2^53 stays above it, where it is refused, and never rounds down."""
    value = float(whole)
    if scale < 0:
        return value / 10.0**-scale
    return (value + 2048.0 if whole > _LARGEST_EXACT else value) * 10.0**scale


@kernel
def _number(text: np.ndarray, at: int) -> tuple[int, int, int]:
    """Return (whole, scale, place behind) of the number whole * 10 ** scale that begins here; the place is -1 if none does."""
    is_negative = text[at] == 45
    at += text[at] in {43, 45}
    whole, at_point, n_digits, first = 0, -1, 0, at
    while at < len(text) and (48 <= text[at] <= 57 or (text[at] == 46 and at_point < 0)):
        if text[at] == 46:
            at_point = at
        else:
            whole = whole * 10 + (int(text[at]) - 48)
            n_digits += 1
        at += 1
    scale = at_point + 1 - at if at_point >= 0 else 0
    if n_digits == 0 or n_digits > 18 or at == first:
        return 0, 0, -1
    if at < len(text) and text[at] in {69, 101}:
        exponent, at = _exponent(text, at + 1)
        scale += exponent
    if at < 0 or (at < len(text) and text[at] != 10 and not _is_blank(text[at])):
        return 0, 0, -1
    return -whole if is_negative else whole, scale, at


@kernel
def _exponent(text: np.ndarray, at: int) -> tuple[int, int]:
    """Return (exponent, place behind); the place is -1 if none begins here."""
    if at >= len(text):
        return 0, -1
    is_negative = text[at] == 45
    at += text[at] in {43, 45}
    exponent, first = 0, at
    while at < len(text) and 48 <= text[at] <= 57 and at < first + 3:
        exponent = exponent * 10 + (int(text[at]) - 48)
        at += 1
    return -exponent if is_negative else exponent, at if at > first else -1
