"""Single terms of pinned releases, found without reading an ontology whole.

To check a data set takes a few dozen terms of ontologies that hold up to 2.7 million. A term's entry in the files of
cellxgene-ontology-guide carries everything that a rule asks: its label, whether it is obsolete and what replaces it,
and all its ancestors. So the decompressed bytes are searched for the entry, and that alone is decoded. What is larger
than `_HELD_BYTES` compressed (NCBITaxon: 752 MB of text) is searched while it is decompressed and never held.

`ancestors` of the guide follow is_a and part_of alike; the schema of CELLxGENE asks for descendants in that sense.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable

import zstandard

from cytolabe.errors import IntegrityError

__all__ = ["Term", "TermBook"]

_HELD_BYTES = 4 << 20
_WINDOW = 4 << 20
_ENTRY = 1 << 17
"""Bytes within which an entry ends; the longest of any release has 20 kB."""
_HOME = {"zfs": "ZFA", "afpo": "HANCESTRO", "uniprot": "UniProt"}
"""Prefix of a term, in lower case -> the file that holds it, where the two differ."""
_PREFIX = re.compile(r"([A-Za-z]+)[:_](?=\w)")
_WRITTEN = re.compile(r"(?:.*[/#])?([A-Za-z]+)[_:]([A-Za-z0-9]+)\b.*")


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of a release."""

    id: str
    name: str
    obsolete: bool
    replaced_by: str
    consider: tuple[str, ...]
    ancestors: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class TermBook:
    """Terms of several ontologies, each in one release: `releases` maps an ontology to its name."""

    releases: Mapping[str, str]
    _texts: dict[str, bytes] = field(default_factory=dict)
    _found: dict[str, Term | None] = field(default_factory=dict)

    def ontology_of(self, term: str) -> str:
        """Return the ontology that an id belongs to by its prefix, or an empty string where it is none of these."""
        match = _PREFIX.match(term)
        if match is None:
            return ""
        prefix = match[1]
        home = _HOME.get(prefix.lower(), prefix)
        return home if home in self.releases else ""

    def find(self, term: str) -> Term | None:
        """Return a term, or None where the release has no such id."""
        if term not in self._found:
            self._found[term] = self._look_up(term)
        return self._found[term]

    def descends(self, term: str, above: Sequence[str]) -> bool:
        """Return whether a term equals one of `above` or descends from it."""
        if term in above:
            return True
        found = self.find(term)
        return found is not None and not found.ancestors.isdisjoint(above)

    def meant_by(self, text: str, ontologies: Sequence[str]) -> str:
        """Return the one live id that a text probably means, or an empty string.

        An id in another writing (`CL_0000236`, `cl:0000236`, its full IRI, `EFO:0009922 (sci-plex)`), or the label of
        one term of the first of `ontologies` that has it.
        """
        match = _WRITTEN.match(text.strip())
        if match is not None:
            homes = {name.lower(): name for name in self.releases}
            prefix = homes.get(match[1].lower(), match[1])
            for mark in ":_":
                guess = f"{prefix}{mark}{match[2]}"
                if guess != text and self._is_live(guess):
                    return guess
        for name in ontologies:
            named = tuple(self._named(text.strip(), name)) if name in self.releases else ()
            if named:
                return named[0] if len(named) == 1 else ""
        return ""

    def _is_live(self, term: str) -> bool:
        found = self.find(term)
        return found is not None and not found.obsolete

    def _look_up(self, term: str) -> Term | None:
        ontology = self.ontology_of(term)
        if not ontology or '"' in term or "\\" in term:
            return None
        key = f'"{term}":{{'.encode()
        for text in self._windows(ontology):
            at = text.find(key)
            if at >= 0:
                return _term_of(term, text[at + len(key) - 1 : at + _ENTRY])
        return None

    def _named(self, name: str, ontology: str) -> Iterator[str]:
        """Yield the ids of live terms with exactly this label."""
        if not name or self._file(ontology).stat_size > _HELD_BYTES:
            return
        text = self._text(ontology)
        mark = f'"label":{json.dumps(name)},'.encode()
        at = text.find(mark)
        while at >= 0:
            # The id stands before the last '":{"ancestors"' ahead of its label.
            start = text.rfind(b'":{"ancestors"', 0, at)
            term = text[text.rfind(b'"', 0, start) + 1 : start].decode()
            if self._is_live(term):
                yield term
            at = text.find(mark, at + 1)

    def _windows(self, ontology: str) -> Iterator[bytes]:
        """Yield the text of a release in pieces that overlap by more than an entry."""
        file = self._file(ontology)
        if file.stat_size <= _HELD_BYTES:
            yield self._text(ontology)
            return
        tail = b""
        with file.place.open("rb") as stream, zstandard.ZstdDecompressor().stream_reader(stream) as reader:
            while piece := reader.read(_WINDOW):
                yield tail + piece
                tail = (tail + piece)[-_ENTRY:]

    def _text(self, ontology: str) -> bytes:
        if ontology not in self._texts:
            with (
                self._file(ontology).place.open("rb") as stream,
                zstandard.ZstdDecompressor().stream_reader(stream) as reader,
            ):
                self._texts[ontology] = reader.read()
        return self._texts[ontology]

    def _file(self, ontology: str) -> "_File":
        release = self.releases[ontology]
        place = resources.files("cellxgene_ontology_guide") / "data" / f"{ontology}-ontology-{release}.json.zst"
        if not place.is_file():
            msg = (
                f"the installed cellxgene-ontology-guide does not ship {ontology} {release}, which this rule pack reads. "
                "Another release would change what is valid: install a guide that has it."
            )
            raise IntegrityError(msg)
        with place.open("rb") as stream:
            return _File(place=place, stat_size=stream.seek(0, 2))


@dataclass(frozen=True, kw_only=True)
class _File:
    place: Traversable
    stat_size: int


def _term_of(term: str, text: bytes) -> Term:
    """Decode the entry at the start of a text."""
    entry, _ = json.JSONDecoder().raw_decode(text.decode("utf-8", "ignore"))
    return Term(
        id=term,
        name=str(entry.get("label", "")),
        obsolete=bool(entry.get("deprecated")),
        replaced_by=str(entry.get("replaced_by") or ""),
        consider=tuple(str(other) for other in entry.get("consider") or ()),
        ancestors=frozenset(entry.get("ancestors") or ()),
    )
