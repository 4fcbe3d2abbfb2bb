"""Contributor labels as words that two labs would share.

Order: Unicode form, Greek letters, signs of markers (`CD14+`, `CD56dim`, `CD4-`), words glued by case, lower case,
British spelling, punctuation, plural, and last the words of the seed table (`mono` = monocyte). The result is a
string of words; `bag_of` drops what carries no meaning in a cell's name (cell, positive, alpha-beta beside T) and the
order, so that `Mono_CD14`, `CD14+ Monocytes` and `CD14-positive monocyte` meet.

Reserved words and bare codes name no type. They are recognized before anything else and are never guessed.
"""

import re
import unicodedata
from collections.abc import Mapping

__all__ = ["bag_of", "is_code", "is_reserved", "normalize_label"]

RESERVED = frozenset({
    "", "ambiguous", "cell", "cells", "contaminated", "contamination", "dead", "debris", "doublet", "doublets", "empty", "filtered",
    "artifact", "bad", "discard", "dying", "dying cell", "dying cells", "exclude", "excluded", "fail", "failed",
    "junk", "low quality", "low quality cell", "low quality cells", "lowq", "low qc", "mixed", "multiplet",
    "multiplets", "na", "n a", "nan", "negative", "no label", "nolabel", "none", "not assigned", "not available",
    "notassigned", "null", "other", "others", "outlier", "poor quality", "qc fail", "remove", "tbd", "unclear", "removed", "unannotated", "unassigned", "unclassified", "undefined", "undetermined",
    "unidentified", "unk", "unknown", "unlabeled", "unlabelled", "unresolved", "unspecified",
})  # fmt: skip
"""What contributors write where they name no cell type; the first words are those of the CAS specification."""

_SPOILED = re.compile(r"\b(doublets?|multiplets?|lowquality|low quality|debris|contaminat(ed|ion)|empty droplets?)\b")
"""Words that spoil a label whatever stands beside them: a doublet of B and T is neither."""

_GREEK = {
    "\u03b1": "alpha", "\u03b2": "beta", "\u03b3": "gamma", "\u03b4": "delta", "\u03b5": "epsilon",
    "\u03ba": "kappa", "\u03bb": "lambda", "\u03bc": "mu",
}  # fmt: skip
_BRITISH = {
    "centre": "center",
    "tumour": "tumor",
    "oesophag": "esophag",
    "haemat": "hemat",
    "foetal": "fetal",
    "fibre": "fiber",
}
_SINGULAR_ENDINGS = ("ss", "us", "is", "as", "os")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4"}
_CODE = re.compile(r"(?:(?:cluster|clust|group|leiden|louvain)\s*)?\d+(?:\s\d+)*[a-z]?\Z|(?:cl|c|k)\s?\d{1,2}\Z")
_DROPPED = frozenset({"cell", "positive", "of", "the", "and", "lymphocyte"})


def is_reserved(label: str) -> bool:
    """Return whether a label says that there is no label: `Unknown`, `doublet`, `Unassigned_2`."""
    words = _plain(label)
    if not words and any(sign.isalpha() for sign in label):
        return False  # another script: it says something that is not read here
    return words in RESERVED or re.sub(r"\s\d+\Z", "", words) in RESERVED or _SPOILED.search(words) is not None


def is_code(label: str) -> bool:
    """Return whether a label is a bare number or the name of a cluster: `7`, `c3`, `cluster 12`."""
    return bool(_CODE.fullmatch(_plain(label)))


def normalize_label(label: str, words: Mapping[str, str] | None = None) -> str:
    """Return the label's words in their order, separated by blanks, expanded by `words`."""
    text = _without_accents(label).replace("_", " ")
    text = re.sub(r"(?i)\b(cd[48])(?=t(?:reg|conv|ex|em|cm|n|emra|prolif|h\d+)?s?\b)", r"\1 ", text)
    text = re.sub("(?i)\\bm[\u03c6\u03d5]", " macrophage ", text)
    for greek, latin in _GREEK.items():
        text = text.replace(greek, f" {latin} ")
    text = re.sub(r"(?i)\b(cd\d+[a-z]?)(dim|bright|high|hi|low|lo|int|pos|neg)\b", r"\1 \2", text)
    text = re.sub(r"(?i)\b(cd\d+[a-z]?)-(?=cd\d+[a-z]?(?:[+-]|pos\b|neg\b|hi|bright))", r"\1 negative ", text)
    text = re.sub(r"(?i)\b(pos|\(\+\))(?![a-z])", " positive ", text)
    text = re.sub(r"(?i)\b(cd\d+[a-z]?)(?:-|\u2212|neg\b)(?=$|[\s,/_;)])", r"\1 negative ", text)
    text = re.sub(r"([A-Za-z0-9])\+", r"\1 positive ", text)
    text = re.sub(r"(?<=[a-z]{3})(?=[A-Z])", " ", text).lower()
    for british, american in _BRITISH.items():
        text = text.replace(british, american)
    tokens: list[str] = []
    for token in re.sub(r"[^a-z0-9]+", " ", text).split():
        tokens.extend(_expanded(token, words or {}))
    return " ".join(_with_numerals(tokens))


def _without_accents(label: str) -> str:
    """Return the label with compatible letters and without marks on them: `naïve` is naive."""
    parted = unicodedata.normalize("NFKD", label)
    return unicodedata.normalize("NFKC", "".join(sign for sign in parted if not unicodedata.combining(sign)))


def bag_of(normalized: str) -> tuple[str, ...]:
    """Return the words that carry meaning, sorted, each once; never empty unless the label is."""
    tokens = normalized.split()
    joined: list[str] = []
    for token in tokens:
        if token == "negative" and joined:  # noqa: S105 - a word of a label
            joined[-1] += "-"
        else:
            joined.append(token)
    kept = [token for token in joined if token not in _DROPPED]
    if "t" in kept:
        kept = _without_pair(_without_pair(kept, ("alpha", "beta")), ("thymus", "derived"))
    return tuple(sorted(set(kept or joined)))


def _expanded(token: str, words: Mapping[str, str]) -> list[str]:
    """Return the words that one token stands for; the singular is looked up where the plural is not known."""
    for form in (token, _singular(token)):
        if form in words:
            return words[form].split()
    glued = re.fullmatch(r"(t|b|nk|plasma|mast|stem)cells?", token)
    if glued:
        return [*_expanded(glued[1], words), "cell"]
    return [_ROMAN.get(token, _singular(token))]


def _singular(token: str) -> str:
    if len(token) <= 3 or token.endswith(_SINGULAR_ENDINGS) or not token.endswith("s"):
        return "dc" if token == "dcs" else token  # noqa: S105 - a word of a label
    return token[:-1]


def _with_numerals(tokens: list[str]) -> list[str]:
    """Read `type i` as `type 1`: a lone i is a numeral only after `type`."""
    return ["1" if token == "i" and i and tokens[i - 1] == "type" else token for i, token in enumerate(tokens)]  # noqa: S105


def _without_pair(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    for position in range(len(tokens) - 1):
        if (tokens[position], tokens[position + 1]) == pair:
            return tokens[:position] + tokens[position + 2 :]
    return tokens


def _plain(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", _without_accents(label).lower()).strip()
