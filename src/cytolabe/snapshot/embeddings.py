"""Embeddings of an atlas: zarr v3 arrays beside the partitions whose cells they embed, written shard by shard.

    <name>.zarr/zarr.json              what made it: snapshot, model, card, layer, pooling, precision, seed, dims, details
    <name>.zarr/values/<partition>     cells x dims, float16 or float32, one file for 65,536 cells
    <name>.zarr/covered/<partition>    one byte for each cell: 1 = embedded, cut like the values
    <name>.zarr/written/<partition>    one byte for each shard, a file of its own, that is written last

Rows are those of the partition, so an embedding survives a snapshot that leaves out cells or adds data sets. What is
not written is known by its mark and never by a special value; values are finite, or refused. A shard is one file that
takes its name when it is whole, so who was killed goes on behind the marks that are there and ends with equal bytes;
several processes may write different shards. Reading a shard without a mark is an error.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from cytolabe.errors import ConflictError, IntegrityError, RefusedError, UsageError
from cytolabe.files import Place, create_new, replace_file
from cytolabe.snapshot.query import select_cells

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["SHARD_CELLS", "EmbeddingSpec", "EmbeddingStore", "Shard"]

FORMAT = "cytolabe/embedding/1"
SHARD_CELLS = 65_536
_CHUNK_CELLS = 1_024
_PRECISIONS = {"float16": np.float16, "float32": np.float32}


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec:
    """What made an embedding. Two runs with equal specs write the same store.

    `inputs_digest` is over the genes, the cells that the model was fitted on and those that are embedded.
    """

    snapshot_id: str
    model: str
    card_digest: str
    n_dims: int
    seed: int
    inputs_digest: str = ""
    split_id: str = ""
    layer: str = "output"
    pooling: str = "none"
    precision: str = "float32"
    details: Mapping[str, str] = field(default_factory=dict)
    """What else decides the embedding, by name: digests of weights and vocabulary, the longest cell."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Cells that are written together: rows [first, last) of a partition, and their positions in the snapshot."""

    partition: str
    number: int
    first: int
    last: int
    rows: np.ndarray
    positions: np.ndarray


