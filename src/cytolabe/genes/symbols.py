"""From a symbol to a gene id, through the history of one organism.

A symbol means what it meant in the release that the file was made with. Nobody writes that release down, so the
features vote: the release that knows most of them is asked first, then the others from new to old. Inside a release
a symbol with several ids names the only one that the primary release still has, or else the only protein-coding one
among those (the counts of an expressed gene outweigh those of its antisense or readthrough namesake); otherwise it is
ambiguous. A symbol whose id was retired is retired, even if the primary release gave the name to another gene since.

What is found in no release is repaired only where the repair is unique: names that R made syntactic (`HLA.DRA`,
`X7SK`) or Seurat stripped of underscores, then other letter case.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cytolabe.genes.reference import GeneReference, GeneRelease

__all__ = ["ReleaseVote", "Resolution", "SymbolResolver", "vote_release"]

_NOT_SYNTACTIC = re.compile(r"[^A-Za-z0-9._]")


class Resolution(NamedTuple):
    """Where a feature leads. `rank` orders the routes: of two features on one gene, the lower rank is believed."""

    gene_id: str
    status: str
    rank: int
    repaired: bool = False


@dataclass(frozen=True, kw_only=True)
class ReleaseVote:
    """How many of `n_symbols` features each release knows; `order` is the order in which they are asked."""

    n_symbols: int
    known: Mapping[str, int]
    order: tuple[GeneRelease, ...]


def vote_release(symbols: Sequence[str], reference: GeneReference) -> ReleaseVote:
    """Let the symbols say which release explains most of them; a tie goes to the newest."""
    known = {release.name: sum(symbol in release.ids_of for symbol in symbols) for release in reference.releases}
    winner = max(reference.releases, key=lambda release: known[release.name])  # the first of equals is the newest
    others = tuple(release for release in reference.releases if release is not winner)
    return ReleaseVote(n_symbols=len(symbols), known=known, order=(winner, *others))


@dataclass(frozen=True, kw_only=True, eq=False)
class SymbolResolver:
    """Resolves symbols under one vote. `folds_case` is set where the features speak of the reference's organism."""

    reference: GeneReference
    order: tuple[GeneRelease, ...]
    aliases: Mapping[str, str]
    folds_case: bool

    def resolve_all(self, symbols: Sequence[str]) -> dict[str, Resolution]:
        """Return where each distinct symbol leads.

        The common case, one living id under the symbol of today, is settled here, without a call per symbol.
        """
        first, today = self.order[0].ids_of, self.reference.primary.symbols
        found = {}
        for symbol in dict.fromkeys(symbols):
            ids = first.get(symbol, ())
            if len(ids) == 1 and today.get(ids[0]) == symbol:
                found[symbol] = Resolution(ids[0], "symbol", 1)
            else:
                found[symbol] = self.resolve(symbol)
        return found

    def resolve(self, symbol: str) -> Resolution:
        """Return where a symbol leads, or status `unknown`."""
        if symbol in self.order[0].ids_of:
            return self._in_release(symbol, self.order[0], 1)
        if symbol in self.aliases:
            return self.resolve_alias(symbol)
        for release in self.order[1:]:
            if symbol in release.ids_of:
                return self._in_release(symbol, release, 3)
        return self._repaired(symbol)

    def _in_release(self, symbol: str, release: GeneRelease, rank: int) -> Resolution:
        ids, names = release.ids_of[symbol], self.reference.primary.symbols
        living = [gene_id for gene_id in ids if gene_id in names]
        if len(living) > 1:
            living = [gene_id for gene_id in living if gene_id in self.reference.protein_coding]
            if len(living) != 1:
                return Resolution("", "ambiguous", rank)
        if not living:
            return Resolution("", "retired", rank)
        return Resolution(living[0], "symbol" if names[living[0]] == symbol else "renamed", rank)

    def resolve_alias(self, alias: str) -> Resolution:
        """Return where the user's alias leads: an id, or a symbol of the primary release."""
        gene = self.aliases[alias]
        if gene in self.reference:
            return Resolution(gene, "alias", 2)
        if gene in self.reference.primary.ids_of:
            found = self._in_release(gene, self.reference.primary, 2)
            return found._replace(status="alias") if found.gene_id else found
        return Resolution("", "retired" if gene in self.reference.retired else "unknown", 2)

    def _repaired(self, symbol: str) -> Resolution:
        candidates = _mangled(self.order).get(symbol, ())
        if candidates:
            return self._unique(candidates, 4)
        if self.folds_case:
            folded = symbol.casefold()
            for release in self.order:
                if folded in release.symbols_of_folded:
                    found = self._unique(release.symbols_of_folded[folded], 5)
                    return found._replace(status="case_folded") if found.gene_id else found
        return Resolution("", "unknown", 9)

    def _unique(self, candidates: tuple[str, ...], rank: int) -> Resolution:
        """Resolve a repair that leads to one symbol; several are ambiguous."""
        if len(candidates) > 1:
            return Resolution("", "ambiguous", rank)
        release = next(release for release in self.order if candidates[0] in release.ids_of)
        found = self._in_release(candidates[0], release, rank)
        return found._replace(repaired=found.gene_id != "")


@lru_cache(maxsize=8)
def _mangled(order: tuple[GeneRelease, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return symbols by the spellings that R's make.names and Seurat turn them into."""
    spellings: dict[str, tuple[str, ...]] = {}
    for symbol in dict.fromkeys(symbol for release in order for symbol in release.ids_of):
        # A plain word survives every such tool, and most symbols are plain words.
        if not symbol.isalnum() or symbol[0].isdigit():
            for spelling in _spellings(symbol):
                spellings[spelling] = (*spellings.get(spelling, ()), symbol)
    return spellings


def _spellings(symbol: str) -> tuple[str, ...]:
    """Return the other spellings that a symbol arrives in."""
    syntactic = _NOT_SYNTACTIC.sub(".", symbol)
    if syntactic[0].isdigit() or syntactic[0] == "_":
        syntactic = "X" + syntactic
    return tuple({syntactic, symbol.replace("_", "-")} - {symbol})
