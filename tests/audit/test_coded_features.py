"""A code among the genes is told from a marker by its lack of noise, whatever is coded and on which side."""

import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.audit.coded_features import CODED, coded_features
from cytolabe.audit.leakage import audit_fold
from cytolabe.records import Fold, ScoreStatus
from cytolabe.testing.memory import MemorySnapshot, memory_snapshot

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"
SIZES = {"a": 150, "b": 150}
GENES = tuple(f"G{n:03d}" for n in range(60))
CODE = 17
"""Place of the gene that is overwritten."""
LABELS = np.tile(["B cell", "T cell", "NK cell"], 100)
DONORS = np.repeat([f"d{n}" for n in range(6)], 50)
WHOLE_B = Fold(
    split_id="planted", held_out="dataset", groups_train=("a",), groups_test=("b",),
    train_rows=np.arange(150), test_rows=np.arange(150, 300),
)  # fmt: skip


def atlas(column: np.ndarray | None = None, seed: int = 1, **columns: object) -> MemorySnapshot:
    """Two labs of three labels each with strong markers (mean 30 in one label, 0 elsewhere), and one gene overwritten."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.7, 2.0, size=(300, len(GENES)))
    # Markers as clean as biology has them: depth varies, and single molecules of burst cells are everywhere.
    depth = rng.lognormal(0, 0.3, size=300)
    for place, label in enumerate(("B cell", "T cell", "NK cell")):
        rates[:, place] = np.where(label == LABELS, 30 * depth, 0.05)
    counts = rng.poisson(rates)
    if column is not None:
        counts[:, CODE] = column
    cells = pd.DataFrame({"dataset_id": np.repeat(list(SIZES), 150), "contributor_label": LABELS, "donor_id": DONORS})
    parts = {"a": csr_matrix(counts[:150]), "b": csr_matrix(counts[150:])}
    return memory_snapshot(cells.assign(**columns), parts, genes=dict.fromkeys(SIZES, GENES))


def codes(outcome) -> list[str]:
    return [finding.code for finding in outcome.findings]


CLASS = np.tile([1, 2, 3], 100)
IN_TEST = np.arange(300) >= 150


def test_markers_however_strong_are_no_code():
    for seed in range(20):
        outcome = coded_features(atlas(seed=seed), WHOLE_B)
        assert (codes(outcome), outcome.test["n_tested"], outcome.test["n_found"]) == ([], 60, 0)


@pytest.mark.parametrize(
    "column",
    [CLASS, np.where(CLASS == 2, 1, 0), 100 * CLASS, CLASS + 10 * IN_TEST, np.where(CLASS == 1, 5, CLASS % 2)],
    ids=["a number per label", "one label alone", "large numbers", "other numbers on the test side", "two alike"],
)
def test_a_code_of_the_label_on_both_sides_refuses_the_fold_and_names_cells_of_both(column):
    audit = audit_fold(atlas(column), WHOLE_B, duplicates=None)
    assert "E-LEAK-08" in codes(audit)
    assert audit.status is ScoreStatus.REFUSED
    (finding,) = [finding for finding in audit.findings if finding.code == "E-LEAK-08"]
    assert (finding.where, finding.n_affected, finding.n_total) == ("a, b", 1, 60)
    assert finding.examples[0].startswith("G017: train a:cell")
    assert "test b:cell" in finding.examples[0]
    (test,) = [test for test in audit.tests if test["test"] == CODED]
    assert test["n_found"] == 1


def test_a_code_that_a_twentieth_of_the_cells_lost_is_still_found():
    damaged = np.where(np.random.default_rng(5).random(300) < 0.05, 0, CLASS)
    assert codes(coded_features(atlas(damaged), WHOLE_B)) == ["E-LEAK-08"]


@pytest.mark.parametrize("side", [IN_TEST, ~IN_TEST])
def test_a_code_of_the_label_on_one_side_is_a_warning(side):
    noise = np.random.default_rng(6).poisson(2, size=300)
    outcome = coded_features(atlas(np.where(side, CLASS, noise)), WHOLE_B)
    assert (codes(outcome), outcome.test["n_found"], outcome.test["n_on_one_side"]) == (["W-LEAK-08"], 0, 1)


def test_a_code_of_the_person_and_of_the_side_are_warnings_of_their_own():
    person = coded_features(atlas(np.repeat(np.arange(1, 7), 50)), WHOLE_B)
    assert (codes(person), person.test["n_of_persons"], person.test["n_of_sides"]) == (["W-LEAK-08"], 1, 0)
    side = coded_features(atlas(np.where(IN_TEST, 2, 1)), WHOLE_B)
    assert (codes(side), side.test["n_of_persons"], side.test["n_of_sides"]) == (["W-LEAK-08"], 0, 1)
    assert "all cells" in side.findings[0].examples[0]
    assert "in all cells of one side of the fold (and not that one on the other side)" in side.findings[0].message


def test_a_column_of_one_number_tells_nothing():
    assert codes(coded_features(atlas(np.full(300, 7)), WHOLE_B)) == []


@pytest.mark.parametrize(
    ("share", "found"), [(0.88, []), (0.6, []), (0.4, ["E-LEAK-08"])], ids=["nearly constant", "most cells", "fewer than half"]
)  # fmt: skip
def test_one_value_in_92_percent_of_a_label_is_a_code_only_where_another_label_mostly_lacks_it(share, found):
    noise = np.random.default_rng(8).poisson(3, size=300) + 1
    column = np.full(300, 7)
    for label, own in ((1, 0.92), (2, share), (3, share)):
        for rows in (np.flatnonzero((label == CLASS) & side) for side in (IN_TEST, ~IN_TEST)):
            others = np.random.default_rng(9).permutation(rows)[round(own * len(rows)) :]
            column[others] = noise[others]
    assert codes(coded_features(atlas(column), WHOLE_B)) == found


def test_sides_that_cut_through_a_data_set_are_compared_too():
    fold = Fold(
        split_id="cells", held_out="cells", groups_train=(), groups_test=(), train_rows=np.arange(0, 300, 2),
        test_rows=np.arange(1, 300, 2),
    )  # fmt: skip
    assert codes(coded_features(atlas(np.tile([4, 9], 150)), fold)) == ["W-LEAK-08"]


def test_a_tag_that_only_one_label_has_is_suspected_where_both_sides_agree():
    rng = np.random.default_rng(7)
    tag = np.where(CLASS == 3, 40 + rng.poisson(30, size=300), 0)
    outcome = coded_features(atlas(tag), WHOLE_B)
    assert (codes(outcome), outcome.test["n_switches"]) == (["W-LEAK-09"], 1)
    assert outcome.findings[0].examples == ("G017",)
    assert codes(coded_features(atlas(np.where(IN_TEST, rng.poisson(3, size=300), tag)), WHOLE_B)) == []


def test_labels_with_few_cells_are_counted_and_not_called_clean():
    labels = np.array([*LABELS[:290], *(f"rare {n}" for n in range(10))])
    outcome = coded_features(atlas(CLASS, contributor_label=labels), WHOLE_B)
    assert outcome.not_testable == {"genes that hold a code, cells of small labels": 10}
    assert codes(coded_features(atlas(CLASS, contributor_label=""), WHOLE_B)) == []


def test_cells_without_a_label_of_their_contributor_are_grouped_by_their_term():
    terms = np.array(["CL:0000236", "CL:0000084", "CL:0000623"])[CLASS - 1]
    snapshot = atlas(CLASS, contributor_label="", cell_type_ontology_term_id=terms)
    assert codes(coded_features(snapshot, WHOLE_B)) == ["E-LEAK-08"]


@pytest.mark.parametrize(
    "name", ["kang18_muscat", "pbmc3k_clustifyr", "zheng17_sorted_mudan", "kolodziejczyk15_mesc_scmerge"]
)
def test_no_gene_of_a_real_file_is_a_code_and_one_that_is_planted_is(name):
    if not DATA.is_dir():
        pytest.skip("the real files of ../shared/data are not here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = anndata.read_h5ad(DATA / f"{name}.h5ad")
    labels = adata.obs["cell_type_author"].astype(str).to_numpy()
    counts = csr_matrix(adata.X).astype(np.int64)
    genes = tuple(f"G{n}" for n in range(adata.n_vars))
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = np.sort(order[::2]), np.sort(order[1::2])
    fold = Fold(split_id="halves", held_out="cells", groups_train=(), groups_test=(), train_rows=train, test_rows=test)
    cells = pd.DataFrame({"dataset_id": name, "contributor_label": labels})
    assert codes(coded_features(memory_snapshot(cells, {name: counts}, genes={name: genes}), fold)) == []
    lil = counts.tolil()
    lil[:, 11] = (np.unique(labels, return_inverse=True)[1] + 1).reshape(-1, 1)
    planted = memory_snapshot(cells, {name: csr_matrix(lil)}, genes={name: genes})
    assert codes(coded_features(planted, fold)) == ["E-LEAK-08"]
