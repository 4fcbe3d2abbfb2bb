import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.errors import UnresolvedLabelError, UsageError
from cytolabe.ontology.graph import TermRecord, load_ontology, ontology_of, shipped_releases
from cytolabe.ontology.resolutions import COARSER, GROUPING, OUTSIDE, TIED, DeclaredLevel, build_resolutions

CL = load_ontology()
T, CD4, CD8, NAIVE_CD4, MEMORY_CD4 = "CL:0000084", "CL:0000624", "CL:0000625", "CL:0000895", "CL:0000897"
MONO, CLASSICAL, NONCLASSICAL, NK, B = "CL:0000576", "CL:0000860", "CL:0000875", "CL:0000623", "CL:0000236"
PLATELET, MEGAKARYOCYTE, NEURON = "CL:0000233", "CL:0000556", "CL:0000540"
BLOOD = dict.fromkeys((T, CD4, CD8, NAIVE_CD4, MEMORY_CD4, MONO, CLASSICAL, NONCLASSICAL, NK, B, PLATELET), 10)

LABELS = sorted(t for t in CL.terms if CL.is_a(t, "CL:0000988") or CL.is_a(t, NEURON))
term_counts = st.dictionaries(st.sampled_from(LABELS), st.integers(1, 1000), min_size=1, max_size=25)


def test_blood_labels_form_the_levels_that_an_immunologist_names():
    levels = build_resolutions(BLOOD, ontology=CL)
    assert set(levels.level("broad").terms) == {T, B, NK, MONO, PLATELET}
    assert set(levels.level("mid").terms) == {CD4, CD8, B, NK, MONO, PLATELET}
    assert set(levels.level("fine").terms) == {
        NAIVE_CD4, MEMORY_CD4, CD8, B, NK, CLASSICAL, NONCLASSICAL, PLATELET}  # fmt: skip


def test_a_coarser_label_is_excluded_with_its_reason():
    levels = build_resolutions(BLOOD, ontology=CL)
    assert dict(levels.level("fine").excluded) == {T: COARSER, CD4: COARSER, MONO: COARSER}
    assert dict(levels.level("mid").excluded) == {T: COARSER}
    assert not levels.level("broad").excluded


def test_naive_cells_group_by_lineage_and_not_across_it():
    counts = {NAIVE_CD4: 5, "CL:0000900": 5, MEMORY_CD4: 5, "CL:0000909": 5}
    assert set(build_resolutions(counts, ontology=CL).level("mid").terms) == {CD4, CD8}


def test_a_grouping_term_is_never_a_class():
    levels = build_resolutions({"CL:0000000": 900, "CL:0000219": 5, T: 5, B: 5}, ontology=CL)
    assert levels.level("fine").excluded == {"CL:0000000": GROUPING, "CL:0000219": GROUPING}
    alone = build_resolutions({"CL:0000151": 5, T: 5, B: 5}, ontology=CL)
    assert all(level.excluded == {"CL:0000151": GROUPING} for level in alone.levels)


def test_a_level_keeps_at_least_two_classes():
    assert len(build_resolutions({NAIVE_CD4: 5, CD8: 5}, ontology=CL).level("broad").terms) == 2


@settings(deadline=None, max_examples=60)
@given(counts=term_counts)
def test_each_level_is_an_antichain(counts):
    for level in build_resolutions(counts, ontology=CL).levels:
        assert not any(CL.ancestors(term) & set(level.terms) for term in level.terms)


@settings(deadline=None, max_examples=60)
@given(counts=term_counts)
def test_each_label_has_one_class_that_covers_it_or_a_reason(counts):
    for level in build_resolutions(counts, ontology=CL).levels:
        assert set(level.assignment) | set(level.excluded) == set(counts)
        assert not set(level.assignment) & set(level.excluded)
        assert all(found in level.terms and CL.is_a(term, found) for term, found in level.assignment.items())
        assert all(found in level.terms and CL.is_a(term, found) for term, found in level.below.items())
        for term, reason in level.excluded.items():
            assert reason in {COARSER, GROUPING, TIED}
            assert not any(CL.is_a(term, found) for found in level.terms) or reason in {GROUPING, TIED}
            assert (reason == TIED) <= (term in level.ties)


