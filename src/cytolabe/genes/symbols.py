"""From a symbol to a gene id, through the history of one organism.

A symbol means what it meant in the release that the file was made with. Nobody writes that release down, so the
features vote: the release that knows most of them is asked first, then the others from new to old. Inside a release
a symbol with several ids names the only one that the primary release still has, or else the only protein-coding one
among those (the counts of an expressed gene outweigh those of its antisense or readthrough namesake), or, where none
codes for a protein, the one that bears the symbol today; otherwise it is ambiguous.

A symbol whose ids were all retired is followed only to a gene of the same symbol whose id is younger than that
release: a new assembly or a new model gave the gene another id (`CCL3`, `SOD2`). If that id was there already, the
name has moved to another gene, and the symbol is retired.

Genes that are called after a stretch of sequence (`AC116050.1`) are numbered anew in each release. Such names are
believed where the voted release knows nearly all of those in the file, so that it is the very one; else only where two
releases or more have the name, all for one gene.

What is found in no release is looked up among the previous symbols of HGNC, then among its aliases, and believed where
it leads to one gene. Else it is repaired only where the repair is unique: names that R made syntactic (`HLA.DRA`,
`X7SK`) or Seurat stripped of underscores, then other letter case.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cytolabe.genes.names import FeatureName, Writing
from cytolabe.genes.reference import GeneReference, GeneRelease

__all__ = ["NO_EVIDENCE", "ReleaseVote", "Resolution", "SymbolResolver", "vote_release"]

NO_EVIDENCE = "none"
_MIN_KNOWN = 0.5
"""Share of the names that a release must know before the file is taken to be made with it or a near one."""
_SAME_RELEASE = 0.99
"""Share of the numbered names that a release must know to be the one that a file was made with."""
_NUMBERED = re.compile(r"[A-Z]{1,2}\d{5,6}\.\d+")
_NOT_SYNTACTIC = re.compile(r"[^A-Za-z0-9._]")


class Resolution(NamedTuple):
    """Where a feature leads. `rank` orders the routes: of two features on one gene, the lower rank is believed."""

    gene_id: str
    status: str
    rank: int
    repaired: bool = False


@dataclass(frozen=True, kw_only=True)
class ReleaseVote:
    """How many of `n_names` features each release knows; `order` is the order in which they are asked.

    `knows_numbered` says that the first of them knows nearly all names that are numbered anew in each release.
    `evidence` says what voted: `ids`, `symbols`, `ids and symbols`, or `none` where no release knows half of them.
    """

    n_names: int
    known: Mapping[str, int]
    order: tuple[GeneRelease, ...]
    evidence: str
    knows_numbered: bool

    @property
    def winners(self) -> tuple[str, ...]:
        """The releases that know most names, newest first; several are a tie, and none where `evidence` is none."""
        if self.evidence == NO_EVIDENCE:
            return ()
        return tuple(name for name, known in self.known.items() if known == max(self.known.values()))

    @property
    def shares(self) -> dict[str, float]:
        """Share of the names that each release knows, newest first."""
        return {name: known / max(self.n_names, 1) for name, known in self.known.items()}


def vote_release(names: Sequence[FeatureName], reference: GeneReference) -> ReleaseVote:
    """Let the names say which release explains most of them; of equals the newest is asked first.

    An id votes for the releases that have it, a symbol for those that use it, both together for those that join them.
    """
    symbols = [name.symbol for name in names if name.writing is Writing.SYMBOL]
    ids = [name.gene_id for name in names if name.gene_id and not name.symbol]
    pairs = [(name.gene_id, name.symbol) for name in names if name.gene_id and name.symbol]
    n_names = len(symbols) + len(ids) + len(pairs)
    known = {
        release.name: sum(map(release.ids_of.__contains__, symbols))
        + sum(map(release.symbols.__contains__, ids))
        + sum(release.symbols.get(gene_id) == symbol for gene_id, symbol in pairs)
        for release in reference.releases
    }
    if max(known.values()) < _MIN_KNOWN * n_names and symbols:
        # Somebody may have upper-cased all of them.
        folded = [symbol.casefold() for symbol in symbols]
        known = {
            release.name: sum(map(release.symbols_of_folded.__contains__, folded)) for release in reference.releases
        }
    winner = max(reference.releases, key=lambda release: known[release.name])  # the first of equals is the newest
    others = tuple(release for release in reference.releases if release is not winner)
    kinds = [kind for kind, there in (("ids", ids or pairs), ("symbols", symbols)) if there]
    numbered = [symbol for symbol in symbols if _NUMBERED.fullmatch(symbol)]
    n_numbered = sum(map(winner.ids_of.__contains__, numbered))
    is_known = n_names > 0 and known[winner.name] >= _MIN_KNOWN * n_names
    return ReleaseVote(
        n_names=n_names,
        known=known,
        order=(winner, *others),
        evidence=" and ".join(kinds) if is_known else NO_EVIDENCE,
        knows_numbered=n_numbered >= _SAME_RELEASE * len(numbered),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SymbolResolver:
    """Resolves symbols under one vote. `folds_case` is set where the features speak of the reference's organism.

    `trusts_numbers` says that the voted release is the very one that the file was made with.
    Names of a committee are believed only where the vote found evidence: `gene59` is an alias of a gene, and the name
    of a column that has no name.
    """

    reference: GeneReference
    order: tuple[GeneRelease, ...]
    aliases: Mapping[str, str]
    folds_case: bool
    trusts_committee: bool = True
    trusts_numbers: bool = True

    def resolve_all(self, symbols: Sequence[str]) -> dict[str, Resolution]:
        """Return where each distinct symbol leads.

        The common case, one living id under the symbol of today, is settled here, without a call per symbol.
        """
        first, today = self.order[0].ids_of, self.reference.primary.symbols
        found = {}
        for symbol in dict.fromkeys(symbols):
            ids = first.get(symbol, ())
            if len(ids) == 1 and today.get(ids[0]) == symbol and not _NUMBERED.fullmatch(symbol):
                found[symbol] = Resolution(ids[0], "symbol", 1)
            else:
                found[symbol] = self.resolve(symbol)
        return found

    def resolve(self, symbol: str) -> Resolution:
        """Return where a symbol leads, or status `unknown`."""
        if _NUMBERED.fullmatch(symbol) and not self._means_one_gene(symbol):
            return Resolution("", "ambiguous", 3)
        if symbol in self.order[0].ids_of:
            return self._in_release(symbol, self.order[0], 1)
        if symbol in self.aliases:
            return self.resolve_alias(symbol)
        return self._of_older_names(symbol) or self._repaired(symbol)

    def _of_older_names(self, symbol: str) -> Resolution | None:
        """Return where the other releases or a committee lead, or None where they do not know the symbol."""
        for release in self.order[1:]:
            if symbol in release.ids_of:
                return self._in_release(symbol, release, 3)
        if self.trusts_committee and symbol in self.reference.previous:
            return self._named_by_committee(self.reference.previous[symbol], "renamed", 4)
        if self.trusts_committee and symbol in self.reference.synonyms:
            return self._named_by_committee(self.reference.synonyms[symbol], "alias", 5)
        return None

    def _means_one_gene(self, symbol: str) -> bool:
        """Return whether a numbered name can be believed, or is none of any release."""
        if self.trusts_numbers and symbol in self.order[0].ids_of:
            return True
        found = [release.ids_of[symbol] for release in self.order if symbol in release.ids_of]
        return not found or (len(found) > 1 and len(set(found)) == 1)

    def _named_by_committee(self, ids: tuple[str, ...], status: str, rank: int) -> Resolution:
        """Return the one living gene that a nomenclature committee gives a name to; several are ambiguous."""
        living = [gene_id for gene_id in ids if gene_id in self.reference]
        if len(living) == 1:
            return Resolution(living[0], status, rank)
        return Resolution("", "ambiguous" if living else "retired", rank)

    def _in_release(self, symbol: str, release: GeneRelease, rank: int) -> Resolution:
        ids, names = release.ids_of[symbol], self.reference.primary.symbols
        living = [gene_id for gene_id in ids if gene_id in names]
        if len(living) > 1:
            coding = [gene_id for gene_id in living if gene_id in self.reference.protein_coding]
            living = coding or [gene_id for gene_id in living if names[gene_id] == symbol]
            if len(living) != 1:
                return Resolution("", "ambiguous", rank)
        if not living:
            return self._followed(symbol, release, rank)
        return Resolution(living[0], "symbol" if names[living[0]] == symbol else "renamed", rank)

    def _followed(self, symbol: str, release: GeneRelease, rank: int) -> Resolution:
        """Follow a symbol whose ids were retired to the gene that bears it today, if its id was not there before."""
        today = self.reference.primary.ids_of.get(symbol, ())
        if len(today) == 1 and today[0] not in release.symbols:
            return Resolution(today[0], "symbol", rank)
        return Resolution("", "retired", rank)

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
            return self._unique(candidates, 6)
        if self.folds_case:
            folded = symbol.casefold()
            for release in self.order:
                if folded in release.symbols_of_folded:
                    found = self._unique(release.symbols_of_folded[folded], 7)
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
