"""Tensors of an old file of torch (`pytorch_model.bin`, `*.pt`) as safetensors, without torch and without running it.

Such a file is a zip archive: a pickle that says which tensor is which part of which storage, and the storages as plain
bytes. The pickle is read by `genes.pickles`, which calls nothing, and may name the constructors of tensors and nothing
else. Storages must be stored plain, as long as the pickle says, and hold every element that a tensor claims.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np

from cytolabe.errors import HostileInputError, UnreadableInputError
from cytolabe.genes.pickles import PERSISTENT, Inert, read_inert

__all__ = ["TENSOR_GLOBALS", "safetensors_of_archive"]

_STORAGES: Mapping[str, tuple[str, int]] = {
    "torch.DoubleStorage": ("F64", 8), "torch.FloatStorage": ("F32", 4), "torch.HalfStorage": ("F16", 2),
    "torch.BFloat16Storage": ("BF16", 2), "torch.LongStorage": ("I64", 8), "torch.IntStorage": ("I32", 4),
    "torch.ShortStorage": ("I16", 2), "torch.CharStorage": ("I8", 1), "torch.ByteStorage": ("U8", 1),
    "torch.BoolStorage": ("BOOL", 1),
}  # fmt: skip
_TENSOR, _PARAMETER, _ORDERED = (
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "collections.OrderedDict",
)
TENSOR_GLOBALS = frozenset({_TENSOR, _PARAMETER, _ORDERED, *_STORAGES})
"""All that the pickle of a state dictionary names."""
_LARGEST_RATIO = 4
"""Bytes of all tensors over those of the archive. Shared storages are written once for each tensor."""


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """A part of a storage; offset and strides count elements."""

    dtype: str
    n_bytes: int
    entry: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.n_bytes if self.shape else self.n_bytes


def safetensors_of_archive(file: BinaryIO, *, where: str) -> Iterator[bytes]:
    """Yield the bytes of a safetensors file, its header first, then tensor by tensor in the order of their names.

    Parameters
    ----------
    file
        The archive, open; nothing else is opened.

    Raises
    ------
    HostileInputError
        If its pickle names what no tensor needs, or a tensor reaches outside its storage.
    UnreadableInputError
        If it is no such archive.
    """
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        msg = (
            f"{where}: no zip archive of torch. Files of torch before 1.6 and bare pickles are not read: load it with the torch "
            "that wrote it, in a place that you can lose, and save it again."
        )
        raise UnreadableInputError(msg) from None
    entries = {info.filename: info for info in archive.infolist()}
    found = [name for name in entries if PurePosixPath(name).name == "data.pkl"]
    packed = [name for name, info in entries.items() if info.compress_type != zipfile.ZIP_STORED]
    if len(found) != 1 or packed:
        msg = f"{where}: torch writes one data.pkl and plain storages; here are {len(found)} and {len(packed)} compressed entries."
        raise UnreadableInputError(msg)
    root = PurePosixPath(found[0]).parent
    if entries.get(f"{root}/byteorder") and archive.read(f"{root}/byteorder").strip() != b"little":
        msg = f"{where}: its numbers are big-endian, which is not read."
        raise UnreadableInputError(msg)
    table = _table(read_inert(archive.read(found[0]), where=where, allowed=TENSOR_GLOBALS), where=where)
    tensors = {name: _tensor(value, root=root, where=f"{where}: {name}") for name, value in sorted(table.items())}
    n_bytes = sum(tensor.size for tensor in tensors.values())
    if n_bytes > _LARGEST_RATIO * sum(info.file_size for info in entries.values()):
        msg = f"{where}: its tensors claim {n_bytes:,} bytes, many times what the archive holds."
        raise HostileInputError(msg)
    yield _header(tensors)
    for name, tensor in tensors.items():
        if tensor.entry not in entries:
            msg = f"{where}: the storage of {name} is not in the archive, which is cut off or damaged."
            raise UnreadableInputError(msg)
        yield _values(archive.read(tensor.entry), tensor, where=f"{where}: {name}")


def _table(value: object, *, where: str) -> dict[str, object]:
    found = value.items if isinstance(value, Inert) and value.name == _ORDERED else value
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        msg = f"{where}: holds no table of tensors by name."
        raise UnreadableInputError(msg)
    return found


def _tensor(value: object, *, root: PurePosixPath, where: str) -> _Tensor:
    try:
        if isinstance(value, Inert) and value.name == _PARAMETER:
            value = value.arguments[0]
        storage, offset, shape, strides = value.arguments[:4]  # type: ignore[attr-defined]
        (named,) = storage.arguments
        _, kind, key, _, _ = named
        dtype, n_bytes = _STORAGES[kind.name]
        numbers = (offset, *shape, *strides)
        is_whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
        if value.name != _TENSOR or storage.name != PERSISTENT or not is_whole or len(shape) != len(strides):  # type: ignore[attr-defined]
            raise ValueError(value)  # noqa: TRY301 - one message for all that is no tensor
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        msg = f"{where} is no dense tensor of a known kind. Only a state dictionary is converted, not a whole checkpoint of a trainer."
        raise UnreadableInputError(msg) from None
    return _Tensor(
        dtype=dtype,
        n_bytes=n_bytes,
        entry=f"{root}/data/{key}",
        offset=offset,
        shape=tuple(shape),
        strides=tuple(strides),
    )


def _values(storage: bytes, tensor: _Tensor, *, where: str) -> bytes:
    """Return the elements of a tensor in the order of its axes."""
    elements = np.frombuffer(storage, dtype=f"u{tensor.n_bytes}")
    if 0 in tensor.shape:
        return b""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(elements):
        msg = f"{where} claims element {last:,} of a storage of {len(elements):,}: cut off, or made to read what is not its own."
        raise HostileInputError(msg)
    steps = tuple(stride * tensor.n_bytes for stride in tensor.strides)
    part = np.lib.stride_tricks.as_strided(
        elements[tensor.offset :], shape=tensor.shape, strides=steps, writeable=False
    )
    return part.tobytes()


def _header(tensors: Mapping[str, _Tensor]) -> bytes:
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in tensors.items():
        table[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, start + tensor.size]}
        start += tensor.size
    content = json.dumps(table, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content
