import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.records import ScoreStatus
from cytolabe.report.figures import (
    confounding_caption,
    confounding_figure,
    mapping_figure,
    range_figure,
    score_figure,
)
from cytolabe.report.matrices import confusion_figure, mistakes_sentence
from cytolabe.report.svg import element


def shapes(figure, tag, kind):
    return [node for node in ET.fromstring(str(figure)).iter(tag) if kind in (node.get("class") or "").split()]  # noqa: S314


def test_a_refused_model_is_a_word_and_no_dot(score):
    figure = score_figure(
        {"a": score(), "b": score(value=None, raw_value=0.9, status=ScoreStatus.REFUSED, reason="nested")}, "t"
    )
    assert len(shapes(figure, "circle", "dot")) == 1
    assert "REFUSED: nested" in figure


def test_a_long_reason_is_short_in_the_drawing_and_whole_in_its_title(score):
    reason = "not_applicable: test levels unseen. None of 588 cells has a combination that training knows"
    figure = str(score_figure({"b": score(value=None, status=ScoreStatus.NOT_RUN, reason=reason)}, "t"))
    assert "</title>NOT_RUN: not applicable: test levels unseen<" in figure
    assert reason in figure


def test_floor_and_ceiling_have_marks_of_their_own(score):
    figure = score_figure({"a": score(value=0.9, floor=0.25, ceiling=0.75)}, "t")
    assert len(shapes(figure, "line", "bound")) == 2
    assert [float(line.get("x1")) for line in shapes(figure, "line", "top")] == [222 + 430 * 0.75]


def test_the_strip_shows_how_far_apart_the_models_are(score):
    assert len(shapes(range_figure(score(), [0.2, 0.3]), "circle", "point")) == 2


def test_the_dot_stands_at_its_value_between_floor_and_ceiling(score):
    figure = score_figure({"a": score(value=0.5, floor=0.25, ceiling=0.75)}, "t")
    band = shapes(figure, "rect", "band")[0]
    dot = shapes(figure, "circle", "dot")[0]
    left, width = float(band.get("x")), float(band.get("width"))
    assert float(dot.get("cx")) == left + width / 2


def test_a_qualified_score_is_hollow_and_starred(score):
    figure = score_figure({"a": score(status=ScoreStatus.QUALIFIED, reason="panel")}, "t")
    assert shapes(figure, "circle", "hollow")
    assert " *" in figure


def test_few_donors_are_drawn_as_points_and_not_as_an_interval(score):
    figure = score_figure({"a": score(points={"d1": 0.4, "d2": 0.6})}, "t")
    assert len(shapes(figure, "circle", "point")) == 2
    assert not shapes(figure, "line", "interval")


def test_confusion_rows_are_shaded_by_their_own_total_and_counted(matrix_of):
    matrix = matrix_of(
        split="s",
        model="m",
        resolution="mid",
        gene_policy="intersection",
        classes=("a", "b"),
        names=("big", "small"),
        matrix=np.array([[900, 100], [1, 9]]),
    )
    figure = confusion_figure(matrix)
    right = [float(node.get("fill-opacity")) for node in shapes(figure, "rect", "right")]
    assert right == [0.9, 0.9] or np.allclose(right, 0.04 + 0.96 * 0.9, atol=0.006)
    assert "n = 1,000" in figure
    assert "n = 10<" in figure


def test_answers_outside_of_the_classes_have_their_own_column(matrix_of):
    matrix = matrix_of(
        split="s",
        model="m",
        resolution="mid",
        gene_policy="intersection",
        classes=("a", "b"),
        names=("a", "b"),
        matrix=np.array([[5, 0, 7], [0, 5, 0]]),
    )
    assert "any other answer" in confusion_figure(matrix)
    assert "n = 12<" in confusion_figure(matrix)


LONG = ("naive thymus-derived CD4-positive, alpha-beta T cell", "naive thymus-derived CD8-positive, alpha-beta T cell")


def test_names_that_differ_in_their_middle_stay_apart(matrix_of):
    figure = confusion_figure(
        matrix_of(
            split="s",
            model="m",
            resolution="fine",
            gene_policy="intersection",
            classes=("a", "b"),
            names=LONG,
            matrix=np.array([[5, 1], [2, 6]]),
        )
    )
    lines = [node.text for node in shapes(figure, "text", "row-label")]
    assert " ".join(lines[:2]) == LONG[0]
    assert " ".join(lines[2:]) == LONG[1]


def test_types_without_test_cells_come_last_and_those_without_answers_not_at_all(matrix_of):
    matrix = matrix_of(
        split="s",
        model="m",
        resolution="mid",
        gene_policy="intersection",
        classes=("a", "b", "c"),
        names=("never tested", "tested", "nowhere"),
        matrix=np.array([[0, 0, 0], [4, 6, 0], [0, 0, 0]]),
    )
    figure = confusion_figure(matrix)
    assert [node.text for node in shapes(figure, "text", "row-label")] == ["tested", "never tested"]
    assert figure.count("no test cell<") == 1
    assert "1 types without a test cell and without an answer" in figure
    assert len(shapes(figure, "rect", "tile")) == 2


