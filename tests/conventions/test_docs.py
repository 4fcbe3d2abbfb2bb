"""The documentation speaks of what exists."""

import dataclasses
import re

import pytest

from cytolabe.config.manifest import Manifest
from cytolabe.report.guide import GUIDE, STATUS_WORDS

STAGES = ("ingest", "standardize", "validate", "reconcile", "snapshot", "split", "audit", "evaluate", "report")


@pytest.fixture(scope="session")
def docs(root):
    return root / "docs"


def test_every_number_of_the_report_has_a_paragraph(docs):
    page = (docs / "reading-a-report.md").read_text(encoding="utf-8")
    assert [entry.name for entry in GUIDE if f"## {entry.name}\n" not in page] == []
    assert page.count("What it hides") >= len(GUIDE)
    assert [word for word, _ in STATUS_WORDS if f"`{word}`" not in page] == []


def test_the_manifest_page_names_every_key_and_no_other(docs):
    page = (docs / "formats" / "manifest.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert named == {field.name for field in dataclasses.fields(Manifest)} | {"file"}


def test_links_between_pages_lead_somewhere(docs):
    broken = [
        f"{page.relative_to(docs)} -> {target}"
        for page in sorted(docs.rglob("*.md"))
        for target in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_flow_page_names_every_stage(docs):
    page = (docs / "flow" / "index.md").read_text(encoding="utf-8")
    assert [stage for stage in STAGES if stage not in page] == []


def test_decisions_are_numbered_without_gaps(docs):
    numbers = sorted(int(path.name[:3]) for path in (docs / "decisions").glob("[0-9][0-9][0-9]-*.md"))
    assert numbers == list(range(len(numbers)))
