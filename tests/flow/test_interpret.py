"""Interpretations are overlays: what a person decided outlives every later run."""

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.config.study import JoinedSpec, LabelContextSpec, PersonSpec, Study
from cytolabe.errors import UnreadableInputError
from cytolabe.flow.interpret import interpret_labels, interpret_persons, links_of, reconcile_atlas
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ontology.graph import load_ontology, shipped_releases
from cytolabe.reconcile import read_justifications
from cytolabe.records import LabelMapping, Predicate
from cytolabe.snapshot.atlas import open_atlas

LABELS = ("B cells", "NK", "thelper")


def written(path, *, seed, donors=("d1", "d2"), labels=LABELS):
    """Write the file of a lab: 60 cells, two donors, three labels."""
    counts = csr_matrix(np.random.default_rng(seed).negative_binomial(0.4, 0.08, size=(60, 800)).astype(np.float32))
    table = pd.DataFrame({"donor_id": np.array(donors)[np.arange(60) % len(donors)]})
    if labels:
        table["cell_type"] = np.array(labels)[np.arange(60) % len(labels)]
    table.index = [f"cell{i}" for i in range(60)]
    genes = pd.DataFrame(index=sorted(load_reference().protein_coding)[:800])
    anndata.AnnData(X=counts, obs=table, var=genes).write_h5ad(path)
    return path


@pytest.fixture
def atlas(tmp_path):
    """Return an atlas of two labs that both call a donor d1."""
    paths = [written(tmp_path / f"{name}.h5ad", seed=seed) for seed, name in enumerate(("ash", "yew"))]
    ingest_sources(tmp_path / "atlas", paths)
    return open_atlas(tmp_path / "atlas")


def terms_of(atlas):
    return {(m.dataset_id, m.contributor_label): (m.term, m.decision) for m in open_atlas(atlas.path).mappings()}


def persons_of(atlas):
    rows = open_atlas(atlas.path).persons().to_dict("records")
    return {(row["dataset_id"], row["donor_id"]): row["person_id"] for row in rows}


def review(term, *, dataset="ash", label="thelper"):
    return LabelMapping(
        dataset_id=dataset, contributor_label=label, predicate=Predicate.EXACT, term=term, term_name="",
        justification="semapv:ManualMappingCuration", confidence=1000, decision="reviewed", ontology_release="",
    )  # fmt: skip


def context(term):
    return Study(
        name="s", context=(LabelContextSpec(dataset="ash", label="thelper", term=term, evidence="sort gate: CD4+"),)
    )


def test_a_review_outlives_a_later_run_and_a_later_review_replaces_it(atlas):
    interpret_labels(atlas, reviewed=[review("CL:0000624")])
    interpret_labels(atlas)
    assert terms_of(atlas)["ash", "thelper"] == ("CL:0000624", "reviewed")
    _, findings = interpret_labels(atlas, reviewed=[review("CL:0000912")])
    assert terms_of(atlas)["ash", "thelper"] == ("CL:0000912", "reviewed")
    assert "E-REVIEW-04" not in {finding.code for finding in findings}


def test_two_rows_of_one_review_that_disagree_change_nothing(atlas):
    interpret_labels(atlas, reviewed=[review("CL:0000624")])
    _, findings = interpret_labels(atlas, reviewed=[review("CL:0000912"), review("CL:0000895")])
    assert "E-REVIEW-04" in {finding.code for finding in findings}
    assert terms_of(atlas)["ash", "thelper"] == ("CL:0000624", "reviewed")


def test_what_the_study_says_now_wins_over_what_it_said_before(atlas):
    interpret_labels(atlas, study=context("CL:0000912"))
    _, findings = interpret_labels(atlas, study=context("CL:0000624"))
    assert terms_of(atlas)["ash", "thelper"] == ("CL:0000624", "reviewed")
    assert not {"E-REVIEW-04", "E-LABEL-01"} & {finding.code for finding in findings}


def test_a_study_speaks_of_its_own_data_set_only(atlas):
    interpret_labels(atlas, study=context("CL:0000624"))
    assert terms_of(atlas)["yew", "thelper"][1] != "reviewed"


