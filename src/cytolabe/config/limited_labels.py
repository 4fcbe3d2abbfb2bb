"""How few labels a study asks its models to learn from: `[study.limited_labels]` of a study file.

cells_per_type = [1, 5, 10, 50]     training cells of each type
donors = [1, 2, 4]                  training donors, with all of their labelled cells
n_draws = 3                         how often the cells, or the donors, are drawn
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolabe.config.manifest import unknown_key_error
from cytolabe.errors import UsageError

__all__ = ["LimitedLabels", "limited_labels_of"]

_AXES = ("cells_per_type", "donors")
_MOST_DRAWS = 50


@dataclass(frozen=True, kw_only=True)
class LimitedLabels:
    """Numbers of cells of each type and of donors, each ascending, and how often they are drawn.

    `annotators` are models without a classifier of their own that are trained anew for each draw: none unless named.
    """

    cells_per_type: tuple[int, ...] = ()
    donors: tuple[int, ...] = ()
    n_draws: int = 3
    annotators: tuple[str, ...] = ()


def limited_labels_of(table: Mapping[str, object], where: str) -> LimitedLabels:
    """Read the table.

    Parameters
    ----------
    table
        Its keys.
    where
        How errors call it.

    Raises
    ------
    UsageError
        If a key is unknown, a number is none or out of its range, or nothing is asked for.
    """
    for key in table:
        if key not in {*_AXES, "n_draws", "annotators"}:
            raise unknown_key_error(key, [*_AXES, "n_draws", "annotators"], where)
    cells, donors = (_ascending(table.get(axis, []), f"{where}: {axis}") for axis in _AXES)
    n_draws = table.get("n_draws", 3)
    if not isinstance(n_draws, int) or isinstance(n_draws, bool) or not 1 <= n_draws <= _MOST_DRAWS:
        msg = f"{where}: n_draws must be a whole number from 1 to {_MOST_DRAWS}, not {n_draws!r}."
        raise UsageError(msg)
    if not cells and not donors:
        msg = f"{where} asks for nothing: give cells_per_type = [1, 5, 10, 50], donors = [1, 2, 4], or both."
        raise UsageError(msg)
    annotators = table.get("annotators", [])
    if not isinstance(annotators, list | tuple) or not all(isinstance(name, str) for name in annotators):
        msg = f"{where}: annotators must be a list of models, such as ['scanvi'], not {annotators!r}."
        raise UsageError(msg)
    return LimitedLabels(
        cells_per_type=cells, donors=donors, n_draws=n_draws, annotators=tuple(str(name) for name in annotators)
    )


def _ascending(value: object, where: str) -> tuple[int, ...]:
    numbers = value if isinstance(value, list | tuple) else None
    if numbers is None or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in numbers):
        msg = f"{where} must be a list of whole numbers from 1 on, not {value!r}."
        raise UsageError(msg)
    if list(numbers) != sorted(set(numbers)):
        msg = f"{where} = {list(numbers)}: write each number once, the smallest first."
        raise UsageError(msg)
    return tuple(_whole(numbers))


def _whole(numbers: Sequence[object]) -> list[int]:
    return [one for one in numbers if isinstance(one, int)]
