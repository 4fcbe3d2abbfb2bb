"""Refusal belongs to (claim, train, test): the same cells may be refused one way and scored another."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.audit.claims import cell_type_claim, donor_claim
from cytolabe.records import ScoreStatus
from cytolabe.snapshot.view import CELL_COLUMNS


def cells_of(rows: list[dict[str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for column in CELL_COLUMNS:
        if column not in frame:
            frame[column] = "unknown"
    frame["person_state"] = np.where(frame["person_id"] == "unknown", "unknown", "resolved")
    return frame


def verdict(rows: list[dict[str, str]], in_test: list[bool]):
    cells = cells_of(rows)
    test = np.array(in_test)
    labels = cells["contributor_label"].to_numpy(dtype=object)
    return cell_type_claim(cells, labels, train_rows=np.flatnonzero(~test), test_rows=np.flatnonzero(test))


def library(dataset_id: str, batch: str, labels: str | list[str], *, tissue: str = "blood") -> list[dict[str, str]]:
    return [{"dataset_id": dataset_id, "batch": batch, "contributor_label": x, "tissue": tissue} for x in labels]


SORTED = [cell for label in "abcdefghi" for cell in library("zheng17_sorted", label, label * 4)]
REFERENCE = [cell for batch in ("r1", "r2") for cell in library("reference", batch, "abcdefghi")]


def test_a_split_within_sorted_populations_is_refused():
    found = verdict(SORTED, [number % 4 == 0 for number in range(len(SORTED))])
    assert found.status is ScoreStatus.REFUSED
    assert found.reason.startswith("9 label(s) never share a library")


def test_sorted_populations_held_out_whole_are_scored_with_a_note():
    found = verdict(REFERENCE + SORTED, [False] * len(REFERENCE) + [True] * len(SORTED))
    assert found.status is ScoreStatus.SCORED
    assert "test batches equal labels" in found.notes


def test_a_crossed_design_passes_within_its_libraries():
    rows = library("d", "b1", "abab") + library("d", "b2", "abab")
    found = verdict(rows, [number % 4 < 2 for number in range(len(rows))])
    assert (found.status, found.notes) == (ScoreStatus.SCORED, ())


MULTI_TISSUE = [
    cell
    for donor in ("1", "2")
    for cell in library("lung", f"l{donor}", "abab", tissue="lung") + library("gut", f"g{donor}", "cdcd", tissue="gut")
]


def test_tissue_specific_types_of_held_out_donors_are_scored():
    found = verdict(MULTI_TISSUE, [cell["batch"].endswith("2") for cell in MULTI_TISSUE])
    assert found.status is ScoreStatus.SCORED
    assert found.notes == ("training labels fall into 2 groups that never share a library",)


def test_tissue_specific_types_within_libraries_are_qualified_not_refused():
    found = verdict(MULTI_TISSUE, [number % 4 < 2 for number in range(len(MULTI_TISSUE))])
    assert found.status is ScoreStatus.QUALIFIED


def test_groups_of_labels_in_one_tissue_are_refused():
    rows = library("d", "b1", "ababab") + library("d", "b2", "cdcdcd")
    assert verdict(rows, [number % 6 < 2 for number in range(len(rows))]).status is ScoreStatus.REFUSED


def test_the_library_of_a_label_in_training_may_stay_unlabelled_and_still_leaks():
    rows = library("d", "b1", "ab") + library("d", "b2", "a") + library("d", "b3", "c")
    rows += library("d", "b4", ["", ""]) + library("d", "b4", "c") + library("d", "b1", "a")
    assert verdict(rows, [False] * 6 + [True] * 2).status is ScoreStatus.REFUSED


def test_labels_that_training_never_saw_make_no_claim():
    found = verdict(library("d", "b1", "ab") + library("e", "b2", "xy"), [False] * 2 + [True] * 2)
    assert (found.status, found.reason) == (ScoreStatus.REFUSED, "no test cell has a label that occurs in training")


@settings(max_examples=60, deadline=None)
@given(blocks=st.integers(1, 3), libraries=st.integers(1, 3), labels=st.integers(1, 3), shared=st.booleans())
def test_simulated_designs_are_judged_by_their_known_estimability(*, blocks, libraries, labels, shared):
    """Blocks of labels never meet; inside a block all labels are crossed with all of its libraries."""
    rows = [
        {
            "dataset_id": "d",
            "batch": f"{block}.{lib}.{side if not shared else ''}",
            "contributor_label": f"{block}.{label}",
            "side": side,
        }
        for side in ("train", "test")
        for block in range(blocks)
        for lib in range(libraries)
        for label in range(labels)
    ]
    found = verdict(rows, [row["side"] == "test" for row in rows])
    expected = ScoreStatus.REFUSED if blocks > 1 and shared else ScoreStatus.SCORED
    assert found.status is expected
    assert ("test batches equal labels" in found.notes) == (labels == 1 and blocks > 1)


def donors(pairs: list[tuple[str, str]], *, dataset_id: str = "d", start: int = 0) -> list[dict[str, str]]:
    return [
        {
            "dataset_id": dataset_id,
            "person_id": f"p{start + n}",
            "batch": f"b{start + n}",
            "assay": assay,
            "disease": disease,
        }
        for n, (assay, disease) in enumerate(pairs)
    ]


TEST_DONORS = donors([("v2", "normal"), ("v2", "flu")], dataset_id="d", start=90)


def judged(train: list[dict[str, str]], test: list[dict[str, str]] | None = None):
    test = TEST_DONORS if test is None else test
    cells = cells_of(train + test)
    return donor_claim(
        cells, factor="disease", train_rows=np.arange(len(train)), test_rows=np.arange(len(train), len(cells))
    )


def test_a_disease_that_the_platform_determines_is_refused():
    found = judged(donors([("v2", "normal")] * 5 + [("v3", "flu")] * 5))
    assert found.status is ScoreStatus.REFUSED
    assert "determined by assay" in found.reason


def test_one_donor_of_unknown_platform_does_not_hide_that_the_platform_determines_the_disease():
    found = judged(donors([("v2", "normal")] * 5 + [("v3", "flu")] * 5 + [("unknown", "flu")]))
    assert found.status is ScoreStatus.REFUSED
    assert "determined by assay" in found.reason


@pytest.mark.parametrize(("n_off", "status"), [(1, "QUALIFIED"), (2, "QUALIFIED"), (3, "SCORED")])
def test_fewer_than_three_donors_off_the_diagonal_qualify(n_off, status):
    found = judged(donors([("v2", "normal")] * 5 + [("v3", "flu")] * 5 + [("v3", "normal")] * n_off))
    assert found.status == status


def test_a_crossed_disease_is_scored():
    pairs = [(assay, disease) for assay in ("v2", "v3") for disease in ("normal", "flu")] * 3
    assert judged(donors(pairs)).status is ScoreStatus.SCORED


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ([{"dataset_id": "d", "person_id": "unknown", "disease": x} for x in ("flu", "normal")], "donors unknown"),
        (donors([("v2", "flu")] * 4), "one level of disease"),
        (donors([("v2", "flu"), ("v2", "normal")]) + TEST_DONORS, "2 donor(s) on both sides: p90, p91"),
        (donors([("v2", "flu"), ("v2", "normal")]) + donors([("v2", "normal")]), "varies within 1 donor(s)"),
        (donors([("v2", "unknown")]), "no training cell has a known disease"),
    ],
)
def test_a_donor_claim_without_donors_to_carry_it_is_refused(train, reason):
    found = judged(train)
    assert found.status is ScoreStatus.REFUSED
    assert reason in found.reason


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["normal", "flu"])), min_size=2, max_size=12))
def test_rank_refuses_exactly_the_designs_without_a_mixed_platform(pairs):
    found = judged(donors(pairs))
    mixed = any(len({disease for assay, disease in pairs if assay == name}) > 1 for name in "xyz")
    if len({disease for _, disease in pairs}) < 2 or not mixed:
        assert found.status is ScoreStatus.REFUSED
    else:
        assert found.status is not ScoreStatus.REFUSED
