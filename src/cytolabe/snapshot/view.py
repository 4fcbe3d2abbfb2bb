"""What every later stage may ask of a frozen snapshot: one table of cells, and counts over genes.

The rows of `cells` are in canonical order (data set id, then row in the source); a position in it is what splits
hold. `counts` refuses a gene that a data set never measured: unmeasured is not zero (rule R1).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.records import DatasetRecord, LabelMapping

__all__ = ["CELL_COLUMNS", "SnapshotView"]

CELL_COLUMNS: Mapping[str, str] = {
    "cell_id": "str: <dataset_id>:<obs name>",
    "dataset_id": "str",
    "study": "str: data sets of one study share donors and labels",
    "row": "int64: row in the source",
    "donor_id": "str as delivered, or unknown",
    "person_id": "str: resolved person key (overlay), or unknown",
    "person_state": "str: resolved, unknown or pooled",
    "batch": "str: technical batch; one batch where none was given",
    "assay": "str",
    "suspension_type": "str: cell, nucleus or unknown",
    "site": "str",
    "tissue": "str",
    "disease": "str",
    "sex": "str",
    "organism": "str",
    "contributor_label": "str as delivered; empty = unlabelled, which is not a class (rule R4)",
    "label_parent": "str: coarser label of the same contributor, or empty",
    "label_origin": "str: one of config.manifest.LABEL_ORIGINS",
    "cell_type_ontology_term_id": "str: reconciled CL term (overlay), or unknown",
    "cell_type": "str: its name, or unknown",
    "mapping_decision": "str: decision of the label mapping, or empty",
    "mapping_confidence": "int64: thousandths",
    "n_counts": "int64: counts over all features of the data set",
    "n_genes": "int64: features with a count",
}
"""Columns of `SnapshotView.cells`: name -> type and meaning. Missing text is the word `unknown`, never NaN."""


@runtime_checkable
class SnapshotView(Protocol):
    """A frozen snapshot as splits, audits, models and reports see it."""

    @property
    def snapshot_id(self) -> str:
        """`sha256:` and 64 digits, of logical content only."""
        ...

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell with `CELL_COLUMNS`, in canonical order, index 0..n-1. Do not modify."""
        ...

    @property
    def datasets(self) -> Mapping[str, DatasetRecord]:
        """What each lab delivered, by data set id, sorted."""
        ...

    @property
    def mappings(self) -> tuple[LabelMapping, ...]:
        """The label mappings in force."""
        ...

    @property
    def gene_reference(self) -> str:
        """Name of the gene reference that `counts` speaks."""
        ...

    @property
    def ontology_release(self) -> str:
        """Release of the Cell Ontology behind the mappings."""
        ...

    def measured_genes(self, dataset_id: str) -> tuple[str, ...]:
        """Return the reference genes that a data set measures, sorted."""
        ...

    def counts(self, rows: np.ndarray, genes: Sequence[str]) -> csr_matrix:
        """Return raw counts (len(rows) x len(genes), int64) for positions in `cells`, in the order given.

        Raises
        ------
        UnmeasuredGeneError
            If a data set among the rows does not measure one of the genes.
        """
        ...
