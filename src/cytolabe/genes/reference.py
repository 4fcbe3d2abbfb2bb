"""The gene reference: the ids that an atlas speaks, and the history that explains older names.

One GENCODE release per organism is primary; older ones say how genes were called before and which ids were retired,
and for human the previous and alias symbols of HGNC explain names that no release here has. Source: `tables/`, written
by `scripts/build_gene_reference.py` from wheels that `tables/SOURCES.json` names by digest. The digest of a reference
is taken over the uncompressed tables, so that another compressor does not make it another reference.
"""

import dataclasses
import hashlib
import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from itertools import accumulate

import numpy as np

from cytolabe.errors import IntegrityError, UnknownGenesError

__all__ = [
    "GeneReference",
    "GeneRelease",
    "ReleaseIds",
    "load_reference",
    "release_ids",
    "shipped_organisms",
    "shipped_spike_ins",
]

_TABLES: Mapping[str, str] = {"Homo sapiens": "homo_sapiens.tsv.xz", "Mus musculus": "mus_musculus.tsv.xz"}
_ALIASES: Mapping[str, str] = {"Homo sapiens": "homo_sapiens.aliases.tsv.xz"}
_SPIKE_INS = "spike_ins.tsv.xz"
_ID_DIGITS = 11


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneRelease:
    """One GENCODE release: `symbols` maps each gene id to its symbol, empty where the gene has no name."""

    name: str
    symbols: Mapping[str, str]

    @cached_property
    def ids_of(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of each symbol, sorted; a symbol with several ids names none of them alone."""
        ids: dict[str, tuple[str, ...]] = {}
        for gene_id, symbol in self.symbols.items():
            if symbol:
                ids[symbol] = (*ids.get(symbol, ()), gene_id)
        return ids

    @cached_property
    def symbols_of_folded(self) -> Mapping[str, tuple[str, ...]]:
        """Symbols by their case-folded form."""
        symbols: dict[str, tuple[str, ...]] = {}
        for symbol in self.ids_of:
            key = symbol.casefold()
            symbols[key] = (*symbols.get(key, ()), symbol)
        return symbols


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneReference:
    """One organism's reference. `ids` are the genes of the primary release, sorted; `releases` come newest first.

    `protein_coding` are some of `ids`. `previous` and `synonyms` map names that a nomenclature committee gave before, or lists as aliases, to the ids of
    their genes, sorted.
    """

    name: str
    organism: str
    digest: str
    id_prefix: str
    ids: tuple[str, ...]
    releases: tuple[GeneRelease, ...]
    protein_coding: frozenset[str]
    spike_ins: frozenset[str]
    previous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, gene_id: object) -> bool:
        """Return whether the primary release has this id."""
        return gene_id in self.primary.symbols

    @property
    def primary(self) -> GeneRelease:
        """The release whose ids an atlas speaks."""
        return self.releases[0]

    @cached_property
    def retired(self) -> frozenset[str]:
        """Ids of older releases that the primary one no longer has."""
        older = {gene_id for release in self.releases[1:] for gene_id in release.symbols}
        return frozenset(older.difference(self.primary.symbols))

    def symbol_of(self, gene_id: str) -> str:
        """Return the symbol in the primary release; a gene without a name is called by its id.

        Raises
        ------
        UnknownGenesError
            If the primary release has no such id.
        """
        symbol = self.primary.symbols.get(gene_id)
        if symbol is None:
            why = "it was retired" if gene_id in self.retired else "no release that is shipped has it"
            msg = f"{gene_id!r} is not a gene of {self.name}: {why}."
            raise UnknownGenesError(msg)
        return symbol or gene_id


def shipped_organisms() -> tuple[str, ...]:
    """Return the organisms that have a reference, sorted."""
    return tuple(sorted(_TABLES))


@lru_cache(maxsize=len(_TABLES))
def load_reference(organism: str = "Homo sapiens") -> GeneReference:
    """Return the shipped reference of an organism.

    Parameters
    ----------
    organism
        Scientific name, as in the CELLxGENE column `organism`.

    Raises
    ------
    UnknownGenesError
        If no reference is shipped for this organism.
    IntegrityError
        If a shipped table does not match the digest in `SOURCES.json`.
    """
    if organism not in _TABLES:
        msg = f"No gene reference is shipped for {organism!r}; there is one for: {', '.join(shipped_organisms())}."
        raise UnknownGenesError(msg)
    text, digest = _read_table(_TABLES[organism])
    reference = _parse(text, digest=digest, spike_ins=shipped_spike_ins())
    if organism not in _ALIASES:
        return reference
    aliases, aliases_digest = _read_table(_ALIASES[organism])
    previous, synonyms = _parse_aliases(aliases, prefix=reference.id_prefix)
    both = hashlib.sha256(f"{digest}\n{aliases_digest}".encode()).hexdigest()
    return dataclasses.replace(reference, digest=f"sha256:{both}", previous=previous, synonyms=synonyms)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleaseIds:
    """The gene ids of one release as a container of names: their numbers behind a common prefix."""

    prefix: str
    numbers: frozenset[int]

    def __contains__(self, gene_id: object) -> bool:
        """Return whether the release has this id, spelled in full and without a version."""
        if not isinstance(gene_id, str) or len(gene_id) != len(self.prefix) + _ID_DIGITS:
            return False
        digits = gene_id.removeprefix(self.prefix)
        return len(digits) == _ID_DIGITS and digits.isascii() and digits.isdigit() and int(digits) in self.numbers

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.numbers)


@lru_cache(maxsize=4)
def release_ids(organism: str, release: str) -> ReleaseIds:
    """Return the gene ids of one shipped release, without the names and aliases that take most of the time to read.

    Parameters
    ----------
    organism
        Scientific name, one of `shipped_organisms`.
    release
        Name of a release as in `GeneRelease.name`; one that is not shipped has no ids.

    Raises
    ------
    IntegrityError
        If the shipped table does not match the digest in `SOURCES.json`.
    """
    text, _ = _read_table(_TABLES[organism])
    header, _, body = text.partition("\n")
    facts = json.loads(header.removeprefix("#"))
    if release not in facts["releases"]:
        return ReleaseIds(prefix=facts["id_prefix"], numbers=frozenset())
    bit = 1 << facts["releases"].index(release)
    numbers = _numbers_with(np.frombuffer(body.encode(), dtype=np.uint8), bit)
    return ReleaseIds(prefix=facts["id_prefix"], numbers=frozenset(numbers.tolist()))


def _numbers_with(text: np.ndarray, bit: int) -> np.ndarray:
    """Return the numbers of the lines `step TAB flags TAB ...` whose flags have a bit: all lines at once."""
    line_ends, tabs = np.flatnonzero(text == ord("\n")), np.flatnonzero(text == ord("\t"))
    starts = np.concatenate([[0], line_ends + 1])
    starts = starts[starts < len(text)]
    first = tabs[np.searchsorted(tabs, starts)]
    second = tabs[np.searchsorted(tabs, first + 1)]
    steps, flags = _digits(text, starts, first, base=10), _digits(text, first + 1, second, base=16)
    return np.asarray(np.cumsum(steps)[flags & bit > 0])


def _digits(text: np.ndarray, starts: np.ndarray, stops: np.ndarray, *, base: int) -> np.ndarray:
    """Return the numbers that stand between two places, in small letters where the base needs them."""
    values = np.zeros(len(starts), dtype=np.int64)
    for nth in range(int((stops - starts).max(initial=0))):
        has = starts + nth < stops
        signs = text[starts[has] + nth].astype(np.int64)
        values[has] = values[has] * base + np.where(signs >= ord("a"), signs - ord("a") + 10, signs - ord("0"))
    return values


@lru_cache(maxsize=1)
def shipped_spike_ins() -> frozenset[str]:
    """Return the ids of the spike-ins, which belong to no organism."""
    return frozenset(_read_table(_SPIKE_INS)[0].split())


def _read_table(name: str) -> tuple[str, str]:
    """Return a shipped table and the digest of its content."""
    folder = resources.files("cytolabe.genes") / "tables"
    expected = json.loads((folder / "SOURCES.json").read_text(encoding="utf-8"))["tables"][name]["content_sha256"]
    content = lzma.decompress((folder / name).read_bytes())
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        msg = f"The shipped gene table {name} has digest {found[:12]} where {expected[:12]} is recorded: reinstall."
        raise IntegrityError(msg)
    return content.decode("utf-8"), "sha256:" + found


def _parse(text: str, *, digest: str, spike_ins: frozenset[str]) -> GeneReference:
    """Turn a table (format: `scripts/build_gene_reference.py`) into a reference."""
    lines = text.splitlines()
    header = json.loads(lines[0].removeprefix("#"))
    rows = [line.split("\t") for line in lines[1:]]
    prefix, names = header["id_prefix"], header["releases"]
    ids = [f"{prefix}{number:0{_ID_DIGITS}d}" for number in accumulate(int(row[0]) for row in rows)]
    flags = [int(row[1], 16) for row in rows]
    releases: list[GeneRelease] = []
    newer = [""] * len(rows)
    for i, name in enumerate(names):
        symbols: dict[str, str] = {}
        for k, row in enumerate(rows):
            if flags[k] >> i & 1:
                symbol = row[2 + i]
                symbols[ids[k]] = newer[k] = newer[k] if symbol == "=" else symbol
        releases.append(GeneRelease(name=name, symbols=symbols))
    coding = 1 << len(names)
    return GeneReference(
        name=f"gencode-{names[0]}-{header['common_name']}",
        organism=header["organism"],
        digest=digest,
        id_prefix=prefix,
        ids=tuple(releases[0].symbols),
        releases=tuple(releases),
        protein_coding=frozenset(
            gene_id for gene_id, bits in zip(ids, flags, strict=True) if bits & coding and bits & 1
        ),
        spike_ins=spike_ins,
    )


def _parse_aliases(text: str, *, prefix: str) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Return the ids of each previous and of each alias symbol."""
    previous: dict[str, tuple[str, ...]] = {}
    synonyms: dict[str, tuple[str, ...]] = {}
    rows = [line.split("\t") for line in text.splitlines()]
    for (_, *fields), number in zip(rows, accumulate(int(row[0]) for row in rows), strict=True):
        for names, found in zip(fields, (previous, synonyms), strict=True):
            for name in filter(None, names.split("|")):
                found[name] = (*found.get(name, ()), f"{prefix}{number:0{_ID_DIGITS}d}")
    return previous, synonyms
