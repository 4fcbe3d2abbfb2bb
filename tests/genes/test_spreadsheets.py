"""What a spreadsheet made of symbols: seen in every form, proposed where one gene is left, never repaired."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.genes import align_features, load_reference
from cytolabe.genes.names import Writing, parse_features
from cytolabe.genes.spreadsheets import day_of, is_wreck, proposals_of, serials_among

HUMAN, MOUSE = load_reference(), load_reference("Mus musculus")
PLAIN = [HUMAN.symbol_of(gene_id) for gene_id in sorted(HUMAN.protein_coding)[1000:1400]]


@pytest.mark.parametrize(
    ("feature", "day"),
    [
        ("1-Mar", (3, 1)),
        ("2-Sep", (9, 2)),
        ("Sep-02", (9, 2)),
        ("01-Dec", (12, 1)),
        ("2021-03-01", (3, 1)),
        ("2021-03-01 00:00:00", (3, 1)),
        ("3/1/2021", (3, 1)),
        ("1-Mar-21", (3, 1)),
        ("1-Mar.1", (3, 1)),
        ("X1.Mar", (3, 1)),
        ("15-sept", (9, 15)),
    ],
)
def test_a_date_is_a_month_and_a_day_in_every_form(feature, day):
    assert day_of(feature) == day
    assert parse_features([feature])[0].writing is Writing.SPREADSHEET


@pytest.mark.parametrize(
    "feature",
    ["MARCHF1", "SEPTIN2", "DEC1", "MAR", "NOV", "APR-1", "OCT4", "RP11-206L10.2", "HLA-A", "40-Foo", "99-Sep"],
)
def test_symbols_are_no_dates(feature):
    assert not is_wreck(feature)


def test_no_symbol_of_any_release_is_taken_for_a_date():
    for reference in (HUMAN, MOUSE):
        names = {name for release in reference.releases for name in release.ids_of}
        assert [name for name in names if any(map(str.isdecimal, name)) and is_wreck(name)] == []


@given(day=st.dates(dt.date(1995, 1, 1), dt.date(2030, 12, 31)))
def test_a_serial_number_is_its_day_where_numbers_are_rare(day):
    serial = str((day - dt.date(1899, 12, 30)).days)
    found = serials_among([serial, *PLAIN])
    assert found == ({serial: (day.month, day.day)} if day.month in {3, 9, 12} else {})
    assert serials_among([serial, *map(str, range(100, 500))]) == {}


@pytest.mark.parametrize(
    ("day", "reference", "genes"),
    [
        ((9, 2), HUMAN, ("SEPTIN2",)),
        ((3, 5), HUMAN, ("MARCHF5",)),
        ((3, 1), HUMAN, ("MARCHF1", "MTARC1")),
        ((12, 1), HUMAN, ("DELEC1",)),
        ((9, 2), MOUSE, ("Septin2",)),
        ((9, 30), HUMAN, ()),
        ((6, 1), HUMAN, ()),
    ],
)
def test_the_genes_that_a_day_can_have_been(day, reference, genes):
    assert proposals_of(day, reference) == genes


def test_one_gene_is_proposed_and_none_is_taken_until_a_person_says_so():
    features = ["2-Sep", "1-Mar", "44441", *PLAIN]
    alignment, findings = align_features(features, np.ones(len(features)), reference=HUMAN)
    assert alignment.gene_ids[:3] == ("", "", "")
    wrecked = next(finding for finding in findings if finding.code == "W-GENES-06")
    assert wrecked.n_affected == 3
    assert "2-Sep -> SEPTIN2" in wrecked.message
    assert "44441 -> SEPTIN2" in wrecked.message
    assert "1-Mar (MARCHF1 or MTARC1)" in wrecked.message
    accepted, _ = align_features(features, np.ones(len(features)), reference=HUMAN, aliases={"2-Sep": "SEPTIN2"})
    assert (accepted.gene_ids[0], accepted.status[0]) == (HUMAN.primary.ids_of["SEPTIN2"][0], "alias")
