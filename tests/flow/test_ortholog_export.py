"""Cells leave an atlas under the genes of another organism: one to one, counts as they are, and what is lost is said."""

import hashlib
import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.ortholog_export import export_orthologs
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import open_atlas

MOUSE, HUMAN = load_reference("Mus musculus"), load_reference("Homo sapiens")
OF_MOUSE = {symbol: gene for gene, symbol in MOUSE.primary.symbols.items()}
OF_MAN = {symbol: gene for gene, symbol in HUMAN.primary.symbols.items()}
FIRST = [OF_MOUSE[symbol] for symbol in ("Cd4", "Cd3e", "Cd8a", "Cd24a", "Actb")]
GENES = [*FIRST, *(gene for gene in sorted(MOUSE.protein_coding)[:600] if gene not in FIRST)]


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mice")
    made = {}
    for name, genes in (("one", GENES), ("two", [gene for gene in GENES if gene != FIRST[4]])):
        counts = np.random.default_rng(len(genes)).negative_binomial(0.5, 0.1, size=(40, len(genes)))
        cells = pd.DataFrame({"donor_id": ["m1", "m2"] * 20}, index=[f"{name}{i}" for i in range(40)])
        data = anndata.AnnData(csr_matrix(counts.astype(np.float32)), obs=cells, var=pd.DataFrame(index=genes))
        data.write_h5ad(folder / f"{name}.h5ad")
        made[name] = pd.DataFrame(counts, columns=genes)
    ingest_sources(folder / "atlas", [folder / "one.h5ad", folder / "two.h5ad"])
    open_atlas(folder / "atlas").freeze()
    return folder / "atlas", made


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "orthologs.tsv"
    lines = ("human\tmouse", "CD3E\tCd3e", "CD4\tCd4", "CD24\tCd24a", "CD8B\tCd24a", "ACTB\tActb", "NOSUCH\tCd8a")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_genes_with_one_ortholog_leave_under_its_id_with_their_own_counts(mice, table, tmp_path):
    place, made = mice
    before = open_atlas(place).revision
    out = tmp_path / "mice.h5ad"
    found = export_orthologs(open_atlas(place).snapshot("latest"), out, table)
    written = anndata.read_h5ad(out)
    # Actb is measured by one of the two data sets, Cd24a has two orthologs, and NOSUCH is no gene.
    assert dict(zip(written.var_names, written.var["gene_of"], strict=True)) == {
        OF_MAN["CD4"]: OF_MOUSE["Cd4"],
        OF_MAN["CD3E"]: OF_MOUSE["Cd3e"],
    }
    for name, counts in made.items():
        own = written[(written.obs["dataset_id"] == name).to_numpy()]
        for symbol, gene in (("CD4", FIRST[0]), ("CD3E", FIRST[1])):
            values = own[:, OF_MAN[symbol]].X.toarray().ravel()
            assert sorted(values) == sorted(counts[gene])
        share = counts[FIRST[:2]].to_numpy().sum() / counts.to_numpy().sum()
        assert found.counts_kept[name] == pytest.approx(share, abs=1e-6)
        assert f"{name} {share:.4f}" in written.uns["orthologs_counts_kept"]
    assert written.uns["orthologs_sha256"] == "sha256:" + hashlib.sha256(table.read_bytes()).hexdigest()
    assert set(written.obs["organism"]) == {"Mus musculus"}
    assert {finding.code for finding in found.findings} == {"N-ORTHOLOG-01", "N-ORTHOLOG-02"}
    assert open_atlas(place).revision == before


def test_the_command_says_what_stays_and_records_the_table(mice, table, tmp_path):
    place, made = mice
    words = ["snapshot", "export", str(place), "--orthologs", str(table), "--where", "dataset_id = 'one'", "--json"]
    ended = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "one.zarr")], standalone_mode=False)
    document = json.loads(ended.stdout)
    assert document["n_genes"] == 3  # with Actb, which this data set measures
    kept = made["one"][[FIRST[0], FIRST[1], FIRST[4]]].to_numpy().sum() / made["one"].to_numpy().sum()
    assert document["counts_kept"] == {"one": pytest.approx(kept, abs=1e-6)}
    assert document["orthologs_table"] == "orthologs.tsv"
    with pytest.raises(UsageError, match="one of the two"):
        app([*words, "-o", str(tmp_path / "two.zarr"), "--genes", FIRST[0]], standalone_mode=False)


@pytest.mark.parametrize(
    ("lines", "error", "said"),
    [
        (("human\tmouse", "CD24\tCd24a", "CD8B\tCd24a"), RefusedError, "none of 60. genes .* has an ortholog of its own"),
        (("human\tmouse",), RefusedError, "has an ortholog of its own"),
        (("human\tzebrafish", "CD4\tcd4"), UsageError, "must name two organisms"),
    ],
)  # fmt: skip
def test_a_table_that_leads_to_no_gene_writes_no_file(mice, tmp_path, lines, error, said):
    place, _ = mice
    table = tmp_path / "orthologs.tsv"
    table.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(error, match=said):
        export_orthologs(open_atlas(place).snapshot("latest"), tmp_path / "mice.h5ad", table)
    assert [path.name for path in tmp_path.iterdir()] == ["orthologs.tsv"]
