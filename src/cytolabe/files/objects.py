"""Objects in S3, Google Cloud Storage and Azure through obstore, under the words of `pathlib` that the store uses.

An object store has no rename, no link and no directories. What is needed of it: a put is seen whole or not at all, a
put with "only if there is none" (`If-None-Match: *`) lets one of two writers win, and a list shows what was put.
Equal bytes under a taken name are a success, which also covers a put whose answer was lost and that was sent again.

What went wrong is told as the disk would tell it: a missing object is `FileNotFoundError`, a refusal
`PermissionError`, and a network that does not answer, after a few tries, an `OSError`. Endpoint, region and keys come
from the usual variables (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...); nothing of them is ever shown. `memory://`
is a store inside this process, for tests.
"""

import errno
import fnmatch
import hashlib
import importlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from cytolabe.errors import ConflictError, MissingExtraError, UsageError

__all__ = [
    "SCHEMES",
    "ObjectPath",
    "create_object",
    "object_modified_at",
    "object_sha256",
    "put_object",
    "remove_object",
    "upload_directory",
]

SCHEMES = ("s3", "gs", "az", "memory")
RETRY = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
"""How long an object store that does not answer is asked again."""

_UPLOADS = 8
_LAST = "zarr.json"
"""The file that says what belongs to a directory; nobody reads the directory before it is there."""

