"""Lists that gzip packed are read as HDF5 reads them, and a chunk that is not of its size is damaged."""

import ctypes
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.ingest.deflated import DeflatedList, is_deflated, unpacked
from cytolabe.ingest.inspect_hdf5 import look_through
from cytolabe.ingest.source import open_source, scan_source

TYPES = ("<f4", ">f4", "<f8", "<f2", "<i4", ">i4", "<i8", "<u2", "u1")


@pytest.fixture
def packed(tmp_path):
    """A list of 100 numbers in chunks of 30, with a chunk replaced by what a test says."""

    def _write(content=None, *, chunk=1, mask=0, **options):
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            made = file.create_dataset(
                "x", data=np.arange(100, dtype="<i4"), chunks=(30,), **{"compression": "gzip", **options}
            )
            if content is not None:
                made.id.write_direct_chunk((30 * chunk,), content, filter_mask=mask)
        return path

    return _write


@given(
    dtype=st.sampled_from(TYPES),
    n_values=st.integers(1, 200),
    chunk=st.integers(1, 64),
    is_shuffled=st.booleans(),
    slices=st.lists(st.tuples(st.integers(0, 210), st.integers(0, 210)), min_size=1, max_size=8),
)
def test_any_slices_in_any_order_are_those_of_hdf5(dtype, n_values, chunk, is_shuffled, slices):
    values = np.random.default_rng(n_values).integers(0, 200, n_values).astype(dtype)
    with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(
            "x", data=values, chunks=(min(chunk, n_values),), compression="gzip", shuffle=is_shuffled
        )
        ours = unpacked(dataset)
        assert isinstance(ours, DeflatedList)
        assert (ours.shape, ours.dtype, ours.name) == (dataset.shape, dataset.dtype, dataset.name)
        np.testing.assert_array_equal(ours[...], values)
        for low, high in slices:
            found = ours[low:high]
            np.testing.assert_array_equal(found, dataset[low:high])
            assert found.dtype == dataset.dtype


def test_only_lists_of_plain_numbers_that_gzip_packed_whole_are_unpacked_here(tmp_path):
    numbers = np.arange(10)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("packed", data=numbers, chunks=(5,), compression="gzip")
        file.create_dataset("chunked", data=numbers, chunks=(5,))
        file.create_dataset("checked", data=numbers, chunks=(5,), compression="gzip", fletcher32=True)
        file.create_dataset("lzf", data=numbers, chunks=(5,), compression="lzf")
        file.create_dataset("table", data=numbers.reshape(5, 2), chunks=(5, 2), compression="gzip")
        file.create_dataset("flags", data=numbers > 3, chunks=(5,), compression="gzip")
        file.create_dataset("text", data=["a", "b"], chunks=(2,), compression="gzip")
        file.create_dataset("half_written", shape=(10,), dtype="i8", chunks=(5,), compression="gzip")[:5] = 1
        odd = h5py.h5t.STD_I32LE.copy()
        odd.set_size(3)
        odd.set_precision(24)
        chunked = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        chunked.set_chunk((5,))
        chunked.set_deflate(4)
        made = h5py.h5d.create(file.id, b"of_24_bits", odd, h5py.h5s.create_simple((10,)), chunked)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers)
        assert [name for name in file if is_deflated(file[name])] == ["packed"]


@pytest.mark.parametrize(
    "content",
    [
        zlib.compress(bytes(30 * 4 - 4)),
        zlib.compress(bytes(30 * 4 + 4)),
        zlib.compress(bytes(1 << 28)),
        zlib.compress(bytes(120))[:-3],
        b"no gzip at all",
    ],
    ids=["a value too few", "a value too many", "a chunk that grows to 256 MiB", "cut off", "other bytes"],
)
def test_a_chunk_that_is_not_of_its_size_is_damaged_and_named(packed, content):
    path = packed(content)
    with h5py.File(path) as file, pytest.raises(OSError, match=r"chunk 1 of /x \(from value 30 on\) is damaged"):
        unpacked(file["x"])[20:40]
    (finding,) = look_through(path)
    assert (finding.code, finding.where) == ("E-FILE-10", "/x")


def test_a_chunk_that_its_writer_left_as_it_is_is_read_as_it_is(packed):
    with h5py.File(packed(np.arange(30, dtype="<i4").tobytes(), mask=1)) as file:
        np.testing.assert_array_equal(unpacked(file["x"])[30:60], np.arange(30))
    with h5py.File(packed(np.arange(30, dtype="<i4").tobytes(), mask=3, shuffle=True)) as file:
        np.testing.assert_array_equal(unpacked(file["x"])[30:60], np.arange(30))
    with h5py.File(packed(zlib.compress(np.arange(30, dtype="<i4").tobytes()), mask=1, shuffle=True)) as file:
        np.testing.assert_array_equal(unpacked(file["x"])[30:60], np.arange(30))


def test_a_last_chunk_that_is_not_full_may_be_left_unpacked_by_its_list(tmp_path, packed):
    (library,) = (Path(h5py.__file__).parent.parent / "h5py.libs").glob("libhdf5-*.so*")
    chunked = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    chunked.set_chunk((30,))
    chunked.set_shuffle()
    chunked.set_deflate(4)
    dont_filter_partial_chunks = 2
    set_options = ctypes.CDLL(str(library)).H5Pset_chunk_opts
    set_options.argtypes = [ctypes.c_int64, ctypes.c_uint]
    assert set_options(chunked.id, dont_filter_partial_chunks) == 0
    with h5py.File(tmp_path / "edge.h5", "w", libver="latest") as file:
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((100,)), chunked)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(100, dtype="<i4"))
        ours = unpacked(file["x"])
        assert isinstance(ours, DeflatedList)
        np.testing.assert_array_equal(ours[...], np.arange(100))
        np.testing.assert_array_equal(ours[85:97], np.arange(85, 97))
    assert look_through(tmp_path / "edge.h5") == ()
    with h5py.File(packed(bytes(120), chunk=3)) as file, pytest.raises(OSError, match="filter returned failure"):
        unpacked(file["x"])[95:]


def test_nothing_but_a_run_of_values_can_be_asked_for(packed):
    with h5py.File(packed()) as file:
        for place in (3, slice(0, 10, 2), [1, 2]):
            with pytest.raises(TypeError, match="slices without steps"):
                unpacked(file["x"])[place]


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_a_packed_matrix_is_read_as_the_plain_one(write, counts, make_adata, layout):
    matrix = counts if layout == "csr" else counts.tocsc()
    found = {}
    for name, options in {"plain": {}, "packed": {"compression": "gzip"}}.items():
        path = write(make_adata(matrix), name=f"{name}.h5ad", **options)
        assert scan_source(path) == ()
        with open_source(path) as opened:
            (handle,) = opened.matrices
            found[name] = opened.read_cells(handle, start=0, stop=handle.shape[0]).toarray()
    np.testing.assert_array_equal(found["packed"], found["plain"])
    np.testing.assert_array_equal(found["plain"], counts.toarray())
