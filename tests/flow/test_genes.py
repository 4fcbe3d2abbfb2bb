"""Genes after ingest: another alignment is another entry over the same counts."""

import dataclasses
import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import RefusedError
from cytolabe.flow.genes import align_atlas, summarize_genes
from cytolabe.flow.quality import quality_of_snapshot
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.aliases import AliasTable, read_alias_table
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.sketches import sketched
from cytolabe.snapshot.withdraw import withdraw_person

HUMAN = load_reference()
GENES = sorted(HUMAN.protein_coding)[:600]


def written(path, *, seed, names):
    counts = csr_matrix(
        np.random.default_rng(seed).negative_binomial(0.4, 0.08, size=(40, len(names))).astype(np.float32)
    )
    cells = pd.DataFrame({"donor_id": np.array(["d1", "d2"])[np.arange(40) % 2]}, index=[f"c{i}" for i in range(40)])
    anndata.AnnData(X=counts, obs=cells, var=pd.DataFrame(index=names)).write_h5ad(path)
    return path


@pytest.fixture
def atlas(tmp_path):
    """Return an atlas of two labs; `yew` calls two genes by names that nobody else knows."""
    paths = [
        written(tmp_path / "ash.h5ad", seed=1, names=GENES),
        written(tmp_path / "yew.h5ad", seed=2, names=["oldname1", "oldname2", *GENES[2:]]),
    ]
    ingest_sources(tmp_path / "atlas", paths)
    return open_atlas(tmp_path / "atlas")


@pytest.fixture
def aliases(tmp_path):
    path = tmp_path / "aliases.tsv"
    path.write_text(f"alias\tgene\noldname1\t{GENES[0]}\n", encoding="utf-8")
    return path


def newer_reference():
    """Return a reference in which one gene of the files is retired."""
    primary = HUMAN.primary
    symbols = {gene_id: symbol for gene_id, symbol in primary.symbols.items() if gene_id != GENES[5]}
    release = dataclasses.replace(primary, name="49", symbols=symbols)
    return dataclasses.replace(HUMAN, name="gencode-49-human", ids=tuple(symbols), releases=(release, *HUMAN.releases))


def test_a_newer_reference_changes_the_alignment_and_no_count(atlas):
    before = atlas.freeze("before")
    old = {name: atlas.entry(name) for name in atlas.dataset_ids}
    assert align_atlas(atlas, reference=newer_reference()) == {"ash", "yew"}
    after = atlas.freeze("after")
    for name, entry in old.items():
        now = atlas.entry(name)
        assert now.partitions == entry.partitions
        assert {key: now.tables[key] for key in ("cells", "contributed")} == {
            key: entry.tables[key] for key in ("cells", "contributed")
        }
        assert now.alignment_digest != entry.alignment_digest
        assert now.gene_reference == now.record.gene_reference == "gencode-49-human"
        assert "N-GENES-03" in {finding.code for finding in now.findings}
    assert after.snapshot_id != before.snapshot_id
    assert (before.gene_reference, after.gene_reference) == (HUMAN.name, "gencode-49-human")
    assert GENES[5] in atlas.snapshot("before").measured_genes("ash")
    assert GENES[5] not in after.measured_genes("ash")


def test_aligning_again_changes_nothing(atlas):
    revision = atlas.revision
    assert align_atlas(atlas) == frozenset()
    assert atlas.revision == revision


def test_quality_of_before_an_alignment_still_resolves_and_that_of_after_is_measured_for_the_new_entry(atlas, aliases):
    asked = "SELECT count(*) AS n FROM quality q JOIN cells c USING (dataset_id, row)"
    before = atlas.freeze()
    first = quality_of_snapshot(atlas.layout, before)
    align_atlas(atlas, aliases=read_alias_table(aliases))
    after = atlas.freeze()
    assert atlas.snapshot(before.snapshot_id).query(asked).to_pydict() == {"n": [80]}
    second = quality_of_snapshot(atlas.layout, after)
    assert after.query(asked).to_pydict() == {"n": [80]}
    for name in ("ash", "yew"):
        pd.testing.assert_series_equal(first[name].cells["n_counts"], second[name].cells["n_counts"])


