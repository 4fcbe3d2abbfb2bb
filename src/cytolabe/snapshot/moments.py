"""Which snapshot or revision a word means: a tag, an id, a number of the log, a time."""

import re
from collections.abc import Callable, Sequence

from cytolabe.errors import UsageError
from cytolabe.snapshot.layout import Layout
from cytolabe.store.expiry import read_expired
from cytolabe.store.manifest import Revision, read_revision, read_revisions, revision_numbers

__all__ = ["LATEST", "revision_at", "snapshot_called"]

LATEST = "latest"
"""The word for the snapshot that was frozen last; no tag may be called so."""


_NUMBER = re.compile(r"@(\d+)")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d)?)?)?")


def snapshot_called(layout: Layout, state: Revision, word: str, *, known: Callable[[], Sequence[str]]) -> str:
    """Return the id of the snapshot that a word means in the state at hand; `known` lists all frozen ones.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if word == LATEST and state.frozen:
        return state.frozen
    if word in state.tags:
        return state.tags[word]
    if _NUMBER.fullmatch(word) or _TIME.fullmatch(word):
        found = revision_at(layout, word)
        if found.frozen:
            return found.frozen
    start = f"sha256:{word.removeprefix('sha256:')}"
    is_id = len(start) >= len("sha256:") + 12
    matching = [name for name in known() if is_id and name.startswith(start)]
    if len(matching) == 1:
        return matching[0]
    if is_id and any(gone.frozen.startswith(start) for gone in read_expired(layout.expired).values()):
        msg = f"snapshot {word} was expired: it had no tag. A tag (--tag) keeps a snapshot for good."
        raise UsageError(msg)
    tags = ", ".join(sorted(state.tags)) or "none"
    msg = f"{word!r} is no snapshot of {layout.root.name}. Tags: {tags}. `cytolabe snapshot` freezes one."
    raise UsageError(msg)


def revision_at(layout: Layout, when: str) -> Revision:
    """Return the revision that was in force; a day counts to its end, all times are UTC.

    Raises
    ------
    UsageError
        If the word is no moment, or nothing is kept of that one.
    """
    if number := _NUMBER.fullmatch(when):
        return _numbered(layout, int(number[1]))
    if not _TIME.fullmatch(when):
        msg = f"{when!r} is no moment: name a revision (@7) or a time in UTC (2026-11-25 or 2026-11-25T12:00)."
        raise UsageError(msg)
    # Times are ISO 8601 in UTC, so that their order is that of the text; revision 0 has none.
    before = [revision for revision in read_revisions(layout.revisions) if revision.time[: len(when)] <= when]
    after = [gone for gone in read_expired(layout.expired).values() if gone.time[: len(when)] <= when]
    if not before or (after and max(gone.number for gone in after) > before[-1].number):
        msg = f"no revision is kept that was in force at {when}; `cytolabe snapshot list` tells the times of those that are."
        raise UsageError(msg)
    return before[-1]


def _numbered(layout: Layout, number: int) -> Revision:
    numbers = revision_numbers(layout.revisions)
    if number in numbers:
        return read_revision(layout.revisions, number)
    if number in read_expired(layout.expired):
        msg = f"revision {number} was expired; a tag or a larger --keep would have kept it."
        raise UsageError(msg)
    msg = f"there is no revision {number}; the last one is {numbers[-1] if numbers else 'missing'}."
    raise UsageError(msg)
