from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.evaluate.rare_types import CalledInstead, RareType
from cytolabe.records import Protocol, ScoreStatus
from cytolabe.report.breakdowns import class_table, dataset_table, policy_table, rare_table, sensitivity_table
from cytolabe.report.leaderboard import fold_name, leaderboard, levels_board, resolutions_of, splits_of


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
    assert row[6].detail.startswith("confounded; number kept aside")


def test_a_refused_number_cannot_be_quoted_from_the_table(content, score):
    refused = score(value=None, status=ScoreStatus.REFUSED, reason="confounded", raw_value=0.93)
    table = leaderboard(replace(content, scores=[refused]), "component=kang18")
    assert [text for _, text in table.notes] == [
        "the refused number is kept as raw_value in scores.json, outside every aggregate"
    ]
    assert "0.93" not in str(table)


def test_a_score_under_its_floor_is_shown_as_it_is(content, score):
    row = leaderboard(replace(content, scores=[score(value=0.05, floor=0.12)]), "component=kang18").rows[0]
    assert row[1].text == "0.050"
    assert "not above its floor" in row[6].detail


def test_classes_under_ten_cells_are_marked(content):
    marked = {row[0].detail: row[1].detail for row in class_table(content, "component=kang18").rows}
    assert marked["CL:0000451"] == "under 10: not in the headline"
    assert marked["CL:0000624"] == ""


def rare(term, *, n_right, model="pca+knn", **changes):
    instead = (CalledInstead(term="CL:0000236", name="B cell", n_cells=4),)
    own = {"split": "component=kang18", "gene_policy": "intersection", "resolution": "mid", "n_cells": 6, **changes}
    return RareType(term=term, name=term[3:], model=model, n_right=n_right, called_instead=instead, **own)


def test_rare_types_are_marked_whatever_their_number_of_cells_and_the_mark_is_explained(content):
    marked = replace(content, rare_types=[rare("CL:0000451", n_right=0), rare("CL:0000624", n_right=1)])
    table = class_table(marked, "component=kang18")
    marks = {row[0].detail: row[1].detail for row in table.rows}
    assert marks["CL:0000451"] == "rare; under 10: not in the headline"
    assert marks["CL:0000624"] == "rare"
    assert any(remark.startswith("“rare”: under 5 %") for remark in table.remarks)
    elsewhere = replace(content, rare_types=[rare("CL:0000624", n_right=1, split="component=zheng17")])
    plain = class_table(elsewhere, "component=kang18")
    assert not any("rare" in row[1].detail for row in plain.rows)
    assert not any("rare" in remark for remark in plain.remarks)


def test_the_list_of_rare_types_says_what_they_were_called_and_marks_those_with_none_right(content, score):
    control = score(model="random", protocol=Protocol.CONTROL)
    found = [
        rare("CL:0000624", n_right=2), rare("CL:0000451", n_right=0), rare("CL:0000451", n_right=0, model="random"),
        rare("CL:0000451", n_right=0, split="component=zheng17"),
    ]  # fmt: skip
    table = rare_table(replace(content, rare_types=found, scores=[*content.scores, control]), "component=kang18")
    first, second = table.rows
    assert [cell.text for cell in first] == ["0000451", "pca+knn", "6", "0.000", "B cell 4"]
    assert (first[3].tone, first[3].detail) == ("bad", "none right")
    assert (second[3].text, second[3].tone, second[3].detail) == ("0.333", "", "")


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


def test_query_composition_is_told_in_words_and_in_order(content, score):
    moved = score(sensitivity={"after": 0.5, "before": 0.7, "difference": -0.2})
    rows = sensitivity_table(replace(content, scores=[moved])).rows
    assert [row[4].text for row in rows] == ["0.700", "0.500", "\N{MINUS SIGN}0.200"]
    assert rows[1][3].text == "the query without its commonest type"


