"""What is still open after labels were decided: no term, waiting for a person, or no cell type at all.

Asked of the mappings that are in force in the end, so that a label that a person decided is no longer told.
"""

from collections.abc import Sequence

from cytolabe.reconcile.findings import finding_of
from cytolabe.records import Finding, LabelMapping

__all__ = ["OPEN_CODES", "open_findings"]

_RULE = "cytolabe/labels"
_TOLD = {
    "abstained": ("W-LABEL-08", "labels have no term: no match is trustworthy; their cells are not scored",
                  "give them a term in the mapping file and apply it"),
    "review": ("W-LABEL-09", "mappings wait for a person",
               "export the mapping file, confirm or correct the rows marked review, and apply it"),
    "reserved": ("N-LABEL-10", "labels name no cell type (reserved words or bare codes); never guessed",
                 "nothing, unless a code has a meaning: then declare it in the study file"),
}  # fmt: skip

OPEN_CODES = frozenset(code for code, _, _ in _TOLD.values())
"""Codes of these findings."""


def open_findings(mappings: Sequence[LabelMapping]) -> tuple[Finding, ...]:
    """Return for each data set what is open of its labels, those with the most cells x uncertainty first."""
    found = []
    for dataset_id in sorted({mapping.dataset_id for mapping in mappings}):
        own = [mapping for mapping in mappings if mapping.dataset_id == dataset_id]
        own.sort(key=lambda m: (-m.n_cells * (1000 - m.confidence), m.contributor_label))
        for decision, (code, *text) in _TOLD.items():
            shown = [_shown(mapping) for mapping in own if mapping.decision == decision]
            if shown:
                where = f"{dataset_id}: contributor_label"
                found.append(
                    finding_of(code, shown, text=(text[0], text[1]), where=where, n_total=len(own), rule=_RULE)
                )
    return tuple(found)


def _shown(mapping: LabelMapping) -> str:
    return f"{mapping.contributor_label!r} ({mapping.n_cells} cells)" + (f" -> {mapping.term}" if mapping.term else "")
