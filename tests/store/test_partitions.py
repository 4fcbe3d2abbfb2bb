import hashlib
import itertools
import warnings

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, NotRawCountsError, UsageError
from cytolabe.files import staged_directory
from cytolabe.provenance import canonical_json
from cytolabe.records import Block
from cytolabe.store import array_spec, shards, writing
from cytolabe.store.counts_digest import RANGE_CELLS, CountsDigest, feature_order, features_digest, unversioned
from cytolabe.store.partitions import (
    Partition,
    PartitionPlan,
    PartitionWriter,
    missing_shards,
    partition_path,
    read_plan,
    seal_partition,
    verify_partition,
    write_partitions,
    write_plan,
    write_shards,
)

NAMES = ("ENSG00000000003.4", "CD3D", "ENSG00000000005", "RP11-206L10.2")


def blocks_of(counts, *, size=3, dataset_id="lab", names=None):
    names = names or tuple(f"cell{row}" for row in range(counts.shape[0]))
    for start in range(0, counts.shape[0], size):
        part = csr_matrix(counts[start : start + size])
        yield Block(dataset_id=dataset_id, start=start, cell_names=names[start : start + size], counts=part)


def write(directory, counts, *, features=NAMES, **kwargs):
    blocks = blocks_of(csr_matrix(counts), **kwargs)
    return write_partitions(directory, blocks, dataset_id="lab", features=features)[0]


def digest_by_hand(counts, features, names):
    """The definition of the counts digest, written once more without numpy tricks."""
    order = sorted(range(len(features)), key=lambda position: (unversioned(features[position]), features[position]))
    leaves, running = [], hashlib.sha256()
    for row, name in enumerate(names):
        if row and row % RANGE_CELLS == 0:
            leaves.append(running.hexdigest())
            running = hashlib.sha256()
        pairs = [(place, int(counts[row][column])) for place, column in enumerate(order) if counts[row][column]]
        content = b"".join(place.to_bytes(4, "little") + count.to_bytes(8, "little") for place, count in pairs)
        running.update(len(name.encode()).to_bytes(8, "little") + name.encode())
        running.update(len(content).to_bytes(8, "little") + content)
    if names:
        leaves.append(running.hexdigest())
    ordered = canonical_json([features[position] for position in order])
    body = {
        "kind": "cytolabe/counts/1",
        "features": "sha256:" + hashlib.sha256(ordered).hexdigest(),
        "n_cells": len(names),
        "range_cells": 4096,
        "ranges": leaves,
    }
    return "sha256:" + hashlib.sha256(canonical_json(body)).hexdigest()


@pytest.fixture
def counts():
    return np.array([[1, 0, 3, 0], [0, 0, 0, 0], [7, 300, 0, 70_000], [0, 2, 0, 0], [5, 0, 0, 1]])


