"""A tissue by its id means what it means by its name, wherever labels are mapped."""

import pandas as pd
import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile import justify_labels, reconcile_labels
from cytolabe.reconcile.candidates import lexicon_of, scopes_of
from cytolabe.reconcile.labels import LABEL_COLUMNS
from cytolabe.reconcile.scored import label_table_of
from cytolabe.reconcile.scored.tables import TABLE_COLUMNS
from cytolabe.reconcile.tissues import ORGANS, tissue_in_words

CL, UBERON = load_ontology(), load_ontology("UBERON")
LEXICON = lexicon_of(CL)
BY_NAME = {UBERON.name(term): term for term in UBERON.terms}
STELLATE, BLOOD_STEM = "CL:0000632", "CL:0000037"


def labels(*rows):
    table = [
        dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": "d", "contributor_label": label, "tissue": tissue}
        for label, tissue in rows
    ]
    return pd.DataFrame(table).assign(n_cells=9)


@pytest.mark.parametrize(
    ("tissue", "term"),
    [("liver", STELLATE), ("UBERON:0002107", STELLATE), ("UBERON_0002107", STELLATE), ("UBERON:0002371", BLOOD_STEM)],
)
def test_a_tissue_by_its_id_is_the_context_that_its_name_is(tissue, term):
    (mapping,), _ = reconcile_labels(labels(("HSC", tissue)), ontology=CL)
    assert (mapping.term, mapping.decision) == (term, "auto")


def test_mappings_and_reasons_by_id_are_those_by_name():
    kinds = ("HSC", "endothelial", "macrophage", "Kupfer cels")
    by_name, by_id = (labels(*((kind, tissue) for kind in kinds)) for tissue in ("liver", "UBERON:0002107"))
    assert reconcile_labels(by_id, ontology=CL) == reconcile_labels(by_name, ontology=CL)
    assert justify_labels(by_id, ontology=CL) == justify_labels(by_name, ontology=CL)
    assert set(by_id["tissue"]) == {"UBERON:0002107"}, "the table of the caller stays as it is"


@pytest.mark.parametrize(
    ("part", "scope"),
    [
        ("putamen", "brain"),
        ("spinal cord", "brain"),
        ("caecum", "gut"),
        ("common bile duct", "liver"),
        ("fovea centralis", "eye"),
        ("mitral valve", "heart"),
    ],
)
def test_a_part_that_does_not_name_its_organ_opens_the_scope_of_the_organ(part, scope):
    assert scopes_of(part, LEXICON) == ()
    assert scopes_of(tissue_in_words(BY_NAME[part], cells=CL), LEXICON) == (scope,)


@pytest.mark.parametrize("part", ["aorta", "thyroid gland", "tongue", "axilla", "bone element"])
def test_what_a_tissue_develops_from_or_is_passed_by_is_not_its_organ(part):
    """Above these stand `blood vessel`, `nervous system` and `structure with developmental contribution from neural crest`."""
    assert tissue_in_words(BY_NAME[part], cells=CL) == part


def test_every_organ_of_the_list_is_a_term_of_the_release_and_opens_a_scope():
    assert set(BY_NAME) >= ORGANS
    assert [organ for organ in sorted(ORGANS) if not scopes_of(organ, LEXICON)] == []


def test_text_ids_that_nobody_has_and_several_tissues_are_read_as_far_as_they_go():
    assert tissue_in_words("left liver, stage 2", cells=CL) == "left liver, stage 2"
    assert tissue_in_words("UBERON:9999999", cells=CL) == "UBERON:9999999"
    assert (
        tissue_in_words("UBERON:0002107 || http://purl.obolibrary.org/obo/UBERON_0000178", cells=CL) == "liver || blood"
    )
    assert tissue_in_words("", cells=CL) == ""


def test_a_table_that_is_scored_may_give_its_tissues_by_id():
    row = dict(zip(TABLE_COLUMNS, ("HSC", STELLATE, "s", "f", "UBERON:0002107"), strict=True))
    assert label_table_of(pd.DataFrame([row]), name="t.csv", ontology=CL).tissue == ("liver",)
