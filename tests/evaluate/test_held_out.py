"""Answers are calibrated and judged on whole persons that nothing was fitted on; a type that was left out is unknown."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cytolabe.apply.reference_model import ReferencePlan, inductive_embedder
from cytolabe.errors import RefusedError, UsageError
from cytolabe.evaluate.decisions import AnswerSpace, HeldOutCells, Wish, decide, decide_crosswise, fit_decisions
from cytolabe.evaluate.held_out import Laboratory, held_out_cells
from cytolabe.evaluate.held_out_record import held_out_record
from cytolabe.evaluate.open_types import open_set
from cytolabe.evaluate.reference_cells import reference_cells
from cytolabe.evaluate.term_thresholds import choose_thresholds
from cytolabe.ontology.answers import answer_terms
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of
from cytolabe.records import LabelMapping, Predicate

from .conftest import DC, LYMPHOCYTE, MONO, NK, B, Lab, T

CL = load_ontology()
NO_PAIRS = pd.DataFrame({"a_row": pd.Series(dtype=int), "b_row": pd.Series(dtype=int)})


def cells_of(snapshot, *, pairs=NO_PAIRS, held_out="person", rows=None):
    rows = np.arange(len(snapshot.cells)) if rows is None else rows
    return reference_cells(snapshot, rows=rows, pairs=pairs, ontology=CL, held_out=held_out)


def laboratory_of(snapshot, reference=None):
    reference = cells_of(snapshot) if reference is None else reference
    tree = hierarchy_of(reference.terms.tolist(), ontology=CL)
    names = sorted(set(snapshot.cells["dataset_id"].to_numpy()[reference.rows]))
    genes = tuple(sorted(set.intersection(*(set(snapshot.measured_genes(name)) for name in names))))
    plan = ReferencePlan(genes=genes, classes=tree.classes, options={"n_dims": 10})
    laboratory = Laboratory(snapshot=snapshot, reference=reference, plan=plan, ontology=CL)
    return laboratory, AnswerSpace.of(tree, answer_terms(tree, ontology=CL), ontology=CL)


@pytest.fixture(scope="module")
def snapshot(simulated_study):
    lab = {T: 60, B: 40, NK: 40, MONO: 50, DC: 40}
    return simulated_study(
        lab_a=Lab(types=lab, n_persons=5), lab_b=Lab(types=lab, n_persons=4, n_unlabelled=7), lab_c=Lab(types=lab)
    ).snapshot


@pytest.fixture(scope="module")
def asked(snapshot):
    laboratory, space = laboratory_of(snapshot)
    held = held_out_cells(laboratory, space)
    return laboratory, space, held, fit_decisions(held, space, wish=Wish())


def test_folds_hold_out_whole_persons_and_every_labelled_cell_once(snapshot):
    reference = cells_of(snapshot)
    assert reference.kinds == {"person": 13}
    assert reference.n_folds == 5
    assert reference.left_out == {"unlabelled": 7}
    assert len(reference.rows) == len(set(reference.rows.tolist())) == len(snapshot.cells) - 7
    folds = pd.DataFrame({"unit": reference.units, "fold": reference.folds}).drop_duplicates()
    assert folds["unit"].is_unique
    assert set(reference.folds) == set(range(5))


def test_persons_that_share_a_cell_are_held_out_together(snapshot):
    plain = cells_of(snapshot)
    a, b = 0, int(np.flatnonzero(plain.units != plain.units[0])[-1])
    pairs = pd.DataFrame({"a_row": [plain.rows[a]], "b_row": [plain.rows[b]]})
    joined = cells_of(snapshot, pairs=pairs)
    both = {plain.units[a], plain.units[b]}
    kept = np.isin(plain.rows, joined.rows)
    assert len(set(joined.units[[unit in both for unit in plain.units[kept]]])) == 1
    assert joined.left_out["label counted in its copy"] == 1
    assert joined.n_units == plain.n_units - 1


def test_libraries_and_data_sets_stand_in_for_unknown_persons_and_that_is_said(simulated_study):
    lab = {T: 20, B: 20, MONO: 20}
    snapshot = simulated_study(
        lab_a=Lab(types=lab), lab_b=Lab(types=lab, n_persons=0), lab_c=Lab(types=lab, n_persons=0, batch_is_label=True)
    ).snapshot
    cells = snapshot.cells.copy()
    inside = cells["dataset_id"] == "lab_b"
    cells.loc[inside, "batch"] = np.where(np.arange(inside.sum()) % 2, "run1", "run2")
    reference = cells_of(dataclasses.replace(snapshot, cells=cells))
    # A library of one type each would hold out a type, so that data set stays whole.
    assert reference.kinds == {"person": 4, "library": 2, "dataset": 1}
    assert "2 libraries and 1 data set;" in reference.notes[0]
    assert cells_of(snapshot, held_out="dataset").kinds == {"dataset": 3}


def test_data_sets_of_one_person_are_held_out_together(snapshot):
    cells = snapshot.cells.copy()
    cells.loc[cells["person_id"] == "lab_b/p0", "person_id"] = "lab_a/p0"
    shared = dataclasses.replace(snapshot, cells=cells)
    assert cells_of(snapshot, held_out="dataset").n_units == 3
    assert cells_of(shared, held_out="dataset").n_units == 2


def test_one_unit_cannot_calibrate_anything(snapshot):
    one = np.flatnonzero(snapshot.cells["person_id"] == "lab_a/p0")
    with pytest.raises(RefusedError, match=r"are of one person \(lab_a/p0\).*another person or data set"):
        cells_of(snapshot, rows=one)
    with pytest.raises(UsageError, match="whole persons or data sets"):
        cells_of(snapshot, held_out="cell")
    bare = snapshot.cells.assign(cell_type_ontology_term_id="unknown")
    with pytest.raises(RefusedError, match="Reconcile the atlas"):
        cells_of(dataclasses.replace(snapshot, cells=bare))


def test_labels_of_expression_teach_and_judge_nothing_and_those_of_programs_are_named(snapshot):
    mapping = LabelMapping(
        dataset_id="lab_a", contributor_label="B cell", n_cells=40, predicate=Predicate.EXACT, term=B,
        term_name="B cell", justification="semapv:InstanceBasedMatching", confidence=900, decision="auto", ontology_release="test",
    )  # fmt: skip
    cells = snapshot.cells.copy()
    cells.loc[cells["dataset_id"] == "lab_b", "label_origin"] = "automated"
    reference = cells_of(dataclasses.replace(snapshot, mappings=(mapping,), cells=cells))
    assert int((~reference.is_truth).sum()) == 40
    assert any(note.startswith("230 of 690 labels were given by a program") for note in reference.notes)
    laboratory, space = laboratory_of(snapshot, reference)
    assert len(held_out_cells(laboratory, space).codes) == 690 - 40


def test_simulated_cells_beside_real_ones_teach_and_judge_nothing_and_alone_they_are_named(snapshot):
    cells = snapshot.cells.copy()
    cells.loc[cells["dataset_id"] == "lab_b", "label_origin"] = "simulated"
    reference = cells_of(dataclasses.replace(snapshot, cells=cells))
    assert set(cells["dataset_id"].to_numpy()[reference.rows]) == {"lab_a", "lab_c"}
    assert reference.left_out["simulated, beside real cells"] == int((cells["dataset_id"] == "lab_b").sum())
    assert not any("simulated" in note for note in reference.notes)
    whole = cells_of(dataclasses.replace(snapshot, cells=cells.assign(label_origin="simulated")))
    assert len(whole.rows) == len(cells_of(snapshot).rows)
    assert "simulated, beside real cells" not in whole.left_out
    assert whole.notes[0].startswith("all cells that are learned from are simulated")
    assert not any("simulated" in note for note in cells_of(snapshot).notes)


def test_answers_hold_on_persons_that_nothing_was_fitted_on(asked):
    _, space, held, _ = asked
    decided = decide_crosswise(held, space, wish=Wish())
    record = held_out_record(held, decided, space, names={})
    assert record.n_judged == 690
    assert record.precision >= 0.9
    assert record.coverage > 0.9
    assert record.ece < 0.05
    assert record.units["n_cells"].sum() == 690
    assert record.classes["n_cells"].sum() == 690
    assert record.levels["n_cells"].sum() == 690
    assert record.curve[-1][0] == 1.0
    assert record.curve[-1][1] == pytest.approx(1 - record.accuracy)
    assert "lab_a" not in record.units.to_csv()


def test_labels_without_meaning_are_not_answered_with(snapshot):
    rng = np.random.default_rng(5)
    terms = snapshot.cells["cell_type_ontology_term_id"].to_numpy(dtype=object).copy()
    labelled = terms != "unknown"
    terms[labelled] = rng.permutation(terms[labelled])
    shuffled = dataclasses.replace(snapshot, cells=snapshot.cells.assign(cell_type_ontology_term_id=terms))
    laboratory, space = laboratory_of(shuffled)
    held = held_out_cells(laboratory, space)
    decided = decide_crosswise(held, space, wish=Wish())
    assert (decided.answer >= 0).mean() < 0.1
    assert held_out_record(held, decided, space, names={}).ece < 0.1


def test_a_coarser_label_can_contradict_an_answer_and_never_confirm_it(asked):
    _, space, held, _ = asked
    tree = hierarchy_of((T, B, NK, MONO, DC, LYMPHOCYTE), ontology=CL)
    wide = AnswerSpace.of(tree, answer_terms(tree, ontology=CL), ontology=CL)
    own = np.array(space.hierarchy.labels)[held.codes]
    coarse = (own == B) & (np.arange(len(own)) % 2 == 0)
    # Half of the B cells are called lymphocytes; and some monocytes are, which is wrong.
    labels = np.where(coarse | ((own == MONO) & (np.arange(len(own)) % 5 == 0)), LYMPHOCYTE, own)
    n_wrong = int((own[labels == LYMPHOCYTE] == MONO).sum())
    known = dataclasses.replace(held, codes=tree.codes(labels))
    record = held_out_record(known, decide_crosswise(known, wide, wish=Wish(precision=0.5)), wide, names={})
    assert record.n_known == len(own)
    assert record.n_coarse == int((labels == LYMPHOCYTE).sum())
    assert 0.8 * n_wrong <= record.n_coarse_contradicted <= n_wrong
    assert record.precision < 1 - 0.5 * n_wrong / len(own)


def test_a_type_left_out_of_training_is_unlike_every_type(asked):
    laboratory, space, held, _ = asked
    table, skipped = open_set(laboratory, space, held, wish=Wish(), max_types=2)
    assert len(table) == 2
    assert (table["auroc_novelty"] > 0.9).all()
    assert (table["unknown_fraction"] > 0.8).all()
    assert (table["known_unknown_fraction"] < 0.25).all()
    assert not table["is_inner"].any()
    assert any("not asked, 2 classes and 0 types above classes were" in line for line in skipped)


def test_what_decides_about_a_type_left_out_never_saw_its_held_out_cells(asked):
    laboratory, space, held, _ = asked
    table, _ = open_set(laboratory, space, held, wish=Wish(), max_types=1)
    is_asked = np.array(space.hierarchy.labels)[held.codes] == table["term"][0]
    rng = np.random.default_rng(8)
    spoiled = dataclasses.replace(
        held,
        scores=np.where(is_asked[:, None], rng.normal(size=held.scores.shape) * 9, held.scores),
        distance=np.where(is_asked, 1e6, held.distance),
    )
    pd.testing.assert_frame_equal(open_set(laboratory, space, spoiled, wish=Wish(), max_types=1)[0], table)


def test_what_decides_about_a_new_data_set_never_saw_its_held_out_cells(snapshot, asked):
    laboratory, space, held, _ = asked
    moved = dataclasses.replace(laboratory, reference=cells_of(snapshot, held_out="dataset"))
    left = held_out_cells(moved, space)
    decided = decide_crosswise(left, space, wish=Wish(), others=held)
    first = left.folds == 0
    is_own = np.isin(held.rows, left.rows[first])
    spoiled = dataclasses.replace(
        held, distance=np.where(is_own, 1e6, held.distance), scores=held.scores * np.where(is_own, -1, 1)[:, None]
    )
    again = decide_crosswise(left, space, wish=Wish(), others=spoiled)
    assert 0 < is_own.sum() < len(is_own)
    assert np.array_equal(again.confidence[first], decided.confidence[first])
    assert np.array_equal(again.answer[first], decided.answer[first])
    assert not np.array_equal(again.confidence[~first], decided.confidence[~first])


def test_a_class_of_one_person_is_an_open_set_and_never_an_answer(snapshot):
    cells = snapshot.cells
    only = (cells["cell_type_ontology_term_id"] != DC) | (cells["person_id"] == "lab_a/p0")
    laboratory, space = laboratory_of(snapshot, cells_of(snapshot, rows=np.flatnonzero(only)))
    held = held_out_cells(laboratory, space)
    decisions = fit_decisions(held, space, wish=Wish())
    place = space.answers.terms.index(DC)
    assert np.isinf(decisions.thresholds.least[place])
    record = held_out_record(held, decide_crosswise(held, space, wish=Wish()), space, names={})
    assert record.n_open == 8
    assert DC not in set(record.classes["term"])


def test_each_cell_is_decided_by_itself(asked):
    _, space, held, decisions = asked
    order = np.random.default_rng(1).permutation(len(held.codes))
    one = decide(held.scores, held.distance, decisions=decisions, space=space)
    other = decide(held.scores[order], held.distance[order], decisions=decisions, space=space)
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name)[order], getattr(other, field.name)), field.name
    assert ((one.confidence >= 0) & (one.confidence <= 1)).all()
    assert ((one.novelty >= 0) & (one.novelty <= 1)).all()


def shifted(shifts, *, n_cells=300):
    """Return held-out cells of units, each of which sees types as often as its own shift says."""
    rng = np.random.default_rng(7)
    tree = hierarchy_of((T, B, NK), ontology=CL)
    honest = rng.normal(size=(n_cells * len(shifts), 3)) * 1.5
    shift = np.repeat(np.array(shifts), n_cells, axis=0)
    odds = np.exp(honest + shift)
    classes = ((odds / odds.sum(axis=1, keepdims=True)).cumsum(axis=1) < rng.uniform(size=(len(odds), 1))).sum(axis=1)
    units = np.repeat([f"p{k}" for k in range(len(shifts))], n_cells).astype(object)
    held = HeldOutCells(
        rows=np.arange(len(odds)), scores=honest, distance=rng.uniform(size=len(odds)), units=units, folds=np.arange(len(odds)) % 2,
        codes=np.array([tree.labels.index(tree.classes[k]) for k in classes]),
    )  # fmt: skip
    return held, AnswerSpace.of(tree, answer_terms(tree, ontology=CL), ontology=CL)


@pytest.mark.parametrize(
    ("shifts", "moves"),
    [
        ([[1.5, 0.0, -1.0]] * 4, True),  # all persons alike: it will hold for the next one
        ([[1.5, 0.0, -1.5], [-1.5, 0.0, 1.5], [0.0, 1.5, -1.5], [0.0, -1.5, 1.5]], False),  # each has its own
        ([[1.5, 0.0, -1.0]] * 2, False),  # two cannot tell
    ],
)
def test_offsets_of_classes_are_used_where_they_help_persons_that_they_were_not_fitted_on(shifts, moves):
    held, space = shifted(shifts)
    offset = fit_decisions(held, space, wish=Wish()).calibration.offset
    assert bool(np.abs(offset).max() > 0.3) is moves
    assert moves or not offset.any()


def test_more_precision_is_paid_with_coverage():
    # Classes that overlap: precision costs something.
    rng = np.random.default_rng(2)
    tree = hierarchy_of((T, B, NK, MONO), ontology=CL)
    space = AnswerSpace.of(tree, answer_terms(tree, ontology=CL), ontology=CL)
    classes = rng.integers(0, 4, 2000)
    scores = rng.normal(size=(2000, 4)) + 2.0 * np.eye(4)[classes]
    codes = np.array([tree.labels.index(tree.classes[k]) for k in classes])
    held = HeldOutCells(
        rows=np.arange(2000), scores=scores, distance=rng.uniform(size=2000), codes=codes,
        units=np.array([f"p{k % 4}" for k in range(2000)], dtype=object), folds=np.arange(2000) % 4,
    )  # fmt: skip
    found = [
        held_out_record(held, decide_crosswise(held, space, wish=Wish(precision=p)), space, names={})
        for p in (0.7, 0.95)
    ]
    assert found[0].coverage > found[1].coverage + 0.05
    assert found[1].precision > found[0].precision
    assert found[1].precision > 0.93


def test_frequent_types_do_not_pay_for_the_errors_of_rare_ones():
    rng = np.random.default_rng(3)
    tree = hierarchy_of((T, B, NK), ontology=CL)
    answers = answer_terms(tree, ontology=CL)
    places = {name: int(answers.of_class[tree.classes.index(name)]) for name in (T, B, NK)}
    kind = rng.choice([T, B], p=[0.9, 0.1], size=3000)
    # Of cells called B cell one in three is not; those called T cell are all right.
    probability = np.full((3000, len(answers.terms)), 0.01)
    probability[np.arange(3000), [places[one] for one in kind]] = rng.uniform(0.8, 1.0, 3000)
    wrong = (kind == B) & (rng.uniform(size=3000) < 0.33)
    verdict = np.where(wrong[:, None], -1, 1) * np.ones((1, len(answers.terms)), dtype=np.int64)
    may = np.ones(len(answers.terms), dtype=bool)
    found = choose_thresholds(probability, verdict, answers, may_answer=may, precision=0.9)
    assert found.levels["fine"] == 0.5
    assert found.least[places[T]] == 0.5
    assert np.isinf(found.least[places[B]])
    silent = choose_thresholds(probability, verdict, answers, may_answer=~may, precision=0.9)
    assert np.isinf(silent.least).all()
    few = choose_thresholds(probability[:5], verdict[:5], answers, may_answer=may, precision=0.9)
    assert (few.levels["fine"], few.is_tuned["fine"]) == (0.9, False)


@pytest.mark.parametrize(
    ("model", "why"),
    [("harmony", "fits on its query"), ("hierarchical", "say --model pca"), ("majority", "embeds no cells")],
)
def test_a_model_that_cannot_annotate_says_why(model, why):
    if model == "harmony":
        pytest.importorskip("harmonypy")
    with pytest.raises(UsageError, match=why):
        inductive_embedder(model, {})


def test_a_joint_method_of_another_package_cannot_annotate(install_package, offered_integrator):
    install_package(
        "lab-models", "lab_joint = made_up_annotating:Joint", "made_up_annotating", code=offered_integrator()
    )
    with pytest.raises(UsageError, match=r"lab_joint fits on its query \(joint\)"):
        inductive_embedder("lab_joint", {})
