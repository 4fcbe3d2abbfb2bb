"""A stream as PyTorch's `IterableDataset`: one reader for each worker of each rank, each cell in one of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cytolabe.errors import MissingExtraError
from cytolabe.snapshot.epoch import Reader
from cytolabe.snapshot.stream import CellStream

if TYPE_CHECKING:
    import torch

__all__ = ["torch_dataset"]


def torch_dataset(stream: CellStream, *, rank: int = 0, n_ranks: int = 1) -> "torch.utils.data.IterableDataset":
    """Return a data set for `torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=...)`.

    Each step is a dictionary of tensors: `rows`, `n_counts`, the label codes, and `indptr`, `columns`, `counts` (csr),
    `dense`, `tokens` and `lengths`, or `columns`, `indptr` and `bins`, by the layout of the stream. Tensors never share
    arrays with a later step.

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    """
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError:
        msg = "torch is not installed; it comes with: pip install 'cytolabe[models]'"
        raise MissingExtraError(msg) from None

    class _Dataset(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined, unused-ignore]
        def __iter__(self) -> Iterator[dict[str, "torch.Tensor"]]:
            worker = torch.utils.data.get_worker_info()
            n_workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
            reader = Reader(number=rank * n_workers + number, n_readers=n_ranks * n_workers)
            own = stream.for_reader(reader)
            for minibatch in own:
                arrays = {name: getattr(minibatch, name) for name in _NAMES} | minibatch.codes
                yield {name: torch.from_numpy(values.copy()) for name, values in arrays.items() if values is not None}

        def __len__(self) -> int:
            return len(stream.for_reader(Reader(number=rank, n_readers=n_ranks)))

    return _Dataset()


_NAMES = ("rows", "n_counts", "indptr", "columns", "counts", "dense", "tokens", "lengths", "bins")
