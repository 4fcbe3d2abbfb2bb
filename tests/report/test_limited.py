"""Few labels in the report: every number with its interval or donors, and no order where these overlap."""

from dataclasses import replace

import pytest

from cytolabe.records import ScoreStatus
from cytolabe.report import render_report
from cytolabe.report.limited import limited_figures, limited_tables

SPLIT = "component=kang18"


@pytest.fixture
def rows(score):
    """Return macro-F1 of two models at 1 and 10 cells of each type: apart at 10, not at 1."""
    values = {("pca+knn", 1): 0.30, ("pca+knn", 10): 0.40, ("pca+logistic", 1): 0.33, ("pca+logistic", 10): 0.65}
    return [
        score(
            task="limited_labels", model=model, stratum=f"cells_per_type={n}", value=value, low=value - 0.05,
            high=value + 0.05, interval="jackknife-t over 8 donors; donors of kang18, not labs",
            seeds={"0": value - 0.02, "1": value + 0.02}, notes=(f"1 of 7 types have fewer than {n} labelled training cells",),
        )
        for (model, n), value in values.items()
    ]  # fmt: skip


def test_values_stand_with_interval_and_draws_beside_that_of_all_labels(content, rows):
    (table,) = limited_tables(replace(content, limited=rows), SPLIT)
    assert [column.heading for column in table.columns] == ["Model", "1", "10", "All labels", "Status"]
    knn, logistic = table.rows
    assert (knn[0].text, knn[1].text, knn[2].text) == ("pca+knn", "0.300", "0.400")
    assert "[0.250," in knn[1].detail
    assert "draws 0.280 to 0.320" in knn[1].detail
    assert logistic[3].text == "0.710"
    assert any("fewer than 10 labelled training cells" in remark for remark in table.remarks)


def test_only_intervals_that_lie_apart_are_called_apart(content, rows):
    (table,) = limited_tables(replace(content, limited=rows), SPLIT)
    assert table.remarks[0].startswith("Of 2 pairs of models with one number of labels, the intervals of 1 lie apart")
    bare = [replace(row, low=None, high=None, interval="", points={"d1": 0.2, "d2": 0.5}) for row in rows]
    (table,) = limited_tables(replace(content, limited=bare), SPLIT)
    assert table.remarks[0].startswith("No intervals")
    assert "(0.200 · 0.500)" in table.rows[0][1].detail


def test_a_number_that_is_not_there_is_a_word_with_its_reason_and_draws_nothing(content, rows):
    none = [
        replace(row, stratum="donors=4", value=None, low=None, high=None, status=ScoreStatus.NOT_RUN, seeds={},
                reason="not_applicable: no person of the training side is known")
        for row in rows[::2]
    ]  # fmt: skip
    shown = replace(content, limited=[*rows, *none])
    donors = limited_tables(shown, SPLIT)[1]
    assert donors.rows[0][1].text == "NOT_RUN"
    assert any("no person of the training side is known" in remark for remark in donors.remarks)
    assert len(limited_figures(shown, SPLIT)) == 1


def test_the_page_draws_one_panel_for_each_embedding_and_a_study_without_few_labels_none(content, rows):
    page = render_report(replace(content, limited=[*rows, *(replace(row, model="scvi+knn") for row in rows[:2])]))
    assert "Macro-F1 over cells of each type" in page
    assert page.count("<polyline") == 3
    assert "pca+logistic, cells_per_type=10: 0.650 [0.600," in page
    assert "<polyline" not in render_report(content)


def test_an_embedding_without_a_number_shows_the_word_and_shared_notes_are_said_once(content, rows):
    refused = [replace(row, model="harmony+knn", value=None, status=ScoreStatus.REFUSED) for row in rows[:1]]
    noted = replace(rows[0], notes=("said of every score",))
    told = [replace(one, notes=("said of every score",)) for one in content.scores]
    shown = replace(content, scores=told, limited=[noted, *refused])
    ((figure, _),) = limited_figures(shown, SPLIT)
    assert ">REFUSED</text>" in figure
    assert "said of every score" not in " ".join(limited_tables(shown, SPLIT)[0].remarks)


def test_names_of_models_are_inert(content, rows):
    page = render_report(replace(content, limited=[replace(row, model="<script>alert(1)+knn") for row in rows]))
    assert "<script" not in page
