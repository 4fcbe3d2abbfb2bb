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

from cytolabe.files import Place, place_below

__all__ = ["FORMAT", "Layout"]

FORMAT = "cytolabe/atlas/1"


@dataclass(frozen=True)
class Layout:
    """The paths of one atlas."""

    root: Place

    @property
    def marker(self) -> Place:
        """The file that says that this directory is an atlas."""
        return self.root / "cytolabe.json"

    @property
    def partitions(self) -> Place:
        """Counts."""
        return self.root / "partitions"

    @property
    def tables(self) -> Place:
        """Cells and contributor columns."""
        return self.root / "tables"

    @property
    def datasets(self) -> Place:
        """Entries of data sets."""
        return self.root / "datasets"

    @property
    def revisions(self) -> Place:
        """The log."""
        return self.root / "revisions"

    @property
    def snapshots(self) -> Place:
        """Documents of snapshots."""
        return self.root / "snapshots"

    def name_of(self, place: Place) -> str:
        """Return the path of something inside the atlas, as findings call it."""
        return place_below(place, self.root)

    def overlay(self, name: str) -> Place:
        """Tables of one overlay: genes, persons or mappings."""
        return self.root / "overlays" / name

    def document(self, directory: Place, digest: str) -> Place:
        """Return the path of the document called `digest` in a directory of documents."""
        return directory / f"{digest.removeprefix('sha256:')}.json"
