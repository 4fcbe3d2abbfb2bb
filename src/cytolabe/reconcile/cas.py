"""The mappings of one data set as a CAS document (cell-annotation-schema, general schema 0.1.0), which others read.

A label is an annotation in the labelset that is named by its column; the coarser labels of the same contributor are a labelset
of their own. CAS gives the closest term and has no word for how close: predicate, confidence, decision and release stand in
`author_annotation_fields`, and a label whose term nobody accepted has none. `imports` reads the document back.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from cytolabe.records import DatasetRecord, LabelMapping

__all__ = ["cas_document"]

_VERSION = "0.1.0"
_ACCEPTED = frozenset({"auto", "reviewed"})
_METHODS: Mapping[str, str] = {
    "manual": "manual", "sorted": "manual", "genotype": "manual", "automated": "algorithmic", "transferred": "algorithmic",
}  # fmt: skip
"""Origin of labels -> CAS's word; where it is unknown, CAS is told nothing."""
_LONGEST = 2000
"""Most characters of a rationale."""


def cas_document(record: DatasetRecord, cells: pd.DataFrame, mappings: Sequence[LabelMapping]) -> dict[str, object]:
    """Return the document of a data set; its annotations are sorted, and equal mappings give an equal document.

    Parameters
    ----------
    record
        What was delivered.
    cells
        Its cells as `Atlas.cells` gives them; unlabelled ones are in no annotation.
    mappings
        Those of the data set.
    """
    fine, coarse = record.columns.get("label", "contributor_label"), record.columns.get("label_parent", "label_parent")
    names = cells["cell_id"].str.removeprefix(f"{record.dataset_id}:")
    ids_of = {str(label): part.tolist() for label, part in names.groupby(cells["contributor_label"], observed=True)}
    parents = {
        str(label): part.tolist() for label, part in names.groupby(cells["label_parent"], observed=True) if label
    }
    labelset: dict[str, object] = {"name": fine, "description": "labels as the contributor delivered them"}
    if record.label_origin in _METHODS:
        labelset["annotation_method"] = _METHODS[record.label_origin]
    labelsets = [labelset]
    if parents:
        labelsets.append({"name": coarse, "description": "coarser labels of the same contributor"})
    of_labels = [
        _annotation(mapping, fine, ids_of[mapping.contributor_label])
        for mapping in sorted(mappings, key=lambda mapping: mapping.contributor_label)
        if mapping.contributor_label in ids_of
    ]
    of_parents = [
        {"labelset": coarse, "cell_label": label, "cell_ids": parents[label], "synonyms": []}
        for label in sorted(parents)
    ]
    return {
        "cellannotation_schema_version": _VERSION,
        "title": record.title,
        "description": f"Labels of {record.dataset_id} with the Cell Ontology terms that they were mapped to",
        "author_name": record.declared.get("citation", "unknown"),
        "labelsets": labelsets,
        "annotations": [*of_labels, *of_parents],
    }


def _annotation(mapping: LabelMapping, labelset: str, cell_ids: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {
        "labelset": labelset,
        "cell_label": mapping.contributor_label,
        "cell_ids": list(cell_ids),
        "rationale": mapping.evidence[:_LONGEST],
        "synonyms": [],
        "author_annotation_fields": {
            "predicate": mapping.predicate.value,
            "decision": mapping.decision,
            "confidence": f"{mapping.confidence / 1000:.3f}",
            "mapping_justification": mapping.justification,
            "ontology_release": mapping.ontology_release,
        },
    }
    if mapping.decision in _ACCEPTED and mapping.term:
        found |= {"cell_ontology_term_id": mapping.term, "cell_ontology_term": mapping.term_name}
        if mapping.reviewer:
            dated = {"datestamp": mapping.review_date} if mapping.review_date else {}
            found["reviews"] = [{**dated, "reviewer": mapping.reviewer, "review": "Agree"}]
    return found
