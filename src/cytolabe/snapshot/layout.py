"""Where things lie in an atlas. Everything but the log of revisions is named by its content and never changes.

cytolabe.json                   what this directory is
partitions/<digest>/            counts (store.partitions)
tables/<digest>.parquet         cells and contributor columns of each data set
overlays/genes|persons|mappings|memory|orthologs/<digest>.parquet
datasets/<digest>.json          one entry per data set and state
revisions/<number>.json         the log
head.json                       witness of the last revision
snapshots/<digest>.json         what a snapshot is made of
cache/<digest>/                 training caches (snapshot.training_cache); derived
quality/<digest>.json|.parquet  quality of the cells of a data set (snapshot.cell_quality); derived
artifacts/<digest>.json         what was made of a snapshot: splits, embeddings, runs
runs/<digest>.json              records of what was run: what each rests on, and what it made
overlays/withdrawals|excluded/  who withdrew, and which rows a snapshot leaves out for it
withdrawals.key.json            the key of the pseudonyms of who withdrew; private
purged/<digest>.json            stubs of objects that were removed for good
expired/<digest>.json           which revisions were dropped
leases/<token>.json             who reads or writes just now
"""

from dataclasses import dataclass

from cytolabe.files import Place, place_below

__all__ = ["CACHE_FORMAT", "FORMAT", "Layout"]

FORMAT = "cytolabe/atlas/1"
CACHE_FORMAT = "cytolabe/training-cache/2"
"""Of training caches; one of another format is never read, and `gc` frees it."""


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
    def caches(self) -> Place:
        """Training caches: derived, and never needed."""
        return self.root / "cache"

    @property
    def quality(self) -> Place:
        """Quality of cells: derived, measured again where it is missing."""
        return self.root / "quality"

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

    @property
    def artifacts(self) -> Place:
        """Records of what was made of a snapshot."""
        return self.root / "artifacts"

    @property
    def runs(self) -> Place:
        """Records of what was run."""
        return self.root / "runs"

    @property
    def purged(self) -> Place:
        """Stubs of objects that were removed for good."""
        return self.root / "purged"

    @property
    def expired(self) -> Place:
        """Records of revisions that were dropped."""
        return self.root / "expired"

    @property
    def leases(self) -> Place:
        """Who reads or writes just now."""
        return self.root / "leases"

    @property
    def pseudonym_key(self) -> Place:
        """The key of the pseudonyms of who withdrew."""
        return self.root / "withdrawals.key.json"

    def overlay(self, name: str) -> Place:
        """Tables of one overlay: genes, persons, mappings, withdrawals or excluded."""
        return self.root / "overlays" / name

    def document(self, directory: Place, digest: str) -> Place:
        """Return the path of the document called `digest` in a directory of documents."""
        return directory / f"{digest.removeprefix('sha256:')}.json"