def test_plain_anndata_opens_a_partition(tmp_path, counts):
    entry = write(tmp_path, counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = anndata.read_zarr(partition_path(tmp_path, entry.digest))
    assert opened.obs_names.tolist() == [f"cell{row}" for row in range(5)]
    assert np.array_equal(opened[:, list(NAMES)].X.toarray(), counts)
    assert (entry.n_cells, entry.n_features, entry.n_nonzero) == (5, 4, 8)


def test_features_are_kept_verbatim_in_the_order_of_their_unversioned_ids(tmp_path, counts):
    partition = Partition(partition_path(tmp_path, write(tmp_path, counts).digest))
    assert partition.features == ("CD3D", "ENSG00000000003.4", "ENSG00000000005", "RP11-206L10.2")
    assert unversioned("RP11-206L10.2") == "RP11-206L10.2"
    assert unversioned("ENSMUSG00000064370.1") == "ENSMUSG00000064370"


matrices = st.integers(1, 7).flatmap(
    lambda n: st.lists(
        st.lists(st.sampled_from([0, 0, 0, 1, 2, 255, 256, 70_000, 2**33]), min_size=4, max_size=4),
        min_size=n,
        max_size=n,
    )
)


@given(
    rows=matrices, size=st.integers(1, 8), kind=st.sampled_from(["u8", "i8", "f8"]), columns=st.permutations(range(4))
)
@settings(max_examples=25, deadline=None)
def test_the_digest_does_not_depend_on_blocks_types_or_column_order(tmp_path_factory, rows, size, kind, columns):
    directory = tmp_path_factory.mktemp("partitions")
    counts = np.array(rows)
    features = tuple(NAMES[column] for column in columns)
    entry = write(directory, counts[:, columns].astype(kind), size=size, features=features)
    assert entry.digest == digest_by_hand(rows, NAMES, [f"cell{row}" for row in range(len(rows))])
    again = Partition(partition_path(directory, entry.digest))
    assert np.array_equal(again.rows(np.arange(len(rows))).toarray(), counts[:, feature_order(NAMES)])


def test_the_digest_changes_with_a_count_a_name_and_an_order(tmp_path, counts):
    other_count = counts.copy()
    other_count[3, 1] += 1
    names = tuple(f"cell{row}" for row in range(5))
    digests = [
        write(tmp_path, counts).digest,
        write(tmp_path, other_count).digest,
        write(tmp_path, counts, features=("ENSG00000000003.5", *NAMES[1:])).digest,
        write(tmp_path, counts, names=("other", *names[1:])).digest,
        write(tmp_path, counts[::-1]).digest,
        write(tmp_path, counts[:4]).digest,
    ]
    assert len(set(digests)) == len(digests)


def test_a_range_ends_after_its_fixed_number_of_cells_wherever_blocks_end(monkeypatch):
    counts = csr_matrix(np.ones((RANGE_CELLS + 10, 4), dtype=np.uint8))
    names = [f"cell{row}" for row in range(counts.shape[0])]
    digest = CountsDigest(features_digest=features_digest([NAMES[position] for position in feature_order(NAMES)]))
    for start in range(0, counts.shape[0], 999):
        digest.append(names[start : start + 999], csr_matrix(counts[start : start + 999]))
    assert digest.finish() == digest_by_hand(counts.toarray(), NAMES, names)


def test_the_digest_does_not_depend_on_the_codec(tmp_path, counts, monkeypatch):
    plain = write(tmp_path / "a", counts)
    monkeypatch.setattr(array_spec, "COMPRESSOR", "lz4")
    other = write(tmp_path / "b", counts)
    assert other.digest == plain.digest
    assert other.files != plain.files
    read = [Partition(partition_path(tmp_path / folder, plain.digest)).rows(np.arange(5)).toarray() for folder in "ab"]
    assert np.array_equal(*read)


def test_explicit_zeros_unsorted_and_doubled_entries_mean_what_they_say(tmp_path):
    tidy = csr_matrix(np.array([[0, 3, 0, 1]]))
    untidy = csr_matrix((np.array([1, 0, 2, 1]), np.array([3, 0, 1, 1]), np.array([0, 4])), shape=(1, 4))
    given_indices = untidy.indices.copy()
    assert write(tmp_path, untidy).digest == write(tmp_path, tidy).digest
    assert np.array_equal(untidy.indices, given_indices), "the block of the caller was changed"


def test_values_take_the_narrowest_width_and_widen_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 64)
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 16)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, size=(60, 4))
    narrow = Partition(partition_path(tmp_path, write(tmp_path, counts).digest))
    assert narrow._data.read(0, 1).dtype == np.uint8
    counts[50, 1], counts[59, 0] = 60_000, 2**40
    wide = Partition(partition_path(tmp_path, write(tmp_path, counts).digest))
    assert wide._data.read(0, 1).dtype == np.uint64
    assert wide._indices.read(0, 1).dtype == np.uint16
    assert np.array_equal(wide.rows(np.arange(60)).toarray(), counts[:, feature_order(NAMES)])
    assert wide.verify() == ()


