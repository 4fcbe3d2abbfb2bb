"""The number of processes never shows in a result."""

import pytest

from cytolabe.evaluate import evaluate_study, scores_document
from cytolabe.provenance import canonical_json


@pytest.mark.timeout(120)
def test_one_and_two_processes_give_the_same_bytes(simulated_study):
    documents = []
    for n_workers in (1, 2):
        study = simulated_study(
            models=("pca+logistic",), n_folds=2,
            plan={"ceilings": True, "gene_policies": ("intersection", "pairwise"), "n_workers": n_workers},
        )  # fmt: skip
        lines = []
        result = evaluate_study(study.snapshot, **study.arguments(on_progress=lines.append))
        tables = [result.predictions, result.support, result.open_set, result.dropped]
        documents.append((
            canonical_json(scores_document(result, result.snapshot_id)),
            canonical_json(result.certificates),
            [table.to_csv() for table in tables],
            [(c.split, c.model, c.resolution, c.gene_policy, c.matrix.tolist()) for c in result.confusions],
            [(s.split, s.policy, s.rows) for s in result.gene_spaces],
        ))  # fmt: skip
    assert documents[0] == documents[1]
    assert lines[-1] == "4 of 4 folds and gene policies evaluated"
