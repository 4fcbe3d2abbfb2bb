"""The shipped reference: what it holds, that it is what it says, and that tampering is noticed."""

import csv
import gzip
import hashlib
import json
import lzma
import pathlib
from functools import lru_cache
from importlib import resources

import pytest

from cytolabe.errors import IntegrityError, UnknownGenesError
from cytolabe.genes import load_reference, reference, shipped_organisms
from cytolabe.genes.reference import release_ids, shipped_spike_ins

SHARED = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data"
HUMAN, MOUSE = load_reference(), load_reference("Mus musculus")


def test_the_primary_releases_are_the_ones_in_the_name():
    assert (HUMAN.name, len(HUMAN.ids)) == ("gencode-48-human", 78_894)
    assert (MOUSE.name, len(MOUSE.ids)) == ("gencode-M37-mouse", 78_317)
    assert [release.name for release in HUMAN.releases] == ["48", "44", "38", "34", "28", "24", "GRCh37"]
    assert [release.name for release in MOUSE.releases] == ["M37", "M33", "M27", "M25"]
    assert HUMAN.ids == tuple(sorted(HUMAN.ids))


def test_known_genes_have_their_symbols_and_history():
    assert HUMAN.symbol_of("ENSG00000010610") == "CD4"
    assert MOUSE.symbol_of("ENSMUSG00000023274") == "Cd4"
    assert HUMAN.releases[-1].ids_of["KIAA1522"] == HUMAN.primary.ids_of["NHSL3"]
    by_name = {release.name: release for release in HUMAN.releases}
    assert by_name["24"].symbols["ENSG00000204628"] == "GNB2L1"
    assert by_name["28"].symbols["ENSG00000204628"] == HUMAN.symbol_of("ENSG00000204628") == "RACK1"
    assert HUMAN.previous["GNB2L1"] == ("ENSG00000204628",)
    assert HUMAN.synonyms["TACTILE"] == HUMAN.primary.ids_of["CD96"]
    assert "ENSG00000010610" in HUMAN.protein_coding
    assert len(HUMAN.spike_ins) == 92


def test_a_gene_without_a_name_is_called_by_its_id():
    unnamed = next(gene_id for gene_id in HUMAN.ids if not HUMAN.primary.symbols[gene_id])
    assert HUMAN.symbol_of(unnamed) == unnamed


def test_a_retired_id_is_an_error_that_says_so():
    with pytest.raises(UnknownGenesError, match="it was retired"):
        HUMAN.symbol_of(min(HUMAN.retired))
    with pytest.raises(UnknownGenesError, match="no release"):
        HUMAN.symbol_of("ENSG99999999999")


def test_an_organism_without_reference_is_refused_with_the_shipped_ones():
    with pytest.raises(UnknownGenesError, match="Homo sapiens, Mus musculus"):
        load_reference("Danio rerio")
    assert shipped_organisms() == ("Homo sapiens", "Mus musculus")


def test_the_tables_fit_in_three_megabytes_and_match_their_digests():
    folder = resources.files("cytolabe.genes") / "tables"
    sources = json.loads((folder / "SOURCES.json").read_text())
    packed = {name: (folder / name).read_bytes() for name in sources["tables"]}
    assert sum(map(len, packed.values())) < 3_000_000
    for name, content in packed.items():
        assert hashlib.sha256(content).hexdigest() == sources["tables"][name]["sha256"]
    assert all(wheel["licence"] and len(wheel["sha256"]) == 64 for wheel in sources["wheels"])


def test_a_changed_table_is_not_read(tmp_path, monkeypatch):
    folder = resources.files("cytolabe.genes") / "tables"
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "SOURCES.json").write_bytes((folder / "SOURCES.json").read_bytes())
    text = lzma.decompress((folder / "homo_sapiens.tsv.xz").read_bytes())
    (tmp_path / "tables" / "homo_sapiens.tsv.xz").write_bytes(lzma.compress(text.replace(b"TSPAN6", b"TSPAN7", 1)))
    monkeypatch.setattr(reference.resources, "files", lambda _: tmp_path)
    with pytest.raises(IntegrityError, match="homo_sapiens"):
        load_reference.__wrapped__()


@lru_cache
def real_rows():
    with gzip.open(SHARED / "genes" / "human_gene_tables_by_cxg_schema.csv.gz", "rt") as stream:
        return [tuple(row) for row in csv.reader(stream) if row[0] in {"4.0.1", "6.2.2", "7.1.2"}]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real gene tables beside the checkout")
@pytest.mark.parametrize(("schema", "release"), [("4.0.1", 2), ("6.2.2", 1), ("7.1.2", 0)])
def test_each_release_equals_the_table_it_came_from(schema, release):
    bare = {row[1]: row[2].removesuffix("_" + row[1]) for row in real_rows() if row[0] == schema}
    expected = {gene_id: "" if symbol == gene_id else symbol for gene_id, symbol in bare.items()}
    assert HUMAN.releases[release].symbols == expected


@pytest.mark.parametrize("organism", shipped_organisms())
def test_ids_that_are_read_alone_are_those_of_the_whole_reference(organism):
    whole = load_reference(organism)
    everything = {gene_id for release in whole.releases for gene_id in release.symbols}
    for release in whole.releases:
        alone = release_ids(organism, release.name)
        assert len(alone) == len(release.symbols)
        assert {gene_id for gene_id in everything if gene_id in alone} == set(release.symbols)
    assert shipped_spike_ins() == whole.spike_ins


@pytest.mark.parametrize(
    "name", ["", "ENSG", "ENSG00000000003.15", "ENSG0000000000३", "ensg00000000003", "TSPAN6", "ENSG+0000000003", None]
)
def test_what_is_no_id_in_full_is_in_no_release(name):
    newest = load_reference().primary.name
    assert "ENSG00000000003" in release_ids("Homo sapiens", newest)
    assert name not in release_ids("Homo sapiens", newest)
    assert not len(release_ids("Homo sapiens", "of no year"))
