"""Whoever doubts which labels were learned from draws them again with one file and no package of ours."""

import json
import subprocess
import sys

import pytest

from cytolabe.audit import verifier
from cytolabe.audit.cell_facts import cells_text
from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.evaluate import evaluate_study, scores_document
from cytolabe.evaluate.labels import level_labels
from cytolabe.provenance import canonical_json, digest_of, jsonable
from cytolabe.split.document import split_document


@pytest.fixture(scope="module")
def written(simulated_study, tmp_path_factory):
    """Write what a run on few labels leaves: certificates, split, cells and scores."""
    asked = LimitedLabels(cells_per_type=(1, 5), donors=(2,), n_draws=2)
    study = simulated_study(models=("pca+knn",), plan={"limited_labels": asked}, n_folds=2)
    result = evaluate_study(study.snapshot, **study.arguments())
    folder = tmp_path_factory.mktemp("certified")
    labels = {name: level_labels(study.snapshot.cells, study.resolutions, name).terms for name in ("broad", "fine")}
    for name, document in (
        ("certificate.json", {"certificates": jsonable(result.certificates)}),
        ("split.json", split_document(study.split)),
        ("scores.json", scores_document(result, result.snapshot_id)),
    ):
        (folder / name).write_bytes(canonical_json(document))
    (folder / "cells.tsv").write_text(cells_text(study.snapshot.cells, labels, study.split.folds), encoding="utf-8")
    return folder


def checked(folder, *, certificate=None, scores=None):
    """Return what disagrees after `certificate` and `scores` have changed the first certificate and all rows."""
    read = {name: json.loads((folder / f"{name}.json").read_bytes()) for name in ("certificate", "split", "scores")}
    first = read["certificate"]["certificates"][0]
    old = first["digest"]
    if certificate is not None:
        certificate({test["test"]: test for test in first["tests"]})
        first["digest"] = digest_of({key: value for key, value in first.items() if key != "digest"})
        for row in read["scores"]["scores"]:
            row["certificate"] = first["digest"] if row["certificate"] == old else row["certificate"]
    if scores is not None:
        scores([row for row in read["scores"]["scores"] if row["task"] == "limited_labels"])
    wrong, _ = verifier.verify(read["certificate"]["certificates"], read["split"], folder / "cells.tsv", counts=[])
    return wrong + verifier.check_scores(read["certificate"]["certificates"], read["scores"])


def test_true_draws_agree_without_any_dependency(written):
    names = ("certificate.json", "split.json", "cells.tsv", "scores.json")
    command = [sys.executable, "-I", "-S", str(verifier.__file__), *(str(written / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "limited labels" not in done.stdout
    assert "0 disagreement(s)" in done.stdout


@pytest.mark.parametrize("field", ["cells_digest", "n_cells", "draw"])
def test_a_draw_that_is_not_the_one_of_the_seed_is_caught_although_it_is_sealed_anew(written, field):
    def lie(tests):
        draws = tests["limited labels"]["draws"]
        draws[0][field] = draws[3][field] if field != "draw" else 1

    assert any("not the cells that the seed draws" in text for text in checked(written, certificate=lie))


def test_another_seed_and_another_level_draw_other_cells(written):
    for field, value in (("seed", 1), ("level", "broad")):
        wrong = checked(written, certificate=lambda tests, f=field, v=value: tests["limited labels"].update({f: v}))
        assert any("not the cells that the seed draws" in text for text in wrong), field


def test_cells_that_are_barred_from_a_draw_are_told(written):
    documents = [json.loads((written / f"{name}.json").read_bytes()) for name in ("certificate", "split")]
    first = documents[0]["certificates"][0]
    test = next(test for test in first["tests"] if test["test"] == "limited labels")
    cells = verifier.read_cells(written / "cells.tsv")[1]
    test["not_drawn_from"] = [next(n for n, cell in enumerate(cells) if cell[f"side:{first['split_id']}"] == "train")]
    first["digest"] = digest_of({key: value for key, value in first.items() if key != "digest"})
    _, unseen = verifier.verify(documents[0]["certificates"], documents[1], written / "cells.tsv", counts=[])
    assert any("why nothing was drawn from 1 labelled training cells" in text for text in unseen)


def test_a_score_on_labels_that_nobody_drew_is_caught(written):
    wrong = checked(written, scores=lambda rows: rows[0].update(stratum="cells_per_type=2"))
    assert any("names no such draw of labels" in text for text in wrong)


def test_a_probe_that_was_fitted_on_other_labels_than_drawn_is_caught(written):
    def lie(tests):
        steps = tests["fit scope of pca+knn"]["steps"]
        drawn = tests["limited labels"]["draws"][-1]["cells_digest"]
        tests["fit scope of pca+knn"]["steps"] = [step for step in steps if step["cells_digest"] != drawn]

    assert any("not fitted on the labels that were drawn" in text for text in checked(written, certificate=lie))
