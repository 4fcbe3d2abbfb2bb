"""Identical cells are found where they are, nowhere else, and whoever cannot be tested is counted."""

import collections
import dataclasses
import itertools
import pathlib
import re
import sys
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.audit import duplicates as duplicates_module
from cytolabe.audit import nominations
from cytolabe.audit.claims import cell_type_claim
from cytolabe.audit.duplicates import DuplicateReport, additive_hash, duplicate_table, find_duplicates, identical_pairs
from cytolabe.audit.leakage import audit_fold, audit_split
from cytolabe.errors import UsageError
from cytolabe.records import ScoreStatus
from cytolabe.snapshot.sketches import CellSketches, sketched
from cytolabe.split.components import Link
from cytolabe.split.groups import leave_one_group_out
from cytolabe.testing.memory import MemorySnapshot, memory_snapshot

DATA = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"
PBMC = (
    "kang18_harmony_stim_ctrl", "kang18_muscat", "pbmc3k_clustifyr", "pbmc_10x_3tech_symphony",
    "zheng17_pbmc_donorA_mudan", "zheng17_sorted_mudan",
)  # fmt: skip


def rows_of(report) -> list[tuple[int, int]]:
    return list(zip(report.pairs["a_row"], report.pairs["b_row"], strict=True))


def naive(snapshot: MemorySnapshot) -> list[tuple[int, int]]:
    """Compare every pair of cells on their shared genes, one by one."""
    cells = snapshot.cells
    found = []
    for a, b in itertools.combinations(range(len(cells)), 2):
        names = [cells["dataset_id"].iloc[row] for row in (a, b)]
        shared = sorted(set(snapshot.measured_genes(names[0])) & set(snapshot.measured_genes(names[1])))
        x, y = (snapshot.counts(np.array([row]), shared).toarray() for row in (a, b))
        if (x == y).all() and (x > 0).sum() >= 2 and x.sum() >= 4:
            found.append((a, b))
    return found


def test_copies_between_labs_with_different_genes_are_found_exactly(overlapping):
    report = find_duplicates(overlapping(copies=3))
    assert rows_of(report) == [(0, 6), (1, 7), (2, 8)]
    assert report.pairs["n_shared_genes"].tolist() == [230] * 3
    assert report.pairs["kind"].unique().tolist() == ["identical"]
    assert (report.n_tested, report.not_testable) == (12, {})
    (finding,) = report.findings
    assert (finding.code, finding.n_affected, finding.n_total) == ("W-DUP-01", 6, 12)
    assert finding.examples[0] == "a:cell0 = b:cell0"
    assert duplicate_table(report)["n_pairs"].tolist() == [3]


def test_a_clean_atlas_has_no_pairs_and_no_findings(overlapping):
    report = find_duplicates(overlapping(copies=0))
    assert report.pairs.empty
    assert report.findings == ()
    assert duplicate_table(report).empty


def test_one_count_of_difference_is_not_identical(overlapping):
    snapshot = overlapping(copies=1)
    matrix = snapshot.matrices["b"]
    matrix.data[0] += 1  # the first stored gene of cell 0: the last gene, measured by b only, or a shared one
    shared = matrix.indices[0] >= 50
    assert len(find_duplicates(snapshot).pairs) == (0 if shared else 1)
    matrix.data[matrix.indptr[1] - 1] += 1  # the last stored gene of b is a shared one
    assert find_duplicates(snapshot).pairs.empty


def test_copies_inside_a_data_set_are_found():
    counts = np.random.default_rng(3).poisson(2.5, size=(5, 300))
    counts[4] = counts[1]
    genes = {"a": tuple(f"G{n}" for n in range(300))}
    cells = pd.DataFrame({"dataset_id": ["a"] * 5})
    assert rows_of(find_duplicates(memory_snapshot(cells, {"a": csr_matrix(counts)}, genes=genes))) == [(1, 4)]


@pytest.mark.parametrize("cause", ["few genes", "few counts"])
def test_cells_with_too_little_left_are_counted_and_not_called_clean(cause):
    counts = np.zeros((2, 400), dtype=np.int64)
    counts[:, : 99 if cause == "few genes" else 150] = 50 if cause == "few genes" else 1
    genes = {name: tuple(f"G{n}" for n in range(400)) for name in "ab"}
    matrices = {name: csr_matrix(counts) for name in "ab"}
    cells = pd.DataFrame({"dataset_id": ["a", "a", "b", "b"]})
    report = find_duplicates(memory_snapshot(cells, matrices, genes=genes))
    assert report.pairs.empty
    assert report.not_testable == {"a|a": 2, "a|b": 4, "b|b": 2}
    assert report.n_tested == 0
    assert [finding.code for finding in report.findings] == ["N-DUP-02"]


