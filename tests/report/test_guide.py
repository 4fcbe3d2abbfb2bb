from pathlib import Path

import pytest

from cytolabe.report.guide import GUIDE, NOT_SHOWN, STATUS_WORDS, TRAINING_GUIDE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reading-a-report.md"


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("entry", [*GUIDE, *TRAINING_GUIDE], ids=lambda entry: entry.name)
def test_the_report_and_its_page_in_the_docs_say_the_same(page, entry):
    assert f"## {entry.name}\n" in page
    assert entry.says in page
    assert entry.hides in page


def test_the_docs_repeat_what_a_report_does_not_show(page):
    assert [line for line in (*NOT_SHOWN, *(meaning for _, meaning in STATUS_WORDS)) if line not in page] == []
