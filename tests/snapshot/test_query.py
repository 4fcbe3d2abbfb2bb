"""SQL and filters over a snapshot: they answer what the table of cells says, and reach nothing else."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import place_of
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.query import ask, count_cells, unknown_values
from cytolabe.snapshot.view import CELL_COLUMNS


@pytest.fixture(scope="module")
def snapshot(shared_snapshot):
    return shared_snapshot


def test_cells_are_those_of_the_table_with_their_positions(snapshot):
    found = snapshot.query("SELECT * FROM cells ORDER BY position").to_pandas()
    assert found.pop("position").tolist() == list(range(24))
    expected = snapshot.cells
    assert list(found.columns) == list(CELL_COLUMNS)
    for column in CELL_COLUMNS:
        assert found[column].tolist() == expected[column].tolist(), column


def test_what_became_of_the_features_is_a_table(snapshot):
    found = snapshot.query("SELECT feature, gene_id FROM genes WHERE dataset_id = 'kang' ORDER BY 1").to_pylist()
    assert [(row["feature"], row["gene_id"]) for row in found] == [
        ("CD3D", "G-CD3D"), ("CD3D-alias", "G-CD3D"), ("ENSG3.1", "G-NKG7"), ("MS4A1", "G-MS4A1"), ("noise", ""),
    ]  # fmt: skip
    lost = snapshot.query("SELECT dataset_id, feature FROM genes WHERE gene_id = ''").to_pylist()
    assert lost == [{"dataset_id": "kang", "feature": "noise"}]
    columns = snapshot.query("SELECT * FROM genes").column_names
    assert columns == ["dataset_id", "feature", "gene_id", "symbol", "status", "count_fraction"]


@pytest.mark.parametrize("column", ["person_id", "person_state", "cell_type", "mapping_decision", "mapping_confidence"])
def test_an_overlay_is_joined_where_it_is_asked_for(snapshot, column):
    found = snapshot.query(" ".join(["SELECT position,", column, "AS value FROM cells ORDER BY position"]))
    assert found["value"].to_pylist() == snapshot.cells[column].tolist()


def test_a_whole_row_and_a_natural_join_have_all_columns(snapshot):
    (row,) = snapshot.query("SELECT c FROM cells AS c WHERE position = 0").to_pylist()
    assert set(row["c"]) == {*CELL_COLUMNS, "position"}
    joined = snapshot.query(
        "SELECT cell_type FROM cells NATURAL JOIN (SELECT dataset_id FROM datasets) WHERE position = 0"
    )
    assert joined.num_rows == 1


def test_values_are_bound_by_name_or_by_place(snapshot):
    by_name = snapshot.query("SELECT count(*) AS n FROM cells WHERE dataset_id = $id", {"id": "kang"})
    by_place = snapshot.query("SELECT count(*) AS n FROM cells WHERE dataset_id = ?", ["kang"])
    assert by_name == by_place
    assert by_name["n"].to_pylist() == [12]
    attack = "kang' OR '1'='1"
    assert snapshot.query("SELECT * FROM cells WHERE dataset_id = $id", {"id": attack}).num_rows == 0


def test_data_sets_and_contributor_columns_are_tables(snapshot):
    assert snapshot.query("SELECT dataset_id, n_cells FROM datasets ORDER BY 1").to_pylist() == [
        {"dataset_id": "kang", "n_cells": 12},
        {"dataset_id": "zheng", "n_cells": 12},
    ]
    table = snapshot.query("SELECT CellType, n FROM contributed.kang ORDER BY n").to_pandas()
    pd.testing.assert_frame_equal(table, snapshot.contributed("kang"))


@pytest.mark.parametrize(
    "sql",
    [
        "COPY cells TO 'planted.csv'",
        "COPY (SELECT 1) TO 'planted.csv'",
        "ATTACH 'planted.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA version",
        "SET threads = 1",
        "RESET lock_configuration",
        "CREATE TABLE planted AS SELECT 1",
        "CREATE MACRO planted() AS 1",
        "INSERT INTO cells SELECT * FROM cells",
        "DROP VIEW cells",
        "EXPORT DATABASE 'planted'",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW cells",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "VACUUM",
        "",
        ";",
        "-- nothing",
        "no sql at all",
    ],
)
def test_whatever_is_no_single_select_is_refused(snapshot, tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError):
        snapshot.query(sql)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "table",
    [
        "read_text('/etc/hostname')",
        "read_blob('/etc/hostname')",
        "read_csv('/etc/passwd')",
        "read_parquet('x.parquet')",
        "read_json('x.json')",
        "parquet_metadata('x.parquet')",
        "sniff_csv('/etc/passwd')",
        "glob('/etc/*')",
        "'/etc/passwd'",
        "'x.parquet'",
        "query('SELECT 1')",
        "query_table('cells')",
        "arrow_scan(1, 2, 3)",
        "json_execute_serialized_sql('{}')",
        "duckdb_settings()",
        "duckdb_secrets()",
        "duckdb_settings",
        "pg_catalog.pg_tables",
        "information_schema.tables",
        "sqlite_master",
        "cytolabe_facts",
        "temp.cells",
        "snapshot",
        "contributed.nobody",
        "(SHOW TABLES)",
    ],
)
def test_nothing_but_the_tables_of_the_snapshot_can_be_read(snapshot, table):
    frames = (
        "SELECT * FROM {}",
        "SELECT 1 UNION SELECT content FROM {}",
        "SELECT (SELECT count(*) FROM {}) FROM cells",
        "WITH x AS (SELECT * FROM {}) SELECT * FROM x",
        "SELECT * FROM cells, LATERAL (SELECT * FROM {})",
    )
    for frame in frames:
        with pytest.raises(UsageError):
            snapshot.query(frame.replace("{}", table))


def test_a_cte_may_take_the_name_of_a_hidden_relation_no_more_than_anybody(snapshot):
    with pytest.raises(UsageError, match="no table of a snapshot"):
        snapshot.query("WITH cytolabe_facts AS (SELECT 1) SELECT * FROM cytolabe_facts, cells")


def test_the_database_behind_it_is_locked_even_if_the_reading_of_questions_failed(snapshot):
    answer = ask(snapshot.relations, "SELECT 1 AS one")
    answer.read_all()
    import duckdb  # noqa: PLC0415

    for sql in ("SELECT * FROM read_text('/etc/hostname')", "SET enable_external_access = true", "SELECT * FROM pd"):
        with pytest.raises(duckdb.Error):
            answer.connection.execute(sql).fetchall()


def test_overlays_and_not_cells_are_the_side_of_a_join_that_is_held(snapshot):
    answer = ask(snapshot.relations, "SELECT person_id, cell_type FROM cells")
    answer.read_all()
    plan = answer.connection.execute("EXPLAIN SELECT person_id, cell_type FROM cells").fetchall()[0][1]
    assert plan.count("Join Type: LEFT") == 2
    assert "RIGHT" not in plan


def test_a_wrong_column_says_what_exists(snapshot):
    for sql in ("SELECT tisue FROM cells", "SELECT c.tisue FROM cells AS c", 'SELECT "tisue" FROM cells'):
        with pytest.raises(UsageError, match="Did you mean 'tissue'"):
            snapshot.query(sql)
    with pytest.raises(UsageError, match=r"datasets has dataset_id, title"):
        snapshot.query("SELECT zzz FROM datasets")


@pytest.mark.parametrize(
    "sql",
    [
        " OR ".join(["SELECT count(*) FROM cells WHERE n_counts = 1", *["n_counts = 1"] * 100_000]),
        "SELECT " + "(" * 5_000,
    ],
    ids=["clauses", "brackets"],
)
def test_a_query_without_measure_is_refused(snapshot, sql):
    with pytest.raises(UsageError):
        snapshot.query(sql)


def test_a_query_beyond_its_memory_says_so(snapshot):
    sql = "SELECT list(a.range) FROM range(3000000) AS a, range(20) AS b"
    with pytest.raises(UsageError, match="more memory than it may use"):
        ask(snapshot.relations, sql, memory_limit="32MB").read_all()


def test_a_changed_byte_in_a_table_is_an_error_or_harmless(atlas):
    snapshot = atlas.freeze()
    expected = snapshot.query("SELECT * FROM cells ORDER BY position")
    path = atlas.path / "tables" / snapshot.entries["kang"].tables["cells"].file
    content = path.read_bytes()
    n_caught = 0
    for place in range(0, len(content), max(1, len(content) // 50)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            found = atlas.snapshot().query("SELECT * FROM cells ORDER BY position")
        except IntegrityError:
            n_caught += 1
        else:
            assert found == expected, place
    path.write_bytes(content)
    assert n_caught > 40


def test_of_a_large_file_the_footer_and_every_page_are_checked(atlas, monkeypatch):
    """The headers of pages are the one gap that `store.scans` admits; footers and pages are not among them."""
    monkeypatch.setattr("cytolabe.store.scans._HASHED_WHOLE", 0)
    snapshot = atlas.freeze()
    path = atlas.path / "tables" / snapshot.entries["kang"].tables["cells"].file
    content = path.read_bytes()
    footer = len(content) - int.from_bytes(content[-8:-4], "little") - 8
    page = content.index(b"kang:cell0")
    for place in (page, page + 9, footer, footer + 100, (footer + len(content)) // 2, len(content) - 12):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(IntegrityError):
            atlas.snapshot().query("SELECT * FROM cells")


def test_a_missing_table_is_an_error(atlas):
    snapshot = atlas.freeze()
    (atlas.path / "tables" / snapshot.entries["kang"].tables["cells"].file).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        atlas.snapshot().query("SELECT count(*) FROM cells")


FILTERS = {
    "dataset_id = 'kang'": lambda cells: cells["dataset_id"] == "kang",
    "n_counts >= 6": lambda cells: cells["n_counts"] >= 6,
    "person_id is unknown": lambda cells: cells["person_id"].isin(["", "unknown"]),
    "contributor_label like 'T%'": lambda cells: cells["contributor_label"].str.startswith("T"),
    "cell_type_ontology_term_id in ('CL:0000084', 'x')": lambda c: c["cell_type_ontology_term_id"] == "CL:0000084",
    "donor_id != 'd0'": lambda cells: cells["donor_id"] != "d0",
    "position < 15": lambda cells: cells.index < 15,
}


@given(
    chosen=st.lists(st.sampled_from(sorted(FILTERS)), min_size=1, max_size=4),
    words=st.lists(st.sampled_from(["and", "or"]), min_size=3, max_size=3),
    negated=st.lists(st.booleans(), min_size=4, max_size=4),
)
@settings(max_examples=20)
def test_a_filter_matches_the_cells_that_the_table_says(snapshot, chosen, words, negated):
    text, expected = "", None
    for number, name in enumerate(chosen):
        part = np.asarray(FILTERS[name](snapshot.cells)) ^ negated[number]
        clause = f"(not {name})" if negated[number] else name
        if expected is None:
            text, expected = clause, part
            continue
        text = f"({text}) {words[number - 1]} {clause}"
        expected = expected & part if words[number - 1] == "and" else expected | part
    np.testing.assert_array_equal(snapshot.rows(text), np.flatnonzero(expected))


def test_a_long_list_of_values_is_one_bound_list(snapshot):
    ids = ", ".join([f"'nobody{n}'" for n in range(20_000)] + ["'kang:cell3'"])
    assert snapshot.rows(f"cell_id in ({ids})").tolist() == [3]
    assert len(snapshot.rows(f"not cell_id in ({ids})")) == 23


def test_no_match_is_an_empty_answer_that_says_what_there_is(snapshot):
    assert snapshot.rows("dataset_id = 'kangg'").shape == (0,)
    assert count_cells(snapshot.relations, "dataset_id = 'kangg'") == {}
    assert unknown_values(snapshot.relations, "dataset_id = 'kangg'") == (
        "no cell has dataset_id 'kangg'. Did you mean 'kang'?",
    )
    assert count_cells(snapshot.relations, "donor_id = 'd0'") == {"kang": 6, "zheng": 6}


def test_an_atlas_in_an_object_store_answers_the_same(make, shared_snapshot, request):
    pytest.importorskip("obstore")
    place = place_of(f"memory://query-{request.node.name[-8:]}/atlas")
    atlas = create_atlas(place)
    atlas.publish([write_dataset(atlas.path, content=make.content(name)) for name in ("zheng", "kang")])
    snapshot = atlas.freeze()
    sql = "SELECT cell_id, n_counts FROM cells WHERE n_counts > 4 ORDER BY position"
    assert snapshot.query(sql) == shared_snapshot.query(sql)
    assert snapshot.query("SELECT sum(n) AS n FROM contributed.kang").to_pylist() == [{"n": 66}]
    assert snapshot.rows("dataset_id = 'zheng' and donor_id = 'd0'").tolist() == [12, 14, 16, 18, 20, 22]