def test_a_declared_person_outlives_a_run_without_the_study(atlas):
    merged = Study(
        name="s",
        persons=tuple(PersonSpec(id="p1", dataset=name, donor="d1", evidence="paper") for name in ("ash", "yew")),
    )
    interpret_persons(atlas, study=merged)
    assert persons_of(atlas)["ash", "d1"] == persons_of(atlas)["yew", "d1"] == "p1"
    reconcile_atlas(atlas.path)
    assert persons_of(atlas)["ash", "d1"] == persons_of(atlas)["yew", "d1"] == "p1"
    assert persons_of(atlas)["yew", "d2"] == "yew/d2"


def test_running_again_publishes_nothing_new(atlas):
    study = Study(name="s", persons=(PersonSpec(id="p1", dataset="ash", donor="d1", evidence="paper"),))
    interpret_labels(atlas, reviewed=[review("CL:0000624")])
    interpret_persons(atlas, study=study)
    before = open_atlas(atlas.path).revision
    reconcile_atlas(atlas.path)
    assert open_atlas(atlas.path).revision == before


def test_a_study_that_speaks_of_a_data_set_again_replaces_its_declarations(atlas):
    interpret_persons(atlas, study=Study(name="s", persons=(PersonSpec(id="p1", dataset="ash", evidence="one"),)))
    assert set(persons_of(atlas).values()) == {"p1", "yew/d1", "yew/d2"}
    one = PersonSpec(id="p2", dataset="ash", donor="d1", evidence="two")
    interpret_persons(atlas, study=Study(name="s", persons=(one,)))
    assert persons_of(atlas)["ash", "d1"] == "p2"
    assert persons_of(atlas)["ash", "d2"] == "ash/d2"


def test_a_declaration_about_a_donor_who_is_gone_is_no_error(atlas, tmp_path):
    interpret_persons(
        atlas, study=Study(name="s", persons=(PersonSpec(id="p1", dataset="ash", donor="d1", evidence="paper"),))
    )
    ingest_sources(atlas.path, [written(tmp_path / "ash.h5ad", seed=9, donors=("e1", "e2"))])
    findings = interpret_persons(open_atlas(atlas.path))
    assert "E-PERSON-01" not in {finding.code for finding in findings}
    assert persons_of(atlas)["ash", "e1"] == "ash/e1"


def test_a_run_under_a_newer_release_tells_what_it_changes_for_labels_in_force(atlas):
    """An atlas that an older package mapped: one term was withdrawn since, one lies under other terms now."""
    old, new = load_ontology("CL", shipped_releases()[0]), load_ontology("CL")
    withdrawn, moved = "CL:0000054", "CL:0000576"
    assert (new.is_obsolete(withdrawn), new.replaced_by(withdrawn)) == (True, "CL:0000062")
    assert old.ancestors(moved) - new.ancestors(moved)
    rows = [
        dataclasses.replace(
            review(term, label=label), term_name=old.name(term), ontology_release=old.release, decision=decision
        )
        for label, term, decision in (
            ("B cells", withdrawn, "auto"), ("NK", moved, "auto"), ("thelper", withdrawn, "reviewed"),
        )
    ]  # fmt: skip
    atlas.put_mappings(rows, message="as an older release mapped them")
    mappings, findings = interpret_labels(atlas)
    told = {finding.code: finding for finding in findings if "-RELEASE-" in finding.code}
    assert set(told) == {"N-RELEASE-01", "W-RELEASE-04", "N-RELEASE-05"}
    assert {finding.where for finding in told.values()} == {f"CL {old.release} -> {new.release}"}
    assert f"{withdrawn} ({old.name(withdrawn)}) -> CL:0000062" in told["N-RELEASE-01"].examples[0]
    assert told["N-RELEASE-05"].examples == (
        "ash: 'B cells': CL:0000054 -> CL:0000236",
        "ash: 'NK': CL:0000576 -> CL:0000623",
    )
    kept = next(m for m in mappings if (m.dataset_id, m.contributor_label) == ("ash", "thelper"))
    assert (kept.term, kept.decision, kept.ontology_release) == ("CL:0000062", "reviewed", new.release)
    again, findings = interpret_labels(open_atlas(atlas.path))
    assert again == mappings
    assert not [finding for finding in findings if "-RELEASE-" in finding.code]


