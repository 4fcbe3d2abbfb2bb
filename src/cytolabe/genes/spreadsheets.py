"""What a spreadsheet made of gene symbols, and which gene each can have been.

`SEPT2` is shown as `2-Sep`, saved as `Sep-02`, `2021-09-02` or the day's serial number `44441`; the year is that of the
conversion and says nothing. What is left is a month and a day, and the families that look like one: MARCH and MARC
(MARCHF, MTARC today), SEPT (SEPTIN) and DEC1 (DELEC1). Where one gene is left, it is proposed and never taken: the way
back is for a person to go, through the alias table. `1-Mar` and `2-Mar` were MARCHF or MTARC.

A serial number looks like an Entrez id, so it is read as a day only where nearly all features are no numbers.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence

from cytolabe.genes.reference import GeneReference

__all__ = ["day_of", "is_wreck", "proposals_of", "serials_among"]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = r"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
_COPY = r"(?:\.\d{1,2})?"
"""What `make.unique` puts behind a second one."""
_DATES = tuple(
    re.compile(pattern + _COPY, re.IGNORECASE)
    for pattern in (
        rf"X?(?P<day>\d{{1,2}})[-. /]{_NAME}(?:[-. /](?:19|20)?\d\d)?",
        rf"{_NAME}[-. /](?P<day>\d\d)",
        r"X?(?:19|20)\d\d[-./](?P<number>\d\d)[-./](?P<day>\d\d)(?:[ T].*)?",
        r"X?(?P<number>\d{1,2})/(?P<day>\d{1,2})/(?:19|20)?\d\d",
    )
)
_TITLED = re.compile(rf"{_NAME}[-. /](?P<day>\d)" + _COPY)
"""`Mar-1`, but not `APR-1`, which is a name of a gene."""
_FLOAT = re.compile(r"X?\d\.\d+E[+.]?\d+" + _COPY)
"""A RIKEN id such as 2310009E13, read as a number."""
_FAMILIES: Mapping[int, tuple[str, ...]] = {3: ("MARCHF", "MTARC"), 9: ("SEPTIN",), 12: ("DELEC",)}
_EPOCH = dt.date(1899, 12, 30)
_SERIAL = re.compile(r"X?(?P<serial>\d{5})" + _COPY)
_SERIALS = range((dt.date(1990, 1, 1) - _EPOCH).days, (dt.date(2035, 1, 1) - _EPOCH).days)
_MAX_NUMBERS = 0.02
"""Share of numbers among the features up to which a number can be a day."""


def is_wreck(feature: str) -> bool:
    """Return whether a spreadsheet wrote this: a date, or a number with an exponent."""
    return day_of(feature) is not None or _FLOAT.fullmatch(feature) is not None


def day_of(feature: str) -> tuple[int, int] | None:
    """Return month and day of a date that may have been a symbol, or None."""
    for pattern in (*_DATES, _TITLED):
        match = pattern.fullmatch(feature)
        if match:
            found = match.groupdict()
            month = int(found["number"]) if found.get("number") else _MONTHS.index(found["month"][:3].lower()) + 1
            day = int(found["day"])
            return (month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None
    return None


def serials_among(features: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the features that are serial numbers of days of the gene families, with month and day."""
    n_numbers = sum(feature.isdecimal() for feature in features)
    if n_numbers > _MAX_NUMBERS * len(features):
        return {}
    found = {}
    for feature in features:
        match = _SERIAL.fullmatch(feature)
        if match and int(match["serial"]) in _SERIALS:
            day = _EPOCH + dt.timedelta(days=int(match["serial"]))
            if day.month in _FAMILIES:
                found[feature] = (day.month, day.day)
    return found


def proposals_of(day: tuple[int, int], reference: GeneReference) -> tuple[str, ...]:
    """Return the symbols of today that a spreadsheet turns into this month and day, sorted."""
    month, number = day
    names = {f"{family}{number}" for family in _FAMILIES.get(month, ())}
    folded = {name.casefold() for name in names}
    return tuple(sorted(s for key in folded for s in reference.primary.symbols_of_folded.get(key, ())))
