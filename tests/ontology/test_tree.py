"""Levels refine each other, so they are a tree; what stands outside of it is counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.resolutions import COARSER, build_resolutions
from cytolabe.ontology.tree import left_out, tree_of

CL = load_ontology()
T, CD4, CD8, B, MONO = "CL:0000084", "CL:0000624", "CL:0000625", "CL:0000236", "CL:0000576"
NAIVE_CD4, MEMORY_CD4, CLASSICAL, NONCLASSICAL = "CL:0000895", "CL:0000897", "CL:0000860", "CL:0000875"
LABELS = sorted(t for t in CL.terms if CL.is_a(t, "CL:0000988"))
term_counts = st.dictionaries(st.sampled_from(LABELS), st.integers(1, 1000), min_size=1, max_size=20)
BLOOD = {T: 5, CD4: 7, CD8: 11, NAIVE_CD4: 13, MEMORY_CD4: 17, B: 40, CLASSICAL: 3, NONCLASSICAL: 2}


def walked(nodes):
    for node in nodes:
        yield node
        yield from walked(node.children)


def test_blood_is_the_tree_that_its_levels_are():
    tree = tree_of(build_resolutions(BLOOD, ontology=CL), BLOOD, ontology=CL)
    assert [(node.term, node.n_cells, node.levels) for node in tree] == [
        (T, 53, ("broad",)), (B, 40, ("broad", "mid", "fine")), (MONO, 5, ("broad", "mid"))]  # fmt: skip
    cd4, cd8 = tree[0].children
    assert (cd4.term, cd4.n_cells, [node.term for node in cd4.children]) == (CD4, 37, [MEMORY_CD4, NAIVE_CD4])
    assert (cd8.term, cd8.levels, cd8.children) == (CD8, ("mid", "fine"), ())


def test_coarser_labels_stand_beside_the_tree_with_their_cells():
    rows = left_out(build_resolutions(BLOOD, ontology=CL), BLOOD, ontology=CL)
    assert [(row.level, row.term, row.n_cells) for row in rows] == [
        ("mid", T, 5), ("fine", CD4, 7), ("fine", T, 5)]  # fmt: skip
    assert {row.reason for row in rows} == {COARSER}


@settings(deadline=None, max_examples=40)
@given(counts=term_counts)
def test_each_class_of_each_level_is_in_the_tree_and_every_cell_is_counted_once(counts):
    resolutions = build_resolutions(counts, ontology=CL)
    tree = tree_of(resolutions, counts, ontology=CL)
    nodes = list(walked(tree))
    outside = left_out(resolutions, counts, ontology=CL)
    for level in resolutions.levels:
        placed = [node.term for node in nodes if level.name in node.levels]
        assert len(placed) == len(set(placed))
        orphans = set(level.terms) - set(placed)
        # A class is no part of the tree only where nothing tells which coarser class it belongs to.
        assert all(any(term in coarser.ties for coarser in resolutions.levels) for term in orphans)
    first = resolutions.levels[0]
    assert sum(node.n_cells for node in tree) + sum(r.n_cells for r in outside if r.level == first.name) == sum(
        counts.values()
    )


@pytest.mark.parametrize("counts", [{B: 3}, {T: 1, B: 1}])
def test_few_labels_make_a_small_tree(counts):
    tree = tree_of(build_resolutions(counts, ontology=CL), counts, ontology=CL)
    assert {node.term for node in tree} == set(counts)
    assert all(node.levels == ("broad", "mid", "fine") for node in tree)
