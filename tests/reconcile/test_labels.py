import random
from pathlib import Path

import h5py
import pandas as pd
import pytest
from anndata.io import read_elem

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.combine import ACCEPT
from cytolabe.reconcile.labels import LABEL_COLUMNS, StudyContext, count_unlabelled, label_table, reconcile_labels
from cytolabe.records import Predicate, Severity

CL = load_ontology()
FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"
CLASSICAL, NONCLASSICAL = "CL:0000860", "CL:0000875"
MEMORY_T, HELPER_T, CYTOTOXIC_T, REGULATORY_T = "CL:0000813", "CL:0000912", "CL:0000910", "CL:0000815"


def table(*labels, dataset_id="d1", tissue="blood", **more):
    rows = []
    for i, label in enumerate(labels):
        row = dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": dataset_id, "contributor_label": label}
        rows.append(row | {"tissue": tissue, "n_cells": 10 + i} | {k: v[i] for k, v in more.items()})
    return pd.DataFrame(rows, columns=list(LABEL_COLUMNS))


def mapped(*labels, **more):
    mappings, _ = reconcile_labels(table(*labels, **more), ontology=CL)
    return {m.contributor_label: m for m in mappings}


def codes(findings):
    return [f.code for f in findings]


def test_a_label_table_has_one_row_per_label_and_leaves_unlabelled_cells_out():
    cells = pd.DataFrame({
        "dataset_id": ["a", "a", "a", "b"], "contributor_label": ["B", "B", "", "B"], "label_parent": ["L", "", "", ""],
        "tissue": ["spleen", "blood", "blood", "blood"],
    })  # fmt: skip
    labels = label_table(cells)
    assert labels.to_dict("records") == [
        {"dataset_id": "a", "contributor_label": "B", "label_parent": "L", "tissue": "blood || spleen",
         "claimed_term": "", "n_cells": 2},
        {"dataset_id": "b", "contributor_label": "B", "label_parent": "", "tissue": "blood", "claimed_term": "",
         "n_cells": 1},
    ]  # fmt: skip
    assert count_unlabelled(cells) == {"a": 1, "b": 0}
    assert label_table(cells.iloc[[2]]).empty


@pytest.mark.parametrize(
    ("cd14", "cd16"),
    [("CD14+ Mono", "FCGR3A+ Mono"), ("Mono_CD14", "Mono_CD16"), ("CD14+ Monocytes", "FCGR3A+ Monocytes"),
     ("Mono CD14", "Mono CD16"), ("CD14 monocytes", "CD16+ Mono")],
)  # fmt: skip
def test_cd14_beside_cd16_monocytes_are_classical_and_non_classical(cd14, cd16):
    found = mapped(cd14, cd16, "B")
    assert (found[cd14].term, found[cd14].predicate, found[cd14].decision) == (CLASSICAL, Predicate.EXACT, "auto")
    assert (found[cd16].term, found[cd16].predicate, found[cd16].decision) == (NONCLASSICAL, Predicate.EXACT, "auto")
    assert cd16 in found[cd14].evidence


def test_cd14_monocytes_alone_wait_for_a_person():
    found = mapped("CD14+ Mono", "B")["CD14+ Mono"]
    assert found.decision == "review"
    assert CL.is_a(found.term, "CL:0000576")


def test_neighbors_of_another_data_set_decide_nothing():
    both = pd.concat([table("CD14+ Mono", dataset_id="a"), table("CD16+ Mono", dataset_id="b")])
    mappings, _ = reconcile_labels(both, ontology=CL)
    assert mappings[0].decision == "review"


@pytest.mark.parametrize(
    ("label", "term"),
    [("memoryt", MEMORY_T), ("thelper", HELPER_T), ("cytotoxict", CYTOTOXIC_T), ("regulatoryt", REGULATORY_T)],
)
def test_a_t_cell_without_its_lineage_is_never_accepted_unseen(label, term):
    found = mapped(label)[label]
    assert (found.term, found.decision) == (term, "review")
    assert found.confidence < ACCEPT


def test_the_sort_gates_of_the_study_decide():
    gates = {"memoryt": "CL:0000897", "thelper": "CL:0000624", "cytotoxict": "CL:0000625", "regulatoryt": "CL:0000792"}
    context = [
        StudyContext(dataset_id="d1", contributor_label=label, term=term, predicate="skos:broadMatch",
                     evidence="gate: CD4+/CD45RO+", reviewer="a person")
        for label, term in gates.items()
    ]  # fmt: skip
    mappings, findings = reconcile_labels(table(*gates), ontology=CL, context=context)
    assert {m.contributor_label: m.term for m in mappings} == gates
    for m in mappings:
        assert (m.decision, m.confidence, m.reviewer) == ("reviewed", 1000, "a person")
        assert m.justification == "semapv:ManualMappingCuration"
        assert m.evidence == "gate: CD4+/CD45RO+"
        assert m.predicate is Predicate.BROAD
        assert CL.is_a(m.term, "CL:0000624") or CL.is_a(m.term, "CL:0000625")
    assert not findings