class EmbeddingStore:
    """An embedding of a snapshot in a directory or at a URL; created where there is none, else gone on with.

    Raises
    ------
    ConflictError
        If an embedding of something else lies there.
    UsageError
        If the precision is unknown, or the spec is of another snapshot.
    """

    def __init__(self, place: Place, snapshot: "Snapshot", spec: EmbeddingSpec) -> None:
        if spec.precision not in _PRECISIONS:
            msg = f"precision {spec.precision!r} is none of {', '.join(_PRECISIONS)}."
            raise UsageError(msg)
        if spec.snapshot_id != snapshot.snapshot_id:
            msg = f"an embedding of {spec.snapshot_id[:19]} is not aligned to snapshot {snapshot.snapshot_id[:19]}."
            raise UsageError(msg)
        self.place = place
        self.spec = spec
        self._parts = _parts_of(snapshot)
        root = {"zarr_format": 3, "node_type": "group", "attributes": {"format": FORMAT, **asdict(spec)}}
        try:
            create_new(place / "zarr.json", _json_bytes(root))
        except ConflictError:
            msg = f"{place} holds an embedding of another model, snapshot or option; give it a name of its own."
            raise ConflictError(msg) from None
        for part in self._parts:
            self._declare(part)

    def shards(self) -> Iterator[Shard]:
        """Yield the shards in canonical order, with those of their cells that the snapshot holds."""
        for part in self._parts:
            for number, first in enumerate(range(0, part.n_cells, SHARD_CELLS)):
                last = min(first + SHARD_CELLS, part.n_cells)
                rows, positions = part.cells(first, last)
                yield Shard(
                    partition=part.digest, number=number, first=first, last=last, rows=rows, positions=positions
                )

    def is_written(self, shard: Shard) -> bool:
        """Tell whether a shard bears its mark."""
        return self._file("written", shard).exists()

    def write(self, shard: Shard, positions: np.ndarray, values: np.ndarray) -> None:
        """Write one shard: values (cells x dims) for some of its positions; the others are not covered.

        Raises
        ------
        RefusedError
            If a value is not finite, or not so in the precision of the store.
        UsageError
            If a position is not of this shard, or the shape is another.
        """
        if values.shape != (len(positions), self.spec.n_dims):
            msg = f"{values.shape} values for {len(positions)} cells x {self.spec.n_dims} dims."
            raise UsageError(msg)
        places = np.searchsorted(shard.positions, positions)
        if not np.isin(positions, shard.positions).all():
            msg = f"positions that are not among cells {shard.first}..{shard.last - 1} of {shard.partition[:12]}."
            raise UsageError(msg)
        dtype = _PRECISIONS[self.spec.precision]
        with np.errstate(over="ignore"):
            narrow = values.astype(dtype)
        n_bad = int((~np.isfinite(narrow)).any(axis=1).sum())
        if n_bad:
            msg = f"{n_bad} of {len(positions)} cells have a value that is no finite {self.spec.precision}."
            raise RefusedError(msg)
        rows = shard.rows[places] - shard.first
        whole = np.zeros((shard.last - shard.first, self.spec.n_dims), dtype=dtype)
        whole[rows] = narrow
        covered = np.zeros(shard.last - shard.first, dtype=np.uint8)
        covered[rows] = 1
        self._put("values", shard, whole)
        self._put("covered", shard, covered)
        # The mark comes last: who sees it sees the whole shard.
        create_new(self._file("written", shard), b"\x01")

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Return the embedding (cells x dims) of positions, in the order given.

        Raises
        ------
        UsageError
            If a cell is not embedded, or not yet.
        IntegrityError
            If a shard that bears its mark is missing or damaged.
        """
        values = np.empty((len(positions), self.spec.n_dims), dtype=_PRECISIONS[self.spec.precision])
        is_found = np.zeros(len(positions), dtype=bool)
        for shard in self.shards():
            chosen = np.flatnonzero(np.isin(positions, shard.positions))
            if not len(chosen):
                continue
            if not self.is_written(shard):
                msg = f"{len(chosen)} cell(s) of {shard.partition[:12]} are not embedded yet: run the embedding again."
                raise UsageError(msg)
            rows = shard.rows[np.searchsorted(shard.positions, positions[chosen])] - shard.first
            values[chosen] = self._get("values", shard)[rows]
            is_found[chosen] = self._get("covered", shard)[rows] == 1
        if not is_found.all():
            msg = f"{int((~is_found).sum())} of {len(positions)} cells were left out of this embedding."
            raise UsageError(msg)
        return values

    def covered_positions(self) -> np.ndarray:
        """Return the positions of all cells that are embedded, ascending."""
        found = [np.zeros(0, dtype=np.int64)]
        for shard in self.shards():
            if self.is_written(shard):
                covered = self._get("covered", shard)
                found.append(shard.positions[covered[shard.rows - shard.first] == 1])
        return np.sort(np.concatenate(found))

    def _declare(self, part: "_Part") -> None:
        """Write the documents of the arrays, so that zarr opens them; those that are there stay."""
        n_shards = max(1, -(-part.n_cells // SHARD_CELLS))
        shapes = {"values": (part.n_cells, self.spec.n_dims), "covered": (part.n_cells,), "written": (n_shards,)}
        for kind, shape in shapes.items():
            group, array = self.place / kind / "zarr.json", self.place / kind / part.digest / "zarr.json"
            if not group.exists():
                replace_file(group, _json_bytes({"zarr_format": 3, "node_type": "group", "attributes": {}}))
            if not array.exists():
                objects: dict[str, Buffer] = {}
                self._array(objects, kind, shape)
                replace_file(array, objects["zarr.json"].to_bytes())

    def _array(self, objects: dict[str, Buffer], kind: str, shape: tuple[int, ...]) -> zarr.Array:
        """Return an array of the store's layout over objects in memory."""
        store = MemoryStore(objects)
        # A chunk of zeros is written, too: only what is missing is missing.
        settings: Any = {"store": store, "shape": shape, "fill_value": 0, "config": {"write_empty_chunks": True}}
        if kind == "written":
            return zarr.create_array(**settings, chunks=(1,), dtype=np.uint8, compressors=None, zarr_format=3)
        return zarr.create_array(
            **settings,
            shards=(SHARD_CELLS, *shape[1:]),
            chunks=(_CHUNK_CELLS, *shape[1:]),
            dtype=_PRECISIONS[self.spec.precision] if kind == "values" else np.uint8,
            compressors=Crc32cCodec(),
            zarr_format=3,
        )

    def _put(self, kind: str, shard: Shard, values: np.ndarray) -> None:
        objects: dict[str, Buffer] = {}
        self._array(objects, kind, values.shape)[:] = values
        (name,) = set(objects) - {"zarr.json"}
        replace_file(self._file(kind, shard), objects[name].to_bytes())

    def _get(self, kind: str, shard: Shard) -> np.ndarray:
        """Return a whole shard after its checksums matched."""
        shape = (shard.last - shard.first, *((self.spec.n_dims,) if kind == "values" else ()))
        file = self._file(kind, shard)
        objects: dict[str, Buffer] = {}
        array = self._array(objects, kind, shape)
        where = f"shard {shard.number} of {kind}/{shard.partition[:12]}"
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            msg = f"{where} is missing although its mark is there; remove the mark and run the embedding again."
            raise IntegrityError(msg) from None
        objects["c" + "/0" * len(shape)] = default_buffer_prototype().buffer.from_bytes(content)
        try:
            return np.asarray(array[:])
        except (ValueError, RuntimeError, OSError) as error:
            msg = f"{where} cannot be read ({error}): its bytes were changed. Remove its mark and run the embedding again."
            raise IntegrityError(msg) from error

    def _file(self, kind: str, shard: Shard) -> Place:
        folder = self.place / kind / shard.partition / "c" / str(shard.number)
        return folder / "0" if kind == "values" else folder


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A partition: `offset` takes a row of it to a position, unless `kept` lists the rows that the snapshot holds."""

    digest: str
    n_cells: int
    offset: int
    kept: np.ndarray | None

    def cells(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and positions of the cells that the snapshot holds among rows [first, last)."""
        if self.kept is None:
            rows = np.arange(first, last, dtype=np.int64)
            return rows, rows + self.offset
        a, b = np.searchsorted(self.kept, [first, last])
        return self.kept[a:b], np.arange(a, b, dtype=np.int64) + self.offset


