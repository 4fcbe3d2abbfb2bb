"""The number of processes never shows in a result."""

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.engine import local
from cytolabe.evaluate import evaluate_study, scores_document
from cytolabe.provenance import canonical_json


def test_one_and_two_processes_give_the_same_bytes(simulated_study):
    documents, told = [], []
    few = LimitedLabels(cells_per_type=(2, 5), n_draws=2, annotators=("one_vs_rest",))
    for n_workers in (1, 2):
        study = simulated_study(
            models=("pca+logistic", "one_vs_rest"), n_folds=2,
            plan={
                "ceilings": True, "gene_policies": ("intersection", "pairwise"), "n_workers": n_workers,
                "limited_labels": few,
            },
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
        told.append(lines)
    assert documents[0] == documents[1]
    assert told[1][-1] == "4 of 4 folds and gene policies evaluated"
    # Workers tell the same as one process does, in whatever order they come to it.
    counted = [line for line in told[1] if line.endswith("folds and gene policies evaluated")]
    assert len(counted) == 4
    assert sorted(line for line in told[1] if line not in counted) == sorted(told[0])
    first, other = (fold.split_id for fold in study.split.folds)
    assert {f"{first}: pca+logistic (intersection)", f"{other}: pca+logistic (pairwise)"} <= set(told[0])
    assert {f"{first}: few labels: one_vs_rest, draw {n} of 4" for n in (1, 2, 3, 4)} <= set(told[0])
    assert f"{other}: few labels: pca+logistic" in told[0]


def test_a_progress_channel_that_is_not_there_changes_no_result(simulated_study, monkeypatch):
    def none_left():
        raise OSError(24, "Too many open files")

    study = simulated_study(models=("majority",), n_folds=2, plan={"n_workers": 2})
    whole = evaluate_study(study.snapshot, **study.arguments())
    monkeypatch.setattr(local, "LinePipe", none_left)
    lines = []
    result = evaluate_study(study.snapshot, **study.arguments(on_progress=lines.append))
    assert canonical_json(scores_document(result, "s")) == canonical_json(scores_document(whole, "s"))
    assert lines == [f"{n} of 2 folds and gene policies evaluated" for n in (1, 2)]
