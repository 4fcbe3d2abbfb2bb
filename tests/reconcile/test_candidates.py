import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.resolutions import GROUPING_TERMS
from cytolabe.reconcile.candidates import candidates_for, lexicon_of, scopes_of, seed_table
from cytolabe.reconcile.combine import ACCEPT, CURVE, REVIEW, confidence_of, decision_of
from cytolabe.reconcile.evidence import confidence_in_context
from cytolabe.reconcile.normalize import bag_of

CL = load_ontology()
LEXICON = lexicon_of(CL)


def best(label, tissue=""):
    return candidates_for(label, tissue, LEXICON)[0]


def test_every_seed_is_a_live_term_with_the_name_written_beside_it():
    for entries in seed_table()["labels"].values():
        for key, spellings in entries.items():
            term, name = key.split(" ", 1)
            assert CL.name(term) == name
            assert term in CL
            assert spellings


def test_no_spelling_means_two_terms_in_one_scope():
    for scope, entries in seed_table()["labels"].items():
        seen = {}
        for key, spellings in entries.items():
            for spelling in spellings:
                words = bag_of(LEXICON.normalize(spelling))
                assert seen.setdefault(words, key) == key, (scope, spelling)


@pytest.mark.parametrize(
    ("label", "tissue", "term"),
    [("alpha", "islet of Langerhans", "CL:0000171"), ("gamma", "pancreas", "CL:0002275"),
     ("HSC", "blood", "CL:0000037"), ("HSC", "liver", "CL:0000632"), ("KC", "liver", "CL:0000091"),
     ("KC", "skin of body", "CL:0000312"), ("CD8+ Tem", "blood", "CL:0000913"), ("MAIT", "", "CL:0000940"),
     ("pDC", "", "CL:0000784"), ("Treg", "", "CL:0000815"), ("OPC", "brain", "CL:0002453")],
)  # fmt: skip
def test_an_abbreviation_is_read_in_its_tissue(label, tissue, term):
    assert best(label, tissue).term == term
    assert not best(label, tissue).broader


def test_the_exact_name_of_every_class_in_use_finds_itself():
    # Independent check: CL's own names, where no other term has the same words and the seed table is silent.
    missed = []
    for term in [t for t in CL.terms if CL.is_a(t, "CL:0000542")]:
        found = candidates_for(CL.name(term), "", LEXICON)
        if found[0].term != term:
            missed.append((term, found[0].term))
    assert len(missed) < 0.04 * len(CL.descendants("CL:0000542"))


@pytest.mark.parametrize(
    ("label", "term"),
    [("Proliferating NK", "CL:0000623"), ("B cell_1", "CL:0000236"), ("IFN CD4 T", "CL:0000624"),
     ("Oligo NN", "CL:0000128"), ("LYVE1+ macrophage", "CL:0000235")],
)  # fmt: skip
def test_a_state_makes_the_term_broader_than_the_label(label, term):
    found = {c.term: c for c in candidates_for(label, "", LEXICON)}
    assert found[term].broader
    assert found[term].kind in {"stripped", "partial"}


@pytest.mark.parametrize("label", ["non-classical T", "B cell progenitor like", "pre-plasma", "T cell derived"])
def test_a_word_that_changes_the_meaning_is_never_stripped(label):
    assert all(c.kind not in {"stripped", "partial"} for c in candidates_for(label, "", LEXICON))


def test_a_composite_label_gets_the_closest_common_ancestor():
    found = best("B/Plasma")
    assert (found.kind, found.broader) == ("composite", True)
    assert CL.is_a("CL:0000236", found.term)
    assert CL.is_a("CL:0000786", found.term)


def test_a_composite_of_unrelated_types_finds_no_meaningless_ancestor():
    found = candidates_for("Neuron/T cell", "", LEXICON)
    assert all(c.term not in GROUPING_TERMS for c in found if c.kind == "composite")


def test_scopes_come_from_words_of_the_tissue():
    assert scopes_of("islet of Langerhans", LEXICON) == ("pancreas",)
    assert "blood" in scopes_of("bone marrow", LEXICON)
    assert scopes_of("unknown", LEXICON) == ()


def test_candidates_are_the_same_on_every_call_and_each_term_once():
    first = candidates_for("Fibroblast_DCN high", "lung", LEXICON)
    assert first == candidates_for("Fibroblast_DCN high", "lung", LEXICON)
    assert len({c.term for c in first}) == len(first)


def test_confidence_lies_in_thousandths_and_grows_with_similarity():
    for kind, steps in CURVE.items():
        assert [s for s, _ in steps] == sorted(s for s, _ in steps), kind
        assert [c for _, c in steps] == sorted(c for _, c in steps), kind
        assert all(0 <= c <= 1000 for _, c in steps)
    assert confidence_of(best("Platelet")) >= ACCEPT


