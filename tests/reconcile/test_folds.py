import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.reconcile.scored.folds import PROTOCOLS, folds_of, kinship_of
from cytolabe.reconcile.scored.tables import LabelTable

T = "CL:0000084"


def table_of(rows):
    labels, sources, families = zip(*rows, strict=True)
    n = len(rows)
    return LabelTable(label=labels, term=(T,) * n, source=sources, family=families, tissue=("",) * n)


def study(name, family, labels):
    return [(label, name, family) for label in labels]


COPIED = [f"cluster label {i}" for i in range(12)]
CROSSWALK = table_of([
    *study("tool:lung", "tool", COPIED),
    *study("tool:lung_fine", "tool", [*COPIED, "one more"]),
    *study("crosswalk", "crosswalk", [*COPIED, *(f"other {i}" for i in range(20))]),
    *study("lab:1", "labs", [f"first {i}" for i in range(9)]),
    *study("lab:2", "labs", [f"second {i}" for i in range(9)]),
    *study("lab:3", "labs", [*COPIED[:8], "third"]),
])  # fmt: skip


def test_a_cross_walk_that_recurates_a_tool_teaches_nothing_about_the_tool():
    kinship = kinship_of(CROSSWALK)
    barred = kinship.barred("tool:lung", "leave_study_out")
    assert {"tool:lung", "tool:lung_fine", "crosswalk"} <= barred


def test_independent_studies_of_a_family_teach_each_other():
    kinship = kinship_of(CROSSWALK)
    assert "labs" not in kinship.recurating
    assert kinship.barred("lab:1", "leave_study_out") == {"lab:1"}


def test_a_study_that_a_recurating_family_copied_bars_the_whole_family():
    barred = kinship_of(CROSSWALK).barred("lab:3", "leave_study_out")
    assert {"crosswalk", "tool:lung", "tool:lung_fine"} <= barred
    assert "lab:1" not in barred


def test_leaving_one_study_out_lets_the_twin_reference_of_the_family_teach():
    twins = table_of([
        *study("tool:man", "tool", COPIED), *study("tool:mouse", "tool", [*COPIED, "one more"]),
        *study("crosswalk", "crosswalk", COPIED),
    ])  # fmt: skip
    twins = dataclasses.replace(twins, tissue=("man",) * 12 + ("mouse",) * 13 + ("",) * 12)
    kinship = kinship_of(twins)
    assert "tool:mouse" in kinship.barred("tool:man", "leave_study_out")
    assert kinship.barred("tool:man", "leave_one_study_out") == {"tool:man", "crosswalk"}


def test_the_answers_do_not_move_the_kinship():
    other = LabelTable(
        label=CROSSWALK.label, term=("CL:0000236",) * len(CROSSWALK), source=CROSSWALK.source,
        family=CROSSWALK.family, tissue=CROSSWALK.tissue,
    )  # fmt: skip
    assert kinship_of(other) == kinship_of(CROSSWALK)


def test_leaving_the_family_out_still_learns_from_who_copied_it():
    # What the headline must not do, and why the protocols are told apart.
    assert "crosswalk" not in kinship_of(CROSSWALK).barred("tool:lung", "leave_family_out")


studies = st.lists(
    st.tuples(st.integers(0, 2), st.sets(st.integers(0, 14), min_size=1, max_size=12)), min_size=1, max_size=8
)
"""The family and the labels of each study, as numbers."""


def drawn(found):
    rows = []
    for number, (family, labels) in enumerate(found):
        rows += study(f"source {number}", f"family {family}", [f"label {at}" for at in sorted(labels)])
    return kinship_of(table_of(rows))


@settings(max_examples=60)
@given(found=studies, protocol=st.sampled_from(PROTOCOLS))
def test_every_source_is_scored_once_and_never_learns_from_what_it_bars(found, protocol):
    kinship = drawn(found)
    folds = folds_of(kinship, protocol=protocol)
    scored = [source for fold in folds for source in fold.test]
    assert sorted(scored) == sorted(kinship.family)
    for fold in folds:
        assert fold.test <= fold.barred
        for source in fold.test:
            assert kinship.barred(source, protocol) <= fold.barred


@settings(max_examples=40)
@given(found=studies)
def test_the_headline_bars_at_least_what_a_naive_benchmark_bars(found):
    kinship = drawn(found)
    for source in kinship.family:
        assert kinship.barred(source, "leave_source_out") <= kinship.barred(source, "leave_study_out")


def test_levels_of_one_study_do_not_teach_each_other_and_another_organ_of_the_family_does():
    rows = [
        *study("ref:lung_l1", "ref", ["basal", "ciliated", *COPIED]),
        *study("ref:lung_l2", "ref", [f"fine {i}" for i in range(9)]),
        *study("ref:kidney", "ref", [f"tubule {i}" for i in range(9)]),
        *study("copy", "copies", [f"fine {i}" for i in range(9)]),
    ]
    tissue = {"ref:lung_l1": "lung_L1", "ref:lung_l2": "Lung L2", "ref:kidney": "kidney.csv", "copy": "x"}
    table = dataclasses.replace(table_of(rows), tissue=tuple(tissue[source] for _, source, _ in rows))
    kinship = dataclasses.replace(kinship_of(table), recurating=frozenset({"ref", "copies"}))
    assert kinship.barred("ref:lung_l1", "leave_study_out") == {"ref:lung_l1", "ref:lung_l2", "copy"}
    assert "ref:kidney" in kinship.barred("ref:lung_l1", "leave_whole_family_out")


def test_a_level_of_a_study_that_is_linked_at_another_level_teaches_neither():
    shared = [f"crossed {i}" for i in range(8)]
    rows = [
        *study("ref:human_cross", "ref", shared),
        *study("ref:human_fine", "ref", [f"human {i}" for i in range(9)]),
        *study("ref:mouse_cross", "ref", shared),
        *study("ref:mouse_fine", "ref", [f"mouse {i}" for i in range(9)]),
    ]
    table = dataclasses.replace(table_of(rows), tissue=tuple(source[4:9] for _, source, _ in rows))
    kinship = dataclasses.replace(kinship_of(table), recurating=frozenset({"ref"}))
    assert "ref:mouse_fine" in kinship.barred("ref:human_fine", "leave_study_out")
