"""A release of a snapshot: its cells as AnnData, the table of cells as Parquet, and `croissant.json`, which describes both.

Croissant 1.0 (MLCommons) is JSON-LD that machine-learning tools read: files by digest, and the fields of their records. The
table of cells is a record set, so that a reader of Croissant streams it without knowing AnnData; the counts are a file. What
the data sets declared (licences, citations, access) is stated as it was said, and nothing where nothing was.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytolabe.errors import UsageError
from cytolabe.files import publish_directory, sha256_of_file, staged_directory
from cytolabe.records import DatasetRecord
from cytolabe.snapshot.takeout import export_cells
from cytolabe.store.tables import write_parquet

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot
    from cytolabe.snapshot.selection import Selection

__all__ = ["CROISSANT", "croissant_document", "write_release"]

CROISSANT = "croissant.json"
_COUNTS, _CELLS = "cells.h5ad", "cells.parquet"
_CONFORMS = "http://mlcommons.org/croissant/1.0"
_FORMATS = {_COUNTS: "application/x-hdf5", _CELLS: "application/x-parquet"}
_MAX_PLACES = 50


def write_release(
    snapshot: "Snapshot",
    out: Path,
    *,
    published: dt.date,
    where: str = "",
    genes: Sequence[str] | None = None,
    access: str = "",
) -> dict[str, Any]:
    """Write cells of a snapshot, their table and a Croissant description into a new folder; return the description.

    Parameters are those of `snapshot.takeout.export_cells`; `published` is the day of publication.

    Raises
    ------
    UsageError
        If the folder is there already, or the filter cannot be read.
    RefusedError
        If no cell matches, or one is of a stricter access class than `access` allows.
    """
    if out.exists():
        msg = f"{out} is there already and is not replaced. Name another place, or remove it."
        raise UsageError(msg)
    with staged_directory(out.parent) as staged:
        whole = staged / out.name
        whole.mkdir()
        selection = export_cells(snapshot, whole / _COUNTS, where=where, genes=genes, access=access)
        cells = selection.obs.reset_index(names="cell_id")
        for column in cells.columns:
            if isinstance(cells[column].dtype, pd.CategoricalDtype):
                cells[column] = cells[column].astype(object)
        write_parquet(cells, whole / _CELLS)
        document = croissant_document(selection, cells, folder=whole, published=published)
        (whole / CROISSANT).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not publish_directory(whole, out):
            msg = f"{out} was made by somebody else in the meantime and is not replaced."
            raise UsageError(msg)
    return document


def croissant_document(
    selection: "Selection", cells: pd.DataFrame, *, folder: Path, published: dt.date
) -> dict[str, Any]:
    """Return the Croissant description of cells that were written into `folder`."""
    said = selection.provenance
    records = [
        record for name, record in selection.snapshot.datasets.items() if name in set(cells["dataset_id"].unique())
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS,
        "name": f"cytolabe-{said['snapshot_id'].removeprefix('sha256:')[:12]}",
        "description": (
            f"{len(cells):,} cells and {len(selection.genes):,} genes of {len(records)} data sets, raw counts. Snapshot "
            f"{said['snapshot_id']}; genes: {said['gene_reference']} ({said['gene_policy']}); cell types: "
            f"{said['ontology_release']}; filter: {said['where'] or 'none'}."
        ),
        "datePublished": published.isoformat(),
        "identifier": said["snapshot_id"],
        "conditionsOfAccess": f"{said['access']} ({said['access_cells']} cells)",
        **_stated(records),
        "distribution": [_distributed(folder / name) for name in (_COUNTS, _CELLS)],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "cells",
                "name": "cells",
                "description": "One row per cell, in the order of the counts.",
                "key": {"@id": "cells/cell_id"},
                "field": [_field(name, cells[name]) for name in cells.columns],
            }
        ],
    }


def _stated(records: Sequence[DatasetRecord]) -> Mapping[str, object]:
    """Return licences, citations and origins as the data sets declare them."""
    licences = sorted({record.declared["licence"] for record in records if "licence" in record.declared})
    citations = [record.declared["citation"] for record in records if "citation" in record.declared]
    origins = sorted(
        {record.declared[key] for record in records for key in ("doi", "source_url") if key in record.declared}
    )
    found = {
        "license": licences if len(licences) > 1 else "".join(licences),
        "citeAs": "; ".join(dict.fromkeys(citations)),
        "isBasedOn": origins[:_MAX_PLACES],
    }
    return {key: value for key, value in found.items() if value}


def _distributed(path: Path) -> dict[str, object]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _FORMATS[path.name],
        "sha256": sha256_of_file(path),
    }


def _field(name: str, values: pd.Series) -> dict[str, object]:
    kind = "sc:Integer" if pd.api.types.is_integer_dtype(values) else "sc:Text"
    if pd.api.types.is_float_dtype(values):
        kind = "sc:Float"
    return {
        "@type": "cr:Field",
        "@id": f"cells/{name}",
        "name": name,
        "dataType": kind,
        "source": {"fileObject": {"@id": _CELLS}, "extract": {"column": name}},
    }


_CONTEXT: Mapping[str, object] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "key": "cr:key",
    "recordSet": "cr:recordSet",
    "sc": "https://schema.org/",
    "source": "cr:source",
}
"""Terms of Croissant 1.0 that are used here."""
