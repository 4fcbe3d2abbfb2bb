"""Labels can be reviewed of files that are in no atlas, the refused ones included; the real files get their sheets."""

import json
import re

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import UnreadableInputError, UsageError
from cytolabe.flow.drafts import reconcile_files, reconcile_place
from cytolabe.flow.interpret import reconcile_atlas
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile import read_justifications, read_sssom, reconcile_labels
from cytolabe.reconcile.labels import LABEL_COLUMNS
from cytolabe.reconcile.open_labels import OPEN_CODES
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.testing.simulate import simulate_contributions


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    simulate_contributions(folder, scale=0.5)
    return folder


def sheet_rows(path):
    page = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])[
        "labels"
    ]


def test_a_refused_file_has_its_labels_reviewed_and_nothing_else_is_written(simulated, tmp_path):
    summary = reconcile_place(simulated / "iris_log.h5ad", export=tmp_path / "review.tsv")
    assert summary.mappings
    assert {m.dataset_id for m in summary.mappings} == {"iris_log"}
    assert read_sssom(tmp_path / "review.tsv") == summary.mappings
    assert {path.name for path in tmp_path.iterdir()} == {"review.tsv", "review.html"}


def test_a_file_maps_as_it_will_in_an_atlas_and_its_decisions_apply_there(simulated, tmp_path):
    drafted = reconcile_files([simulated / "amber.h5ad"], export=tmp_path / "draft.tsv")
    ingest_sources(tmp_path / "atlas", [simulated / "amber.h5ad"])
    assert reconcile_atlas(tmp_path / "atlas").mappings == drafted.mappings
    text = (tmp_path / "draft.tsv").read_text(encoding="utf-8").replace("\tauto\t", "\treviewed\t")
    (tmp_path / "decisions.tsv").write_text(text, encoding="utf-8")
    reconcile_place(tmp_path / "atlas", reviewed=tmp_path / "decisions.tsv")
    reviewed = [m for m in open_atlas(tmp_path / "atlas").mappings() if m.decision == "reviewed"]
    assert len(reviewed) == drafted.count("auto") > 0


def test_an_atlas_whose_only_file_was_refused_says_how_its_labels_can_be_mapped(simulated, tmp_path):
    (refused,), _, _ = ingest_sources(tmp_path / "atlas", [simulated / "iris_log.h5ad"])
    [counts] = [finding for finding in refused.findings if finding.code == "E-COUNTS-01"]
    assert "cytolabe reconcile FILE" in counts.remedy
    summary = reconcile_place(tmp_path / "atlas")
    assert [finding.code for finding in summary.findings] == ["N-LABEL-14"]
    assert "cytolabe reconcile FILE" in summary.findings[0].remedy


def test_what_is_neither_atlas_nor_source_is_refused(simulated, tmp_path):
    with pytest.raises(UsageError, match="no atlas"):
        reconcile_place(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="Ingest it first"):
        reconcile_place(simulated / "amber.h5ad", reviewed=tmp_path / "x.tsv")
    (tmp_path / "broken.h5ad").write_bytes(b"no HDF5")
    with pytest.raises(UnreadableInputError, match=r"broken.h5ad"):
        reconcile_files([tmp_path / "broken.h5ad"])


