from dataclasses import replace

import numpy as np
import pandas as pd

from cytolabe.records import Protocol, ScoreStatus, Severity
from cytolabe.report.audit_tables import (
    certificates_table,
    claims_table,
    exposure_table,
    folds_table,
    found_table,
)
from cytolabe.report.evidence_tables import (
    confounding_table,
    duplicates_sentence,
    duplicates_table,
    gene_space_by_file,
    gene_space_table,
    not_testable_table,
    persons_sentence,
    support_tables,
)
from cytolabe.report.frames import frame_table
from cytolabe.report.guide import GUIDE
from cytolabe.report.integration import integration_board
from cytolabe.report.tables import (
    cut,
    findings_table,
    mappings_table,
    open_labels_table,
    provenance_table,
    row_groups,
    sources_table,
)
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


def test_a_data_set_is_listed_with_its_access_class_and_the_words_behind_a_hop(content):
    declared = {"access": "managed", "kit": "Single Cell 3' v3"}
    table = provenance_table(replace(content, datasets=[replace(content.datasets[0], declared=declared)]))
    (row,) = table.rows
    shown = {column.heading: cell for column, cell in zip(table.columns, row, strict=True)}
    assert shown["Access"].text == "managed"
    assert (shown["Kit"].text, shown["Kit"].detail) == ("declared", "Single Cell 3' v3")


def test_the_certificate_lists_tests_power_and_assumptions(content):
    texts = " ".join(f"{cell.text} {cell.detail}" for row in certificates_table(content).rows for cell in row)
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


def test_only_labels_that_wait_for_a_person_are_open(content):
    assert [row[3].text for row in open_labels_table(content).rows] == ["abstained", "review"]


def test_a_finding_of_several_files_is_one_row_that_names_them(content):
    warning = content.sources[0].findings[0]
    sources = [
        replace(
            content.sources[0],
            source=f"{n}.h5ad",
            findings=(replace(warning, message=f"{n} % of the counts are lost"),),
        )
        for n in (3, 41)
    ]
    rows = findings_table(replace(content, sources=sources)).rows
    assert len(rows) == 1
    assert rows[0][2].text == "3 to 41 % of the counts are lost"
    assert rows[0][4].text == "3.h5ad, var (1,204,331 of 1,310,000); 41.h5ad, var (1,204,331 of 1,310,000)"


def test_an_example_that_the_message_tells_is_not_repeated(content):
    finding = replace(
        content.sources[2].findings[0], message="not whole: CD3E = 1.386", examples=("CD3E = 1.386", "B = 2")
    )
    rows = findings_table(replace(content, sources=[replace(content.sources[2], findings=(finding,))])).rows
    assert rows[0][2].detail == "e.g. B = 2"


def test_more_warnings_than_the_one_shown_are_counted(content):
    first = content.sources[0].findings[0]
    several = (first, replace(first, code="W-X-01"), replace(first, code="N-X-02", severity=Severity.NOTE))
    row = sources_table(replace(content, sources=[replace(content.sources[0], findings=several)])).rows[0]
    assert "(1 more warning in the findings)" in row[2].text


def test_rows_of_one_group_are_counted_at_the_first():
    frame = pd.DataFrame({"a": ["x", "x", "y", "x"], "b": [1, 2, 3, 4]})
    table = frame_table(frame, key="k", caption="c", is_grouped=True)
    assert row_groups(table) == (2, 0, 1, 1)
    assert row_groups(replace(table, is_grouped=False)) == (1, 1, 1, 1)


def test_a_qualification_of_all_folds_is_said_once(content):
    folds = [replace(fold, status="QUALIFIED", reason="persons unknown") for fold in content.folds[:3]]
    table = folds_table(replace(content, folds=[*folds, content.folds[3]]))
    assert table.remarks == ("Every fold that is not refused: persons unknown.",)
    assert [row[1].detail for row in table.rows][:3] == ["", "", ""]
    assert "copies" in table.rows[3][1].detail


def test_claims_with_one_verdict_are_one_row_and_the_refused_come_first(content):
    claims = pd.DataFrame(
        {
            "claim": ["sex of a donor"] * 3,
            "where": ["component=a", "component=b", "component=c"],
            "status": ["SCORED", "REFUSED", "REFUSED"],
            "reason": ["", "no test cell has a known sex", "no test cell has a known sex"],
        }
    )
    rows = claims_table(replace(content, claims_refused=claims)).rows
    assert [(row[1].text, row[2].text) for row in rows] == [("REFUSED", "b, c"), ("possible", "a")]


