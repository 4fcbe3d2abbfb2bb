"""Who withdrew, and which rows are theirs.

The overlay `withdrawals` is one table of facts: keys by which a person is recognized again, rows of data sets that are
theirs, and which data sets were looked through. It holds no name: persons and donors stand there as HMAC-SHA256 under
a key that lies beside it and is never published. So a data set that arrives later, or a later version of one, is looked
through before it is frozen, by people who no longer know the name.

Rows are found in two steps: by donor and person, then copies of these cells in other data sets (`snapshot.copies`).
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import create_new
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.store.documents import read_sealed, sealed_bytes
from cytolabe.store.manifest import Revision
from cytolabe.store.tables import TableEntry, read_table, write_table

__all__ = [
    "EXCLUDED",
    "WITHDRAWALS",
    "Person",
    "Withdrawals",
    "donors_of",
    "own_rows",
    "pseudonym_of",
    "pseudonyms",
    "read_excluded",
    "read_withdrawals",
    "write_excluded",
]

WITHDRAWALS, EXCLUDED = "withdrawals", "excluded"
_COLUMNS = ("withdrawal", "kind", "dataset_id", "key", "row")
_EXCLUDED_COLUMNS = ("dataset_id", "row")


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who withdraws: a resolved person, or a donor of one data set that was never resolved."""

    person_id: str = ""
    donors: tuple[tuple[str, str], ...] = ()


def _empty() -> pd.DataFrame:
    return _typed(pd.DataFrame({column: pd.Series([], dtype=object) for column in _COLUMNS}))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({column: np.int64 if column == "row" else object for column in _COLUMNS})


@dataclass(frozen=True)
class Withdrawals:
    """The facts in force.

    Kinds of rows in `table`:

    `person` and `donor` hold a pseudonym in `key`; `row` is a row of the entry called `key`; `covered` says that the
    entry called `key` was looked through; `cell` holds the digest of a set of genes in `key` and the fingerprint of a
    cell on these genes in `row`; `purged` says that the entry called `key` is to be removed for good.
    """

    table: pd.DataFrame = field(default_factory=_empty)

    @property
    def ids(self) -> tuple[str, ...]:
        """The pseudonyms of all who withdrew, sorted."""
        return tuple(sorted(set(self.table["withdrawal"])))

    def keys(self, kind: str, withdrawal: str) -> set[str]:
        """Return the keys of one kind by which one person is known."""
        found = self._of(kind)
        return set(found.loc[found["withdrawal"] == withdrawal, "key"])

    def rows(self, entry: str, withdrawal: str = "") -> np.ndarray:
        """Return the rows of an entry that belong to one or to all who withdrew, sorted."""
        found = self._of("row")
        found = found[found["key"] == entry]
        if withdrawal:
            found = found[found["withdrawal"] == withdrawal]
        return np.unique(found["row"].to_numpy(dtype=np.int64))

    def is_covered(self, entry: str, withdrawal: str) -> bool:
        """Tell whether an entry was looked through for one person."""
        found = self._of("covered")
        return bool(((found["key"] == entry) & (found["withdrawal"] == withdrawal)).any())

    def entries(self) -> tuple[str, ...]:
        """Return the digests of all entries that hold a row of somebody who withdrew."""
        return tuple(sorted(set(self._of("row")["key"])))

    def purged(self) -> tuple[str, ...]:
        """Return the digests of entries that were purged, or should be."""
        return tuple(sorted(set(self._of("purged")["key"])))

    def cells(self, withdrawal: str, genes_digest: str) -> np.ndarray:
        """Return the fingerprints of one person's cells on a set of genes."""
        found = self._of("cell")
        found = found[(found["withdrawal"] == withdrawal) & (found["key"] == genes_digest)]
        return np.unique(found["row"].to_numpy(dtype=np.int64))

    def with_facts(self, facts: Iterable[tuple[str, str, str, str, int]]) -> "Withdrawals":
        """Return these facts and others; each stands there once, in canonical order."""
        added = pd.DataFrame(list(facts), columns=list(_COLUMNS))
        together = pd.concat([self.table, added], ignore_index=True) if len(added) else self.table
        ordered = together.drop_duplicates().sort_values(list(_COLUMNS), kind="stable").reset_index(drop=True)
        return Withdrawals(_typed(ordered))

    def without_entries(self, entries: Iterable[str]) -> "Withdrawals":
        """Return these facts without what they say of some entries, which are gone."""
        is_gone = self.table["kind"].isin(["row", "covered"]) & self.table["key"].isin(list(entries))
        return Withdrawals(self.table[~is_gone].reset_index(drop=True))

    def write(self, layout: Layout) -> TableEntry:
        """Write the facts as a table."""
        return write_table(self.table, layout.overlay(WITHDRAWALS))

    def _of(self, kind: str) -> pd.DataFrame:
        return self.table[self.table["kind"] == kind]