def test_equal_hashes_only_nominate(overlapping, monkeypatch):
    def weak(counts, gene_hashes):
        return np.zeros(counts.nnz, dtype=np.uint64)

    monkeypatch.setattr(duplicates_module, "additive_hash", weak)
    assert rows_of(find_duplicates(overlapping(copies=3))) == [(0, 6), (1, 7), (2, 8)]


def test_many_clones_are_listed_as_a_star_that_still_connects_them():
    counts = np.repeat(np.random.default_rng(4).poisson(2.5, size=(1, 300)), 80, axis=0)
    genes = {"a": tuple(f"G{n}" for n in range(300))}
    cells = pd.DataFrame({"dataset_id": ["a"] * 80})
    pairs = find_duplicates(memory_snapshot(cells, {"a": csr_matrix(counts)}, genes=genes)).pairs
    assert len(pairs) == 79
    assert set(pairs["a_row"]) == {0}


@settings(max_examples=40, deadline=None)
@given(
    hashes_a=st.lists(st.integers(0, 4), max_size=12),
    hashes_b=st.lists(st.integers(0, 4), max_size=12),
)
def test_equal_hashes_are_joined_as_comparing_every_pair_would(hashes_a, hashes_b):
    sides = [
        (np.arange(len(values)) + start, np.array(values, dtype=np.uint64))
        for start, values in ((0, hashes_a), (100, hashes_b))
    ]
    expected = [[a, 100 + b] for a, x in enumerate(hashes_a) for b, y in enumerate(hashes_b) if x == y]
    assert duplicates_module._equal_hashes(*sides).tolist() == expected


class Tableless(MemorySnapshot):
    """A snapshot in memory whose table of cells no audit may ask for."""

    def __init__(self, plain: MemorySnapshot) -> None:
        super().__init__(**{part.name: getattr(plain, part.name) for part in dataclasses.fields(plain)})

    def __getattribute__(self, name):
        asks = sys._getframe(1).f_globals["__name__"]
        assert name != "cells" or not asks.startswith("cytolabe.audit"), "the table of cells was asked for"
        return super().__getattribute__(name)


def test_a_clean_atlas_is_searched_without_its_table_of_cells(overlapping):
    assert find_duplicates(Tableless(overlapping(copies=0))).n_tested == 12
    with pytest.raises(AssertionError, match="was asked for"):
        find_duplicates(Tableless(overlapping(copies=1)))


def test_without_any_gene_all_empty_cells_would_be_equal(overlapping):
    with pytest.raises(UsageError, match="min_shared_nonzero is 0"):
        find_duplicates(overlapping(), min_shared_nonzero=0)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_pairs_agree_with_comparing_every_pair_of_cells(data):
    genes = tuple(f"G{n}" for n in range(6))
    names, matrices = {}, {}
    for name in "abc":
        names[name] = tuple(data.draw(st.permutations(genes))[: data.draw(st.integers(2, 6))])
        size = data.draw(st.integers(1, 4))
        rows = st.lists(st.integers(0, 2), min_size=len(names[name]), max_size=len(names[name]))
        matrices[name] = csr_matrix(np.array(data.draw(st.lists(rows, min_size=size, max_size=size)), dtype=np.int64))
    cells = pd.DataFrame({"dataset_id": [name for name in "abc" for _ in range(matrices[name].shape[0])]})
    snapshot = memory_snapshot(cells, matrices, genes=names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates_module, "MIN_SHARED_COUNTS", 4)
        report = find_duplicates(snapshot, min_shared_nonzero=2)
    assert rows_of(report) == naive(snapshot)


class Sketched(MemorySnapshot):
    """A snapshot in memory with sketches, that writes down which counts are read; some data sets may have none."""

    def __init__(self, plain: MemorySnapshot, without: tuple[str, ...] = ()) -> None:
        super().__init__(**{part.name: getattr(plain, part.name) for part in dataclasses.fields(plain)})
        object.__setattr__(self, "without", without)
        object.__setattr__(self, "read", set())

    def sketches(self, dataset_id: str) -> CellSketches | None:
        rows = np.flatnonzero(self.cells["dataset_id"] == dataset_id)
        genes = self.measured_genes(dataset_id)
        return None if dataset_id in self.without else sketched(super().counts(rows, genes), genes)

    def counts(self, rows, genes):
        self.read.update(rows.tolist())
        return super().counts(rows, genes)