TESTS = (
    {
        "test": "sides",
        "n_found": 0,
        "n_tested": 2_760,
        "power": "exact",
        "n_train": 2_000,
        "train_cells_digest": "sha256:ab",
    },
    {"test": "shared persons", "n_found": 1, "n_tested": 31, "power": "exact"},
    {"test": "shared donor names", "n_found": 0, "n_tested": 0, "power": "suspicion only"},
    {"test": "fit scope of pca", "n_found": 0, "n_tested": 6, "power": "by digest", "steps": [{"step": "pca"}]},
    {"test": "fit scope of scvi", "n_found": 1, "n_tested": 7, "power": "by digest", "steps": []},
)


def test_tests_stand_beside_each_other_by_fold(content):
    certificate = replace(content.certificates[0], tests=TESTS)
    table = found_table(replace(content, certificates=[certificate, replace(certificate, split_id="component=b")]))
    assert [column.heading for column in table.columns] == ["Test", "kang18", "b"]
    assert [(row[0].text, row[1].text, row[1].tone) for row in table.rows] == [
        ("cells on both sides", "0 of 2,760", ""),
        ("shared persons", "1 of 31", "bad"),
        ("equal donor names, persons unknown", "0 of 0", "muted"),
    ]


def test_too_many_folds_are_left_to_the_certificates(content):
    assert found_table(replace(content, certificates=[content.certificates[0]] * 11)).rows == ()


def test_fits_are_one_row_of_a_certificate_and_digests_stay_in_the_file(content):
    blind = {"identical cells, a|b": 7, "identical cells, a|a": 2, "persons of test cells": 270}
    certificate = replace(content.certificates[0], tests=TESTS, not_testable=blind)
    table = certificates_table(replace(content, certificates=[certificate]))
    told = {row[1].text: (row[2].text, row[3].text) for row in table.rows}
    assert told["cells behind each fit, 2 models"][0] == "13 steps recorded"
    assert told["identical cells, too shallow"] == (
        "not testable in 2 comparisons",
        "within a: 2 cells; a and b: 7 cells",
    )
    assert told["persons of test cells"][0] == "270 not testable"
    assert "sha256" not in str(table)


def test_models_and_data_sets_with_one_exposure_share_a_row(content):
    first = content.exposure[0]
    rows = exposure_table(
        replace(
            content, exposure=[first, replace(first, model="pca"), replace(first, dataset_id="b", status="unknown")]
        )
    ).rows
    assert [(row[0].text, row[2].text, row[3].text) for row in rows] == [
        ("kang18_muscat", "out", "pca, scvi"),
        ("b", "unknown", "scvi"),
    ]


def test_support_is_a_table_of_classes_by_files_for_each_level(content):
    support = pd.DataFrame(
        {
            "level": ["mid", "mid", "mid", "broad"],
            "dataset_id": ["one", "two", "one", "one"],
            "term": ["CL:0000236", "CL:0000236", "", "CL:0000236"],
            "reason": ["", "", "unlabelled", ""],
            "n_cells": [5, 7, 11, 5],
        }
    )
    broad, mid = support_tables(replace(content, support=support))
    assert broad.caption.endswith("“broad”")
    assert [column.heading for column in mid.columns] == ["Class", "one", "two", "All files"]
    assert [cell.text for cell in mid.rows[0]] == ["B cell", "5", "7", "12"]
    assert [cell.text for cell in mid.rows[1]] == ["not counted", "11", ABSENT, "11"]


GENES = pd.DataFrame(
    {
        "split": ["a", "a", "a"],
        "policy": ["intersection", "pairwise", "pairwise"],
        "n_genes": [94, 249, 1_127],
        "train_datasets": ["x, y", "x", "y"],
        "test_datasets": ["z", "z", "z"],
        "left_out": ["w", "", ""],
        "absent_markers": ["CD3E, CD4", "CD4", "CD4, CD8A"],
        "dataset_id": ["x", "x", "y"],
        "side": ["train"] * 3,
        "n_genes_measured": [1_849, 1_849, 1_516],
        "counts_kept_fraction": [0.08, 0.447, 0.917],
        "median_counts_left": [136.0, 347.5, 2_357.0],
    }
)


