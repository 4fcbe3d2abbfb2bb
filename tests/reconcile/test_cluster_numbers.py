"""Numbers before the labels of a data set count its clusters; elsewhere they belong to a name."""

import pandas as pd
import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.cluster_numbers import labels_as_read, without_cluster_numbers
from cytolabe.reconcile.justifications import justify_labels
from cytolabe.reconcile.labels import reconcile_labels

NUMBERED = ("1.B cells", "2.NK cells", "3.CD8 T cells", "4_Monocytes", "5 Platelets")


def label_rows(*labels):
    return pd.DataFrame(
        {
            "dataset_id": "d", "contributor_label": list(labels), "label_parent": "", "tissue": "blood",
            "claimed_term": "", "n_cells": 50,
        }
    )  # fmt: skip


def test_the_number_of_a_cluster_is_no_word_of_a_label():
    assert list(without_cluster_numbers(NUMBERED).values()) == [
        "B cells", "NK cells", "CD8 T cells", "Monocytes", "Platelets",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "labels",
    [
        ("1.B cells", "2.NK cells", "3.CD8 T cells", "4_Monocytes"),  # too few to say that somebody counted
        ("5-HT neurons", "B cells", "NK cells", "T cells", "Monocytes"),  # a name with a number in it
        ("1", "2", "3", "4", "5 6"),  # nothing would be left
    ],
)
def test_elsewhere_numbers_stay(labels):
    assert list(without_cluster_numbers(labels).values()) == list(labels)


def test_each_data_set_is_read_by_itself():
    labels = (*NUMBERED, "5-HT neurons")
    read = labels_as_read(labels, [*["a"] * 5, "b"])
    assert read[:2] == ("B cells", "NK cells")
    assert read[-1] == "5-HT neurons"


def test_labels_with_numbers_of_clusters_mean_what_they_mean_without():
    ontology = load_ontology("CL")
    numbered, _ = reconcile_labels(label_rows(*NUMBERED), ontology=ontology)
    plain, _ = reconcile_labels(label_rows(*without_cluster_numbers(NUMBERED).values()), ontology=ontology)
    assert {m.contributor_label for m in numbered} == set(NUMBERED)
    assert sorted((m.term, m.confidence, m.decision) for m in numbered) == sorted(
        (m.term, m.confidence, m.decision) for m in plain
    )


def test_the_reasons_are_those_of_the_label_as_it_is_read():
    ontology = load_ontology("CL")
    reasons = justify_labels(label_rows(*NUMBERED), ontology=ontology)
    of_b = [reason for reason in reasons if reason.contributor_label == "1.B cells"]
    assert of_b[0].term == "CL:0000236"
    assert "CL:0000819" not in {reason.term for reason in of_b[:2]}  # B-1 B cell, which 1.B spells


def test_a_number_before_nothing_known_is_still_reserved():
    ontology = load_ontology("CL")
    mappings, _ = reconcile_labels(label_rows(*NUMBERED[:4], "6.Unknown"), ontology=ontology)
    assert {m.contributor_label: m.decision for m in mappings}["6.Unknown"] == "reserved"
