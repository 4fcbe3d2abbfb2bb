import h5py
import numpy as np
import pytest

from cytolabe.errors import CytolabeError
from cytolabe.ingest.h5ad import open_h5ad
from cytolabe.ingest.refusals import findings_of

N_CELLS = 40


def replaced(group, name, values, **options):
    del group[name]
    group.create_dataset(name, data=values, **options)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(lambda obs: replaced(obs["cell_type"], "codes", np.full(N_CELLS, 0.5)), "E-TABLE-03", id="codes that are fractions"),
        pytest.param(lambda obs: replaced(obs["cell_type"], "codes", np.full(N_CELLS, b"x")), "E-TABLE-03", id="codes that are texts"),
        pytest.param(lambda obs: obs.create_group("flag").update(values=np.arange(N_CELLS), mask=np.zeros(3, bool)), "E-TABLE-02", id="a mask of another length"),
    ],
)  # fmt: skip
def test_a_column_that_contradicts_itself_is_refused_with_its_name(plain, edit, spoil, code):
    with edit(plain) as file:
        spoil(file["obs"])
    with pytest.raises(CytolabeError) as caught, open_h5ad(plain):
        pass
    (finding,) = findings_of(caught.value)
    assert finding.code == code
    assert finding.where in {"obs['cell_type']", "obs['flag']"}


@pytest.mark.parametrize(
    ("column", "spoil"),
    [
        pytest.param("cell_type", lambda obs: replaced(obs["cell_type"], "categories", "B cell"), id="a single category without a list"),
        pytest.param("cell_type", lambda obs: replaced(obs["cell_type"], "categories", np.zeros((3, 3))), id="categories in a square"),
        pytest.param("pair", lambda obs: obs.create_dataset("pair", data=np.zeros(N_CELLS, dtype="f4,i4")), id="pairs of numbers"),
        pytest.param("link", lambda obs: obs.create_dataset("link", (N_CELLS,), dtype=h5py.ref_dtype), id="references into the file"),
    ],
)  # fmt: skip
def test_a_column_that_no_table_can_hold_is_named_and_left_out(plain, edit, column, spoil):
    with edit(plain) as file:
        spoil(file["obs"])
    with open_h5ad(plain) as source:
        assert column not in source.cell_table
        assert [(f.code, f.examples) for f in source.findings] == [("W-TABLE-04", (column,))]


def test_names_of_an_enumeration_stand_for_its_numbers(plain, edit):
    kind = h5py.enum_dtype({"sorted": 1, "unsorted": 0}, basetype="i1")
    with edit(plain) as file:
        file["obs"].create_dataset("gate", data=np.arange(N_CELLS) % 2, dtype=kind)
    with open_h5ad(plain) as source:
        assert list(source.cell_table["gate"][:3]) == ["unsorted", "sorted", "unsorted"]


def test_numbers_of_another_byte_order_are_the_same_numbers(plain, edit):
    with edit(plain) as file:
        file["obs"].create_dataset("n", data=np.arange(N_CELLS).astype(">i8"))
    with open_h5ad(plain) as source:
        assert list(source.cell_table["n"]) == list(range(N_CELLS))


@pytest.mark.parametrize("order", ["cell_type", ["cell_type", "cell_type"]], ids=["one name", "a name twice"])
def test_the_order_of_columns_is_read_however_it_was_written(plain, edit, order):
    with edit(plain) as file:
        file["obs"].attrs["column-order"] = order
    with open_h5ad(plain) as source:
        assert list(source.cell_table) == ["cell_type"]
        assert not source.findings