def same_report(one: DuplicateReport, other: DuplicateReport) -> None:
    pd.testing.assert_frame_equal(one.pairs, other.pairs)
    pd.testing.assert_frame_equal(one.comparisons, other.comparisons)
    assert (one.n_tested, one.not_testable, one.findings) == (other.n_tested, other.not_testable, other.findings)
    assert {key: rows.tolist() for key, rows in one.testable.items()} == {
        key: rows.tolist() for key, rows in other.testable.items()
    }


def labs(rng, *, kept=(0.9, 0.8), n_genes=3_000, n_cells=200, copies=(3, 50)):
    """Labs that measure other genes; cells `copies` of each are the same cells."""
    genes = [f"ENSG{number:011d}" for number in range(n_genes)]
    common = rng.poisson(0.8, size=(n_cells, n_genes)) * rng.integers(1, 4, size=n_genes)
    names, matrices = {}, {}
    for name, share in zip("abc", kept, strict=False):
        chosen = rng.permutation(n_genes)[: int(share * n_genes)]
        own = rng.poisson(0.8, size=(n_cells, n_genes)) * rng.integers(1, 4, size=n_genes)
        own[list(copies)] = common[list(copies)]
        names[name], matrices[name] = tuple(genes[place] for place in chosen), csr_matrix(own[:, chosen])
    cells = pd.DataFrame({"dataset_id": np.repeat(list(names), n_cells)})
    return memory_snapshot(cells, matrices, genes=names)


def test_no_counts_are_read_of_cells_that_are_not_nominated():
    snapshot = Sketched(labs(np.random.default_rng(5)))
    report = find_duplicates(snapshot)
    assert rows_of(report) == [(3, 203), (50, 250)]
    assert report.n_tested == 400
    assert snapshot.read == {3, 50, 203, 250}


def test_a_cell_whose_totals_leave_it_open_is_read():
    plain = labs(np.random.default_rng(6), kept=(1.0, 0.5))
    snapshot = Sketched(plain)
    report = find_duplicates(snapshot, min_shared_nonzero=700)
    same_report(report, find_duplicates(plain, min_shared_nonzero=700))
    assert report.n_tested > 0
    assert len(snapshot.read) > 150


@pytest.mark.parametrize("without", [(), ("a",), ("a", "c"), ("a", "b", "c")])
def test_sketches_change_nothing_of_what_is_found(without):
    plain = labs(np.random.default_rng(7), kept=(0.9, 0.5, 0.05), n_cells=60, copies=(3, 4, 5, 59))
    expected = find_duplicates(plain, min_shared_nonzero=20)
    assert len(expected.pairs) >= 4
    same_report(find_duplicates(Sketched(plain, without), min_shared_nonzero=20), expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), least=st.integers(1, 8))
def test_sketches_change_nothing_in_small_labs_full_of_ties(seed, least):
    rng = np.random.default_rng(seed)
    n_genes = int(rng.choice([6, 40, 90]))
    genes = [f"ENSG{number:011d}" for number in range(n_genes)]
    names, matrices = {}, {}
    base = rng.poisson(rng.choice([0.2, 1.0, 3.0]), size=(5, n_genes))
    for name in "abc":
        chosen = rng.permutation(n_genes)[: rng.integers(2, n_genes + 1)]
        own = base[rng.integers(0, 5, size=rng.integers(1, 9))] * (rng.random(n_genes) < rng.choice([0.5, 0.95, 1.0]))
        names[name], matrices[name] = tuple(genes[place] for place in chosen), csr_matrix(own[:, chosen])
    cells = pd.DataFrame({"dataset_id": [name for name in "abc" for _ in range(matrices[name].shape[0])]})
    plain = memory_snapshot(cells, matrices, genes=names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates_module, "MIN_SHARED_COUNTS", int(rng.integers(1, 40)))
        patch.setattr(nominations, "_HELD_CELLS", int(rng.choice([0, 100])))
        expected = find_duplicates(plain, min_shared_nonzero=least)
        same_report(find_duplicates(Sketched(plain), min_shared_nonzero=least), expected)
        pd.testing.assert_frame_equal(identical_pairs(Sketched(plain), min_shared_nonzero=least), expected.pairs)


def test_the_sketches_of_the_real_files_find_the_same_cells(real_pbmc, real_report):
    snapshot = Sketched(real_pbmc)
    same_report(find_duplicates(snapshot), real_report)
    # Who could be tested needs most counts of files that share few genes; the pairs need few.
    snapshot.read.clear()
    pd.testing.assert_frame_equal(identical_pairs(snapshot), real_report.pairs)
    assert len(snapshot.read) < len(real_pbmc.cells) // 4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_hash_of_a_cell_does_not_depend_on_the_order_of_its_genes(seed):
    rng = np.random.default_rng(seed)
    counts = csr_matrix(rng.poisson(1.0, size=(1, 30)))
    hashes = rng.integers(0, 2**63, size=30).astype(np.uint64)
    order = rng.permutation(30)
    plain = np.sum(additive_hash(counts, hashes), dtype=np.uint64)
    assert plain == np.sum(additive_hash(csr_matrix(counts[:, order]), hashes[order]), dtype=np.uint64)


