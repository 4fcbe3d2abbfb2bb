"""What is known of each cell, on the disk while its counts are written: those need the memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from cytolabe.files import replace_file
from cytolabe.ingest.counts import CountsProof
from cytolabe.store.names import Names

__all__ = ["CellsAside", "fingerprints_aside", "set_aside"]

_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class CellsAside:
    """The names of all cells, mapped from a file, and the files that hold their numbers of genes and their fingerprints."""

    names: Names
    genes: Path
    fingerprints: Path

    def genes_of(self, start: int, stop: int) -> Int64[np.ndarray, " cells"]:
        """Return the number of genes of cells `start` to `stop`."""
        return _piece(self.genes, "<i8", (start, stop)).astype(np.int64, copy=False)


def set_aside(proof: CountsProof, names: Sequence[str], folder: Path) -> CellsAside:
    """Write what the second pass asks of single cells into a folder."""
    genes, fingerprints = folder / "genes", folder / "fingerprints"
    replace_file(genes, proof.cell_genes.astype("<i8", copy=False).tobytes())
    replace_file(fingerprints, proof.fingerprints.astype("<u8", copy=False).tobytes())
    return CellsAside(names=Names.of(names).mapped(folder / "names"), genes=genes, fingerprints=fingerprints)


def fingerprints_aside(path: Path, start: int, stop: int) -> UInt64[np.ndarray, " cells"]:
    """Return the fingerprints of cells `start` to `stop` as `set_aside` left them."""
    return _piece(path, "<u8", (start, stop)).astype(np.uint64, copy=False)


def _piece(path: Path, dtype: str, cells: tuple[int, int]) -> np.ndarray:
    start, stop = cells
    return np.fromfile(path, dtype=dtype, count=stop - start, offset=_BYTES * start)