def test_labels_that_went_away_leave_no_mapping_behind(tmp_path):
    ingest_sources(tmp_path / "atlas", [written(tmp_path / "ash.h5ad", seed=1)])
    interpret_labels(open_atlas(tmp_path / "atlas"))
    assert open_atlas(tmp_path / "atlas").mappings()
    ingest_sources(tmp_path / "atlas", [written(tmp_path / "ash.h5ad", seed=1, labels=())])
    interpret_labels(open_atlas(tmp_path / "atlas"))
    assert open_atlas(tmp_path / "atlas").mappings() == ()


def test_the_summary_counts_every_label_once(atlas):
    summary = reconcile_atlas(atlas.path)
    words = ("auto", "reviewed", "review", "abstained", "reserved")
    assert summary.count(*words) == len(summary.mappings) == 6
    assert [name for name in summary.levels if name in {"broad", "mid", "fine"}] == list(summary.levels)


def test_joined_data_sets_are_linked_in_a_chain():
    study = dataclasses.replace(Study(name="s"), joined=(JoinedSpec(datasets=("a", "b", "c"), reason="one donor"),))
    assert [(link.dataset_a, link.dataset_b, link.reason) for link in links_of(study)] == [
        ("a", "b", "one donor"),
        ("b", "c", "one donor"),
    ]


class TestImports:
    """A table of others is the atlas's memory: it helps, is replaced by its newer self, and overrules nobody."""

    @staticmethod
    def table(folder, term, *, name="others.csv"):
        path = folder / name
        path.write_text(f"author_label,cl_id\nthelper,{term}\nZorb,CL:0000236\n", encoding="utf-8")
        return path

    def test_memory_is_kept_and_its_newer_self_replaces_it(self, atlas, tmp_path):
        reconcile_atlas(atlas.path, imports=[self.table(tmp_path, "CL:0000624")])
        reconcile_atlas(atlas.path)
        assert {row.term for row in open_atlas(atlas.path).memory()} == {"CL:0000624", "CL:0000236"}
        before = open_atlas(atlas.path).revision
        reconcile_atlas(atlas.path, imports=[self.table(tmp_path, "CL:0000624")])
        assert open_atlas(atlas.path).revision == before
        reconcile_atlas(atlas.path, imports=[self.table(tmp_path, "CL:0000912")])
        assert {row.term for row in open_atlas(atlas.path).memory()} == {"CL:0000912", "CL:0000236"}

    def test_no_reviewed_row_changes_through_an_import(self, atlas, tmp_path):
        interpret_labels(atlas, reviewed=[review("CL:0000624")])
        tables = [self.table(tmp_path, "CL:0000084", name=name) for name in ("a.csv", "b.csv")]
        reconcile_atlas(atlas.path, imports=tables)
        assert terms_of(atlas)["ash", "thelper"] == ("CL:0000624", "reviewed")

    def test_memory_is_no_part_of_what_a_snapshot_means(self, atlas, tmp_path):
        reconcile_atlas(atlas.path)
        before = open_atlas(atlas.path).freeze().snapshot_id
        path = tmp_path / "others.csv"
        path.write_text("author_label,cl_id\nZorb,CL:0000236\n", encoding="utf-8")
        reconcile_atlas(atlas.path, imports=[path])
        assert open_atlas(atlas.path).memory()
        assert open_atlas(atlas.path).freeze().snapshot_id == before

    def test_a_file_that_is_no_table_changes_nothing(self, atlas, tmp_path):
        before = open_atlas(atlas.path).revision
        (tmp_path / "x.csv").write_text("nothing\n", encoding="utf-8")
        with pytest.raises(UnreadableInputError, match="no header"):
            reconcile_atlas(atlas.path, imports=[self.table(tmp_path, "CL:0000624"), tmp_path / "x.csv"])
        assert open_atlas(atlas.path).revision == before

    def test_reasons_of_memory_are_exported_with_their_source(self, atlas, tmp_path):
        imports = [self.table(tmp_path, "CL:0000624")]
        reconcile_atlas(atlas.path, export=tmp_path / "review.tsv", imports=imports)
        sources = {reason.source: reason for reason in read_justifications(tmp_path / "review.tsv") if reason.source}
        assert (sources["others.csv"].term, sources["others.csv"].contributor_label) == ("CL:0000624", "thelper")
        assert "others.csv" in (tmp_path / "review.html").read_text(encoding="utf-8")
