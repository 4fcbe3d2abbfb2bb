"""What a file that a pipeline left behind says: facts about one hop each, with the file that says it and its digest.

A reader gets a `Document` and yields `HopEvidence`. It says what stands there and nothing else: paths are cut to their
last part (they name places of another machine), and a file of a known name with another content is `MalformedError`,
never an empty answer.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast

from cytolabe.records import HopEvidence

__all__ = ["Document", "FileReader", "MalformedError", "base_name", "command_options", "read_claims", "texts"]

_RUN = re.compile(r"(?<![A-Za-z0-9])[SED]RR[0-9]{5,12}(?![0-9])")
"""Accession of a sequencing run at the archives (SRA, ENA, DDBJ)."""


_MAX_VALUE = 20_000


class MalformedError(ValueError):
    """A file bears a name of a pipeline and holds something else; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text file of a pipeline: its name relative to the folder, its text, and the SHA-256 of its bytes."""

    file: str
    text: str
    sha256: str

    def says(self, hop: str, fact: str, value: str, *, place: str) -> HopEvidence:
        """Return one fact that this file says at `place`.

        Raises
        ------
        MalformedError
            If the value is no text that a record can hold: too long, or with halves of characters.
        """
        if len(value) > _MAX_VALUE or not value.isprintable():
            msg = f"the {fact} at {place[:80]} is no text of at most {_MAX_VALUE:,} printable characters"
            raise MalformedError(msg)
        return HopEvidence(hop=hop, fact=fact, value=value.strip(), file=self.file, place=place, sha256=self.sha256)

    def mapping(self) -> Mapping[str, object]:
        """Return the JSON object that the file holds.

        Raises
        ------
        MalformedError
            If it is no JSON, or no object.
        """
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError) as error:
            msg = f"no JSON ({error})"
            raise MalformedError(msg) from None
        if not isinstance(found, dict):
            msg = "no JSON object"
            raise MalformedError(msg)
        return cast("Mapping[str, object]", found)

    def reads(self, names: Sequence[str], *, place: str) -> Iterator[HopEvidence]:
        """Say which files of raw reads went in, and which run accessions their names bear."""
        files = sorted({base_name(name) for name in names if name.strip()})
        if files:
            yield self.says("reads", "FASTQ files", ", ".join(files), place=place)
        runs = sorted({run for name in files for run in _RUN.findall(name)})
        if runs:
            yield self.says("reads", "run accessions", ", ".join(runs), place=place)


Reader = Callable[[Document], Iterator[HopEvidence]]


@dataclass(frozen=True, kw_only=True)
class FileReader:
    """A reader and the names of the files that it reads: `pattern` matches the whole relative name."""

    pattern: re.Pattern[str]
    read: Reader


def read_claims(document: Document, readers: Sequence[FileReader]) -> tuple[HopEvidence, ...]:
    """Return what the first reader that knows the name of a document finds in it.

    Raises
    ------
    MalformedError
        If the content is not what the name says.
    """
    for reader in readers:
        if reader.pattern.fullmatch(document.file):
            return tuple(reader.read(document))
    return ()


def base_name(path: str) -> str:
    """Return the last part of a path of any system."""
    return PurePosixPath(path.strip().replace("\\", "/")).name


def texts(value: object) -> list[str]:
    """Return the texts of a value that is a text, a list of texts, or neither."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    return [item for item in value if isinstance(item, str) and item.strip()] if isinstance(value, list) else []


def command_options(line: str) -> dict[str, list[str]]:
    """Return the options of a command line with their values: `--a x y -b=z` gives a: x y, b: z.

    Raises
    ------
    MalformedError
        If quotes are not closed.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        msg = f"no command line ({error})"
        raise MalformedError(msg) from None
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for word in words:
        if re.fullmatch(r"--?[A-Za-z0-9][\w.-]*(=.*)?", word, flags=re.DOTALL):
            name, _, value = word.lstrip("-").partition("=")
            current = found.setdefault(name, [])
            current += [value] if value else []
        else:
            current.append(word)
    return found
