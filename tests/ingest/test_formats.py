"""The same cells in every format are the same cells."""

import gzip
from pathlib import Path

import anndata
import h5py
import loompy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, vstack

from cytolabe.errors import CytolabeError, RefusedError, UnreadableInputError
from cytolabe.ingest import mtx_text
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.source import format_of, open_source, scan_source


def names_of(counts):
    return [f"AAAC{i}-1" for i in range(counts.shape[0])], [f"ENSG{i:011d}" for i in range(counts.shape[1])]


def write_tenx(path, counts, *, kinds=None, genomes=None, genes=None):
    """Write the layout of Cell Ranger 3: one group, features x cells by columns."""
    cells, ids = names_of(counts)
    ids = genes or ids
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for part in ("data", "indices", "indptr"):
            group.create_dataset(part, data=getattr(counts, part), compression="gzip")
        group["shape"] = np.array(counts.shape[::-1])
        group["barcodes"] = np.array(cells, dtype="S")
        group["features/id"] = np.array(ids, dtype="S")
        group["features/name"] = np.array([f"SYM{i}" for i in range(len(ids))], dtype="S")
        group["features/feature_type"] = np.array(kinds or ["Gene Expression"] * len(ids), dtype="S")
        group["features/genome"] = np.array(genomes or ["GRCh38"] * len(ids), dtype="S")
    return path


def write_old_tenx(path, by_genome):
    """Write the layout of Cell Ranger 2: one group for each genome."""
    with h5py.File(path, "w") as file:
        for genome, counts in by_genome.items():
            cells, ids = names_of(counts)
            group = file.create_group(genome)
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(counts, part)
            group["shape"] = np.array(counts.shape[::-1])
            group["barcodes"], group["genes"] = np.array(cells, dtype="S"), np.array(ids, dtype="S")
            group["gene_names"] = np.array([f"SYM{i}" for i in range(len(ids))], dtype="S")
    return path


def mtx_lines(counts, order="cells"):
    entries = counts.tocoo()
    by = np.lexsort((entries.col, entries.row) if order == "cells" else (entries.row, entries.col))
    lines = [f"{entries.col[i] + 1} {entries.row[i] + 1} {entries.data[i]:g}" for i in by]
    head = [
        "%%MatrixMarket matrix coordinate integer general",
        "%",
        f"{counts.shape[1]} {counts.shape[0]} {counts.nnz}",
    ]
    return [*head, *lines]