def test_the_largest_mistakes_are_told_by_their_share_of_a_type(matrix_of):
    matrix = matrix_of(
        split="s",
        model="m",
        resolution="mid",
        gene_policy="intersection",
        classes=("a", "b", "c"),
        names=("CD4 T", "CD8 T", "few"),
        matrix=np.array([[900, 100, 0, 0], [30, 10, 0, 2], [9, 0, 0, 0]]),
    )
    told = mistakes_sentence(matrix)
    assert told.startswith("Largest mistakes: CD8 T called CD4 T 30 of 42 (71.4 %); CD4 T called CD8 T 100 of 1,000")
    assert "CD8 T called something else 2 of 42" in told
    assert "few called" not in told


def test_many_classes_lose_no_cell(matrix_of):
    size = 60
    matrix = matrix_of(
        split="s",
        model="m",
        resolution="fine",
        gene_policy="intersection",
        classes=tuple(f"c{k}" for k in range(size)),
        names=tuple(f"c{k}" for k in range(size)),
        matrix=np.ones((size, size), dtype=int),
    )
    figure = confusion_figure(matrix)
    assert "40 commonest of 60" in figure
    assert figure.count("n = 60<") == 40


def test_what_is_not_estimable_is_a_dash_and_not_zero():
    frame = pd.DataFrame(
        {
            "technical": ["assay", "assay", "batch"],
            "biological": ["cell_type", "sex", "sex"],
            "cramers_v": [0.2, np.nan, 0.4],
        }
    )
    figure = confounding_figure(frame)
    assert "0.00" not in figure
    assert len(shapes(figure, "rect", "unknown")) == 2


def test_pairs_of_which_nothing_is_estimable_are_counted_and_not_drawn():
    frame = pd.DataFrame(
        {
            "dataset_id": [None, "one", "one"],
            "technical": ["assay", "batch", "site"],
            "biological": ["disease", "cell_type", "cell_type"],
            "cramers_v": [0.89, np.nan, np.nan],
            "unit": "library",
            "n_units": 6,
        }
    )
    figure = confounding_figure(frame)
    assert "all files · assay" in figure
    assert "6 libraries" in figure
    assert "one · batch" not in figure
    assert "2 other pairs are not estimable and not drawn" in confounding_caption(frame)
    assert confounding_figure(frame.tail(2)) is None
    assert "Of 2 pairs of columns none is estimable" in confounding_caption(frame.tail(2))


def test_a_missing_table_draws_nothing():
    assert confounding_figure(pd.DataFrame()) is None
    assert mapping_figure([]) is None


def test_the_bars_of_a_data_set_add_up(mapping):
    figure = mapping_figure(
        [mapping("a", "CL:1", "a", n_cells=30), mapping("b", "", "", decision="abstained", n_cells=10)]
    )
    widths = [float(n.get("width")) for kind in ("auto", "abstained") for n in shapes(figure, "rect", kind)]
    assert sorted(widths) == [12.0, 12.0, 100.0, 300.0]


@given(value=st.floats(-0.5, 1.5), floor=st.floats(0, 1), ceiling=st.floats(0, 1))
def test_strips_stay_inside_their_drawing(value, floor, ceiling, score):
    figure = range_figure(score(value=value, floor=floor, ceiling=ceiling))
    assert all(0 <= float(x) <= 252 for x in re.findall(r'(?:cx|x1|x2)="([-\d.]+)"', figure))


@given(text=st.text(max_size=30))
def test_text_cannot_leave_its_attribute_or_element(text):
    drawn = str(element("text", text, class_=text))
    parsed = ET.fromstring(re.sub(r"[\x00-\x1f\ud800-\udfff\ufffe\uffff]", "", drawn))  # noqa: S314
    assert parsed.tag == "text"
    assert set(parsed.attrib) == {"class"}
    assert len(parsed) == 0


def test_a_pair_whose_biology_follows_the_technique_is_drawn_with_the_contrasts_that_are_lost():
    frame = pd.DataFrame(
        {
            "dataset_id": ["sorted", "other"],
            "technical": ["batch", "batch"],
            "biological": ["cell_type_mid", "cell_type_mid"],
            "cramers_v": [np.nan, np.nan],
            "n_units": [9, 4],
            "unit": ["library", "library"],
            "n_lost": [8, 0],
        }
    )
    figure = confounding_figure(frame)
    assert ">8 lost</text>" in figure
    assert ">cell type</text>" in figure
    assert ">mid</text>" in figure
    assert "other" not in figure
    assert "Lost: so many contrasts exist in no technical level" in confounding_caption(frame)
