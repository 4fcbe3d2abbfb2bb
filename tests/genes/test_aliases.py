"""Alias tables: what is read, and what is refused with its line."""

import hashlib

import pytest

from cytolabe.errors import UsageError
from cytolabe.genes import read_alias_table


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_two_columns_are_read_and_digested(tmp_path, delimiter):
    path = tmp_path / "aliases.txt"
    content = f"alias{delimiter}gene\nGNB2L1{delimiter}RACK1\n\nATP5E{delimiter}ENSG00000124172\n".encode()
    path.write_bytes(content)
    table = read_alias_table(path)
    assert table.genes == {"GNB2L1": "RACK1", "ATP5E": "ENSG00000124172"}
    assert table.digest == "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"old,new\nA,B\n", "first line must be"),
        (b"", "first line must be"),
        (b"alias,gene\nA\n", "line 2"),
        (b"alias,gene\nA,B\nA,C\n", "line 3.*stands for"),
        (b"alias,gene\nA,\xff\n", "not UTF-8"),
    ],
)
def test_a_table_that_leaves_a_gene_open_is_refused(tmp_path, content, message):
    path = tmp_path / "aliases.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_alias_table(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        read_alias_table(tmp_path / "nowhere.csv")


HGNC = "hgnc_id\tsymbol\tstatus\talias_symbol\tprev_symbol\tensembl_gene_id\n" + "\n".join(
    "\t".join(row)
    for row in (
        ("HGNC:4399", "RACK1", "Approved", '"Gnb2-rs1|H12.3"', "GNB2L1", "ENSG00000204628"),
        ("HGNC:1678", "CD4", "Approved", "T4|both", "", "ENSG00000010610"),
        ("HGNC:1706", "CD8A", "Approved", "both", "H12.3", "ENSG00000153563"),
        ("HGNC:1", "GONE", "Entry Withdrawn", "old", "", "ENSG00000000001"),
        ("HGNC:2", "NOID", "Approved", "lost", "", ""),
    )
)


def test_the_complete_set_of_hgnc_is_read_and_what_several_genes_share_is_left_out(tmp_path):
    path = tmp_path / "hgnc_complete_set.txt"
    path.write_text(HGNC, encoding="utf-8")
    table = read_alias_table(path)
    assert table.genes == {
        "Gnb2-rs1": "ENSG00000204628",
        "GNB2L1": "ENSG00000204628",
        "T4": "ENSG00000010610",
        "H12.3": "ENSG00000153563",  # a previous symbol goes before an alias
    }
    assert table.n_ambiguous == 1


def test_a_download_from_the_site_of_hgnc_has_the_same_names(tmp_path):
    path = tmp_path / "custom.tsv"
    path.write_text(
        "HGNC ID\tApproved symbol\tStatus\tAlias symbols\tPrevious symbols\tEnsembl gene ID\n"
        "HGNC:4399\tRACK1\tApproved\tGnb2-rs1, H12.3\tGNB2L1\tENSG00000204628\n",
        encoding="utf-8",
    )
    assert sorted(read_alias_table(path).genes) == ["GNB2L1", "Gnb2-rs1", "H12.3"]
