"""The process that looks through one tar archive: every entry of it is passed, which decompresses all of it."""

from pathlib import Path

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest.child_limits import run_limited
from cytolabe.ingest.refusals import findings_of, readable
from cytolabe.ingest.tar_listing import listed_tar, tables_of
from cytolabe.ingest.zarr_files import nothing_to_read
from cytolabe.records import Finding

__all__ = ["look_through"]


def look_through(path: Path) -> tuple[Finding, ...]:
    """Return what makes an archive hostile or unreadable, after all of it was decompressed."""
    try:
        with readable(path.name):
            sizes, findings = listed_tar(path)
    except UnreadableInputError as error:
        return findings_of(error)
    if not findings and tables_of(sizes) is None:
        return (nothing_to_read(path.name, tuple(sizes)),)
    return findings


if __name__ == "__main__":
    run_limited(look_through)
