"""The mapper measured: tables of labels with an expert's term, who may teach what, and the scores."""

from cytolabe.reconcile.scored.scoring import FURTHER_PROTOCOLS, score_table
from cytolabe.reconcile.scored.tables import LabelTable, label_table_of, read_label_table

__all__ = ["FURTHER_PROTOCOLS", "LabelTable", "label_table_of", "read_label_table", "score_table"]