def write_mtx(folder: Path, counts, *, prefix="", lines=None, features=None, packed=True):
    folder.mkdir(exist_ok=True)
    cells, ids = names_of(counts)
    rows = features or [f"{gene}\tSYM{i}\tGene Expression" for i, gene in enumerate(ids)]
    for name, text in {
        "matrix.mtx": lines or mtx_lines(counts), "barcodes.tsv": cells, "features.tsv" if packed else "genes.tsv": rows,
    }.items():  # fmt: skip
        content = ("\n".join(text) + "\n").encode()
        path = folder / f"{prefix}{name}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def write_loom(path, counts):
    cells, ids = names_of(counts)
    dense = counts.toarray().T.astype("i4")
    loompy.create(
        str(path),
        {"": dense, "spliced": np.minimum(dense, 1)},
        {"Gene": np.array([f"SYM{i}" for i in range(len(ids))]), "Accession": np.array(ids)},
        {
            "CellID": np.array(cells),
            "cell_type": np.array(["B", "T"] * (len(cells) // 2)),
            "umap": np.zeros((len(cells), 2)),
        },
        file_attrs={"title": "a loom"},
    )
    return path


def read(path, name="X", **options):
    """Return cell names, features and the whole of a matrix."""
    assert scan_source(path) == ()
    with open_source(path, **options) as source:
        matrix = {m.name: m for m in source.matrices}[name]
        blocks = list(source.iter_blocks(matrix, dataset_id="d", max_cells=7))
        assert source.read_cells(matrix, start=1, stop=3).shape == (2, matrix.shape[1])
        whole = vstack([block.counts for block in blocks], format="csr")
        return list(source.cell_names), list(source.features(matrix)), whole, {f.code: f for f in source.findings}


def refused(path, kind=UnreadableInputError, **options):
    with pytest.raises(kind) as caught:
        read(path, **options)
    return findings_of(caught.value)[0]


# --- each format gives what was written ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning:loompy")
@pytest.mark.filterwarnings("ignore::FutureWarning:loompy")
@pytest.mark.parametrize("form", ["10x-h5", "10x-h5 of version 2", "10x-mtx", "10x-mtx by gene", "old 10x-mtx", "loom"])
def test_the_same_cells_come_out_of_every_format(tmp_path, counts, form):
    path = {
        "10x-h5": lambda: write_tenx(tmp_path / "a.bin", counts),
        "10x-h5 of version 2": lambda: write_old_tenx(tmp_path / "a.h5ad", {"hg19": counts}),
        "10x-mtx": lambda: write_mtx(tmp_path / "a", counts),
        "10x-mtx by gene": lambda: write_mtx(tmp_path / "a", counts, lines=mtx_lines(counts, "genes")),
        "old 10x-mtx": lambda: write_mtx(tmp_path / "a", counts, packed=False),
        "loom": lambda: write_loom(tmp_path / "a.h5", counts),
    }[form]()
    assert form.removeprefix("old ").startswith(format_of(path))
    cells, features, whole, _ = read(path)
    assert (cells, features) == names_of(counts)
    assert (whole != counts).nnz == 0


def test_a_matrix_of_several_samples_in_one_folder_is_named_by_its_prefix(tmp_path, counts):
    for prefix, sample in (("GSM1_", counts), ("GSM2_", counts * 2)):
        write_mtx(tmp_path, csr_matrix(sample), prefix=prefix)
    _, _, whole, _ = read(tmp_path / "GSM2_matrix.mtx.gz")
    assert (whole != counts * 2).nnz == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning:loompy")
@pytest.mark.filterwarnings("ignore::FutureWarning:loompy")
def test_a_loom_keeps_its_attributes_and_layers(tmp_path, counts):
    path = write_loom(tmp_path / "a.loom", counts)
    _, _, spliced, told = read(path, "layers/spliced")
    assert (spliced != (counts > 0)).nnz == 0
    with open_source(path) as source:
        assert list(source.cell_table["cell_type"][:2]) == ["B", "T"]
        assert source.title == "a loom"
    assert told["W-TABLE-04"].examples == ("umap",)


def test_real_cells_have_the_same_digest_in_every_format(tmp_path, real):
    data = anndata.read_h5ad(real / "kang18_muscat.h5ad")
    counts = csr_matrix(data.X)
    paths = [write_tenx(tmp_path / "a.h5", counts), write_mtx(tmp_path / "b", counts)]
    one, other = (read(path)[2] for path in paths)
    assert (one != counts).nnz == 0
    assert (other != counts).nnz == 0


# --- what is chosen of a source -----------------------------------------------------------------------------------


def test_other_molecules_are_named_and_not_kept(tmp_path, counts):
    kinds = ["Gene Expression"] * 50 + ["Antibody Capture"] * 6 + ["Peaks"] * 4
    rows = [f"{gene}\tS\t{kind}" for gene, kind in zip(names_of(counts)[1], kinds, strict=True)]
    for path in (write_tenx(tmp_path / "a.h5", counts, kinds=kinds), write_mtx(tmp_path / "b", counts, features=rows)):
        _, features, whole, told = read(path)
        assert len(features) == 50
        assert (whole != counts[:, :50]).nnz == 0
        assert told["N-SOURCE-07"].examples == ("Antibody Capture (6)", "Peaks (4)")


def test_of_several_genomes_the_one_that_was_named_is_kept(tmp_path, counts):
    genomes = ["GRCh38"] * 40 + ["mm10"] * 20
    genes = [f"{genome}_{gene}" for genome, gene in zip(genomes, names_of(counts)[1], strict=True)]
    rows = [f"{gene}\tS\tGene Expression" for gene in genes]
    for path in (
        write_tenx(tmp_path / "a.h5", counts, genomes=genomes, genes=genes),
        write_mtx(tmp_path / "b", counts, features=rows),
    ):
        assert refused(path, RefusedError).code == "E-TENX-01"
        assert refused(path, RefusedError, part="hg19").code == "E-TENX-01"
        _, features, whole, _ = read(path, part="mm10")
        assert features == names_of(counts)[1][40:]
        assert (whole != counts[:, 40:]).nnz == 0


def test_of_several_groups_of_version_2_the_genome_that_was_named_is_read(tmp_path, counts):
    path = write_old_tenx(tmp_path / "a.h5", {"hg19": counts, "mm10": csr_matrix(counts[:10])})
    assert refused(path, RefusedError).code == "E-TENX-01"
    assert (read(path, part="mm10")[2] != counts[:10]).nnz == 0


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["shape", "no shape", "index", "negative index", "pointers", "twice"])
def test_a_damaged_10x_file_is_refused(tmp_path, counts, fault):
    path = write_tenx(tmp_path / "a.h5", counts)
    with h5py.File(path, "r+") as file:
        group = file["matrix"]
        if fault == "shape":
            group["shape"][0] = 61
        elif fault == "no shape":
            del group["shape"]
        elif fault == "pointers":
            group["indptr"][4] = 0
        else:
            group["indices"][1] = {"index": 60, "negative index": -1, "twice": group["indices"][0]}[fault]
    code = {"shape": "E-TENX-02", "no shape": "E-TENX-02", "pointers": "E-MATRIX-01", "twice": "E-MATRIX-04"}
    finding = refused(path, CytolabeError)
    assert finding.code == code.get(fault, "E-MATRIX-03")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda lines: lines[:-1], "fewer", id="cut off"),
        pytest.param(lambda lines: [*lines, "1 1 1"], "more", id="more than declared"),
        pytest.param(lambda lines: [*lines[:2], "900000000000 30000 1", *lines[3:]], "named beside it", id="a made-up size"),
        pytest.param(lambda lines: [*lines[:2], "60 40 2401", *lines[3:]], "more than there are places", id="no room"),
        pytest.param(lambda lines: [*lines[:3], "61 1 5", *lines[4:]], "row 61", id="a row outside"),
        pytest.param(lambda lines: [*lines[:3], "0 1 5", *lines[4:]], "row 0", id="counted from 0"),
        pytest.param(lambda lines: [*lines[:3], "1 1", *lines[4:]], "no entry", id="a value is missing"),
        pytest.param(lambda lines: [*lines[:3], "1 1 nan", *lines[4:]], "no entry", id="no number"),
        pytest.param(lambda lines: [*lines[:3], "1 -1 5", *lines[4:]], "no entry", id="a negative place"),
        pytest.param(lambda lines: [*lines[:3], "1.5 1 5", *lines[4:]], "no entry", id="half a place"),
        pytest.param(lambda lines: [*lines[:3], "1 1 5 7", *lines[4:]], "no entry", id="four fields"),
        pytest.param(lambda lines: ["<html>busy</html>"], "first line", id="a web page"),
        pytest.param(lambda lines: [lines[0].replace("general", "symmetric"), *lines[1:]], "first line", id="half given"),
        pytest.param(lambda lines: [*lines[:2], "60 40", *lines[3:]], "line of the sizes", id="no sizes"),
        pytest.param(lambda lines: [*lines[:3], "1 " * 40_000_000], "over 65,536 bytes", id="a line without an end"),
        pytest.param(lambda lines: [*lines[:5], "\n" * 12_000_000, *lines[5:]], "nearly all of it is blank", id="blanks"),
        pytest.param(lambda lines: [lines[0], "%\n" * 600_000, *lines[1:]], "bytes of comments", id="comments"),
    ],
)  # fmt: skip
def test_a_matrix_of_text_that_is_not_what_it_claims_is_refused(tmp_path, counts, spoil, said):
    finding = refused(write_mtx(tmp_path / "a", counts, lines=spoil(mtx_lines(counts))))
    assert finding.code == "E-MTX-01"
    assert said in finding.message


