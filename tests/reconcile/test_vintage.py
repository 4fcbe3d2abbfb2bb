"""What a family's curators never took from a block of ids moves its terms; nothing else does."""

import numpy as np

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.ranking.features import id_blocks
from cytolabe.reconcile.ranking.lexical import term_index_of
from cytolabe.reconcile.scored.vintage import vintage_shift

INDEX = term_index_of(load_ontology("CL"))
OLD, NEW = INDEX.position["CL:0000617"], INDEX.position["CL:4023017"]  # GABAergic neuron; sst GABAergic interneuron


def shift(n_old, n_new, *, others=(300, 30)):
    taught = np.repeat([OLD, NEW, OLD, NEW], [n_old, n_new, *others]).astype(np.int64)
    return vintage_shift(taught, np.arange(len(taught)) < n_old + n_new, index=INDEX)


def test_the_two_terms_are_of_different_blocks():
    blocks = id_blocks(INDEX)
    assert blocks[OLD] < blocks[NEW]


def test_a_family_that_never_took_a_new_term_in_many_labels_makes_new_terms_unlikely():
    few, many = shift(20, 0)[NEW], shift(300, 0)[NEW]
    assert many < few < -2
    assert abs(shift(300, 0)[OLD]) < 0.15


def test_a_family_of_which_nothing_may_teach_moves_nothing():
    assert np.allclose(shift(0, 0), 0)


def test_a_family_that_chooses_like_all_moves_next_to_nothing():
    assert np.abs(shift(300, 30)[[OLD, NEW]]).max() < 0.05


def test_it_is_the_ratio_of_shares_with_a_prior_of_one_label():
    blocks = id_blocks(INDEX)
    in_new = float((blocks == blocks[NEW]).mean())
    share = (30 + in_new) / (340 + 1)
    expected = np.log((0 + share) / (10 + 1) / share)
    assert np.isclose(shift(10, 0)[NEW], expected)
