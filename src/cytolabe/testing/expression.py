"""The count model behind the simulated labs.

log mean of gene g in cell c =
    baseline(g) + programs of the cell's type + laboratory effect + kit effect + donor effect + disease effect + sex

Counts are Poisson of that mean times gamma noise (together negative binomial), scaled to the cell's depth. Laboratory
and kit effects are gene by gene, so that data sets separate in an embedding as real ones do; donor effects are small.
Every draw comes from a named stream, so a laboratory does not change when another one is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from cytolabe.genes.reference import GeneReference, GeneRelease
from cytolabe.randomness import rng_for
from cytolabe.testing.cell_types import CELL_TYPES, HOUSEKEEPING, PROGRAMS, SEX_GENES, all_markers

__all__ = ["CellPlan", "ExpressionModel", "make_model", "renamed_genes"]

_N_GENES = 1_900
_N_RENAMED = 40
_PROGRAM_GENES = 0.06
_PROGRAM_SPREAD = 1.1
_LABORATORY_EFFECT = 0.35
_KIT_EFFECT = 0.3
_DONOR_EFFECT = 0.15
_OLD_RELEASE = "38"
_DISEASE_GENES = 0.03
_DISEASE_EFFECT = 0.8
_NOISE_SHAPE = 2.5
"""Shape of the gamma noise: 1 / shape is the dispersion of the negative binomial."""


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """Who the cells of one file are. Arrays have one entry per cell; `laboratory` names the effect that all share."""

    laboratory: str
    types: np.ndarray
    persons: np.ndarray
    sexes: np.ndarray
    diseases: np.ndarray
    kits: np.ndarray
    median_depth: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionModel:
    """Log means of `genes` (Ensembl ids), and the names that the genes have had."""

    seed: int
    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    old_symbols: tuple[str, ...]

    @cached_property
    def baseline(self) -> Float[np.ndarray, " genes"]:
        """Natural log of relative abundance before any program."""
        rng = rng_for(self.seed, "simulate", "baseline")
        level = rng.normal(-1.0, 1.3, len(self.symbols))
        quiet = np.isin(self.symbols, _markers_only())
        level[quiet] = rng.normal(-2.5, 0.4, int(quiet.sum()))
        common = np.isin(self.symbols, HOUSEKEEPING)
        level[common] = rng.normal(2.6, 0.7, int(common.sum()))
        sexed = np.isin(self.symbols, [gene for genes in SEX_GENES.values() for gene in genes])
        level[sexed] = rng.normal(0.6, 0.5, int(sexed.sum()))
        return level

    @cached_property
    def type_effects(self) -> dict[str, np.ndarray]:
        """Summed program effects of each cell type."""
        programs = {name: self._program_effect(name) for name in PROGRAMS}
        effects = {}
        for name, cell_type in CELL_TYPES.items():
            total, program = np.zeros(len(self.genes)), cell_type.program
            while program:
                total = total + programs[program]
                program = PROGRAMS[program].parent
            effects[name] = total
        return effects

    def counts(self, plan: CellPlan) -> csr_matrix:
        """Return cells x genes counts, int64."""
        rng = rng_for(self.seed, "simulate", "counts", plan.laboratory)
        log_mean = self.baseline + np.stack([self.type_effects[name] for name in plan.types])
        log_mean += self._effect("laboratory", plan.laboratory, spread=_LABORATORY_EFFECT)
        log_mean += self._per_cell("kit", plan.kits, spread=_KIT_EFFECT)
        log_mean += self._per_cell("donor", plan.persons, spread=_DONOR_EFFECT)
        log_mean += np.outer(plan.diseases != "normal", self._disease_effect())
        weight = np.exp(log_mean) * rng.gamma(_NOISE_SHAPE, 1 / _NOISE_SHAPE, log_mean.shape)
        for sex, silent in (("female", SEX_GENES["male"]), ("male", SEX_GENES["female"])):
            weight[np.ix_(plan.sexes == sex, np.isin(self.symbols, silent))] = 0.0
        depth = plan.median_depth * rng.lognormal(0.0, 0.35, len(plan.types))
        depth[plan.types == "platelet"] *= 0.5
        rate = weight / weight.sum(axis=1, keepdims=True) * depth[:, np.newaxis]
        return csr_matrix(rng.poisson(rate).astype(np.int64))

    def _program_effect(self, name: str) -> np.ndarray:
        rng = rng_for(self.seed, "simulate", "program", name)
        program = PROGRAMS[name]
        spread = program.effect * _PROGRAM_SPREAD
        chosen = rng.random(len(self.genes)) < _PROGRAM_GENES
        effect = np.where(chosen, rng.normal(0.0, spread, len(self.genes)), 0.0)
        markers = np.isin(self.symbols, program.markers)
        effect[markers] += rng.uniform(2.0, 3.5, int(markers.sum())) * min(1.0, 0.5 + spread)
        return effect

    def _effect(self, kind: str, name: str, *, spread: float) -> np.ndarray:
        return rng_for(self.seed, "simulate", kind, name).normal(0.0, spread, len(self.genes))

    def _per_cell(self, kind: str, names: np.ndarray, *, spread: float) -> np.ndarray:
        distinct, position = np.unique(names, return_inverse=True)
        return np.stack([self._effect(kind, str(name), spread=spread) for name in distinct])[position]

    def _disease_effect(self) -> np.ndarray:
        rng = rng_for(self.seed, "simulate", "disease")
        chosen = rng.random(len(self.genes)) < _DISEASE_GENES
        return np.where(chosen, rng.normal(0.0, _DISEASE_EFFECT, len(self.genes)), 0.0)


def make_model(reference: GeneReference, *, seed: int) -> ExpressionModel:
    """Choose the genes: the markers, genes that were renamed over the releases, and a sample of coding genes.

    Every gene is protein coding or a marker, is named in the newest release and in v38, and has names that no
    other gene had since, so that the truth of an alignment by symbol is known.
    """
    plain = _plain_ids(reference)
    by_symbol = {reference.symbol_of(gene_id): gene_id for gene_id in plain}
    wanted = {by_symbol[symbol] for symbol in all_markers() if symbol in by_symbol}
    coding = [gene_id for gene_id in plain if gene_id in reference.protein_coding and gene_id not in wanted]
    changed = renamed_genes(reference)
    renamed = [gene_id for gene_id in coding if gene_id in changed]
    rng = rng_for(seed, "simulate", "genes")
    wanted |= set(rng.choice(renamed, size=_N_RENAMED, replace=False).tolist())
    others = [gene_id for gene_id in coding if gene_id not in wanted and gene_id not in changed]
    wanted |= set(rng.choice(others, size=_N_GENES - len(wanted), replace=False).tolist())
    genes = tuple(sorted(wanted))
    old = _releases(reference)[-1].symbols
    return ExpressionModel(
        seed=seed,
        genes=genes,
        symbols=tuple(reference.symbol_of(gene_id) for gene_id in genes),
        old_symbols=tuple(old[gene_id] for gene_id in genes),
    )


def renamed_genes(reference: GeneReference) -> frozenset[str]:
    """Return ids that have another symbol in the newest release than in the old one."""
    newest, old = reference.primary.symbols, _releases(reference)[-1].symbols
    return frozenset(g for g, name in newest.items() if name and old.get(g) and old[g] != name)


def _releases(reference: GeneReference) -> Sequence[GeneRelease]:
    """Return the releases down to the one that old files are written in; a reference with older ones changes no file."""
    names = [release.name for release in reference.releases]
    return reference.releases[: names.index(_OLD_RELEASE) + 1]


def _plain_ids(reference: GeneReference) -> list[str]:
    """Return ids whose symbols lead back to them in every release, in either release's spelling."""
    releases = _releases(reference)
    newest, old = reference.primary.symbols, releases[-1].symbols
    owners: dict[str, set[str]] = {}
    for release in releases:
        for symbol, ids in release.ids_of.items():
            owners.setdefault(symbol, set()).update(ids)
    return [
        gene_id
        for gene_id in reference.ids
        if newest[gene_id]
        and old.get(gene_id)
        and owners[newest[gene_id]] == {gene_id}
        and owners[old[gene_id]] == {gene_id}
    ]


def _markers_only() -> Sequence[str]:
    """Return markers that are quiet outside of their program."""
    return sorted({marker for program in PROGRAMS.values() for marker in program.markers} - set(HOUSEKEEPING))
