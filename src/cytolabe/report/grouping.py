"""Texts that differ in their numbers only are one text, told once: the least and the most of each number.

Six files with one finding, or seven folds with one reason, are read as one line; what belongs to each stands beside it.
"""

import re
from collections.abc import Sequence

__all__ = ["shape_of", "spanning"]

# Numbers that stand alone. Digits inside of names and terms (pbmc3k, CL:0000236) are no numbers.
_NUMBER = re.compile(r"(?<![\w.:,])\d+(?:,\d{3})*(?:\.\d+)?(?![\w:]|[.,]\d)")


def shape_of(text: str) -> tuple[str, ...]:
    """Return the pieces of the text between the numbers that stand alone: equal where only numbers differ."""
    return tuple(_NUMBER.split(text))


def spanning(texts: Sequence[str]) -> str:
    """Return one text for several of one shape; numbers that differ become `17 to 22`.

    Raises
    ------
    ValueError
        If the texts have more than one shape.
    """
    found = [_NUMBER.findall(text) for text in texts]
    spans = iter([sorted(set(numbers), key=_size) for numbers in zip(*found, strict=True)])

    def span(_: re.Match[str]) -> str:
        numbers = next(spans)
        return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"

    return _NUMBER.sub(span, texts[0])


def _size(number: str) -> tuple[float, str]:
    return (float(number.replace(",", "")), number)
