"""The real PBMC contributions: 97 shared genes, a data set without a clean test cell, and what is refused inside one.

Labels are mapped by hand here, at one level; the reconcile stage has its own tests.
"""

import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.audit.all_copies import find_copies
from cytolabe.evaluate import EvaluationPlan, ModelPlan, evaluate_study
from cytolabe.ontology.resolutions import Resolution, Resolutions
from cytolabe.records import ScoreStatus
from cytolabe.split import leave_one_group_out
from cytolabe.testing import memory

H5AD = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"
pytestmark = pytest.mark.skipif(not H5AD.is_dir(), reason="the real contributions are not on this machine")

STUDIES = {
    "pbmc_10x_3tech_symphony": "pbmc3k",
    "pbmc3k_clustifyr": "pbmc3k",
    "zheng17_sorted_mudan": "zheng17",
    "kang18_muscat": "kang18",
    "kang18_harmony_stim_ctrl": "kang18",
}
KINDS = (
    (r"^(T_CD4|.*CD4 T|naivet|memoryt|thelper|regulatoryt|CD4 T cells)$", "CL:0000624"),
    (r"^(T_CD8|CD8 T.*|.*cytotoxic.*)$", "CL:0000625"),
    (r"^(B|bcells|B cells)$", "CL:0000236"),
    (r"^(NK|nk)$", "CL:0000623"),
    (r"^(Mono.*|.*Mono|monocytes|.*Monocytes)$", "CL:0000576"),
    (r"^DC$", "CL:0000451"),
)


def _term(label):
    return next((term for pattern, term in KINDS if re.match(pattern, label)), "unknown")


def _contribution(name):
    data = anndata.read_h5ad(next(H5AD.glob(f"{name}*.h5ad")))
    # Copies can only be found where both files are whole; the others are thinned to keep the test short.
    data = data if name.startswith("kang18") else data[::3]
    labels = data.obs["cell_type_author"].astype(str).replace({"unknown": ""}).to_numpy()
    donors = data.obs["donor_id"].astype(str).to_numpy() if "donor_id" in data.obs else np.full(data.n_obs, "unknown")
    terms = [_term(label) for label in labels]
    cells = pd.DataFrame({
        "dataset_id": name,
        "study": STUDIES[name],
        "donor_id": donors,
        "person_id": [d if d == "unknown" else f"{STUDIES[name]}/{d}" for d in donors],
        "batch": data.obs["batch"].astype(str).to_numpy(),
        "assay": "10x 3' v1",
        "organism": "Homo sapiens",
        "contributor_label": labels,
        "label_origin": "sorted" if "sorted" in name else "manual",
        "cell_type_ontology_term_id": terms,
        "cell_type": terms,
    })  # fmt: skip
    genes = [re.sub(r"_ENSG\d+$", "", gene) for gene in data.var_names]
    keep = [column for column, gene in enumerate(genes) if genes.count(gene) == 1]
    counts = csr_matrix(data.layers.get("counts", data.X))[:, keep]
    return cells, csr_matrix(counts.astype(np.int64)), tuple(genes[column] for column in keep)


@pytest.fixture(scope="module")
def result():
    found = {name: _contribution(name) for name in sorted(STUDIES)}
    with pytest.MonkeyPatch.context() as patch:
        # Canonical JSON of millions of counts takes minutes, and the name of this snapshot is not under test.
        patch.setattr(memory, "digest_of", lambda value: "sha256:pbmc")
        snapshot = memory.memory_snapshot(
            pd.concat([cells for cells, _, _ in found.values()], ignore_index=True),
            {name: counts for name, (_, counts, _) in found.items()},
            genes={name: genes for name, (_, _, genes) in found.items()},
        )
    terms = tuple(sorted({term for _, term in KINDS}))
    level = Resolution(
        name="mid", terms=terms, assignment={term: term for term in terms}, excluded={}, below={}, ties={}, digest="d"
    )
    duplicates = find_copies(snapshot)
    return evaluate_study(
        snapshot,
        split=leave_one_group_out(snapshot, duplicates=duplicates.pairs),
        plan=EvaluationPlan(study="pbmc", models=(ModelPlan(name="pca+knn"),), ceilings=False),
        resolutions=Resolutions(levels=(level,), ontology_release="test", digest="d"),
        duplicates=duplicates,
    )


def _headlines(result):
    rows = [s for s in result.scores if (s.model, s.metric, s.stratum) == ("pca+knn", "macro_f1", "all")]
    return {row.split: row for row in rows}


def test_every_fold_stands_on_the_few_genes_that_the_labelled_files_share(result):
    for space in result.gene_spaces:
        assert 85 <= space.n_genes <= 110
        assert set(space.absent_markers) >= {"CD3D", "CD3E", "CD4", "CD8A", "CD8B", "CCR7"}
    for split, row in _headlines(result).items():
        assert row.status is ScoreStatus.QUALIFIED, split
        assert "panel" in row.reason
        assert "persons unknown" in row.reason


def test_kang18_has_no_clean_cell_in_its_second_file(result):
    rows = [s for s in result.scores if s.stratum == "dataset:kang18_harmony_stim_ctrl"]
    assert rows
    assert all(row.status is ScoreStatus.REFUSED for row in rows)
    assert result.dropped.set_index("dataset_id")["n_cells"].to_dict() == {"kang18_harmony_stim_ctrl": 114}


def test_sorted_cells_held_out_whole_are_scored_with_the_note(result):
    row = next(row for split, row in _headlines(result).items() if "zheng17" in split)
    assert row.status is ScoreStatus.QUALIFIED
    assert any("test batches equal labels" in note for note in row.notes)
    assert row.value > row.floor
