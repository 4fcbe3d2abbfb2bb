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
    aliases, digest = read_alias_table(path)
    assert aliases == {"GNB2L1": "RACK1", "ATP5E": "ENSG00000124172"}
    assert digest == "sha256:" + hashlib.sha256(content).hexdigest()


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
