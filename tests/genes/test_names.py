"""How the text of a feature is read."""

import pytest

from cytolabe.genes.names import Writing, parse_features, split_copy_number


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("ENSG00000010610", (Writing.ID, "ENSG00000010610", "")),
        ("ENSG00000010610.12", (Writing.VERSIONED_ID, "ENSG00000010610", "")),
        ("ENSG00000182378.15_PAR_Y", (Writing.VERSIONED_ID, "ENSG00000182378", "")),
        ("ENSMUSG00000023274", (Writing.ID, "ENSMUSG00000023274", "")),
        ("CD4_ENSG00000010610", (Writing.COMPOSITE, "ENSG00000010610", "CD4")),
        ("HLA-A_ENSG00000206503.4", (Writing.COMPOSITE, "ENSG00000206503", "HLA-A")),
        ("ENSG00000010610_CD4", (Writing.COMPOSITE, "ENSG00000010610", "CD4")),
        ("CD4-ENSG00000010610", (Writing.COMPOSITE, "ENSG00000010610", "CD4")),
        ("ERCC-00002", (Writing.SPIKE_IN, "", "")),
        ("ERCC1", (Writing.SYMBOL, "", "ERCC1")),
        ("1-Mar", (Writing.SPREADSHEET, "", "1-Mar")),
        ("Sep-04", (Writing.SPREADSHEET, "", "Sep-04")),
        ("2.31E+13", (Writing.SPREADSHEET, "", "2.31E+13")),
        ("MARCHF1", (Writing.SYMBOL, "", "MARCHF1")),
        (" CD4 ", (Writing.SYMBOL, "", "CD4")),
        ("RP11-206L10.2", (Writing.SYMBOL, "", "RP11-206L10.2")),
    ],
)
def test_a_feature_is_read_as(feature, expected):
    assert parse_features([feature]) == [expected]


def test_only_a_short_number_at_the_end_can_be_a_copy():
    assert split_copy_number("TBCE-1") == "TBCE"
    assert split_copy_number("PNRC2.1") == "PNRC2"
    assert split_copy_number("CD4") == ""
