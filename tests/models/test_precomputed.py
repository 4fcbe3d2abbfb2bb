import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytolabe.errors import RefusedError, UnreadableInputError, UsageError
from cytolabe.models.precomputed import PrecomputedAnnotator, PrecomputedEmbedder, read_precomputed
from cytolabe.models.protocols import Annotator, Embedder, FittedAnnotator, FittedEmbedder
from cytolabe.models.registry import make_model
from cytolabe.records import UNKNOWN, Protocol


@pytest.fixture
def write(tmp_path):
    def write_table(**columns):
        path = tmp_path / "given.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    return write_table


CELLS = ["lab0:c2", "lab0:c0", "lab0:c1"]


def test_embedding_is_keyed_by_cell_and_not_by_position(write, make_train, make_query):
    model = read_precomputed(write(d1=[2.5, 0.5, 1.5], cell_id=CELLS, d0=[2.0, 0.0, 1.0]))
    assert isinstance(model, PrecomputedEmbedder)
    assert isinstance(model, Embedder)
    fitted = model.fit(make_train(3), query=None, seed=0)
    assert isinstance(fitted, FittedEmbedder)
    assert fitted.weights_digest == model.card.weights_digest != ""
    np.testing.assert_array_equal(fitted.embed(make_query(3)), [[0, 0.5], [1, 1.5], [2, 2.5]])


def test_ten_dims_keep_their_numeric_order(write, make_query):
    path = write(cell_id=["lab0:c0"], **{f"d{dim}": [float(dim)] for dim in range(12)})
    assert read_precomputed(path).embed(make_query(1)).tolist() == [[float(dim) for dim in range(12)]]


def test_prediction_is_certain_of_its_term(write, make_train, make_query):
    model = read_precomputed(write(cell_id=CELLS, term=["CL:2", "CL:1", UNKNOWN]))
    assert isinstance(model, PrecomputedAnnotator)
    assert isinstance(model, Annotator)
    fitted = model.fit(make_train(3), query=None, seed=0)
    assert isinstance(fitted, FittedAnnotator)
    output = fitted.predict(make_query(3))
    assert output.classes == ("CL:1", "CL:2", UNKNOWN)
    np.testing.assert_array_equal(output.probability, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_file_has_no_scope_and_unknown_exposure(write):
    model = make_model("precomputed", path=str(write(cell_id=CELLS, d0=[0.0, 1.0, 2.0])), name="mine")
    assert model.scopes == ()
    assert model.card.pretraining == (UNKNOWN,)
    assert model.card.name == "precomputed:mine"
    assert model.card.protocol is Protocol.UNKNOWN
    assert model.card.weights_digest.startswith("sha256:")
    assert any("exposure unknown" in note for note in model.notes)


@pytest.mark.parametrize("column", [{"d0": [0.0, 1.0, 2.0]}, {"term": ["a", "b", "c"]}], ids=["embedding", "terms"])
def test_missing_cells_are_counted_and_refused(write, make_query, column):
    model = read_precomputed(write(cell_id=CELLS, **column))
    answer = model.embed if isinstance(model, PrecomputedEmbedder) else model.predict
    with pytest.raises(RefusedError, match="no row for 2 of 5 cells: lab0:c3"):
        answer(make_query(5))


def test_cell_given_twice_is_refused(write):
    with pytest.raises(RefusedError, match="1 cell ids are given more than once: a"):
        read_precomputed(write(cell_id=["a", "b", "a"], d0=[0.0, 1.0, 2.0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_value_that_is_not_finite_is_refused(write, bad):
    with pytest.raises(RefusedError, match="1 of 3 cells have a missing or infinite value"):
        read_precomputed(write(cell_id=CELLS, d0=[0.0, bad, 2.0]))


def test_empty_term_and_empty_cell_id_are_refused(write):
    with pytest.raises(RefusedError, match="1 of 3 terms are empty"):
        read_precomputed(write(cell_id=CELLS, term=["a", None, "b"]))
    with pytest.raises(RefusedError, match="1 of 2 cell ids are empty"):
        read_precomputed(write(cell_id=["a", ""], term=["a", "b"]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"d0": [0.0]}, "no column cell_id"),
        ({"cell_id": ["a"]}, "either d0 ... dN"),
        ({"cell_id": ["a"], "d0": [0.0], "term": ["b"]}, "either d0 ... dN"),
        ({"cell_id": ["a"], "d0": [0.0], "d2": [0.0]}, "d1 absent"),
        ({"cell_id": ["a"], "d0": ["text"]}, "not numbers"),
    ],
    ids=["no key", "nothing", "both", "gap", "text"],
)
def test_other_shapes_are_refused(write, columns, message):
    with pytest.raises(UsageError, match=message):
        read_precomputed(write(**columns))


def test_file_that_is_not_parquet_is_unreadable(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"not parquet")
    with pytest.raises(UnreadableInputError, match=r"x\.parquet cannot be read"):
        read_precomputed(tmp_path / "x.parquet")
    with pytest.raises(UnreadableInputError):
        read_precomputed(tmp_path / "absent.parquet")
