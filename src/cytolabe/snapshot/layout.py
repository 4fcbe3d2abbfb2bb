"""Where things lie in an atlas. Everything but the log of revisions is named by its content and never changes.

cytolabe.json                   what this directory is
partitions/<digest>/            counts (store.partitions)
tables/<digest>.parquet         cells and contributor columns of each data set
overlays/genes|persons|mappings/<digest>.parquet
datasets/<digest>.json          one entry per data set and state
revisions/<number>.json         the log
snapshots/<digest>.json         what a snapshot is made of
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FORMAT", "Layout"]

FORMAT = "cytolabe/atlas/1"


@dataclass(frozen=True)
class Layout:
    """The paths of one atlas."""

    root: Path

    @property
    def marker(self) -> Path:
        """The file that says that this directory is an atlas."""
        return self.root / "cytolabe.json"

    @property
    def partitions(self) -> Path:
        """Counts."""
        return self.root / "partitions"

    @property
    def tables(self) -> Path:
        """Cells and contributor columns."""
        return self.root / "tables"

    @property
    def datasets(self) -> Path:
        """Entries of data sets."""
        return self.root / "datasets"

    @property
    def revisions(self) -> Path:
        """The log."""
        return self.root / "revisions"

    @property
    def snapshots(self) -> Path:
        """Documents of snapshots."""
        return self.root / "snapshots"

    def overlay(self, name: str) -> Path:
        """Tables of one overlay: genes, persons or mappings."""
        return self.root / "overlays" / name

    def document(self, directory: Path, digest: str) -> Path:
        """Return the path of the document called `digest` in a directory of documents."""
        return directory / f"{digest.removeprefix('sha256:')}.json"
