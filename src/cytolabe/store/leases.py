"""Leases: who works in an atlas just now, so that `gc` frees nothing under their hands.

A lease is a small sealed file that its owner renews. Writers hold one while they put objects into an atlas, readers
may hold one that names the snapshots that they read. `gc` holds one of its own before it looks for others, and a
writer looks for one of `gc` after it wrote its own: of the two, at least one sees the other.

A lease is over when it was not renewed for its lifetime and a margin for clocks that disagree, or, on the same host, when
its process is gone.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from cytolabe.errors import ConflictError, IntegrityError
from cytolabe.files import Place, remove, replace_file
from cytolabe.store.documents import documents_in, read_sealed, sealed_bytes

__all__ = ["LIFETIME_SECONDS", "SKEW_SECONDS", "Lease", "held_lease", "live_leases", "remove_dead_leases"]

LIFETIME_SECONDS = 900.0
"""A lease that was not renewed for so long is over."""

SKEW_SECONDS = 300.0
"""By how much the clocks of two hosts may disagree."""

_RENEWALS = 4
_WAIT_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One lease: `kind` is read, write or gc; times are seconds since 1970 by the owner's clock."""

    token: str
    kind: str
    host: str
    pid: int
    started: float
    renewed: float
    snapshots: tuple[str, ...] = ()

    def is_live(self, now: float) -> bool:
        """Tell whether its owner may still be at work."""
        if self.host == socket.gethostname() and not _is_running(self.pid):
            return False
        return now - self.renewed <= LIFETIME_SECONDS + SKEW_SECONDS


@contextlib.contextmanager
def held_lease(
    directory: Place, kind: str, *, snapshots: Sequence[str] = (), patience: float = 60.0
) -> Iterator[Lease]:
    """Hold a lease for the length of the block; a thread renews it. Writers wait for a running `gc`.

    Raises
    ------
    ConflictError
        If a `gc` is still running after `patience` seconds.
    """
    now = time.time()
    lease = Lease(
        token=secrets.token_hex(8),
        kind=kind,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=now,
        renewed=now,
        snapshots=tuple(snapshots),
    )
    path = directory / f"{lease.token}.json"
    _write(path, lease)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, lease, ended), daemon=True)
    renewing.start()
    try:
        if kind == "write":
            _wait_for_gc(directory, patience)
        yield lease
    finally:
        ended.set()
        renewing.join()
        remove(path)


def live_leases(directory: Place, *, kinds: Sequence[str] = ("read", "write", "gc")) -> tuple[Lease, ...]:
    """Return the leases whose owners may still be at work."""
    now = time.time()
    found = []
    for path in documents_in(directory):
        lease = _read(path)
        if lease is not None and lease.kind in kinds and lease.is_live(now):
            found.append(lease)
    return tuple(found)


def remove_dead_leases(directory: Place) -> list[str]:
    """Remove the leases that are over and return their tokens."""
    now = time.time()
    dead = []
    for path in documents_in(directory):
        lease = _read(path)
        if lease is not None and not lease.is_live(now):
            remove(path)
            dead.append(lease.token)
    return dead


def _wait_for_gc(directory: Place, patience: float) -> None:
    until = time.monotonic() + patience
    while running := live_leases(directory, kinds=("gc",)):
        if time.monotonic() > until:
            gc = running[0]
            msg = (
                f"`gc` is running in this atlas (host {gc.host}, process {gc.pid}). What is written now could be freed; "
                "wait for it, or run `cytolabe snapshot recover` if that process is gone."
            )
            raise ConflictError(msg)
        time.sleep(_WAIT_SECONDS)


def _renew(path: Place, lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(LIFETIME_SECONDS / _RENEWALS):
        # A store that is away for a moment is tried again with the next renewal.
        with contextlib.suppress(OSError):
            _write(path, Lease(**{**asdict(lease), "renewed": time.time()}))


def _write(path: Place, lease: Lease) -> None:
    # Milliseconds: canonical JSON keeps no fractions of the clock.
    content = {**asdict(lease), "started": round(lease.started * 1000), "renewed": round(lease.renewed * 1000)}
    replace_file(path, sealed_bytes({"kind_of_document": "cytolabe/lease/1", **content}))


def _read(path: Place) -> Lease | None:
    """Return a lease; None where its owner removed it in the meantime, or it is no lease."""
    try:
        document = read_sealed(path)
        return Lease(
            token=str(document["token"]),
            kind=str(document["kind"]),
            host=str(document["host"]),
            pid=int(cast("int", document["pid"])),
            started=cast("int", document["started"]) / 1000,
            renewed=cast("int", document["renewed"]) / 1000,
            snapshots=tuple(cast("list[str]", document["snapshots"])),
        )
    except (IntegrityError, KeyError, TypeError):
        return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
