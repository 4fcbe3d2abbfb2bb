"""The table of sketches stands beside a data set: it enters no name, and follows from the counts."""

import gc
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytolabe.errors import IntegrityError
from cytolabe.snapshot.entries import EntryParts, write_entry
from cytolabe.snapshot.purge import purge_withdrawn
from cytolabe.snapshot.sketches import sketched
from cytolabe.snapshot.withdraw import withdraw_person
from cytolabe.store import table_stream, tables
from cytolabe.store.partitions import Partition
from cytolabe.store.table_stream import TableStream
from cytolabe.store.tables import read_table, write_table


def test_an_entry_has_one_name_with_and_without_sketches(atlas):
    frozen = atlas.freeze()
    entry = atlas.entry("kang")
    atlas.layout.document(atlas.layout.datasets, entry.digest).unlink()
    parts = EntryParts(
        record=entry.record,
        partitions=entry.partitions,
        tables={name: table for name, table in entry.tables.items() if name != "sketches"},
        gene_reference=entry.gene_reference,
        alignment_digest=entry.alignment_digest,
        findings=entry.findings,
    )
    older = write_entry(atlas.layout, parts)
    assert "sketches" in entry.tables
    assert "sketches" not in older.tables
    assert older.digest == entry.digest
    assert atlas.freeze().snapshot_id == frozen.snapshot_id
    assert atlas.freeze().sketches("kang") is None


def test_sketches_are_those_of_the_kept_cells_and_no_counts_are_read(atlas, monkeypatch):
    before = atlas.freeze()
    genes = before.measured_genes("kang")
    n_cells = before.datasets["kang"].n_cells
    expected = sketched(before.counts(np.arange(n_cells), genes), genes)
    withdraw_person(atlas, donor=("kang", "d0"))
    snapshot = atlas.freeze()
    monkeypatch.setattr(Partition, "rows", None)
    found, kept = snapshot.sketches("kang"), snapshot.kept_rows("kang")
    assert 0 < len(kept) < n_cells
    for name in ("hashes", "entries", "totals"):
        assert np.array_equal(getattr(before.sketches("kang"), name), getattr(expected, name))
        assert np.array_equal(getattr(found, name), getattr(expected, name)[kept])


def test_a_changed_table_of_sketches_is_refused(atlas):
    snapshot = atlas.freeze()
    path = atlas.layout.tables / snapshot.entries["kang"].tables["sketches"].file
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError):
        snapshot.sketches("kang")


def test_a_purge_leaves_the_sketches_of_the_others(atlas):
    old = atlas.layout.tables / atlas.entry("kang").tables["sketches"].file
    withdraw_person(atlas, donor=("kang", "d0"))
    expected = atlas.freeze().sketches("kang")
    purge_withdrawn(atlas)
    assert not old.exists()
    assert np.array_equal(atlas.freeze().sketches("kang").entries, expected.entries)


@pytest.mark.parametrize("cuts", [[0, 25], [0, 7, 10, 10, 25], [0, 20], [0, 24, 25], []])
def test_a_table_that_was_streamed_is_the_table_that_was_written_at_once(tmp_path, cuts, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 10)
    monkeypatch.setattr(table_stream, "ROW_GROUP", 10)
    n_rows = cuts[-1] if cuts else 0
    frame = pd.DataFrame({"a": np.arange(n_rows, dtype=np.uint64), "b": np.arange(n_rows) - 5})
    stream = TableStream({name: frame[name].dtype for name in frame}, n_rows=n_rows, folder=tmp_path / "work")
    for first, last in itertools.pairwise(cuts):
        stream.append({name: frame[name].to_numpy()[first:last] for name in frame})
    (tmp_path / "streamed").mkdir()
    (tmp_path / "whole").mkdir()
    streamed = stream.close(tmp_path / "streamed")
    assert streamed == write_table(frame, tmp_path / "whole")
    assert read_table(tmp_path / "streamed", streamed).equals(frame)


def test_a_streamed_table_that_is_given_up_leaves_no_file_open(tmp_path):
    def n_open():
        return sum(
            str(tmp_path) in str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()
        )

    stream = TableStream({"a": np.dtype(np.int64)}, n_rows=3, folder=tmp_path)
    assert n_open() == 1
    del stream
    gc.collect()
    assert n_open() == 0


def test_a_streamed_table_of_other_rows_than_announced_is_refused(tmp_path):
    stream = TableStream({"a": np.dtype(np.int64)}, n_rows=3, folder=tmp_path / "work")
    stream.append({"a": np.arange(2)})
    with pytest.raises(IntegrityError, match="2 rows were written to a table of 3"):
        stream.close(tmp_path)
