"""Where labels come from shows in names of tools, in columns that decide them, in scores and in clusters."""

import numpy as np
import pandas as pd
import pytest

from cytolabe.ingest.label_origin import label_origin_evidence

TYPES = ("B cell", "NK cell", "CD14 monocyte", "dendritic cell")


@pytest.fixture
def labelled(rng):
    def make(name="cell_type", **columns):
        labels = np.repeat(TYPES, 30)
        table = pd.DataFrame({name: labels, "nCount_RNA": rng.integers(500, 9000, len(labels)).astype(float)})
        for column, values in columns.items():
            table[column.replace("__", ".")] = values
        return table, {"label": name}

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        pytest.param("majority_voting", "automated", id="CellTypist, over clusters"),
        pytest.param("predicted_labels", "automated", id="CellTypist, per cell"),
        pytest.param("SingleR.labels", "automated", id="SingleR"),
        pytest.param("pruned.labels", "automated", id="SingleR, pruned"),
        pytest.param("predicted.celltype.l2", "transferred", id="Azimuth"),
        pytest.param("predicted.id", "transferred", id="Seurat"),
        pytest.param("C_scANVI", "transferred", id="scANVI"),
        pytest.param("scpred_prediction", "automated", id="scPred"),
        pytest.param("cell_type_author", "unknown", id="the author's own"),
    ],
)
def test_a_label_called_like_a_tool_writes_it_is_suspected(labelled, name, origin):
    found = label_origin_evidence(*labelled(name))
    assert found.suspected == origin
    assert bool(found.findings) is (origin != "unknown")


def test_a_label_that_was_renamed_is_known_by_the_column_that_decides_it(labelled):
    table, columns = labelled(majority_voting=[f"{t} (subset {i % 2})" for i, t in enumerate(np.repeat(TYPES, 30))])
    found = label_origin_evidence(table, columns)
    assert found.suspected == "automated"
    assert found.evidence == "'majority_voting' decides 'cell_type'"
    assert [one.code for one in found.findings] == ["W-ORIGIN-01"]


def test_a_prediction_that_disagrees_with_the_label_says_nothing_of_it(labelled, rng):
    table, columns = labelled(predicted_labels=rng.permutation(np.repeat(TYPES, 30)))
    assert label_origin_evidence(table, columns).suspected == "unknown"


def test_a_prediction_of_a_part_of_the_cells_says_nothing_of_the_rest(labelled):
    part = np.repeat(TYPES, 30).astype(object)
    part[::2] = None
    table, columns = labelled(predicted_labels=part)
    assert label_origin_evidence(table, columns).suspected == "unknown"


def test_a_score_per_label_gives_a_tool_away_and_a_quality_score_does_not(labelled, rng):
    with_score = labelled(cell_type_confidence_score=rng.uniform(0.2, 1.0, 120))
    assert label_origin_evidence(*with_score).suspected == "automated"
    other = labelled(doublet_score=rng.uniform(0.0, 1.0, 120), cell_type_score=rng.uniform(0.0, 40.0, 120))
    assert label_origin_evidence(*other).suspected == "unknown"


def test_labels_that_clusters_decide_were_given_to_clusters(labelled):
    clusters = np.repeat(np.arange(8), 15).astype(str)
    found = label_origin_evidence(*labelled(seurat_clusters=clusters))
    assert (found.suspected, found.tool) == ("manual", "clusters")
    assert [one.code for one in found.findings] == ["N-ORIGIN-03"]


def test_a_cluster_per_cell_decides_nothing(labelled):
    assert label_origin_evidence(*labelled(leiden=[str(i) for i in range(120)])).suspected == "unknown"


def test_a_column_that_says_in_words_what_the_labels_are_is_read(labelled):
    assert label_origin_evidence(*labelled(label_source="FACS/bead sorted population")).suspected == "sorted"
    assert label_origin_evidence(*labelled(annotation_method="transferred from HLCA")).suspected == "transferred"
    mixed = labelled(label_source=["sorted", "manual"] * 60)
    assert label_origin_evidence(*mixed).suspected == "unknown"


def test_a_declaration_against_the_evidence_is_told_and_one_that_agrees_is_not(labelled):
    table, columns = labelled("predicted_labels")
    assert [one.code for one in label_origin_evidence(table, columns, declared="manual").findings] == ["W-ORIGIN-02"]
    assert label_origin_evidence(table, columns, declared="automated").findings == ()
    assert label_origin_evidence(table, columns, declared="transferred").findings == ()


def test_without_a_label_there_is_nothing_to_ask(labelled):
    assert label_origin_evidence(labelled()[0], {}).suspected == "unknown"
