"""A user's table of genes and their classes: read once, every gene by its id of the reference, and every fault counted.

Columns `gene` (Ensembl id or symbol of the primary release) and `class`, and maybe `group` (paralogs, a complex: they stay
in one fold), in a file of tabs or commas. A name that no gene or several genes have is left out and told; a gene that the
table puts into two classes, or two groups, refuses the table.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cytolabe.errors import RefusedError, UsageError
from cytolabe.genes.reference import GeneReference

__all__ = ["GeneTable", "read_gene_table"]

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class GeneTable:
    """Genes by id: their class, the group of those that have one, and the names that mean no gene, or several."""

    labels: Mapping[str, str]
    groups: Mapping[str, str]
    unknown: tuple[str, ...]
    ambiguous: tuple[str, ...]


def read_gene_table(path: Path, reference: GeneReference) -> GeneTable:
    """Read a table of classes of genes.

    Raises
    ------
    UsageError
        If it cannot be read, or lacks a column.
    RefusedError
        If a row has no gene or no class, or a gene has several classes or groups; the message counts them.
    """
    rows = _rows(path)
    empty = [number for number, row in enumerate(rows, start=2) if not row["gene"] or not row["class"]]
    if empty:
        msg = (
            f"{path.name}: {len(empty)} of {len(rows)} rows have no gene or no class, the first in line {empty[0]}. A gene without a "
            "label is in no class: leave it out."
        )
        raise RefusedError(msg)
    unknown: list[str] = []
    ambiguous: list[str] = []
    classes: dict[str, dict[str, None]] = {}
    groups: dict[str, dict[str, None]] = {}
    for row in rows:
        found = _ids(row["gene"], reference)
        if len(found) != 1:
            (ambiguous if found else unknown).append(row["gene"])
            continue
        classes.setdefault(found[0], {})[row["class"]] = None
        if row["group"]:
            groups.setdefault(found[0], {})[row["group"]] = None
    for word, many in (("classes", classes), ("groups", groups)):
        clashing = sorted(gene for gene, words in many.items() if len(words) > 1)
        if clashing:
            shown = "; ".join(f"{gene}: {', '.join(many[gene])}" for gene in clashing[:_SHOWN])
            msg = (
                f"{path.name}: {len(clashing)} of {len(classes)} genes have several {word} ({shown}). A gene has one; "
                "which is right cannot be guessed: correct the table."
            )
            raise RefusedError(msg)
    return GeneTable(
        labels={gene: next(iter(words)) for gene, words in classes.items()},
        groups={gene: next(iter(words)) for gene, words in groups.items()},
        unknown=tuple(unknown), ambiguous=tuple(ambiguous),
    )  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        # A line ends with \n or \r\n: other separators of Unicode (\x0b, \x1c, \u2028) may stand in the name of a class.
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
        reader = csv.DictReader((f"{line}\n" for line in lines), delimiter="\t" if "\t" in lines[0] else ",")
        names, found = reader.fieldnames or (), list(reader)
    except (OSError, ValueError, csv.Error) as error:
        msg = f"{path}: the table of genes cannot be read ({error})."
        raise UsageError(msg) from None
    lacking = sorted({"gene", "class"} - set(names))
    if lacking:
        msg = f"{path}: the table of genes has no column {' and no column '.join(lacking)}. Needed are gene and class; group may be there."
        raise UsageError(msg)
    return [{name: (row.get(name) or "").strip() for name in ("gene", "class", "group")} for row in found]


def _ids(name: str, reference: GeneReference) -> tuple[str, ...]:
    unversioned = name.upper().split(".", 1)[0]
    if unversioned.startswith(reference.id_prefix):
        # A model may know an id that the reference has retired.
        return (unversioned,)
    return tuple(reference.primary.ids_of.get(name, ()))
