"""The PBMC study on the real files says what rules R1-R7 and R11-R12 let it say, and no more."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cytolabe.audit import verifier
from cytolabe.config import read_study
from cytolabe.config.study import ModelSpec
from cytolabe.errors import RefusedError
from cytolabe.flow.certificates import write_counts
from cytolabe.flow.interpret import reconcile_atlas
from cytolabe.flow.publish import claims_table, publish_run
from cytolabe.flow.quality import purity_of
from cytolabe.flow.runs import run_on_folder
from cytolabe.flow.sources import ingest_sources
from cytolabe.flow.study import StudyEvidence, run_study, study_sources
from cytolabe.reconcile import read_justifications, read_sssom
from cytolabe.reconcile.justifications import INSTANCE
from cytolabe.records import ScoreStatus

STUDY = Path(__file__).resolve().parents[2] / "studies" / "pbmc.toml"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory, real_files: Path) -> StudyEvidence:
    study = read_study(STUDY, data=real_files)
    models = tuple(ModelSpec(name=name) for name in ("majority", "metadata_only", "pca"))
    study = dataclasses.replace(study, models=models, ceilings=False, gene_policies=("intersection",))
    return run_study(study, tmp_path_factory.mktemp("pbmc"), sources=study_sources(study))


def test_all_six_files_are_accepted(evidence):
    assert {outcome.dataset_id: outcome.status for outcome in evidence.outcomes} == {
        "kang18_harmony_stim_ctrl": "accepted",
        "kang18_muscat": "accepted",
        "pbmc3k_clustifyr": "accepted",
        "pbmc_10x_3tech_symphony": "accepted",
        "zheng17_pbmc_donora_mudan": "accepted",
        "zheng17_sorted_mudan": "accepted",
    }


def test_the_donor_column_of_the_three_technologies_is_not_believed(evidence):
    cells = evidence.snapshot.cells
    symphony = cells[cells["dataset_id"] == "pbmc_10x_3tech_symphony"]
    assert set(symphony["donor_id"]) == {"unknown"}
    codes = {
        finding.code
        for outcome in evidence.outcomes
        if outcome.dataset_id == "pbmc_10x_3tech_symphony"
        for finding in outcome.findings
    }
    assert "W-COLUMN-04" in codes


def test_exactly_the_114_copies_between_the_kang_files_are_found(evidence):
    pairs = evidence.duplicates.pairs
    assert len(pairs) == 114
    assert set(zip(pairs["dataset_a"], pairs["dataset_b"], strict=True)) == {
        ("kang18_harmony_stim_ctrl", "kang18_muscat")
    }


def test_there_are_three_components_and_each_is_held_out_whole(evidence):
    datasets = evidence.snapshot.cells["dataset_id"].to_numpy(dtype=object)
    held_out = {frozenset(datasets[fold.test_rows]) for fold in evidence.split.folds}
    assert held_out == {
        frozenset({"kang18_harmony_stim_ctrl", "kang18_muscat"}),
        frozenset({"pbmc3k_clustifyr", "pbmc_10x_3tech_symphony"}),
        frozenset({"zheng17_pbmc_donora_mudan", "zheng17_sorted_mudan"}),
    }
    assert all(fold.status == "QUALIFIED" and "persons unknown" in fold.reason for fold in evidence.split.folds)


@pytest.mark.parametrize(
    ("dataset_id", "label", "term"),
    [
        pytest.param("pbmc3k_clustifyr", "CD14+ Mono", "CL:0000860", id="CD14+ beside FCGR3A+ is classical"),
        pytest.param("pbmc3k_clustifyr", "FCGR3A+ Mono", "CL:0000875", id="FCGR3A+ is non-classical"),
        pytest.param("zheng17_sorted_mudan", "memoryt", "CL:0000897", id="the gate CD4+ CD45RO+ decides"),
        pytest.param("zheng17_sorted_mudan", "thelper", "CL:0000624", id="a gate on CD4 says no more than CD4 T"),
        pytest.param("zheng17_sorted_mudan", "cytotoxict", "CL:0000625", id="a gate on CD8 says no more than CD8 T"),
        pytest.param("zheng17_sorted_mudan", "regulatoryt", "CL:0000792", id="the gate CD4+ CD25+ decides"),
        pytest.param("pbmc_10x_3tech_symphony", "T_CD4", "CL:0000624", id="words in the other order"),
        pytest.param("pbmc_10x_3tech_symphony", "MK", "CL:0000556", id="an abbreviation"),
        pytest.param("pbmc3k_clustifyr", "Platelet", "CL:0000233", id="a platelet is no megakaryocyte"),
    ],
)
def test_messy_labels_mean_what_the_labs_meant(evidence, dataset_id, label, term):
    mapping = next(m for m in evidence.snapshot.mappings if (m.dataset_id, m.contributor_label) == (dataset_id, label))
    assert (mapping.term, mapping.predicate.value) == (term, "skos:exactMatch")


@pytest.fixture(scope="module")
def sheet(evidence: StudyEvidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The review table of the study's atlas, counts read; of a copy, because held back labels would be put in force."""
    folder = tmp_path_factory.mktemp("sheet")
    shutil.copytree(evidence.atlas.path, folder / "atlas")
    reconcile_atlas(folder / "atlas", export=folder / "review.tsv")
    return folder / "review.tsv"


