"""Questions that only count are asked of groups of like cells, and get the answer that all cells would give."""

import dataclasses
import functools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.snapshot import query, relations
from cytolabe.snapshot.query import ask, count_cells
from cytolabe.snapshot.withdraw import withdraw_person
from cytolabe.store.groups import count_groups


@pytest.fixture(scope="module")
def snapshot(shared_snapshot):
    return shared_snapshot


def fresh(snapshot):
    return dataclasses.replace(snapshot.relations)


def counted(snapshot, sql, parameters=None):
    """Return the answer over groups; an error where all cells were asked."""
    tables = fresh(snapshot)
    answer = ask(tables, sql, parameters).read_all()
    assert "_facts" not in vars(tables), sql
    return answer


def plainly(snapshot, sql, parameters=None):
    """Return the answer of all cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "counting_of", lambda _tree: None)
        tables = fresh(snapshot)
        answer = ask(tables, sql, parameters).read_all()
    assert "_facts" in vars(tables)
    return answer


def rows_of(table):
    return sorted(map(repr, table.to_pylist()))


COLUMNS = ("dataset_id", "donor_id", "contributor_label", "tissue", "person_id", "person_state", "cell_type",
           "mapping_decision", "mapping_confidence", "DONOR_ID", "cells.donor_id")  # fmt: skip
KEYS = st.sampled_from(
    [*COLUMNS, "lower(contributor_label)", "contributor_label || donor_id", "CASE WHEN donor_id = 'd0' THEN 1 END",
     "coalesce(nullif(contributor_label, ''), cell_type)", "substr(contributor_label, 1, 1) AS initial"]
)  # fmt: skip
MEASURES = st.sampled_from(
    [
        "count(*)", "count(*) AS n", "count(contributor_label)", "count(nullif(contributor_label, ''))", "count(1)",
        "count(DISTINCT contributor_label)", "count(*) FILTER (WHERE donor_id = 'd0') AS zeros", "count(*) * 2 + 1",
        "count(*) - count(DISTINCT donor_id)", "min(contributor_label)", "max(person_id) AS last",
        "bool_or(cell_type = 'unknown')", "count(NULL) AS none", "count(*) / 7",
    ]
)  # fmt: skip
CONDITIONS = st.sampled_from(
    [
        "", "donor_id = 'd0'", "donor_id <> 'd0' AND contributor_label LIKE 'T%'", "NOT contributor_label IN ('B', '')",
        "person_id IS NOT NULL AND mapping_confidence > 100", "dataset_id = 'nowhere'", "cell_type BETWEEN 'a' AND 'o'",
        "regexp_matches(contributor_label, '^T') OR dataset_id = 'zheng'",
    ]
)  # fmt: skip


@st.composite
def questions(draw):
    keys = draw(st.lists(KEYS, max_size=3, unique=True))
    measures = draw(st.lists(MEASURES, min_size=0 if keys else 1, max_size=3))
    condition, having = draw(CONDITIONS), draw(st.sampled_from(["", "HAVING count(*) > 2"]))
    places = ", ".join(str(number + 1) for number in range(len(keys)))
    grouping = draw(st.sampled_from(["GROUP BY ALL", f"GROUP BY {places}", f"GROUP BY ROLLUP ({places})"]))
    words = ["SELECT", ", ".join([*keys, *measures]), "FROM cells", f"WHERE {condition}" if condition else ""]
    words += [grouping if keys else "", having if keys and measures else "", draw(st.sampled_from(["", "ORDER BY 1"]))]
    return " ".join(word for word in words if word)


@given(sql=questions())
@settings(max_examples=40, deadline=None)
def test_groups_answer_what_all_cells_answer(snapshot, sql):
    found, expected = counted(snapshot, sql), plainly(snapshot, sql)
    assert found.schema == expected.schema, sql
    assert rows_of(found) == rows_of(expected), sql


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT DISTINCT contributor_label, donor_id FROM cells ORDER BY ALL",
        "SELECT donor_id, count(*) FROM cells GROUP BY donor_id ORDER BY count(*) DESC, donor_id LIMIT 1",
        "SELECT count(*) FROM cells",
        "SELECT donor_id AS d, count(*) AS n FROM cells AS c GROUP BY c.donor_id HAVING n > 1 ORDER BY d",
        "SELECT donor_id, tissue, count(*) FROM cells GROUP BY GROUPING SETS ((donor_id), (tissue), ()) ORDER BY ALL",
    ],
)
def test_the_order_asked_for_is_kept(snapshot, sql):
    sql = sql.replace("ORDER BY ALL", "ORDER BY 1, 2")
    assert counted(snapshot, sql) == plainly(snapshot, sql)


def test_values_stay_bound(snapshot):
    for sql, values in (
        ("SELECT count(*) AS n, $word AS w FROM cells WHERE contributor_label = $word", {"word": "T cell"}),
        ("SELECT count(*) AS n FROM cells WHERE contributor_label = ? AND donor_id = ?", ["T cell", "d0"]),
    ):
        assert counted(snapshot, sql, values) == plainly(snapshot, sql, values)
    attack = "' OR TRUE --"
    assert counted(snapshot, "SELECT count(*) AS n FROM cells WHERE donor_id = ?", [attack])["n"].to_pylist() == [0]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT donor_id FROM cells",
        "SELECT DISTINCT ON (donor_id) donor_id, contributor_label FROM cells ORDER BY ALL",
        "SELECT donor_id, count(*) OVER () FROM cells",
        "SELECT sum(mapping_confidence) FROM cells",
        "SELECT string_agg(donor_id, ',') FROM cells",
        "SELECT min(donor_id, 3) FROM cells",
        "SELECT count(*), random() < 2 AS r FROM cells GROUP BY ALL",
        "SELECT count(cell_id) FROM cells",
        "SELECT donor_id, count(*) FROM cells WHERE n_counts > 3 GROUP BY ALL",
        "SELECT count(*) FROM cells WHERE position < 5",
        "SELECT count(*) AS position FROM cells ORDER BY position",
        "SELECT count(*) FROM cells USING SAMPLE 50%",
        "SELECT count(*) FROM cells AS a, cells AS b",
        "SELECT count(*) FROM cells JOIN datasets USING (dataset_id)",
        "SELECT count(*) FROM cells WHERE donor_id IN (SELECT donor_id FROM cells)",
        "WITH cells AS (SELECT 1 AS donor_id) SELECT count(*) FROM cells GROUP BY donor_id",
        "SELECT count(*) FROM cells UNION ALL SELECT count(*) FROM datasets",
        "SELECT count(*), count(*) FILTER (WHERE c IS NULL) FROM cells AS c",
        "SELECT count(donor_id ORDER BY tissue) FROM cells",
        "SELECT donor_id, count(*) FROM cells GROUP BY donor_id QUALIFY row_number() OVER () = 1",
        "SELECT count(COLUMNS(*)) FROM cells",
        "SELECT count(*) AS tissue FROM cells AS tissue",
    ],
)
def test_a_question_about_single_cells_is_asked_of_them(snapshot, sql):
    tables = fresh(snapshot)
    found = ask(tables, sql).read_all()
    assert isinstance(found, pa.Table)
    assert "_facts" in vars(tables) or "WITH" in sql


@pytest.mark.parametrize(
    "sql",
    ["SELECT tissue, count(*) FROM cells", "SELECT count(*) FROM cells WHERE count(*) > 1",
     "SELECT count(*) FROM cells WHERE contributor_label = 101",
     "SELECT tissu, count(*) FROM cells GROUP BY ALL", "SELECT cytolabe_n_like FROM cells GROUP BY ALL",
     "SELECT count(*) FROM cells WHERE tissue > 5 AND tissue = 1 / 'x'"],
)  # fmt: skip
def test_errors_are_those_of_the_question_that_was_asked(snapshot, sql):
    with pytest.raises(UsageError) as expected:
        plainly(snapshot, sql)
    with pytest.raises(UsageError) as found:
        snapshot.query(sql)
    assert str(found.value) == str(expected.value)


def test_cells_that_are_too_little_alike_are_asked_one_by_one(snapshot, monkeypatch):
    monkeypatch.setattr(relations, "count_groups", functools.partial(count_groups, at_most=2))
    sql = "SELECT donor_id, count(*) AS n FROM cells GROUP BY ALL ORDER BY 1"
    asked = fresh(snapshot)
    assert ask(asked, sql).read_all() == plainly(snapshot, sql)
    assert "_facts" in vars(asked)


def test_withdrawn_cells_are_in_no_count(atlas):
    sql = "SELECT dataset_id, donor_id, cell_type, count(*) AS n FROM cells GROUP BY ALL ORDER BY ALL"
    sql = sql.replace("ORDER BY ALL", "ORDER BY 1, 2, 3")
    withdraw_person(atlas, donor=("kang", "d1"))
    snapshot = atlas.freeze("v2")
    found = counted(snapshot, sql)
    assert found == plainly(snapshot, sql)
    assert sum(found["n"].to_pylist()) == 18
    assert counted(snapshot, "SELECT count(*) AS n FROM cells")["n"].to_pylist() == [18]
    assert count_cells(fresh(snapshot), "dataset_id = 'kang'") == {"kang": 6}


def test_a_filter_counts_groups_too(snapshot):
    tables = fresh(snapshot)
    found = count_cells(tables, "not cell_type is unknown and (donor_id = 'd0' or contributor_label like 'T%')")
    assert "_facts" not in vars(tables)
    assert found == {"kang": 4, "zheng": 4}


def test_a_count_over_a_changed_table_is_an_error(atlas):
    snapshot = atlas.freeze()
    path = atlas.path / "tables" / snapshot.entries["kang"].tables["cells"].file
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(IntegrityError):
        atlas.snapshot().query("SELECT tissue, count(*) FROM cells GROUP BY ALL")
