"""Writing to a place, whole or not at all; the same words for disk (`files.local`) and object store (`files.objects`).

What is staged is always local: beside its target on a disk, where a rename publishes it, and in the directory for
temporary files (`TMPDIR`) for an object store, to which it is uploaded.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytolabe.files import local, objects
from cytolabe.files.places import Place

__all__ = [
    "create_new",
    "publish_directory",
    "publish_file",
    "remove",
    "remove_directory",
    "replace_by_file",
    "replace_file",
    "staged_directory",
]


def replace_file(place: Place, content: bytes) -> None:
    """Write `content` under a name, replacing what was there, all or nothing."""
    if isinstance(place, Path):
        local.replace_local_file(place, content)
    else:
        objects.put_object(place, content)


def replace_by_file(place: Place, staged: Path) -> None:
    """Give a finished local file a name, replacing what was there, all or nothing; on a disk it must lie on the same one."""
    if isinstance(place, Path):
        local.replace_by_local_file(place, staged)
    else:
        objects.put_object(place, staged)
        local.operations.unlink(staged)


def create_new(place: Place, content: bytes) -> None:
    """Write `content` under a name that nobody has taken yet.

    Equal bytes under that name count as success, so that a repeated publish is harmless.

    Raises
    ------
    ConflictError
        If the name is taken by other bytes.
    """
    if isinstance(place, Path):
        local.create_file(place, content)
    else:
        objects.create_object(place, content)


@contextmanager
def staged_directory(parent: Place) -> Iterator[Path]:
    """Yield an empty local directory for what goes into `parent`; it is removed at the end unless it was published."""
    folder = parent if isinstance(parent, Path) else Path(tempfile.gettempdir())
    with local.staged_local_directory(folder) as staged:
        yield staged


def publish_directory(staged: Path, target: Place) -> bool:
    """Give a staged directory its name, and tell whether it took it.

    A target that exists already is kept: names are digests of the content. On an object store the root `zarr.json`
    goes last, and a directory without it does not exist for a reader.

    Raises
    ------
    ConflictError
        If an interrupted upload to an object store left other bytes there.
    """
    if isinstance(target, Path):
        return local.published_directory(staged, target)
    return objects.upload_directory(staged, target)


def publish_file(staged: Path, target: Path) -> bool:
    """Give a staged file on the same disk its name, unless it is taken; tell whether it took it."""
    return local.published_file(staged, target)


def remove(place: Place) -> None:
    """Remove a file; a missing one is fine."""
    if not isinstance(place, Path):
        objects.remove_object(place)
        return
    with contextlib.suppress(FileNotFoundError):
        local.operations.unlink(place)


def remove_directory(place: Place) -> None:
    """Remove a directory with all that is in it, what describes it first, so that a reader never sees half of it."""
    remove(place / "zarr.json")
    if isinstance(place, Path):
        local.remove_tree(place)
        return
    for path in place.rglob("*"):
        objects.remove_object(path)