def test_a_feature_twice_in_a_cell_of_text_is_refused(tmp_path, counts):
    lines = mtx_lines(counts)
    lines[4] = lines[3]
    assert refused(write_mtx(tmp_path / "a", counts, lines=lines), RefusedError).code == "E-MATRIX-04"


def test_a_compressed_matrix_that_was_cut_off_is_unreadable(tmp_path, counts):
    folder = write_mtx(tmp_path / "a", counts)
    content = (folder / "matrix.mtx.gz").read_bytes()
    for spoiled in (content[: len(content) // 2], content[:-9] + bytes([content[-9] ^ 255]) + content[-8:]):
        (folder / "matrix.mtx.gz").write_bytes(spoiled)
        assert refused(folder).code in {"E-FILE-10", "E-MTX-01"}


def test_a_link_or_an_empty_file_among_the_three_is_refused(tmp_path, counts):
    folder = write_mtx(tmp_path / "a", counts)
    (folder / "barcodes.tsv.gz").rename(tmp_path / "elsewhere")
    (folder / "barcodes.tsv.gz").symlink_to(tmp_path / "elsewhere")
    (folder / "features.tsv.gz").write_bytes(b"")
    assert [finding.code for finding in scan_source(folder)] == ["E-SEC-02", "E-FILE-03"]


# --- numbers of text ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.one_of(st.integers(-(10**15), 10**15), st.floats(-1e6, 1e6).map(lambda x: round(x, 6))))
def test_a_number_of_text_is_the_number_that_was_written(value):
    text = f"{value!r}\n".encode()
    rows, columns, values, wrong = mtx_text._parsed(b"3 4 " + text)
    assert (list(rows), list(columns), wrong) == ([2], [3], -1)
    assert values[0] == pytest.approx(float(value), rel=1e-15, abs=0)


def test_an_integer_that_doubles_cannot_hold_stays_too_large():
    values = mtx_text._parsed(b"1 1 9007199254740993\n1 1 9007199254740992\n")[2]
    assert values[0] > 2**53
    assert values[1] == 2**53


def test_pieces_may_end_anywhere(tmp_path, counts, monkeypatch):
    monkeypatch.setattr(mtx_text, "_PIECE_BYTES", 13)
    assert (read(write_mtx(tmp_path / "a", counts))[2] != counts).nnz == 0
