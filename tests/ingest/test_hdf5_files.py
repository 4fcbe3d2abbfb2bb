import h5py
import numpy as np
import pytest

from cytolabe.ingest.hdf5_files import chunk_cache_bytes, open_hdf5

MIB = 1 << 20


@pytest.mark.parametrize(
    ("shape", "chunks", "cells_are_columns", "expected"),
    [
        ((10,), (10,), False, MIB),
        ((4 * MIB,), (MIB,), False, 4 * MIB),
        ((1_000, 3_000), (1_000, 1_000), False, 12_000_000),
        ((1_000, 3_000), (500, 1_000), True, 4_000_000),
        ((64, 2 * MIB), (64, MIB), False, 64 * MIB),
    ],
)
def test_the_cache_holds_the_chunks_that_a_block_of_cells_leaves_half_read(
    tmp_path, shape, chunks, cells_are_columns, expected
):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("X", shape=shape, chunks=chunks, dtype="f4")
        file.create_dataset("small", data=np.zeros(3))
        assert chunk_cache_bytes(file, cells_are_columns=cells_are_columns) == expected


def test_a_type_that_numpy_does_not_have_is_no_obstacle(tmp_path):
    whole = h5py.h5t.STD_I32LE.copy()
    whole.set_size(3)
    whole.set_precision(24)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        chunked = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        chunked.set_chunk((MIB,))
        h5py.h5d.create(file.id, b"X", whole, h5py.h5s.create_simple((MIB,)), chunked)
        assert chunk_cache_bytes(file) == 3 * MIB


def test_what_is_read_for_no_block_of_cells_counts_for_nothing(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("uns/picture", shape=(4 * MIB,), chunks=(4 * MIB,), dtype="f4")
        assert chunk_cache_bytes(file) == MIB


def test_a_file_is_opened_with_that_cache(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("X", shape=(4 * MIB,), chunks=(MIB,), dtype="f4")
    with open_hdf5(tmp_path / "x.h5") as file:
        assert file.id.get_access_plist().get_cache()[2] == 4 * MIB
