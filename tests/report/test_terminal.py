import io
from dataclasses import replace

from rich.console import Console

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
    assert "component=kang18: macro-F1 0.740 (floor 0.120, ceiling 0.880), harmony+logistic" in lines
    assert "dataset=kang18_harmony: no number (no clean test cell" in lines
    assert "refused: File liver_bcells_cxg.h5ad" in lines


def test_markdown_names_snapshot_split_and_claim(content):
    text = leaderboard_markdown(content)
    assert content.snapshot_id in text
    assert "ranks no model" in text
    assert "held out: leave one connected component" in text


def test_markdown_cells_cannot_break_the_table(content, score):
    hostile = replace(content, scores=[score(model="a|b<img src=x>`c`\nd")])
    row = next(line for line in leaderboard_markdown(hostile).splitlines() if "img" in line)
    assert "<img" not in row
    assert row.replace("\\|", "").count("|") == 11


def test_content_without_scores_gives_an_empty_table(content):
    assert leaderboard_table(replace(content, scores=[])).row_count == 0