def test_the_atlas_of_the_study_has_its_review_sheet_with_every_label_and_the_gates(evidence, sheet):
    mappings = {(m.dataset_id, m.contributor_label): m for m in read_sssom(sheet)}
    assert set(mappings) == {(m.dataset_id, m.contributor_label) for m in evidence.snapshot.mappings}
    gates = [(item.dataset, item.label) for item in evidence.study.context]
    assert len(gates) == 6
    for item in evidence.study.context:
        row = mappings[item.dataset, item.label]
        assert (row.term, row.decision, row.reviewer) == (item.term, "reviewed", item.reviewer)
        assert "sort gate" in row.evidence
    page = sheet.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count('"dataset":') == len(mappings)
    assert page.count("sort gate CD4+ CD45RO+") >= 1


def test_the_sheet_of_the_study_shows_what_the_cells_look_like_beside_what_the_words_say(sheet):
    reasons = read_justifications(sheet)
    seen = [reason for reason in reasons if reason.justification == INSTANCE]
    assert len({(reason.dataset_id, reason.contributor_label) for reason in seen}) > 20
    memory = {r.term for r in seen if (r.dataset_id, r.contributor_label) == ("zheng17_sorted_mudan", "memoryt")}
    assert memory
    assert {r.justification for r in reasons if r.contributor_label == "FCGR3A+ Mono"} > {INSTANCE}


def test_a_sort_gate_is_no_truth_and_its_marker_purity_is_told(evidence):
    """Rule R7: of the cells sorted as naive CD4 T cells, CD3D shows in 67 %."""
    table = purity_of(evidence.snapshot, "zheng17_sorted_mudan", evidence.quality["zheng17_sorted_mudan"])
    rows = table[(table["contributor_label"] == "naivet") & (table["marker"] == "CD3D")].to_dict("records")
    assert [(row["lineage"], row["state"], row["n_cells"]) for row in rows] == [("T cell", "measured", 52)]
    assert rows[0]["detected_fraction"] == pytest.approx(0.67, abs=0.005)
    assert rows[0]["elsewhere_fraction"] < rows[0]["detected_fraction"]
    assert evidence.snapshot.datasets["zheng17_sorted_mudan"].label_origin == "sorted"


def test_platelet_and_megakaryocyte_meet_only_at_the_level_that_declares_it(evidence):
    project = evidence.resolutions.project
    both = np.array(["CL:0000233", "CL:0000556"])
    assert list(project("mid", both)) == ["CL:0000233", "CL:0000556"]
    assert list(project("mid_platelet_as_megakaryocyte", both)) == ["CL:0000556", "CL:0000556"]


def test_the_gene_space_is_a_panel_and_every_score_says_so(evidence):
    scored = [s for s in evidence.result.scores if s.value is not None and s.split != "all folds"]
    assert scored
    assert all(80 <= s.n_genes <= 120 for s in scored)
    assert all(s.status is ScoreStatus.QUALIFIED and "panel" in s.reason for s in scored)
    absent = {marker for space in evidence.result.gene_spaces for marker in space.absent_markers}
    assert {"CD3D", "CD3E", "CD4", "CD8A", "CD8B", "CCR7"} <= absent


def test_a_file_whose_labelled_cells_are_all_copies_is_refused_as_a_test_set(evidence):
    rows = [s for s in evidence.result.scores if s.stratum == "dataset:kang18_harmony_stim_ctrl"]
    assert rows
    assert {s.status for s in rows} == {ScoreStatus.REFUSED}
    assert all(s.value is None for s in rows)


def test_the_sorted_file_is_refused_within_and_scored_when_held_out_whole(evidence):
    claims = claims_table(evidence).set_index("where")
    assert claims.loc["zheng17_sorted_mudan", "status"] == "REFUSED"
    whole = [
        s for s in evidence.result.scores
        if s.split == "component=zheng17" and s.metric == "macro_f1" and s.resolution == "mid" and s.stratum == "all"
    ]  # fmt: skip
    assert all(s.value is not None for s in whole)
    assert all("test batches equal labels" in " ".join((s.reason, *s.notes)) for s in whole)