def test_rows_come_in_the_order_asked_for_with_repeats(tmp_path, monkeypatch):
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 32)
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 4)
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, size=(50, 4))
    partition = Partition(partition_path(tmp_path, write(tmp_path, counts, size=7).digest))
    rows = rng.integers(0, 50, size=40)
    assert np.array_equal(partition.rows(rows).toarray(), counts[rows][:, feature_order(NAMES)])
    assert partition.rows(np.zeros(0, dtype=np.int64)).shape == (0, 4)
    with pytest.raises(UsageError, match="outside"):
        partition.rows(np.array([50]))
    with pytest.raises(UsageError, match="outside"):
        partition.rows(np.array([-1]))


def test_a_data_set_is_cut_exactly_at_the_limit(tmp_path):
    counts = np.arange(1, 45).reshape(11, 4)
    entries = write_partitions(
        tmp_path, blocks_of(csr_matrix(counts), size=3), dataset_id="lab", features=NAMES, max_cells=4
    )
    assert [entry.n_cells for entry in entries] == [4, 4, 3]
    one_block = write_partitions(
        tmp_path, blocks_of(csr_matrix(counts), size=11), dataset_id="lab", features=NAMES, max_cells=4
    )
    assert one_block == entries
    exact = write_partitions(
        tmp_path, blocks_of(csr_matrix(counts[:8]), size=5), dataset_id="lab", features=NAMES, max_cells=4
    )
    assert exact == entries[:2]


def test_iterating_gives_every_cell_once_in_source_order(tmp_path, counts):
    partition = Partition(partition_path(tmp_path, write(tmp_path, counts).digest))
    blocks = list(partition.iter_blocks(2, dataset_id="lab", first_row=10))
    assert [block.start for block in blocks] == [10, 12, 14]
    assert [name for block in blocks for name in block.cell_names] == [f"cell{row}" for row in range(5)]


def test_an_empty_partition_is_whole(tmp_path):
    entry = write_partitions(tmp_path, [], dataset_id="lab", features=NAMES)[0]
    partition = Partition(partition_path(tmp_path, entry.digest))
    assert (entry.n_cells, partition.n_cells, partition.verify()) == (0, 0, ())


@pytest.mark.parametrize("wrong", [-1.0, 0.5, np.nan, np.inf])
def test_what_is_no_count_is_refused(tmp_path, counts, wrong):
    bad = counts.astype(float)
    bad[2, 0] = wrong
    with pytest.raises(NotRawCountsError, match="1 of 8 values"):
        write(tmp_path, bad, size=5)
    assert list(tmp_path.iterdir()) == [], "a refused write leaves nothing behind"


def test_cells_of_one_name_are_refused(tmp_path, counts):
    with pytest.raises(UsageError, match="cell0"):
        write(tmp_path, counts, names=("cell0", "cell1", "cell0", "cell3", "cell4"))


def test_blocks_out_of_order_or_of_another_data_set_are_refused(tmp_path, counts):
    blocks = list(blocks_of(csr_matrix(counts)))
    with pytest.raises(UsageError, match="row 0 must come next"):
        write_partitions(tmp_path, blocks[::-1], dataset_id="lab", features=NAMES)
    with pytest.raises(UsageError, match="is of other"):
        write_partitions(tmp_path, blocks, dataset_id="other", features=NAMES)
    with pytest.raises(UsageError, match="3 features"):
        write_partitions(tmp_path, blocks, dataset_id="lab", features=NAMES[:3])


def test_a_writer_that_is_closed_early_leaves_nothing(tmp_path, counts):
    writer = PartitionWriter(tmp_path, dataset_id="lab", features=NAMES)
    writer.append(next(blocks_of(csr_matrix(counts))))
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 32)
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 8)


def planned(counts, *, first_row=0):
    counts = np.asarray(counts)
    indptr = np.concatenate([[0], np.cumsum((counts > 0).sum(axis=1))])
    largest = int(counts.max(initial=0))
    return PartitionPlan(dataset_id="lab", features=NAMES, first_row=first_row, indptr=indptr, largest=largest)


def cells_for(counts, plan, shards, *, size=5):
    first, last = plan.cells_of_shards(*shards)
    for start in range(first, last, size):
        part = counts[start : min(last, start + size)]
        names = tuple(f"cell{row}" for row in range(start, start + len(part)))
        yield Block(dataset_id="lab", start=plan.first_row + start, cell_names=names, counts=csr_matrix(part))


