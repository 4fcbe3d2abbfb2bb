"""Mappings leave as CAS documents that the schema's own rules and our reader take."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.flow.interpret import interpret_labels
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile import read_import
from cytolabe.reconcile.cas import cas_document
from cytolabe.records import LabelMapping, Predicate
from cytolabe.snapshot.atlas import open_atlas

LABELS = np.array(["B cells", "NK", "thelper", "", "c7"])


@pytest.fixture
def atlas(tmp_path):
    counts = csr_matrix(np.random.default_rng(1).negative_binomial(0.4, 0.08, size=(50, 700)).astype(np.float32))
    table = pd.DataFrame({"cell_type": LABELS[np.arange(50) % 5]}, index=[f"cell{i}" for i in range(50)])
    genes = pd.DataFrame(index=sorted(load_reference().protein_coding)[:700])
    anndata.AnnData(X=counts, obs=table, var=genes).write_h5ad(tmp_path / "ash.h5ad")
    ingest_sources(tmp_path / "atlas", [tmp_path / "ash.h5ad"])
    return open_atlas(tmp_path / "atlas")


def test_every_labelled_cell_is_in_one_annotation_and_only_accepted_terms_are_given(atlas, tmp_path):
    ended = CliRunner().invoke(app, ["reconcile", str(atlas.path), "--cas", str(tmp_path / "cas"), "--json"])
    (path,) = json.loads(ended.stdout)["cas"]
    document = json.loads((tmp_path / "cas" / "ash.cas.json").read_text())
    assert path.endswith("ash.cas.json")
    assert {"author_name", "labelsets", "annotations"} <= set(document)
    (labelset,) = document["labelsets"]
    assert labelset["name"] == "cell_type"
    by_label = {row["cell_label"]: row for row in document["annotations"]}
    assert {row["labelset"] for row in by_label.values()} == {"cell_type"}
    ids = [name for row in by_label.values() for name in row["cell_ids"]]
    assert sorted(ids) == sorted(f"cell{i}" for i in range(50) if i % 5 != 3)
    accepted = {m.contributor_label: m.term for m in open_atlas(atlas.path).mappings() if m.decision == "auto"}
    given = {label: row["cell_ontology_term_id"] for label, row in by_label.items() if "cell_ontology_term_id" in row}
    assert given == accepted
    assert "thelper" not in given
    assert by_label["thelper"]["author_annotation_fields"]["decision"] == "review"


def test_our_reader_takes_the_document_back(atlas, tmp_path):
    interpret_labels(atlas)
    CliRunner().invoke(app, ["reconcile", str(atlas.path), "--cas", str(tmp_path / "cas")])
    rows, findings = read_import(tmp_path / "cas" / "ash.cas.json", ontology=load_ontology())
    assert {row.label: row.term for row in rows} == {"B cells": "CL:0000236", "NK": "CL:0000623"}
    assert not findings


def test_a_review_is_told_with_its_reviewer_and_parents_are_a_labelset(atlas):
    record = atlas.entry("ash").record
    cells = atlas.cells()
    cells["label_parent"] = np.where(cells["contributor_label"] == "NK", "lymphoid", "")
    reviewed = LabelMapping(
        dataset_id="ash", contributor_label="NK", predicate=Predicate.EXACT, term="CL:0000623",
        term_name="natural killer cell", justification="semapv:MappingReview", confidence=1000, decision="reviewed",
        ontology_release="x", reviewer="A. Reviewer", review_date="2026-11-25", evidence="x" * 3000,
    )  # fmt: skip
    document = cas_document(record, cells, [reviewed])
    label, parent = document["annotations"]
    assert label["reviews"] == [{"datestamp": "2026-11-25", "reviewer": "A. Reviewer", "review": "Agree"}]
    assert len(label["rationale"]) == 2000
    assert (parent["labelset"], parent["cell_label"]) == (document["labelsets"][1]["name"], "lymphoid")
    assert parent["cell_ids"] == label["cell_ids"]
