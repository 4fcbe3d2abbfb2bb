"""Expression in an atlas: a planted mix-up waits for a person, and the scores of a study never hear of it."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.flow.expression import expression_of_atlas
from cytolabe.flow.interpret import interpret_labels, reconcile_atlas
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile import read_justifications, read_sssom
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.profiles import label_profiles

LABELS = ("B cells", "T cells", "NK cells", "monocytes")
N_GENES = 900
PER_LABEL = 30


def written(path, looks, *, seed, n_genes=N_GENES):
    """Write the file of a lab; `looks` says for each label which type its cells are, of 40 marker genes each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(looks), PER_LABEL)
    rates = np.tile(rng.gamma(0.6, 0.5, N_GENES), (len(labels), 1))
    for row, label in enumerate(labels):
        first = 40 * LABELS.index(looks[label])
        rates[row, first : first + 40] = 6
    counts = rng.poisson(rates)[:, :n_genes].astype(np.float32)
    table = pd.DataFrame({"cell_type": labels, "donor_id": np.array([f"{path.stem}1", f"{path.stem}2"])[rng.integers(0, 2, len(labels))]},
                         index=[f"cell{i}" for i in range(len(labels))])  # fmt: skip
    genes = pd.DataFrame(index=sorted(load_reference().protein_coding)[:n_genes])
    anndata.AnnData(X=csr_matrix(counts), obs=table, var=genes).write_h5ad(path)
    return path


HONEST = {label: label for label in LABELS}


@pytest.fixture
def mixed_up(tmp_path):
    """Return an atlas of three labs, of which one calls its T cells B cells."""
    paths = [written(tmp_path / f"{name}.h5ad", HONEST, seed=seed) for seed, name in enumerate(("ash", "elm"))]
    paths.append(written(tmp_path / "yew.h5ad", {**HONEST, "B cells": "T cells"}, seed=7))
    ingest_sources(tmp_path / "atlas", paths)
    return open_atlas(tmp_path / "atlas")


def test_a_label_over_the_cells_of_another_type_is_held_back_and_its_cells_have_no_term(mixed_up, tmp_path):
    summary = reconcile_atlas(mixed_up.path, export=tmp_path / "review.tsv")
    waiting = [(m.dataset_id, m.contributor_label) for m in summary.mappings if m.decision == "review"]
    assert waiting == [("yew", "B cells")]
    assert "W-LABEL-11" in {finding.code for finding in summary.findings}
    snapshot = open_atlas(mixed_up.path).freeze()
    cells = snapshot.cells
    assert set(cells.loc[cells["contributor_label"] == "B cells"].groupby("dataset_id")["cell_type"].first()) == {
        "B cell",
        "unknown",
    }


def test_the_reason_is_a_row_of_its_own_and_the_decision_says_what_decided(mixed_up, tmp_path):
    table = tmp_path / "review.tsv"
    reconcile_atlas(mixed_up.path, export=table)
    rows = [r for r in read_justifications(table) if r.justification == "semapv:InstanceBasedMatching"]
    own = [r for r in rows if (r.dataset_id, r.contributor_label) == ("yew", "B cells")]
    assert own[0].term == "CL:0000084"
    decided = next(m for m in read_sssom(table) if (m.dataset_id, m.contributor_label) == ("yew", "B cells"))
    assert decided.justification == "semapv:InstanceBasedMatching"
    assert "Spearman correlation over marker genes" in table.read_text()


def test_a_study_that_is_scored_never_hears_of_expression(mixed_up):
    mappings, findings = interpret_labels(mixed_up)
    assert {m.decision for m in mappings} == {"auto"}
    assert "W-LABEL-11" not in {finding.code for finding in findings}


def test_without_expression_words_alone_decide(mixed_up):
    result = CliRunner().invoke(app, ["reconcile", str(mixed_up.path), "--no-expression", "--json"])
    assert result.exit_code == 0
    assert '"review": 0' in result.stdout
    result = CliRunner().invoke(app, ["reconcile", str(mixed_up.path), "--json"])
    assert '"review": 1' in result.stdout


def test_a_person_who_confirms_the_label_is_believed_by_later_runs(mixed_up, tmp_path):
    table = tmp_path / "review.tsv"
    reconcile_atlas(mixed_up.path, export=table)
    lines = table.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("B cells\t") and "\tyew\t" in line)
    lines[place] = lines[place].replace("\treview\t", "\treviewed\t")
    table.write_text("\n".join(lines) + "\n")
    reconcile_atlas(mixed_up.path, reviewed=table)
    summary = reconcile_atlas(mixed_up.path)
    assert "W-LABEL-12" in {finding.code for finding in summary.findings}
    found = next(m for m in summary.mappings if (m.dataset_id, m.contributor_label) == ("yew", "B cells"))
    assert (found.decision, found.term) == ("reviewed", "CL:0000236")


def test_labs_that_share_few_genes_give_no_evidence_and_are_counted(tmp_path):
    written(tmp_path / "ash.h5ad", HONEST, seed=1, n_genes=190)
    written(tmp_path / "yew.h5ad", HONEST, seed=2)
    ingest_sources(tmp_path / "atlas", [tmp_path / "ash.h5ad", tmp_path / "yew.h5ad"])
    atlas = open_atlas(tmp_path / "atlas")
    mappings, _ = interpret_labels(atlas)
    evidence = expression_of_atlas(atlas, mappings, ontology=load_ontology("CL"))
    assert len(evidence.silent) == 8
    assert not evidence.reasons


def test_profiles_are_the_means_of_the_log_normalized_counts_of_the_file(tmp_path):
    path = written(tmp_path / "ash.h5ad", HONEST, seed=3)
    ingest_sources(tmp_path / "atlas", [path])
    atlas = open_atlas(tmp_path / "atlas")
    found = label_profiles(atlas, "ash", cells=atlas.cells(), folder=tmp_path)
    delivered = anndata.read_h5ad(path)
    dense = np.asarray(delivered.X.todense(), dtype=float)
    values = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    expected = pd.DataFrame(values, columns=delivered.var_names).groupby(delivered.obs["cell_type"].to_numpy()).mean()
    assert found.labels == tuple(expected.index)
    np.testing.assert_allclose(found.means, expected[list(found.genes)].to_numpy(), rtol=1e-5)
    assert found.n_cells.tolist() == [PER_LABEL] * 4


def test_cells_of_persons_who_withdrew_are_no_evidence(tmp_path):
    path = written(tmp_path / "ash.h5ad", HONEST, seed=3)
    ingest_sources(tmp_path / "atlas", [path])
    atlas = open_atlas(tmp_path / "atlas")
    cells = atlas.cells()
    found = label_profiles(atlas, "ash", cells=cells[cells["donor_id"] == "ash1"], folder=tmp_path)
    assert found.n_cells.sum() == (cells["donor_id"] == "ash1").sum()