def test_labels_coarser_than_a_level_are_excluded_and_counted(evidence):
    assert evidence.resolutions.level("mid").excluded == {"CL:0000576": "coarser than the level"}
    support = evidence.result.support
    coarse = support[(support["dataset_id"] == "zheng17_sorted_mudan") & (support["level"] == "mid")]
    assert coarse.loc[coarse["reason"] == "coarser than the level", "n_cells"].sum() == 129


def test_a_model_beats_its_floor_and_no_score_lacks_one(evidence):
    rows = [
        s for s in evidence.result.scores
        if s.metric == "macro_f1" and s.stratum == "all" and s.resolution == "mid" and s.model.startswith("pca")
        and s.split != "all folds"
    ]  # fmt: skip
    assert len(rows) == 6
    assert all(s.floor is not None and s.value > s.floor for s in rows)


def test_two_donors_are_printed_as_points_and_never_as_an_interval(evidence):
    row = next(
        s for s in evidence.result.scores
        if (s.split, s.model, s.metric, s.resolution, s.stratum)
        == ("component=kang18", "pca+logistic", "macro_f1", "mid", "all")
    )  # fmt: skip
    assert (row.low, row.high) == (None, None)
    assert len(row.points) == row.n_donors == 2


def test_the_report_ranks_no_model_and_stays_small(evidence, tmp_path):
    publish_run(evidence, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "rank no model" in page
    assert len(page.encode()) < 5_000_000
    assert "http://" not in page
    assert "https://" not in page
    document = json.loads((tmp_path / "scores.json").read_bytes())
    assert document["snapshot_id"] == evidence.snapshot.snapshot_id


def test_the_report_shows_persons_copies_confounding_exposure_and_the_certificate_of_every_score(evidence, tmp_path):
    publish_run(evidence, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    persons = page[page.index("Each person") :].partition("</details>")[0]
    assert all(name in persons for name in ("zheng17/donorA", "kang18_muscat", "pbmc3k_clustifyr"))
    assert "114 pairs of copied cells across files" in page
    pairs = page[page.index("<summary>The pairs") :].partition("</details>")[0]
    assert pairs.count("kang18_harmony_stim_ctrl:") >= 114
    heat = next(svg for svg in page.split("<svg")[1:] if "zheng17_sorted_mudan · batch" in svg.partition("</svg>")[0])
    assert "lost" in heat.partition("</svg>")[0]
    for title in ("Had a model seen the test cells before?", "Would published models have seen these cells?"):
        assert f"<details open><summary>{title}" in page
    rows = json.loads((tmp_path / "scores.json").read_bytes())["scores"]
    digests = {row["certificate"] for row in rows if row["split"] != "all folds"}
    assert len(digests) == 3
    # Once by its fold, and once where the folds are counted together.
    assert all(page.count(f"<code>{digest}</code>") == 2 for digest in digests)


def test_a_file_of_plain_python_agrees_with_the_certificates_and_finds_the_copies_inside_a_fold(evidence, tmp_path):
    publish_run(evidence, tmp_path)
    names = ("certificate.json", "split.json", "cells.tsv", "scores.json")
    assert verifier.main([str(tmp_path / name) for name in names]) == 0
    # Counts of the two Kang files are enough to find their copies; a fold between the files would be caught.
    _, cells = verifier.read_cells(tmp_path / "cells.tsv")
    kang = [name for name in evidence.snapshot.datasets if name.startswith("kang18")]
    counts = [path for path in write_counts(evidence.snapshot, tmp_path) if any(name in path.name for name in kang)]
    sides = [[n for n, cell in enumerate(cells) if cell["dataset_id"] == name] for name in kang]
    found = verifier.identical(verifier.Fold(cells, *sides), verifier.read_counts(counts), least=(100, 300))
    assert found["n_found"] == 114


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        pytest.param("pbmc4k_scdcc_anon", "E-GENES-01", ("gene", "name"), id="no gene names"),
        pytest.param("liver_bcells_cxg", "E-COUNTS-01", ("raw counts", "log"), id="only normalized values"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_cause_place_and_remedy(real_files, tmp_path, name, code, words):
    outcomes, _, revision = ingest_sources(tmp_path / "atlas", [real_files / f"{name}.h5ad"])
    (outcome,) = outcomes
    assert outcome.status == "refused"
    finding = next(finding for finding in outcome.findings if finding.code == code)
    assert all(word in finding.message.lower() for word in words)
    assert finding.where
    assert finding.remedy
    assert revision == 0


def test_a_folder_of_refused_files_only_ends_with_every_cause(real_files, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("pbmc4k_scdcc_anon", "liver_bcells_cxg"):
        shutil.copy(real_files / f"{name}.h5ad", folder)
    with pytest.raises(RefusedError, match=r"(?s)None of 2 file.*E-COUNTS-01.*E-GENES-01"):
        run_on_folder(folder, tmp_path / "out")
