import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytolabe.errors import UsageError
from cytolabe.records import Protocol, ScoreStatus
from cytolabe.report import html
from cytolabe.report.html import MAX_BYTES, render_report, write_report
from cytolabe.report.pages import page_environment
from cytolabe.report.text import inert

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "\"><a href='javascript:alert(1)'>x",
    "{{7*7}}{% raw %}",
    "]]><!--",
    "</style></title></textarea><script>alert(1)</script>",
    "&lt;script&gt;alert(1)",
    "\u202eevil\u202c\u2066\u200b\u0000\x1b[31m",
    "$\\frac{",
    "=cmd|' /C calc'!A0",
)
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Independent reader: elements, attributes and text as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.texts, self.open, self.unbalanced = [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="session")
def hostile_content(make_content, matrix_of, mapping, fold, score):
    def make_hostile(label: str):
        """Put one text into every place where a contributor's text can reach the page."""
        content = make_content()
        terms = [("CL:0000236", label), *content.levels["mid"][1:]]
        matrix = matrix_of(
            split=label,
            model=label,
            resolution="mid",
            gene_policy="intersection",
            classes=("CL:0000236", "CL:1"),
            names=(label, label),
            matrix=np.array([[5, 1], [2, 0]]),
        )
        finding = replace(content.sources[2].findings[0], where=label, message=label, remedy=label, examples=(label,))
        return replace(
            content,
            title=label,
            claims=[label],
            facts=replace(content.facts, split_rule=label, gene_reference=label),
            sources=[replace(content.sources[2], source=label, dataset_id=label, findings=(finding,))],
            datasets=[replace(content.datasets[0], title=label, columns={"label": label})],
            mappings=[mapping(label, "CL:0000236", label, dataset_id=label, evidence=label, reviewer=label)],
            levels={"mid": terms},
            support=pd.DataFrame(
                {
                    "level": ["mid", "mid"],
                    "dataset_id": [label, label],
                    "term": ["CL:0000236", ""],
                    "reason": ["", label],
                    "n_cells": [1, 2],
                }
            ),
            gene_spaces=pd.DataFrame(
                {
                    "split": [label],
                    "policy": [label],
                    "n_genes": [85],
                    "train_datasets": [label],
                    "test_datasets": [label],
                    "left_out": [label.replace(", ", "")],
                    "absent_markers": [label.replace(", ", "")],
                    "counts_kept_fraction": [0.5],
                    "median_counts_left": [136.0],
                }
            ),
            claims_refused=pd.DataFrame({"claim": [label], "where": [label], "status": ["REFUSED"], "reason": [label]}),
            duplicates=pd.DataFrame({"cell_a": [label], "dataset_a": [label], "dataset_b": [label], label: [label]}),
            exposure=[replace(content.exposure[0], model=label, dataset_id=label, evidence=label)],
            certificates=[
                replace(
                    content.certificates[0],
                    split_id=label,
                    tests=({"test": label, "n_found": 0, "n_tested": 3, "power": label, "groups": [label]},),
                    not_testable={label: 1, f"identical cells, {label}|b": 2},
                    assumptions=(label,),
                )
            ],
            folds=[fold(label, label, status="REFUSED", reason=label)],
            persons=pd.DataFrame({"person_id": [label]}),
            duplicates_not_testable={label: 1},
            confounding=pd.DataFrame(
                {
                    "dataset_id": [label],
                    "technical": [label],
                    "biological": [label],
                    "unit": [label],
                    "cramers_v": [0.5],
                    "theils_u": [0.5],
                    "n_units": [3],
                    "status": ["REFUSED"],
                    "reason": [label],
                }
            ),
            scores=[
                score(split=label, model=label, reason=label, notes=(label,), interval=label, low=0.6, high=0.8),
                score(
                    split=label,
                    model="second model",
                    protocol=Protocol.CONTROL,
                    value=None,
                    status=ScoreStatus.FAILED,
                    reason=label,
                ),
                score(split=label, model=label, metric="f1", stratum=f"class:{label}"),
            ],
            confusions=[matrix],
            planted_faults=[replace(content.planted_faults[0], title=label, how=label)],
        )

    return make_hostile


def plain_of_length(label: str) -> str:
    """Return a harmless label as long as the shown one: long names take a second line in a drawing."""
    return "B" * len(inert(label))


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_are_inert(label, hostile_content):
    page = Page(render_report(hostile_content(label)))
    clean = Page(render_report(hostile_content(plain_of_length(label))))
    assert page.elements == clean.elements
    assert [(tag, name) for tag, name, _ in page.attributes] == [(tag, name) for tag, name, _ in clean.attributes]
    assert not page.unbalanced
    assert not page.open


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(label=st.text(min_size=1, max_size=40))
def test_no_text_changes_the_elements_of_the_page(label, hostile_content):
    page = Page(render_report(hostile_content(label)))
    assert page.elements == Page(render_report(hostile_content(plain_of_length(label)))).elements


def test_a_template_in_a_label_is_not_evaluated(hostile_content):
    page = render_report(hostile_content("{{7*7}}"))
    assert "{{7*7}}" in page
    assert ">49<" not in page


