"""Where an atlas lies: a directory of a local disk, or a prefix of an object store. One word for both: a place."""

from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files.objects import SCHEMES, ObjectPath

__all__ = ["ObjectPath", "Place", "place_below", "place_of"]

Place = Path | ObjectPath


def place_of(text: str | Place) -> Place:
    """Return the place that a text names: `s3://bucket/prefix`, `gs://`, `az://`, or a path of this machine.

    Raises
    ------
    UsageError
        If the text is a URL of something else, carries keys, or climbs with `..`.
    """
    if isinstance(text, ObjectPath):
        return text
    if isinstance(text, Path):
        if text.parts and text.parts[0] in [f"{scheme}:" for scheme in SCHEMES]:
            msg = f"{text} was a URL before it became a Path, which takes away a slash. Pass the URL as text."
            raise UsageError(msg)
        return text
    scheme, mark, rest = text.partition("://")
    if not mark:
        return Path(text)
    if scheme not in SCHEMES:
        msg = f"{scheme}:// is no place for an atlas; give a directory, or s3://, gs:// or az:// with a bucket."
        raise UsageError(msg)
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        msg = f"a {scheme}:// URL must not carry keys: they would end up in logs. Set the variables of the provider."
        raise UsageError(msg)
    parts = [part for part in key.split("/") if part]
    if not bucket or {".", ".."} & set(parts) or not text.isprintable():
        msg = f"{text!r} names no place in a bucket: {scheme}://bucket/prefix, without '.' and '..'."
        raise UsageError(msg)
    return ObjectPath(f"{scheme}://{bucket}", "/".join(parts))


def place_below(place: Place, root: Place) -> str:
    """Return the path of a place below another, with slashes.

    Raises
    ------
    ValueError
        If it is not below.
    """
    if isinstance(place, Path) and isinstance(root, Path):
        return place.relative_to(root).as_posix()
    if isinstance(place, ObjectPath) and isinstance(root, ObjectPath):
        return place.relative_to(root).as_posix()
    msg = f"{place} is not below {root}"
    raise ValueError(msg)
