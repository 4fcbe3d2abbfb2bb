"""Small data sets with known counts, persons and labels, and an atlas made of them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.provenance import digest_of
from cytolabe.records import (
    Block,
    DatasetRecord,
    FeatureAlignment,
    Finding,
    LabelMapping,
    MatrixKind,
    Predicate,
    Severity,
)
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.build import FACT_COLUMNS, DatasetContent, write_dataset

FEATURES = {
    "kang": ("CD3D", "ENSG3.1", "MS4A1", "CD3D-alias", "noise"),
    "zheng": ("MS4A1", "CD3D", "NKG7"),
}
GENES = {
    "kang": ("G-CD3D", "G-NKG7", "G-MS4A1", "G-CD3D", ""),
    "zheng": ("G-MS4A1", "G-CD3D", "G-NKG7"),
}
LABELS = ("T cell", "B", "")


def matrix_of(dataset_id, n_cells=12):
    rng = np.random.default_rng(len(dataset_id))
    return csr_matrix(rng.integers(0, 4, size=(n_cells, len(FEATURES[dataset_id]))))


def content_of(dataset_id, matrix=None, *, size=5, source="file", **changes):
    matrix = matrix_of(dataset_id) if matrix is None else csr_matrix(matrix)
    n_cells = matrix.shape[0]
    names = [f"cell{row}" for row in range(n_cells)]
    cells = pd.DataFrame({column: ["unknown"] * n_cells for column in FACT_COLUMNS})
    cells["cell_id"] = [f"{dataset_id}:{name}" for name in names]
    cells["dataset_id"], cells["study"], cells["row"] = dataset_id, dataset_id, np.arange(n_cells)
    cells["donor_id"] = [f"d{row % 2}" for row in range(n_cells)]
    cells["contributor_label"] = [LABELS[row % 3] for row in range(n_cells)]
    cells["n_counts"] = np.asarray(matrix.sum(axis=1)).ravel()
    cells["n_genes"] = (matrix.toarray() > 0).sum(axis=1)
    features, genes = FEATURES[dataset_id], GENES[dataset_id]

    def blocks():
        for start in range(0, n_cells, size):
            part = csr_matrix(matrix[start : start + size])
            yield Block(dataset_id=dataset_id, start=start, cell_names=tuple(names[start : start + size]), counts=part)

    record = DatasetRecord(
        dataset_id=dataset_id,
        title=dataset_id.title(),
        source_digest=digest_of(source),
        matrix="X",
        matrix_kind=MatrixKind.UMI,
        n_cells=n_cells,
        n_features=len(features),
        n_nonzero=int(matrix.nnz),
        organism=changes.pop("organism", "Homo sapiens"),
        study=dataset_id,
        genes_mapped_fraction_of_counts=1.0,
    )
    alignment = FeatureAlignment(
        gene_reference=changes.pop("gene_reference", "gencode-test"),
        features=features,
        gene_ids=genes,
        status=tuple("symbol" if gene else "unknown" for gene in genes),
        count_fraction=tuple(1 / len(features) for _ in features),
        genes_mapped_fraction_of_counts=1.0,
    )
    finding = Finding(
        code="N-TEST-01",
        severity=Severity.NOTE,
        where="obs",
        message="seen",
        remedy="none",
        rule="test",
        examples=("x",),
    )
    given = {
        "record": record,
        "features": features,
        "blocks": blocks,
        "cells": cells,
        "contributed": pd.DataFrame({"CellType": cells["contributor_label"], "n": np.arange(n_cells)}),
        "alignment": alignment,
        "findings": (finding,),
    }
    return DatasetContent(**{**given, **changes})


def mapping(dataset_id, label, term, **changes):
    given = {
        "dataset_id": dataset_id,
        "contributor_label": label,
        "predicate": Predicate.EXACT if term else Predicate.NONE,
        "term": term,
        "term_name": f"name of {term}" if term else "",
        "justification": "semapv:LexicalMatching",
        "confidence": 900,
        "decision": "auto" if term else "abstained",
        "ontology_release": "cl-test",
    }
    return LabelMapping(**{**given, **changes})


def persons_table(*rows):
    return pd.DataFrame(
        [(*row, "declared") for row in rows],
        columns=["dataset_id", "donor_id", "person_id", "person_state", "evidence"],
    )


@pytest.fixture(scope="session")
def make():
    """The builders of this file, for tests that need more than the ready atlas."""
    return SimpleNamespace(content=content_of, mapping=mapping, matrix=matrix_of, persons=persons_table, genes=GENES)


@pytest.fixture
def atlas(tmp_path):
    """Two data sets, mapped labels and resolved persons, not frozen."""
    return _filled_atlas(tmp_path / "atlas")


@pytest.fixture(scope="session")
def shared_snapshot(tmp_path_factory):
    """The same as a frozen snapshot that no test changes."""
    return _filled_atlas(tmp_path_factory.mktemp("shared") / "atlas").freeze("v1")


def _filled_atlas(path):
    atlas = create_atlas(path)
    atlas.publish([write_dataset(atlas.path, content=content_of(name)) for name in ("zheng", "kang")])
    atlas.put_mappings(
        [
            mapping("kang", "T cell", "CL:0000084"),
            mapping("kang", "B", "CL:0000236", decision="review"),
            mapping("zheng", "T cell", "CL:0000084", decision="reviewed"),
            mapping("zheng", "B", ""),
        ]
    )
    atlas.put_persons(persons_table(("kang", "d0", "kang/d0", "resolved"), ("kang", "d1", "unknown", "pooled")))
    return atlas
