"""A user's table of gene aliases, for names that are older than every shipped release.

Text with two columns, separated by tabs or commas, with the header `alias` and `gene`; `gene` is an Ensembl id or a
symbol of the reference. The caller records the digest: another table can give another atlas.
"""

import csv
import hashlib
import io
from pathlib import Path

from cytolabe.errors import UsageError

__all__ = ["read_alias_table"]

_HEADER = ["alias", "gene"]


def read_alias_table(path: Path) -> tuple[dict[str, str], str]:
    """Return alias -> gene, and the SHA-256 of the file's bytes (`sha256:` and 64 digits).

    Raises
    ------
    UsageError
        If the file is missing or no such table, or if an alias stands for two genes.
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
    delimiter = "\t" if "\t" in first else ","
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    if not rows or [field.strip() for field in rows[0]] != _HEADER:
        msg = f"{path}: the first line must be 'alias' and 'gene', separated by a tab or a comma; found {first[:60]!r}."
        raise UsageError(msg)
    return _aliases(rows[1:], path), "sha256:" + hashlib.sha256(content).hexdigest()


def _aliases(rows: list[list[str]], path: Path) -> dict[str, str]:
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