@pytest.mark.parametrize(
    "wrong",
    [{"contributor_label": "memory"}, {"term": "CL:9999999"}, {"term": "CL:0000002"}, {"predicate": "exact"}],
)
def test_a_declaration_that_cannot_be_used_is_an_error_and_not_a_silent_skip(wrong):
    said = {"dataset_id": "d1", "contributor_label": "memoryt", "term": "CL:0000897"} | wrong
    mappings, findings = reconcile_labels(table("memoryt"), ontology=CL, context=[StudyContext(**said)])
    assert codes(findings)[0] == "E-LABEL-01"
    assert findings[0].severity is Severity.ERROR
    assert mappings[0].decision == "review"


@pytest.mark.parametrize("label", ["unknown", "Doublet", "7", "c3", "Unassigned"])
def test_a_reserved_word_or_code_is_never_guessed(label):
    mappings, findings = reconcile_labels(table(label, "B"), ontology=CL)
    found = next(m for m in mappings if m.contributor_label == label)
    assert (found.decision, found.term, found.predicate) == ("reserved", "", Predicate.NONE)
    assert "N-LABEL-10" in codes(findings)


@pytest.mark.parametrize("label", ["K562", "A549", "jurkat", "xyzzy", "T98G"])
def test_what_is_no_cell_type_is_left_without_a_term(label):
    mappings, findings = reconcile_labels(table(label), ontology=CL)
    assert (mappings[0].decision, mappings[0].term) == ("abstained", "")
    assert "W-LABEL-08" in codes(findings)


def test_a_live_claimed_id_is_taken():
    found = mapped("Mature B cells", claimed_term=["CL:0000785"])["Mature B cells"]
    assert (found.term, found.decision) == ("CL:0000785", "auto")
    assert "claimed" in found.evidence


def test_an_obsolete_claimed_id_is_replaced_and_recorded():
    old = next(t for t, r in sorted(CL.records.items()) if r.obsolete and (r.replaced_by or "") in CL)
    mappings, findings = reconcile_labels(table("zzz", claimed_term=[old]), ontology=CL)
    assert mappings[0].term == CL.resolve(old)
    assert old in mappings[0].evidence
    assert "N-LABEL-04" in codes(findings)


def test_a_dead_claimed_id_falls_back_to_the_words():
    mappings, findings = reconcile_labels(table("Platelets", claimed_term=["CL:9999999"]), ontology=CL)
    assert mappings[0].term == "CL:0000233"
    assert "W-LABEL-02" in codes(findings)


def test_several_claimed_ids_for_one_label_are_reported():
    _, findings = reconcile_labels(table("B", claimed_term=["CL:0000236 || CL:0000084"]), ontology=CL)
    assert "W-LABEL-03" in codes(findings)


def test_a_claimed_id_on_another_lineage_waits_for_a_person():
    mappings, findings = reconcile_labels(table("Platelets", claimed_term=["CL:0000236"]), ontology=CL)
    assert (mappings[0].term, mappings[0].decision) == ("CL:0000236", "review")
    assert "W-LABEL-05" in codes(findings)


def test_a_term_never_contradicts_the_parent_label_unseen():
    mappings, findings = reconcile_labels(table("Platelet", label_parent=["T cells"]), ontology=CL)
    assert mappings[0].decision == "review"
    assert "W-LABEL-06" in codes(findings)
    agreeing, findings = reconcile_labels(table("CD4 T", label_parent=["T"]), ontology=CL)
    assert agreeing[0].decision == "auto"
    assert not findings


def test_siblings_do_not_collapse_onto_one_exact_match():
    mappings, findings = reconcile_labels(
        table("Platelets", "Thrombocyte line", claimed_term=["CL:0000233"] * 2), ontology=CL
    )
    assert sorted(m.predicate for m in mappings) == [Predicate.BROAD, Predicate.EXACT]
    assert "N-LABEL-07" in codes(findings)


def test_one_label_written_twice_stays_exact_twice():
    found = mapped("B cell", "B cells")
    assert {m.predicate for m in found.values()} == {Predicate.EXACT}


def test_the_order_of_labels_changes_nothing():
    labels = pd.concat([table("CD14+ Mono", "FCGR3A+ Mono", "B", "NK", "7", dataset_id=d) for d in ("b", "a")])
    first = reconcile_labels(labels, ontology=CL)
    shuffled = labels.sample(frac=1, random_state=random.Random(3).randint(0, 99))  # noqa: S311 - a test's order
    assert reconcile_labels(shuffled, ontology=CL) == first
    assert [m.dataset_id for m in first[0]] == ["a"] * 5 + ["b"] * 5