def read_withdrawals(layout: Layout, revision: Revision) -> Withdrawals:
    """Return what a revision says of withdrawals; of most atlases nothing."""
    if WITHDRAWALS not in revision.overlays:
        return Withdrawals()
    return Withdrawals(_typed(read_table(layout.overlay(WITHDRAWALS), revision.overlays[WITHDRAWALS])))


def pseudonym_of(key: bytes, *words: str) -> str:
    """Return what stands for a name in published documents: an HMAC, so that nobody without the key can try names."""
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    text = "".join(f"{len(word)}:{word}" for word in words)
    return "p-" + hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:32]


def pseudonyms(layout: Layout, *, create: bool = False) -> bytes:
    """Return the key of the pseudonyms of an atlas.

    Raises
    ------
    IntegrityError
        If it is missing: nobody who withdrew would be recognized in what arrives later.
    """
    path = layout.pseudonym_key
    if create and not path.is_file():
        content = {"kind": "cytolabe/pseudonyms/1", "key": secrets.token_hex(32)}
        create_new(path, sealed_bytes(content))
    if not path.is_file():
        msg = (
            f"{path.name} is missing: who withdrew from this atlas cannot be recognized in data that arrived since. "
            "Restore it from a copy; it is private and belongs to the atlas."
        )
        raise IntegrityError(msg)
    return bytes.fromhex(str(read_sealed(path)["key"]))


def donors_of(persons: pd.DataFrame, *, person_id: str = "", donor: tuple[str, str] | None = None) -> Person:
    """Return a person with all donors that are resolved to it.

    Raises
    ------
    UsageError
        If nobody is called so, or the word stands for nobody or for many.
    """
    if donor is not None:
        is_donor = (persons["dataset_id"] == donor[0]) & (persons["donor_id"] == donor[1])
        found = persons[is_donor & (persons["person_state"] == "resolved")]
        if not len(found):
            _require_name(donor[1])
            return Person(donors=(donor,))
        person_id = str(found["person_id"].iloc[0])
    _require_name(person_id)
    mine = persons[(persons["person_id"] == person_id) & (persons["person_state"] == "resolved")]
    if not len(mine):
        msg = (
            "nobody of this atlas is resolved to that person_id. `cytolabe reconcile` resolves persons; "
            "a donor is named with --donor DATASET:DONOR."
        )
        raise UsageError(msg)
    pairs = sorted(zip(mine["dataset_id"].astype(str), mine["donor_id"].astype(str), strict=True))
    return Person(person_id=person_id, donors=tuple(pairs))


def own_rows(
    entry: DatasetEntry, cells: pd.DataFrame, persons: pd.DataFrame, *, facts: Withdrawals, key: bytes
) -> dict[str, np.ndarray]:
    """Return for each withdrawal the rows of a data set whose donor or person it is; only those that have some."""
    known = persons[persons["dataset_id"] == entry.dataset_id]
    person_of = {
        str(donor): str(person)
        for donor, person, state in zip(known["donor_id"], known["person_id"], known["person_state"], strict=True)
        if state == "resolved"
    }
    donors = sorted(map(str, cells["donor_id"].unique()))
    donor_keys = {donor: pseudonym_of(key, "donor", entry.dataset_id, donor) for donor in donors}
    person_keys = {donor: pseudonym_of(key, "person", person_of[donor]) for donor in donors if donor in person_of}
    found = {}
    for withdrawal in facts.ids:
        by_donor, by_person = facts.keys("donor", withdrawal), facts.keys("person", withdrawal)
        mine = [d for d in donors if donor_keys[d] in by_donor or person_keys.get(d) in by_person]
        if mine:
            found[withdrawal] = np.flatnonzero(cells["donor_id"].isin(mine).to_numpy()).astype(np.int64)
    return found


def write_excluded(layout: Layout, rows: Sequence[tuple[str, np.ndarray]]) -> TableEntry | None:
    """Write which rows of which data set a snapshot leaves out; None where there are none."""
    parts = [pd.DataFrame({"dataset_id": dataset_id, "row": own}) for dataset_id, own in rows if len(own)]
    if not parts:
        return None
    frame = pd.concat(parts, ignore_index=True).sort_values(list(_EXCLUDED_COLUMNS), kind="stable")
    frame = frame.astype({"dataset_id": object, "row": np.int64})
    return write_table(frame.reset_index(drop=True), layout.overlay(EXCLUDED))


def read_excluded(layout: Layout, overlays: Mapping[str, TableEntry]) -> dict[str, np.ndarray]:
    """Return the rows of each data set that a snapshot with these overlays leaves out, ascending."""
    if EXCLUDED not in overlays:
        return {}
    table = read_table(layout.overlay(EXCLUDED), overlays[EXCLUDED])
    return {str(name): rows.to_numpy(dtype=np.int64) for name, rows in table.groupby("dataset_id")["row"]}


def _require_name(word: str) -> None:
    if word.strip().lower() in ("", UNKNOWN, "pooled"):
        msg = f"{word!r} names nobody: cells of unknown or pooled donors cannot be told apart by person."
        raise UsageError(msg)
