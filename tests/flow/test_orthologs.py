"""A table of orthologs in an atlas: kept by digest beside the data sets, told for each, and part of no snapshot."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.flow.orthologs import orthologs_of_atlas, relate_orthologs
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.ortholog_tables import orthologs_of
from cytolabe.snapshot.verify import verify_atlas

MOUSE = load_reference("Mus musculus")
SYMBOLS = {symbol: gene for gene, symbol in MOUSE.primary.symbols.items()}
FIRST = [SYMBOLS[symbol] for symbol in ("Cd3e", "Cd4", "Cd8a", "Cd24a", "Actb")]
GENES = [*FIRST, *(gene for gene in sorted(MOUSE.protein_coding)[:600] if gene not in FIRST)]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mice")
    counts = np.random.default_rng(3).negative_binomial(0.5, 0.1, size=(40, len(GENES))).astype(np.float32)
    cells = pd.DataFrame({"donor_id": ["m1", "m2"] * 20}, index=[f"c{i}" for i in range(40)])
    anndata.AnnData(X=csr_matrix(counts), obs=cells, var=pd.DataFrame(index=GENES)).write_h5ad(folder / "mice.h5ad")
    ingest_sources(folder / "atlas", [folder / "mice.h5ad"])
    return folder / "atlas", counts


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "orthologs.tsv"
    path.write_text("human\tmouse\nCD3E\tCd3e\nCD4\tCd4\nCD24\tCd24a\nCD8B\tCd24a\nNOSUCH\tCd8a\n", encoding="utf-8")
    return path


def test_the_share_of_counts_that_maps_is_that_of_the_genes_with_one_ortholog(atlas, table):
    place, counts = atlas
    relate_orthologs(place, table)
    [found] = orthologs_of_atlas(place).datasets
    shares = counts.sum(axis=0) / counts.sum()
    assert found.shares.n_mapped == 2
    assert found.shares.mapped_fraction_of_counts == pytest.approx(shares[:2].sum())
    assert found.shares.several_fraction_of_counts == pytest.approx(shares[3])


def test_several_orthologs_are_named_and_none_is_chosen(atlas, table):
    place, _ = atlas
    relate_orthologs(place, table)
    told = orthologs_of_atlas(place)
    [several] = [finding for finding in told.datasets[0].findings if finding.code == "N-ORTHOLOG-01"]
    assert several.examples == ("Cd24a: CD24, CD8B",)
    assert "none was chosen (Cd24a: CD24, CD8B)" in several.message
    assert [finding.n_affected for finding in told.findings if finding.code == "W-ORTHOLOG-03"] == [1]


def test_the_relation_is_an_overlay_that_no_snapshot_holds(atlas, table, tmp_path):
    place, _ = atlas
    before = open_atlas(place).freeze().snapshot_id
    relate_orthologs(place, table)
    opened = open_atlas(place)
    assert len(orthologs_of(opened)) == 5
    assert opened.freeze().snapshot_id == before
    revision = open_atlas(place).revision
    relate_orthologs(place, table)  # the same table publishes nothing
    assert open_atlas(place).revision == revision
    assert verify_atlas(place)[1] == ()
    other = tmp_path / "other.tsv"
    other.write_text("mouse\thuman\nCd3e\tCD3E\n", encoding="utf-8")
    relate_orthologs(place, other)
    assert [row.source for row in orthologs_of(open_atlas(place))] == ["other.tsv"]


def test_a_vocabulary_of_the_other_organism_is_covered_through_orthologs(atlas, table, tmp_path):
    place, _ = atlas
    relate_orthologs(place, table)
    (tmp_path / "vocab.json").write_text(json.dumps({"CD3E": 1, "CD24": 2, "CD4": 3, "<pad>": 0}), encoding="utf-8")
    [dataset] = orthologs_of_atlas(place, vocabularies=[tmp_path / "vocab.json"], out=tmp_path).datasets
    [(name, coverage)] = dataset.coverages
    assert (name, coverage.n_covered) == ("vocab.json", 2)  # CD24 is one of two orthologs: not covered
    lines = (tmp_path / "mice.orthologs.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[2] for line in lines[1:]].count("one_to_one") == 2


def test_a_table_about_other_organisms_and_an_empty_atlas_are_refused(tmp_path, table):
    create_atlas(tmp_path / "empty")
    with pytest.raises(UsageError, match="holds 0 known organisms"):
        relate_orthologs(tmp_path / "empty", table)
    assert orthologs_of_atlas(tmp_path / "empty") is None