def test_direction_marks_and_control_characters_never_reach_the_page(hostile_content):
    page = render_report(hostile_content(HOSTILE[7]))
    assert "&lt;U+202E&gt;evil" in page
    assert not set(page) & {"\u202e", "\u202c", "\u2066", "\u200b", "\x00", "\x1b"}


def test_a_name_of_ten_kilobytes_is_cut_and_its_length_is_told(hostile_content):
    page = render_report(hostile_content("x" * 10_000))
    assert "(10,000 characters)" in page
    assert "x" * 2_500 not in page


def test_the_page_reaches_nothing_outside_itself(content):
    page = render_report(content)
    reader = Page(page)
    addresses = [
        value for _, name, value in reader.attributes if name in {"src", "href", "action", "xlink:href", "data"}
    ]
    assert all(value.startswith("#") for value in addresses)
    assert not re.search(r"https?:|url\(|@import", page)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(reader.elements)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]


def test_the_policy_forbids_every_source(content):
    policy = next(
        value for _, name, value in Page(render_report(content)).attributes if value and "default-src" in value
    )
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_every_template_escapes():
    environment = page_environment()
    assert environment.autoescape is True
    for name in environment.list_templates():
        source, _, _ = environment.loader.get_source(environment, name)
        assert "|safe" not in source.replace(" ", "")
        assert "autoescape" not in source


def test_two_runs_give_the_same_bytes(content, make_content):
    assert render_report(content) == render_report(make_content())


def test_the_file_holds_the_page(content, tmp_path):
    path = tmp_path / "out" / "report.html"
    write_report(content, path)
    assert path.read_bytes().decode("utf-8") == render_report(content)


def test_tables_are_cut_with_a_sentence_when_the_page_outgrows_its_budget(content, monkeypatch):
    assert MAX_BYTES == 5_000_000
    monkeypatch.setattr(html, "MAX_BYTES", 400_000)
    many = pd.DataFrame({f"column_{k}": [str(k) * 150] * 300 for k in range(4)})
    page = render_report(replace(content, support=many, persons=many))
    assert len(page.encode()) <= 400_000
    cut = re.findall(r"([\d,]+) more rows are not shown here.*?all of them are in ([^<]+)", page)
    assert len(cut) >= 2
    assert {source for _, source in cut} == {"evidence.json."}
    assert page.count("0" * 150) + int(cut[0][0].replace(",", "")) * 2 == 600


def test_content_that_cannot_be_cut_is_refused(content, monkeypatch):
    monkeypatch.setattr(html, "MAX_BYTES", 10_000)
    with pytest.raises(UsageError, match="10,000 are allowed"):
        render_report(content)


def test_tables_speak_to_a_screen_reader(content):
    reader = Page(render_report(content))
    assert reader.elements.count("caption") == reader.elements.count("table") > 10
    scopes = [(tag, value) for tag, name, value in reader.attributes if name == "scope"]
    assert len(scopes) == reader.elements.count("th")
    labels = [name for tag, name, _ in reader.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == reader.elements.count("svg")
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for _, name, value in reader.attributes if name == "href"}
    assert targets <= set(ids)


def test_refused_sources_come_before_accepted_ones(content):
    page = render_report(content)
    section = page[page.index('<section id="files"') :]
    assert section.index("liver_bcells_cxg.h5ad") < section.index("kang18_muscat.h5ad")
    assert "E-COUNTS-01" in section
    assert "Remedy: ask the contributor" in section


def box_of(page: str) -> str:
    return page[page.index('id="verdict"') : page.index("<nav")]


def test_the_verdict_names_refusals_and_stands_between_floor_and_ceiling(content):
    box = box_of(render_report(content))
    for expected in ("0.740", "0.120", "0.880", "13,548 cells", "liver_bcells_cxg.h5ad", "114 labeled cells"):
        assert expected in box


def test_the_verdict_crowns_no_model(content):
    box = box_of(render_report(content))
    assert "No model is ranked here" in box
    assert not [model for model in {score.model for score in content.scores} if model in box]


def test_a_ceiling_below_the_number_is_explained_in_the_verdict(content, score):
    below = replace(content, scores=[score(value=0.92, ceiling=0.68)])
    assert "no upper bound" in box_of(render_report(below))
    assert "no upper bound" not in box_of(render_report(replace(content, scores=[score(value=0.5, ceiling=0.68)])))


def test_only_refused_claims_count_as_refused(content):
    claims = pd.DataFrame(
        {
            "claim": ["disease of a donor"] * 3 + ["cell types"],
            "where": ["component=a", "component=b", "component=c", "d"],
            "status": ["REFUSED", "REFUSED", "SCORED", "SCORED"],
            "reason": ["determined by assay among 17 donors", "determined by assay among 22 donors", "", ""],
        }
    )
    page = render_report(replace(content, claims_refused=claims))
    told = "Claim “disease of a donor” in 2 of 3 places, because: determined by assay among 17 to 22 donors"
    assert told in box_of(page)
    assert "cell types”" not in box_of(page)


