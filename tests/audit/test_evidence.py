from cytolabe.audit.evidence import decided_by_expression, is_by_expression
from cytolabe.records import LabelMapping, Predicate


def mapping(label, justification, term="CL:0000236"):
    return LabelMapping(
        dataset_id="a", contributor_label=label, predicate=Predicate.EXACT, term=term, term_name="B cell",
        justification=justification, confidence=900, decision="reviewed", ontology_release="x",
    )  # fmt: skip


def test_only_the_cells_whose_label_expression_decided_are_marked(overlapping):
    snapshot = overlapping()
    found = decided_by_expression(snapshot.cells, (mapping("B cell", "semapv:InstanceBasedMatching"),))
    assert found.tolist() == [True] * 6 + [False] * 6
    assert not decided_by_expression(snapshot.cells, (mapping("B cell", "semapv:LexicalMatching"),)).any()
    assert not decided_by_expression(snapshot.cells, (mapping("B cell", "marker expression", term=""),)).any()


def test_both_ways_to_say_it_are_understood():
    assert is_by_expression(mapping("x", "semapv:InstanceBasedMatching"))
    assert is_by_expression(mapping("x", "Marker Expression"))
    assert not is_by_expression(mapping("x", "semapv:ManualMappingCuration"))
