import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.store import tables
from cytolabe.store.tables import ROW_GROUP, read_table, write_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
frames = data_frames(
    [
        column("label", elements=TEXT, dtype=object),
        column("n_counts", elements=st.integers(-(2**63), 2**63 - 1), dtype=np.int64),
        column("score", elements=st.floats(allow_nan=True, width=64), dtype=np.float64),
        column("flag", elements=st.booleans(), dtype=bool),
    ],
    index=range_indexes(max_size=6),
)


@given(frame=frames)
@settings(max_examples=30, deadline=None)
def test_a_table_comes_back_as_it_was_written(tmp_path_factory, frame):
    directory = tmp_path_factory.mktemp("tables")
    entry = write_table(frame, directory)
    back = read_table(directory, entry)
    pd.testing.assert_frame_equal(back, frame, check_dtype=len(frame) > 0)
    assert write_table(back, directory).digest == entry.digest or len(frame) == 0


def test_missing_text_stays_missing_and_categories_become_words(tmp_path):
    frame = pd.DataFrame({"label": ["T", None, "B"], "kit": pd.Categorical(["v2", "v3", None])})
    back = read_table(tmp_path, write_table(frame, tmp_path))
    assert back["label"].tolist() == ["T", None, "B"]
    assert back["kit"].tolist() == ["v2", "v3", None]


def test_the_digest_is_over_rows_and_not_over_the_file(tmp_path, monkeypatch):
    frame = pd.DataFrame({"label": ["T", "B"] * 50})
    entry = write_table(frame, tmp_path / "a")
    writer = pq.ParquetWriter
    monkeypatch.setattr(pq, "ParquetWriter", lambda sink, schema, **_: writer(sink, schema, compression="none"))
    other = write_table(frame, tmp_path / "b")
    assert other.digest == entry.digest
    assert other.sha256 != entry.sha256


@pytest.mark.parametrize(
    "other",
    [
        pd.DataFrame({"label": ["T", "b"], "n": [1, 2]}),
        pd.DataFrame({"label": ["TB", ""], "n": [1, 2]}),
        pd.DataFrame({"label": ["T", None], "n": [1, 2]}),
        pd.DataFrame({"label": ["B", "T"], "n": [2, 1]}),
        pd.DataFrame({"label": ["T", "B"], "n": [1.0, 2.0]}),
        pd.DataFrame({"name": ["T", "B"], "n": [1, 2]}),
    ],
)
def test_another_value_order_type_or_name_is_another_table(tmp_path, other):
    frame = pd.DataFrame({"label": ["T", "B"], "n": [1, 2]})
    assert write_table(frame, tmp_path).digest != write_table(other, tmp_path).digest


def test_equal_tables_are_kept_once(tmp_path):
    frame = pd.DataFrame({"label": ["T", "B"]})
    assert write_table(frame, tmp_path) == write_table(frame.copy(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_column_of_mixed_types_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'code'"):
        write_table(pd.DataFrame({"code": ["1", 2, "x"]}), tmp_path)
    with pytest.raises(UsageError, match="same name"):
        write_table(pd.DataFrame([[1, 2]], columns=["a", "a"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_missing_or_exchanged_file_is_found(tmp_path):
    entry = write_table(pd.DataFrame({"label": ["T", "B"]}), tmp_path)
    other = write_table(pd.DataFrame({"label": ["T", "NK"]}), tmp_path)
    path = tmp_path / entry.file
    whole = path.read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(IntegrityError, match="changed"):
            read_table(tmp_path, entry)
    path.write_bytes((tmp_path / other.file).read_bytes())
    forged = type(entry)(digest=entry.digest, file=entry.file, sha256=other.sha256, n_rows=2)
    with pytest.raises(IntegrityError, match="rewritten"):
        read_table(tmp_path, forged)
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        read_table(tmp_path, entry)


def test_a_damaged_file_is_replaced_when_its_table_is_written_again(tmp_path):
    frame = pd.DataFrame({"label": ["T", "B"]})
    entry = write_table(frame, tmp_path)
    (tmp_path / entry.file).write_bytes(b"nothing")
    assert write_table(frame, tmp_path) == entry
    assert read_table(tmp_path, entry)["label"].tolist() == ["T", "B"]


def test_some_columns_are_read_without_the_others_and_checked_all_the_same(tmp_path):
    frame = pd.DataFrame({"label": ["T", None, "T", ""], "n": [1, 2, 3, 4], "text": list("wxyz")})
    entry = write_table(frame, tmp_path)
    back = read_table(tmp_path, entry, columns=["n", "label"])
    assert list(back.columns) == ["n", "label"]
    assert back["n"].tolist() == [1, 2, 3, 4]
    assert back["label"].astype(object).where(back["label"].notna(), None).tolist() == ["T", None, "T", ""]
    assert isinstance(back["label"].dtype, pd.CategoricalDtype)
    content = (tmp_path / entry.file).read_bytes()
    page = content.index(b"wxyz") if b"wxyz" in content else len(content) // 2
    (tmp_path / entry.file).write_bytes(content[:page] + bytes([content[page] ^ 1]) + content[page + 1 :])
    with pytest.raises(IntegrityError):
        read_table(tmp_path, entry, columns=["n"])


def test_words_are_written_as_the_same_bytes_whether_they_come_as_categories_or_spelled_out(tmp_path):
    n = ROW_GROUP + 3_000
    words = {
        "kit": np.full(n, "10x 3' v3"),
        "donor": np.array(["d1", "d2", "d3"])[np.arange(n) // 50_000],
        "type": np.array(["B", "T", "NK"])[np.random.default_rng(0).integers(0, 3, n)],
    }
    spelled = pd.DataFrame({name: values.astype(object) for name, values in words.items()})
    entry = write_table(spelled, tmp_path / "spelled")
    assert write_table(spelled.astype("category"), tmp_path / "categories") == entry


def test_the_digest_does_not_depend_on_how_many_rows_are_spelled_out_at_a_time(tmp_path, monkeypatch):
    frame = pd.DataFrame(
        {
            "label": ["T", None, "B cell", ""] * 5,
            "kit": pd.Categorical(["v2", "v3", None, "v2"] * 5),
            "n": range(20),
            "score": [0.5, None, -0.0, 2.0] * 5,
            "flag": pd.array([True, None, False, True] * 5, dtype="boolean"),
        }
    )
    entry = write_table(frame, tmp_path / "whole")
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    assert write_table(frame, tmp_path / "parts").digest == entry.digest
    assert len(read_table(tmp_path / "whole", entry)) == len(frame)
