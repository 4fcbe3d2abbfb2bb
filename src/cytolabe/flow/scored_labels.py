"""A table of labels scored: what `cytolabe reconcile --score` runs, from files to one document.

Three teachers can stand behind the headline, and `taught_by` of the document says which: `table` (each study of the table
is answered by a model of its others), `train` (a table that was given) or `package` (the model of the package, which has
seen nobody's table). `shipped` holds the scores of the last one in every case.
"""

from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.scored import FURTHER_PROTOCOLS, LabelTable, read_label_table, score_table

__all__ = ["BASES", "score_labels"]

BASES = ("auto", "shipped")
"""What the headline may rest on: the best teacher that there is, or the model of the package whatever else there is."""

_NO_TEACHERS = LabelTable(label=(), term=(), source=(), family=(), tissue=())
"""Whoever learns from nobody is answered by the model of the package."""


def score_labels(table: Path, *, train: Path | None = None, basis: str = "auto") -> dict[str, object]:
    """Score the mapper on a table of labels and terms.

    Parameters
    ----------
    table
        The rows to score, with the columns `author_label, cl_id, source, src_family, tissue`.
    train
        Rows to learn from. Without it a table of many studies teaches itself, each study by the others; a smaller
        one is scored with the model of the package.
    basis
        One of `BASES`: `shipped` has the model of the package answer a table that could teach itself as well.

    Raises
    ------
    UsageError
        If the basis is another word, or the model of the package is asked to learn from `train`.
    """
    if basis not in BASES:
        msg = f"--basis {basis}: there is {' and '.join(BASES)}."
        raise UsageError(msg)
    if basis == "shipped" and train is not None:
        msg = "--basis shipped asks for the model of the package, which learns from no table; leave out --train or --basis."
        raise UsageError(msg)
    ontology = load_ontology("CL")
    scored = read_label_table(table, ontology=ontology)
    if basis == "shipped":
        document = score_table(scored, ontology=ontology, train=_NO_TEACHERS) | {"basis": "shipped", "folds": []}
        return _told(document, "package")
    teachers = (
        None if train is None or train.resolve() == table.resolve() else read_label_table(train, ontology=ontology)
    )
    document = score_table(scored, ontology=ontology, train=teachers, protocols=FURTHER_PROTOCOLS)
    taught_itself = "package" if document["basis"] == "shipped" else "table"
    return _told(document, taught_itself if teachers is None else "train")


def _told(document: dict[str, object], taught_by: str) -> dict[str, object]:
    return {"basis": document["basis"], "taught_by": taught_by, **document}
