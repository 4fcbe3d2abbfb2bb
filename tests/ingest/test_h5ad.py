import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix, vstack

from cytolabe.errors import RefusedError, UnreadableInputError
from cytolabe.ingest.h5ad import open_h5ad
from cytolabe.ingest.refusals import findings_of


def whole(source, name="X", **bounds):
    matrix = {m.name: m for m in source.matrices}[name]
    blocks = list(source.iter_blocks(matrix, dataset_id="d", **bounds))
    assert [block.start for block in blocks] == list(np.cumsum([0, *(b.counts.shape[0] for b in blocks)])[:-1])
    assert tuple(name for block in blocks for name in block.cell_names) == source.cell_names
    return vstack([block.counts for block in blocks], format="csr"), blocks


def refused(path, name="X"):
    with open_h5ad(path) as source, pytest.raises(RefusedError) as caught:
        whole(source, name)
    return findings_of(caught.value)[0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(["csr", "csc", "dense"]),
    n_cells=st.integers(1, 30),
    max_cells=st.integers(1, 40),
    max_nonzero=st.integers(1, 400),
    seed=st.integers(0, 99),
)
def test_blocks_put_together_are_the_matrix(
    write, layout, n_cells, *, max_cells, max_nonzero, seed, make_adata, make_counts
):
    counts = make_counts(n_cells=n_cells, n_genes=25, seed=seed)
    form = {"csr": counts, "csc": csc_matrix(counts), "dense": counts.toarray()}[layout]
    with open_h5ad(write(make_adata(form))) as source:
        assert source.matrices[0].encoding == layout
        matrix, blocks = whole(source, max_cells=max_cells, max_nonzero=max_nonzero)
    assert (matrix != counts).nnz == 0
    assert all(block.counts.shape[0] <= max_cells for block in blocks)
    assert all(block.counts.shape[0] == 1 or block.counts.nnz <= max_nonzero for block in blocks)


def test_a_csc_matrix_is_turned_over_in_slices(write, counts, monkeypatch, *, make_adata):
    monkeypatch.setattr("cytolabe.ingest.matrices._SPILL_ENTRIES", 17)
    with open_h5ad(write(make_adata(csc_matrix(counts)))) as source:
        matrix, _ = whole(source)
    assert (matrix != counts).nnz == 0


def test_real_files_read_as_anndata_reads_them(real):
    for name in ("kang18_muscat", "liver_bcells_cxg", "beeline_mdc_tfs500"):
        expected = anndata.read_h5ad(real / f"{name}.h5ad")
        with open_h5ad(real / f"{name}.h5ad") as source:
            assert source.cell_names == tuple(expected.obs_names)
            assert list(source.cell_table.columns) == list(expected.obs.columns)
            for column in expected.obs:
                ours, theirs = source.cell_table[column], expected.obs[column]
                assert list(map(str, ours)) == list(map(str, theirs)), column
            matrix, _ = whole(source, max_cells=300)
            assert (matrix != csr_matrix(expected.X)).nnz == 0
            assert source.features(source.matrices[0]) == tuple(expected.var_names)


