"""Equal barcodes are a suspicion where there are more of them than lists of barcodes give by chance."""

import pathlib

import anndata
import numpy as np
import pandas as pd
import pytest

from cytolabe.audit import verifier
from cytolabe.audit.barcodes import SMALLEST_LIST, barcodes_of, shared_barcodes
from cytolabe.records import Fold, Severity

DATA = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"


def drawn(rng, n: int) -> list[str]:
    """Draw barcodes from a list of as many as the shortest that is published: 14 bases, numbered by multiples."""
    numbers = rng.choice(SMALLEST_LIST, size=n, replace=False) * 364
    return ["".join("ACGT"[number >> shift & 3] for shift in range(26, -2, -2)) for number in numbers.tolist()]


def table(names: dict[str, list[str]]) -> tuple[pd.DataFrame, Fold]:
    cells = pd.DataFrame({
        "dataset_id": [name for name, own in names.items() for _ in own],
        "cell_id": [f"{name}:{cell}" for name, own in names.items() for cell in own],
    })  # fmt: skip
    first = len(next(iter(names.values())))
    fold = Fold(
        split_id="x", held_out="dataset", groups_train=(), groups_test=(), train_rows=np.arange(first),
        test_rows=np.arange(first, len(cells)),
    )  # fmt: skip
    return cells, fold


def test_a_barcode_is_read_out_of_names_as_labs_write_them():
    names = pd.Series(
        ["a:AAACCTGAGAAACCAT-1", "a:sample1_AAACCTGAGAAACCAT", "a:AAACATACAACCAC", "a:plate3_well7", "b:CAT"]
    )
    assert barcodes_of(names).tolist() == ["AAACCTGAGAAACCAT"] * 2 + ["AAACATACAACCAC", "", ""]


@pytest.mark.parametrize("seed", range(5))
def test_what_two_libraries_of_one_list_share_by_chance_is_no_finding(seed):
    rng = np.random.default_rng(seed)
    outcome = shared_barcodes(*table({"a": drawn(rng, 3_000), "b": drawn(rng, 3_000)}))
    (pair,) = outcome.test["pairs"]
    assert 2 <= pair["shared"] <= 30
    assert pair["by_chance"] == pytest.approx(12.2)
    assert outcome.findings == ()


def test_a_library_that_stands_in_two_data_sets_is_suspected_and_nothing_more():
    rng = np.random.default_rng(1)
    own = drawn(rng, 2_000)
    outcome = shared_barcodes(*table({"a": own, "b": own[:60] + drawn(rng, 2_000)}))
    (finding,) = outcome.findings
    assert (finding.code, finding.severity) == ("W-LEAK-07", Severity.WARNING)
    assert finding.n_affected >= 60
    assert finding.examples[0] in own


def test_a_tenth_more_than_chance_in_large_libraries_is_no_finding():
    # The same list, of which a tenth is never used.
    rng = np.random.default_rng(3)
    used = drawn(rng, int(0.9 * SMALLEST_LIST))
    sides = [[used[n] for n in rng.choice(len(used), 20_000, replace=False)] for _ in range(2)]
    outcome = shared_barcodes(*table({"a": sides[0], "b": sides[1]}))
    (pair,) = outcome.test["pairs"]
    assert pair["shared"] > 1.05 * pair["by_chance"]
    assert outcome.findings == ()


def test_cells_without_a_barcode_in_their_name_are_counted():
    outcome = shared_barcodes(*table({"a": ["AAACATACAACCAC"], "b": ["well1", "well2", "AAACATACAACCAC"]}))
    assert (outcome.test["n_tested"], outcome.test["n_without"]) == (1, 2)


def test_the_verifier_counts_the_same(tmp_path):
    rng = np.random.default_rng(2)
    own = drawn(rng, 300)
    cells, fold = table({"a": own, "b": own[:20] + drawn(rng, 50) + ["well1"]})
    test = shared_barcodes(cells, fold).test
    again = verifier.barcodes(
        verifier.Fold(cells.to_dict("records"), fold.train_rows.tolist(), fold.test_rows.tolist())
    )
    assert again == {key: test[key] for key in again}


def test_the_two_kang_files_are_suspected_and_unrelated_files_of_one_chemistry_are_not():
    if not DATA.is_dir():
        pytest.skip("the real files of ../shared/data are not here")
    names = {
        name: anndata.read_h5ad(DATA / f"{name}.h5ad", backed="r").obs_names.tolist()
        for name in ("kang18_harmony_stim_ctrl", "kang18_muscat", "zheng17_pbmc_donorA_mudan", "zheng17_sorted_mudan")
    }
    outcome = shared_barcodes(*table(names))
    assert [finding.where for finding in outcome.findings] == ["kang18_harmony_stim_ctrl and kang18_muscat"]
    assert {pair["test"]: pair["shared"] for pair in outcome.test["pairs"]}["kang18_muscat"] >= 114
