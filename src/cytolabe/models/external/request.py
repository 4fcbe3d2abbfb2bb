"""What a foreign program is handed, written in files that any language reads: counts, genes, cells, and the request.

Nothing in them says what a cell of the query is. Names of cells, data sets, batches, sites and persons are often made of
cell types by those who deliver them, and the order of rows follows the types in many files: names are numbers here, and rows
are shuffled by a generator that is seeded with the names, which the program does not have. An assay is told in words
where training cells have it too. Labels and persons are those of training cells, in the step that fits.

The bytes follow from the cells, the seed and the options alone; `digest` of the request is over all of them.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.files import sha256_of_file
from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.models.protocols import QueryView, TrainView
from cytolabe.provenance import canonical_json, digest_of, jsonable
from cytolabe.randomness import rng_for

__all__ = ["REQUEST_FORMAT", "Codes", "Request", "write_request"]

REQUEST_FORMAT = "cytolabe-external-1"

_CODED = {"dataset_id": "dataset", "batch": "batch", "site": "site"}
_IN_WORDS = ("assay", "suspension_type")


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """The numbers that stand for names, the same in all steps of one fit; `words` are those that may be told."""

    words: Mapping[str, frozenset[str]]
    numbers: dict[str, dict[str, str]] = field(default_factory=dict)

    def coded(self, column: str, values: Sequence[str]) -> list[str]:
        """Return `column-1`, `column-2`, ... for values, by when each comes first."""
        known = self.numbers.setdefault(column, {})
        return [known.setdefault(value, f"{column}-{len(known) + 1}") for value in values]

    def told(self, column: str, values: Sequence[str]) -> list[str]:
        """Return values that training cells have as they are, and numbers for others."""
        open_words = self.words.get(column, frozenset())
        return [value if value in open_words else self.coded(column, [value])[0] for value in values]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A request that was written: its document, and the cells in the order of the files.

    `order[k]` is the row in the view of the cell that is called `cell_ids[k]` there.
    """

    document: Mapping[str, Any]
    cell_ids: tuple[str, ...]
    order: np.ndarray

    @property
    def digest(self) -> str:
        """The digest that an answer has to repeat."""
        return str(self.document["digest"])


def write_request(
    folder: Path, view: QueryView, *, codes: Codes, said: Mapping[str, object], with_labels: bool = False
) -> Request:
    """Write the files of one step into a folder.

    Parameters
    ----------
    view
        The cells. Labels and persons are written of a train view only, labels where `with_labels` says so.
    said
        What else the request says: step, task, seed, threads, settings, checkpoint, classes.
    """
    seed = int(str(said["seed"]))
    order = rng_for(seed, "external", digest_of(view.cell_ids.tolist())).permutation(len(view.cell_ids))
    cell_ids = tuple(f"cell-{number + 1:07d}" for number in range(len(order)))
    counts = view.counts[order].tocsr()
    counts.sort_indices()
    shape = np.array(counts.shape, dtype=np.int64)
    parts = {"data": counts.data, "indices": counts.indices, "indptr": counts.indptr, "shape": shape}
    (folder / "counts.npz").write_bytes(_npz({**parts, "format": np.array(b"csr")}))
    (folder / "genes.json").write_bytes(canonical_json({"gene_id": list(view.genes), "symbol": _symbols(view.genes)}))
    cells = _cells(view, order, codes=codes, with_labels=with_labels)
    (folder / "cells.json").write_bytes(canonical_json({"cell_id": list(cell_ids), **cells}))
    names = ("cells.json", "counts.npz", "genes.json")
    document: Any = jsonable(
        {
            "format": REQUEST_FORMAT,
            **said,
            "n_cells": len(order),
            "n_genes": len(view.genes),
            "files": {name: f"sha256:{sha256_of_file(folder / name)}" for name in names},
        }
    )
    document["digest"] = digest_of(document)
    (folder / "request.json").write_bytes(canonical_json(document))
    return Request(document=document, cell_ids=cell_ids, order=order)


def _cells(view: QueryView, order: np.ndarray, *, codes: Codes, with_labels: bool) -> dict[str, list[str]]:
    def values(column: str) -> list[str]:
        return [str(value) for value in view.technical[column].to_numpy(dtype=object)[order]]

    cells = {name: codes.coded(name, values(column)) for column, name in _CODED.items() if column in view.technical}
    cells |= {name: codes.told(name, values(name)) for name in _IN_WORDS if name in view.technical}
    if isinstance(view, TrainView):
        cells["donor"] = codes.coded("donor", [str(person) for person in view.persons[order]])
        if with_labels:
            cells["label"] = [str(label) for label in view.labels[order]]
    return cells


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as an `.npz` file without the time of day: equal cells are equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression=zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
    return content.getvalue()


def _symbols(genes: Sequence[str]) -> list[str]:
    """Return the symbol of each gene in the reference of its organism; empty where it has none there."""
    known = _symbols_by_id()
    return [known.get(gene, "") for gene in genes]


@cache
def _symbols_by_id() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for organism in shipped_organisms():
        found |= load_reference(organism).primary.symbols
    return found
