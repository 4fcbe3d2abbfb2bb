"""Simulated donors: profiles without chance, donors that know nothing of each other, and a truth that can be checked."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack
from scipy.stats import nbinom

from cytolabe.testing.donors import MIN_DONORS, DonorDesign, base_shares, most_probable, simulate_donors
from cytolabe.testing.type_profiles import MIN_CELLS, is_read, measure_profiles

N_GENES, PLANTED = 400, 40
NAMES = {"CL:1": "one", "CL:2": "two", "CL:3": "three"}
QUIET = DonorDesign(
    n_donors=12, cells_per_donor=30, kit_effect=0.0, library_effect=0.0, donor_effect=0.0, donor_type_effect=0.0,
    depth_effect=0.0, blend=0.0, n_rare=0,
)  # fmt: skip


def real_cells(n_cells=(60, 60, 30), *, dispersion=0.3, seed=0):
    """Return counts and terms: the first `PLANTED` genes are four times as high in one type, the others are alike."""
    rng = np.random.default_rng(seed)
    pooled = rng.gamma(0.6, 1.0, N_GENES) + 0.02
    parts, terms = [], []
    for k, (term, size) in enumerate(zip(NAMES, n_cells, strict=True)):
        share = pooled.copy()
        share[:PLANTED][np.arange(PLANTED) % 3 == k] *= 4
        depth = np.exp(rng.normal(7.5, 0.3, size))
        rate = depth[:, None] * share / share.sum() * rng.gamma(1 / dispersion, dispersion, (size, N_GENES))
        parts.append(csr_matrix(rng.poisson(rate)))
        terms += [term] * size
    return csr_matrix(vstack(parts)), np.array(terms, dtype=object)


@pytest.fixture(scope="module")
def profiles():
    counts, terms = real_cells()
    return measure_profiles(counts, terms, genes=[f"g{k}" for k in range(N_GENES)], names=NAMES)


def of_donor(sites, name):
    for site in sites:
        here = (site.table["donor_id"] == name).to_numpy()
        if here.any():
            return site.counts[here].toarray(), site.table[here].reset_index(drop=True)
    raise AssertionError(name)


def test_what_few_cells_differ_by_chance_is_no_difference_between_types(profiles):
    ratio = profiles.shares / profiles.shares.mean(axis=0)
    spread = np.log(ratio).std(axis=0)
    assert (spread[PLANTED:] < 0.1).mean() > 0.97  # no profile but the scale of the whole
    assert (spread[:PLANTED] > 0.4).mean() > 0.7
    assert PLANTED * 0.7 <= profiles.n_genes_that_differ <= PLANTED + 5
    np.testing.assert_allclose(profiles.shares.sum(axis=1), 1.0)


def test_depth_and_dispersion_are_those_of_the_cells(profiles):
    assert np.abs(profiles.log_depth - 7.5).max() < 0.2
    assert np.abs(profiles.log_depth_spread - 0.3).max() < 0.12
    loud = profiles.shares.mean(axis=0) > 2 / N_GENES
    assert 0.2 < np.median(profiles.dispersions[:, loud]) < 0.45
    assert (profiles.dispersions >= 0.01).all()


def test_a_type_of_few_cells_is_left_out_and_named_and_one_type_is_no_simulation():
    counts, terms = real_cells((40, 40, MIN_CELLS - 1))
    genes = [f"g{k}" for k in range(N_GENES)]
    found = measure_profiles(counts, terms, genes=genes, names=NAMES)
    assert found.terms == ("CL:1", "CL:2")
    assert found.left_out == {"CL:3": MIN_CELLS - 1}
    with pytest.raises(ValueError, match="1 of 1 types have 15 cells to be read"):
        measure_profiles(counts[:40], terms[:40], genes=genes, names=NAMES)


def test_every_second_cell_is_read_and_no_other_cell_decides_it():
    names = [f"lab:cell{k}" for k in range(2000)]
    read = is_read(names)
    assert 900 < read.sum() < 1100
    assert is_read(names[::-1]).tolist() == read[::-1].tolist()


def test_one_design_gives_one_atlas_and_another_seed_another(profiles):
    one, again, other = (
        simulate_donors(profiles, dataclasses.replace(QUIET, seed=seed)) for seed in (3, 3, 4)
    )  # fmt: skip
    for a, b, c in zip(one, again, other, strict=True):
        assert (a.counts != b.counts).nnz == 0
        assert a.table.equals(b.table)
        assert (a.counts != c.counts).nnz > 0


def test_a_donor_is_the_same_whoever_else_is_in_the_atlas(profiles):
    design = DonorDesign(n_donors=MIN_DONORS, cells_per_donor=25)
    few, more = (simulate_donors(profiles, dataclasses.replace(design, n_donors=n)) for n in (12, 17))
    for number in range(1, 13):
        counts, table = of_donor(few, f"SIM{number:02d}")
        counts_of_more, table_of_more = of_donor(more, f"SIM{number:02d}")
        np.testing.assert_array_equal(counts, counts_of_more)
        assert table.equals(table_of_more)


def test_donors_libraries_and_kits_differ_by_what_is_asked_for(profiles):
    def spread_of(**effects):
        design = dataclasses.replace(QUIET, cells_per_donor=120, **effects)
        sites = simulate_donors(profiles, design)
        sums = np.stack([of_donor(sites, f"SIM{n:02d}")[0].sum(axis=0) for n in range(1, 13)])
        loud = sums.sum(axis=0) > 2_000
        logs = np.log((sums / sums.sum(axis=1, keepdims=True))[:, loud])
        sites_of = np.arange(12) % 3
        between = np.stack([logs[sites_of == k].mean(axis=0) for k in range(3)]).std(axis=0).mean()
        within = np.mean([logs[sites_of == k].std(axis=0).mean() for k in range(3)])
        return between, within

    quiet, kit, donor = spread_of(), spread_of(kit_effect=0.5), spread_of(donor_effect=0.5)
    assert kit[0] > 2 * quiet[0]
    assert kit[1] < 1.5 * quiet[1]
    assert donor[1] > 2 * quiet[1]


def test_compositions_vary_by_donor_and_rare_types_are_rare(profiles):
    design = dataclasses.replace(QUIET, n_rare=1, rare_share=0.02, cells_per_donor=200, composition=60.0)
    shares = base_shares(profiles, design)
    assert profiles.terms[int(shares.argmin())] == "CL:3"
    assert shares.min() == pytest.approx(0.02)
    assert shares.sum() == pytest.approx(1.0)
    sites = simulate_donors(profiles, design)
    found = np.stack([own for site in sites for own in site.compositions.values()])
    assert len(found) == 12
    assert found[:, 0].std() > 0.02
    types = np.concatenate([site.table["type"] for site in sites])
    assert 0 < (types == 2).mean() < 0.06
    alike = simulate_donors(profiles, dataclasses.replace(design, composition=1e6))
    assert np.stack([own for site in alike for own in site.compositions.values()])[:, 0].std() < 0.005


def test_who_knows_the_true_profiles_names_cells_without_effects_and_no_blend_outweighs_a_label(profiles):
    tables = [site.table for site in simulate_donors(profiles, QUIET)]
    assert np.mean(np.concatenate([(t["type"] == t["profile_type"]).to_numpy() for t in tables])) > 0.98
    blended = [site.table for site in simulate_donors(profiles, dataclasses.replace(QUIET, blend=0.2))]
    assert max(float(t["blend"].max()) for t in blended) < 0.5
    assert 0.15 < np.mean(np.concatenate([t["blend"].to_numpy() for t in blended])) < 0.25
    assert all((t["type"] != t["partner"]).all() for t in blended)


def test_the_most_probable_type_is_that_of_the_densities_written_out(profiles):
    counts = simulate_donors(profiles, QUIET)[0].counts[:12].toarray()
    shares = np.array([0.5, 0.3, 0.2])
    depth = counts.sum(axis=1)
    expected = []
    for cell, total in zip(counts, depth, strict=True):
        logs = []
        for k in range(3):
            shape, mean = 1 / profiles.dispersions[k], profiles.shares[k] * total
            logs.append(nbinom.logpmf(cell, shape, shape / (shape + mean)).sum() + np.log(shares[k]))
        expected.append(int(np.argmax(logs)))
    assert most_probable(counts, profiles, shares).tolist() == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_donors": 11}, "at least 12"),
        ({"cells_per_donor": 5}, "hardly a cell of each type"),
        ({"rare_share": 0.0}, "a share is in"),
        ({"kit_effect": -0.1}, "not negative"),
        ({"blend": 0.25}, "larger part"),
    ],
)
def test_a_design_that_cannot_be_is_refused_with_the_reason(change, said):
    with pytest.raises(ValueError, match=said):
        DonorDesign(**change)


def test_rare_types_leave_room_for_the_others(profiles):
    with pytest.raises(ValueError, match="leave"):
        simulate_donors(profiles, dataclasses.replace(QUIET, n_rare=3, rare_share=0.1))
