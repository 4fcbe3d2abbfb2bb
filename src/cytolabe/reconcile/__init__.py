"""What contributors wrote, read: labels to Cell Ontology terms, donor strings to persons."""

from cytolabe.reconcile.directions import lint_directions
from cytolabe.reconcile.drift import release_findings
from cytolabe.reconcile.imports import read_import
from cytolabe.reconcile.justifications import Justification, justify_labels
from cytolabe.reconcile.labels import StudyContext, count_unlabelled, label_table, reconcile_labels
from cytolabe.reconcile.memory import Memory, memory_of
from cytolabe.reconcile.persons import DeclaredPerson, PairStates, pair_states, resolve_persons
from cytolabe.reconcile.review import apply_review, keep_reviewed, review_queue
from cytolabe.reconcile.sssom import read_justifications, read_sssom, write_sssom

__all__ = [
    "DeclaredPerson",
    "Justification",
    "Memory",
    "PairStates",
    "StudyContext",
    "apply_review",
    "count_unlabelled",
    "justify_labels",
    "keep_reviewed",
    "label_table",
    "lint_directions",
    "memory_of",
    "pair_states",
    "read_import",
    "read_justifications",
    "read_sssom",
    "reconcile_labels",
    "release_findings",
    "resolve_persons",
    "review_queue",
    "write_sssom",
]
