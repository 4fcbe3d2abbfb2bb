"""Few labels: nested draws that depend on names alone, the same test cells, and a certificate that names them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.errors import UsageError
from cytolabe.evaluate import evaluate_study, scores_document
from cytolabe.evaluate.label_draws import Pool, label_draws, pool_of
from cytolabe.evaluate.plan import ModelPlan
from cytolabe.provenance import canonical_json, cells_digest

ASKED = LimitedLabels(cells_per_type=(1, 5, 10), donors=(1, 2), n_draws=3)


def pool(types, persons=("p0", "p1", "p2")):
    terms = np.array([term for term, n in types.items() for _ in range(n)], dtype=object)
    numbers = np.arange(len(terms))
    return Pool(
        rows=numbers * 2, cell_ids=np.array([f"cell{n}" for n in numbers], dtype=object), terms=terms,
        persons=np.array([persons[n % len(persons)] for n in numbers], dtype=object),
    )  # fmt: skip


def by_key(draws):
    return {(draw.axis, draw.value, draw.number): draw for draw in draws}


def test_more_labels_of_a_draw_contain_fewer_and_another_draw_takes_others():
    found = by_key(label_draws(pool({"a": 30, "b": 20}), ASKED, seed=3))
    for number in range(3):
        one, five, ten = (set(found["cells_per_type", n, number].rows.tolist()) for n in (1, 5, 10))
        assert one < five < ten
        assert [len(rows) for rows in (one, five, ten)] == [2, 10, 20]
        assert set(found["donors", 1, number].rows.tolist()) < set(found["donors", 2, number].rows.tolist())
    tens = {tuple(found["cells_per_type", 10, number].rows.tolist()) for number in range(3)}
    assert len(tens) == 3
    other = by_key(label_draws(pool({"a": 30, "b": 20}), ASKED, seed=4))
    assert other["cells_per_type", 10, 0].cells_digest != found["cells_per_type", 10, 0].cells_digest


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(24)))
def test_a_draw_knows_names_and_no_order(order):
    whole = pool({"a": 14, "b": 10})
    mixed = Pool(**{name: values[list(order)] for name, values in vars(whole).items()})
    asked = LimitedLabels(cells_per_type=(3,), donors=(2,), n_draws=2)
    assert [d.cells_digest for d in label_draws(whole, asked, seed=0)] == [
        d.cells_digest for d in label_draws(mixed, asked, seed=0)
    ]


def test_a_cell_that_is_not_there_changes_the_choice_of_no_other_type():
    asked = LimitedLabels(cells_per_type=(4,), n_draws=1)
    (with_b,), (without,) = (label_draws(pool(types), asked, seed=0) for types in ({"a": 9, "b": 9}, {"a": 9}))
    assert set(without.rows.tolist()) == {row for row in with_b.rows.tolist() if row < 18}


def test_a_type_with_fewer_cells_gives_all_of_them_and_it_is_said():
    found = by_key(label_draws(pool({"a": 30, "b": 4}), ASKED, seed=0))
    assert found["cells_per_type", 1, 0].notes == ()
    (note,) = found["cells_per_type", 5, 0].notes
    assert "1 of 2 types have fewer than 5" in note
    assert "b (4)" in note
    assert len(found["cells_per_type", 5, 0].rows) == 9


def test_donors_that_are_not_known_are_left_out_and_too_few_are_no_draw():
    few = pool({"a": 12, "b": 2}, persons=("p0", "", "p1"))
    found = by_key(label_draws(few, LimitedLabels(donors=(1, 2, 3), n_draws=1), seed=0))
    assert set(few.persons[found["donors", 2, 0].rows // 2].tolist()) == {"p0", "p1"}
    assert any("of no known person" in note for note in found["donors", 1, 0].notes)
    assert found["donors", 3, 0].why_none == "not_applicable: 2 known person(s) have labelled training cells"
    assert not len(found["donors", 3, 0].rows)
    nobody = label_draws(pool({"a": 3}, persons=("",)), LimitedLabels(donors=(1,), n_draws=1), seed=0)
    assert "no person of the training side is known" in nobody[0].why_none


def test_a_type_that_no_drawn_donor_has_is_named():
    cells = pd.DataFrame({
        "cell_id": list("abcd"), "person_id": ["p0", "p0", "p1", "unknown"],
        "person_state": ["resolved", "resolved", "resolved", "unknown"],
    })  # fmt: skip
    found = pool_of(cells, np.array([3, 2, 0, 1]), np.array(["T", "B", "T", ""], dtype=object))
    assert found.persons.tolist() == ["p0", "p0", "p1"]
    draws = label_draws(found, LimitedLabels(donors=(1,), n_draws=8), seed=0)
    lost = [draw for draw in draws if len(draw.rows) == 1]
    assert lost
    assert all("no cell of B" in draw.notes[0] for draw in lost)


@pytest.fixture(scope="module")
def limited(simulated_study):
    """Return a study with the floors and one embedding, and what came of it with and without few labels."""
    study = simulated_study(models=("pca",), plan={"limited_labels": ASKED})
    plain = dataclasses.replace(study, plan=dataclasses.replace(study.plan, limited_labels=None))
    return (
        study,
        evaluate_study(study.snapshot, **study.arguments()),
        evaluate_study(plain.snapshot, **plain.arguments()),
    )


def test_every_probe_and_number_has_a_row_on_the_cells_of_the_headline(limited):
    _, result, _ = limited
    strata = ["cells_per_type=1", "cells_per_type=5", "cells_per_type=10", "donors=1", "donors=2"]
    rows = {(row.model, row.stratum): row for row in result.limited}
    assert list(rows) == [(model, stratum) for model in ("pca+knn", "pca+logistic") for stratum in strata]
    for row in rows.values():
        (full,) = [
            s for s in result.scores
            if (s.model, s.metric, s.stratum, s.resolution) == (row.model, "macro_f1", "all", "fine")
            and s.split == row.split
        ]  # fmt: skip
        assert (row.task, row.metric, row.n_cells, row.floor) == (
            "limited_labels",
            "macro_f1",
            full.n_cells,
            full.floor,
        )
        assert list(row.seeds) == ["0", "1", "2"]
        assert np.mean(list(row.seeds.values())) == pytest.approx(row.value)
        assert row.interval or row.points
    assert rows["pca+logistic", "cells_per_type=1"].value < rows["pca+logistic", "cells_per_type=10"].value


def test_asking_for_few_labels_moves_no_other_row(limited):
    _, result, plain = limited
    bare = [dataclasses.replace(score, certificate="") for score in (*result.scores, *result.integration)]
    assert bare == [dataclasses.replace(score, certificate="") for score in (*plain.scores, *plain.integration)]
    assert plain.limited == ()
    told = [row for row in scores_document(result, "s")["scores"] if row["task"] == "limited_labels"]
    assert len(told) == len(result.limited)


def test_probes_are_fitted_on_the_draws_that_the_certificate_names(limited):
    study, result, _ = limited
    (certificate,) = result.certificates
    tests = {test["test"]: test for test in certificate.tests}
    draws = tests["limited labels"]["draws"]
    assert len(draws) == 15
    steps = {step["cells_digest"]: step["cells"] for step in tests["fit scope of pca+knn"]["steps"]}
    assert {draw["cells_digest"] for draw in draws} <= set(steps)
    assert tests["fit scope of pca+knn"]["n_found"] == 0
    assert any("cells_per_type=5, draw 2" in name for name in steps.values())
    assert all(row.certificate == certificate.digest for row in result.limited)
    ids = study.snapshot.cells["cell_id"].to_numpy(dtype=object)[study.split.folds[0].test_rows]
    assert cells_digest(ids) not in {draw["cells_digest"] for draw in draws}


def test_an_embedding_is_not_fitted_again_and_each_draw_is_paid(limited):
    _, result, _ = limited
    own = [row for row in result.costs.rows if row.purpose == "limited_labels"]
    assert {row.step for row in own} == {"probe"}
    assert len(own) == 2 * 15
    assert min(row.n_train for row in own if row.model == "pca+knn") == 5


def test_several_fits_on_genes_of_their_own_have_rows_without_a_number(simulated_study):
    study = simulated_study(
        models=("pca+knn",), plan={"limited_labels": ASKED, "gene_policies": ("pairwise", "intersection")}
    )
    rows = evaluate_study(study.snapshot, **study.arguments()).limited
    assert len(rows) == 5
    assert {(str(row.status), row.gene_policy) for row in rows} == {("NOT_RUN", "pairwise")}
    assert all("the policy intersection has one" in row.reason for row in rows)


def test_a_refused_model_is_refused_with_few_labels_as_well_and_one_draw_is_told(simulated_study, lab):
    nested = {name: lab(types={"CL:0000084": 30, "CL:0000236": 30}, batch_is_label=True) for name in ("lab_a", "lab_b")}
    asked = dataclasses.replace(ASKED, n_draws=1)
    study = simulated_study(models=(ModelPlan(name="pca+knn"),), plan={"limited_labels": asked}, n_folds=3, **nested)
    result = evaluate_study(study.snapshot, **study.arguments())
    full = {
        s.split: s
        for s in result.scores
        if (s.model, s.metric, s.stratum, s.resolution) == ("pca+knn", "macro_f1", "all", "fine")
    }
    assert {str(row.status) for row in result.limited}
    for row in result.limited:
        if str(full[row.split].status) == "REFUSED":
            assert str(row.status) == "REFUSED"
            assert row.value is None
        elif row.value is not None:
            assert "1 draw(s) of labels" in row.reason


def test_one_and_two_processes_draw_the_same(simulated_study):
    documents = []
    for n_workers in (1, 2):
        study = simulated_study(
            models=("pca+knn",), n_folds=2,
            plan={"limited_labels": dataclasses.replace(ASKED, n_draws=1), "n_workers": n_workers},
        )  # fmt: skip
        result = evaluate_study(study.snapshot, **study.arguments())
        documents.append((canonical_json(scores_document(result, "s")), canonical_json(result.certificates)))
    assert documents[0] == documents[1]


@pytest.fixture(scope="module")
def trained_anew(simulated_study):
    """Return a study whose models are trained with labels; one of them is named for few."""
    asked = LimitedLabels(cells_per_type=(1, 10), donors=(2,), n_draws=2, annotators=("one_vs_rest",))
    study = simulated_study(models=("one_vs_rest", "centroid", "pca+knn"), plan={"limited_labels": asked})
    return study, evaluate_study(study.snapshot, **study.arguments())


def test_a_model_without_a_probe_is_trained_on_each_draw_alone_and_only_where_it_is_named(trained_anew):
    _, result = trained_anew
    rows = {(row.model, row.stratum): row for row in result.limited}
    assert {model for model, _ in rows} == {"one_vs_rest", "pca+knn"}
    own = rows["one_vs_rest", "cells_per_type=10"]
    assert own.value is not None
    assert list(own.seeds) == ["0", "1"]
    assert any("trained anew on the labelled cells of each draw" in note for note in own.notes)
    assert all("trained anew" not in note for note in rows["pca+knn", "cells_per_type=10"].notes)


def test_what_training_anew_costs_is_told_for_each_draw(trained_anew):
    _, result = trained_anew
    own = [row for row in result.costs.rows if (row.purpose, row.model) == ("limited_labels", "one_vs_rest")]
    assert {row.step for row in own} == {"annotator"}
    assert len(own) == 3 * 2
    (certificate,) = result.certificates
    draws = {test["test"]: test for test in certificate.tests}["limited labels"]["draws"]
    assert [row.n_train for row in own] == [draw["n_cells"] for draw in draws]


def test_the_certificate_names_the_draws_that_a_model_without_a_probe_was_trained_on(trained_anew):
    _, result = trained_anew
    tests = {test["test"]: test for test in result.certificates[0].tests}
    steps = {step["cells_digest"] for step in tests["fit scope of one_vs_rest"]["steps"]}
    assert {draw["cells_digest"] for draw in tests["limited labels"]["draws"]} <= steps
    assert tests["fit scope of one_vs_rest"]["n_found"] == 0
    others = {step["cells_digest"] for step in tests["fit scope of centroid"]["steps"]}
    assert not {draw["cells_digest"] for draw in tests["limited labels"]["draws"]} & others


@pytest.mark.parametrize("name", ["scanvy", "pca", "majority"], ids=["misspelt", "answers through probes", "a floor"])
def test_a_named_model_that_could_not_be_trained_on_few_labels_is_an_error(simulated_study, name):
    asked = LimitedLabels(cells_per_type=(1,), annotators=(name,))
    study = simulated_study(models=("one_vs_rest", "pca+knn"), plan={"limited_labels": asked})
    with pytest.raises(UsageError, match=rf"names {name}: no model .*\(one_vs_rest\)"):
        evaluate_study(study.snapshot, **study.arguments())


def test_a_training_that_fails_on_a_draw_is_no_number(simulated_study, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        msg = "singular"
        raise ValueError(msg)

    asked = LimitedLabels(cells_per_type=(1,), n_draws=2, annotators=("one_vs_rest",))
    study = simulated_study(models=("one_vs_rest",), plan={"limited_labels": asked})
    monkeypatch.setattr("cytolabe.models.baselines.gene_annotators.OneVsRest.fit", fail)
    (row,) = evaluate_study(study.snapshot, **study.arguments()).limited
    assert (str(row.status), row.value) == ("FAILED", None)
    assert "singular" in row.reason
