import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.candidates import lexicon_of
from cytolabe.reconcile.normalize import bag_of, is_code, is_reserved, normalize_label

LEXICON = lexicon_of(load_ontology())


def bag(label):
    return bag_of(LEXICON.normalize(label))


@pytest.mark.parametrize("label", ["Unknown", "NA", "n/a", "", "  ", "doublet", "Doublets", "low-quality", "Unassigned_2",
                                   "junk", "unlabelled", "nan", "?"])  # fmt: skip
def test_a_reserved_word_is_no_label(label):
    assert is_reserved(label)


@pytest.mark.parametrize("label", ["7", "0.5", "c3", "cluster 12", "Cluster_4", "leiden 8", "3a"])
def test_a_bare_code_is_recognized(label):
    assert is_code(label)


@pytest.mark.parametrize(
    "label", ["B", "NK", "T_CD4", "CD4", "K562", "A549", "Other T", "th17", "DC2", "L5 IT", "unknown T"]
)
def test_a_name_is_neither_reserved_nor_a_code(label):
    assert not is_reserved(label)
    assert not is_code(label)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Mono_CD14", "CD14+ Monocytes"), ("T_CD4", "CD4-positive, alpha-beta T cell"), ("bcells", "B lymphocyte"),
     ("thelper", "helper T cell"), ("memoryt", "Memory T cells"), ("γδ T", "gamma-delta T cell"), ("gd-T", "gd T"),
     ("FCGR3A+ Mono", "CD16+ monocyte"), ("Type II pneumocyte", "pneumocyte type 2"), ("NKcells", "natural killer cell"),
     ("CD56dim NK", "NK CD56 dim"), ("NK_CD56bright", "CD56 bright NK"), ("na\u00efve B", "naive B"), ("CD8Tex", "CD8 Tex"),
     ("CD14-CD16+ mono", "CD16+ CD14- mono"), ("germinal centre B", "germinal center B"), ("naiveT", "naive T cell"), ("Haematopoietic stem cell", "hematopoietic stem cells")],
)  # fmt: skip
def test_two_spellings_of_one_label_meet(one, other):
    assert bag(one) == bag(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("CD4+ T", "CD4- T"), ("CD16+ monocyte", "CD16- monocyte"), ("classical monocyte", "non-classical monocyte"),
     ("alpha cell", "beta cell"), ("pro-B", "pre-B"), ("T", "B")],
)  # fmt: skip
def test_two_types_do_not_meet(one, other):
    assert bag(one) != bag(other)


@given(label=st.text(max_size=30))
def test_normalizing_never_fails_and_is_stable(label):
    words = normalize_label(label)
    assert words == normalize_label(words)
    assert (
        bag_of(words) == bag_of(" ".join(reversed(words.split())))
        or "negative" in words
        or "alpha" in words
        or ("thymus" in words)
    )
