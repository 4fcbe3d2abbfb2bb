from dataclasses import replace

import numpy as np
import pandas as pd

from cytolabe.report.audit_tables import certificates_table, folds_table
from cytolabe.report.guide import GUIDE
from cytolabe.report.tables import cut, frame_table, mappings_table, provenance_table, sources_table
from cytolabe.report.text import ABSENT
from cytolabe.report.verdict import verdict_of


def test_open_questions_come_before_what_is_settled(content):
    decisions = [row[3].text for row in mappings_table(content).rows]
    assert decisions == ["abstained", "review", "auto", "reviewed"]


def test_a_cut_table_says_how_many_rows_it_left_out(content):
    table = frame_table(pd.DataFrame({"n_cells": range(50)}), key="k", caption="c")
    assert (len(cut(table, 8).rows), cut(table, 8).n_left_out) == (8, 42)
    assert cut(cut(table, 8), 3).n_left_out == 47
    assert cut(table, 50) is table


def test_a_refusal_without_a_reason_is_called_a_defect(content):
    silent = replace(content, sources=[replace(content.sources[2], findings=())])
    assert "defect" in sources_table(silent).rows[0][2].text


def test_a_hop_that_nobody_described_is_unknown(content):
    other = replace(content.datasets[0], dataset_id="b", provenance={})
    table = provenance_table(replace(content, datasets=[*content.datasets, other]))
    assert [cell.text for cell in table.rows[1][-3:]] == ["unknown", "unknown", "unknown"]


def test_the_certificate_lists_tests_power_and_assumptions(content):
    texts = " ".join(cell.text for row in certificates_table(content).rows for cell in row)
    assert "n shared: 0" in texts
    assert "12 not testable" in texts
    assert "assumed to be different" in texts
    assert "proven" not in texts


def test_folds_count_their_cells(content):
    assert [row[3].text for row in folds_table(content).rows] == ["13,000"] * 4


def test_frames_with_any_columns_are_printed(content):
    frame = pd.DataFrame(
        {"x": [np.nan, 1.0], "ok": [True, False], "status": ["REFUSED", "SCORED"], "list": [["a"], []]}
    )
    rows = frame_table(frame, key="k", caption="c").rows
    assert [cell.text for cell in rows[0]] == [ABSENT, "yes", "REFUSED", "a"]
    assert rows[0][2].tone == "bad"


def test_the_verdict_counts_only_decided_labels_as_mapped(content):
    verdict = verdict_of(content)
    assert (verdict.n_labels_mapped, verdict.n_labels) == (2, 4)
    assert (verdict.n_cells_mapped, verdict.n_cells_labeled) == (4_800, 7_411)
    assert (verdict.n_accepted, verdict.n_refused, verdict.n_cells) == (2, 1, 29_458)


def test_every_number_says_what_it_hides():
    for entry in GUIDE:
        assert len(entry.says) > 40
        assert len(entry.hides) > 20
