import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import vstack

from cytolabe.errors import RefusedError
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.source import open_source


@pytest.fixture
def multi(tmp_path, counts, make_adata):
    """Write a MuData file: 40 cells of genes, 30 of them with two other features."""

    def _write(rna="rna", other="prot", kinds=None, said=None):
        genes = make_adata(counts, own=["q"] * 40)
        if kinds:
            genes.var["feature_types"] = kinds[0]
        table = pd.DataFrame({"own": ["p"] * 30}, index=[f"cell{i}" for i in range(30)])
        features = pd.DataFrame(index=["CD3", "CD4"])
        if kinds:
            features["feature_types"] = kinds[1]
        proteins = anndata.AnnData(np.ones((30, 2), np.float32), obs=table, var=features)
        whole = mudata.MuData({other: proteins, rna: genes})
        whole.obs["cell_type"] = [f"type of {name}" for name in whole.obs_names]
        whole.uns.update(said or {})
        whole.write(tmp_path / "multi.h5mu")
        return tmp_path / "multi.h5mu"

    return _write


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("rna", "kinds"), [("rna", None), ("GEX", None), ("first", ("Gene Expression", "Antibody Capture"))]
)
def test_the_modality_of_genes_is_read_with_the_columns_of_the_whole(multi, counts, *, rna, kinds):
    with open_source(multi(rna=rna, kinds=kinds)) as source:
        assert source.cell_names[:2] == ("cell0", "cell1")
        assert list(source.cell_table["own"][:2]) == ["q", "q"]
        assert source.cell_table["cell_type"][7] == "type of cell7"
        (matrix,) = source.matrices
        assert matrix.part == rna
        read = vstack([block.counts for block in source.iter_blocks(matrix, dataset_id="d")])
        told = {finding.code: finding for finding in source.findings}
    assert (read != counts).nnz == 0
    assert told["N-SOURCE-07"].examples == ("prot",)


@pytest.mark.filterwarnings("ignore")
def test_which_modality_is_meant_is_asked_and_not_guessed(multi):
    path = multi(rna="one", other="two")
    with pytest.raises(RefusedError) as caught, open_source(path):
        pass
    assert [finding.code for finding in findings_of(caught.value)] == ["E-H5MU-01"]
    with open_source(path, part="one") as source:
        assert source.n_cells == 40
    with pytest.raises(RefusedError, match="none is named 'three'"), open_source(path, part="three"):
        pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("said", "is_marked"), [({"simulated": True}, True), ({"simulated": False}, False), ({}, False)]
)
def test_that_the_cells_are_simulated_may_be_said_of_the_file_as_a_whole(multi, *, said, is_marked):
    with open_source(multi(said={**said, "colors": ["red"]})) as source:
        assert source.uns_keys == (("simulated",) if is_marked else ())
