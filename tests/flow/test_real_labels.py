"""Every labelled file at hand reconciles: a table that SSSOM's own library takes, a page, and an export that says no more than it did."""

from pathlib import Path

import pytest

from cytolabe.flow.drafts import reconcile_files
from cytolabe.reconcile import apply_review, read_sssom
from cytolabe.reconcile.review import review_queue

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"
PATHS = sorted(FILES.glob("*.h5ad")) if FILES.is_dir() else []

pytestmark = [pytest.mark.skipif(not PATHS, reason="the shared files are not here"), pytest.mark.slow]


@pytest.fixture(scope="module")
def reconciled(tmp_path_factory):
    table = tmp_path_factory.mktemp("real") / "review.tsv"
    return table, reconcile_files(PATHS, export=table)


def test_every_label_of_every_file_has_a_decision_and_a_reason(reconciled):
    _, summary = reconciled
    assert len({m.dataset_id for m in summary.mappings}) >= 12
    assert not [m for m in summary.mappings if not m.evidence]
    assert {m.decision for m in summary.mappings} <= {"auto", "review", "abstained", "reserved"}
    assert all(bool(m.term) == (m.decision in {"auto", "review"}) for m in summary.mappings)


def test_the_queue_begins_with_the_most_cells_times_uncertainty(reconciled):
    _, summary = reconciled
    opened = [m for m in review_queue(summary.mappings) if m.decision not in {"reviewed", "reserved"}]
    weights = [m.n_cells * (1000 - m.confidence) for m in opened]
    assert weights == sorted(weights, reverse=True)


def test_an_export_that_nobody_touched_changes_nothing(reconciled):
    table, summary = reconciled
    merged, findings = apply_review(summary.mappings, read_sssom(table))
    assert merged == summary.mappings
    assert not [finding for finding in findings if "REVIEW" in finding.code]


@pytest.mark.filterwarnings("ignore")
def test_the_sssom_library_finds_no_fault_in_the_table(reconciled):
    parsers = pytest.importorskip("sssom.parsers")
    from sssom.constants import DEFAULT_VALIDATION_TYPES  # noqa: PLC0415 - optional oracle
    from sssom.validators import validate  # noqa: PLC0415 - optional oracle

    table, summary = reconciled
    parsed = parsers.parse_sssom_table(str(table))
    assert len(parsed.df) >= len(summary.mappings)
    reports = validate(parsed, DEFAULT_VALIDATION_TYPES, fail_on_error=False)
    assert not [result for report in reports.values() for result in report.results]


def test_the_page_holds_every_label(reconciled):
    table, summary = reconciled
    page = table.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count('"dataset":') == len(summary.mappings)
    assert 'http-equiv="Content-Security-Policy"' in page