def test_sizes_that_all_rows_share_stand_once_in_the_caption(content, score):
    table = leaderboard(replace(content, scores=[score(model="a"), score(model="b")]), "component=kang18")
    assert table.caption.endswith("13,548 cells · 8 donors · 512 genes (intersection)")
    assert table.columns[-1].heading == "Status"
    differing = replace(content, scores=[score(model="a"), score(model="b", n_cells=9)])
    table = leaderboard(differing, "component=kang18")
    assert table.columns[-1].heading == "Cells"
    assert [row[-1].text for row in table.rows] == ["13,548", "9"]


def test_a_fold_that_is_refused_for_one_reason_is_one_row(content, score):
    reason = "the test side has no labelled cell; no clean labelled test cell"
    refused = [score(model=name, value=None, status=ScoreStatus.REFUSED, reason=reason) for name in "abc"]
    table = leaderboard(replace(content, scores=refused), "component=kang18")
    assert [row[0].text for row in table.rows] == ["all 3 models"]
    assert table.remarks[0] == f"No number: {reason}."


def test_a_stratum_without_numbers_is_a_dash_and_a_sentence(content, score):
    scores = [
        score(),
        score(stratum="rare", value=None, status=ScoreStatus.NOT_RUN, reason="not_applicable: no class is rare here"),
    ]
    table = leaderboard(replace(content, scores=scores), "component=kang18")
    assert table.rows[0][2].text == "\N{EN DASH}"
    assert "No macro-F1 of rare types: no class is rare here." in table.remarks


def test_a_leaky_ceiling_says_so_where_it_stands(content, score):
    leaky = score(notes=("ceiling leaky: by cell, one person",))
    table = leaderboard(replace(content, scores=[leaky]), "component=kang18")
    assert table.rows[0][5].detail == "leaky"
    assert any(text.startswith("leaky: ") for text in table.remarks)


def test_every_level_stands_in_one_table(content):
    table = levels_board(content, "component=kang18")
    assert [column.heading for column in table.columns] == ["Model", "broad (4 types)", "mid (7 types)"]
    row = next(row for row in table.rows if row[0].text == "harmony+logistic")
    assert [cell.text for cell in row[1:]] == ["0.840", "0.740"]


def test_one_held_out_data_set_needs_no_table_of_its_own(content, score):
    one = score(stratum="dataset:a", n_cells=5)
    assert dataset_table(replace(content, scores=[one]), "component=kang18").rows == ()
    other = score(stratum="dataset:b", value=None, status=ScoreStatus.REFUSED, reason="its labels are copies; and more")
    table = dataset_table(replace(content, scores=[one, other]), "component=kang18")
    assert [column.heading for column in table.columns] == ["Model", "a (5 cells)", "b (13,548 cells)"]
    assert [(cell.text, cell.detail) for cell in table.rows[0][2:]] == [("REFUSED", "its labels are copies; and more")]


def test_a_model_without_numbers_is_named_below_the_table_of_types(content, score):
    scores = [
        score(metric="f1", stratum="class:CL:0000236"),
        score(metric="f1", stratum="class:CL:0000236", model="scvi", value=None, status=ScoreStatus.NOT_RUN),
    ]
    table = class_table(replace(content, scores=scores), "component=kang18")
    assert [column.heading for column in table.columns] == ["Cell type", "Test cells", "pca+logistic"]
    assert table.remarks[-1] == "Without a number, so without a column: scvi."


def test_one_gene_policy_needs_no_comparison(content, score):
    assert policy_table(replace(content, scores=[score()])).rows == ()


@pytest.mark.parametrize(
    ("split", "name"),
    [("component=amber+elm", "amber + elm"), ("all folds", "all folds"), ("component=", "component=")],
)
def test_a_fold_is_called_by_what_it_holds_out(split, name):
    assert fold_name(split) == name


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)))
def test_the_order_of_scores_does_not_matter(order, make_content):
    content = make_content()
    head, tail = list(content.scores[:12]), list(content.scores[12:])
    shuffled = replace(content, scores=[head[position] for position in order] + tail)
    assert leaderboard(shuffled, "component=kang18") == leaderboard(content, "component=kang18")
