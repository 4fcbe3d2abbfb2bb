"""A flag says who lies far from its own library; small and even libraries have no bound, and nothing is removed."""

import tomllib
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.quality.flags import FLAGS, flag_cells, outliers
from cytolabe.quality.thresholds import _thresholds as thresholds_of
from cytolabe.quality.thresholds import load_thresholds

THRESHOLDS = load_thresholds()


@pytest.fixture
def measures():
    rng = np.random.default_rng(3)
    n = 200
    return {
        "n_counts": rng.lognormal(8.5, 0.2, n).astype(np.int64),
        "n_genes": rng.lognormal(7.3, 0.2, n).astype(np.int64),
        "mt_fraction": rng.beta(3, 60, n),
        "nuclear_fraction": np.full(n, np.nan),
        "doublet_score": rng.beta(2, 40, n),
    }


def flagged(measures, *, libraries=None, is_whole=True, has_whole_mt=True):
    n = len(measures["n_counts"])
    libraries = np.full(n, "lib") if libraries is None else libraries
    return flag_cells(measures, libraries, THRESHOLDS, is_whole=is_whole, has_whole_mt=has_whole_mt)


def test_planted_cells_are_flagged_for_what_is_wrong_with_them(measures):
    measures["n_counts"][0] = 120
    measures["n_genes"][1] = 60
    measures["mt_fraction"][2] = 0.6
    measures["doublet_score"][3] = 0.9
    found = flagged(measures)
    planted = {"low_counts": 0, "low_genes": 1, "high_mt": 2, "likely_doublet": 3}
    for name, cell in planted.items():
        assert found[name].iloc[cell], name
        assert not found.drop(columns=[name, "is_flagged"]).iloc[cell].any(), name
    assert len(found) == len(measures["n_counts"]), "no cell is removed"
    assert found["is_flagged"].sum() < 10


def test_a_measure_that_no_cell_has_flags_nobody(measures):
    measures["mt_fraction"][:] = np.nan
    measures["doublet_score"][:] = np.nan
    found = flagged(measures)
    assert not found[["high_mt", "low_nuclear", "likely_doublet"]].any().any()


def test_a_library_is_held_against_itself(measures):
    libraries = np.array(["deep", "shallow"], dtype=object)[np.arange(200) % 2]
    measures["n_counts"][libraries == "shallow"] //= 8
    by_library = flagged(measures, libraries=libraries, is_whole=False)
    as_one = flagged(measures, is_whole=False)
    assert by_library["low_counts"].sum() <= 2
    measures["n_counts"][0] = measures["n_counts"][1]
    assert flagged(measures, libraries=libraries, is_whole=False)["low_counts"].iloc[0]
    assert not as_one["low_counts"].iloc[0]


def test_fixed_bounds_hold_only_where_whole_cells_were_counted(measures):
    measures["n_counts"][:] = 300
    assert flagged(measures, is_whole=True)["low_counts"].all()
    assert not flagged(measures, is_whole=False)["low_counts"].any()


def test_a_moderate_share_of_mitochondria_is_an_outlier_but_no_flag(measures):
    measures["mt_fraction"] = np.random.default_rng(1).normal(0.01, 0.001, 200)
    measures["mt_fraction"][0] = 0.05
    assert not flagged(measures)["high_mt"].any()
    measures["mt_fraction"][0] = 0.15
    assert flagged(measures)["high_mt"].tolist() == [True] + [False] * 199


@given(
    st.lists(st.floats(-5, 5), min_size=0, max_size=80),
    st.integers(1, 4),
    st.sampled_from([-3.0, 3.0, 4.0]),
)
@settings(max_examples=60, deadline=None)
def test_outliers_follow_the_law_of_their_library(values, n_libraries, n_deviations):
    values = np.array(values, dtype=np.float64)
    libraries = np.arange(len(values)) % n_libraries
    found = outliers(values, libraries, THRESHOLDS, n_deviations=n_deviations)
    for library in range(n_libraries):
        own = libraries == library
        alone = outliers(values[own], libraries[own], THRESHOLDS, n_deviations=n_deviations)
        np.testing.assert_array_equal(found[own], alone)
        assert alone.sum() <= own.sum() / 2, "never most of a library"
        if own.sum() < THRESHOLDS.library_min_cells:
            assert not alone.any()


def leaves(table, path=()):
    for key, value in table.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]


def test_a_changed_threshold_is_another_digest_and_another_measurement():
    text = resources.files("cytolabe.quality").joinpath("thresholds.toml").read_text(encoding="utf-8")
    paths = [path for path in leaves(tomllib.loads(text)) if path != ("name",)]
    assert len(paths) == 23
    digests = set()
    for path in paths:
        document = tomllib.loads(text)
        table = document
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] += 1
        digests.add(thresholds_of(document).digest)
    assert len(digests | {THRESHOLDS.digest}) == len(paths) + 1


def test_the_thresholds_have_a_name_and_a_digest_over_their_values():
    assert THRESHOLDS.name == "cytolabe-quality-1"
    # A changed threshold needs another name: this is the digest under that name. Never change it without the name.
    assert THRESHOLDS.digest == "sha256:d2a541bf5c3366957f7d214354c836420762e4f4cb929e4767ae92d38f40e66b"
    assert set(FLAGS) == {"low_counts", "low_genes", "high_mt", "low_nuclear", "likely_doublet"}
