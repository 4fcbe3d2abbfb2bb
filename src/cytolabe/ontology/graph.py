"""One release of an ontology as a directed acyclic graph, read offline.

Source: the `json.zst` files inside the wheel of cellxgene-ontology-guide. Only the file of the asked ontology is
decoded, and the release is pinned here by name: two releases of CL differ in hundreds of ancestor sets, so a score
without its release could not be compared. When a newer guide no longer ships the pinned release, loading fails
loudly rather than picking another one.

The guide stores for each term its ancestors with their least distance, over is_a **and** part_of inside the same
ontology; edges are the ancestors at distance 1. CL holds three part_of statements between its own terms, which
therefore act as is_a here. UBERON holds thousands, and the guide does not say which edge is which: `Ontology.edges` names what the edges are,
and a score never counts along those of UBERON. An ancestor that no chain of edges reaches was reached through terms of another ontology
(a kind of cytoplasm is part of a cell): it is kept apart as `part_of` and is never above the term. Synonyms are of exact
scope only.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from graphlib import CycleError, TopologicalSorter
from importlib import resources

import zstandard

from cytolabe.errors import IntegrityError, UnresolvedLabelError
from cytolabe.provenance.canonical import canonical_json

__all__ = ["PINNED_RELEASES", "Ontology", "TermRecord", "load_ontology", "ontology_of", "shipped_releases"]

PINNED_RELEASES: Mapping[str, str] = {
    "CL": "v2026-03-26",
    "EFO": "v3.90.0",
    "HANCESTRO": "v2025-10-14",
    "HsapDv": "v2025-01-23",
    "MONDO": "v2026-05-05",
    "MmusDv": "v2025-01-23",
    "PATO": "v2025-05-14",
    "UBERON": "v2026-04-01",
}
"""The release that each ontology is read in: the newest that the oldest supported guide ships."""

_MIXED = frozenset({"UBERON", "HsapDv", "MmusDv"})
"""Ontologies with many part_of statements between their own terms."""

_THROUGH_OTHERS = frozenset({"EFO"})
"""Ontologies whose is_a chains run through terms of others (OBI), which the guide leaves out: the next own term is the parent."""

_CURIE = re.compile(r"(?:.*[/#])?([A-Za-z]+)[:_](\d+)\Z")


@dataclass(frozen=True, kw_only=True)
class TermRecord:
    """One term as the release has it. `parents` are its direct is_a parents, sorted; `part_of` the nearest wholes."""

    name: str
    parents: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    definition: str = ""
    obsolete: bool = False
    replaced_by: str | None = None
    consider: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Ontology:
    """One release. `terms` are the live terms, sorted; `records` holds obsolete ones too.

    Every method takes a term id as written in the release (`CL:0000236`); `resolve` makes one of anything else.
    """

    prefix: str
    release: str
    digest: str
    terms: tuple[str, ...]
    records: Mapping[str, TermRecord]

    @property
    def edges(self) -> str:
        """What an edge means: `is_a`, or `is_a or part_of` where the guide keeps the two together."""
        return "is_a or part_of" if self.prefix in _MIXED else "is_a"

    def __contains__(self, term: object) -> bool:
        """Return whether `term` is a live term."""
        return term in self._ancestors

    def name(self, term: str) -> str:
        """Return the term's name; obsolete terms keep theirs."""
        return self._record(term).name

    def synonyms(self, term: str) -> tuple[str, ...]:
        """Return the exact synonyms, in the release's order."""
        return self._record(term).synonyms

    def definition(self, term: str) -> str:
        """Return the textual definition, or an empty string."""
        return self._record(term).definition

    def is_obsolete(self, term: str) -> bool:
        """Return whether the release withdrew the term."""
        return self._record(term).obsolete

    def replaced_by(self, term: str) -> str | None:
        """Return the term that the release names as replacement; it may belong to another ontology."""
        return self._record(term).replaced_by

    def resolve(self, term_or_curie: str) -> str:
        """Return the live term that an id stands for.

        `CL_0000236`, `cl:0000236` and the full IRI are read as `CL:0000236`; an obsolete term gives its replacement.

        Raises
        ------
        UnresolvedLabelError
            If the id has no term in this release, or the term is obsolete and has no live replacement.
        """
        term = self.written(term_or_curie)
        seen: list[str] = []
        while term in self.records and self.records[term].obsolete and term not in seen:
            seen.append(term)
            term = self.records[term].replaced_by or ""
        if term in self:
            return term
        if seen:
            # A replacement in another ontology (a disease of EFO that MONDO took over) is told and not followed.
            named = [other for other in (term,) if other]
            consider = ", ".join((*named, *self.records[seen[-1]].consider)) or "nothing"
            msg = (
                f"{seen[0]} ({self.records[seen[0]].name}) is obsolete in {self.prefix} {self.release} and has no live "
                f"replacement there; the release says to consider {consider}. Choose a live term."
            )
            raise UnresolvedLabelError(msg)
        msg = f"{term_or_curie!r} is no term of {self.prefix} {self.release}. Look the id up, or check its digits."
        raise UnresolvedLabelError(msg)

    def written(self, term_or_curie: str) -> str:
        """Return an id as the release writes it: HANCESTRO holds terms of AfPO, and HsapDv is not all capitals."""
        match = _CURIE.match(term_or_curie.strip())
        if match is None:
            return term_or_curie.strip()
        prefix, number = match[1], match[2]
        spellings = (
            prefix,
            prefix.upper(),
            "AfPO" if prefix.lower() == "afpo" else prefix,
            self.prefix if prefix.lower() == self.prefix.lower() else prefix,
        )
        known = (f"{one}:{number}" for one in spellings)
        return next((term for term in known if term in self.records), f"{prefix.upper()}:{number}")

    def parents(self, term: str) -> tuple[str, ...]:
        """Return the direct parents, sorted."""
        return self._record(term).parents

    def children(self, term: str) -> tuple[str, ...]:
        """Return the direct children, sorted; empty for leaves and for obsolete terms."""
        self._record(term)
        return self._children.get(term, ())

    def part_of(self, term: str) -> tuple[str, ...]:
        """Return the nearest terms that the term is part of and no kind of, sorted."""
        return self._record(term).part_of

    def ancestors(self, term: str) -> frozenset[str]:
        """Return all strict ancestors of a live term; empty for the root and for obsolete terms."""
        self._record(term)
        return self._ancestors.get(term, frozenset())

    def descendants(self, term: str) -> frozenset[str]:
        """Return all strict descendants of a live term; empty for leaves and for obsolete terms."""
        self._record(term)
        return self._descendants.get(term, frozenset())

    def is_a(self, term: str, other: str) -> bool:
        """Return whether `term` equals `other` or descends from it."""
        return term == other or other in self.ancestors(term)

    def related(self, term: str, other: str) -> bool:
        """Return whether one of the two equals or descends from the other (lineage-compatible)."""
        return self.is_a(term, other) or self.is_a(other, term)

    def depth(self, term: str) -> int:
        """Return the least number of edges to a root. CL's depth measures annotation effort, not specificity."""
        parents = self.parents(term)
        return 1 + min(self.depth(parent) for parent in parents) if parents else 0

    def information_content(self, term: str) -> float:
        """Return -log((1 + number of descendants) / number of live terms): 0 for a root of everything, in nats.

        It counts terms of the release and no cells, so it does not move when a data set is added. Source: Seco et
        al. 2004, intrinsic information content, without its scaling to [0, 1].
        """
        return -math.log((1 + len(self.descendants(term))) / len(self.terms))

    def common_ancestors(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        """Return the most specific terms that equal or are above every one of `terms`, sorted."""
        shared = frozenset.intersection(*(self.ancestors(term) | {term} for term in terms))
        return tuple(sorted(term for term in shared if not self.descendants(term) & shared))

    def _record(self, term: str) -> TermRecord:
        try:
            return self.records[term]
        except KeyError:
            msg = f"{term!r} is no term of {self.prefix} {self.release}. Pass ids through resolve() first."
            raise UnresolvedLabelError(msg) from None

    @cached_property
    def _ancestors(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        try:
            order = tuple(TopologicalSorter({term: self.records[term].parents for term in self.terms}).static_order())
        except CycleError as error:
            msg = f"{self.prefix} {self.release} has a cycle: {' -> '.join(error.args[1])}."
            raise IntegrityError(msg) from None
        for term in order:
            parents = self.records[term].parents
            found[term] = frozenset(parents).union(*(found[parent] for parent in parents))
        return found

    @cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for term in self.terms:
            for parent in self.records[term].parents:
                found.setdefault(parent, []).append(term)
        return {term: tuple(members) for term, members in found.items()}

    @cached_property
    def _descendants(self) -> Mapping[str, frozenset[str]]:
        below: dict[str, set[str]] = {term: set() for term in self.terms}
        for term, above in self._ancestors.items():
            for other in above:
                below[other].add(term)
        return {term: frozenset(members) for term, members in below.items()}


def ontology_of(prefix: str, release: str, records: Mapping[str, TermRecord]) -> Ontology:
    """Make an ontology of term records; its digest covers names, edges, synonyms and replacements.

    Raises
    ------
    IntegrityError
        If a live term has a parent that is absent or obsolete, or lies on a cycle.
    """
    live = tuple(sorted(term for term, record in records.items() if not record.obsolete))
    for term in live:
        for parent in records[term].parents:
            if parent not in records or records[parent].obsolete:
                msg = f"{prefix} {release}: parent {parent} of {term} is not a live term."
                raise IntegrityError(msg)
    # One line per term keeps hashing fast; canonical JSON of 3,600 nested records takes half a second.
    digest = hashlib.sha256(canonical_json([prefix, release]))
    for term in sorted(records):
        record = records[term]
        fields = (record.name, record.parents, record.synonyms, record.obsolete, record.replaced_by, record.consider)
        digest.update(json.dumps([term, *fields], ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    ontology = Ontology(
        prefix=prefix, release=release, digest="sha256:" + digest.hexdigest(), terms=live, records=dict(records)
    )
    ontology.ancestors(live[0])  # walks every edge: a cycle is found here and not in the middle of a study
    return ontology


def shipped_releases(name: str = "CL") -> tuple[str, ...]:
    """Return the releases of an ontology that the installed guide ships, sorted."""
    pattern = re.compile(rf"{re.escape(name)}-ontology-(.+)\.json\.zst")
    files = (resources.files("cellxgene_ontology_guide") / "data").iterdir()
    return tuple(sorted(match[1] for file in files if (match := pattern.fullmatch(file.name))))


@lru_cache(maxsize=10)
def load_ontology(name: str = "CL", release: str = "") -> Ontology:
    """Return a release of an ontology from the installed ontology guide; read once per process.

    Parameters
    ----------
    name
        Its prefix.
    release
        The pinned release where it is empty. Another one serves comparison only.

    Raises
    ------
    UnresolvedLabelError
        If no release of the ontology is pinned.
    IntegrityError
        If the installed guide does not ship the release.
    """
    if name not in PINNED_RELEASES:
        msg = f"no release of {name!r} is pinned; known: {', '.join(sorted(PINNED_RELEASES))}."
        raise UnresolvedLabelError(msg)
    asked = release or PINNED_RELEASES[name]
    file = resources.files("cellxgene_ontology_guide") / "data" / f"{name}-ontology-{asked}.json.zst"
    if not file.is_file():
        msg = (
            f"the installed cellxgene-ontology-guide does not ship {name} {asked}. Another release would change "
            "ancestor sets and with them every score: install a guide that has it."
        )
        raise IntegrityError(msg)
    with file.open("rb") as stream, zstandard.ZstdDecompressor().stream_reader(stream) as reader:
        document = json.loads(reader.read())
    records = {term: _record_of(term, entry) for term, entry in document.items()}
    if name in _THROUGH_OTHERS:
        bridged = {term: _bridged(term, document) for term in records}
        return ontology_of(
            name, asked, {term: replace(record, parents=bridged[term]) for term, record in records.items()}
        )
    parts = _parts_of(document, records)
    return ontology_of(
        name, asked, {term: replace(record, part_of=parts.get(term, ())) for term, record in records.items()}
    )


def _bridged(term: str, document: Mapping[str, Mapping[str, object]]) -> tuple[str, ...]:
    """Return the lowest of a term's listed ancestors: none of them is an ancestor of another."""

    def listed(of: str) -> set[str]:
        distances = document[of]["ancestors"] if of in document else None
        return set(distances) - {of} if isinstance(distances, dict) else set()

    above = listed(term)
    return tuple(sorted(above.difference(*(listed(other) for other in above))))


def _parts_of(
    document: Mapping[str, Mapping[str, object]], records: Mapping[str, TermRecord]
) -> dict[str, tuple[str, ...]]:
    """Return the nearest ancestors of each term that the guide lists and no chain of edges reaches."""
    found: dict[str, tuple[str, ...]] = {}
    for term, entry in document.items():
        distances = entry["ancestors"]
        listed = dict(distances) if isinstance(distances, dict) else {}
        reached, waiting = set[str](), list(records[term].parents)
        while waiting:
            above = waiting.pop()
            if above not in reached:
                reached.add(above)
                waiting += records[above].parents
        apart = set(listed) - reached - {term}
        if apart:
            nearest = min(listed[other] for other in apart)
            found[term] = tuple(sorted(other for other in apart if listed[other] == nearest))
    return found


def _record_of(term: str, entry: Mapping[str, object]) -> TermRecord:
    ancestors = entry["ancestors"]
    replaced_by = entry.get("replaced_by")
    return TermRecord(
        name=str(entry["label"]),
        # The guide of 2025-02 lists one term as its own parent.
        parents=tuple(sorted(t for t, d in ancestors.items() if d == 1 and t != term))
        if isinstance(ancestors, dict)
        else (),
        synonyms=_strings(entry.get("synonyms")),
        definition=str(entry.get("description", "")),
        obsolete=bool(entry["deprecated"]),
        replaced_by=str(replaced_by) if replaced_by else None,
        consider=_strings(entry.get("consider")),
    )


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
