"""`cytolabe annotate --model scanvi`: a stored scANVI, calibrated on atlas cells that it never read.

A model that is fitted here is held to persons that were left out of its fit. A stored one was fitted before, labels and all, and would be
sure of the cells that it read. So the folder has to prove which these are: it has the split that it was trained by, the split gives the
same rows of this snapshot, and their digest is the one in the card. Held out are then the labelled cells of nobody who was read:
no training cell, no copy of one, no known person of theirs, and no library that has one, all of the test side. Where nothing proves it, there is no annotation.

Held-out cells are mapped data set by data set, each as one new batch, as the file is (`apply.stored_annotator`). Nothing is fitted again, so no type can be left
out and asked for.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from cytolabe.apply.stored_annotator import MAX_MAPPED_CELLS, MappedScanvi, StoredReference, stored_reference
from cytolabe.apply.views import query_view
from cytolabe.errors import IntegrityError, RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.evaluate.cell_tasks import CELL_TYPE
from cytolabe.evaluate.held_out import Laboratory
from cytolabe.evaluate.reference_cells import ReferenceCells, reference_cells
from cytolabe.flow.pretrain_scanvi import SPLIT_NAME
from cytolabe.flow.query_file import GeneGate, QueryFile
from cytolabe.flow.splits import chosen_fold
from cytolabe.flow.task_labels import labels_of_tasks
from cytolabe.models.protocols import TECHNICAL_COLUMNS, QueryView
from cytolabe.models.registry import make_model
from cytolabe.models.scanvi_source import StoredScanviAnnotator
from cytolabe.models.scopes import batch_levels, has_counts
from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.hierarchy import hierarchy_of
from cytolabe.provenance import cells_digest
from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN, Fold
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.split import read_split

__all__ = [
    "NOT_LEFT_OUT",
    "NOT_MOVED",
    "StoredLaboratory",
    "StoredSides",
    "laboratory_of",
    "mapped_query",
    "refuse_unmeasured",
    "stored_annotator",
    "stored_sides",
    "unread_reference",
]

NOT_LEFT_OUT = "types left out of training and asked for: a stored model is not fitted again"

NOT_MOVED = (
    "answers for a data set that the atlas does not have, as a number of its own: held-out cells of a data set are mapped together already, and "
    "--hold-out dataset calibrates on data sets of which nothing was read"
)

_NO_TYPE = "a type that the stored model does not have"
_BLOCK_CELLS = 4096
_ANOTHER = "Train one on a split of this snapshot (cytolabe train scanvi), or choose the snapshot with --snapshot."


def stored_annotator(model: str, options: Mapping[str, object]) -> StoredScanviAnnotator | None:
    """Return the stored model that options name; None where they name none, and a model is fitted here."""
    if model != "scanvi" or not options.get("checkpoint"):
        return None
    made = make_model(model, **options)
    return made if isinstance(made, StoredScanviAnnotator) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredSides:
    """What a stored scANVI has read of a snapshot: its training cells, their labels at its level (empty: none), and the cells of nobody who was read."""

    annotator: StoredScanviAnnotator
    train_rows: np.ndarray
    labels: np.ndarray
    """Label at the level of the training, of every cell of the snapshot; empty where there is none."""
    unread: np.ndarray
    """Mask over the cells of the snapshot."""


def stored_sides(
    frozen: Snapshot, folder: Path, annotator: StoredScanviAnnotator, *, pairs: pd.DataFrame, held_out: str = "person"
) -> StoredSides:
    """Find out which cells of a snapshot a stored scANVI has read; with `held_out` of `dataset` nothing of their data sets is unread.

    Raises
    ------
    UsageError
        If the folder does not say on which cells it was trained, it was trained on another snapshot, or its classes are no cell types.
    IntegrityError
        If its split is not the one that it was trained by, or gives other cells than the card names.
    """
    said = annotator.stored.training
    path = folder / SPLIT_NAME
    if not said.get("split") or not path.is_file():
        msg = (
            f"{folder} does not say by which split it was trained ({SPLIT_NAME}). Nobody that it has read could be told from those that are held out, and a "
            f"confidence that is calibrated on cells that it has read is none. {_ANOTHER}"
        )
        raise UsageError(msg)
    found = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    if found != said["split"]:
        msg = (
            f"{path} has the digest {found}; the model was trained by {said['split']}. Take the folder as it was saved."
        )
        raise IntegrityError(msg)
    if said["task"] != CELL_TYPE:
        msg = f"{folder} answers {said['task']}; annotate answers terms of the Cell Ontology. Train one with --task {CELL_TYPE}."
        raise UsageError(msg)
    if said["snapshot_id"] != frozen.snapshot_id:
        msg = (
            f"{folder} was trained on snapshot {said['snapshot_id']}, and this is {frozen.snapshot_id}: which of these cells it has read is not known, and "
            f"they could not be held out. {_ANOTHER}"
        )
        raise UsageError(msg)
    fold = chosen_fold(read_split(path, frozen), str(said["split_id"]))
    rows = np.sort(fold.train_rows)
    digest = cells_digest(frozen.cells["cell_id"].to_numpy(dtype=object)[rows].tolist())
    if digest not in {scope.cells_digest for scope in annotator.stored.scopes}:
        msg = f"{path} gives {len(rows):,} training cells (digest {digest}) that the card does not name. Take the folder as it was saved."
        raise IntegrityError(msg)
    (task,) = labels_of_tasks(frozen, (CELL_TYPE,), level=str(said["level"]))
    return StoredSides(
        annotator=annotator, train_rows=rows, labels=task.labels,
        unread=_unread(frozen.cells, fold, pairs=pairs, held_out=held_out),
    )  # fmt: skip


def _unread(cells: pd.DataFrame, fold: Fold, *, pairs: pd.DataFrame, held_out: str) -> np.ndarray:
    """Tell which cells of the test side are of nobody who was read.

    A copy of a cell that was read was read, too, and proves that its library and its person were (rule R8). In a library of which cells
    without a known person were read, a known person may be one of them.
    """
    is_read = np.zeros(len(cells), dtype=bool)
    is_read[fold.train_rows] = True
    copies = pairs[["a_row", "b_row"]].to_numpy(dtype=np.int64)
    is_read[copies[is_read[copies].any(axis=1)].ravel()] = True
    persons = cells["person_id"].to_numpy(dtype=object)
    is_known = (cells["person_state"] == "resolved").to_numpy(dtype=bool) & (persons != UNKNOWN)
    libraries = batch_levels(cells)
    touched = is_read | (is_known & _among(persons, is_read & is_known))
    touched |= np.where(is_known, _among(libraries, is_read & ~is_known), _among(libraries, is_read))
    if held_out == "dataset":
        touched |= _among(cells["dataset_id"].to_numpy(dtype=object), is_read)
    is_test = np.zeros(len(cells), dtype=bool)
    is_test[fold.test_rows] = True
    return np.asarray(is_test & ~touched)


def _among(words: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Tell which words are those of some chosen cells."""
    return np.isin(words.astype(str), sorted({str(one) for one in words[chosen]}))


