"""A nuclear fraction comes from introns that the contributor counted, or there is none and the reason says so."""

import numpy as np
import pandas as pd
import pytest

from cytolabe.quality.nuclear import nuclear_fraction


@pytest.mark.parametrize(
    ("intron", "exon"),
    [
        pytest.param("mapped_to_intron", "mapped_to_exon", id="scPipe"),
        pytest.param("unspliced", "spliced", id="velocyto"),
        pytest.param("n_unspliced_counts", "n_spliced_counts", id="with n and counts"),
    ],
)
def test_introns_over_all_is_the_fraction(intron, exon):
    table = pd.DataFrame({intron: [30, 0, 0], exon: [70, 10, 0], "n_genes": [1, 2, 3]})
    found, where = nuclear_fraction(table)
    np.testing.assert_allclose(found, [0.3, 0.0, np.nan])
    assert intron in where


def test_a_fraction_by_its_name_is_taken_if_it_is_one():
    assert nuclear_fraction(pd.DataFrame({"nuclear_fraction": [0.2, 0.9]}))[0].tolist() == [0.2, 0.9]
    assert nuclear_fraction(pd.DataFrame({"intron_ratio": [2.0, 9.0]}))[0] is None


def test_malat1_is_no_nuclear_fraction():
    found, why = nuclear_fraction(pd.DataFrame({"MALAT1": [0.1, 0.2], "percent_mito": [0.1, 0.2]}))
    assert found is None
    assert "introns" in why


def test_totals_of_layers_go_before_columns_of_the_contributor():
    table = pd.DataFrame(
        {"layer_counts.unspliced": [1, 0], "layer_counts.spliced": [3, 0], "unspliced": [5, 5], "spliced": [5, 5]}
    )
    found, where = nuclear_fraction(table)
    np.testing.assert_allclose(found, [0.25, np.nan])
    assert where == "layer_counts.unspliced / (layer_counts.unspliced + layer_counts.spliced)"
