"""The nuclear fraction of a cell: unspliced over all molecules, where the contributor counted introns (rule R10).

Columns of the contributor are asked: a pair of intronic and exonic counts, or a fraction by its name. The MALAT1 share is
no nuclear fraction; it stands beside it under its own name.
"""

import re

import numpy as np
import pandas as pd
from jaxtyping import Float

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
    """Return the fraction per cell and which columns it is from, or None and why there is none."""
    numeric = [str(name) for name in contributed.columns if pd.api.types.is_numeric_dtype(contributed[name].dtype)]
    plain = {name: re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in numeric}
    intron = [name for name in numeric if _INTRON.fullmatch(plain[name])]
    exon = [name for name in numeric if _EXON.fullmatch(plain[name])]
    if len(intron) == 1 and len(exon) == 1:
        unspliced, spliced = (_values(contributed, name) for name in (intron[0], exon[0]))
        total = unspliced + spliced
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.where(total > 0, unspliced / total, np.nan)
        return found, f"{intron[0]} / ({intron[0]} + {exon[0]})"
    for name in numeric:
        if _FRACTION.fullmatch(plain[name]):
            values = _values(contributed, name)
            if np.nanmin(values, initial=0.0) >= 0.0 and np.nanmax(values, initial=0.0) <= 1.0:
                return values, name
    return None, "the file says nothing of introns: no unspliced counts and no column of them"


def _values(contributed: pd.DataFrame, name: str) -> np.ndarray:
    return contributed[name].to_numpy(dtype=np.float64, na_value=np.nan)
