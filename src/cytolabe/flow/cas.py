"""The mappings in force of an atlas as CAS documents, one for each labelled data set."""

import json
from pathlib import Path

from cytolabe.files import Place, replace_file
from cytolabe.reconcile.cas import cas_document
from cytolabe.snapshot.atlas import open_atlas

__all__ = ["export_cas"]


def export_cas(atlas: Place, folder: Path) -> tuple[Path, ...]:
    """Write `<dataset_id>.cas.json` for each data set that has mappings, and return the files, sorted.

    Raises
    ------
    UsageError
        If there is no atlas.
    """
    opened = open_atlas(atlas)
    mappings = opened.mappings()
    cells = opened.cells()
    written = []
    for dataset_id in sorted({mapping.dataset_id for mapping in mappings} & set(opened.dataset_ids)):
        own = [mapping for mapping in mappings if mapping.dataset_id == dataset_id]
        part = cells[(cells["dataset_id"] == dataset_id).to_numpy()]
        document = cas_document(opened.entry(dataset_id).record, part, own)
        path = folder / f"{dataset_id}.cas.json"
        replace_file(path, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())
        written.append(path)
    return tuple(written)
