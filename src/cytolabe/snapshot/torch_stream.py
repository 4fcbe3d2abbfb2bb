"""A stream for PyTorch's `DataLoader`: each cell in one worker of one rank, another order every epoch, exact resume.

A loader hands its data set to the workers when it begins and hears nothing of them afterwards, so the epoch cannot
follow from what was read: it is set before each epoch, as with torch's own `DistributedSampler`. The position within
an epoch is a number of minibatches. A loader takes from its workers in turn, so after a resume the worker that is asked
first goes on with the part that was next.

torch is an extra and takes seconds to import, so the class that it wants to see is made on first use; a loader that
spawns its workers sends them what the data set is made of.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, cast

from cytolabe.errors import MissingExtraError, UsageError
from cytolabe.snapshot.epoch import Reader
from cytolabe.snapshot.stream import CellStream

if TYPE_CHECKING:
    import torch

__all__ = ["StreamDataset", "torch_dataset"]

_NAMES = ("rows", "n_counts", "indptr", "columns", "counts", "dense", "tokens", "lengths", "bins")


def torch_dataset(stream: CellStream, *, rank: int = 0, n_ranks: int = 1, n_workers: int = 0) -> "StreamDataset":
    """Return a data set for `torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=n_workers)`.

    Each step is a dictionary of tensors: `rows`, `n_counts`, the label codes, and `indptr`, `columns`, `counts` (csr),
    `dense`, `tokens` and `lengths`, or `columns`, `indptr` and `bins`, by the layout of the stream. Tensors never share
    arrays with a later step.

    Parameters
    ----------
    stream
        From `Snapshot.stream`; its epoch is where the data set begins.
    rank, n_ranks
        Of this process, in distributed training.
    n_workers
        The loader's `num_workers`; every rank has as many. A loader with another number is refused: cells would be
        read twice, or not at all.

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    UsageError
        If there is no such rank.
    """
    if not 0 <= rank < n_ranks or n_workers < 0:
        msg = f"rank {rank} is none of {n_ranks} with {n_workers} workers each; ranks count from 0."
        raise UsageError(msg)
    return _made(stream, (rank, n_ranks, n_workers), (stream.epoch, 0))


class StreamDataset:
    """Minibatches of a stream as dictionaries of tensors: an `IterableDataset`. Get one with `torch_dataset`."""

    def __init__(self, stream: CellStream, place: tuple[int, int, int], position: tuple[int, int]) -> None:
        self._stream = stream
        self._rank, self._n_ranks, self._n_workers = place
        self._epoch, self._n_done = position

    def __reduce__(self) -> tuple[Callable[..., "StreamDataset"], tuple[object, ...]]:
        """Name what the data set is made of: its class has no name that another process could find."""
        place = (self._rank, self._n_ranks, self._n_workers)
        return _made, (self._stream, place, (self._epoch, self._n_done))

    def set_epoch(self, epoch: int, *, n_minibatches: int = 0) -> None:
        """Begin the next iteration in an epoch, after as many minibatches of it as this rank has had.

        Call it before each epoch: without it, a loader whose workers do not persist gives the same order again.
        Workers that persist go on to the next epoch by themselves and hear of no other.
        """
        self._epoch, self._n_done = epoch, n_minibatches

    def __len__(self) -> int:
        """Return the minibatches of a whole epoch for this rank, over all of its workers."""
        return self._own(0).n_minibatches * max(1, self._n_workers)

    def __iter__(self) -> Iterator[dict[str, "torch.Tensor"]]:
        """Yield the steps of this worker: of the whole rank where there are no workers."""
        import torch  # noqa: PLC0415 - an extra

        worker = torch.utils.data.get_worker_info()
        found = 0 if worker is None else worker.num_workers
        if found != self._n_workers:
            msg = (
                f"the loader has {found} workers, and the data set was made for {self._n_workers}: cells would be read "
                f"twice, or not at all. Say torch_dataset(..., n_workers={found})."
            )
            raise UsageError(msg)
        n_workers = max(1, self._n_workers)
        turn = self._n_done + (0 if worker is None else worker.id)
        own = self._own(turn % n_workers)
        own.load_state_dict({**own.state_dict(), "epoch": self._epoch, "step": turn // n_workers})
        self._epoch, self._n_done = self._epoch + 1, 0
        for minibatch in own:
            kept = minibatch.copy() if own.options.reuse_buffers else minibatch
            arrays = {name: getattr(kept, name) for name in _NAMES} | kept.codes
            yield {name: torch.from_numpy(values) for name, values in arrays.items() if values is not None}

    def _own(self, worker: int) -> CellStream:
        n_workers = max(1, self._n_workers)
        reader = Reader(number=self._rank * n_workers + worker, n_readers=self._n_ranks * n_workers)
        return self._stream.for_reader(reader)


def _made(stream: CellStream, place: tuple[int, int, int], position: tuple[int, int]) -> StreamDataset:
    return _class()(stream, place, position)


@cache
def _class() -> type[StreamDataset]:
    try:
        from torch.utils.data import IterableDataset  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        msg = "torch is not installed; it comes with: pip install 'cytolabe[models]'"
        raise MissingExtraError(msg) from None
    return cast("type[StreamDataset]", type("StreamDataset", (StreamDataset, IterableDataset), {}))
