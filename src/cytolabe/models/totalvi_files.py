"""totalVI on disk (`stored`): the model as it was trained, with the genes and proteins that it reads, in their order, and its libraries.

A model that was mapped to a query is not stored: weights of libraries that it never saw were fitted on the unlabelled cells of one file, and
whoever opened the folder would take them for the model. What was trained is stored, and a query is mapped onto it again.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cytolabe.errors import RefusedError
from cytolabe.models.cards import TOTALVI_CARD
from cytolabe.models.stored import StoredKind, described, open_stored, scopes_of, weights_digest, write_stored
from cytolabe.models.totalvi import FittedTotalvi, Totalvi, blank_totalvi
from cytolabe.records import FitScope, ModelCard

__all__ = ["TOTALVI_KIND", "load_totalvi", "save_totalvi", "totalvi_card"]

TOTALVI_KIND = StoredKind(
    model="totalvi",
    format="cytolabe-totalvi-1",
    description_name="totalvi.json",
    features={"dictionary.genes": "genes", "dictionary.proteins": "proteins"},
)
"""How a stored totalVI is told from others."""

_MAPPED = "totalvi/query"


def totalvi_card(fitted: FittedTotalvi) -> ModelCard:
    """Return the card that a trained totalVI has, stored or not."""
    return replace(TOTALVI_CARD, scopes=fitted.scopes, weights_digest=weights_digest(fitted.model))


def save_totalvi(fitted: FittedTotalvi, directory: Path) -> ModelCard:
    """Write a trained totalVI into a directory and return its card, with the digest of its weights.

    Raises
    ------
    RefusedError
        If it was mapped to a query.
    ConflictError
        If the directory holds another model.
    """
    _refuse_mapped(fitted.scopes, "this totalVI")
    settings = fitted.settings
    description = {
        # Genes of the file that the model does not read are no part of it.
        "genes": fitted.read_genes,
        "proteins": fitted.proteins,
        "batches": fitted.trained,
        "settings": {name: getattr(settings, name) for name in Totalvi.__dataclass_fields__ if name != "inputs"},
        "seed": fitted.seed,
        "contents": fitted.contents,
        "scopes": fitted.scopes,
        "notes": fitted.notes,
    }
    about = (totalvi_card(fitted), fitted.facts)
    return write_stored(directory, TOTALVI_KIND, model=fitted.model, description=description, about=about)


def load_totalvi(directory: Path) -> FittedTotalvi:
    """Read a trained totalVI that `save_totalvi` wrote; it is over the genes that it reads (`over` leads it to those of a file).

    Raises
    ------
    UnreadableInputError
        If the description or the card is missing, is not JSON, is of another format or lacks a part.
    IntegrityError
        If the card is of another model, genes, proteins, description or weights are not those of the card, or the weights do not fit
        the described network exactly.
    RefusedError
        If it was mapped to a query.
    """
    stored = open_stored(directory, TOTALVI_KIND)
    said = stored.description
    with described(TOTALVI_KIND):
        settings = Totalvi(**said["settings"])
        genes, proteins, batches = tuple(said["genes"]), tuple(said["proteins"]), tuple(said["batches"])
        seed, contents = int(said["seed"]), str(said["contents"])
        scopes, notes = scopes_of(said), tuple(said["notes"])
    _refuse_mapped(scopes, str(directory / TOTALVI_KIND.description_name))
    model = blank_totalvi(settings, genes=genes, proteins=proteins, batches=batches)
    stored.fill(model)
    return FittedTotalvi(
        genes=genes, proteins=proteins, columns=np.arange(len(genes)), batches=batches, trained=batches, settings=settings,
        model=model, seed=seed, contents=contents, scopes=scopes, notes=notes,
    )  # fmt: skip


def _refuse_mapped(scopes: tuple[FitScope, ...], what: str) -> None:
    mapped = [scope for scope in scopes if scope.step == _MAPPED]
    if mapped:
        msg = (
            f"{what} was mapped to {mapped[0].n_cells} cells of a query: weights of their libraries were fitted on these cells, unlabelled, and the folder would pass "
            "for the model that was trained. Store the model before it is mapped; a query is mapped onto the stored one again."
        )
        raise RefusedError(msg)