@pytest.fixture(scope="module")
def real_pbmc() -> MemorySnapshot:
    """The six PBMC files over symbols."""
    if not DATA.is_dir():
        pytest.skip("the real files of ../shared/data are not here")
    matrices, genes, tables = {}, {}, []
    for name in PBMC:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = anndata.read_h5ad(DATA / f"{name}.h5ad")
        symbols = [re.sub(r"_ENSG\d+$", "", gene) for gene in adata.var_names]
        counted = collections.Counter(symbols)
        kept = [number for number, symbol in enumerate(symbols) if counted[symbol] == 1]
        matrices[name] = csr_matrix(csr_matrix(adata.X)[:, kept], dtype=np.int64)
        genes[name] = tuple(symbols[number] for number in kept)
        labels = adata.obs.get("cell_type_author", pd.Series("unknown", index=adata.obs_names)).astype(str)
        tables.append(pd.DataFrame({
            "dataset_id": name,
            "study": name if name.startswith("pbmc") else name.split("_")[0],
            "cell_id": [f"{name}:{cell}" for cell in adata.obs_names],
            "row": np.arange(adata.n_obs),
            "contributor_label": labels.replace("unknown", "").to_numpy(),
            "batch": adata.obs["batch"].astype(str).to_numpy() if "batch" in adata.obs else name,
        }))  # fmt: skip
    cells = pd.concat(tables, ignore_index=True)
    return memory_snapshot(cells, matrices, genes=genes)


@pytest.fixture(scope="module")
def real_report(real_pbmc: MemorySnapshot) -> DuplicateReport:
    return find_duplicates(real_pbmc)


def test_the_two_kang_files_share_114_cells_and_no_other_pbmc_files_any(real_report):
    assert len(real_report.pairs) == 114
    assert set(real_report.pairs["dataset_a"]) == {"kang18_harmony_stim_ctrl"}
    assert set(real_report.pairs["dataset_b"]) == {"kang18_muscat"}
    barcodes = [[x.split(":")[1].split("_")[-1] for x in real_report.pairs[column]] for column in ("cell_a", "cell_b")]
    assert barcodes[0] == barcodes[1]


def test_the_pbmc_study_has_three_components_and_none_leaks(real_pbmc, real_report):
    links = [Link("pbmc3k_clustifyr", "pbmc_10x_3tech_symphony", "the donor of the 3' v1 run is not told apart")]
    split = leave_one_group_out(real_pbmc, links=links, duplicates=real_report.pairs)
    assert [fold.split_id for fold in split.folds] == [
        "component=kang18", "component=pbmc3k_clustifyr+pbmc_10x_3tech_symphony", "component=zheng17",
    ]  # fmt: skip
    assert {fold.status for fold in split.folds} == {"QUALIFIED"}
    assert audit_split(real_pbmc, split, duplicates=real_report) == ()


def test_the_second_kang_file_alone_has_no_clean_test_cell(real_pbmc, real_report):
    folds = leave_one_group_out(real_pbmc, by=("dataset",)).folds
    (alone,) = [fold for fold in folds if fold.split_id == "dataset=kang18_harmony_stim_ctrl"]
    audit = audit_fold(real_pbmc, alone, duplicates=real_report)
    assert (audit.status, audit.n_clean_labelled) == (ScoreStatus.REFUSED, 0)
    assert {"E-LEAK-02", "E-LEAK-05"} <= {finding.code for finding in audit.findings}


def test_zheng_sorted_is_refused_within_and_scored_whole(real_pbmc):
    cells = real_pbmc.cells
    names = cells["dataset_id"].to_numpy(dtype=object)
    # The words of two labs differ; what counts here is that training names the nine types and crosses them.
    labels = np.where(names == "zheng17_sorted_mudan", cells["contributor_label"], "")
    own = np.flatnonzero(names == "zheng17_sorted_mudan")
    within = cell_type_claim(cells, labels, train_rows=own[::2], test_rows=own[1::2])
    assert within.status is ScoreStatus.REFUSED
    reference = np.flatnonzero(names == "pbmc3k_clustifyr")
    types = sorted(set(labels[own]))
    labels[reference] = [types[number % len(types)] for number in range(len(reference))]
    whole = cell_type_claim(cells, labels, train_rows=reference, test_rows=own)
    assert (whole.status, whole.notes) == (ScoreStatus.SCORED, ("test batches equal labels",))
