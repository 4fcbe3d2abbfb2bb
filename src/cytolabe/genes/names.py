"""How a feature is written: an id, an id with a symbol, a spike-in, a spreadsheet's wreck, or a symbol.

Decided from the text alone, in this order: spike-in, Ensembl id (with or without version), composite of both, date
or number that a spreadsheet made of a symbol; everything else is read as a symbol. A `.1` at the end is a version
only behind an Ensembl id: clone names such as `RP11-206L10.2` end like that, and so do the copies that `make.unique`
numbers.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from cytolabe.genes.spreadsheets import is_wreck, serials_among

__all__ = ["FeatureName", "Writing", "parse_features", "split_copy_number"]

_ID = r"ENS[A-Z]*G\d{11}"
_ID_ALONE = re.compile(rf"(?P<id>{_ID})(?P<version>\.\d+)?(?:_PAR_Y)?")
_SYMBOL_THEN_ID = re.compile(rf"(?P<symbol>.+?)[_|:. -](?P<id>{_ID})(?:\.\d+)?")
_ID_THEN_SYMBOL = re.compile(rf"(?P<id>{_ID})(?:\.\d+)?[_|: -](?P<symbol>.+)")
_SPIKE_IN = re.compile(r"ERCC[-._]\d{5}")
_COPY = re.compile(r"(?P<base>.+)[.-]\d{1,2}")


class Writing(StrEnum):
    """What the text of a feature is."""

    SPIKE_IN = "spike_in"
    ID = "id"
    VERSIONED_ID = "versioned_id"
    COMPOSITE = "composite"
    SPREADSHEET = "spreadsheet"
    SYMBOL = "symbol"


class FeatureName(NamedTuple):
    """A feature's text taken apart; `gene_id` and `symbol` are empty where the text holds none.

    `symbol` of a spreadsheet's wreck is the text itself: only the user's alias table can lead it anywhere.
    """

    writing: Writing
    gene_id: str
    symbol: str


def parse_features(features: Sequence[str]) -> list[FeatureName]:
    """Take the text of each feature apart. White space around it is ignored."""
    names = []
    serials = serials_among([feature.strip() for feature in features])
    for feature in features:
        text = feature.strip()
        match = _ID_ALONE.fullmatch(text) if "ENS" in text else None
        composite = None
        if "ENS" in text and not match:
            composite = _SYMBOL_THEN_ID.fullmatch(text) or _ID_THEN_SYMBOL.fullmatch(text)
        if match:
            # `_PAR_Y` names the copy of a gene on Y: the same gene, counted twice.
            plain = text == match["id"]
            names.append(FeatureName(Writing.ID if plain else Writing.VERSIONED_ID, match["id"], ""))
        elif composite:
            names.append(FeatureName(Writing.COMPOSITE, composite["id"], composite["symbol"]))
        elif _SPIKE_IN.fullmatch(text):
            names.append(FeatureName(Writing.SPIKE_IN, "", ""))
        elif text in serials or (any(map(str.isdecimal, text)) and is_wreck(text)):
            names.append(FeatureName(Writing.SPREADSHEET, "", text))
        else:
            names.append(FeatureName(Writing.SYMBOL, "", text))
    return names


def split_copy_number(symbol: str) -> str:
    """Return what stands before a trailing `.1` or `-1`, or an empty string."""
    match = _COPY.fullmatch(symbol)
    return match["base"] if match else ""
