"""What the benches share: one row of a result, the table, and the file that `make bench` leaves.

A row is `{"what", "unit", "ours", "peer", "peer_value", "ratio", "reach", "met"}`. `ratio` is ours over the peer's;
`reach` says what it should be, in words; where nothing is reached for, `reach` is empty and `met` is null.
"""

import json
import operator
import resource
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

OUT = Path(__file__).resolve().parent / "out"
_WORDS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured comparison."""

    what: str
    unit: str
    ours: float
    peer: str
    peer_value: float
    ratio: float
    reach: str
    met: bool | None


def compared(what: str, unit: str, *, ours: float, peer: tuple[str, float], reach: str = "") -> Row:
    """Return a row; `peer` is its name and value, `reach` is empty or like '<= 3'."""
    ratio = ours / peer[1]
    word, _, limit = reach.partition(" ")
    met = _WORDS[word](ratio, float(limit)) if reach else None
    return Row(
        what=what, unit=unit, ours=_short(ours), peer=peer[0], peer_value=_short(peer[1]), ratio=_short(ratio),
        reach=reach, met=met,
    )  # fmt: skip


def cpu_seconds(command: Sequence[str], *, repeats: int) -> list[float]:
    """Return the CPU time (user and system) of each of several runs of a command, after one run that is not counted."""
    found = []
    for number in range(repeats + 1):
        before = _children_seconds()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).resolve().parent)
        if number:
            found.append(_children_seconds() - before)
    return found


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # in microseconds; os.times counts in hundredths
    return used.ru_utime + used.ru_stime


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def write_rows(name: str, rows: Sequence[Row]) -> None:
    """Print the rows as a table and write them to `bench/out/<name>.json`."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    header = ["what", "unit", "ours", "peer", "peer's", "ratio", "reach", "met"]
    words = {True: "yes", False: "NO", None: ""}
    texts = [header] + [
        [
            row.what,
            row.unit,
            f"{row.ours:g}",
            row.peer,
            f"{row.peer_value:g}",
            f"{row.ratio:g}",
            row.reach,
            words[row.met],
        ]
        for row in rows
    ]
    widths = [max(len(text[column]) for text in texts) for column in range(len(header))]
    for text in texts:
        print("  ".join(value.ljust(width) for value, width in zip(text, widths, strict=True)).rstrip())
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _short(value: float) -> float:
    return float(f"{value:.4g}")