def test_a_read_of_many_shards_has_few_of_them_open_at_a_time(tmp_path, monkeypatch, small_chunks):
    counts = np.random.default_rng(3).integers(1, 9, size=(60, len(NAMES)))
    partition = Partition(partition_path(tmp_path, write(tmp_path, counts).digest))
    n_open, located = [], shards.ShardedArray._located

    def counted(array, chunks):
        found = located(array, chunks)
        n_open.append(len(found[2]))
        return found

    monkeypatch.setattr(shards, "AT_ONCE", 2)
    monkeypatch.setattr(shards.ShardedArray, "_located", counted)
    order = [NAMES.index(name) for name in partition.features]
    assert (partition.rows(np.arange(60)).toarray() == counts[:, order]).all()
    assert max(n_open) == 2
    assert len(n_open) > 2


def test_no_more_than_a_shard_and_a_block_is_held(tmp_path, monkeypatch, small_chunks):
    sizes = []
    encode = writing.encode_shard
    monkeypatch.setattr(writing, "encode_shard", lambda values, spec: sizes.append(len(values)) or encode(values, spec))
    write(tmp_path, np.ones((500, 4), dtype=np.uint8), size=50)
    assert max(sizes) == 32


@given(seed=st.integers(0, 99), cuts=st.sets(st.integers(1, 9), max_size=4), density=st.sampled_from([0.2, 0.9]))
@settings(max_examples=20, deadline=None)
def test_shards_written_apart_in_any_order_are_those_of_one_stream(tmp_path_factory, seed, cuts, density):
    directory = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 500, size=(70, 4)) * (rng.random((70, 4)) < density)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_spec, "SHARD_VALUES", 32)
        patch.setattr(array_spec, "CHUNK_VALUES", 8)
        stream = write(directory / "stream", counts, size=11)
        plan = planned(counts)
        borders = sorted({0, plan.n_shards, *(cut for cut in cuts if cut < plan.n_shards)})
        with staged_directory(directory) as staged:
            write_plan(staged, plan)
            hashes = {}
            for shards in reversed(list(itertools.pairwise(borders))):
                kept = read_plan(staged)
                hashes |= write_shards(staged, kept, shards=shards, blocks=cells_for(counts, kept, shards))
            assert missing_shards(staged, plan) == []
            entry = seal_partition(
                directory / "tasks",
                staged,
                read_plan(staged),
                digest=stream.digest,
                cell_names=[f"cell{row}" for row in range(70)],
                written=hashes,
            )
        assert entry == stream
        assert Partition(partition_path(directory / "tasks", entry.digest)).verify() == ()


def test_what_is_left_to_write_is_known_after_an_interruption(tmp_path, small_chunks):
    counts = np.arange(1, 161).reshape(40, 4)
    plan = planned(counts)
    write_shards(tmp_path, plan, shards=(1, 3), blocks=cells_for(counts, plan, (1, 3)))
    assert missing_shards(tmp_path, plan) == [0, 3, 4]
    with pytest.raises(IntegrityError, match="3 of 5 shards are not written, first 0"):
        seal_partition(tmp_path, tmp_path, plan, digest="sha256:0", cell_names=[f"c{row}" for row in range(40)])


@pytest.mark.parametrize("change", ["count", "entry", "missing"])
def test_a_source_that_changed_since_the_first_pass_is_noticed(tmp_path, small_chunks, change):
    counts = np.ones((40, 4), dtype=np.int64)
    plan = planned(counts)
    blocks = list(cells_for(counts, plan, (0, plan.n_shards)))
    if change == "missing":
        blocks.pop()
    else:
        blocks[1].counts.data[3] = 2 if change == "count" else 0
    with pytest.raises(IntegrityError, match=r"[Ii]ngest it again"):
        write_shards(tmp_path, plan, shards=(0, plan.n_shards), blocks=blocks)


