"""Labels above the classes reach the one model that says that it takes them, and are named as such."""

import numpy as np
import pytest

from cytolabe.evaluate import evaluate_study
from cytolabe.evaluate.coarse import with_coarser
from cytolabe.evaluate.folds import fold_data
from cytolabe.evaluate.labels import level_labels
from cytolabe.models.hierarchical import MARGINAL
from cytolabe.ontology.graph import load_ontology
from cytolabe.records import ScoreStatus

T, LYMPHOCYTE, NEURON = "CL:0000084", "CL:0000542", "CL:0000540"


@pytest.fixture
def study(simulated_study):
    """Return a study in which half of the T cells of each lab are called lymphocytes, and some cells neurons."""
    made = simulated_study(models=("hierarchical", "pca+logistic"))
    cells = made.snapshot.cells
    half = (cells["cell_type_ontology_term_id"] == T).to_numpy() & (np.arange(len(cells)) % 2 == 0)
    cells.loc[half, ["cell_type_ontology_term_id", "contributor_label"]] = [LYMPHOCYTE, "lymphocyte"]
    odd = np.flatnonzero(half)[:4]
    cells.loc[odd, ["cell_type_ontology_term_id", "contributor_label"]] = [NEURON, "neuron"]
    return made


def data_of(study):
    levels = [level_labels(study.snapshot.cells, study.resolutions, name) for name in ("broad", "fine")]
    return fold_data(study.snapshot, study.split.folds[0], levels=levels, pairs=study.duplicates.pairs)


def test_coarser_terms_cover_a_class_of_training_and_nothing_else_changes(study):
    data = data_of(study)
    found = with_coarser(study.snapshot.cells, data, "fine", ontology=load_ontology())
    before = data.train_terms["fine"]
    assert set(found[(before == "") & (found != "")]) == {LYMPHOCYTE}
    assert (found[before != ""] == before[before != ""]).all()
    own = study.snapshot.cells["cell_type_ontology_term_id"].to_numpy()
    inside = np.isin(np.arange(len(own)), data.train_rows)
    assert (found[inside & (own == LYMPHOCYTE)] == LYMPHOCYTE).all()
    assert not (found[~inside] == LYMPHOCYTE).any()
    # At the coarse level the lymphocyte is the class itself.
    assert (
        with_coarser(study.snapshot.cells, data, "broad", ontology=load_ontology()) == data.train_terms["broad"]
    ).all()


def test_the_study_names_the_model_and_its_scores_say_what_it_was_fitted_on(study):
    result = evaluate_study(study.snapshot, **study.arguments())
    rows = [row for row in result.scores if row.model == "hierarchical" and row.metric == "macro_f1"]
    fine = [row for row in rows if row.resolution == "fine" and row.stratum == "all"]
    assert fine
    assert all(row.status in {ScoreStatus.SCORED, ScoreStatus.QUALIFIED} for row in fine)
    assert all(any(MARGINAL in note for note in row.notes) for row in fine if row.split != "all folds")
    assert any(MARGINAL in note for row in fine for note in row.notes)
    assert not [row for row in result.scores if row.model == "pca+logistic" and MARGINAL in "".join(row.notes)]
    assert not [row for row in rows if "may not see" in row.reason]
