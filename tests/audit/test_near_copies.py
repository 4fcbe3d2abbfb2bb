"""One droplet counted twice is found, across labs and inside one; neighbors of one type are not taken for it."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, vstack

from cytolabe.audit import near_copies, rare_join
from cytolabe.audit.all_copies import copied_pairs, find_copies
from cytolabe.audit.dispersion import dispersion
from cytolabe.audit.leakage import audit_fold
from cytolabe.audit.planted import thinned
from cytolabe.audit.rare_join import RareIndex, Strength, nominated_pairs, pairs_asked
from cytolabe.audit.shared_cells import shared_cells
from cytolabe.encode.rare_genes import RARE_GENES
from cytolabe.records import Fold, ScoreStatus
from cytolabe.split.groups import leave_one_group_out
from cytolabe.testing.memory import MemorySnapshot, memory_snapshot

N_GENES = 3_000


def expressed(rng, n_cells, *, n_types=4, depth=2_500) -> csr_matrix:
    """Cells of a few types: each type has genes of its own, and depth varies from cell to cell."""
    rates = rng.gamma(0.15, 1.0, size=N_GENES) * rng.gamma(2.0, 0.5, size=(n_types, N_GENES))
    rates /= rates.sum(axis=1, keepdims=True)
    depths = depth * rng.lognormal(0, 0.3, size=n_cells)
    return csr_matrix(rng.poisson(rates[rng.integers(0, n_types, size=n_cells)] * depths[:, None]))


def atlas(matrices: dict[str, csr_matrix], kept: dict[str, np.ndarray] | None = None, **columns) -> MemorySnapshot:
    genes = np.array([f"ENSG{n:011d}" for n in range(N_GENES)])
    kept = kept or {name: np.arange(N_GENES) for name in matrices}
    cells = pd.DataFrame({"dataset_id": [name for name in matrices for _ in range(matrices[name].shape[0])]})
    return memory_snapshot(
        cells.assign(**columns),
        {name: matrix[:, kept[name]] for name, matrix in matrices.items()},
        genes={name: tuple(genes[kept[name]]) for name in matrices},
    )


def recounted(cells: csr_matrix, rng) -> csr_matrix:
    """The same reads by another pipeline: some genes are lost, some count less, some gain; totals stay about the same."""
    kept = rng.choice([0.0, 0.7, 1.0], p=[0.03, 0.1, 0.87], size=cells.shape[1])
    other = cells.copy()
    other.data = rng.binomial(cells.data, kept[cells.indices])
    gained = rng.poisson(np.where(rng.random(cells.shape[1]) < 0.05, 0.5, 0.0), size=cells.shape)
    other = csr_matrix(other + csr_matrix(gained))
    other.eliminate_zeros()
    return other


def rows_of(pairs: pd.DataFrame, kind: str = "near") -> list[tuple[int, int]]:
    chosen = pairs[pairs["kind"] == kind]
    return list(zip(chosen["a_row"], chosen["b_row"], strict=True))


@pytest.mark.parametrize("kept", [0.98, 0.5])
def test_a_library_that_two_labs_sequenced_to_other_depths_is_found_cell_by_cell(kept):
    rng = np.random.default_rng(1)
    whole = expressed(rng, 150)
    other = vstack([thinned(whole[:100], kept, rng), expressed(rng, 50)], format="csr")
    report = find_copies(atlas({"a": whole, "b": other}))
    assert rows_of(report.pairs) == [(n, 150 + n) for n in range(100)]
    assert rows_of(report.pairs, "identical") == []
    assert [finding.code for finding in report.findings] == ["W-DUP-03"]
    assert report.findings[0].n_affected == 200
    assert report.pairs["dispersion"].max() < 0.5


def test_a_library_that_two_pipelines_counted_against_other_references_is_found():
    rng = np.random.default_rng(2)
    whole = expressed(rng, 120)
    kept = {"a": np.sort(rng.permutation(N_GENES)[:2_600]), "b": np.sort(rng.permutation(N_GENES)[:2_500])}
    report = find_copies(atlas({"a": whole, "b": recounted(whole, rng)}, kept))
    assert rows_of(report.pairs) == [(n, 120 + n) for n in range(120)]


def test_a_library_that_stands_twice_in_one_data_set_is_found():
    rng = np.random.default_rng(3)
    whole = expressed(rng, 60)
    report = find_copies(atlas({"a": vstack([whole, thinned(whole[:20], 0.8, rng)], format="csr")}))
    assert rows_of(report.pairs) == [(n, 60 + n) for n in range(20)]


def test_neighbors_of_one_type_are_no_copies():
    rng = np.random.default_rng(4)
    report = find_copies(atlas({"a": expressed(rng, 400, n_types=1), "b": expressed(rng, 400, n_types=2)}))
    assert report.pairs.empty
    assert report.findings == ()


def test_the_search_finds_what_comparing_every_pair_finds():
    rng = np.random.default_rng(5)
    whole = expressed(rng, 40)
    snapshot = atlas({"a": whole, "b": vstack([thinned(whole[:30], 0.6, rng), expressed(rng, 20)], format="csr")})
    genes = snapshot.measured_genes("a")
    a, b = np.array(list(itertools.combinations(range(len(snapshot.cells)), 2))).T
    near = dispersion(snapshot.counts(a, genes), snapshot.counts(b, genes)).is_near
    assert rows_of(find_copies(snapshot).pairs) == list(zip(a[near], b[near], strict=True))
    assert near.sum() == 30


def test_identical_and_near_identical_cells_are_told_apart():
    rng = np.random.default_rng(6)
    whole = expressed(rng, 30)
    other = vstack([whole[:5], thinned(whole[5:10], 0.9, rng)], format="csr")
    snapshot = atlas({"a": whole, "b": other})
    pairs = find_copies(snapshot).pairs
    assert pairs["kind"].tolist() == ["identical"] * 5 + ["near"] * 5
    assert pairs["similarity"].between(0.9, 1.0).all()
    again, findings = copied_pairs(snapshot)
    pd.testing.assert_frame_equal(again, pairs)
    assert findings == ()


def test_cells_too_shallow_to_tell_are_planted_and_searched_nowhere():
    rng = np.random.default_rng(7)
    shallow = expressed(rng, 80, depth=120)
    report = find_copies(atlas({"a": shallow, "b": thinned(shallow, 0.9, rng)}))
    assert report.pairs.empty
    assert report.not_testable == {"a|a": 80, "a|b": 160, "b|b": 80}
    assert report.near.comparisons[["planted_90", "planted_50", "planted_20"]].to_numpy().sum() == 0


def test_the_power_is_measured_with_copies_that_go_the_same_way(monkeypatch):
    snapshot = atlas({"a": expressed(np.random.default_rng(8), 300)})
    (whole,) = find_copies(snapshot).near.comparisons.to_dict("records")
    assert whole["planted_90"] == whole["found_90"] >= 200
    assert whole["found_50"] >= 0.98 * whole["planted_50"] > 150
    # A search that nominates next to nothing must say so itself.
    monkeypatch.setattr(Strength, "for_cells", classmethod(lambda cls, _: cls(n_joined=32, least_joined=30)))
    (blind,) = find_copies(snapshot).near.comparisons.to_dict("records")
    assert blind["found_50"] == 0 < blind["planted_50"]


def test_a_search_that_only_the_earlier_cell_asks_in_says_so(monkeypatch):
    strength = Strength(n_joined=24, least_joined=5, both_ask=False)
    monkeypatch.setattr(Strength, "for_cells", classmethod(lambda cls, _: strength))
    snapshot = atlas({"a": expressed(np.random.default_rng(9), 60), "b": expressed(np.random.default_rng(3), 60)})
    _, findings = copied_pairs(snapshot)
    assert [(finding.code, finding.n_affected, finding.examples) for finding in findings] == [
        ("N-DUP-05", 3, ("a|a", "a|b", "b|b"))
    ]


def test_more_cells_than_are_searched_at_once_are_counted_and_not_called_clean(monkeypatch):
    monkeypatch.setattr(near_copies, "MOST_CELLS", 100)
    rng = np.random.default_rng(9)
    whole = expressed(rng, 60)
    snapshot = atlas({"a": whole, "b": thinned(whole, 0.9, rng)}, person_id=[f"p{n}" for n in range(120)])
    report = find_copies(snapshot)
    assert [finding.code for finding in report.findings] == ["N-DUP-04"]
    assert copied_pairs(snapshot)[1] == report.findings
    fold = fold_of(60, 120)
    assert audit_fold(snapshot, fold, duplicates=report).not_testable["near-identical cells, a|b"] == 60


def fold_of(n_train: int, n_cells: int) -> Fold:
    return Fold(
        split_id="planted", held_out="dataset", groups_train=("a",), groups_test=("b",),
        train_rows=np.arange(n_train), test_rows=np.arange(n_train, n_cells),
    )  # fmt: skip


def test_a_second_counting_of_training_cells_refuses_the_fold_and_joins_the_split():
    rng = np.random.default_rng(10)
    whole = expressed(rng, 60)
    other = vstack([recounted(whole[:15], rng), expressed(rng, 45)], format="csr")
    snapshot = atlas(
        {"a": whole, "b": other, "c": expressed(rng, 30)}, person_id=[f"p{n}" for n in range(150)],
        contributor_label="B cell",
    )  # fmt: skip
    report = find_copies(snapshot)
    audit = audit_fold(snapshot, fold_of(60, 120), duplicates=report)
    assert [finding.code for finding in audit.findings] == ["E-LEAK-06"]
    assert (audit.status, audit.n_clean_labelled, audit.findings[0].n_affected) == (ScoreStatus.REFUSED, 45, 15)
    assert audit.findings[0].examples[0] == "train a:cell0, test b:cell0"
    (test,) = [test for test in audit.tests if test["test"] == "near-identical cells"]
    assert (test["n_tested"], test["n_found"], test["n_direct"]) == (60, 15, 15)
    folds = leave_one_group_out(snapshot, duplicates=report.pairs).folds
    assert [fold.split_id for fold in folds] == ["component=a+b", "component=c"]


def test_a_near_copy_of_a_copy_reaches_across_the_fold_without_being_direct():
    rng = np.random.default_rng(11)
    whole = expressed(rng, 30)
    snapshot = atlas(
        {"a": whole, "b": whole[:1], "c": thinned(whole[:1], 0.9, rng)}, person_id=[f"p{n}" for n in range(32)]
    )
    report = find_copies(snapshot)
    only_through_b = report.pairs[~((report.pairs["a_row"] == 0) & (report.pairs["b_row"] == 31))]
    fold = dataclasses.replace(fold_of(30, 32), test_rows=np.array([31]))
    audit = audit_fold(snapshot, fold, duplicates=dataclasses.replace(report, pairs=only_through_b))
    (test,) = [test for test in audit.tests if test["test"] == "near-identical cells"]
    assert (test["n_found"], test["n_direct"]) == (1, 0)


def test_every_pair_that_shares_enough_rare_genes_is_joined_and_no_other():
    rng = np.random.default_rng(12)
    kept = np.sort(np.stack([rng.permutation(90)[:RARE_GENES] for _ in range(70)]), axis=1).astype(np.int32)
    groups = np.repeat([0, 1], 35)
    index = RareIndex.of(kept, groups, n_genes=90)
    allowed = np.array([[False, True], [True, False]])
    found = {(a, b) for rows, partners in nominated_pairs(index, allowed) for a, b in zip(rows, partners, strict=True)}
    n_joined, least = index.strength.n_joined, index.strength.least_joined
    enough = {
        (a, b) for a in range(35) for b in range(35, 70)
        if len(set(kept[a, :n_joined]) & set(kept[b, :n_joined])) >= least and len(set(kept[a]) & set(kept[b])) >= 8
    }  # fmt: skip
    assert found == enough


def test_cells_of_many_blocks_are_counted_as_a_product_of_matrices_would():
    rng = np.random.default_rng(3)
    n_cells, n_genes = 150_000, 400
    kept = np.sort(
        rng.integers(0, n_genes // RARE_GENES, size=(n_cells, RARE_GENES)) + np.arange(RARE_GENES) * 6, axis=1
    )
    groups = (np.arange(n_cells) % 3 == 0).astype(np.int64)
    index = RareIndex.of(kept.astype(np.int32), groups, n_genes=n_genes)
    asking = np.sort(rng.choice(n_cells, 12, replace=False))
    a, b = pairs_asked(index, asking, np.ones((2, 2), dtype=bool))
    strength = index.strength
    expected = set()
    for cell in asking.tolist():
        n_joined = (kept[:, : strength.n_joined] == kept[cell, : strength.n_joined]).sum(axis=1)
        n_common = (kept == kept[cell]).sum(axis=1)
        later = np.arange(cell + 1, n_cells)
        found = later[(n_joined[later] >= strength.least_joined) & (n_common[later] >= strength.least_kept)]
        for group in (0, 1):
            own = found[groups[found] == group]
            best = own[np.lexsort([own, -n_common[own]])][: strength.n_partners]
            expected |= {(cell, other) for other in best.tolist()}
    assert len(expected) == 12 * 2 * strength.n_partners
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == expected


@pytest.mark.parametrize("n_cells", [10, 50_000, 1_000_000])
def test_the_counters_of_all_that_ask_at_a_time_fit_16_bits(n_cells):
    assert rare_join._QUERIES * Strength.for_cells(n_cells).n_joined < 2**16


def test_a_full_list_keeps_those_with_most_in_common_in_the_own_data_set_and_in_others_apart(monkeypatch):
    strength = Strength(n_joined=32, least_joined=1, least_kept=1, n_partners=3)
    monkeypatch.setattr(Strength, "for_cells", classmethod(lambda cls, _: strength))
    rng = np.random.default_rng(14)
    kept = np.sort(np.stack([rng.permutation(90)[:RARE_GENES] for _ in range(40)]), axis=1).astype(np.int32)
    groups = np.repeat([0, 1], 20)
    index = RareIndex.of(kept, groups, n_genes=90)
    a, b = pairs_asked(index, np.array([7]), np.ones((2, 2), dtype=bool))
    common = {n: len(set(kept[7]) & set(kept[n])) for n in range(40) if n != 7}
    expected = [
        sorted((n for n in common if groups[n] == group), key=lambda n: (-common[n], n))[:3] for group in (0, 1)
    ]
    assert {tuple(sorted((7, n))) for own in expected for n in own} == set(zip(a.tolist(), b.tolist(), strict=True))


@pytest.mark.parametrize("names", ["ab", "zb"])
def test_a_deep_library_and_its_shallow_copy_on_a_panel_are_found_whichever_comes_first(names):
    # The partners of a deep cell are deep neighbors of its own data set; its shallow copy must find it.
    rng = np.random.default_rng(0)
    rates = rng.gamma(1.0, 1.0, size=500)
    deep = csr_matrix(rng.poisson(rates / rates.sum() * 4_000 * rng.lognormal(0, 0.2, size=220)[:, None]))
    parts = {names[0]: deep, names[1]: thinned(deep, 0.45, rng)}
    genes = tuple(f"ENSG{n:011d}" for n in range(500))
    cells = pd.DataFrame({"dataset_id": np.repeat(sorted(parts), 220)})
    report = find_copies(memory_snapshot(cells, parts, genes=dict.fromkeys(parts, genes)))
    assert set(rows_of(report.pairs)) >= {(n, 220 + n) for n in range(220)}


@pytest.mark.parametrize("n_copies", [1, 2, 5])
def test_the_copies_of_a_tiny_data_set_are_found(n_copies):
    rng = np.random.default_rng(15)
    whole = expressed(rng, 300)
    report = find_copies(atlas({"a": whole, "b": thinned(whole[:n_copies], 0.5, rng)}))
    assert rows_of(report.pairs) == [(n, 300 + n) for n in range(n_copies)]


@pytest.mark.parametrize("change", ["rounded to one depth", "smoothed"])
def test_counts_that_were_changed_are_not_searched_and_accuse_nobody(change):
    rng = np.random.default_rng(16)
    raw = expressed(rng, 200, n_types=1).toarray()
    if change == "smoothed":
        changed = np.rint(0.7 * raw.mean(axis=0) * raw.sum(axis=1, keepdims=True) / raw.sum(axis=1).mean() + 0.3 * raw)
    else:
        changed = np.rint(raw * 2_000 / raw.sum(axis=1, keepdims=True))
    report = find_copies(atlas({"a": csr_matrix(changed.astype(np.int64)), "b": csr_matrix(raw)}))
    assert rows_of(report.pairs) == []
    told = report.near.comparisons.set_index(["dataset_a", "dataset_b"])["why_not"]
    assert told["b", "b"] == ""
    assert told["a", "a"] == told["a", "b"] == near_copies.NOT_SAMPLED
    assert "N-DUP-04" in {finding.code for finding in report.findings}


def test_the_order_of_rarity_reads_a_large_data_set_in_samples():
    rng = np.random.default_rng(13)
    snapshot = atlas({"a": expressed(rng, 1_200)})
    cells = shared_cells(snapshot, snapshot.measured_genes("a"), {"a": range(1_200)}, least=(100, 300))
    detected = np.asarray((snapshot.matrices["a"] > 0).mean(axis=0)).ravel()
    assert np.corrcoef(cells.order, np.argsort(np.argsort(detected)))[0, 1] > 0.95
