"""The pages of trainings: where a network stands to its controls comes first, and what was refused is no number."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from cytolabe.evaluate.cell_tasks import Gain
from cytolabe.evaluate.rare_types import CalledInstead, RareType
from cytolabe.metrics import Interval
from cytolabe.models.cards import CARDS
from cytolabe.models.network_size import NetworkSize
from cytolabe.records import Protocol, ScoreStatus
from cytolabe.report import (
    CellTasksPage,
    Fitted,
    GeneClassesPage,
    GeneRow,
    TaskSizes,
    Trained,
    render_cell_tasks,
    render_gene_classes,
)
from cytolabe.report.trained import compared, stands

SPLIT = "component=kang18"
LABEL = "<script>alert(1)</script>"


def gain(value, low=None, high=None):
    over = None if low is None else Interval(low=low, high=high, method="jackknife", population="donors of this study")
    return Gain(value=value, interval=over, points={})


@pytest.fixture
def trained():
    card = replace(CARDS["geneformer_annotator"], protocol=Protocol.FINE_TUNED, weights_digest="sha256:" + "ab" * 32)
    return Trained(
        card=card, started_from="sha256:" + "cd" * 32, dictionaries={"tokens": "sha256:" + "ef" * 32}, layer="the last of 6, under the heads",
        pooling="cls", precision="bfloat16", max_length=2048, seed=7, options={"weights": "checkpoint"}, size=NetworkSize(n_parameters=12_345, n_trained=345),
        fitted=(Fitted(name="random", told="sex", n_fits=3, n_cells=900, n_steps=40),), losses=(2.0, 1.5, 1.2), looks=((2, 1.6),),
    )  # fmt: skip


@pytest.fixture
def cells(content, score, matrix_of, trained):
    def row(model, value, **changes):
        protocol = Protocol.CONTROL if model in ("majority", "metadata_only") else Protocol.FINE_TUNED
        told = {
            "split": SPLIT,
            "model": model,
            "protocol": protocol,
            "value": value,
            "resolution": "sex",
            "ceiling": None,
        }
        return score(**{**told, **changes})

    def page(label="female", **changes):
        scores = [row(model, value) for model, value in (("majority", 0.3), ("geneformer", 0.61), ("random", 0.4))]
        scores += [replace(one, metric="accuracy", value=0.7) for one in scores]
        matrix = matrix_of(split=SPLIT, model="geneformer", resolution="sex", gene_policy="intersection", classes=(label, "male"), names=(label, "male"), matrix=np.array([[30, 10], [0, 12]]))  # fmt: skip
        rare = RareType(split=SPLIT, model="geneformer", gene_policy="intersection", resolution="sex", term=label, name=label, n_cells=12, n_right=0, called_instead=(CalledInstead(term="male", name="male", n_cells=12),))  # fmt: skip
        sizes = TaskSizes(name="sex", n_train=90, n_masked=11, n_test=52, n_test_missing=3, n_donors=8, classes=((label, label, 50, 40, 5), ("male", "male", 40, 12, 3), ("unnamed", "unnamed", 0, 2, 1)))  # fmt: skip
        made = {
            "content": replace(content, scores=scores, confusions=[matrix], rare_types=[rare], levels={"sex": [(label, label), ("male", "male")]}),
            "split": SPLIT, "model": "geneformer", "single": "single_task", "random": "random", "tasks": [sizes],
            "gains": {"sex": {"majority": gain(0.31, 0.25, 0.4), "random": gain(0.21, -0.02, 0.3)}}, "trained": trained,
        }  # fmt: skip
        return CellTasksPage(**{**made, **changes})

    return page


@pytest.fixture
def genes(content, score, matrix_of, trained):
    def row(name, value, over=None):
        told = score(split=SPLIT, model=name, value=value, resolution="genes", status=ScoreStatus.QUALIFIED, reason="one seed (rule R13b)", floor=0.6, ceiling=None)  # fmt: skip
        return GeneRow(macro_f1=told, accuracy=0.65, auroc=0.7, auroc_bounds=None, class_f1={"odd": value, "even": 0.2}, by_fold=(0.1, 0.2), gain=over)  # fmt: skip

    matrix = matrix_of(split=SPLIT, model="geneformer", resolution="genes", gene_policy="", classes=("even", "odd"), names=("even", "odd"), matrix=np.array([[0, 20], [3, 9]]))  # fmt: skip
    failed = RareType(split=SPLIT, model="geneformer", gene_policy="", resolution="genes", term="even", name="even", n_cells=20, n_right=0, called_instead=(CalledInstead(term="odd", name="odd", n_cells=20),))  # fmt: skip
    return GeneClassesPage(
        content=replace(content, scores=[]), split=SPLIT, rows=[row("geneformer", 0.5), row("random", 0.4, gain(0.1)), row("abundance", 0.6, gain(-0.1, -0.2, -0.05))],
        n_genes=32, n_folds=2, n_cells=60, classes={"odd": 12, "even": 20}, left_out={"unknown": ["NOTAGENE"], "ambiguous": []}, confusions=[matrix],
        failures=[failed], population="labelled genes", trained=trained,
    )  # fmt: skip


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page[page.index("<main>") :]))


def test_the_first_screen_says_what_stands_above_its_controls_and_what_does_not(cells):
    box = text_of(render_cell_tasks(cells())).partition("Tasks Findings")[0]
    assert "13,000 cells were held out (kang18)" in box
    assert "macro-F1 0.610; accuracy 0.700. Stands above its highest floor, but does not stand above a network of the same shape with random weights." in box  # fmt: skip
    assert "above its highest floor (majority) by 0.310 [0.250, 0.400]" in box
    assert (
        "not told apart from a network of the same shape with random weights (difference 0.210 [\N{MINUS SIGN}0.020, 0.300])"
        in box
    )


def test_a_difference_without_an_interval_is_never_called_above():
    assert stands({"its floors": gain(0.3), "random weights": gain(-0.1)}) == "Is higher than its floors, without an interval, but does not stand above random weights"  # fmt: skip
    assert compared(gain(0.3), "its floors") == "higher than its floors by 0.300 (no interval)"
    assert (
        compared(gain(-0.2, -0.3, -0.1), "its floors")
        == "below its floors by 0.200 [\N{MINUS SIGN}0.300, \N{MINUS SIGN}0.100]"
    )
    assert stands({"its floors": gain(0.3, 0.1, 0.4), "random weights": gain(0.2, 0.1, 0.3)}) == "Stands above its floors and random weights"  # fmt: skip
    assert stands({"its floors": None}) == "Was not compared with its floors"


def test_a_refused_task_has_its_word_and_no_number_no_gain_and_no_matrix(cells):
    page = cells()
    scores = [replace(one, value=None, raw_value=0.987, status=ScoreStatus.REFUSED, reason="E-LEAK-04: trained on test cells") if one.model == "geneformer" else one for one in page.content.scores]  # fmt: skip
    shown = render_cell_tasks(replace(page, content=replace(page.content, scores=scores), gains={}))
    assert "no macro-F1: E-LEAK-04: trained on test cells. Nothing can be said." in text_of(shown)
    assert "0.987" not in shown
    assert "Confusion matrix of" not in shown


def test_a_task_is_laid_out_in_its_own_words_with_its_failures_and_classes_of_one_side(cells):
    shown = render_cell_tasks(cells())
    told = text_of(shown)
    for words in ("task “sex”", "geneformer minus this", "rare classes, and what they were called instead", "none right", "never learned", "Training cells masked"):  # fmt: skip
        assert words in told, words
    assert "Confusion matrix of geneformer, component=kang18, task sex" in shown
    assert "rows: true class" in shown


def test_the_page_of_genes_counts_genes_and_says_that_the_kept_network_has_no_score(genes):
    told = text_of(render_gene_classes(genes))
    assert "32 genes of 2 classes were held out once each, in 2 folds" in told
    assert "it has no score of its own" in told
    assert "Is higher than a network of the same shape with random weights, without an interval, but does not stand above the floor of abundance." in told  # fmt: skip
    assert "even called odd 20 of 20 (100.0 %)" in told
    assert "the reference has no such gene1NOTAGENE" in told
    assert "figures are genes" in told


@pytest.mark.parametrize("kind", ["cells", "genes"])
def test_a_page_says_how_the_network_was_made_stands_alone_and_is_read_in_order(kind, cells, genes):
    shown = render_cell_tasks(cells(LABEL)) if kind == "cells" else render_gene_classes(genes)
    again = render_cell_tasks(cells(LABEL)) if kind == "cells" else render_gene_classes(genes)
    assert shown == again
    for made in (
        "ab" * 32,
        "cd" * 32,
        "ef" * 32,
        "bfloat16",
        "2,048 tokens",
        "the last of 6",
        "12,345 parameters",
        "cls",
    ):
        assert made in shown, made
    assert not re.search(r"https?:|url\(|@import|<script|<img|<link", shown)
    assert "default-src 'none'" in shown
    levels = [int(level) for level in re.findall(r"<h([1-6])", shown)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert shown.count("<table>") == shown.count("<caption>") == shown.count("<thead>")
    assert '<th scope="col"' in shown
    for drawing in re.findall(r"<svg.*?</svg>", shown, re.DOTALL):
        assert "<title>" in drawing
        assert "aria-label=" in drawing
    ids = re.findall(r' id="([^"]+)"', shown)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', shown)) <= set(ids)
