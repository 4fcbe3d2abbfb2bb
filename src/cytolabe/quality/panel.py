"""The few genes that quality is read from: mitochondrial ones, MALAT1, and the markers of lineages.

Which genes mark which lineage is `markers.toml`; their ids are those of the gene reference, so a gene that a data set
does not measure is unmeasured here, too, and never zero (rule R1). What a cell shows of the markers is one number: bit
k is set where the k-th marker has a count.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_matrix

from cytolabe.genes.reference import GeneReference, load_reference
from cytolabe.ontology.graph import Ontology

__all__ = ["Lineage", "PanelCounts", "QualityPanel", "quality_panel"]

_CODING = frozenset({
    "MT-ND1", "MT-ND2", "MT-ND3", "MT-ND4", "MT-ND4L", "MT-ND5", "MT-ND6", "MT-CO1", "MT-CO2", "MT-CO3", "MT-ATP6",
    "MT-ATP8", "MT-CYB", "MT-CYTB",
})  # fmt: skip
"""The 13 protein-coding genes of the mitochondrion; cytochrome b has two names."""
_NUCLEAR = "MALAT1"
_MOUSE = "Mus musculus"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A term of the Cell Ontology and the ids of the genes that mark it and everything below it."""

    term: str
    name: str
    genes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PanelCounts:
    """What the cells of a block show of the panel, over the genes that are measured."""

    mitochondrial: Int[np.ndarray, " cells"]
    malat1: Int[np.ndarray, " cells"]
    markers: Int[np.ndarray, " cells"]


@dataclass(frozen=True, kw_only=True)
class QualityPanel:
    """The panel of one organism. `markers` are the ids of all lineages, in the order of their bits."""

    mitochondrial: tuple[str, ...]
    coding: frozenset[str]
    malat1: str
    lineages: tuple[Lineage, ...]
    symbols: Mapping[str, str]

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """Ids of the markers, each once."""
        return tuple(dict.fromkeys(gene for lineage in self.lineages for gene in lineage.genes))

    @property
    def genes(self) -> frozenset[str]:
        """Every gene of the panel."""
        return frozenset({*self.mitochondrial, self.malat1, *self.markers})

    def lineages_of(self, term: str, ontology: Ontology) -> tuple[Lineage, ...]:
        """Return the lineages that a term belongs to."""
        if term not in ontology:
            return ()
        return tuple(one for one in self.lineages if one.term == term or one.term in ontology.ancestors(term))

    def bits(self, genes: Sequence[str]) -> int:
        """Return the bits of some markers."""
        return sum(1 << self.markers.index(gene) for gene in genes)

    def counts(self, counts: csr_matrix, genes: Sequence[str]) -> PanelCounts:
        """Read the panel off counts (cells x `genes`); genes outside of the panel are passed over."""
        place = {gene: bit for bit, gene in enumerate(self.markers)}
        is_mt = np.array([gene in self.mitochondrial for gene in genes], dtype=bool)
        is_malat1 = np.array([gene == self.malat1 for gene in genes], dtype=bool)
        bit = np.array([1 << place[gene] if gene in place else 0 for gene in genes], dtype=np.int64)
        seen = csr_matrix((bit[counts.indices] * (counts.data > 0), counts.indices, counts.indptr), shape=counts.shape)
        return PanelCounts(
            mitochondrial=_sums(counts, is_mt), malat1=_sums(counts, is_malat1),
            # Each marker is one column, so that adding its bit sets it.
            markers=np.asarray(seen.sum(axis=1), dtype=np.int64).ravel(),
        )  # fmt: skip


@cache
def quality_panel(organism: str) -> QualityPanel:
    """Return the panel of an organism that has a gene reference.

    Raises
    ------
    UnknownGenesError
        If none is shipped for it.
    """
    reference = load_reference(organism)
    ids = reference.primary.ids_of
    mt = {symbol: ids[symbol][0] for symbol in ids if symbol.upper().startswith("MT-")}
    lineages = tuple(_lineage(entry, reference) for entry in _entries())
    used = {gene for lineage in lineages for gene in lineage.genes}
    return QualityPanel(
        mitochondrial=tuple(sorted(mt.values())),
        coding=frozenset(gene for symbol, gene in mt.items() if symbol.upper() in _CODING),
        malat1=_id_of(reference, _NUCLEAR),
        lineages=lineages,
        symbols={gene: reference.symbol_of(gene) for gene in sorted(used)},
    )


def _entries() -> list[Mapping[str, object]]:
    text = resources.files("cytolabe.quality").joinpath("markers.toml").read_text(encoding="utf-8")
    found: list[Mapping[str, object]] = tomllib.loads(text)["lineage"]
    return found


def _lineage(entry: Mapping[str, object], reference: GeneReference) -> Lineage:
    symbols = entry["genes"]
    if reference.organism == _MOUSE and "mouse" in entry:
        symbols = entry["mouse"]
    names = [str(symbol) for symbol in symbols] if isinstance(symbols, list) else []
    return Lineage(
        term=str(entry["term"]), name=str(entry["name"]), genes=tuple(_id_of(reference, name) for name in names)
    )


def _id_of(reference: GeneReference, symbol: str) -> str:
    """Return the id of a human symbol, or of the mouse gene of its name."""
    ids = reference.primary.ids_of
    written = symbol if symbol in ids else symbol.capitalize()
    return ids[written][0]


def _sums(counts: csr_matrix, chosen: np.ndarray) -> np.ndarray:
    return np.asarray(counts @ chosen.astype(np.int64), dtype=np.int64).ravel()
