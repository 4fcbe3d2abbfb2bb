"""Streams under PyTorch's loader: every cell once, another order each epoch, and exact resume with any workers."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.torch_stream import torch_dataset
from cytolabe.store import array_spec

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory, make):
    rng = np.random.default_rng(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_spec, "SHARD_VALUES", 64)
        patch.setattr(array_spec, "CHUNK_VALUES", 8)
        atlas = create_atlas(tmp_path_factory.mktemp("torch") / "atlas")
        atlas.publish(
            [
                write_dataset(atlas.path, content=make.content(name, csr_matrix(rng.integers(0, 3, size=(n, width)))))
                for name, n, width in (("kang", 150, 5), ("zheng", 91, 3))
            ]
        )
    return atlas.freeze()


def dataset_of(snapshot, *, rank=0, n_ranks=1, n_workers=0, **options):
    given = {"minibatch_size": 20, "unit_chunks": 1, "pool_entries": 60, "seed": 4}
    stream = snapshot.stream(**{**given, **options})
    return torch_dataset(stream, rank=rank, n_ranks=n_ranks, n_workers=n_workers)


def loaded(dataset, n_workers=0, **options):
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=n_workers, **options)
    assert len(loader) == len(dataset)
    return [step["rows"].tolist() for step in loader]


def rows_of(steps):
    return [row for step in steps for row in step]


def test_an_epoch_follows_another_without_workers(snapshot):
    dataset = dataset_of(snapshot)
    first, second = loaded(dataset), loaded(dataset)
    assert sorted(rows_of(first)) == sorted(rows_of(second)) == list(range(241))
    assert first != second
    dataset.set_epoch(0)
    assert loaded(dataset) == first


def test_each_rank_and_worker_reads_its_own_cells_and_epochs_differ(snapshot):
    epochs = []
    for epoch in (0, 1):
        steps = []
        for rank in range(2):
            dataset = dataset_of(snapshot, rank=rank, n_ranks=2, n_workers=2)
            dataset.set_epoch(epoch)
            own = loaded(dataset, n_workers=2)
            assert len(own) == len(dataset) == 8, "241 cells in 4 equal parts of minibatches of up to 20"
            steps += own
        assert sorted(rows_of(steps)) == list(range(241))
        epochs.append(steps)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("n_workers", "n_done"), [(0, 5), (2, 0), (2, 3), (2, 14)])
def test_a_loader_goes_on_after_any_number_of_minibatches(snapshot, n_workers, n_done):
    dataset = dataset_of(snapshot, n_workers=n_workers)
    dataset.set_epoch(2)
    whole = loaded(dataset, n_workers)
    dataset.set_epoch(2, n_minibatches=n_done)
    assert loaded(dataset, n_workers) == whole[n_done:]


def test_workers_that_persist_go_on_to_the_next_epoch_by_themselves(snapshot):
    dataset = dataset_of(snapshot, n_workers=1)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    epochs = [[step["rows"].tolist() for step in loader] for _ in range(2)]
    alone = dataset_of(snapshot)
    assert epochs == [loaded(alone), loaded(alone)]


@pytest.mark.parametrize("reuse_buffers", [False, True])
def test_tensors_keep_their_values_when_the_loader_goes_on(snapshot, reuse_buffers):
    dataset = dataset_of(snapshot, layout="dense", reuse_buffers=reuse_buffers)
    codes = np.arange(241)
    labelled = dataset_of(snapshot, label_codes={"place": codes}, reuse_buffers=reuse_buffers)
    for step, other in zip(list(dataset), list(labelled), strict=True):
        rows = step["rows"].numpy()
        expected = snapshot.counts(rows, dataset._stream.genes).toarray()
        np.testing.assert_array_equal(step["dense"].numpy(), expected)
        np.testing.assert_array_equal(other["place"].numpy(), rows)


def test_a_loader_with_other_workers_than_said_is_refused(snapshot):
    with pytest.raises(UsageError, match=r"has 1 workers, and the data set was made for 0.*n_workers=1"):
        loaded(dataset_of(snapshot), n_workers=1)
    with pytest.raises(UsageError, match="has 0 workers, and the data set was made for 2"):
        next(iter(dataset_of(snapshot, n_workers=2)))
    with pytest.raises(UsageError, match="rank 2 is none of 2"):
        dataset_of(snapshot, rank=2, n_ranks=2)
