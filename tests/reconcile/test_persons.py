import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.reconcile.persons import PERSON_COLUMNS, DeclaredPerson, pair_states, resolve_persons
from cytolabe.records import Severity


def cells(*rows):
    return pd.DataFrame(rows, columns=["dataset_id", "study", "donor_id"])


KANG = cells(("kang_a", "kang18", "101"), ("kang_a", "kang18", "107"), ("kang_b", "kang18", "101"))


def persons_of(table, *declared):
    persons, findings = resolve_persons(table, declared=declared)
    found = {(r["dataset_id"], r["donor_id"]): r["person_id"] for r in persons.to_dict("records")}
    return found, [f.code for f in findings]


def test_a_person_is_a_donor_within_a_study():
    found, codes = persons_of(KANG)
    assert found == {("kang_a", "101"): "kang18/101", ("kang_a", "107"): "kang18/107", ("kang_b", "101"): "kang18/101"}
    assert not codes


def test_the_same_donor_string_of_two_studies_is_only_a_suspicion():
    found, codes = persons_of(pd.concat([KANG, cells(("z", "zheng17", "101"))]))
    assert found["z", "101"] != found["kang_a", "101"]
    assert codes == ["N-PERSON-03"]


@pytest.mark.parametrize(
    ("donor", "state"),
    [("unknown", "unknown"), ("NA", "unknown"), ("", "unknown"), ("pooled", "pooled"), ("pool_1", "pooled")],
)
def test_an_unknown_or_pooled_donor_is_nobody(donor, state):
    persons, findings = resolve_persons(cells(("d", "s", donor), ("d", "s", "p1")))
    row = persons[persons["donor_id"] == donor].iloc[0]
    assert (row["person_id"], row["person_state"]) == ("unknown", state)
    assert [f.code for f in findings] == ["W-PERSON-04"]


def test_a_declaration_merges_across_studies_and_ends_the_suspicion():
    table = pd.concat([KANG, cells(("z", "zheng17", "101"))])
    found, codes = persons_of(
        table,
        DeclaredPerson(person_id="p1", dataset_id="kang_a", donor_id="101", evidence="same consent form"),
        DeclaredPerson(person_id="p1", dataset_id="z", donor_id="101"),
    )
    assert found["kang_a", "101"] == found["z", "101"] == found["kang_b", "101"] == "p1"
    assert found["kang_a", "107"] == "kang18/107"
    assert not codes


def test_a_declaration_for_a_whole_data_set_covers_cells_without_a_donor():
    table = cells(("sorted", "zheng17", "unknown"), ("pbmc", "zheng17", "frozen_pbmc_donor_a"))
    found, codes = persons_of(
        table,
        DeclaredPerson(person_id="zheng17/donor_a", dataset_id="sorted", evidence="paper, methods"),
        DeclaredPerson(person_id="zheng17/donor_a", dataset_id="pbmc"),
    )
    assert set(found.values()) == {"zheng17/donor_a"}
    assert not codes


def test_a_declaration_for_a_donor_goes_before_one_for_the_data_set():
    found, codes = persons_of(
        KANG, DeclaredPerson(person_id="x", dataset_id="kang_a"),
        DeclaredPerson(person_id="y", dataset_id="kang_a", donor_id="107"),
    )  # fmt: skip
    assert found["kang_a", "107"] == "y"
    assert codes == ["W-PERSON-02"]


@pytest.mark.parametrize(
    "declared",
    [[DeclaredPerson(person_id="p", dataset_id="none")], [DeclaredPerson(person_id="p", dataset_id="kang_a", donor_id="9")],
     [DeclaredPerson(person_id="unknown", dataset_id="kang_a", donor_id="101")],
     [DeclaredPerson(person_id=p, dataset_id="kang_a", donor_id="101") for p in "pq"]],
)  # fmt: skip
def test_a_declaration_that_cannot_be_used_is_an_error(declared):
    _, findings = resolve_persons(KANG, declared=declared)
    assert [f.code for f in findings] == ["E-PERSON-01"]
    assert findings[0].severity is Severity.ERROR


def test_a_donor_declared_as_two_persons_in_its_study_is_nobody_where_nothing_is_said():
    table = pd.concat([KANG, cells(("kang_c", "kang18", "101"))])
    found, _ = persons_of(
        table, DeclaredPerson(person_id="p", dataset_id="kang_a", donor_id="101"),
        DeclaredPerson(person_id="q", dataset_id="kang_b", donor_id="101"),
    )  # fmt: skip
    assert found["kang_c", "101"] == "unknown"


def test_pairs_say_what_is_known_and_what_is_assumed():
    left = pd.DataFrame({"study": ["s1", "s1", "s1"], "person_id": ["a", "b", "unknown"]})
    right = pd.DataFrame({"study": ["s1", "s2", "s2"], "person_id": ["a", "c", "c"]})
    states = pair_states(left, right)
    assert (states.n_same, states.n_different, states.n_assumed_different) == (1, 1, 2)
    assert (states.n_unknown_left, states.n_unknown_right) == (1, 0)
    assert states.sentence() == "1 known shared, 2 pairs assumed different, 1 cells of unknown persons"


donors = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["101", "102", "unknown", "pooled"])), min_size=1, max_size=20
)


@given(rows=donors, order=st.permutations(range(20)))
def test_persons_do_not_depend_on_the_order_of_cells(rows, order):
    table = cells(*((d, "s1" if d == "a" else "s2", donor) for d, donor in rows))
    shuffled = table.iloc[[i for i in order if i < len(table)]]
    first, second = resolve_persons(table), resolve_persons(shuffled)
    pd.testing.assert_frame_equal(first[0], second[0])
    assert first[1] == second[1]
    assert tuple(first[0].columns) == PERSON_COLUMNS
    assert len(first[0]) == len(set(rows))


@given(left=donors, right=donors)
def test_pair_states_partition_all_pairs(left, right):
    sides = [pd.DataFrame({"study": [d for d, _ in rows], "person_id": [p for _, p in rows]}) for rows in (left, right)]
    states = pair_states(*sides)
    n_pairs = len({p for _, p in left} - {"unknown"}) * len({p for _, p in right} - {"unknown"})
    assert states.n_same + states.n_different + states.n_assumed_different == n_pairs
    mirrored = pair_states(*reversed(sides))
    assert (mirrored.n_same, mirrored.n_different) == (states.n_same, states.n_different)


@pytest.mark.parametrize(("one", "other"), [("D1", "d1"), ("D1", "D01"), ("P-7", "P 7"), ("donor 7", "Donor_07")])
def test_two_spellings_of_a_donor_in_one_study_are_kept_apart_and_said(one, other):
    found, codes = persons_of(cells(("a", "s", one), ("b", "s", other)))
    assert found["a", one] != found["b", other]
    assert codes == ["W-PERSON-05"]


@pytest.mark.parametrize(("one", "other"), [("P10", "P100"), ("1-11", "11-1"), ("D1", "D11"), ("A1", "B1")])
def test_donors_that_are_written_apart_are_no_suspicion(one, other):
    assert persons_of(cells(("a", "s", one), ("b", "s", other)))[1] == []


def test_one_spelling_of_a_donor_in_two_data_sets_of_a_study_is_one_person():
    assert persons_of(cells(("a", "s", "D1"), ("b", "s", "D1")))[1] == []
