"""Read a tar archive that holds one 10x matrix with its tables, packed or not.

The archive is listed first and refused whole if anything in it is no plain file or has a name that leads out: links,
devices, `..`, absolute names, one name twice. Nothing is unpacked by its name: the three files are copied, by their
content, under names of our own into a temporary directory.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cytolabe.ingest.mtx_text import mtx_problem
from cytolabe.ingest.opened import OpenSource
from cytolabe.ingest.refusals import readable
from cytolabe.ingest.tar_listing import listed_tar, opened_tar, tables_of
from cytolabe.ingest.tenx_mtx import contents_of
from cytolabe.ingest.trios import Trio

__all__ = ["open_tenx_tar"]


@contextmanager
def open_tenx_tar(path: Path, *, part: str = "") -> Iterator[OpenSource]:
    """Open a scanned archive for reading.

    Raises
    ------
    UnreadableInputError
        If it does not hold one matrix with its tables, or one of them is damaged.
    RefusedError
        If it has genes of several genomes and `part` names none.
    """
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="cytolabe-")))
        with readable(path.name):
            names = tables_of(listed_tar(path)[0])
            if names is None:
                raise mtx_problem(
                    path.name, "The archive does not hold one matrix.mtx with barcodes and features beside it."
                )
            copies = _copied(path, names, folder)
        yield OpenSource(path, contents_of(path, copies, part), cleanup)


def _copied(path: Path, names: tuple[str, str, str], folder: Path) -> Trio:
    places = dict(zip(names, (folder / "matrix.mtx", folder / "barcodes.tsv", folder / "features.tsv"), strict=True))
    with opened_tar(path) as archive:
        for member in archive:
            place = places.get(member.name)
            content = archive.extractfile(member) if place is not None else None
            if place is not None and content is not None:
                with place.open("wb") as stream:
                    shutil.copyfileobj(content, stream, 1 << 20)
    return Trio(matrix=places[names[0]], barcodes=places[names[1]], features=places[names[2]])
