"""The nuclear fraction of a cell: unspliced over all molecules, where the contributor counted introns (rule R10).

Asked are the totals of the layers of introns and exons that ingest kept (`layer_counts.*`), then columns of the contributor:
a pair of intronic and exonic counts, or a fraction by its name. The MALAT1 share is no nuclear fraction; it stands beside it
under its own name.
"""

import re

import numpy as np
import pandas as pd
from jaxtyping import Float

from cytolabe.records import LAYER_COUNTS

__all__ = ["nuclear_fraction"]

_INTRON = re.compile(
    r"(reads_|umis?_|counts?_|n_?)?(mapped_?to_?intron(s|ic)?|intron(s|ic)?|unspliced)(_?(reads|umis?|counts?))?", re.IGNORECASE
)  # fmt: skip
_EXON = re.compile(
    r"(reads_|umis?_|counts?_|n_?)?(mapped_?to_?exon(s|ic)?|exon(s|ic)?|spliced)(_?(reads|umis?|counts?))?", re.IGNORECASE
)  # fmt: skip
_FRACTION = re.compile(
    r"(nuclear|intron(ic)?|unspliced)_?(fraction|frac|ratio|share)|(fraction|frac)_?(unspliced|intronic|introns)", re.IGNORECASE
)  # fmt: skip


def nuclear_fraction(contributed: pd.DataFrame) -> tuple[Float[np.ndarray, " cells"] | None, str]:
    """Return the fraction per cell and which columns it is from, or None and why there is none.

    A cell without a count in either is NaN.
    """
    layers = tuple(f"{LAYER_COUNTS}{role}" for role in ("unspliced", "spliced"))
    if all(name in contributed for name in layers):
        return _of_pair(contributed, *layers)
    numeric = [str(name) for name in contributed.columns if pd.api.types.is_numeric_dtype(contributed[name].dtype)]
    plain = {name: re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in numeric}
    intron = [name for name in numeric if _INTRON.fullmatch(plain[name])]
    exon = [name for name in numeric if _EXON.fullmatch(plain[name])]
    if len(intron) == 1 and len(exon) == 1:
        return _of_pair(contributed, intron[0], exon[0])
    for name in numeric:
        if _FRACTION.fullmatch(plain[name]):
            values = _values(contributed, name)
            if np.nanmin(values, initial=0.0) >= 0.0 and np.nanmax(values, initial=0.0) <= 1.0:
                return values, name
    return None, "the file says nothing of introns: no layers or columns of unspliced and spliced counts"


def _of_pair(contributed: pd.DataFrame, intron: str, exon: str) -> tuple[Float[np.ndarray, " cells"], str]:
    unspliced, spliced = (_values(contributed, name) for name in (intron, exon))
    total = unspliced + spliced
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(total > 0, unspliced / total, np.nan)
    return found, f"{intron} / ({intron} + {exon})"


def _values(contributed: pd.DataFrame, name: str) -> np.ndarray:
    return contributed[name].to_numpy(dtype=np.float64, na_value=np.nan)
