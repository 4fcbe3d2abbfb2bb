"""What contributors wrote, read: labels to Cell Ontology terms, donor strings to persons."""

from cytolabe.reconcile.labels import StudyContext, count_unlabelled, label_table, reconcile_labels
from cytolabe.reconcile.persons import DeclaredPerson, PairStates, pair_states, resolve_persons
from cytolabe.reconcile.review import apply_review
from cytolabe.reconcile.sssom import read_sssom, write_sssom

__all__ = [
    "DeclaredPerson",
    "PairStates",
    "StudyContext",
    "apply_review",
    "count_unlabelled",
    "label_table",
    "pair_states",
    "read_sssom",
    "reconcile_labels",
    "resolve_persons",
    "write_sssom",
]
