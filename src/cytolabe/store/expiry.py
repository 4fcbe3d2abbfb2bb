"""Old revisions that were dropped: a legal gap in the log.

Before a revision file is removed, a sealed document records its number, its seal, its parent and the snapshot that it
froze. So the chain of parents still closes over the gap, and a log from which somebody else removed a revision does not.
The document is named by its content; expiring the same revisions twice is the same document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from cytolabe.files import Place, create_new, remove
from cytolabe.provenance import digest_of
from cytolabe.store.documents import documents_in, read_sealed, sealed_bytes
from cytolabe.store.manifest import Revision, revision_numbers

__all__ = ["ExpiredRevision", "drop_revisions", "finish_expiry", "read_expired"]

KIND = "cytolabe/expired/1"


@dataclass(frozen=True, kw_only=True)
class ExpiredRevision:
    """What is kept of a dropped revision."""

    number: int
    seal: str
    parent: str
    frozen: str
    time: str


def drop_revisions(log: Place, directory: Place, revisions: Sequence[Revision]) -> None:
    """Record revisions as expired in `directory`, then remove them from the log."""
    if not revisions:
        return
    rows = [
        {name: getattr(revision, name) for name in ("number", "seal", "parent", "frozen", "time")}
        for revision in sorted(revisions, key=lambda revision: revision.number)
    ]
    content = {"kind": KIND, "revisions": rows}
    create_new(directory / f"{digest_of(content).removeprefix('sha256:')}.json", sealed_bytes(content))
    for revision in revisions:
        remove(log / f"{revision.number}.json")


def read_expired(directory: Place) -> dict[int, ExpiredRevision]:
    """Return what is known of the dropped revisions, by number.

    Raises
    ------
    IntegrityError
        If a record was edited.
    """
    found: dict[int, ExpiredRevision] = {}
    for path in documents_in(directory):
        rows = cast("list[dict[str, object]]", read_sealed(path)["revisions"])
        for row in rows:
            expired = ExpiredRevision(**row)  # type: ignore[arg-type]
            found[expired.number] = expired
    return dict(sorted(found.items()))


def finish_expiry(log: Place, directory: Place) -> list[int]:
    """Remove revisions that are recorded as expired and still there: an `expire` was interrupted."""
    left = sorted(set(revision_numbers(log)) & set(read_expired(directory)))
    for number in left:
        remove(log / f"{number}.json")
    return left
