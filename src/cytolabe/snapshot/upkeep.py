"""Upkeep of an atlas: drop old revisions, free what nothing reaches, clean what a crash left.

`expire` only shortens the log. `free_unreachable` removes objects that no kept revision, snapshot, artifact or live lease
reaches, and only after a grace time; while somebody writes, it removes nothing. `recover` finishes or drops what was
interrupted. Each can be repeated, and be interrupted itself.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files import STAGED_PREFIX, Place, list_files, modified_at, remove, remove_directory, size_of
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.purge import finish_purge
from cytolabe.snapshot.reach import all_objects, reachable, snapshots_of
from cytolabe.store.documents import documents_in
from cytolabe.store.expiry import drop_revisions, finish_expiry, read_expired
from cytolabe.store.leases import Lease, held_lease, live_leases, remove_dead_leases
from cytolabe.store.manifest import Revision, head_revision, read_revisions
from cytolabe.store.scratch import abandoned_scratch, remove_scratch

__all__ = ["GRACE_SECONDS", "Freed", "Recovered", "expire_revisions", "free_unreachable", "parse_age", "recover_atlas"]

GRACE_SECONDS = 7 * 86_400.0
"""What is younger is never freed."""

RECOVERY_SECONDS = 3_600.0
"""What was staged by somebody unknown and is younger may still be in use."""

_AGE = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, kw_only=True)
class Freed:
    """What `gc` freed, or would free (`dry_run`). `held_by` are writers for whose sake nothing was freed."""

    dry_run: bool
    objects: tuple[str, ...]
    n_bytes: int
    n_young: int
    held_by: tuple[Lease, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What `recover` cleaned. `held_by` are writers whose staged files were left alone."""

    staged: tuple[str, ...] = ()
    scratches: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    purged: tuple[str, ...] = ()
    revisions: tuple[int, ...] = ()
    snapshots: tuple[str, ...] = ()
    held_by: tuple[Lease, ...] = field(default=())


def parse_age(text: str) -> timedelta:
    """Return a length of time from a number and a unit: 90s, 15m, 12h, 30d, 4w.

    Raises
    ------
    UsageError
        If it is something else.
    """
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        msg = f"{text!r} is no length of time; write a number and a unit, such as 90s, 15m, 12h, 30d or 4w."
        raise UsageError(msg)
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def expire_revisions(
    atlas: Atlas, *, keep: int = 0, older_than: timedelta | None = None, dry_run: bool = False
) -> tuple[int, ...]:
    """Drop old revisions and return their numbers; objects are freed by `free_unreachable` afterwards.

    Parameters
    ----------
    atlas
        The atlas.
    keep
        So many of the last revisions stay.
    older_than
        Only revisions before that age go.
    dry_run
        Only tell.

    Notes
    -----
    The head stays, and so does every revision that froze a snapshot which has a tag or an artifact.

    Raises
    ------
    UsageError
        If neither is given: everything but the head would go.
    """
    if keep < 1 and older_than is None:
        msg = "expire needs --keep N or --older-than AGE; without both, all history would go."
        raise UsageError(msg)
    layout = atlas.layout
    # Who only tells holds no lease: an atlas that nobody may write to can be asked, too.
    with contextlib.nullcontext() if dry_run else held_lease(layout.leases, "write"):
        revisions = read_revisions(layout.revisions)
        dropped = _droppable(layout, revisions, keep=max(keep, 1), older_than=older_than)
        if not dry_run:
            drop_revisions(layout.revisions, layout.expired, dropped)
    return tuple(revision.number for revision in dropped)


def free_unreachable(atlas: Atlas, *, dry_run: bool = False, grace_seconds: float = GRACE_SECONDS) -> Freed:
    """Free the objects that nothing reaches and that are older than the grace time.

    A dry run writes nothing, no lease either: what it tells is as of now, while others may work in the atlas.
    """
    layout = atlas.layout
    with contextlib.nullcontext() if dry_run else held_lease(layout.leases, "gc"):
        writers = live_leases(layout.leases, kinds=("write",))
        reached = reachable(layout)
        loose = sorted(all_objects(layout) - reached, key=str)
        now = time.time()
        old = [path for path in loose if now - _age_of(path) >= grace_seconds]
        n_bytes = sum(_size_of(path) for path in old)
        if writers or dry_run:
            doomed = () if writers and not dry_run else tuple(_name(layout, path) for path in old)
            return Freed(
                dry_run=dry_run,
                objects=doomed,
                n_bytes=n_bytes if doomed else 0,
                n_young=len(loose) - len(old),
                held_by=writers,
            )
        for path in old:
            _remove(path)
    return Freed(
        dry_run=False,
        objects=tuple(_name(layout, path) for path in old),
        n_bytes=n_bytes,
        n_young=len(loose) - len(old),
    )


