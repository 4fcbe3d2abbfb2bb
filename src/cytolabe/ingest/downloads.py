"""Fetch a file once, however often the connection breaks, and know afterwards which bytes they were.

Bytes go into `<name>.part`, beside a note of what is being fetched. A later call continues there with a `Range`
request; `If-Range` with the file's validator makes the server send everything anew if the file changed in between, so
that two versions are never glued together. Without a strong validator nothing is continued. The name is given only to
a whole file: its size is what the server and its catalog say, its SHA-256 is in `<name>.json`. A file that is there
already is hashed again before it is used, so a damaged cache is fetched anew and never read.
"""

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import client as http_client
from pathlib import Path

from cytolabe import files
from cytolabe.errors import IntegrityError, UnreachableSourceError, UsageError
from cytolabe.ingest.web import Answer, PassingFaultError, WebClient

__all__ = ["Downloaded", "download"]

_PIECE = 1 << 20
_TELL_EVERY = 64 << 20
_PROGRESS = 1 << 20
"""Bytes after which a try counts as progress."""


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A whole file and where it came from."""

    url: str
    path: Path
    sha256: str
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What a partial file is a part of; `validator` is what `If-Range` needs, empty where nothing can be continued."""

    url: str
    validator: str
    n_bytes: int | None


def download(
    url: str,
    target: Path,
    *,
    n_bytes: int | None = None,
    client: WebClient | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Downloaded:
    """Fetch a file, continuing what an earlier call left.

    Parameters
    ----------
    url
        Its address.
    target
        The path that it gets; the folder is made.
    n_bytes
        Its size, where a catalog gives one.
    client
        How to ask.
    on_progress
        Gets a line now and then.

    Raises
    ------
    UnreachableSourceError
        If it cannot be fetched; what arrived is kept for the next call.
    IntegrityError
        If what the server offers has another size than its catalog says.
    UsageError
        If the disk is too small.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        present = _present(url, target, n_bytes)
        if present is not None:
            on_progress(f"download: {target.name} is here already ({present.n_bytes:,} bytes)")
            return present
        transfer = _Transfer(url, target, n_bytes=n_bytes, client=client or WebClient(), on_progress=on_progress)
        return transfer.run()


class _Transfer:
    """One file on its way."""

    def __init__(
        self, url: str, target: Path, *, n_bytes: int | None, client: WebClient, on_progress: Callable[[str], None]
    ) -> None:
        self._url = url
        self._target = target
        self._declared = n_bytes
        self._client = client
        self._tell = on_progress
        self._part = target.with_name(f"{target.name}.part")
        self._note_path = target.with_name(f"{target.name}.part.json")

    def run(self) -> Downloaded:
        """Fetch until the file is whole, and give it its name."""
        _require_space(self._target.parent, (self._declared or 0) - self._n_here())
        total = self._client.persist(self._continue)
        n_here = self._n_here()
        if total is not None and n_here != total:
            self._discard()
            msg = f"{self._target.name}: {n_here:,} bytes arrived where {total:,} were announced. The partial file was removed; try again."
            raise IntegrityError(msg)
        done = Downloaded(url=self._url, path=self._target, sha256=files.sha256_of_file(self._part), n_bytes=n_here)
        # The record first: a crash in between leaves a whole part, which the next call only has to rename.
        files.replace_file(_record_path(self._target), _json_of({**asdict(done), "path": self._target.name}))
        self._part.replace(self._target)
        self._note_path.unlink(missing_ok=True)
        return done

    def _continue(self) -> int | None:
        """Ask for what is missing and append it; return the size of the whole file, where it is known."""
        note, start = self._note(), self._n_here()
        if note is not None and note.n_bytes == start:
            return start
        headers = {}
        if note is not None and note.validator and start:
            headers = {"Range": f"bytes={start}-", "If-Range": note.validator}
        else:
            start = 0
        try:
            with self._client.open(self._url, headers) as answer:
                total = self._check(answer, start)
                self._append(answer, 0 if answer.status == 200 else start, total)
                return total
        except UnreachableSourceError as error:
            if error.status != 416:
                raise
            self._discard()  # the part is longer than the file: it belongs to something else
            msg = f"{self._target.name}: what was here did not fit the file of the server; it is fetched anew."
            raise PassingFaultError(msg, pause=0.0) from None

    def _check(self, answer: Answer, start: int) -> int | None:
        """Look at the head of an answer before a byte of it is kept."""
        kind = answer.headers.get_content_type()
        if kind in {"text/html", "application/xhtml+xml"}:
            msg = f"{self._url}: the server sent a web page where a file was asked for. Is a proxy or a login page in between?"
            raise UnreachableSourceError(msg)
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            msg = (
                f"{self._url}: the server packed the file although it was asked not to; its size could not be checked."
            )
            raise UnreachableSourceError(msg)
        length = answer.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdigit() else None
        if answer.status == 206:
            total = self._total_of_range(answer, start)
        if self._declared is not None and total is not None and total != self._declared:
            msg = f"{self._url}: the catalog says {self._declared:,} bytes, the server offers {total:,}. The catalog or the file is being changed; try again later."
            raise IntegrityError(msg)
        return total if total is not None else self._declared

    def _total_of_range(self, answer: Answer, start: int) -> int:
        """Return the size of the whole file from `Content-Range: bytes 5-9/10`."""
        said = answer.headers.get("Content-Range", "")
        span, _, size = said.removeprefix("bytes ").partition("/")
        if span.partition("-")[0] != str(start) or not size.isdigit():
            self._discard()
            msg = f"{self._url}: asked from byte {start}, the server sent {said or 'an unnamed part'}; it is fetched anew."
            raise PassingFaultError(msg)
        return int(size)

    def _append(self, answer: Answer, start: int, total: int | None) -> None:
        note = _Note(url=self._url, validator=_validator(answer), n_bytes=total)
        files.replace_file(self._note_path, _json_of(asdict(note)))
        began, arrived, told = time.monotonic(), start, start
        with self._part.open("r+b" if start else "wb") as stream:
            stream.truncate(start)
            stream.seek(start)
            try:
                while piece := answer.body.read1(_PIECE):  # what has arrived, so that a stall loses nothing
                    stream.write(piece)
                    arrived += len(piece)
                    if arrived - told >= _TELL_EVERY:
                        told = arrived
                        self._tell(
                            _progress_line(self._target.name, arrived, total, rate=_rate(arrived - start, began))
                        )
            except (OSError, http_client.HTTPException) as error:
                raise _broken(self._url, error, arrived - start) from None
            finally:
                stream.flush()
                os.fsync(stream.fileno())
        if total is not None and arrived < total:
            raise _broken(self._url, EOFError(f"{arrived:,} of {total:,} bytes"), arrived - start)

    def _n_here(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _note(self) -> _Note | None:
        """Return the note of the part, or None where there is none of this address."""
        said = _read_json(self._note_path)
        try:
            note = _Note(url=said["url"], validator=said["validator"], n_bytes=said["n_bytes"])  # type: ignore[arg-type]
        except KeyError:
            return None
        return note if note.url == self._url else None

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)


def _broken(url: str, error: Exception, n_arrived: int) -> Exception:
    """Return the fault of a transfer that stopped; a full disk is no fault of the connection."""
    if (
        isinstance(error, OSError)
        and not isinstance(error, ConnectionError | TimeoutError)
        and error.errno == errno.ENOSPC
    ):
        return UsageError(
            f"The disk is full after {n_arrived:,} more bytes of {url}. Make room and call again: it continues."
        )
    fault = PassingFaultError(f"{url}: the transfer stopped ({str(error) or type(error).__name__}).")
    fault.progressed = n_arrived >= _PROGRESS
    return fault


def _present(url: str, target: Path, n_bytes: int | None) -> Downloaded | None:
    """Return the file that is there already, if its bytes are still those of its record."""
    record = _read_json(_record_path(target))
    if not target.is_file() or record.get("url") != url:
        return None
    size = target.stat().st_size
    if size != record.get("n_bytes") or n_bytes not in {None, size}:
        return None
    sha256 = files.sha256_of_file(target)
    return Downloaded(url=url, path=target, sha256=sha256, n_bytes=size) if sha256 == record.get("sha256") else None


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process at a time fetch a file; the others wait and then find it there."""
    with target.with_name(f"{target.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_space(folder: Path, n_needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if n_needed > free:
        msg = f"{folder}: {n_needed:,} bytes are still to come, {free:,} are free. Make room, or name a folder on another disk with --cache."
        raise UsageError(msg)


def _validator(answer: Answer) -> str:
    """Return a strong validator for `If-Range`: an entity tag that is not weak, else the date of the last change."""
    tag: str = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return "" if tag else str(answer.headers.get("Last-Modified", ""))


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _json_of(document: dict[str, object]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _read_json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _rate(n_bytes: int, began: float) -> float:
    return n_bytes / max(1e-9, time.monotonic() - began)


def _progress_line(name: str, arrived: int, total: int | None, *, rate: float) -> str:
    whole = f" of {total / 1e6:,.0f}" if total is not None else ""
    left = f", {(total - arrived) / rate:,.0f} s left" if total is not None else ""
    return f"download {name}: {arrived / 1e6:,.0f}{whole} MB, {rate / 1e6:,.1f} MB/s{left}"
