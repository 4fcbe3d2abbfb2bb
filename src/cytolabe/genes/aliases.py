"""A user's table of gene aliases, for names that are older than every shipped release.

Two forms are read. Text with two columns, separated by tabs or commas, with the header `alias` and `gene`; `gene` is an
Ensembl id or a symbol of the reference, and an alias with two genes is refused, because somebody wrote it by hand. And
the complete set of HGNC as it is published (or a download from its site with the same columns), whose previous and
alias symbols lead to the Ensembl id of their gene; a symbol of several genes is left out and counted, because it is
ambiguous in fact. A previous symbol goes before an alias.

The caller records the digest: another table can give another atlas.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolabe.errors import UsageError

__all__ = ["AliasTable", "read_alias_table"]

_HEADER = ["alias", "gene"]
_PREVIOUS = ("prev_symbol", "previous symbols")
_ALIASES = ("alias_symbol", "alias symbols")
_IDS = ("ensembl_gene_id", "ensembl gene id", "ensembl id(supplied by ensembl)")
_STATUS = "status"


@dataclass(frozen=True, kw_only=True)
class AliasTable:
    """Alias -> gene, and the SHA-256 of the file's bytes (`sha256:` and 64 digits).

    `n_ambiguous` names of a nomenclature stand for several genes and are left out.
    """

    genes: Mapping[str, str]
    digest: str
    n_ambiguous: int = 0


def read_alias_table(path: Path) -> AliasTable:
    """Read a table of aliases; the header says which of the two forms it has.

    Raises
    ------
    UsageError
        If the file is missing or no such table, or if an alias that was written by hand stands for two genes.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        msg = f"{path}: there is no such alias table."
        raise UsageError(msg) from None
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text ({error.reason} at byte {error.start})."
        raise UsageError(msg) from None
    first = text.splitlines()[0] if text.strip() else ""
    rows = list(csv.reader(io.StringIO(text), delimiter="\t" if "\t" in first else ","))
    header = [field.strip().lower() for field in rows[0]] if rows else []
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if header == _HEADER:
        return AliasTable(genes=_by_hand(rows[1:], path), digest=digest)
    places = [_place(header, names) for names in (_PREVIOUS, _ALIASES, _IDS)]
    if min(places) < 0:
        msg = (
            f"{path}: the first line must be 'alias' and 'gene', separated by a tab or a comma, or that of the complete "
            f"set of HGNC ({_PREVIOUS[0]}, {_ALIASES[0]}, {_IDS[0]}); found {first[:60]!r}."
        )
        raise UsageError(msg)
    approved = [row for row in rows[1:] if _STATUS not in header or _field(row, header.index(_STATUS)) == "Approved"]
    genes, n_ambiguous = _of_nomenclature(approved, places)
    return AliasTable(genes=genes, digest=digest, n_ambiguous=n_ambiguous)


def _by_hand(rows: list[list[str]], path: Path) -> dict[str, str]:
    """Return the mapping, refusing rows that leave a gene open."""
    aliases: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        fields = [field.strip() for field in row]
        if not any(fields):
            continue
        if len(fields) != len(_HEADER) or not all(fields):
            msg = f"{path}, line {number}: two filled fields are needed, found {row!r}."
            raise UsageError(msg)
        alias, gene = fields
        if aliases.setdefault(alias, gene) != gene:
            msg = f"{path}, line {number}: {alias!r} stands for {aliases[alias]!r} and {gene!r}; keep one of them."
            raise UsageError(msg)
    return aliases


def _of_nomenclature(rows: Sequence[list[str]], places: Sequence[int]) -> tuple[dict[str, str], int]:
    """Return the symbols that lead to one gene, and how many lead to several."""
    owners: list[dict[str, set[str]]] = [{}, {}]
    for row in rows:
        gene_id = _field(row, places[2])
        for found, place in zip(owners, places, strict=False):
            for name in _names(_field(row, place)) if gene_id else ():
                found.setdefault(name, set()).add(gene_id)
    previous, others = owners
    merged = {**others, **previous}
    return {name: min(ids) for name, ids in merged.items() if len(ids) == 1}, sum(len(i) > 1 for i in merged.values())


def _names(field: str) -> Iterator[str]:
    """Yield the symbols of a field of HGNC: joined by `|` in its files, by `, ` in downloads from its site."""
    yield from filter(None, (name.strip(' "') for name in field.replace(", ", "|").split("|")))


def _place(header: Sequence[str], names: Sequence[str]) -> int:
    return next((header.index(name) for name in names if name in header), -1)


def _field(row: Sequence[str], place: int) -> str:
    return row[place].strip() if place < len(row) else ""