@settings(deadline=None, max_examples=60)
@given(counts=term_counts)
def test_levels_refine_each_other(counts):
    levels = build_resolutions(counts, ontology=CL)
    names = [level.name for level in levels.levels]
    assert names == ["broad", "mid", "fine"]
    for coarse, fine in itertools.pairwise(names):
        finer = levels.level(fine)
        known = np.asarray(sorted({**finer.assignment, **finer.below}))
        direct = levels.project(coarse, known)
        through = levels.project(coarse, levels.project(fine, known))
        assert direct.tolist() == through.tolist()


@settings(deadline=None, max_examples=40)
@given(counts=term_counts, order=st.randoms(use_true_random=False))
def test_the_order_of_labels_changes_nothing(counts, order):
    items = list(counts.items())
    order.shuffle(items)
    assert build_resolutions(dict(items), ontology=CL).digest == build_resolutions(counts, ontology=CL).digest


def test_a_label_that_straddles_classes_is_too_coarse_and_not_foreign():
    counts = {"CL:0000813": 5, MEMORY_CD4: 20, "CL:0000909": 5, NAIVE_CD4: 5, "CL:0000900": 5}
    assert build_resolutions(counts, ontology=CL).level("mid").excluded == {"CL:0000813": COARSER}


@settings(deadline=None, max_examples=60)
@given(counts=term_counts)
def test_every_choice_between_classes_is_written_out(counts):
    for level in build_resolutions(counts, ontology=CL).levels:
        several = {t for t in level.assignment if sum(CL.is_a(t, found) for found in level.terms) > 1}
        assert several <= set(level.ties)


def test_a_prediction_below_a_class_projects_although_no_label_has_it():
    levels = build_resolutions({CD4: 5, CD8: 5, B: 5}, ontology=CL)
    terms = np.array([NAIVE_CD4, T, NEURON, "unknown", "", B])
    assert levels.project("fine", terms).tolist() == [CD4, "", "", "", "", B]
    assert levels.project("broad", terms).tolist() == [T, T, "", "", "", B]
    assert levels.project("fine", np.array([], dtype="<U10")).size == 0


def test_unlabelled_keys_are_no_labels():
    with_unknown = build_resolutions({**BLOOD, "unknown": 5, "": 7}, ontology=CL)
    assert with_unknown.digest == build_resolutions(BLOOD, ontology=CL).digest


def test_a_declared_level_reports_coarser_and_outside():
    declared = DeclaredLevel(name="mid", terms=("CL_0000624", CD8, MONO))
    level = build_resolutions({T: 1, NAIVE_CD4: 1, CLASSICAL: 1, NEURON: 1}, ontology=CL, declared=[declared]).levels[0]
    assert level.assignment == {NAIVE_CD4: CD4, CLASSICAL: MONO}
    assert level.excluded == {T: COARSER, NEURON: OUTSIDE}


def test_a_declared_level_that_is_no_antichain_is_refused():
    with pytest.raises(UnresolvedLabelError, match="could belong to both"):
        build_resolutions({B: 1}, ontology=CL, declared=[DeclaredLevel(name="mid", terms=(T, CD4))])


def test_a_label_under_two_declared_classes_is_refused_until_the_study_decides():
    classes = (CD4, "CL:0000815")  # CD4 T cell and regulatory T cell
    treg = {"CL:0000792": 4}
    with pytest.raises(UnresolvedLabelError, match="merged"):
        build_resolutions(treg, ontology=CL, declared=[DeclaredLevel(name="mid", terms=classes)])
    decided = DeclaredLevel(name="mid", terms=classes, merged={"CL:0000792": CD4})
    assert build_resolutions(treg, ontology=CL, declared=[decided]).levels[0].assignment == {"CL:0000792": CD4}


def test_platelets_join_megakaryocytes_only_where_the_study_says_so():
    counts = {PLATELET: 14, MEGAKARYOCYTE: 7, B: 5}
    apart = build_resolutions(counts, ontology=CL, declared=[DeclaredLevel(name="mid", terms=(MEGAKARYOCYTE, B))])
    assert apart.levels[0].excluded == {PLATELET: OUTSIDE}
    merged = DeclaredLevel(name="mid", terms=(MEGAKARYOCYTE, B), merged={PLATELET: MEGAKARYOCYTE})
    fine = DeclaredLevel(name="fine", terms=(MEGAKARYOCYTE, PLATELET, B))
    both = build_resolutions(counts, ontology=CL, declared=[merged, fine])
    assert both.level("mid").assignment[PLATELET] == MEGAKARYOCYTE
    assert both.level("fine").assignment[PLATELET] == PLATELET
    assert apart.digest != both.digest


