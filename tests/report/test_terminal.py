import io
from dataclasses import replace

from rich.console import Console

from cytolabe.records import ScoreStatus
from cytolabe.report.terminal import (
    faults_table,
    findings_table,
    leaderboard_markdown,
    leaderboard_table,
    sources_table,
    verdict_lines,
)


def printed(table) -> str:
    console = Console(file=io.StringIO(), width=220, force_terminal=False)
    console.print(table)
    return console.file.getvalue()


def test_the_terminal_shows_the_numbers_of_the_page(content):
    shown = printed(leaderboard_table(content, "component=kang18"))
    for expected in ("harmony+logistic", "0.740", "0.120", "0.880", "13,548", "512"):
        assert expected in shown


def test_labels_are_no_markup_for_the_terminal(content, score):
    hostile = replace(content, scores=[score(model="[red]x[/red]\x1b[2J")])
    shown = printed(leaderboard_table(hostile))
    assert "[red]x[/red]<U+001B>[2J" in shown
    assert "\x1b" not in shown


def test_refused_files_and_missed_faults_come_first(content):
    missed = replace(content.planted_faults[0], title="a donor on both sides", caught=False, how="nothing found it")
    shown = printed(faults_table(replace(content, planted_faults=[content.planted_faults[0], missed])))
    assert shown.index("missed") < shown.index("caught")
    assert printed(sources_table(content)).index("refused") < printed(sources_table(content)).index("accepted")
    assert printed(findings_table(content)).index("E-COUNTS-01") < printed(findings_table(content)).index("W-GENES-02")


def test_the_verdict_has_a_line_for_every_fold_scored_or_not(content):
    lines = "\n".join(verdict_lines(content))
    assert "component=kang18: floor 0.120 | best of 4 0.740 [0.690, 0.780] | ceiling 0.880 | SCORED" in lines.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert "dataset=kang18_harmony: no number, REFUSED (no clean test cell" in lines
    assert "refused: File liver_bcells_cxg.h5ad" in lines


def test_the_verdict_names_no_model_and_says_that_it_ranks_none(content):
    lines = "\n".join(verdict_lines(content))
    assert "No model is ranked here" in lines
    assert not [model for model in {score.model for score in content.scores} if model in lines]


def test_what_qualifies_all_folds_is_one_line(content, score):
    told = {"status": ScoreStatus.QUALIFIED, "reason": "persons unknown in gale"}
    scores = [score(split=split, **told) for split in ("component=kang18", "component=zheng17")]
    assert "\n".join(verdict_lines(replace(content, scores=scores))).count("persons unknown in gale") == 1


LONG = "not_applicable: test levels unseen. None of 588 cells has a combination of assay, site, suspension_type"


def test_a_page_long_reason_stands_once_below_the_table(content, score):
    scores = [score(model=name, value=None, status=ScoreStatus.NOT_RUN, reason=LONG) for name in ("a", "b")]
    shown = printed(leaderboard_table(replace(content, scores=[*scores, score(model="c")]), "component=kang18"))
    assert shown.count("None of 588 cells") == 1
    assert "note 1: not_applicable" in shown
    assert all(len(line.rstrip()) <= 200 for line in shown.splitlines())


def test_readme_tables_are_compact(content, score):
    told = {"status": ScoreStatus.QUALIFIED, "reason": "persons unknown in gale; panel: 94 genes"}
    scores = [
        score(split=split, model=model, notes=("all 94 genes used",), **told)
        for split in ("component=kang18", "component=zheng17")
        for model in ("pca+knn", "pca+logistic")
    ]
    scores.append(score(model="scvi", value=None, status=ScoreStatus.NOT_RUN, reason=LONG))
    text = leaderboard_markdown(replace(content, scores=scores))
    heads = next(line for line in text.splitlines() if line.startswith("| Model"))
    assert heads == "| Model | Macro-F1 | Macro-F1, rare types | Accuracy | Floor | Ceiling | Status |"
    assert text.count("persons unknown in gale") == 1
    assert text.count("None of 588 cells") == 1
    assert max(len(line) for line in text.splitlines() if line.startswith("| ")) < 160
    assert "| NOT\\_RUN: not applicable: test levels unseen; note 1 |" in text


def test_notes_of_all_readme_tables_are_one_list(content, score):
    scores = [
        score(split="component=kang18", model="a", notes=("one",)),
        score(split="component=zheng17", model="a", notes=("two",)),
        score(split="component=symphony", model="a", notes=("one",)),
    ]
    text = leaderboard_markdown(replace(content, scores=scores))
    assert text.count("Note 1: one") == text.count("Note 2: two") == 1
    assert text.count("SCORED: note 1 |") == 2


def test_a_refused_fold_is_one_line_of_the_readme(content, score):
    refused = [score(model=name, value=None, status=ScoreStatus.REFUSED, reason="no labelled cell") for name in "ab"]
    text = leaderboard_markdown(replace(content, scores=refused))
    assert text.splitlines()[0].endswith("**: REFUSED. No number: no labelled cell.")
    assert "| --- |" not in text


def test_markdown_names_snapshot_split_and_claim(content):
    text = leaderboard_markdown(content)
    assert content.snapshot_id in text
    assert "ranks no model" in text
    assert "held out: leave one connected component" in text


def test_markdown_cells_cannot_break_the_table(content, score):
    hostile = replace(content, scores=[score(model="a|b<img src=x>`c`\nd")])
    row = next(line for line in leaderboard_markdown(hostile).splitlines() if "img" in line)
    assert "<img" not in row
    assert row.replace("\\|", "").count("|") == 8


def test_content_without_scores_gives_an_empty_table(content):
    assert leaderboard_table(replace(content, scores=[])).row_count == 0