def unread_reference(
    frozen: Snapshot,
    sides: StoredSides,
    *,
    rows: np.ndarray,
    pairs: pd.DataFrame,
    ontology: Ontology,
    held_out: str,
) -> ReferenceCells:
    """Choose the labelled cells that a stored scANVI is held to: among `rows` those of nobody whom it has read, under labels at its level.

    Raises
    ------
    RefusedError
        If there are none, or they are of one person or what stands for one.
    """
    own = rows[sides.unread[rows]]
    remedy = "Train it on a split whose test side has labelled cells of two persons at least (cytolabe split, cytolabe train scanvi)."
    if not len(own):
        msg = f"The stored scANVI has read everybody of the {len(rows):,} atlas cells, or they are not of the test side: nobody is left to calibrate it on. {remedy}"
        raise RefusedError(msg)
    n_other = 0
    try:
        while True:
            found = reference_cells(frozen, rows=own, pairs=pairs, ontology=ontology, held_out=held_out)
            terms, is_known = _at_level(found, sides, ontology=ontology)
            if is_known.all():
                break
            # Chosen anew: units, folds and what is said of them are those of the cells that stay.
            n_other, own = n_other + int((~is_known).sum()), np.setdiff1d(own, found.rows[~is_known])
    except RefusedError as error:
        beside = f" {n_other:,} others are of a type that it does not have." if n_other else ""
        msg = f"Of {len(rows):,} atlas cells, {len(own):,} are of nobody whom the stored scANVI has read, and it can be calibrated on these alone.{beside} {error} {remedy}"
        raise RefusedError(msg) from None
    left_out = {**found.left_out, **({_NO_TYPE: n_other} if n_other else {})}
    return dataclasses.replace(found, terms=terms, left_out=left_out)


