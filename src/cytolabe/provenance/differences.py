"""Where two records differ, by the path of each field: `parameters.seed`, `parents[split split.json].digest`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

__all__ = ["ABSENT", "Difference", "differences"]

ABSENT = "absent"
"""Stands for a field that one of the two does not have."""

_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One field that differs; `first` or `second` is `ABSENT` where only the other has it."""

    path: str
    first: object
    second: object

    @property
    def sentence(self) -> str:
        """Return the difference in words; long values are cut."""
        return f"{self.path}: {_short(self.first)} -> {_short(self.second)}"


def differences(first: object, second: object, path: str = "") -> Iterator[Difference]:
    """Yield each field in which two JSON values differ, in the order of the first one's fields.

    Items of a list that have a `name` are matched by role and name and not by position: an input more or less moves
    all that follow it.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in [*first, *(key for key in second if key not in first)]:
            lead = f"{path}.{key}" if path else str(key)
            yield from differences(first.get(key, ABSENT), second.get(key, ABSENT), lead)
    elif _is_named(first) and _is_named(second):
        yield from differences(_by_name(first), _by_name(second), path)
    elif _is_list(first) and _is_list(second) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif type(first) is not type(second) or first != second:
        yield Difference(path=path.replace(".[", "["), first=first, second=second)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _is_named(value: object) -> TypeGuard[Sequence[Mapping[str, object]]]:
    return _is_list(value) and bool(value) and all(isinstance(item, Mapping) and "name" in item for item in value)


def _by_name(items: Sequence[Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
    """Return the items by role and name; those that share both are numbered in their order."""
    found: dict[str, Mapping[str, object]] = {}
    for item in items:
        words = f"{item.get('role', '')} {item['name']}".strip()
        name, number = words, 1
        while f"[{name}]" in found:
            number += 1
            name = f"{words} {number}"
        found[f"[{name}]"] = item
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
