from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.records import Protocol, ScoreStatus
from cytolabe.report.leaderboard import (
    class_table,
    interval_note,
    leaderboard,
    policy_table,
    resolutions_of,
    sensitivity_table,
    splits_of,
)


def test_macro_f1_is_the_first_number_and_controls_come_first(content):
    table = leaderboard(content, "component=kang18")
    assert [column.heading for column in table.columns[:6]] == [
        "Model",
        "Macro-F1",
        "Macro-F1, rare types",
        "Accuracy",
        "Floor",
        "Ceiling",
    ]
    assert [row[0].text for row in table.rows][:2] == ["majority", "metadata_only"]
    assert [row[0].text for row in table.rows][2:] == sorted(row[0].text for row in table.rows[2:])


def test_order_does_not_follow_the_score(content):
    swapped = [replace(item, value=1 - item.value) if item.value is not None else item for item in content.scores]
    before = [row[0].text for row in leaderboard(content, "component=kang18").rows]
    assert [row[0].text for row in leaderboard(replace(content, scores=swapped), "component=kang18").rows] == before


@pytest.mark.parametrize("status", [ScoreStatus.REFUSED, ScoreStatus.FAILED, ScoreStatus.NOT_RUN])
def test_a_number_that_does_not_exist_is_a_word_and_never_a_zero(content, status, score):
    refused = score(value=None, status=status, reason="because", raw_value=0.93 if status == "REFUSED" else None)
    row = leaderboard(replace(content, scores=[refused]), "component=kang18").rows[0]
    assert row[1].text == status.value
    assert "0.000" not in [cell.text for cell in row]
    assert "because" in row[6].detail


def test_a_refused_number_is_named_as_outside_of_every_aggregate(content, score):
    refused = score(value=None, status=ScoreStatus.REFUSED, reason="confounded", raw_value=0.93)
    row = leaderboard(replace(content, scores=[refused]), "component=kang18").rows[0]
    assert "0.930), outside every aggregate" in row[6].detail


def test_a_score_under_its_floor_is_shown_as_it_is(content, score):
    row = leaderboard(replace(content, scores=[score(value=0.05, floor=0.12)]), "component=kang18").rows[0]
    assert row[1].text == "0.050"
    assert "not above its floor" in row[6].detail


def test_brackets_are_explained_once_per_table(score):
    note = interval_note(
        [
            score(low=0.6, high=0.8, interval="donors of this study, not labs"),
            score(low=0.5, high=0.7, interval="donors of this study, not labs"),
            score(points={"d1": 0.5}),
            score(n_donors=1),
        ]
    )
    assert note.count("donors of this study, not labs") == 1
    assert "Round brackets" in note
    assert "1 number without brackets (at most 1 donor known)" in note


def test_a_table_of_refusals_needs_no_word_on_intervals(score):
    assert "No row has a number" in interval_note([score(value=None, status=ScoreStatus.FAILED)])


def test_classes_under_ten_cells_are_marked(content):
    marked = {row[0].detail: row[1].detail for row in class_table(content, "component=kang18").rows}
    assert marked["CL:0000451"] == "under 10: not in the headline"
    assert marked["CL:0000624"] == ""


def test_gene_policies_stand_side_by_side_with_their_gene_counts(content):
    table = policy_table(content)
    assert [column.heading for column in table.columns] == ["Fold", "Model", "intersection", "pairwise"]
    row = next(row for row in table.rows if row[0].text == "component=symphony" and row[1].text == "pca+knn")
    assert (row[2].detail, row[3].detail) == ("85 genes", "1,176 genes")


def test_the_pooled_row_comes_last_and_unknown_folds_are_kept(content, score):
    extra = [*content.scores, score(split="all folds"), score(split="zz")]
    assert splits_of(replace(content, scores=extra))[-2:] == ("zz", "all folds")
    assert resolutions_of(replace(content, scores=[score(resolution="fine"), *content.scores])) == (
        "broad",
        "mid",
        "fine",
    )


def test_seeds_and_query_composition_are_listed(content, score):
    moved = score(seeds={"0": 0.70, "1": 0.74}, sensitivity={"without T cell": 0.5}, protocol=Protocol.SELF_SUPERVISED)
    rows = sensitivity_table(replace(content, scores=[moved])).rows
    assert [(row[2].text, row[3].text, row[4].text) for row in rows] == [
        ("seed", "0", "0.700"),
        ("seed", "1", "0.740"),
        ("query composition", "without T cell", "0.500"),
    ]


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)))
def test_the_order_of_scores_does_not_matter(order, make_content):
    content = make_content()
    head, tail = list(content.scores[:12]), list(content.scores[12:])
    shuffled = replace(content, scores=[head[position] for position in order] + tail)
    assert leaderboard(shuffled, "component=kang18") == leaderboard(content, "component=kang18")