def test_zarr_and_anndata_read_what_the_own_codec_wrote(tmp_path, small_chunks):
    counts = np.random.default_rng(2).integers(0, 70_000, size=(90, 4))
    entry = write(tmp_path, counts, size=20)
    directory = partition_path(tmp_path, entry.digest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = anndata.read_zarr(directory)
    assert np.array_equal(opened[:, list(NAMES)].X.toarray(), counts)
    assert len(list((directory / "X" / "data" / "c").iterdir())) > 5


# --- reading ------------------------------------------------------------------------------------------------------


@given(first=st.integers(0, 60), n_cells=st.integers(0, 60), n_threads=st.sampled_from([1, 2, 5]), wide=st.booleans())
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("is_native", [True, False])
def test_any_run_of_cells_is_decoded_into_the_arrays_of_the_caller(
    tmp_path_factory, first, n_cells, n_threads, wide, is_native
):
    rng = np.random.default_rng(first)
    counts = rng.integers(0, 3, size=(120, 4)) * (70_000 if wide else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_spec, "SHARD_VALUES", 32)
        patch.setattr(array_spec, "CHUNK_VALUES", 4)
        patch.setattr(shards, "_n_threads", lambda: n_threads)
        patch.setattr(shards, "_READ_BYTES", 40)
        patch.setattr(shards, "_CHUNKS_PER_TASK", 2)
        patch.setattr(shards, "is_native", lambda: is_native)
        directory = tmp_path_factory.mktemp("runs")
        partition = Partition(partition_path(directory, write(directory, counts, size=50).digest))
        columns, values = np.zeros(300, dtype=np.uint32), np.zeros(300, dtype=np.uint32)
        n_entries = partition.decode(first, first + n_cells, columns=columns, counts=values)
    part = counts[first : first + n_cells][:, feature_order(NAMES)]
    assert n_entries == np.count_nonzero(part)
    assert np.array_equal(values[:n_entries], part[part > 0])
    assert np.array_equal(columns[:n_entries], np.nonzero(part)[1])


def test_decoding_into_arrays_that_are_too_short_is_refused(tmp_path, counts):
    partition = Partition(partition_path(tmp_path, write(tmp_path, counts).digest))
    room = np.zeros(2, dtype=np.uint32)
    with pytest.raises(UsageError, match="do not fit"):
        partition.decode(0, 5, columns=room, counts=room)
    with pytest.raises(UsageError, match="outside"):
        partition.decode(3, 6, columns=room, counts=room)


def test_counts_over_32_bits_are_not_cut_down(tmp_path):
    partition = Partition(partition_path(tmp_path, write(tmp_path, [[2**40, 0, 1, 0]]).digest))
    room = np.zeros(9, dtype=np.uint32)
    with pytest.raises(UsageError, match="64 bits"):
        partition.decode(0, 1, columns=room, counts=room)
    assert partition.rows(np.array([0])).max() == 2**40


@pytest.mark.parametrize("n_chunks", [1, 3, 100])
def test_runs_hold_every_cell_once_and_begin_where_their_chunks_do(tmp_path, small_chunks, n_chunks):
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 2, size=(60, 4)) * (rng.random((60, 1)) < 0.7)
    partition = Partition(partition_path(tmp_path, write(tmp_path, counts).digest))
    runs = partition.runs(n_chunks)
    assert [first for first, _ in runs] == [0, *(last for _, last in runs[:-1])]
    assert runs[-1][1] == 60
    for first, last in runs:
        starts = partition.indptr[first:last][np.diff(partition.indptr)[first:last] > 0]
        assert len(np.unique(starts // (8 * n_chunks))) <= 1


# --- damage -------------------------------------------------------------------------------------------------------


def chunk_files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file() and "c" in path.parts)


@pytest.mark.parametrize("array", ["X/data", "X/indices", "X/indptr", "obs/_index", "var/_index"])
def test_a_missing_chunk_is_never_read_as_zeros(tmp_path, counts, array):
    directory = partition_path(tmp_path, write(tmp_path, counts).digest)
    opened = Partition(directory)
    (directory / array / "c" / "0").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        Partition(directory)
    (finding,) = opened.verify()
    assert finding.code == "E-INTEGRITY-01"
    assert finding.where.endswith(f"{array}/c/0")
    if array != "X/indptr":  # that one is read on opening
        with pytest.raises(IntegrityError, match="missing"):
            list(opened.iter_blocks())


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_flipped_bit_anywhere_is_found(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("damaged")
    rng = np.random.default_rng(3)
    entry = write(directory, rng.integers(0, 400, size=(30, 4)), size=30)
    target = partition_path(directory, entry.digest)
    assert Partition(target).verify() == ()
    path = data.draw(st.sampled_from(sorted(path for path in target.rglob("*") if path.is_file())))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    findings = verify_with_root(target, entry)
    assert [finding.severity.value for finding in findings] == ["error"]
    assert findings[0].where.endswith(path.relative_to(target).as_posix())


def verify_with_root(directory, entry):
    return verify_partition(directory, root_sha256=entry.files["zarr.json"])


def test_a_changed_list_of_files_does_not_blame_the_files(tmp_path, counts):
    entry = write(tmp_path, counts)
    root = partition_path(tmp_path, entry.digest) / "zarr.json"
    root.write_bytes(root.read_bytes().replace(b"X/data/c/0", b"X/data/c/1"))
    (finding,) = verify_with_root(root.parent, entry)
    assert finding.code == "E-INTEGRITY-02"
    assert finding.where.endswith("/zarr.json")


def test_reading_flipped_counts_fails_by_checksum(tmp_path, counts):
    directory = partition_path(tmp_path, write(tmp_path, counts).digest)
    path = directory / "X" / "data" / "c" / "0"
    content = bytearray(path.read_bytes())
    content[8] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="X/data"):
        Partition(directory).rows(np.arange(5))


def test_counts_that_were_exchanged_for_other_valid_counts_are_found(tmp_path, counts):
    directory = partition_path(tmp_path, write(tmp_path, counts).digest)
    other = partition_path(tmp_path, write(tmp_path, counts[::-1]).digest)
    root = (other / "zarr.json").read_text().replace(other.name, directory.name)
    for path in chunk_files(directory):
        path.write_bytes((other / path.relative_to(directory)).read_bytes())
    for path in directory.rglob("zarr.json"):
        path.write_bytes((other / path.relative_to(directory)).read_bytes())
    (directory / "zarr.json").write_text(root)
    (finding,) = Partition(directory).verify()
    assert finding.code == "E-INTEGRITY-04"


@pytest.mark.parametrize("version", ["cytolabe/partition/1", "cytolabe/partition/3"])
def test_another_version_of_the_format_is_told_and_not_taken_for_damage(tmp_path, counts, version):
    directory = partition_path(tmp_path, write(tmp_path, counts).digest)
    root = directory / "zarr.json"
    root.write_text(root.read_text().replace("cytolabe/partition/2", version))
    with pytest.raises(IntegrityError, match=f"has format {version}; this version of Cytolabe reads"):
        Partition(directory)


def test_two_chunks_that_were_swapped_are_found(tmp_path, small_chunks):
    counts = np.random.default_rng(7).integers(0, 9, size=(60, 4))
    directory = partition_path(tmp_path, write(tmp_path, counts).digest)
    first, second = (directory / "X" / "data" / "c" / number for number in "01")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert [finding.code for finding in Partition(directory).verify()] == ["E-INTEGRITY-02", "E-INTEGRITY-02"]


def test_a_file_that_does_not_belong_there_is_found(tmp_path, counts):
    directory = partition_path(tmp_path, write(tmp_path, counts).digest)
    (directory / "X" / "notes.txt").write_text("hello")
    assert [finding.code for finding in Partition(directory).verify()] == ["E-INTEGRITY-03"]


def test_equal_counts_are_not_published_over_a_damaged_partition(tmp_path, counts):
    directory = partition_path(tmp_path, write(tmp_path, counts).digest)
    assert write(tmp_path, counts, size=2).digest.endswith(directory.name)
    (directory / "X" / "data" / "c" / "0").unlink()
    with pytest.raises(IntegrityError, match="remove the damaged directory"):
        write(tmp_path, counts)
