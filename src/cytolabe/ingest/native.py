"""Numbers of a file in a form that every later step can compute with, without changing a value.

Files hold numbers in either byte order and in widths that sparse matrices and tables do not know (half and extended
precision). A wider float holds every value of a narrower one; extended precision is cut to double, where an integer up
to 2^53 stays itself.
"""

import numpy as np

__all__ = ["exact_below", "native"]

_MANTISSA_BITS = {2: 11, 4: 24}
"""Bytes of a float -> bits of its mantissa; from 2 to this power on it skips integers."""


def native(values: np.ndarray) -> np.ndarray:
    """Return the values in this machine's byte order, floats as single or double precision."""
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return values.astype(dtype, copy=False)


def exact_below(dtype: str) -> float:
    """Return from which value on a type of number skips integers; infinity where that is over 2^53."""
    kind = np.dtype(dtype)
    bits = _MANTISSA_BITS.get(kind.itemsize) if kind.kind == "f" else None
    return float(2**bits) if bits is not None else float("inf")
