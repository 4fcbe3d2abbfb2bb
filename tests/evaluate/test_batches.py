"""A batch key that is nested with the label is not corrected for (rule R12)."""

import numpy as np
import pandas as pd
import pytest

from cytolabe.evaluate import evaluate_study
from cytolabe.evaluate.batches import merged_batches, nested_batches, why_nested
from cytolabe.records import ScoreStatus

T, B, NK, MONO = "CL:0000084", "CL:0000236", "CL:0000623", "CL:0000576"


def cells(*pairs):
    return pd.DataFrame(pairs, columns=["dataset_id", "batch"])


def test_one_type_per_batch_is_nested_and_one_mixed_batch_is_not():
    table = cells(("d", "x"), ("d", "x"), ("d", "y"), ("d", "y"))
    rows = np.arange(4)
    assert nested_batches(table, np.array(["t", "t", "b", "b"], dtype=object), rows) == {"d": (2, 2)}
    assert nested_batches(table, np.array(["t", "b", "b", "b"], dtype=object), rows) == {}
    assert nested_batches(table, np.array(["t", "t", "t", "t"], dtype=object), rows) == {}


def test_a_batch_per_lineage_is_nested_although_it_holds_several_subtypes():
    """At the fine level every batch is mixed; correcting for it would still mix T cells with monocytes."""
    table = cells(("d", "x"), ("d", "x"), ("d", "y"), ("d", "y"))
    fine = np.array(["cd4", "cd8", "classical", "nonclassical"], dtype=object)
    broad = np.array(["t", "t", "mono", "mono"], dtype=object)
    assert merged_batches(table, [fine]) == {}
    assert merged_batches(table, [broad, fine]) == {"d": (2, 2)}
    assert merged_batches(table, [fine, broad]) == {"d": (2, 2)}


def test_a_type_per_data_set_leaves_no_key_at_all():
    table = cells(("d1", "x"), ("d1", "y"), ("d2", "x"), ("d3", "x"))
    terms = np.array(["t", "t", "b", ""], dtype=object)
    rows = np.arange(4)
    assert why_nested(table, terms, rows, merged=frozenset()).startswith("each of 3 training batches holds one type")
    assert why_nested(table, terms, rows, merged=frozenset({"d1"})).startswith("each of 2 training batches")
    mixed = np.array(["t", "b", "b", ""], dtype=object)
    assert why_nested(table, mixed, rows, merged=frozenset({"d1"})) == ""
    assert why_nested(table, terms, np.array([0, 1]), merged=frozenset({"d1"})) == ""


@pytest.mark.models
def test_harmony_is_refused_where_every_lab_delivered_another_type_and_pca_is_not(simulated_study, lab):
    pytest.importorskip("harmonypy")
    study = simulated_study(
        models=("pca+knn", "harmony+knn"), lab_a=lab(types={T: 30, B: 30}), lab_b=lab(types={T: 60}, n_persons=1),
        lab_c=lab(types={B: 60}, n_persons=1), plan={"n_seeds": 1},
    )  # fmt: skip
    result = evaluate_study(study.snapshot, **study.arguments())
    rows = {
        s.model: s for s in result.scores
        if (s.metric, s.stratum, s.resolution, s.split) == ("macro_f1", "all", "fine", "component=lab_a")
    }  # fmt: skip
    assert rows["harmony+knn"].status is ScoreStatus.REFUSED
    assert "correcting for them would remove the types (R12)" in rows["harmony+knn"].reason
    assert rows["pca+knn"].value is not None
