"""How the scores of a label table are told."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from cytolabe.cli.output import print_document, print_table

__all__ = ["tell_scores"]

_MEASURES = ("hit_at_1", "hit_at_5", "lineage_compatible")
_TAUGHT_BY = {
    "table": "each study of this table answered by a model of its other studies; not the model of the package",
    "train": "a model of the studies of --train; not the model of the package",
    "package": "the model of the package, which has seen nobody's table",
}


def tell_scores(table: Path, *, train: Path | None, basis: str, as_json: bool) -> int:
    """Score a table of labels and print the document, or its tables."""
    from cytolabe.flow.scored_labels import score_labels

    document = score_labels(table, train=train, basis=basis)
    if as_json:
        print_document(document)
        return 0
    protocols, baselines = _section(document, "protocols"), _section(document, "baselines")
    rows = [*baselines.items(), ("model of the package (shipped)", document["shipped"]), *protocols.items()]
    rows.append((f"headline: {document['basis']}", document))
    rows.append(("  its labels that are CL names", document["verbatim_names"]))
    rows.append(("  its other labels", document["without_verbatim_names"]))
    print_table(
        ["mapper", "rows", "hit@1", "hit@5", "lineage", "macro hit@1", "macro hit@5"], [_row(*row) for row in rows]
    )
    _tell_teachers(document)
    floor, ceiling = _section(document, "floor"), _section(document, "ceiling")
    between = _section(ceiling, "other_family")
    typer.echo(f"floor ({floor['term']}): exact {floor['hit_at_1']}, lineage {floor['lineage_compatible']}")
    typer.echo(
        f"ceiling (two curators of different families, {between['n_pairs']} pairs): exact {between['exact']}, "
        f"lineage {between['lineage_compatible']}"
    )
    auto = _section(document, "auto")
    typer.echo(
        f"accepted: coverage {auto['coverage']}, exact {auto['exact']}, lineage {auto['lineage_compatible']}; "
        f"calibration error {document['ece']}, of the lineage {document['ece_lineage']}"
    )
    aside = _section(document, "rows_set_aside")
    typer.echo(f"set aside: {aside['unusable']} rows; replaced ids: {aside['replaced_ids']}")
    curve = _entries(document, "precision_at_coverage")
    print_table(["most certain share", "exact", "lineage"], [list(point.values()) for point in curve])
    return 0


def _tell_teachers(document: Mapping[str, object]) -> None:
    """Say who taught the headline, and how many of its rows had no teachers."""
    typer.echo(f"headline: {_TAUGHT_BY[str(document['taught_by'])]}")
    folds = _entries(document, "folds")
    untaught = sum(int(str(fold["n"])) for fold in folds if not fold["n_train"])
    if untaught:
        typer.echo(f"  {untaught} of {document['n']} rows had too few teachers: the model of the package answered them")


def _row(name: str, measures: object) -> list[object]:
    if not isinstance(measures, Mapping) or not measures["n"]:
        return [name, 0, None, None, None, None, None]
    macro = _section(measures, "macro")
    return [name, measures["n"], *(measures[m] for m in _MEASURES), macro["hit_at_1"], macro["hit_at_5"]]


def _section(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = document[name]
    return found if isinstance(found, Mapping) else {}


def _entries(document: Mapping[str, object], name: str) -> Sequence[Mapping[str, object]]:
    found = document[name]
    return found if isinstance(found, list) else []
