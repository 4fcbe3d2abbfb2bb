"""The simulated contributions hold what their truth says: files, labels, persons and each planted fault."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from cytolabe.config.manifest import read_manifests
from cytolabe.encode import log1p_cp10k
from cytolabe.genes import align_features, load_reference
from cytolabe.ontology.graph import load_ontology
from cytolabe.testing.cell_types import CELL_TYPES, DIALECTS, PROGRAMS, SEX_GENES, all_markers
from cytolabe.testing.faults import ceil_cp10k
from cytolabe.testing.simulate import simulate_contributions

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:anndata", "ignore::UserWarning:anndata")
RAW = {"X": lambda f: f.X, "layers/counts": lambda f: f.layers["counts"], "raw/X": lambda f: f.raw.X}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    directory = tmp_path_factory.mktemp("contributions")
    return directory, simulate_contributions(directory, seed=0)


@pytest.fixture(scope="module")
def files(simulated):
    directory, truth = simulated
    return {d.dataset_id: anndata.read_h5ad(directory / d.file) for d in truth.datasets}


@pytest.fixture(scope="module")
def aligned(simulated, files):
    """Counts of the accepted files with the gene of each column."""
    found = {}
    for dataset in simulated[1].datasets:
        if not dataset.refused:
            counts = csr_matrix(RAW[dataset.matrix](files[dataset.dataset_id]))
            names = [str(name) for name in files[dataset.dataset_id].var_names]
            totals = np.asarray(counts.sum(axis=0)).ravel()
            found[dataset.dataset_id] = (counts, *align_features(names, totals, reference=load_reference()))
    return found


def on_genes(aligned, dataset_id, genes):
    counts, alignment, _ = aligned[dataset_id]
    column_of = {gene: column for column, gene in enumerate(alignment.gene_ids)}
    return counts[:, [column_of[gene] for gene in genes]]


def shared_genes(aligned):
    return sorted(set.intersection(*(set(alignment.measured_genes) for _, alignment, _ in aligned.values())))


def test_every_dialect_names_every_type_once_and_every_term_is_alive():
    ontology = load_ontology()
    for dialect in DIALECTS.values():
        types = [name for _, names in dialect.values() for name in names]
        assert sorted(types) == sorted(CELL_TYPES)
        for term, names in dialect.values():
            assert term in ontology
            for name in names:
                assert ontology.related(term, CELL_TYPES[name].term), (term, name)
    assert sum(cell_type.share for cell_type in CELL_TYPES.values()) == pytest.approx(1.0)
    assert all(program.parent in {"", *PROGRAMS} for program in PROGRAMS.values())


def test_every_marker_is_a_gene_of_the_model(simulated, aligned):
    reference = load_reference()
    measured = {reference.symbol_of(gene) for gene in aligned["amber"][1].measured_genes}
    assert set(all_markers()) <= measured


def test_counts_are_raw_where_the_truth_says_so(simulated, files):
    for dataset in simulated[1].datasets:
        if not dataset.refused:
            counts = RAW[dataset.matrix](files[dataset.dataset_id])
            assert np.array_equal(counts.data, np.round(counts.data))
            assert counts.shape == (dataset.n_cells, dataset.n_features)
            assert counts.sum(axis=1).min() > 0


def test_all_files_share_enough_genes_that_the_gene_space_is_no_panel(aligned):
    assert len(shared_genes(aligned)) >= 800


def test_there_are_enough_persons_for_jackknife_intervals(simulated):
    persons = {p for d in simulated[1].datasets if not d.refused for p in d.persons.values() if p}
    assert len(persons) >= 12


def test_every_type_is_in_every_file_and_some_are_rare(simulated):
    cells = simulated[1].cells
    table = pd.crosstab(cells["dataset_id"], cells["simulated_type"])
    assert (table >= 3).all().all()
    assert (table.sum() / len(cells)).min() < 0.03


def test_labels_persons_and_terms_of_the_files_are_those_of_the_truth(simulated, files):
    for dataset in simulated[1].datasets:
        table = files[dataset.dataset_id].obs
        assert set(dataset.columns.values()) <= set(table.columns)
        if dataset.labels:
            assert set(table[dataset.columns["label"]]) - {"Unassigned"} <= set(dataset.labels)
        assert set(table[dataset.columns["donor"]]) - {"E0"} <= set(dataset.persons)
        truth = simulated[1].cells
        names = truth.loc[truth["dataset_id"] == dataset.dataset_id, "cell_id"]
        assert [f"{dataset.dataset_id}:{name}" for name in table.index] == list(names)


def test_the_unlabelled_file_has_no_label_column(simulated, files):
    unlabelled = [d for d in simulated[1].datasets if not d.labels]
    assert [d.dataset_id for d in unlabelled] == ["holly"]
    assert "label" not in unlabelled[0].columns


def test_manifest_and_truth_can_be_read(simulated):
    directory, truth = simulated
    manifests = read_manifests(directory)
    assert manifests["dahlia_north.h5ad"].study == manifests["dahlia_south.h5ad"].study == "dahlia"
    document = json.loads((directory / "truth.json").read_text())
    assert [fault["name"] for fault in document["faults"]] == [fault.name for fault in truth.faults]
    assert len(pd.read_csv(directory / "truth_cells.csv")) == len(truth.cells)


def test_the_same_seed_gives_the_same_content_and_another_seed_other_counts(simulated, files, tmp_path):
    again = simulate_contributions(tmp_path / "again", seed=0)
    assert again.duplicates == simulated[1].duplicates
    copy = anndata.read_h5ad(tmp_path / "again" / "fir.h5ad")
    assert (copy.X != files["fir"].X).nnz == 0
    pd.testing.assert_frame_equal(copy.obs, files["fir"].obs)
    other = simulate_contributions(tmp_path / "other", seed=1)
    assert other.duplicates != again.duplicates


def test_too_small_a_scale_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"0\.5 or more"):
        simulate_contributions(tmp_path, scale=0.1)


# --- planted faults -----------------------------------------------------------------------------------------------


def test_the_normalized_file_holds_log_cp10k(files):
    linear = np.expm1(files["iris_log"].X.astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(linear, 1e4, rtol=1e-3)


def test_the_rounded_file_holds_whole_numbers_that_are_no_counts(files):
    values = files["iris_ceiling"].X
    assert np.array_equal(values.data, np.round(values.data))
    assert min(values[i].data.min() for i in range(values.shape[0])) > 1
    np.testing.assert_array_equal(ceil_cp10k(csr_matrix(np.array([[1, 3]]))).toarray(), [[2500, 7500]])


def test_one_person_is_in_two_data_sets_of_a_study(simulated, files):
    north, south = (set(files[name].obs["subject"]) for name in ("dahlia_north", "dahlia_south"))
    assert north & south == {"S3"}
    persons = {d.dataset_id: d.persons for d in simulated[1].datasets}
    assert persons["dahlia_north"]["S3"] == persons["dahlia_south"]["S3"]
    assert persons["amber"]["D1"] != persons["birch"]["D1"], "equal names of two labs are two persons"


def test_forty_cells_are_identical_on_the_shared_genes_and_only_there(simulated, files, aligned):
    duplicates = simulated[1].duplicates
    assert len(duplicates) == 40
    genes = sorted(set(aligned["amber"][1].measured_genes) & set(aligned["elm"][1].measured_genes))
    assert len(genes) < len(aligned["amber"][1].measured_genes)
    source, target = (on_genes(aligned, name, genes) for name in ("amber", "elm"))
    row_of = {name: {cell: row for row, cell in enumerate(files[name].obs_names)} for name in ("amber", "elm")}
    for a, b in duplicates:
        first = source[row_of["amber"][a.removeprefix("amber:")]]
        second = target[row_of["elm"][b.removeprefix("elm:")]]
        assert (first != second).nnz == 0
        assert first.sum() >= 300
        assert first.nnz >= 100
    rows = {tuple(row.toarray().ravel()) for row in source}
    assert sum(tuple(row.toarray().ravel()) in rows for row in target) == 40


def test_disease_is_nested_in_the_kit(files):
    table = pd.crosstab(files["fir"].obs["disease"], files["fir"].obs["assay"])
    assert ((table > 0).sum(axis=1) == 1).all()
    assert ((table > 0).sum(axis=0) == 1).all()
    assert files["fir"].obs.groupby("disease", observed=True)["donor_id"].nunique().to_list() == [3, 3]


def test_the_symbol_file_is_aligned_by_vote_with_renamed_symbols_and_composites(aligned):
    _, alignment, findings = aligned["cedar"]
    assert "N-GENES-01" in {finding.code for finding in findings}
    assert alignment.genes_mapped_fraction_of_counts > 0.99
    assert alignment.status.count("composite") == 30
    assert alignment.status.count("renamed") >= 20


def test_the_donor_column_is_the_technology(simulated, files):
    pairs = files["gale"].obs[["donor", "assay"]].drop_duplicates()
    assert len(pairs) == pairs["donor"].nunique() == pairs["assay"].nunique() == 3
    persons = next(d.persons for d in simulated[1].datasets if d.dataset_id == "gale")
    assert set(persons.values()) == {""}


def test_sex_genes_follow_the_sex_of_the_donor(files, aligned):
    reference = load_reference()
    male = [reference.primary.ids_of[symbol][0] for symbol in SEX_GENES["male"]]
    counts = np.asarray(on_genes(aligned, "amber", male).sum(axis=1)).ravel()
    is_male = (files["amber"].obs["sex"] == "male").to_numpy()
    assert counts[~is_male].sum() == 0
    assert counts[is_male].sum() > 0


# --- power --------------------------------------------------------------------------------------------------------


def test_types_can_be_learned_across_labs_but_not_trivially(simulated, aligned):
    genes = shared_genes(aligned)
    cells = simulated[1].cells
    values = {name: log1p_cp10k(csr_matrix(on_genes(aligned, name, genes))).toarray() for name in aligned}
    truth = {name: cells.loc[cells["dataset_id"] == name, "simulated_type"].to_numpy() for name in aligned}
    held_out = "birch"
    train = np.vstack([values[name] for name in values if name not in {held_out, "holly"}])
    terms = np.concatenate([truth[name] for name in truth if name not in {held_out, "holly"}])
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    pca = PCA(30, svd_solver="randomized", random_state=0).fit((train - mean) / spread)
    model = LogisticRegression(max_iter=1000).fit(pca.transform((train - mean) / spread), terms)
    predicted = model.predict(pca.transform((values[held_out] - mean) / spread))
    fine = f1_score(truth[held_out], predicted, average="macro")
    assert 0.4 < fine < 0.9
