"""A stored totalVI answers a file: its genes and proteins are found in it by name, and libraries that the model never saw are mapped.

Nothing is trained. Cells of a library that the model was trained on are embedded as they are; those of other libraries are mapped first, with
their proteins, by scArches surgery from the seed of the model, so that the same file gives the same numbers in every process. Whether the file holds the very
cells of the training is known by a digest over all of their counts.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.errors import UnmeasuredGeneError, UsageError
from cytolabe.models.omics import Measured, OmicsCells
from cytolabe.models.totalvi import PROTEIN, FittedTotalvi, contents_digest
from cytolabe.models.totalvi_files import load_totalvi

__all__ = ["answering", "led_to", "open_model", "unused_folder"]


def open_model(folder: Path, *, options: dict[str, Any], seed: int, save: Path | None) -> FittedTotalvi:
    """Return a stored model, unless something is asked that only a training can give.

    Raises
    ------
    UsageError
        If options, a seed or a folder to save to are given: the model was trained with its own.
    UnreadableInputError, IntegrityError, RefusedError
        As `load_totalvi`.
    """
    given = [name for name, is_said in (("--option", options), ("--seed", seed), ("--save", save)) if is_said]
    if given:
        msg = f"{given[0]} does not go with --model {folder}: that model is trained, with its own options and seed. Leave one of the two out."
        raise UsageError(msg)
    return load_totalvi(folder)


def unused_folder(folder: Path) -> None:
    """Refuse a folder to save to that holds something, before hours of training.

    Raises
    ------
    UsageError
        If it is a file, or not empty.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        msg = f"--save {folder}: something lies there. Name a folder that is new or empty; a stored model is not replaced."
        raise UsageError(msg)


def led_to(stored: FittedTotalvi, cells: OmicsCells) -> tuple[FittedTotalvi, OmicsCells]:
    """Return the model over the genes of a file, and the cells with the model's proteins in its order.

    Raises
    ------
    UnmeasuredGeneError
        If the file did not measure a gene or a protein that the model reads.
    """
    protein = cells.modalities[PROTEIN]
    place = {name: column for column, name in enumerate(protein.features)}
    missing = [name for name in stored.proteins if name not in place]
    if missing:
        msg = (
            f"{len(missing)} of {len(stored.proteins)} proteins of the model were not measured here: {', '.join(missing[:5])}; the file has "
            f"{', '.join(protein.features[:5])}. An unmeasured protein is not a zero. Train on the proteins that both files measure."
        )
        raise UnmeasuredGeneError(msg)
    over = stored.over(cells.modalities["rna"].features)
    left = [name for name in protein.features if name not in stored.proteins]
    note = [f"{len(left)} proteins of the file are not read by the model: {', '.join(left[:5])}"] if left else []
    counts = protein.counts[:, [place[name] for name in stored.proteins]]
    read = Measured(counts=counts, features=stored.proteins, prefix=protein.prefix)
    modalities = {**cells.modalities, PROTEIN: read}
    return replace(over, notes=(*over.notes, *note)), replace(cells, modalities=modalities)


def answering(fitted: FittedTotalvi, train: OmicsCells, *, held_out: str, batch: str) -> FittedTotalvi:
    """Return the model that can answer the cells of a file: itself, or mapped onto the libraries that it never saw.

    Parameters
    ----------
    train
        The cells of the file, or with a library held out all others: these MUST be the cells of the training then.

    Raises
    ------
    UsageError
        If the model learned from the library that is held out, or others of the file are not what it was trained on; or the
        file names no libraries and is not the file of the training.
    """
    is_own = contents_digest(train) == fitted.contents
    if held_out:
        if held_out in fitted.trained:
            msg = f"--hold-out {held_out}: the model learned from a library of that name, its proteins included. Hold out one that it never saw."
            raise UsageError(msg)
        if not is_own:
            msg = (
                f"--hold-out {held_out}: the other {len(train.cell_ids):,} cells of the file are not those that the model was trained on, so regression and mean, the floors "
                "that learn from them, would not be comparable. Give the file of the training, or leave --model out."
            )
            raise UsageError(msg)
    if is_own:
        return fitted
    names = sorted(set(train.batches.astype(str).tolist()))
    met = [name for name in names if name in fitted.trained]
    if met and not batch:
        msg = (
            "The file is not the one that the model was trained on, and neither names its libraries: cells of another library would be read as of "
            "the same one. Say with --batch which column of obs names the library."
        )
        raise UsageError(msg)
    if met:
        note = f"QUALIFIED: not the cells of the training; read as of the same libraries by their names: {', '.join(met[:5])}"
        fitted = replace(fitted, notes=(*fitted.notes, note))
    is_new = ~np.isin(train.batches.astype(str), fitted.trained)
    if not is_new.any():
        return fitted
    unseen = sorted(set(train.batches[is_new].astype(str).tolist()))
    note = f"mapped onto {len(unseen)} libraries that the model never saw, on their unlabelled cells: {', '.join(unseen[:5])}"
    mapped = fitted.map_query(train.take(np.flatnonzero(is_new)))
    return replace(mapped, notes=(*mapped.notes, note))
