"""Persons on a sheet: what reviewers say, which pairs are known, and what sex genes may and may not do."""

import itertools

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.errors import UnreadableInputError
from cytolabe.genes.reference import load_reference
from cytolabe.reconcile.person_sheet import SHEET_COLUMNS, contradicted, person_pairs, read_person_sheet, sheet_text
from cytolabe.reconcile.persons import resolve_persons
from cytolabe.reconcile.sex_genes import SEX_GENES, sex_of, why_not_read

CELLS = pd.DataFrame({
    "dataset_id": ["a", "a", "b", "b", "c"], "study": ["s1", "s1", "s2", "s2", "s3"],
    "donor_id": ["D1", "D2", "D1", "D3", "pool"],
})  # fmt: skip


def sheet_of(persons: pd.DataFrame, **sexes: str) -> pd.DataFrame:
    study = dict(zip(CELLS["dataset_id"], CELLS["study"], strict=True))
    frame = persons.assign(
        study=persons["dataset_id"].map(study), n_cells=1, sex_declared="unknown", suspected="", reviewer="", comment="",
        sex_genes=[sexes.get(f"{row.dataset_id}_{row.donor_id}", "") for row in persons.itertuples()],
    )  # fmt: skip
    return frame[list(SHEET_COLUMNS)]


def test_one_name_in_two_studies_is_suspected_and_never_merged():
    persons, _ = resolve_persons(CELLS)
    assert set(persons["person_id"]) == {"s1/D1", "s1/D2", "s2/D1", "s2/D3", "unknown"}
    pairs, n_assumed = person_pairs(sheet_of(persons))
    (row,) = pairs.to_dict("records")
    assert (row["person_a"], row["person_b"], row["state"]) == ("s1/D1", "s2/D1", "assumed_different")
    assert "d1" in row["suspicion"]
    assert n_assumed == 4


def test_opposite_sex_tells_a_suspected_pair_apart_and_equal_sex_merges_nobody():
    persons, _ = resolve_persons(CELLS)
    apart, _ = person_pairs(sheet_of(persons, a_D1="female: 90 counts", b_D1="male: 70 counts"))
    assert apart.loc[apart["suspicion"] != "", "state"].tolist() == ["different"]
    alike, n_assumed = person_pairs(sheet_of(persons, a_D1="female: 90 counts", b_D1="female: 80 counts"))
    assert set(alike["state"]) == {"assumed_different"}
    assert n_assumed == 4


def test_a_declaration_across_the_sexes_is_told():
    persons, _ = resolve_persons(CELLS)
    persons.loc[persons["donor_id"] == "D1", "person_id"] = "one"
    sheet = sheet_of(persons, a_D1="female: 90 counts", b_D1="male: 70 counts")
    assert contradicted(sheet) == ["one: female in a, male in b"]
    assert contradicted(sheet_of(persons, a_D1="female: 90 counts", b_D1="unknown: 1 counts")) == []


def test_a_carriage_return_in_a_name_does_not_cut_its_line(tmp_path):
    cells = CELLS.assign(donor_id=["D1\r", *CELLS["donor_id"][1:]])
    persons, _ = resolve_persons(cells)
    (tmp_path / "sheet.tsv").write_bytes(sheet_text(sheet_of(persons).assign(reviewer="me")).encode())
    found = read_person_sheet(tmp_path / "sheet.tsv")
    assert {person.donor_id for person in found} == set(cells["donor_id"])


def test_only_reviewed_lines_come_into_force(tmp_path):
    persons, _ = resolve_persons(CELLS)
    sheet = sheet_of(persons)
    path = tmp_path / "persons.tsv"
    path.write_text(sheet_text(sheet))
    assert read_person_sheet(path) == ()
    sheet.loc[sheet["donor_id"] == "D1", ["person_id", "reviewer", "comment"]] = ["person-1", "Ann", "same biobank id"]
    sheet.loc[sheet["donor_id"] == "D3", ["person_state", "reviewer"]] = ["pooled", "Ann"]
    path.write_text(sheet_text(sheet))
    again, findings = resolve_persons(CELLS, declared=read_person_sheet(path))
    by_donor = again.set_index(["dataset_id", "donor_id"])
    assert by_donor.loc[("a", "D1"), "person_id"] == by_donor.loc[("b", "D1"), "person_id"] == "person-1"
    assert by_donor.loc[("a", "D1"), "evidence"] == "declared: reviewed by Ann: same biobank id"
    assert tuple(by_donor.loc[("b", "D3"), ["person_id", "person_state"]]) == ("unknown", "pooled")
    assert "E-PERSON-01" not in {finding.code for finding in findings}
    pairs, _ = person_pairs(sheet_of(again))
    assert pairs["state"].tolist() == ["same"]