def _parts_of(snapshot: "Snapshot") -> tuple[_Part, ...]:
    parts: list[_Part] = []
    before = 0
    n_named: Counter[str] = Counter()
    records = snapshot.datasets
    for dataset_id, entry in snapshot.entries.items():
        n_held, first_row = records[dataset_id].n_cells, 0
        held = None if n_held == entry.n_cells else _held_rows(snapshot, dataset_id)
        for partition in entry.partitions:
            digest = partition.digest.removeprefix("sha256:")
            n_named[digest] += 1
            if n_named[digest] > 1:
                # Two data sets may hold equal counts and share a partition; a model may tell them apart all the same.
                digest = f"{digest}-{n_named[digest]}"
            kept, offset = None, before + first_row
            if held is not None:
                a, b = np.searchsorted(held, [first_row, first_row + partition.n_cells])
                kept, offset = held[a:b] - first_row, before + int(a)
            parts.append(_Part(digest=digest, n_cells=partition.n_cells, offset=offset, kept=kept))
            first_row += partition.n_cells
        before += n_held
    return tuple(parts)


def _held_rows(snapshot: "Snapshot", dataset_id: str) -> np.ndarray:
    """Return the rows of a data set of which the snapshot leaves some out."""
    quoted = dataset_id.replace("'", "''")
    found = select_cells(snapshot.relations, ["row"], f"dataset_id = '{quoted}'").read_all()
    return np.sort(found["row"].to_numpy().astype(np.int64))


def _json_bytes(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode()
