"""Which folders are one source: the three files of a 10x matrix that lie beside each other, and a hierarchy of zarr."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MATRIX_NAME", "Trio", "is_zarr", "is_zarr_folder", "trio_of"]

MATRIX_NAME = re.compile(r"(.*)matrix\.mtx(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Trio:
    """The three files of one 10x matrix."""

    matrix: Path
    barcodes: Path
    features: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All three, by name."""
        return tuple(sorted((self.matrix, self.barcodes, self.features), key=lambda path: path.name))


def trio_of(path: Path) -> Trio | None:
    """Return the files that belong together: those of a folder with one matrix, or those beside a matrix."""
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if MATRIX_NAME.fullmatch(entry.name) and entry.is_file())
        return trio_of(found[0]) if len(found) == 1 else None
    named = MATRIX_NAME.fullmatch(path.name)
    if named is None:
        return None
    barcodes = _beside(path, named[1], ("barcodes.tsv",))
    features = _beside(path, named[1], ("features.tsv", "genes.tsv"))
    return Trio(matrix=path, barcodes=barcodes, features=features) if barcodes and features else None


def _beside(matrix: Path, prefix: str, names: tuple[str, ...]) -> Path | None:
    places = [matrix.with_name(f"{prefix}{name}{suffix}") for name in names for suffix in ("", ".gz")]
    return next((place for place in places if place.is_file()), None)


def is_zarr_folder(path: Path) -> bool:
    """Tell whether a folder is a hierarchy of zarr, version 2 or 3."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zmetadata"))


def is_zarr(path: Path) -> bool:
    """Tell whether a source is a hierarchy of zarr, in a folder or packed as a zip archive."""
    if is_zarr_folder(path):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"
