"""Simulated atlases with many donors on real profiles: what no public file beside the project has, with known truth.

log share of gene g in a cell of type t, donor d, library l, kit k =
    log real share(t, g) + kit effect(k, g) + library effect(l, g) + donor effect(d, g) + donor effect(d, t, g)

scaled to sum 1, and blended with that of a neighboring type, because cells of a gate or a cluster are not all alike and
not all pure: less than half, so that the label stays the larger part. The cell's depth is lognormal as in the real type, times that of its kit and donor, and its counts are
negative binomial with the real dispersions. Each donor has a composition of its own (Dirichlet) around shares in which
the scarcest types are rare. Sites differ in kit; a donor has one or two libraries.

Every draw of a donor comes from a stream that bears the donor's name: taking a donor away changes no other one, so what
a held-out donor is like cannot be in the donors that a model learns from. What all donors share is what a type is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer
from scipy.sparse import csr_matrix, vstack
from scipy.special import gammaln

from cytolabe.randomness import rng_for
from cytolabe.testing.type_profiles import TypeProfiles

__all__ = [
    "MIN_DONORS",
    "SITES",
    "DonorDesign",
    "SimulatedCells",
    "Site",
    "base_shares",
    "most_probable",
    "simulate_donors",
]

MIN_DONORS = 12
"""Fewer would not be many: a fold of a third of them would have no interval over donors (rule R15)."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where donors were sampled: one file, one kit, and how deep its libraries are beside the real ones."""

    dataset_id: str
    assay: str
    depth: float


SITES = (
    Site(dataset_id="simulated_north", assay="10x 3' v2", depth=1.0),
    Site(dataset_id="simulated_east", assay="10x 3' v3", depth=1.5),
    Site(dataset_id="simulated_south", assay="10x 5' v1", depth=1.2),
)


@dataclass(frozen=True, kw_only=True)
class DonorDesign:
    """How much donors, libraries and kits differ. Effects are standard deviations of natural logs, gene by gene.

    They are chosen, not measured: no file beside the project has donors enough. `composition` is the concentration of
    the Dirichlet (larger: donors more alike); the `n_rare` scarcest types of the real file get `rare_share` each.
    """

    seed: int = 0
    n_donors: int = 21
    cells_per_donor: int = 150
    composition: float = 60.0
    n_rare: int = 2
    rare_share: float = 0.015
    kit_effect: float = 0.3
    library_effect: float = 0.1
    donor_effect: float = 0.15
    donor_type_effect: float = 0.1
    depth_effect: float = 0.2
    blend: float = 0.15

    def __post_init__(self) -> None:
        if self.n_donors < MIN_DONORS or self.n_donors < 2 * len(SITES):
            msg = f"n_donors = {self.n_donors}: an atlas of many donors has at least {MIN_DONORS}."
            raise ValueError(msg)
        if self.cells_per_donor < 20:
            msg = f"cells_per_donor = {self.cells_per_donor}: under 20 a donor has hardly a cell of each type."
            raise ValueError(msg)
        if not 0 < self.rare_share <= 0.2 or self.n_rare < 0 or self.composition <= 0:
            msg = f"rare_share = {self.rare_share}, n_rare = {self.n_rare}, composition = {self.composition}: a share is in (0, 0.2], a number not negative, a concentration above 0."
            raise ValueError(msg)
        effects = (self.kit_effect, self.library_effect, self.donor_effect, self.donor_type_effect, self.depth_effect)
        if not 0 <= self.blend < 0.25:
            msg = f"blend = {self.blend}: how much of a cell is of another type, on average; in [0, 0.25), or the label would not be the larger part."
            raise ValueError(msg)
        if min(effects) < 0:
            msg = f"An effect is a standard deviation and not negative, got {min(effects)}."
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedCells:
    """The cells of one site and the truth about them.

    `table` has one row per cell: name, donor_id, batch, type (place in the profiles), partner (the type it resembles as well), blend
    (how much), depth, and profile_type: the most probable type to who knows the profiles of the types and the shares that donors
    vary around, and nothing of kits, libraries and donors. `compositions` maps a donor to its shares.
    """

    site: Site
    counts: csr_matrix
    table: pd.DataFrame
    compositions: Mapping[str, np.ndarray] = field(default_factory=dict)


def simulate_donors(profiles: TypeProfiles, design: DonorDesign) -> tuple[SimulatedCells, ...]:
    """Return the cells of every site, the donors dealt out to the sites in turn. The same design gives the same cells.

    Raises
    ------
    ValueError
        If the rare types would leave no room for the others.
    """
    shares = base_shares(profiles, design)
    found = []
    for place, site in enumerate(SITES):
        donors = [_Donor(profiles, design, site, number=n) for n in range(place, design.n_donors, len(SITES))]
        made = [donor.cells(shares) for donor in donors]
        found.append(
            SimulatedCells(
                site=site,
                counts=csr_matrix(vstack([counts for counts, _ in made], format="csr")),
                table=pd.concat([table for _, table in made], ignore_index=True),
                compositions={donor.name: donor.composition(shares) for donor in donors},
            )
        )
    return tuple(found)


def base_shares(profiles: TypeProfiles, design: DonorDesign) -> Float[np.ndarray, " types"]:
    """Return the shares of types that donors vary around: those of the real file, the scarcest made rare."""
    shares = np.array(profiles.n_cells, dtype=np.float64)
    rare = np.lexsort((np.array(profiles.terms), shares))[: design.n_rare]
    room = 1 - design.rare_share * len(rare)
    if len(rare) >= len(shares) or room <= 0.5:
        msg = f"{len(rare)} of {len(shares)} types at {design.rare_share} each leave {room:.2f} for the others; take fewer or rarer ones."
        raise ValueError(msg)
    shares[rare] = 0.0
    shares *= room / shares.sum()
    shares[rare] = design.rare_share
    return shares


