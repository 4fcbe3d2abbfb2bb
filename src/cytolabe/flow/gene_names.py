"""Genes as people name them: by the symbol of the reference's primary release, or by Ensembl id with or without version."""

from difflib import get_close_matches

from cytolabe.errors import UsageError
from cytolabe.genes.reference import GeneReference

__all__ = ["gene_id"]


def gene_id(name: str, reference: GeneReference) -> str:
    """Return the Ensembl id that a name stands for.

    Raises
    ------
    UsageError
        If a symbol is no gene of the reference, or several.
    """
    unversioned = name.upper().split(".", 1)[0]
    if unversioned.startswith(reference.id_prefix):
        return unversioned
    symbols = reference.primary.ids_of
    ids = symbols.get(name, ())
    if len(ids) == 1:
        return ids[0]
    if ids:
        msg = f"{name} names {len(ids)} genes: {', '.join(ids[:5])}. Give the id of the one that is meant."
        raise UsageError(msg)
    close = get_close_matches(name, symbols, n=1, cutoff=0.75)
    hint = f"; did you mean {close[0]}?" if close else "."
    msg = f"{name} is no gene of {reference.name}{hint} Genes are named by symbol or Ensembl id."
    raise UsageError(msg)
