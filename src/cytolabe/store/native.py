"""Functions of libraries that are installed anyway, called from kernels without the interpreter: zstd, crc32c, pread.

Blosc makes a decoder for every chunk it decodes, and gives the bytes back in order; for chunks of 32 KiB the first costs
as much as the decoding, and the second a pass over memory. And each call from Python takes the interpreter's lock, so
that two threads that read single cells are no faster than one. A kernel that reads, checks and decodes by itself needs
none of this.

The symbols are looked up where they are: zstd in the extension module of `numcodecs` or `zstandard`, which both carry it
whole, crc32c in the library of `google_crc32c`, pread in the C library. Where one is not found, `is_native` is false and
the reader goes through numcodecs; nothing else changes.
"""

import ctypes
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import llvmlite.binding
from numba import types

__all__ = ["crc32c", "decoder", "decompress", "is_native", "pread"]

_ZSTD_MODULES = ("numcodecs.blosc", "zstandard._cffi")
_CRC_MODULE = "google_crc32c._crc32c"

decompress = types.ExternalFunction(
    "cytolabe_zstd_decompress", types.uintp(types.uintp, types.uintp, types.uintp, types.uintp, types.uintp)
)
"""`ZSTD_decompressDCtx(decoder, target, room, source, length)` for kernels; returns the bytes written."""

crc32c = types.ExternalFunction("cytolabe_crc32c", types.uint32(types.uintp, types.uintp))
"""`crc32c_value(source, length)` for kernels."""

pread = types.ExternalFunction("cytolabe_pread", types.intp(types.int32, types.uintp, types.uintp, types.int64))
"""`pread(handle, target, length, offset)` for kernels; returns the bytes read, or -1."""


def _loaded(module: str) -> ctypes.CDLL | None:
    try:
        found = find_spec(module)
        if found is None or found.origin is None or not Path(found.origin).is_file():
            return None
        return ctypes.CDLL(found.origin)
    except (OSError, ImportError):
        return None


def _named(library: ctypes.CDLL | None, function: str, symbol: str) -> bool:
    """Make a function of a library known to kernels; False where it has none of that name."""
    found = getattr(library, function, None)
    if found is None:
        return False
    llvmlite.binding.add_symbol(symbol, ctypes.cast(found, ctypes.c_void_p).value)
    return True


@cache
def _library() -> ctypes.CDLL | None:
    is_known = _named(_loaded(_CRC_MODULE), "crc32c_value", "cytolabe_crc32c")
    is_known = _named(ctypes.CDLL(None), "pread", "cytolabe_pread") and is_known
    for module in _ZSTD_MODULES if is_known else ():
        library = _loaded(module)
        if library is not None and _named(library, "ZSTD_decompressDCtx", "cytolabe_zstd_decompress"):
            library.ZSTD_createDCtx.restype = ctypes.c_void_p
            library.ZSTD_freeDCtx.argtypes = [ctypes.c_void_p]
            return library
    return None


def is_native() -> bool:
    """Tell whether kernels can read and decode by themselves."""
    return _library() is not None


class _Decoder:
    """One decoder; it is freed with the thread that owns it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.address = int(library.ZSTD_createDCtx())

    def __del__(self) -> None:
        self._library.ZSTD_freeDCtx(self.address)


_OWN = threading.local()


def decoder() -> int:
    """Return the address of this thread's decoder."""
    library = _library()
    if library is None:
        msg = "no library with zstd was found; ask `is_native` first"
        raise RuntimeError(msg)
    if not hasattr(_OWN, "decoder"):
        _OWN.decoder = _Decoder(library)
    address: int = _OWN.decoder.address
    return address