def recover_atlas(atlas: Atlas, *, grace_seconds: float = RECOVERY_SECONDS) -> Recovered:
    """Clean what a crash left; a second call finds nothing more."""
    layout = atlas.layout
    dead = remove_dead_leases(layout.leases)
    with held_lease(layout.leases, "gc") as mine:
        writers = tuple(lease for lease in live_leases(layout.leases, kinds=("write",)) if lease.token != mine.token)
        purged = finish_purge(layout)
        revisions = finish_expiry(layout.revisions, layout.expired)
        if writers:
            return Recovered(leases=tuple(dead), purged=tuple(purged), revisions=tuple(revisions), held_by=writers)
        now = time.time()
        staged = [path for path in _staged(layout) if now - _age_of(path) >= grace_seconds]
        for path in staged:
            _remove(path)
        scratches = [scratch for scratch in _scratches(layout) if now - _age_of(scratch) >= grace_seconds]
        for scratch in scratches:
            remove_scratch(scratch)
        snapshots = [path for path in _unnamed(layout) if now - _age_of(path) >= grace_seconds]
        for path in snapshots:
            remove(path)
    return Recovered(
        staged=tuple(_name(layout, path) for path in staged),
        scratches=tuple(path.name for path in scratches),
        leases=tuple(dead),
        purged=tuple(purged),
        revisions=tuple(revisions),
        snapshots=tuple(_name(layout, path) for path in snapshots),
    )


def _droppable(
    layout: Layout, revisions: tuple[Revision, ...], *, keep: int, older_than: timedelta | None
) -> list[Revision]:
    head = revisions[-1]
    needed = set(head.tags.values()) | set(snapshots_of(layout, ())) | {head.frozen}
    limit = "9" if older_than is None else (datetime.now(UTC) - older_than).isoformat(timespec="seconds")
    seen: set[str] = set()
    dropped = []
    for position, revision in enumerate(revisions):
        # The revision that froze it is the first one that speaks of it.
        froze = revision.frozen if revision.frozen not in seen else ""
        seen.add(revision.frozen)
        is_recent = position >= len(revisions) - keep
        if not is_recent and not (froze and froze in needed) and revision.time < limit:
            dropped.append(revision)
    return dropped


def _staged(layout: Layout) -> Iterator[Place]:
    """Yield what was staged and never got its name, anywhere in the atlas but in scratches."""
    if not isinstance(layout.root, Path):
        # What goes to an object store is staged elsewhere.
        return
    for path in sorted(layout.root.rglob(f"{STAGED_PREFIX}*")):
        inside = path.relative_to(layout.root).parts
        if not any(part.startswith(".") for part in inside[:-1]):
            yield path


def _scratches(layout: Layout) -> tuple[Path, ...]:
    return abandoned_scratch(layout.root) if isinstance(layout.root, Path) else ()


def _unnamed(layout: Layout) -> list[Place]:
    """Return snapshots that nothing names: a freeze was interrupted before its revision.

    A log that was rolled back cannot be read at all, so that its snapshots are never taken for such.
    """
    head_revision(layout.revisions)
    named = set(snapshots_of(layout, read_revisions(layout.revisions)))
    named |= {gone.frozen for gone in read_expired(layout.expired).values()}
    return [path for path in documents_in(layout.snapshots) if f"sha256:{path.stem}" not in named]


def _age_of(path: Place) -> float:
    """Return when an object was written last, in seconds since 1970; one that is gone is new."""
    try:
        return modified_at(path)
    except FileNotFoundError:
        return time.time()


def _size_of(path: Place) -> int:
    """Return the bytes of an object; one that somebody freed in the meantime has none."""
    try:
        return size_of(path) if path.is_file() else sum(list_files(path).values())
    except FileNotFoundError:
        return 0


def _remove(path: Place) -> None:
    if path.is_dir():
        remove_directory(path)
    else:
        remove(path)


def _name(layout: Layout, path: Place) -> str:
    return layout.name_of(path)
