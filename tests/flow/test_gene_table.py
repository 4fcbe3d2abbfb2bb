"""A user's table of classes of genes: every row is a gene with one class, or is told."""

import pytest

from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.gene_table import read_gene_table
from cytolabe.genes.reference import load_reference


@pytest.fixture
def read(tmp_path):
    def make(text):
        path = tmp_path / "genes.tsv"
        path.write_bytes(text.encode())
        return read_gene_table(path, load_reference())

    return make


def test_symbols_and_ids_are_one_gene_and_groups_are_kept(read):
    found = read(
        "gene\tclass\tgroup\nTBX5\ttf\tT-box\nENSG00000089225.20\ttf\t\nCD3E\tother\t\nENSG00000198851\tother\t\n"
    )
    assert found.labels == {"ENSG00000089225": "tf", "ENSG00000198851": "other"}
    assert found.groups == {"ENSG00000089225": "T-box"}
    assert (found.unknown, found.ambiguous) == ((), ())


def test_names_of_no_gene_and_of_several_are_told_and_left_out(read):
    several = next(name for name, ids in load_reference().primary.ids_of.items() if len(ids) > 1)
    found = read(f"gene,class\nNOTAGENE,a\n{several},a\nCD3E,b\n")
    assert (found.unknown, found.ambiguous) == (("NOTAGENE",), (several,))
    assert list(found.labels.values()) == ["b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gene\tclass\nCD3E\ta\nENSG00000198851\tb\nCD4\ta\n", r"1 of 2 genes have several classes \(ENSG00000198851: a, b\)"),
        ("gene\tclass\tgroup\nCD3E\ta\tx\nCD3E\ta\ty\n", r"1 of 1 genes have several groups"),
        ("gene\tclass\nCD3E\t\nCD4\ta\n\ta\n", r"2 of 3 rows have no gene or no class, the first in line 2"),
    ],
    ids=["two classes", "two groups", "no class"],
)  # fmt: skip
def test_a_table_that_contradicts_itself_is_refused_with_counts(read, text, told):
    with pytest.raises(RefusedError, match=told):
        read(text)


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_line_ends_where_a_file_says_so_and_not_at_a_rare_separator(read, separator):
    found = read(f"gene\tclass\r\nCD3E\ta{separator}b\r\nCD4\tc\n")
    assert sorted(found.labels.values()) == [f"a{separator}b", "c"]
    assert found.unknown == ()


def test_a_lone_carriage_return_ends_no_line_and_is_told(read):
    with pytest.raises(UsageError, match="cannot be read"):
        read("gene\tclass\nCD3E\ta\rCD4\tb\n")


def test_a_table_without_a_column_or_a_file_that_is_not_there_is_refused(read, tmp_path):
    with pytest.raises(UsageError, match="no column class"):
        read("gene\tkind\nCD3E\ta\n")
    with pytest.raises(UsageError, match="cannot be read"):
        read_gene_table(tmp_path / "absent.tsv", load_reference())
