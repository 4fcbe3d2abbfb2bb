"""Cells that are made up are known by the file's own marks, whatever labels, names of columns and manifests say."""

import numpy as np
import pandas as pd
import pytest

from cytolabe.ingest.simulated_stamp import simulated_stamp


def table(**columns):
    return pd.DataFrame({"cell_type": ["B cell", "T cell"] * 4, **columns})


def codes(stamp):
    return [finding.code for finding in stamp.findings]


@pytest.mark.parametrize("name", ["label_source", "annotation_method", "cell_type_origin", "Label.Source"])
@pytest.mark.parametrize("declared", ["", "manual", "simulated"])
def test_a_column_with_the_one_word_is_a_stamp_that_no_declaration_takes_away(name, declared):
    found = simulated_stamp(table(**{name: " Simulated "}), (), declared=declared)
    assert found.is_simulated
    assert codes(found) == {"": ["N-ORIGIN-03"], "manual": ["W-ORIGIN-02"], "simulated": []}[declared]


@pytest.mark.parametrize("declared", ["", "sorted"])
def test_what_stands_beside_the_tables_is_a_stamp_too(declared):
    found = simulated_stamp(table(), ("colors", "simulated"), declared=declared)
    assert (found.is_simulated, found.evidence) == (True, "uns['simulated'] is there")
    assert not simulated_stamp(table(), ("simulated_annealing",), declared=declared).is_simulated


@pytest.mark.parametrize("others", ["FACS", None, "simulated doublets removed"], ids=["real", "unsaid", "hinted"])
@pytest.mark.parametrize("declared", ["", "manual", "simulated"])
def test_a_stamp_on_a_part_of_the_cells_is_an_error(others, declared):
    said = np.array(["simulated"] * 3 + [others] * 5, dtype=object)
    for values in (said, pd.Categorical(said)):
        found = simulated_stamp(table(label_source=values), (), declared=declared)
        assert found.is_simulated
        (finding,) = found.findings
        assert (finding.code, finding.n_affected, finding.n_total) == ("E-ORIGIN-04", 3, 8)


def test_a_sentence_that_speaks_of_a_simulation_counts_until_something_is_declared():
    said = table(label_source="sorted; simulated doublets removed")
    assert simulated_stamp(said, ()).is_simulated
    assert codes(simulated_stamp(said, ())) == ["N-ORIGIN-03"]
    declared = simulated_stamp(said, (), declared="sorted")
    assert not declared.is_simulated
    assert codes(declared) == ["N-ORIGIN-03"]
    assert "declared sorted: the cells count as real" in declared.findings[0].message
    assert simulated_stamp(said, (), declared="simulated").is_simulated


@pytest.mark.parametrize("values", ["manual", "assimilated", None, 7])
def test_other_words_and_an_empty_column_say_nothing(values):
    found = simulated_stamp(table(label_source=values, simulated="simulated"), ())
    assert (found.is_simulated, found.findings) == (False, ())
    assert not simulated_stamp(table(label_source="simulated").iloc[:0], ()).is_simulated


@pytest.mark.parametrize("declared", ["", "sorted"])
def test_a_mention_in_one_column_does_not_hide_the_stamp_in_another(declared):
    said = table(annotation_method="sorted; simulated doublets removed", label_source="simulated")
    found = simulated_stamp(said, (), declared=declared)
    assert (found.is_simulated, found.evidence) == (True, "'label_source' says 'simulated'")