def _at_level(reference: ReferenceCells, sides: StoredSides, *, ontology: Ontology) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of reference cells at the level of the stored model, and which of them stand for types that it has."""
    at_level = sides.labels[reference.rows]
    terms = np.where(at_level != "", at_level, reference.terms)
    tree = hierarchy_of(terms.tolist(), ontology=ontology, classes=sides.annotator.stored.classes)
    return terms, np.isin(terms.astype(str), tree.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredLaboratory(Laboratory):
    """Scores of the reference cells by a model that has read none of them; no fit is made."""

    stored: StoredReference
    scored: tuple[np.ndarray, np.ndarray]

    def fit(self, chosen: np.ndarray) -> MappedScanvi:  # noqa: ARG002 - nothing is fitted
        """Return the stored model."""
        return self.stored.bare

    def scores(self, model: object, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002 - of one model
        """Return scores and distances of some of the reference cells, each mapped with its data set."""
        return self.scored[0][chosen], self.scored[1][chosen]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of how it was held to cells."""
        n_read = next(scope.n_cells for scope in self.stored.annotator.stored.scopes)
        return (
            f"the stored scANVI was trained on {n_read:,} atlas cells and their labels; held out are {len(self.reference.rows):,} others of the test side, none an identical copy of these or of a person known to be among them",
            "held-out cells were mapped data set by data set, each as one new batch, as this file is",
        )


def laboratory_of(
    frozen: Snapshot,
    sides: StoredSides,
    base: Laboratory,
    *,
    candidates: np.ndarray,
    on_progress: Callable[[str], None],
) -> StoredLaboratory:
    """Map every data set that holds reference cells, and score these.

    Parameters
    ----------
    base
        The laboratory of a model that would be fitted here: snapshot, reference cells, genes.
    candidates
        Rows of the snapshot that nobody read, labelled or not: those of a data set are mapped together, as the cells of a file are.
    """
    plan, reference = base.plan, base.reference
    stored = stored_reference(
        base.snapshot, sides.annotator, rows=sides.train_rows, labels=_learned(sides), seed=plan.seed
    )  # fmt: skip
    scores, distance = np.full((len(reference.rows), len(plan.classes)), -np.inf), np.zeros(len(reference.rows))
    places, of_reference = frozen.locate(candidates)[0], frozen.locate(reference.rows)[0]
    for number in np.unique(of_reference):
        on_progress(f"mapping held-out data set {list(frozen.entries)[number]}")
        own = candidates[places == number]
        some = _drawn(len(own), plan.seed)
        model = stored.mapped(query_view(base.snapshot, own[some], genes=stored.bare.genes))
        inside = np.flatnonzero(of_reference == number)
        for start in range(0, len(inside), _BLOCK_CELLS):
            block = inside[start : start + _BLOCK_CELLS]
            scores[block], distance[block] = model.annotate(
                query_view(base.snapshot, reference.rows[block], genes=stored.bare.genes)
            )
    return StoredLaboratory(
        snapshot=base.snapshot, reference=reference, plan=plan, ontology=base.ontology, stored=stored, scored=(scores, distance)
    )  # fmt: skip


