"""A type above others is left out whole: nothing below it is learned from, and all below it is asked for."""

import dataclasses

import numpy as np
import pytest

from cytolabe.evaluate.decisions import AnswerSpace, Wish
from cytolabe.evaluate.held_out import Laboratory, held_out_cells
from cytolabe.evaluate.open_types import open_set
from cytolabe.ontology.answers import answer_terms
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of

from .conftest import DC, LYMPHOCYTE, MONO, NK, B, Lab, T
from .test_held_out import cells_of, laboratory_of

CL = load_ontology()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WatchedLaboratory(Laboratory):
    """A laboratory that notes the terms and the classes of every fit."""

    fits: list[tuple[set[str], set[str]]]

    def fit(self, chosen):
        self.fits.append((set(self.reference.terms[chosen].tolist()), set(self.plan.classes)))
        return super().fit(chosen)


@pytest.fixture(scope="module")
def snapshot(simulated_study):
    """Three labs; a third of the cells of each lymphocyte are called lymphocyte alone."""
    lab = {T: 60, B: 60, NK: 30, MONO: 40, DC: 40}
    made = simulated_study(lab_a=Lab(types=lab, n_persons=5), lab_b=Lab(types=lab), lab_c=Lab(types=lab)).snapshot
    terms = made.cells["cell_type_ontology_term_id"].to_numpy(dtype=object).copy()
    terms[np.isin(terms, [T, B, NK]) & (np.arange(len(terms)) % 3 == 0)] = LYMPHOCYTE
    return dataclasses.replace(made, cells=made.cells.assign(cell_type_ontology_term_id=terms))


@pytest.fixture(scope="module")
def asked(snapshot):
    plain, space = laboratory_of(snapshot)
    held = held_out_cells(plain, space)
    watched = WatchedLaboratory(
        snapshot=plain.snapshot, reference=plain.reference, plan=plain.plan, ontology=CL, fits=[]
    )
    table, skipped = open_set(watched, space, held, wish=Wish(), max_types=3)
    return watched, held, table.set_index("term"), skipped


def test_nothing_below_a_type_that_is_left_out_stays_in_training(asked):
    watched, _, table, _ = asked
    assert table["is_inner"].to_dict()[LYMPHOCYTE]
    assert table.loc[LYMPHOCYTE, "n_classes"] == 3
    trained_on, told_apart = watched.fits[list(table.index).index(LYMPHOCYTE)]
    assert trained_on == {MONO, DC}
    assert told_apart == {MONO, DC}
    # They share nothing with what is left, so a model that never saw one finds them far away.
    assert table.loc[LYMPHOCYTE, "auroc_novelty"] > 0.9
    assert table.loc[LYMPHOCYTE, "unknown_fraction"] > 0.8


def test_all_cells_below_a_type_that_is_left_out_are_asked(asked):
    watched, held, table, _ = asked
    reference = watched.reference
    assert np.array_equal(held.rows, reference.rows)
    below = np.isin(reference.terms, [LYMPHOCYTE, T, B, NK])
    most = max(range(reference.n_folds), key=lambda fold: (below & (reference.folds == fold)).sum())
    inside = reference.folds == most
    assert table.loc[LYMPHOCYTE, "n_cells"] == (below & inside).sum()
    assert (below & inside).sum() > (inside & (reference.terms == LYMPHOCYTE)).sum() > 0
    assert table.loc[LYMPHOCYTE, "n_known"] == (~below & inside).sum()


def test_cells_labelled_above_a_class_that_is_left_out_are_neither_learned_from_nor_asked(asked):
    watched, _, table, _ = asked
    term = next(one for one in table.index if one in {T, B, NK, MONO, DC})
    trained_on, told_apart = watched.fits[list(table.index).index(term)]
    assert term not in told_apart
    assert trained_on == {T, B, NK, MONO, DC, LYMPHOCYTE} - ({term, LYMPHOCYTE} if term in {T, B, NK} else {term})


def test_a_third_of_the_types_asked_is_above_classes_and_the_rest_is_named(asked):
    _, _, table, skipped = asked
    assert table["is_inner"].tolist() == [False, False, True]
    not_asked = {line[:10] for line in skipped if "not asked, 2 classes and 1 types above classes were" in line}
    assert len(not_asked & {T, B, NK, MONO, DC}) == 2
    assert f"{NK} natural killer cell: " in " ".join(skipped)


def test_a_type_that_leaves_nothing_to_tell_apart_or_is_of_one_person_says_so(snapshot):
    # Monocytes of one person alone, who gives all B and dendritic cells to them; nothing else beside lymphocytes.
    cells, terms = snapshot.cells, snapshot.cells["cell_type_ontology_term_id"].to_numpy(dtype=object).copy()
    is_one = (cells["person_id"] == "lab_c/p0").to_numpy()
    terms[~is_one & np.isin(terms, [MONO, DC, B])] = "unknown"
    terms[is_one & np.isin(terms, [B, DC])] = MONO
    moved = dataclasses.replace(snapshot, cells=cells.assign(cell_type_ontology_term_id=terms))
    rows = np.flatnonzero(terms != "unknown")
    laboratory, space = laboratory_of(moved, cells_of(moved, rows=rows))
    held = held_out_cells(laboratory, space)
    table, skipped = open_set(laboratory, space, held, wish=Wish(), max_types=9)
    told = {line[:10]: line.split(": ", 1)[1] for line in skipped}
    assert "one unit" in told[MONO]
    assert told[LYMPHOCYTE].startswith("without it 1 class(es) would be left")
    assert set(table["term"]) <= {T, NK}


def test_a_label_above_all_classes_is_no_type_to_leave_out(snapshot):
    terms = snapshot.cells["cell_type_ontology_term_id"].to_numpy(dtype=object).copy()
    leukocyte = "CL:0000738"
    terms[::50] = leukocyte
    moved = dataclasses.replace(snapshot, cells=snapshot.cells.assign(cell_type_ontology_term_id=terms))
    reference = cells_of(moved)
    tree = hierarchy_of(reference.terms.tolist(), ontology=CL)
    space = AnswerSpace.of(tree, answer_terms(tree, ontology=CL), ontology=CL)
    laboratory, _ = laboratory_of(moved, reference)
    held = held_out_cells(laboratory, space)
    _, skipped = open_set(laboratory, space, held, wish=Wish(), max_types=0)
    assert any(line.startswith(f"{leukocyte} leukocyte: not left out, it is above all classes") for line in skipped)