_STREAMED_BYTES = 1 << 20
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")
_SETTINGS = ("AWS_", "GOOGLE_", "AZURE_")


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The name of an object, or of all objects below it. Make one with `files.place_of("s3://bucket/prefix")`."""

    root: str
    key: str = ""
    listed_size: int | None = field(default=None, compare=False, repr=False)
    """Bytes of the object where a list told them; such a path is known to be a file."""

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.root, "/".join(part for part in (self.key, *name.split("/")) if part))

    @property
    def name(self) -> str:
        """Last part of the key; the bucket where there is no key."""
        return self.parts[-1]

    @property
    def stem(self) -> str:
        """Last part without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Suffix of the last part, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket, and the parts of the key."""
        return (self.root.partition("://")[2], *(part for part in self.key.split("/") if part))

    @property
    def parent(self) -> "ObjectPath":
        """What holds this; the bucket is its own parent."""
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    def relative_to(self, other: "ObjectPath") -> PurePosixPath:
        """Return the path below `other`."""
        prefix = f"{other.key}/" if other.key else ""
        if self.root != other.root or not self.key.startswith(prefix):
            msg = f"{self} is not below {other}"
            raise ValueError(msg)
        return PurePosixPath(self.key.removeprefix(prefix))

    def exists(self) -> bool:
        """Tell whether there is an object of this name, or any below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Tell whether there is an object of this name."""
        if self.listed_size is not None:
            return True
        try:
            self.size()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Tell whether there is any object below this name."""
        with _told(self):
            pages = _obstore().list(_store(self), prefix=self.key or None, chunk_size=1)
            return any(len(page) > 0 for page in pages)

    def size(self) -> int:
        """Return the number of bytes of the object."""
        if self.listed_size is not None:
            return self.listed_size
        if not self.key:
            raise _missing(self)
        with _told(self):
            return int(_obstore().head(_store(self), self.key)["size"])

    def read_bytes(self) -> bytes:
        """Return the object, whole."""
        with _told(self):
            return bytes(_obstore().get(_store(self), self.key).bytes())

    def read_range(self, offset: int, length: int) -> bytes:
        """Return bytes of the object; fewer than `length` only where it ends."""
        if length == 0:
            self.size()
            return b""
        try:
            with _told(self):
                return bytes(_obstore().get_range(_store(self), self.key, start=offset, length=length))
        except FileNotFoundError:
            raise
        except OSError:
            # A range behind the end is refused, like a store that is down.
            if offset < self.size():
                raise
            return b""

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Yield what lies directly below, sorted; one list call for a thousand names."""
        with _told(self):
            found = _obstore().list_with_delimiter(_store(self), prefix=self.key or None)
        files = [ObjectPath(self.root, str(meta["path"]), int(meta["size"])) for meta in found["objects"]]
        folders = [ObjectPath(self.root, str(prefix).rstrip("/")) for prefix in found["common_prefixes"]]
        yield from sorted([*files, *folders])

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Yield what lies directly below and fits a pattern of one part, such as `*.json`."""
        yield from (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Yield all objects below, however deep, whose last part fits a pattern; there are no directories to yield."""
        with _told(self):
            pages = list(_obstore().list(_store(self), prefix=self.key or None))
        files = [ObjectPath(self.root, str(meta["path"]), int(meta["size"])) for page in pages for meta in page]
        yield from sorted(path for path in files if fnmatch.fnmatchcase(path.name, pattern))


def put_object(path: ObjectPath, content: bytes | Path) -> None:
    """Write an object, or what is in a local file, replacing what was there, all or nothing."""
    with _told(path):
        _obstore().put(_store(path), path.key, content)


def create_object(path: ObjectPath, content: bytes) -> None:
    """Write an object under a name that nobody has taken yet; equal bytes under that name count as success.

    Raises
    ------
    ConflictError
        If the name is taken by other bytes.
    """
    try:
        with _told(path):
            _obstore().put(_store(path), path.key, content, mode="create")
    except FileExistsError:
        if path.read_bytes() != content:
            msg = f"{path.name} was published by somebody else in the meantime; read it again and retry."
            raise ConflictError(msg) from None


def upload_directory(staged: Path, target: ObjectPath) -> bool:
    """Put the files of a local directory under a name, the one that describes it last; tell whether it took the name.

    Nothing that is there is overwritten: a partition that somebody else uploads at the same time is equal, and one
    that was interrupted is continued.

    Raises
    ------
    ConflictError
        If an interrupted upload left other bytes there, as another version of a codec would write them.
    """
    root = target / _LAST
    if root.is_file():
        return False
    paths = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
    last = paths.pop(_LAST, None)
    try:
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="cytolabe-upload") as pool:
            list(pool.map(lambda item: create_object(target / item[0], item[1].read_bytes()), paths.items()))
        if last is not None:
            create_object(root, last.read_bytes())
    except ConflictError:
        if root.is_file():
            return False
        msg = (
            f"{target} holds files of other bytes and no {_LAST}: somebody with another version uploads it now, or was "
            "interrupted. If nobody does, remove what is below that name, and repeat."
        )
        raise ConflictError(msg) from None
    return True


def remove_object(path: ObjectPath) -> None:
    """Remove an object; a missing one is fine."""
    try:
        with _told(path):
            _obstore().delete(_store(path), path.key)
    except FileNotFoundError:
        return


def object_modified_at(path: ObjectPath) -> float:
    """Return when an object, or the youngest one below a name, was written, in seconds since 1970."""
    with _told(path):
        pages = _obstore().list(_store(path), prefix=path.key or None)
        below = f"{path.key}/"
        times = [meta["last_modified"].timestamp() for page in pages for meta in page if meta["path"].startswith(below)]
        if not times:
            times = [_obstore().head(_store(path), path.key)["last_modified"].timestamp()]
    return float(max(times))


def object_sha256(path: ObjectPath) -> str:
    """Return the SHA-256 of an object as 64 hexadecimal digits; it is streamed."""
    digest = hashlib.sha256()
    with _told(path):
        for piece in _obstore().get(_store(path), path.key).stream(min_chunk_size=_STREAMED_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _obstore() -> Any:  # noqa: ANN401 - a module of an optional library
    try:
        return importlib.import_module("obstore")
    except ModuleNotFoundError:
        msg = "obstore is not installed; an atlas in an object store needs it: pip install 'cytolabe[cloud]'."
        raise MissingExtraError(msg) from None


def _store(path: ObjectPath) -> Any:  # noqa: ANN401 - a class of an optional library
    _obstore()
    scheme, _, bucket = path.root.partition("://")
    if scheme == "memory":
        return _memory_store(bucket)
    settings = tuple(sorted(item for item in os.environ.items() if item[0].upper().startswith(_SETTINGS)))
    return _opened_store(scheme, bucket, settings)


@cache
def _memory_store(_bucket: str) -> Any:  # noqa: ANN401 - a class of an optional library
    return importlib.import_module("obstore.store").MemoryStore()


@lru_cache(maxsize=16)
def _opened_store(scheme: str, bucket: str, _settings: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401
    """Return the client of a bucket; it reads the variables itself, and one is made for each state of them."""
    stores = importlib.import_module("obstore.store")
    maker = {"s3": stores.S3Store, "gs": stores.GCSStore, "az": stores.AzureStore}[scheme]
    return maker(bucket, retry_config=RETRY)


@contextmanager
def _told(path: ObjectPath) -> Iterator[None]:
    """Turn what obstore raises into what the disk would raise."""
    known = importlib.import_module("obstore.exceptions") if _obstore() else None
    try:
        yield
    except (known.BaseError, FileNotFoundError) as error:  # type: ignore[union-attr]
        reason = str(error).partition("\n\nDebug source")[0].partition("<?xml")[0].strip(" :\n")
        if _NO_BUCKET.search(str(error)):
            msg = f"there is no bucket {path.root}, or it is not yours. Make it first, or correct the URL."
            raise UsageError(msg) from None
        if isinstance(error, FileNotFoundError):
            raise _missing(path) from None
        if isinstance(error, known.AlreadyExistsError | known.PreconditionError):  # type: ignore[union-attr]
            raise FileExistsError(errno.EEXIST, "is there already", str(path)) from None
        if isinstance(error, known.PermissionDeniedError | known.UnauthenticatedError):  # type: ignore[union-attr]
            msg = f"the object store refuses; check the keys and what they may do ({reason})"
            raise PermissionError(errno.EACCES, msg, str(path)) from None
        msg = f"the object store did not do it; what was published stays whole, so try again ({reason})"
        raise OSError(errno.EIO, msg, str(path)) from None


def _missing(path: ObjectPath) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "there is no such object", str(path))