@pytest.mark.parametrize("merged", [{PLATELET: T}, {B: MEGAKARYOCYTE}])
def test_a_merge_into_no_class_or_of_a_class_is_refused(merged):
    declared = DeclaredLevel(name="mid", terms=(MEGAKARYOCYTE, B), merged=merged)
    with pytest.raises(UnresolvedLabelError, match="merged sends"):
        build_resolutions({B: 1}, ontology=CL, declared=[declared])


def test_an_unknown_level_and_a_repeated_name_are_usage_errors():
    levels = build_resolutions(BLOOD, ontology=CL)
    with pytest.raises(UsageError, match="broad, mid, fine"):
        levels.level("coarse")
    twice = [DeclaredLevel(name="mid", terms=(T,)), DeclaredLevel(name="mid", terms=(CD4,))]
    with pytest.raises(UsageError, match="same name"):
        build_resolutions(BLOOD, ontology=CL, declared=twice)


def test_a_dead_id_among_the_labels_is_read_as_its_replacement():
    dead = next(t for t, r in sorted(CL.records.items()) if r.obsolete and (r.replaced_by or "") in CL)
    level = build_resolutions({dead: 5, B: 5, NEURON: 5}, ontology=CL).level("fine")
    assert dead in {**level.assignment, **level.excluded}


def test_a_dead_id_follows_the_finer_class_of_its_replacement():
    dead = {t: r.replaced_by for t, r in CL.records.items() if r.obsolete and r.replaced_by in LABELS}
    counts = {**BLOOD, **dict.fromkeys(dead, 3), **dict.fromkeys(dead.values(), 3)}
    for level in build_resolutions(counts, ontology=CL).levels:
        classes = {**level.assignment, **level.excluded}
        assert all(classes[old] == classes[new] for old, new in dead.items())


def diamond(*, wide=0):
    """Return a release in which X:9 lies under two classes, X:1 and X:2; the second has `wide` more terms."""
    records = {
        "X:0": TermRecord(name="cell"),
        **{f"X:{n}": TermRecord(name=f"class {n}", parents=("X:0",)) for n in (1, 2)},
        "X:9": TermRecord(name="both", parents=("X:1", "X:2")),
        **{f"X:1{n}": TermRecord(name=f"under 1 {n}", parents=("X:1",)) for n in range(3)},
        **{f"X:2{n}": TermRecord(name=f"under 2 {n}", parents=("X:2",)) for n in range(3 + wide)},
        **{f"X:5{n}": TermRecord(name=f"filler {n}", parents=("X:0",)) for n in range(150)},
    }
    return ontology_of("X", "1", records)


def both_at(counts, ontology):
    levels = build_resolutions(counts, ontology=ontology)
    level = next(level for level in levels.levels if {"X:1", "X:2"} <= set(level.terms))
    return level.assignment.get("X:9"), level


class TestUnderTwoClasses:
    @pytest.mark.parametrize(("cells", "winner"), [((50, 10), "X:1"), ((10, 50), "X:2")])
    def test_the_class_of_most_other_cells_takes_the_label(self, cells, winner):
        counts = {"X:10": cells[0], "X:11": 1, "X:20": cells[1], "X:21": 1, "X:9": 7}
        found, level = both_at(counts, diamond())
        assert found == winner
        assert "most other cells" in level.ties["X:9"]

    def test_at_equal_cells_the_more_general_class_does(self):
        counts = {"X:10": 5, "X:11": 5, "X:20": 5, "X:21": 5, "X:9": 7}
        assert both_at(counts, diamond(wide=2))[0] == "X:2"

    def test_where_nothing_tells_them_apart_the_label_has_no_class_and_no_id_decides(self):
        counts = {"X:10": 5, "X:11": 5, "X:20": 5, "X:21": 5, "X:9": 7}
        found, level = both_at(counts, diamond())
        assert found is None
        assert level.excluded["X:9"] == TIED
        assert "no class" in level.ties["X:9"]


def test_the_release_is_part_of_the_digest_of_levels():
    old = load_ontology("CL", shipped_releases()[0])
    then, now = (build_resolutions(BLOOD, ontology=ontology) for ontology in (old, CL))
    assert (then.ontology_release, now.ontology_release) == (old.release, CL.release)
    assert then.digest != now.digest
    assert build_resolutions(BLOOD, ontology=CL).digest == now.digest