def test_an_alias_table_found_later_gives_a_feature_its_gene_and_names_the_snapshot(atlas, aliases):
    before = atlas.freeze()
    table = read_alias_table(aliases)
    assert align_atlas(atlas, aliases=table) == {"ash", "yew"}
    after = atlas.freeze()
    assert GENES[0] not in before.measured_genes("yew")
    assert GENES[0] in after.measured_genes("yew")
    assert atlas.entry("yew").record.declared["gene_aliases"] == table.digest
    # Nothing of `ash` has another gene; that the table was asked is part of its alignment all the same.
    assert before.measured_genes("ash") == after.measured_genes("ash")
    assert before.entries["ash"].alignment_digest != after.entries["ash"].alignment_digest
    again = AliasTable(genes=table.genes, digest="sha256:" + "0" * 64)
    align_atlas(atlas, aliases=again)
    assert atlas.freeze().snapshot_id != after.snapshot_id
    align_atlas(atlas)
    assert atlas.freeze().snapshot_id == before.snapshot_id


def test_an_atlas_aligned_later_is_the_one_that_was_ingested_so(atlas, aliases, tmp_path):
    align_atlas(atlas, aliases=read_alias_table(aliases))
    ingest_sources(tmp_path / "other", [tmp_path / "ash.h5ad", tmp_path / "yew.h5ad"], aliases=aliases)
    assert open_atlas(tmp_path / "other").freeze().snapshot_id == atlas.freeze().snapshot_id


def test_sketches_follow_the_alignment(atlas, aliases):
    align_atlas(atlas, aliases=read_alias_table(aliases))
    snapshot = atlas.freeze()
    found = snapshot.sketches("yew")
    (partition, _), *_ = snapshot.partitions("yew")
    (block,) = partition.iter_blocks()
    genes = dict(snapshot.query("SELECT feature, gene_id FROM genes WHERE dataset_id = 'yew'").to_pandas().to_numpy())
    expected = sketched(csr_matrix(block.counts), [genes[name] for name in partition.features])
    assert np.array_equal(found.hashes, expected.hashes)
    assert np.array_equal(found.entries, expected.entries)


def test_persons_who_withdrew_stay_out_of_an_atlas_that_is_aligned_anew(atlas, aliases):
    withdraw_person(atlas, donor=("yew", "d1"))
    assert atlas.freeze().n_cells == 60
    align_atlas(atlas, aliases=read_alias_table(aliases))
    assert atlas.freeze().n_cells == 60


def test_an_alignment_that_loses_the_counts_is_refused_and_nothing_changes(atlas):
    revision = atlas.revision
    few = dict(list(HUMAN.primary.symbols.items())[-100:])
    poor = dataclasses.replace(
        HUMAN, name="poor", ids=tuple(few), releases=(dataclasses.replace(HUMAN.primary, symbols=few),),
        previous={}, synonyms={},
    )  # fmt: skip
    with pytest.raises(RefusedError, match="cannot be aligned to poor"):
        align_atlas(atlas, reference=poor)
    assert open_atlas(atlas.path).revision == revision


def test_the_summary_tells_statuses_tables_and_what_a_vocabulary_covers(atlas, tmp_path):
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({gene: k for k, gene in enumerate(GENES[:300])}), encoding="utf-8")
    found = summarize_genes(atlas.path, vocabularies=[vocabulary], out=tmp_path)
    ash, yew = found.datasets
    assert ash.statuses() == {"exact": (600, pytest.approx(1.0))}
    assert yew.statuses()["unknown"][0] == 2
    assert sum(share for _, share in yew.statuses().values()) == pytest.approx(1.0)
    assert [item.coverage.n_covered for item in found.coverages] == [300, 298]
    header, *rows = (tmp_path / "yew.genes.tsv").read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == ["feature", "status", "gene_id", "symbol", "count_fraction"]
    assert len(rows) == 600
    shares = [float(row.split("\t")[-1]) for row in rows]
    assert shares == sorted(shares, reverse=True)