def _learned(sides: StoredSides) -> np.ndarray:
    """Return the labels of the training cells by which distances inside a type are told; those of no class teach nothing of them."""
    labels = sides.labels[sides.train_rows]
    return np.where(np.isin(labels.astype(str), sides.annotator.stored.classes), labels, "").astype(object)


def _drawn(n_cells: int, seed: int) -> np.ndarray:
    """Return the places of the cells that the weights of a batch are fitted on, ascending."""
    if n_cells <= MAX_MAPPED_CELLS:
        return np.arange(n_cells)
    return np.sort(rng_for(seed, "annotate", "mapped").choice(n_cells, MAX_MAPPED_CELLS, replace=False))


def refuse_unmeasured(query: QueryFile, gate: GeneGate, genes: tuple[str, ...]) -> None:
    """Refuse a file that lacks a gene which the stored model reads.

    Raises
    ------
    UnmeasuredGeneError
        If one is lacking: what was not measured is not zero, and a stored model cannot be fitted on fewer.
    """
    missing = sorted(set(genes) - set(gate.genes))
    if missing:
        msg = (
            f"{query.path.name} lacks {len(missing)} of {len(genes)} genes that the stored scANVI reads: {', '.join(missing[:5])}. What was not measured is "
            "not zero, and a stored model cannot leave a gene out. Choose a model that is fitted on the genes that both measure, such as --model pca."
        )
        raise UnmeasuredGeneError(msg)


def mapped_query(
    query: QueryFile, laboratory: StoredLaboratory, *, on_progress: Callable[[str], None]
) -> tuple[MappedScanvi, str]:
    """Map the file onto the stored model, and say how much its answers depend on which cells are in it (rule R13)."""
    genes, chosen = laboratory.stored.bare.genes, _drawn(query.n_cells, laboratory.plan.seed)
    on_progress(f"mapping {len(chosen):,} of {query.n_cells:,} cells of {query.path.name}")
    kept, n_done = [], 0
    for counts in query.blocks(genes):
        kept.append(counts[chosen[(chosen >= n_done) & (chosen < n_done + counts.shape[0])] - n_done])
        n_done += counts.shape[0]
    counts = vstack(kept, format="csr")
    filled = has_counts(counts)
    view = _cells_of_file(chosen[filled], csr_matrix(counts[filled]), genes)
    model = laboratory.stored.mapped(view)
    return model, _composition(view, model, laboratory.stored)


def _cells_of_file(places: np.ndarray, counts: csr_matrix, genes: tuple[str, ...]) -> QueryView:
    return QueryView(
        cell_ids=np.array([f"query:{place}" for place in places], dtype=object),
        counts=counts,
        genes=genes,
        technical=pd.DataFrame({name: np.full(len(places), UNKNOWN, dtype=object) for name in TECHNICAL_COLUMNS}),
    )


def _composition(view: QueryView, model: MappedScanvi, stored: StoredReference) -> str:
    lead = f"QUALIFIED(query): the weights of the file's batch were fitted on {len(view.cell_ids):,} of its cells without labels, so what is said of a cell depends on the others"
    if not len(view.cell_ids):
        return lead
    top = model.annotate(view)[0].argmax(axis=1)
    most = int(np.bincount(top).argmax())
    rest = np.flatnonzero(top != most)
    if not len(rest):
        return f"{lead}; how much could not be tried, because all are most probably {model.classes[most]}"
    left = _cells_of_file(rest, csr_matrix(view.counts[rest]), view.genes)
    moved = stored.mapped(left).annotate(left)[0].argmax(axis=1) != top[rest]
    return f"{lead}: without those most probably {model.classes[most]}, {int(moved.sum()):,} of the {len(rest):,} others have another most probable class"