def test_columns_are_delivered_verbatim(write, counts, make_adata):
    n = counts.shape[0]
    adata = make_adata(
        counts,
        category=pd.Categorical(["a", None] * (n // 2)),
        text=[f"é{i}" for i in range(n)],
        number=np.arange(n),
        real=np.linspace(0, 1, n),
        flag=np.arange(n) % 2 == 0,
        integer=pd.array([1, None] * (n // 2), dtype="Int64"),
        boolean=pd.array([True, None] * (n // 2), dtype="boolean"),
    )
    with open_h5ad(write(adata)) as source:
        table = source.cell_table
    assert table["category"].isna().tolist() == [False, True] * (n // 2)
    assert set(table["category"].dropna()) == {"a"}
    assert table["text"][1] == "é1"
    assert table["number"].dtype == np.int64
    assert table["flag"].dtype == bool
    assert table["integer"].isna().sum() == n // 2
    assert table["boolean"].isna().sum() == n // 2


def write_old(path, counts):
    """Write the layout of AnnData 0.6: compound tables, categories in uns, matrices under their old names."""
    n_cells, n_genes = counts.shape
    with h5py.File(path, "w") as file:
        obs = np.zeros(n_cells, dtype=[("index", "S10"), ("louvain", "i1"), ("n", "f4")])
        obs["index"] = [f"c{i}".encode() for i in range(n_cells)]
        obs["louvain"] = np.arange(n_cells) % 2
        file["obs"] = obs
        file["uns/louvain_categories"] = np.array([b"B", b"T"])
        var = np.zeros(n_genes, dtype=[("index", "S10")])
        var["index"] = [f"G{i}A".encode() for i in range(n_genes)]
        for table, matrix in (("var", "X"), ("raw.var", "raw.X")):
            file[table] = var
            group = file.create_group(matrix)
            group.attrs["h5sparse_format"] = "csr"
            group.attrs["h5sparse_shape"] = counts.shape
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(counts, part)
    return path


def test_files_of_anndata_0_6_are_read(tmp_path, counts):
    with open_h5ad(write_old(tmp_path / "old.h5ad", counts)) as source:
        assert [matrix.name for matrix in source.matrices] == ["raw/X", "X"]
        assert list(source.cell_table["louvain"][:3]) == ["B", "T", "B"]
        assert source.cell_names[:2] == ("c0", "c1")
        matrix, _ = whole(source, "raw/X")
    assert (matrix != counts).nnz == 0


def test_files_of_anndata_0_7_are_read(plain, edit):
    with edit(plain) as file:
        codes = file["obs/cell_type/codes"][...]
        words = file["obs/cell_type/categories"][...]
        del file["obs/cell_type"]
        file["obs/__categories/cell_type"] = words
        file["obs/cell_type"] = codes
        file["obs/cell_type"].attrs["categories"] = file["obs/__categories/cell_type"].ref
    with open_h5ad(plain) as source:
        assert list(source.cell_table.columns) == ["cell_type"]
        assert sorted(set(source.cell_table["cell_type"])) == ["B cell", "T cell"]


def test_a_code_without_a_category_names_the_column(plain, edit):
    with edit(plain) as file:
        file["obs/cell_type/codes"][3] = 7
    with pytest.raises(RefusedError, match="cell_type") as caught, open_h5ad(plain):
        pass
    assert findings_of(caught.value)[0].code == "E-TABLE-03"


def test_a_column_of_another_length_is_refused(plain, edit):
    with edit(plain) as file:
        file["obs/extra"] = np.arange(3)
    with pytest.raises(RefusedError) as caught, open_h5ad(plain):
        pass
    assert findings_of(caught.value)[0].code == "E-TABLE-02"


def test_a_column_that_cannot_be_read_is_named(plain, edit):
    with edit(plain) as file:
        file.create_group("obs/strange")
    with open_h5ad(plain) as source:
        (finding,) = [finding for finding in source.findings if finding.code == "W-TABLE-04"]
    assert finding.examples == ("strange",)


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("value", [-1, 1_000_000])
def test_an_index_out_of_range_never_reaches_a_kernel(write, edit, counts, *, layout, value, make_adata):
    path = write(make_adata(counts if layout == "csr" else csc_matrix(counts)))
    with edit(path) as file:
        file["X/indices"][2] = value
    finding = refused(path)
    assert finding.code == "E-MATRIX-03"
    assert "cell 0" in finding.where or "feature 0" in finding.where


def test_a_feature_twice_in_one_cell_is_refused_with_the_cell(plain, edit):
    with edit(plain) as file:
        start = file["X/indptr"][5]
        file["X/indices"][start + 1] = file["X/indices"][start]
    finding = refused(plain)
    assert (finding.code, finding.where) == ("E-MATRIX-04", "X, cell 5")


def test_unsorted_indices_are_no_fault(plain, edit, counts):
    with edit(plain) as file:
        low, high = file["X/indptr"][0], file["X/indptr"][1]
        for part in ("indices", "data"):
            file[f"X/{part}"][low:high] = file[f"X/{part}"][low:high][::-1]
    with open_h5ad(plain) as source:
        matrix, _ = whole(source)
    assert (matrix != counts).nnz == 0


@pytest.mark.parametrize(
    ("row", "value", "code"), [(3, 0, "E-MATRIX-01"), (-1, 10, "E-MATRIX-01"), (0, 1, "E-MATRIX-02")]
)
def test_pointers_that_lose_cells_are_refused(plain, edit, row, *, value, code):
    with edit(plain) as file:
        pointers = file["X/indptr"][...]
        pointers[row] = value
        file["X/indptr"][...] = pointers
    assert refused(plain).code == code


def test_pointers_that_end_too_early_are_refused(plain, edit):
    with edit(plain) as file:
        pointers = file["X/indptr"][...]
        pointers[-1] -= 1
        file["X/indptr"][...] = pointers
    assert refused(plain).code == "E-MATRIX-02"


def test_a_matrix_of_another_shape_is_not_used(plain, edit):
    with edit(plain) as file:
        file["X"].attrs["shape"] = np.array([41, 60])
    with open_h5ad(plain) as source:
        assert source.matrices == ()
        assert source.findings[0].code == "E-MATRIX-06"


def test_a_flipped_bit_under_a_checksum_is_unreadable_not_wrong(write, counts, make_adata):
    path = write(make_adata(counts), compression="gzip")
    with h5py.File(path) as file:
        place = file["X/data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + place.size // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with open_h5ad(path) as source, pytest.raises(UnreadableInputError) as caught:
        whole(source)
    assert findings_of(caught.value)[0].code == "E-FILE-10"


def test_ensembl_ids_beside_symbols_win_and_it_is_said(write, counts, make_adata):
    adata = make_adata(counts)
    adata.var["gene_ids"] = list(adata.var_names)
    adata.var_names = [f"SYM{chr(65 + i % 26)}{i}B" for i in range(adata.n_vars)]
    with open_h5ad(write(adata)) as source:
        assert source.features(source.matrices[0])[0].startswith("ENSG")
        assert [finding.code for finding in source.feature_findings] == ["N-FEATURE-01"]


def test_symbols_beside_a_counter_win(write, counts, make_adata):
    adata = make_adata(counts)
    adata.var_names = [str(i) for i in range(adata.n_vars)]
    adata.var["feature_name"] = [f"SYM{i}B" for i in range(adata.n_vars)]
    with open_h5ad(write(adata)) as source:
        assert source.features(source.matrices[0])[0] == "SYM0B"


def test_missing_names_of_features_are_said(plain, edit):
    with edit(plain) as file:
        del file["var"]
    with open_h5ad(plain) as source:
        assert source.features(source.matrices[0])[:2] == ("0", "1")
        assert [finding.code for finding in source.feature_findings] == ["W-FEATURE-03"]


def test_hdf5_without_cells_is_no_anndata(tmp_path):
    with h5py.File(tmp_path / "tenx.h5", "w") as file:
        file["matrix/data"] = np.arange(3)
    with pytest.raises(UnreadableInputError, match="no AnnData"), open_h5ad(tmp_path / "tenx.h5"):
        pass


def test_the_digest_and_title_are_those_of_the_file(real):
    with open_h5ad(real / "liver_bcells_cxg.h5ad") as source:
        assert source.title == "Healthy human liver: B cells"
        assert source.source_digest.startswith("sha256:bec9c9c4471")


@pytest.mark.parametrize("dtype", [">f4", ">i4", "f2", "longdouble", "u1"])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_numbers_of_any_width_and_byte_order_are_read(write, edit, counts, *, dtype, layout, make_adata):
    small = csr_matrix(np.minimum(counts.toarray(), 200))
    form = {"csr": small, "csc": csc_matrix(small), "dense": small.toarray()}[layout]
    path = write(make_adata(form))
    with edit(path) as file:
        node = file["X"] if layout == "dense" else file["X/data"]
        values, place = node[...].astype(dtype), node.name
        attributes = dict(node.attrs)
        del file[place]
        file.create_dataset(place, data=values).attrs.update(attributes)
    with open_h5ad(path) as source:
        matrix, _ = whole(source)
    assert (matrix != small).nnz == 0


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda x: x.attrs.create("encoding-type", "coo_matrix"), "encoding is 'coo_matrix'"),
        (lambda x: x.attrs.create("shape", "wide"), "shape is not said"),
        (lambda x: x.__delitem__("indices"), "no array 'indices'"),
        (
            lambda x: (x.__delitem__("indices"), x.create_dataset("indices", data=np.full(9, 0.5))),
            "'indices' holds float64",
        ),
        (lambda x: (x.__delitem__("data"), x.create_dataset("data", data=np.full(9, b"x"))), "'data' holds |S1"),
    ],
    ids=["an unknown encoding", "no shape", "no positions", "positions between two features", "values that are texts"],
)
def test_a_matrix_that_cannot_be_read_says_why(plain, edit, spoil, why):
    with edit(plain) as file:
        spoil(file["X"])
    with open_h5ad(plain) as source:
        assert not source.matrices
        assert why in {f.code: f.message for f in source.findings}["W-MATRIX-05"]


def test_a_file_of_several_modalities_is_told_apart_from_anndata(plain, edit):
    with edit(plain) as file:
        file.move("X", "mod")
    with pytest.raises(UnreadableInputError, match="MuData"), open_h5ad(plain):
        pass
