"""Some columns of the cells: the same values as the whole table has, read without it, damaged bytes noticed."""

import numpy as np
import pandas as pd
import pytest

from cytolabe.audit.confounding import audit_confounding
from cytolabe.errors import IntegrityError, UsageError
from cytolabe.snapshot.cell_table import cell_table, cells_at, different_cells
from cytolabe.snapshot.relations import FACTOR_COLUMNS
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.snapshot.withdraw import withdraw_person


@pytest.fixture(params=["all", "withdrawn"])
def snapshot(request, atlas):
    if request.param == "withdrawn":
        withdraw_person(atlas, donor=("kang", "d1"))
    return atlas.freeze()


@pytest.mark.parametrize(
    "columns", [list(CELL_COLUMNS), ["cell_id"], ["dataset_id"], ["cell_type", "row"], ["person_state"]]
)
def test_columns_are_those_of_the_whole_table(snapshot, columns):
    found = cell_table(snapshot, columns)
    assert "cells" not in vars(snapshot)
    assert list(found.columns) == columns
    for name in columns:
        assert found[name].tolist() == snapshot.cells[name].tolist(), name
        is_word = name in FACTOR_COLUMNS and name != "mapping_confidence"
        assert isinstance(found[name].dtype, pd.CategoricalDtype) == is_word


def test_some_cells_are_those_rows_of_the_whole_table(snapshot):
    columns = ["cell_id", "dataset_id", "person_id", "cell_type", "row"]
    positions = np.random.default_rng(0).permutation(snapshot.n_cells)[: snapshot.n_cells // 2]
    found = cells_at(snapshot, columns, positions)
    assert cells_at(snapshot, columns, positions[:0]).empty
    assert "cells" not in vars(snapshot)
    assert found.to_numpy().tolist() == snapshot.cells[columns].iloc[positions].to_numpy().tolist()


def test_the_different_rows_are_those_without_repeats(snapshot):
    columns = ["dataset_id", "donor_id", "cell_type", "person_state"]
    expected = snapshot.cells[columns].drop_duplicates().sort_values(columns)
    assert different_cells(snapshot, columns).to_numpy().tolist() == expected.to_numpy().tolist()


def test_confounding_is_the_same_of_different_rows_as_of_all_cells(snapshot):
    assert audit_confounding(different_cells(snapshot, FACTOR_COLUMNS)) == audit_confounding(snapshot.cells)


def test_sizes_need_no_table_of_cells(snapshot):
    described = snapshot.describe()
    assert described["n_cells"] == snapshot.n_cells
    assert described["n_persons"] == 1
    assert sum(record.n_cells for record in snapshot.datasets.values()) == snapshot.n_cells
    assert "cells" not in vars(snapshot)
    assert len(snapshot.cells) == snapshot.n_cells


def test_other_names_and_changed_tables_are_refused(atlas):
    snapshot = atlas.freeze()
    for columns in (["tissu"], [], ["position"]):
        with pytest.raises(UsageError, match="name columns among"):
            cell_table(snapshot, columns)
        with pytest.raises(UsageError, match="name columns among"):
            different_cells(snapshot, columns)
    path = atlas.path / "tables" / snapshot.entries["kang"].tables["cells"].file
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 12).astype(int).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(IntegrityError):
            cell_table(snapshot, ["tissue", "cell_id"])
