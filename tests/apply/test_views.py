import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.apply.known_cells import known_cells
from cytolabe.apply.views import VIEW_COLUMNS, query_view, train_view
from cytolabe.errors import UnmeasuredGeneError, UsageError
from cytolabe.models.protocols import TECHNICAL_COLUMNS, QueryView
from cytolabe.testing.memory import memory_snapshot

GENES = ("g0", "g1", "g2")


@pytest.fixture
def snapshot():
    cells = pd.DataFrame(
        {
            "dataset_id": ["a"] * 3 + ["b"] * 2,
            "person_id": ["secret-1", "secret-1", "secret-2", "unknown", "unknown"],
            "cell_type_ontology_term_id": ["CL:secret"] * 5,
            "contributor_label": ["secret-label"] * 5,
        }
    )
    matrices = {"a": csr_matrix(np.arange(9).reshape(3, 3)), "b": csr_matrix(np.arange(6).reshape(2, 3) + 100)}
    return memory_snapshot(cells, matrices, genes={"a": GENES, "b": ("g0", "g1", "g9")})


def test_query_view_lacks_labels_and_persons_physically(snapshot):
    view = query_view(snapshot, np.array([0, 2]), genes=GENES)
    assert {field.name for field in dataclasses.fields(view)} == {"cell_ids", "counts", "genes", "technical"}
    assert tuple(view.technical.columns) == TECHNICAL_COLUMNS
    assert "secret" not in _everything(view)


def test_query_view_holds_no_cell_of_another_row(snapshot):
    view = query_view(snapshot, np.array([0, 2]), genes=GENES)
    assert "a:cell1" not in _everything(view)
    assert all(block.values.base is None or len(block.values.base.T) <= 2 for block in view.technical._mgr.blocks)


def _everything(view: QueryView) -> str:
    """Write out all that is reachable from a view, the memory behind its arrays included."""
    parts = []
    for field in dataclasses.fields(view):
        value = getattr(view, field.name)
        arrays = [value] if isinstance(value, np.ndarray) else []
        if isinstance(value, pd.DataFrame):
            arrays = [value[column].to_numpy() for column in value.columns]
            parts += [str(value.attrs), str(value.index.tolist())]
        while arrays:
            array = arrays.pop()
            parts.append(str(array.tolist()))
            if array.base is not None:
                arrays.append(array.base)
        parts.append(str(value))
    return "\n".join(parts)


def test_rows_come_in_the_order_asked_for(snapshot):
    view = query_view(snapshot, np.array([2, 0]), genes=("g2", "g0"))
    assert view.cell_ids.tolist() == ["a:cell2", "a:cell0"]
    assert view.counts.toarray().tolist() == [[8, 6], [2, 0]]
    assert view.technical.index.tolist() == [0, 1]


def test_what_is_known_of_the_cells_already_makes_the_same_view(snapshot):
    rows = np.array([2, 0])
    known = known_cells(snapshot, VIEW_COLUMNS, rows)
    here, there = query_view(snapshot, rows, genes=GENES, known=known), query_view(snapshot, rows, genes=GENES)
    assert here.cell_ids.tolist() == there.cell_ids.tolist()
    assert (here.counts != there.counts).nnz == 0
    pd.testing.assert_frame_equal(here.technical, there.technical)


def test_train_view_has_a_label_and_a_person_per_cell(snapshot):
    view = train_view(snapshot, np.array([2, 0]), genes=GENES, labels=np.array(["CL:1", ""]))
    assert view.labels.tolist() == ["CL:1", ""]
    assert view.persons.tolist() == ["secret-2", "secret-1"]


def test_labels_of_other_length_are_refused(snapshot):
    with pytest.raises(UsageError, match="5 labels were given for 2 rows"):
        train_view(snapshot, np.array([2, 0]), genes=GENES, labels=np.full(5, "x"))


def test_gene_that_a_data_set_never_measured_is_refused(snapshot):
    with pytest.raises(UnmeasuredGeneError, match="b does not measure"):
        query_view(snapshot, np.array([0, 4]), genes=GENES)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, 0], "given twice"), ([5], "where the snapshot has 5 cells"), ([-1], "where the snapshot has 5 cells")],
)
def test_bad_rows_are_refused(snapshot, rows, message):
    with pytest.raises(UsageError, match=message):
        query_view(snapshot, np.array(rows), genes=GENES)


def test_logical_index_is_refused_as_rows(snapshot):
    with pytest.raises(UsageError, match="positions"):
        query_view(snapshot, np.array([True] * 5), genes=GENES)


def test_gene_given_twice_is_refused(snapshot):
    with pytest.raises(UsageError, match=r"1 gene\(s\) are given twice"):
        query_view(snapshot, np.array([0]), genes=("g0", "g0"))