def test_no_similarity_of_letters_alone_is_accepted():
    assert max(value for _, value in CURVE["similar"]) < ACCEPT
    assert max(value for _, value in CURVE["partial"]) < ACCEPT
    assert [decision_of(c) for c in (1000, ACCEPT, ACCEPT - 1, REVIEW, REVIEW - 1, 0)] == [
        "auto", "auto", "review", "review", "abstained", "abstained"]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "tissue", "name"),
    [
        pytest.param("EC3_cap", "heart", "capillary endothelial cell", id="no cap cell of flies"),
        pytest.param("Fib2_tumor", "lung", "fibroblast", id="fibroblasts of a tumor are not malignant"),
    ],
)
def test_a_number_and_a_tag_beside_a_known_word_leave_its_meaning(label, tissue, name):
    best = candidates_for(label, tissue, LEXICON)[0]
    assert LEXICON.ontology.name(best.term) == name
    assert best.broader


@pytest.mark.parametrize(
    ("label", "tissue"),
    [
        pytest.param("B cell 1", "blood", id="a numbered cluster is no B-1 cell"),
        pytest.param("B_2", "blood", id="a numbered cluster is no B-2 cell"),
        pytest.param("DC 4", "blood", id="a numbered cluster is no CD4 dendritic cell"),
        pytest.param("Crypt", "colon", id="no olfactory neuron of fish"),
        pytest.param("Tip cells", "lung tumor", id="no tip cell of flies"),
        pytest.param("Stalk", "", id="no interfollicle cell of flies"),
        pytest.param("IC", "heart", id="no neuron of lobsters"),
        pytest.param("EC", "colon", id="endothelial or enterochromaffin"),
        pytest.param("Mel", "skin", id="melanocyte or melanoma"),
        pytest.param("Meso", "", id="mesothelium or mesoderm"),
        pytest.param("C", "", id="one letter"),
        pytest.param("DP", "cortex", id="an acronym of thymocytes"),
        pytest.param("IPCs", "blood", id="an acronym of many"),
        pytest.param("CD14+CD16+ Mono", "blood", id="intermediate or non-classical"),
        pytest.param("EC4_immune", "heart", id="endothelial cells with immune genes"),
    ],
)
def test_words_that_laboratories_mean_in_another_way_are_never_accepted_by_themselves(label, tissue):
    found = candidates_for(label, tissue, LEXICON)
    assert [candidate for candidate in found[:1] if confidence_in_context(candidate) >= ACCEPT] == []


@pytest.mark.parametrize(
    ("label", "tissue", "term"),
    [
        ("NK_CD56bright", "blood", "CL:0000938"), ("CD8Tex", "lung tumor", "CL:0020031"), ("CD4T", "blood", "CL:0000624"),
        ("CD14-CD16+ mono", "blood", "CL:0000875"), ("CD14+CD16- Mono", "blood", "CL:0000860"),
        ("na\u00efve CD4 T", "blood", "CL:0000895"), ("CD4+/CD45RA+/CD25- Naive T", "blood", "CL:0000895"),
        ("Purkinje", "heart left ventricle", "CL:0002068"), ("IPC", "cerebral cortex", "CL:0011020"),
        ("Radial glia", "fetal brain", "CL:0000681"), ("gCap", "lung", "CL:4028002"), ("aCap", "lung", "CL:4028003"),
        ("Tumor", "breast", "CL:0001064"), ("Immune", "lung", "CL:0000738"), ("Lymphoid", "lung", "CL:0000542"),
        ("Mono/Macro", "lung", "CL:0000113"), ("iNKT", "blood", "CL:0000921"), ("germinal centre B", "tonsil", "CL:0000844"),
        ("Sst Chodl", "brain", "CL:4023121"), ("D1 MSN", "striatum", "CL:4023026"), ("Epi", "blastocyst", "CL:0000352"),
        ("M cells", "colon", "CL:0000682"), ("ghrelin", "pancreas", "CL:0005019"), ("CD34+", "blood", "CL:0008001"),
    ],
)  # fmt: skip
def test_labels_as_laboratories_write_them_lead_to(label, tissue, term):
    found = best(label, tissue)
    assert (found.term, confidence_in_context(found) >= ACCEPT) == (term, True)


@pytest.mark.parametrize("label", ["OPC-like", "Stem-like", "cycling", "G2M", "M1", "PVL", "Tph"])
def test_a_state_or_a_few_letters_resemble_nothing(label):
    assert [candidate for candidate in candidates_for(label, "", LEXICON) if candidate.kind == "similar"] == []