@pytest.mark.parametrize(
    "text", ["", "a\tb\n1\t2\n", "dataset_id\tdonor_id\tperson_id\tperson_state\treviewer\nd\tx\tp\tmaybe\tAnn\n"]
)
def test_what_is_no_sheet_is_refused(tmp_path, text):
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(UnreadableInputError, match=r"x\.tsv"):
        read_person_sheet(tmp_path / "x.tsv")


@given(n_x=st.integers(0, 10_000), n_y=st.integers(0, 10_000))
def test_a_sex_is_called_only_where_one_side_outweighs_the_other_by_far(n_x, n_y):
    told = sex_of(n_x, n_y, measures_x=True, measures_y=True).sex
    mirrored = sex_of(n_y, n_x, measures_x=True, measures_y=True).sex
    assert {told, mirrored} in ({"female", "male"}, {"unknown"})
    if told != "unknown":
        assert max(n_x, n_y) >= 20
        assert max(n_x, n_y) >= 10 * min(n_x, n_y)


def test_unmeasured_genes_call_nobody():
    for x, y in itertools.product((True, False), repeat=2):
        told = sex_of(500, 0, measures_x=x, measures_y=y)
        assert (told.sex == "female") == (x and y)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"n_genes": 4_999}, "panel"),
        ({"state": "pooled"}, "pooled"),
        ({"diseases": "B-cell acute lymphoblastic leukemia"}, "tumor"),
        ({"tissues": "cell line"}, "cell line"),
    ],
)
def test_panels_pools_tumors_and_lines_are_skipped(facts, told):
    usual = {"n_genes": 20_000, "state": "resolved", "diseases": "normal", "tissues": "blood"}
    assert why_not_read(**usual) == ""
    assert why_not_read(**{**usual, **facts}).startswith(told)


def test_the_sex_genes_are_those_of_their_symbols():
    symbols = {
        "Homo sapiens": {"XIST", "RPS4Y1", "DDX3Y", "UTY", "KDM5D", "EIF1AY", "USP9Y", "ZFY"},
        "Mus musculus": {"Xist", "Ddx3y", "Eif2s3y", "Kdm5d", "Uty"},
    }
    for organism, sides in SEX_GENES.items():
        reference = load_reference(organism)
        assert {reference.symbol_of(gene) for side in sides.values() for gene in side} == symbols[organism]


DONORS = st.tuples(
    st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(["p1", "p2", "p3", "p4", "p5"]),
    st.sampled_from(["D1", "D2", "x"]), st.sampled_from(["female: 90", "male: 90", "unknown: 1"]),
)  # fmt: skip


@given(rows=st.lists(DONORS, max_size=8))
def test_pairs_that_are_counted_are_those_that_would_be_told_one_by_one(rows):
    sheet = pd.DataFrame(
        [(f"d{n}", study, name, person, sex) for n, (study, person, name, sex) in enumerate(rows)],
        columns=["dataset_id", "study", "donor_id", "person_id", "sex_genes"],
    ).assign(person_state="resolved", evidence="")
    people = dict(list(sheet.groupby("person_id")))
    sexes = {}
    for person, own in people.items():
        told = {text.partition(":")[0] for text in own["sex_genes"]} & {"female", "male"}
        sexes[person] = told.pop() if len(told) == 1 else ""
    assumed, alike = 0, set()
    for a, b in itertools.combinations(sorted(people), 2):
        apart = {sexes[a], sexes[b]} == {"female", "male"} or set(people[a]["study"]) & set(people[b]["study"])
        assumed += not apart
        if set(people[a]["donor_id"]) & set(people[b]["donor_id"]):
            alike.add((a, b, "different" if apart else "assumed_different"))
    pairs, n_assumed = person_pairs(sheet)
    told = pairs[pairs["state"] != "same"]
    assert n_assumed == assumed
    assert set(zip(told["person_a"], told["person_b"], told["state"], strict=True)) == alike


def test_thousands_of_persons_are_counted_and_not_paired():
    n = 6_000
    sheet = pd.DataFrame({
        "dataset_id": [f"d{i % 300}" for i in range(n)], "study": [f"s{i % 300}" for i in range(n)],
        "donor_id": [f"donor {i}x" for i in range(n)], "person_id": [f"p{i}" for i in range(n)],
        "person_state": "resolved", "evidence": "", "sex_genes": "unknown: 0",
    })  # fmt: skip
    pairs, n_assumed = person_pairs(sheet)
    assert pairs.empty
    assert n_assumed == n * (n - 1) // 2 - 300 * (20 * 19 // 2)
