"""What the benches share: one row of a result, the table, and the file that `make bench` leaves.

A row is `{"what", "unit", "ours", "peer", "peer_value", "ratio", "reach", "met", "extra"}`. `ratio` is ours over the
peer's, null where there is no peer or it could not be measured, and `peer` then says why. `reach` says what should be
reached, in words: clauses joined by "and", each a comparison of the ratio ('<= 3') or of our own value ('ours >=
25000'); where nothing is reached for it is empty and `met` is null. `extra` holds what belongs beside the value:
non-zeros per second, shuffle entropy, cores.
"""

import json
import operator
import resource
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

OUT = Path(__file__).resolve().parent / "out"
_WORDS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured comparison."""

    what: str
    unit: str
    ours: float | None
    peer: str
    peer_value: float | None
    ratio: float | None
    reach: str
    met: bool | None
    extra: dict[str, float] = field(default_factory=dict)


def compared(
    what: str,
    unit: str,
    *,
    ours: float | None,
    peer: tuple[str, float | None] = ("", None),
    reach: str = "",
    extra: dict[str, float] | None = None,
) -> Row:
    """Return a row; `peer` is its name and value (none where it could not be measured)."""
    ratio = ours / peer[1] if ours is not None and peer[1] else None
    met = all(_holds(clause.strip(), ours=ours, ratio=ratio) for clause in reach.split(" and ")) if reach else None
    return Row(
        what=what, unit=unit, ours=_short(ours), peer=peer[0], peer_value=_short(peer[1]), ratio=_short(ratio),
        reach=reach, met=met, extra={name: float(f"{value:.4g}") for name, value in (extra or {}).items()},
    )  # fmt: skip


def _holds(clause: str, *, ours: float | None, ratio: float | None) -> bool:
    """Say whether one clause of a reach holds; what was not measured does not."""
    words = clause.removeprefix("ours ").split(" ")
    value = ours if clause.startswith("ours ") else ratio
    return value is not None and _WORDS[words[0]](value, float(words[1]))


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
            _text(row.ours),
            row.peer,
            _text(row.peer_value),
            _text(row.ratio),
            row.reach,
            words[row.met],
        ]
        for row in rows
    ]
    widths = [max(len(text[column]) for text in texts) for column in range(len(header))]
    for text in texts:
        print("  ".join(value.ljust(width) for value, width in zip(text, widths, strict=True)).rstrip())
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
