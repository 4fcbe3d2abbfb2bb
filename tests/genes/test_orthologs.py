"""A user's table of orthologs: what is one to one, what is named and not chosen, and what leads nowhere."""

import hashlib

import numpy as np
import pytest

from cytolabe.errors import UsageError
from cytolabe.genes.alignment import align_features
from cytolabe.genes.orthologs import kinds_of, ortholog_shares, read_ortholog_table, relate_genes
from cytolabe.genes.reference import load_reference

MOUSE, HUMAN = "Mus musculus", "Homo sapiens"
LINES = "mouse\thuman\nCd3e\tCD3E\nENSMUSG00000002033\tCD3G\nCd24a\tCD24\nCd24a\tCD4\nLy6a\tCD8A\nLy6c1\tCD8A\nActb\tNOSUCHGENE\n"


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "orthologs.tsv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def relations(rows):
    return {(row.gene, row.ortholog): row.relation for row in rows}


def test_only_a_pair_that_is_alone_on_both_sides_is_one_to_one(table):
    found = relations(relate_genes(read_ortholog_table(table(LINES)), MOUSE))
    assert found == {
        ("Cd3e", "CD3E"): "one_to_one",
        ("ENSMUSG00000002033", "CD3G"): "one_to_one",
        ("Cd24a", "CD24"): "one_to_many",
        ("Cd24a", "CD4"): "one_to_many",
        ("Ly6a", "CD8A"): "many_to_one",
        ("Ly6c1", "CD8A"): "many_to_one",
        ("Actb", "NOSUCHGENE"): "unresolved",
    }


def test_the_same_table_is_read_from_the_other_side(table):
    found = relations(relate_genes(read_ortholog_table(table(LINES)), HUMAN))
    assert found["CD3E", "Cd3e"] == "one_to_one"
    assert found["CD8A", "Ly6a"] == "one_to_many"
    assert found["CD24", "Cd24a"] == "many_to_one"


def test_an_ortholog_that_the_reference_has_not_makes_no_other_one_the_only_one(table):
    found = relations(relate_genes(read_ortholog_table(table("mouse,human\nCd3e,CD3E\nCd3e,CD3RETIRED\n")), MOUSE))
    assert found["Cd3e", "CD3E"] == "one_to_many"


def test_a_line_twice_and_a_gene_by_two_names_are_one_pair(table):
    text = "mouse\thuman\nCd3e\tCD3E\nCd3e\tCD3E\nCd3e\tENSG00000198851\n"
    rows = relate_genes(read_ortholog_table(table(text)), MOUSE)
    assert [(row.ortholog, row.ortholog_id, row.relation) for row in rows] == [
        ("CD3E", "ENSG00000198851", "one_to_one"),
        ("ENSG00000198851", "ENSG00000198851", "one_to_one"),
    ]


def test_every_row_names_the_file_by_digest_and_both_references(table):
    path = table(LINES)
    row = relate_genes(read_ortholog_table(path), MOUSE)[0]
    assert row.source_digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row.gene_reference, row.ortholog_reference) == (load_reference(MOUSE).name, load_reference(HUMAN).name)


def test_shares_are_of_all_counts_but_those_of_spike_ins(table):
    rows = relate_genes(read_ortholog_table(table(LINES)), MOUSE)
    names = ["Cd3e", "Cd24a", "Gapdh", "nobody-knows", "ERCC-00002"]
    alignment, _ = align_features(names, np.array([50, 20, 20, 10, 900]), reference=load_reference(MOUSE))
    shares = ortholog_shares(alignment, rows)
    assert (shares.n_mapped, shares.n_several, shares.n_unlisted) == (1, 1, 1)
    assert shares.mapped_fraction_of_counts == pytest.approx(0.5)
    assert shares.several_fraction_of_counts == pytest.approx(0.2)
    assert shares.unlisted_fraction_of_counts == pytest.approx(0.2)
    assert set(kinds_of(rows).values()) == {"mapped", "several"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "two organisms"),
        ("gene\tortholog\nCd3e\tCD3E\n", "two organisms"),
        ("mouse\tmouse\nCd3e\tCd3e\n", "two organisms"),
        ("mouse\thuman\tconfidence\nCd3e\tCD3E\t1\n", "two organisms"),
        ("mouse\thuman\nCd3e\t\n", "line 2"),
    ],
)
def test_what_is_no_such_table_is_refused_with_its_line(table, text, word):
    with pytest.raises(UsageError, match=word):
        read_ortholog_table(table(text))


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_ortholog_table(tmp_path / "nowhere.tsv")
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_ortholog_table(tmp_path / "binary.tsv")


@pytest.mark.parametrize("content", [b"human,mouse\rA,B\r", b"human,mouse\nA," + b"B" * 200_000 + b"\n"])
def test_odd_line_ends_and_endless_fields_are_no_traceback(tmp_path, content):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    if b"\r" in content:
        assert read_ortholog_table(path).rows == (("A", "B"),)
        return
    with pytest.raises(UsageError, match="line 2: no table of two columns"):
        read_ortholog_table(path)