def test_every_row_says_what_the_record_promises():
    for m in mapped("B", "7", "xyzzy", "memoryt", "Proliferating NK", "B/Plasma").values():
        assert 0 <= m.confidence <= 1000
        assert (m.term == "") == (m.predicate is Predicate.NONE) == (m.decision in {"abstained", "reserved"})
        assert m.term_name == (CL.name(m.term) if m.term else "")
        assert m.justification.startswith("semapv:")
        assert m.ontology_release == CL.release


EXPECTED = {
    "pbmc_10x_3tech_symphony": {
        "T_CD4": "CL:0000624", "T_CD8": "CL:0000625", "Mono_CD14": CLASSICAL, "Mono_CD16": NONCLASSICAL,
        "B": "CL:0000236", "NK": "CL:0000623", "DC": "CL:0000451", "MK": "CL:0000556", "HSC": "CL:0000037"},
    "pbmc3k_clustifyr": {
        "Naive CD4 T": "CL:0000895", "Memory CD4 T": "CL:0000897", "CD14+ Mono": CLASSICAL, "B": "CL:0000236",
        "CD8 T": "CL:0000625", "FCGR3A+ Mono": NONCLASSICAL, "NK": "CL:0000623", "DC": "CL:0000451",
        "Platelet": "CL:0000233"},
    "zheng17_sorted_mudan": {
        "nk": "CL:0000623", "bcells": "CL:0000236", "memoryt": MEMORY_T, "regulatoryt": REGULATORY_T,
        "thelper": HELPER_T, "cytotoxict": CYTOTOXIC_T, "monocytes": "CL:0000576", "naivet": "CL:0000898",
        "naivecytotoxic": "CL:0000900"},
    "kang18_muscat": {
        "CD14+ Monocytes": CLASSICAL, "FCGR3A+ Monocytes": NONCLASSICAL, "CD4 T cells": "CL:0000624",
        "CD8 T cells": "CL:0000625", "B cells": "CL:0000236"},
    "kang18_harmony_stim_ctrl": {
        "unknown": "", "CD14+ Monocytes": CLASSICAL, "FCGR3A+ Monocytes": NONCLASSICAL, "CD4 T cells": "CL:0000624",
        "CD8 T cells": "CL:0000625", "B cells": "CL:0000236"},
    "pancreas_xin16_scclassify": {
        "alpha": "CL:0000171", "beta": "CL:0000169", "gamma": "CL:0002275", "delta": "CL:0000173"},
    "puram17_headneck_chetah": {
        "Fibroblast": "CL:0000057", "B cell": "CL:0000236", "Macrophage": "CL:0000235", "Endothelial": "CL:0000115",
        "Dendritic": "CL:0000451", "Mast": "CL:0000097", "CD4 T cell": "CL:0000624", "reg. T cell": REGULATORY_T,
        "CD8 T cell": "CL:0000625"},
}  # fmt: skip
LINEAGE_LEFT_OPEN = {"memoryt", "regulatoryt", "thelper", "cytotoxict", "reg. T cell"}


@pytest.mark.skipif(not FILES.is_dir(), reason="the shared real files are not beside this checkout")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_labels_of_a_real_file_come_out_right(name):
    with h5py.File(FILES / f"{name}.h5ad") as file:
        obs = read_elem(file["obs"])
    cells = pd.DataFrame({
        "dataset_id": name, "contributor_label": obs["cell_type_author"].astype(str), "label_parent": "",
        "tissue": obs["tissue"].astype(str),
    })  # fmt: skip
    mappings, _ = reconcile_labels(label_table(cells), ontology=CL)
    assert {m.contributor_label: m.term for m in mappings} == EXPECTED[name]
    waiting = {m.contributor_label for m in mappings if m.decision == "review"}
    assert waiting == LINEAGE_LEFT_OPEN & set(EXPECTED[name])


def test_letters_of_the_islet_are_read_together():
    islet = mapped("A", "B", "D", tissue="islet of Langerhans")
    assert [islet[letter].term for letter in "ABD"] == ["CL:0000171", "CL:0000169", "CL:0000173"]
    assert mapped("B", "T", tissue="islet of Langerhans")["B"].term == "CL:0000236"
    assert mapped("A", "B", "C", "D")["B"].term == "CL:0000236"


@pytest.mark.parametrize("label", ["CL:0000236", "cl:0000236", "http://purl.obolibrary.org/obo/CL_0000236"])
def test_a_label_that_is_an_id_claims_it(label):
    row = mapped(label)[label]
    assert (row.term, row.decision) == ("CL:0000236", "auto")


@pytest.mark.parametrize(
    "label", ["Doublet_B_T", "B/T doublets", "low quality T", "NotAssigned", "cells", "Multiplet 3"]
)
def test_a_spoiled_label_names_no_type(label):
    assert mapped(label)[label].decision == "reserved"


def test_a_label_in_another_script_waits_for_a_person_and_is_not_called_empty():
    assert mapped("\u5355\u6838\u7ec6\u80de")["\u5355\u6838\u7ec6\u80de"].decision == "abstained"
