"""Real counts in and out: bit for bit, through plain AnnData as the independent reader."""

import dataclasses
import pathlib
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.records import Block, FeatureAlignment
from cytolabe.snapshot import create_atlas, verify_atlas, write_dataset

H5AD = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"


@pytest.mark.skipif(not H5AD.is_dir(), reason="the real files are not beside the checkout")
@pytest.mark.parametrize("name", ["kang18_muscat", "pbmc3k_clustifyr"])
def test_a_real_file_comes_back_bit_for_bit(tmp_path, make, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = anndata.read_h5ad(H5AD / f"{name}.h5ad")
    matrix = source.layers.get("counts", source.X)
    counts = csr_matrix(matrix)
    features = tuple(source.var_names)
    content = rewritten(make.content("kang", np.zeros((counts.shape[0], 5))), name, source=source, counts=counts)
    atlas = create_atlas(tmp_path / "atlas")
    entry = write_dataset(atlas.path, content=content)
    atlas.publish([entry])
    snapshot = atlas.freeze()
    found = snapshot.counts(np.arange(counts.shape[0]), features)
    assert (found != counts).nnz == 0
    assert verify_atlas(atlas.path)[1] == ()
    assert write_dataset(tmp_path / "again", content=content).digest == entry.digest


def rewritten(template, name, *, source, counts):
    """The template with the cells, features and counts of a real file."""
    features, cell_names = tuple(source.var_names), tuple(source.obs_names)
    n_cells = len(cell_names)
    cells = template.cells.assign(
        dataset_id=name,
        cell_id=[f"{name}:{cell}" for cell in cell_names],
        n_counts=np.asarray(counts.sum(axis=1)).ravel().astype(np.int64),
        n_genes=np.asarray(counts.astype(bool).sum(axis=1)).ravel().astype(np.int64),
    )
    blocks = [
        Block(
            dataset_id=name,
            start=start,
            cell_names=cell_names[start : start + 500],
            counts=csr_matrix(counts[start : start + 500]),
        )
        for start in range(0, n_cells, 500)
    ]
    return dataclasses.replace(
        template,
        record=dataclasses.replace(template.record, dataset_id=name, n_cells=n_cells, n_features=len(features)),
        features=features,
        blocks=blocks,
        cells=cells,
        contributed=pd.DataFrame(source.obs.reset_index(drop=True)),
        alignment=FeatureAlignment(
            gene_reference="own",
            features=features,
            gene_ids=features,
            status=("symbol",) * len(features),
            count_fraction=(0.0,) * len(features),
            genes_mapped_fraction_of_counts=1.0,
        ),
    )
