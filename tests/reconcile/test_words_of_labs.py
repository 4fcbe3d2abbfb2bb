"""Words that laboratories glue together are read apart, and only where what is left is known."""

import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.candidates import lexicon_of
from cytolabe.reconcile.ranking.lexical import core_words, organ_words_of, term_index_of

LEXICON = lexicon_of(load_ontology("CL"))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("LEC3", "lec 3"),
        ("hMac2", "macrophage 2"),
        ("hTreg", "regulatory t"),
        ("Alveolar M\u03c6", "alveolar macrophage"),
        ("Proliferating NK", "cycling natural killer"),
    ],
)
def test_glued_words_are_read_apart(label, words):
    assert LEXICON.normalize(label) == words


@pytest.mark.parametrize("label", ["cdc1", "ilc2", "dc2", "cd8", "hepatocyte", "xyzzy7", "hxyzzy"])
def test_known_words_and_unknown_ones_stay_whole(label):
    assert LEXICON.normalize(label) == label


def test_a_gene_behind_a_type_is_no_part_of_its_name():
    assert core_words("LEC (STAB+)", LEXICON).split()[0] == core_words("LEC", LEXICON)
    assert "stab" not in core_words("LEC (STAB+)", LEXICON)


def test_words_of_the_own_organ_are_never_those_of_another():
    index = term_index_of(load_ontology("CL"))
    for tissue in ("lung_L1", "Healthy Adult Heart", "", "blood", "kidney"):
        own, other = organ_words_of(tissue, index)
        assert not set(own) & set(other)
    assert organ_words_of("lung", index)[0]