class _Donor:
    """One simulated person: everything drawn for it comes from streams that bear its name."""

    def __init__(self, profiles: TypeProfiles, design: DonorDesign, site: Site, *, number: int) -> None:
        self._profiles, self._design, self._site = profiles, design, site
        self._neighbors = _neighbors(profiles)
        self.name = f"SIM{number + 1:02d}"
        self._libraries = [f"{self.name}-L{k + 1}" for k in range(1 + number // len(SITES) % 2)]

    def composition(self, shares: np.ndarray) -> Float[np.ndarray, " types"]:
        """Return the shares of types in this donor."""
        return np.asarray(self._rng("composition", self.name).dirichlet(self._design.composition * shares))

    def cells(self, shares: np.ndarray) -> tuple[csr_matrix, pd.DataFrame]:
        """Return the counts and the truth of this donor's cells."""
        own = self.composition(shares)
        parts = np.array_split(np.arange(self._design.cells_per_donor), len(self._libraries))
        made = [
            self._library(library, len(part), own, shares=shares)
            for library, part in zip(self._libraries, parts, strict=True)
        ]
        return (
            csr_matrix(vstack([counts for counts, _ in made], format="csr")),
            pd.concat([table for _, table in made], ignore_index=True),
        )

    def _rng(self, *names: str) -> np.random.Generator:
        return rng_for(self._design.seed, "simulate donors", *names)

    def _effects(self, library: str) -> Float[np.ndarray, "types genes"]:
        """Return the log share of each gene in each type of one library."""
        n_types, n_genes = self._profiles.shares.shape
        design = self._design
        shared = (
            self._rng("kit", self._site.assay).normal(0.0, design.kit_effect, n_genes)
            + self._rng("library", library).normal(0.0, design.library_effect, n_genes)
            + self._rng("donor", self.name).normal(0.0, design.donor_effect, n_genes)
        )
        of_types = self._rng("donor and type", self.name).normal(0.0, design.donor_type_effect, (n_types, n_genes))
        logs = _logs(self._profiles.shares) + shared + of_types
        return np.asarray(logs - np.log(np.exp(logs).sum(axis=1, keepdims=True)))

    def _library(
        self, library: str, n_cells: int, composition: np.ndarray, *, shares: np.ndarray
    ) -> tuple[csr_matrix, pd.DataFrame]:
        profiles, rng, effects = self._profiles, self._rng("cells", library), self._effects(library)
        types = rng.choice(len(composition), size=n_cells, p=composition)
        partner = self._neighbors[types, rng.integers(0, self._neighbors.shape[1], n_cells)]
        blend = (
            0.5 * rng.beta(1.0, 0.5 / self._design.blend - 1.0, n_cells) if self._design.blend else np.zeros(n_cells)
        )
        shift = np.log(self._site.depth) + self._rng("depth", self.name).normal(0.0, self._design.depth_effect)
        depth = np.exp(rng.normal(profiles.log_depth[types] + shift, profiles.log_depth_spread[types]))
        shares_of = np.exp(effects)
        own = (1 - blend)[:, None] * shares_of[types] + blend[:, None] * shares_of[partner]
        shape = 1 / profiles.dispersions[types]
        counts = rng.poisson(own * depth[:, None] * rng.gamma(shape, 1 / shape)).astype(np.int64)
        table = pd.DataFrame({
            "name": [f"simulated_{library}_{cell:04d}" for cell in range(n_cells)],
            "donor_id": self.name,
            "batch": library,
            "type": types,
            "partner": partner,
            "blend": blend,
            "depth": depth,
            "profile_type": most_probable(counts, profiles, shares),
        })  # fmt: skip
        return csr_matrix(counts), table


def most_probable(
    counts: Integer[np.ndarray, "cells genes"], profiles: TypeProfiles, shares: Float[np.ndarray, " types"]
) -> Integer[np.ndarray, " cells"]:
    """Return the type of highest posterior probability of each cell: negative binomial around the profiles, and their shares."""
    depth = counts.sum(axis=1)
    told = (profiles.shares > 0).all(axis=0)
    own = counts[:, told]
    posterior = np.empty((len(depth), len(shares)))
    for k, share in enumerate(shares):
        shape = 1 / profiles.dispersions[k, told]
        mean = profiles.shares[k, told] * np.maximum(depth, 1)[:, None]
        density = gammaln(own + shape) - gammaln(shape) + shape * np.log(shape) + own * np.log(mean)
        posterior[:, k] = (density - (own + shape) * np.log(shape + mean)).sum(axis=1) + np.log(share)
    return np.asarray(posterior.argmax(axis=1))


def _neighbors(profiles: TypeProfiles) -> Integer[np.ndarray, "types neighbors"]:
    """Return the two types whose profiles are nearest to that of each (Hellinger); the one other where there are two in all."""
    roots = np.sqrt(profiles.shares)
    distance = ((roots[:, None] - roots[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.argsort(axis=1, kind="stable")[:, : min(2, len(roots) - 1)])


def _logs(shares: np.ndarray) -> Float[np.ndarray, "types genes"]:
    with np.errstate(divide="ignore"):  # a gene without a count in any type stays without one
        return np.asarray(np.log(shares))
