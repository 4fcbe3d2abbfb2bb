"""Labels outside of a mapping set are unlabelled, and nothing else of the snapshot changes."""

import dataclasses

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.flow.specification import MAPPING_SETS, relabelled, spread_table
from cytolabe.records import LabelMapping, Predicate
from cytolabe.snapshot.view import SnapshotView
from cytolabe.testing.memory import memory_snapshot


def mapping(label: str, predicate: Predicate, justification: str) -> LabelMapping:
    return LabelMapping(
        dataset_id="a", contributor_label=label, predicate=predicate, term="CL:0000236", term_name="B cell",
        justification=justification, confidence=900, decision="auto", ontology_release="x",
    )  # fmt: skip


EXACT = mapping("B", Predicate.EXACT, "semapv:LexicalMatching")
BROAD = mapping("b-like", Predicate.BROAD, "semapv:LexicalMatching")
SEEN = mapping("Bx", Predicate.EXACT, "semapv:InstanceBasedMatching")


def test_each_set_keeps_what_its_name_says():
    kept = {
        name: [m.contributor_label for m in (EXACT, BROAD, SEEN) if keeps(m)] for name, keeps in MAPPING_SETS.items()
    }
    assert kept == {
        "in force": ["B", "b-like", "Bx"], "exact matches": ["B", "Bx"], "without expression": ["B", "b-like"],
    }  # fmt: skip


def test_labels_outside_of_a_set_are_unlabelled_and_counts_stay():
    cells = pd.DataFrame({
        "dataset_id": "a", "contributor_label": ["B", "b-like", "Bx"], "cell_type_ontology_term_id": "CL:0000236",
        "cell_type": "B cell",
    })  # fmt: skip
    counts = csr_matrix(np.arange(6).reshape(3, 2))
    snapshot = memory_snapshot(cells, {"a": counts}, genes={"a": ("x", "y")}, mappings=(EXACT, BROAD, SEEN))
    view = relabelled(snapshot, frozenset({("a", "B")}))
    assert isinstance(view, SnapshotView)
    assert view.cells["cell_type_ontology_term_id"].tolist() == ["CL:0000236", "unknown", "unknown"]
    assert view.mappings == (EXACT,)
    assert (view.counts(np.arange(3), ("x", "y")) != counts).nnz == 0
    assert snapshot.cells["cell_type"].tolist() == ["B cell"] * 3
    assert dataclasses.replace(view, mappings=()).snapshot_id == snapshot.snapshot_id


def test_the_spread_counts_specifications_with_a_number():
    row = {"split": "s", "resolution": "mid", "model": "m", "metric": "macro_f1", "stratum": "all", "refusals": "kept"}
    rows = [{**row, "value": value} for value in (0.2, 0.5, None)] + [{**row, "stratum": "rare", "value": 0.9}]
    (found,) = spread_table(rows, level="mid").to_dict("records")
    assert (found["n_specifications"], found["least"], found["most"]) == (2, 0.2, 0.5)