BRAIN = {
    "Oligo NN": "CL:0000128", "OPC NN": "CL:0002453", "Endo NN": "CL:0000115", "Peri NN": "CL:0000669",
    "SMC NN": "CL:0000192", "VLMC NN": "CL:4023051", "Microglia NN": "CL:0000129", "BAM NN": "CL:0000235",
    "Lymphoid NN": "CL:0000542", "OEC NN": "CL:0011028", "Bergmann NN": "CL:0000644", "Ependymal NN": "CL:0000065",
    "Hypendymal NN": "CL:4023181", "CHOR NN": "CL:0000706", "Astro-TE NN": "CL:0000127", "Astro-NT NN": "CL:0000127",
    "Astro-OLF NN": "CL:0000127", "OB-STR-CTX Inh IMN": "CL:0000031", "OB Dopa-Gaba": "CL:0000700",
    "HB Calcb Chol": "CL:0000108", "SNc-VTA-RAmb Foxa1 Dopa": "CL:0000700", "MV Nkx6-1 Gly-Gaba": "CL:1001509",
}  # fmt: skip
PANCREAS = {"alpha": "CL:0000171", "beta": "CL:0000169", "gamma": "CL:0002275", "delta": "CL:0000173"}
TUMOR = {
    "Fibroblast": "CL:0000057", "B cell": "CL:0000236", "Macrophage": "CL:0000235", "Endothelial": "CL:0000115",
    "Dendritic": "CL:0000451", "Mast": "CL:0000097", "CD4 T cell": "CL:0000624", "CD8 T cell": "CL:0000625",
}  # fmt: skip
SORTED = {
    "nk": "CL:0000623", "bcells": "CL:0000236", "monocytes": "CL:0000576", "naivet": "CL:0000898",
    "naivecytotoxic": "CL:0000900",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n_labels", "decided"),
    [
        ("pancreas_xin16_scclassify", 4, PANCREAS),
        ("puram17_headneck_chetah", 9, TUMOR),
        ("mouse_brain_merfish_cxg", 146, BRAIN),
        ("pbmc3k_clustifyr", 9, {"CD14+ Mono": "CL:0000860", "FCGR3A+ Mono": "CL:0000875"}),
        ("zheng17_sorted_mudan", 9, SORTED),
    ],
)
def test_real_files_have_their_review_sheets(name, n_labels, decided, real_files, tmp_path):
    summary = reconcile_files([real_files / f"{name}.h5ad"], export=tmp_path / "review.tsv")
    assert len(summary.mappings) == n_labels
    found = {m.contributor_label: m for m in summary.mappings}
    assert {label: (found[label].term, found[label].decision) for label in decided} == {
        label: (term, "auto") for label, term in decided.items()
    }
    rows = sheet_rows(tmp_path / "review.html")
    assert [row["label"] for row in rows if row["decision"] != "reserved"][:1] != []
    assert {row["label"] for row in rows} == set(found)
    assert all(row["choices"] for row in rows if row["term"])
    assert len(read_justifications(tmp_path / "review.tsv")) >= sum(bool(m.term) for m in summary.mappings)
    # Rule R6: sort gates without a lineage wait for a person, and nothing else of these files does.
    waiting = {m.contributor_label for m in summary.mappings if m.decision == "review"}
    assert waiting == {"memoryt", "thelper", "cytotoxict", "regulatoryt", "reg. T cell"} & set(found)


def test_the_brain_by_the_ids_that_it_claims_and_by_its_words_alone(real_files):
    """The file gives an id of CL for each cluster; clusters are finer than CL, and their last word says the transmitter."""
    ontology = load_ontology()
    claimed = {m.contributor_label: m for m in reconcile_files([real_files / "mouse_brain_merfish_cxg.h5ad"]).mappings}
    assert all(m.evidence.startswith("claimed by the contributor") for m in claimed.values())
    for word, term, n_labels in ((" Glut", "CL:0000679", 67), (" Gaba", "CL:0000617", 49)):
        ends = [m for label, m in claimed.items() if label.endswith(word)]
        assert len(ends) == n_labels
        assert [m.contributor_label for m in ends if not ontology.is_a(m.term, term)] == []
    rows = [
        dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": "d", "contributor_label": label, "tissue": "brain", "n_cells": 1}
        for label in claimed
    ]  # fmt: skip
    by_words, _ = reconcile_labels(pd.DataFrame(rows), ontology=ontology)
    accepted = [m for m in by_words if m.decision == "auto"]
    assert len(accepted) > 25
    assert [m for m in accepted if not ontology.related(m.term, claimed[m.contributor_label].term)] == []
    assert sum(m.term == claimed[m.contributor_label].term for m in accepted) > 0.8 * len(accepted)


def test_a_label_that_a_person_decided_waits_for_nobody(tmp_path):
    labels = np.array(["memory T", "helper T", "B cell", "doublet"])[np.arange(60) % 4]
    counts = np.random.default_rng(2).negative_binomial(0.5, 0.1, size=(60, 600)).astype(np.float32)
    obs = pd.DataFrame({"cell_type": labels}, index=[f"c{row}" for row in range(60)])
    var = pd.DataFrame(index=sorted(load_reference().protein_coding)[:600])
    anndata.AnnData(csr_matrix(counts), obs=obs, var=var).write_h5ad(tmp_path / "gates.h5ad")
    ingest_sources(tmp_path / "atlas", [tmp_path / "gates.h5ad"])
    first = reconcile_place(tmp_path / "atlas", export=tmp_path / "review.tsv")
    told = {finding.code: finding.n_affected for finding in first.findings if finding.code in OPEN_CODES}
    assert told == {"W-LABEL-09": 2, "N-LABEL-10": 1}
    text = (tmp_path / "review.tsv").read_text(encoding="utf-8").replace("\treview\t", "\treviewed\t")
    (tmp_path / "decisions.tsv").write_text(text, encoding="utf-8")
    applied = reconcile_place(tmp_path / "atlas", reviewed=tmp_path / "decisions.tsv")
    for again in (applied, reconcile_place(tmp_path / "atlas")):
        assert again.count("reviewed") == 2
        assert [finding.code for finding in again.findings if finding.code in OPEN_CODES] == ["N-LABEL-10"]
