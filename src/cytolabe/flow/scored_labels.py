"""A table of labels scored: what `cytolabe reconcile --score` runs, from files to one document."""

from pathlib import Path

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.scored import FURTHER_PROTOCOLS, read_label_table, score_table

__all__ = ["score_labels"]


def score_labels(table: Path, *, train: Path | None = None) -> dict[str, object]:
    """Score the mapper on a table of labels and terms.

    Parameters
    ----------
    table
        The rows to score, with the columns `author_label, cl_id, source, src_family, tissue`.
    train
        Rows to learn from. Without it a table of many studies teaches itself, each study by the others; a smaller
        one is scored with the model of the package.
    """
    ontology = load_ontology("CL")
    scored = read_label_table(table, ontology=ontology)
    teachers = (
        None if train is None or train.resolve() == table.resolve() else read_label_table(train, ontology=ontology)
    )
    return score_table(scored, ontology=ontology, train=teachers, protocols=FURTHER_PROTOCOLS)