def test_gene_spaces_say_what_is_left_per_fold_and_policy(content):
    rows = gene_space_table(replace(content, gene_spaces=GENES)).rows
    assert [cell.text for cell in rows[0]] == ["a", "intersection", "94", "8.0 %", "136", "CD3E, CD4", "w"]
    assert [cell.text for cell in rows[1]] == [
        "a",
        "pairwise",
        "249 to 1,127",
        "44.7 % to 91.7 %",
        "348 to 2,357",
        "in every pair: CD4; in some: CD8A",
        ABSENT,
    ]


def test_fractions_of_frames_are_percent(content):
    table = gene_space_by_file(replace(content, gene_spaces=GENES))
    assert "8.0 %" in [cell.text for cell in table.rows[0]]
    assert "CD4" not in str(table)


def test_persons_are_told_in_one_line(content):
    persons = pd.DataFrame({"person_id": ["a", "unknown"], "state": ["resolved", "unknown"], "n_cells": [2_490, 270]})
    assert (
        persons_sentence(replace(content, persons=persons))
        == "1 person with 2,490 cells; 270 cells of unknown persons."
    )


def test_pairs_of_copies_are_counted_by_files_and_listed_up_to_two_hundred(content):
    pairs = pd.DataFrame(
        {"a_row": range(260), "cell_a": ["a:1"] * 260, "dataset_a": ["a"] * 260, "dataset_b": ["b"] * 260}
    )
    changed = replace(content, duplicates=pairs)
    assert duplicates_sentence(changed) == "260 between a and b."
    table = duplicates_table(changed)
    assert (len(table.rows), table.n_left_out) == (200, 60)
    assert [column.heading for column in table.columns] == ["Cell A"]


def test_comparisons_that_could_not_be_made_start_with_the_largest(content):
    rows = not_testable_table(replace(content, duplicates_not_testable={"a|a": 3, "a|b": 12})).rows
    assert [(row[0].text, row[1].text) for row in rows] == [("a and b", "12"), ("within a", "3")]


def test_confounding_starts_with_all_files_and_counts_idle_pairs(content):
    frame = pd.DataFrame(
        {
            "dataset_id": ["fir", "fir", None],
            "technical": ["assay", "site", "assay"],
            "biological": ["disease"] * 3,
            "unit": ["donor", "donor", "library"],
            "cramers_v": [1.0, np.nan, 0.89],
            "theils_u": [1.0, np.nan, 1.0],
            "n_units": [6, 6, 1],
            "status": ["REFUSED", "NOT_RUN", "SCORED"],
            "reason": ["nested", "one level", ""],
        }
    )
    table = confounding_table(replace(content, confounding=frame))
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["all files", "assay", "disease", "0.890", "1.000", ABSENT, ABSENT, "1 library", "possible"],
        ["fir", "assay", "disease", "1.000", "1.000", ABSENT, ABSENT, "6 donors", "REFUSED"],
    ]
    assert "1 pair without two known levels on both sides are not listed" in table.note


def test_batches_and_types_stand_between_their_controls_and_a_refusal_has_no_number(content):
    base = content.scores[0]
    rows = [
        replace(
            base, task="integration", model=model, metric=metric, resolution=content.decision_level, stratum="all",
            gene_policy=content.gene_policy, value=None if model == "harmony" else 0.25, raw_value=0.5,
            status=ScoreStatus.REFUSED if model == "harmony" else ScoreStatus.SCORED, reason="nested",
            protocol=Protocol.CONTROL if model.startswith("control") else Protocol.SELF_SUPERVISED, notes=("a sample",),
        )
        for model in ("harmony", "control: none", "control: shuffled")
        for metric in ("bras", "avg_bio")
    ]  # fmt: skip
    table = integration_board(replace(content, integration=rows), base.split)
    assert [(row[0].text, row[0].detail) for row in table.rows] == [
        ("none", "control"), ("shuffled", "control"), ("harmony", "")
    ]  # fmt: skip
    headings = [column.heading for column in table.columns]
    refused = dict(zip(headings, table.rows[2], strict=True))
    assert (refused["BRAS"].text, refused["AvgBIO"].text, refused["NMI"].text) == ("REFUSED", "REFUSED", ABSENT)
    assert refused["Status"].text == "REFUSED"
    assert table.remarks == ("a sample",)
    assert integration_board(content, base.split) is None