def test_a_refused_fold_is_a_sentence_and_no_table(content, score):
    reason = "the test side has no labelled cell; no clean labelled test cell"
    refused = [
        score(model=name, resolution=level, value=None, status=ScoreStatus.REFUSED, reason=reason)
        for name in "abc"
        for level in ("mid", "broad")
    ]
    page = render_report(replace(content, scores=refused))
    article = page[page.index("<article") : page.index("</article>")]
    assert f"No number: {reason}." in article
    assert "<table" not in article


def test_planted_faults_come_first_after_the_verdict(content):
    page = render_report(content)
    assert page.index('<section id="faults"') < page.index('<section id="files"')
    assert '<a href="#faults">' in page


def test_two_levels_of_a_confusion_matrix_stand_side_by_side(content):
    page = render_report(content)
    rows = page.split('<div class="matrices">')[1:]
    assert [row.count("<figure>") for row in rows] == [2, 2, 2]
    assert "Level “mid”. Largest mistakes" in page
    assert "Level “broad”. Largest mistakes" in page


def test_what_is_folded_away_stays_folded_in_print(content):
    page = render_report(content)
    assert "Folded tables are not printed unless they were open" in page
    assert "details::details-content" not in page


def test_each_link_into_the_guide_has_its_paragraph(content):
    reader = Page(render_report(content))
    anchors = {value[1:] for _, name, value in reader.attributes if name == "href" and value.startswith("#read-")}
    ids = {value for _, name, value in reader.attributes if name == "id"}
    assert len(anchors) > 8
    assert anchors <= ids


def test_rows_of_one_group_share_their_header(content):
    page = render_report(content)
    assert 'scope="rowgroup" rowspan="' in page
    reader = Page(page)
    assert not reader.unbalanced


def test_an_empty_report_is_a_page_that_says_so(content):
    bare = type(content)(
        title="nothing yet", claims=[], snapshot_id=content.snapshot_id, facts=content.facts, decision_level="mid"
    )
    page = render_report(bare)
    assert "This run scored no model" in page
    assert "Nobody looked for copied cells" in page
    assert not Page(page).unbalanced


def test_dark_and_print_styles_are_there(content):
    page = render_report(content)
    assert "@media print" in page
    assert "prefers-color-scheme: dark" in page


def open_tables(page: str) -> list[str]:
    """Titles of what is folded away but open."""
    return [title.strip() for title in re.findall(r"<details open><summary>([^<]*)", page)]


def test_persons_exposure_and_certificates_are_seen_without_a_click(content):
    digest = f"sha256:{'ab' * 32}"
    page = render_report(replace(content, scores=[replace(score, certificate=digest) for score in content.scores]))
    assert open_tables(page) == ["Had a model seen the test cells before?", "Each person"]
    n_folds = len({score.split for score in content.scores})
    assert page.count(f"stands on the certificate <code>{digest}</code>") == n_folds


def test_a_long_table_of_persons_is_folded_away(content):
    many = pd.concat([content.persons] * 30, ignore_index=True)
    assert "Each person" not in open_tables(render_report(replace(content, persons=many)))


def test_a_number_of_several_folds_names_the_certificates_of_all(content):
    first = content.certificates[0]
    certificates = [replace(first, digest=f"sha256:{n:064d}") for n in range(14)]
    pooled = [replace(score, split="all folds", certificate="") for score in content.scores[:40]]
    page = render_report(replace(content, scores=[*content.scores, *pooled], certificates=certificates))
    assert "These numbers stand on 14 certificates:" in page
    assert "and 2 more, in certificate.json" in page


def test_the_ladder_is_drawn_whole_and_told_as_tables(content):
    row = {
        "model": "pca+logistic", "metric": "macro_f1", "rung": "dataset", "value_random": 0.9, "value": 0.828,
        "inflation": 0.072, "low": None, "high": None, "method": "none: 4 dataset(s)", "n_cells": 7250, "n_units": 4,
        "unit": "dataset", "status": "QUALIFIED",
    }  # fmt: skip
    rungs = [
        {"rung": "random", "status": "RUN", "held_out": "cells", "n_groups": 9, "n_folds": 3, "n_folds_refused": 0, "reason": ""},
        {"rung": "time", "status": "NOT_RUN", "held_out": "time", "n_groups": 0, "n_folds": 0, "n_folds_refused": 0, "reason": "no date"},
    ]  # fmt: skip
    page = render_report(replace(content, ladder=pd.DataFrame([row]), rungs=pd.DataFrame(rungs)))
    (drawn,) = re.findall(
        r"<svg[^>]*viewBox=\"0 0 (\d+)[^\"]*\"(?:(?!</svg>).)*inflation \+0\.072(?:(?!</svg>).)*</svg>", page, re.DOTALL
    )
    (place,) = re.findall(r'x="([\d.]+)"[^>]*>0\.828 \(inflation', page)
    # 24 bold digits of 11 px, each 7 wide at most.
    assert float(place) + 24 * 7 <= float(drawn)
    assert "NOT_RUN" in page
    assert "no date" in page
