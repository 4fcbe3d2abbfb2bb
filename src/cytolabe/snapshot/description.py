"""What a person wants to see of a snapshot first."""

from typing import TYPE_CHECKING

import pandas as pd

from cytolabe.snapshot.cell_table import different_cells

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["describe"]


def describe(snapshot: "Snapshot") -> dict[str, object]:
    """Return sizes, references, and each data set in one row."""
    entries = snapshot.entries
    persons = different_cells(snapshot, ["person_id", "person_state"]) if entries else pd.DataFrame()
    datasets = snapshot.datasets
    return {
        "snapshot_id": snapshot.snapshot_id,
        "n_cells": snapshot.n_cells,
        "n_datasets": len(entries),
        "n_persons": int((persons["person_state"] == "resolved").sum()) if entries else 0,
        "n_mappings": len(snapshot.mappings),
        "gene_reference": snapshot.gene_reference,
        "ontology_release": snapshot.ontology_release,
        "datasets": [
            {
                "dataset_id": dataset_id,
                "title": entry.record.title,
                "n_cells": datasets[dataset_id].n_cells,
                "n_genes": len(snapshot.measured_genes(dataset_id)),
                "matrix_kind": entry.record.matrix_kind.value,
            }
            for dataset_id, entry in entries.items()
        ],
    }
