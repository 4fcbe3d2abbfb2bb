"""A frozen snapshot: one table of cells, and counts over genes, read from what never changes.

The id is over logical digests only: counts, cells, contributor columns and alignment of each data set, persons,
mappings, ontology release and gene reference. No codec, width, library version, order of ingest, number of workers,
time or host enters it. Opening checks the document against its id; reading checks tables and counts against the document.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from cytolabe.errors import IntegrityError, UnmeasuredGeneError, UsageError
from cytolabe.files import Place
from cytolabe.provenance import digest_of
from cytolabe.records import Block, DatasetRecord, LabelMapping
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.freezing import tables_of
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.overlays import PERSON_COLUMNS, join_overlays, read_mappings
from cytolabe.snapshot.rows import kept_of, summed
from cytolabe.snapshot.withdrawals import read_excluded
from cytolabe.store.documents import read_sealed
from cytolabe.store.partitions import Partition, partition_path
from cytolabe.store.tables import TableEntry, read_table

if TYPE_CHECKING:
    import pyarrow as pa
    from anndata import AnnData

    from cytolabe.snapshot.lazy import LazyCells
    from cytolabe.snapshot.relations import Relations
    from cytolabe.snapshot.sketches import CellSketches
    from cytolabe.snapshot.stream import CellStream

__all__ = ["Snapshot", "snapshot_id_of"]

_BLOCK_CELLS = 4096


def snapshot_id_of(body: Mapping[str, object]) -> str:
    """Return the id of a snapshot: the SHA-256 of the canonical JSON of its body."""
    return digest_of(body)


class Snapshot:
    """A frozen snapshot of an atlas. Get one with `Atlas.freeze` or `Atlas.snapshot`.

    Raises
    ------
    IntegrityError
        If what it is made of is missing or was changed; nothing is replaced by zeros or left out.
    """

    def __init__(self, layout: Layout, snapshot_id: str) -> None:
        self.layout = layout
        self._snapshot_id = snapshot_id
        path = layout.document(layout.snapshots, snapshot_id)
        document = read_sealed(path)
        self._body = cast("dict[str, object]", document["body"])
        if snapshot_id_of(self._body) != snapshot_id:
            msg = f"snapshots/{path.name} holds another snapshot than its name says."
            raise IntegrityError(msg)
        self._overlays = tables_of(document["overlays"])
        digests = cast("dict[str, str]", document["datasets"])
        self._entries = {dataset_id: read_entry(layout, digests[dataset_id]) for dataset_id in sorted(digests)}
        self._require_named()
        self._partitions: dict[str, Partition] = {}
        self._genes: dict[str, np.ndarray] = {}
        self._rows: dict[str, np.ndarray] = {}

    @property
    def snapshot_id(self) -> str:
        """`sha256:` and 64 digits, of logical content only."""
        return self._snapshot_id

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per cell with `CELL_COLUMNS`, in canonical order, index 0..n-1. Do not modify."""
        if not self._entries:
            msg = f"{self._snapshot_id[:19]} is of an atlas without data sets; ingest some and freeze again."
            raise UsageError(msg)
        facts = [self._kept(dataset_id, entry.tables["cells"]) for dataset_id, entry in self._entries.items()]
        return join_overlays(pd.concat(facts, ignore_index=True), persons=self.persons, mappings=self.mappings)

    @property
    def datasets(self) -> Mapping[str, DatasetRecord]:
        """What each lab delivered, by data set id, sorted; `n_cells` without the cells of persons who withdrew."""
        return {
            dataset_id: dataclasses.replace(entry.record, n_cells=self._size(dataset_id))
            for dataset_id, entry in self._entries.items()
        }

    def kept_rows(self, dataset_id: str) -> np.ndarray:
        """Return the rows of a data set, in its partitions and tables, that this snapshot holds, ascending.

        All of them, unless a person withdrew. The position of a cell in `cells` is its place here behind the cells of
        the data sets before: who reads partitions directly goes through this.
        """
        if dataset_id not in self._rows:
            every = np.arange(self._entry(dataset_id).n_cells, dtype=np.int64)
            excluded = self._excluded.get(dataset_id)
            self._rows[dataset_id] = every if excluded is None else np.setdiff1d(every, excluded)
        return self._rows[dataset_id]

    @property
    def entries(self) -> Mapping[str, DatasetEntry]:
        """The objects of each data set, by data set id, sorted."""
        return dict(self._entries)

    @cached_property
    def mappings(self) -> tuple[LabelMapping, ...]:
        """The label mappings in force for the data sets of this snapshot."""
        if "mappings" not in self._overlays:
            return ()
        found = read_mappings(self.layout.overlay("mappings"), self._overlays["mappings"])
        return tuple(mapping for mapping in found if mapping.dataset_id in self._entries)

    @cached_property
    def persons(self) -> pd.DataFrame:
        """The persons in force: one row per (dataset_id, donor_id)."""
        if "persons" not in self._overlays:
            return pd.DataFrame({column: pd.Series([], dtype=object) for column in PERSON_COLUMNS})
        found = read_table(self.layout.overlay("persons"), self._overlays["persons"])
        return found[found["dataset_id"].isin(list(self._entries))].reset_index(drop=True)

    @property
    def gene_reference(self) -> str:
        """Name of the gene reference that `counts` speaks."""
        return str(self._body["gene_reference"])

    @property
    def ontology_release(self) -> str:
        """Release of the ontology behind the mappings, or `unknown` where nothing is mapped."""
        return str(self._body["ontology_release"])

    def measured_genes(self, dataset_id: str) -> tuple[str, ...]:
        """Return the reference genes that a data set measures, sorted."""
        return tuple(sorted({str(gene) for gene in self._gene_ids(dataset_id) if gene}))

    def counts(self, rows: np.ndarray, genes: Sequence[str]) -> csr_matrix:
        """Return raw counts (len(rows) x len(genes), int64) for positions in `cells`, in the order given.

        Several features of one gene are added up.

        Raises
        ------
        UnmeasuredGeneError
            If a data set among the rows does not measure one of the genes.
        UsageError
            If a row is no position in `cells`, or a gene is named twice.
        """
        rows = self._positions(rows)
        dataset_of_row = np.searchsorted(self._offsets, rows, side="right") - 1
        pieces, places = [], []
        for position, dataset_id in enumerate(self._entries):
            chosen = np.flatnonzero(dataset_of_row == position)
            if not len(chosen):
                continue
            columns = self.gene_columns(dataset_id, genes)
            own = self.kept_rows(dataset_id)[rows[chosen] - self._offsets[position]]
            for start in range(0, len(own), _BLOCK_CELLS):
                part = self._own_counts(dataset_id, own[start : start + _BLOCK_CELLS])
                pieces.append(summed(part, columns, n_genes=len(genes)))
            places.append(chosen)
        if not pieces:
            return csr_matrix(np.zeros((0, len(genes)), dtype=np.int64))
        together = csr_matrix(vstack(pieces, format="csr"), dtype=np.int64)
        order = np.concatenate(places)
        if np.array_equal(order, np.arange(len(rows))):
            return together
        return csr_matrix(together[np.argsort(order, kind="stable")])

    def iter_blocks(self, dataset_id: str, genes: Sequence[str] | None = None) -> Iterator[Block]:
        """Yield the cells of one data set in source order, over `genes` or over its own features.

        `Block.start` counts the cells of this snapshot, so that blocks follow each other.
        """
        columns = None if genes is None else self.gene_columns(dataset_id, genes)
        first_row = 0
        for digest in self._partition_digests(dataset_id):
            partition = self._partition(digest)
            for whole in partition.iter_blocks(_BLOCK_CELLS, dataset_id=dataset_id, first_row=first_row):
                block = kept_of(whole, self.kept_rows(dataset_id))
                if columns is None or genes is None:
                    yield block
                    continue
                counts = summed(block.counts, columns, n_genes=len(genes))
                yield Block(dataset_id=dataset_id, start=block.start, cell_names=block.cell_names, counts=counts)
            first_row += partition.n_cells

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self._offsets[-1])

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for positions in `cells` the number of the data set (in `entries`) and the row in its source."""
        datasets = np.searchsorted(self._offsets, positions, side="right") - 1
        rows = positions - self._offsets[datasets]
        for number, dataset_id in enumerate(self._entries):
            if dataset_id in self._excluded:
                mine = datasets == number
                rows[mine] = self.kept_rows(dataset_id)[rows[mine]]
        return datasets, rows

    def partitions(self, dataset_id: str) -> list[tuple[Partition, int]]:
        """Return the partitions of a data set in source order, each with the row of its first cell."""
        opened = [self._partition(digest) for digest in self._partition_digests(dataset_id)]
        first_rows = np.cumsum([0, *(partition.n_cells for partition in opened[:-1])])
        return list(zip(opened, first_rows.tolist(), strict=True))

    def sketches(self, dataset_id: str) -> "CellSketches | None":
        """Return the sketches of the cells of a data set; no counts are read. An entry of an older version has none."""
        from cytolabe.snapshot.sketches import read_sketches  # noqa: PLC0415 - kernels load where they run

        return read_sketches(self.layout, self._entry(dataset_id), kept=self.kept_rows(dataset_id))

    def stream(
        self, cells: np.ndarray | None = None, genes: Sequence[str] | None = None, **options: object
    ) -> "CellStream":
        """Return shuffled minibatches of some cells for training; `snapshot.stream_options.StreamOptions` has the options.

        Without `cells` all are streamed; without `genes` those that every data set among them measures.
        """
        from cytolabe.snapshot.stream import stream_of  # noqa: PLC0415 - kernels load where they run
        from cytolabe.snapshot.stream_options import StreamOptions  # noqa: PLC0415

        return stream_of(self, cells, genes=genes, options=StreamOptions(**options))  # type: ignore[arg-type]

    def cached_stream(self, stream: "CellStream", *, kind: str = "packed", path: Place | None = None) -> "CellStream":
        """Return the same cells from a training cache, which is written where there is none; see `training_cache`."""
        from cytolabe.snapshot.training_cache import cached_stream  # noqa: PLC0415

        folder = self.layout.caches if path is None else path
        return cached_stream(self, stream, folder=folder, kind=kind)

    def features(self, dataset_id: str) -> tuple[str, ...]:
        """Return a data set's own features, verbatim, in the order of `iter_blocks`."""
        return self._partition(self._partition_digests(dataset_id)[0]).features

    def contributed(self, dataset_id: str) -> pd.DataFrame:
        """Return the contributor's own columns of a data set, verbatim, one row per cell."""
        return self._kept(dataset_id, self._entry(dataset_id).tables["contributed"])

    @cached_property
    def relations(self) -> "Relations":
        """The tables of this snapshot as SQL and filters see them (`snapshot.query`, `snapshot.export`)."""
        from cytolabe.snapshot.relations import Relations  # noqa: PLC0415 - the database loads where it is asked

        late = partial(partial, getattr, self)
        return Relations(self.layout, self._entries, late("persons"), late("mappings"), self._excluded)

    def query(self, sql: str, parameters: Mapping[str, object] | Sequence[object] | None = None) -> "pa.Table":
        """Return the answer to one SELECT over `cells`, `datasets`, `genes` and `contributed.<dataset_id>` as an Arrow table.

        Values are bound: `snapshot.query("SELECT ... WHERE tissue = $tissue", {"tissue": "lung"})`.
        """
        from cytolabe.snapshot.query import ask  # noqa: PLC0415

        return ask(self.relations, sql, parameters).read_all()

    def rows(self, where: str) -> np.ndarray:
        """Return the positions in `cells` of the cells that a filter matches, ascending: `rows("tissue = 'lung'")`."""
        from cytolabe.snapshot.query import matching_positions  # noqa: PLC0415

        return matching_positions(self.relations, where)

    def to_anndata(
        self, rows: np.ndarray | None = None, genes: Sequence[str] | None = None, *, where: str = ""
    ) -> "AnnData":
        """Return cells as AnnData: float counts, CELLxGENE column names.

        Without `rows` or a filter (`where`) all cells; without `genes` those that every data set among them measures.
        """
        if where and rows is not None:
            msg = "to_anndata: give rows or a filter, not both."
            raise UsageError(msg)
        if where:
            return self.lazy(where=where, genes=genes).to_memory()
        from cytolabe.snapshot.export import to_anndata  # noqa: PLC0415 - anndata takes a second to import

        return to_anndata(self, rows, genes)

    def lazy(self, *, where: str = "", genes: Sequence[str] | None = None) -> "LazyCells":
        """Return a view like AnnData whose counts are read where they are indexed: `view.X[:100, ["ENSG..."]]`."""
        from cytolabe.snapshot.lazy import lazy_cells  # noqa: PLC0415

        return lazy_cells(self, where=where, genes=genes)

    def describe(self) -> dict[str, object]:
        """Return what a person wants to see first: sizes, references, and each data set in one row."""
        from cytolabe.snapshot.description import describe  # noqa: PLC0415 - the database loads where it is asked

        return describe(self)

    @cached_property
    def _offsets(self) -> np.ndarray:
        """First position of each data set in `cells`, and the number of cells."""
        return np.concatenate([[0], np.cumsum([*map(self._size, self._entries)], dtype=np.int64)])

    def _size(self, dataset_id: str) -> int:
        return self._entries[dataset_id].n_cells - len(self._excluded.get(dataset_id, ()))

    @cached_property
    def _excluded(self) -> Mapping[str, np.ndarray]:
        """Rows of each data set that belong to persons who withdrew."""
        return read_excluded(self.layout, self._overlays)

    def _kept(self, dataset_id: str, table: TableEntry) -> pd.DataFrame:
        """Return the rows of a table of one row per cell that this snapshot holds."""
        found = read_table(self.layout.tables, table)
        if dataset_id not in self._excluded:
            return found
        return found.iloc[self.kept_rows(dataset_id)].reset_index(drop=True)

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        if rows.size == 0:
            return np.zeros(0, dtype=np.int64)
        if rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= self.n_cells:
            msg = f"rows must be positions 0..{self.n_cells - 1} in `cells`; a mask of bools is no list of positions."
            raise UsageError(msg)
        return rows.astype(np.int64)

    def gene_columns(self, dataset_id: str, genes: Sequence[str], *, skip_unmeasured: bool = False) -> np.ndarray:
        """Return for each own feature of a data set its column among `genes`, or -1.

        Raises
        ------
        UnmeasuredGeneError
            If the data set does not measure one of the genes, unless these are to be skipped.
        """
        column_of = {gene: column for column, gene in enumerate(genes)}
        if len(column_of) != len(genes):
            msg = f"{len(genes) - len(column_of)} gene(s) are asked for twice; a count would stand in two columns."
            raise UsageError(msg)
        gene_ids = self._gene_ids(dataset_id)
        missing = sorted(set(column_of) - set(gene_ids.tolist()))
        if (missing and not skip_unmeasured) or "" in column_of:
            msg = (
                f"{dataset_id} does not measure {len(missing)} of the {len(genes)} genes asked for: "
                f"{', '.join(missing[:5])}. Unmeasured is not zero. Ask for genes that every data set measures, "
                "or leave this data set out."
            )
            raise UnmeasuredGeneError(msg)
        return np.array([column_of.get(gene, -1) for gene in gene_ids.tolist()], dtype=np.int64)

    def _own_counts(self, dataset_id: str, rows: np.ndarray) -> csr_matrix:
        """Return counts over the own features for rows of one data set, in the order given."""
        pieces, places, first_row = [], [], 0
        for digest in self._partition_digests(dataset_id):
            partition = self._partition(digest)
            chosen = np.flatnonzero((rows >= first_row) & (rows < first_row + partition.n_cells))
            if len(chosen):
                pieces.append(partition.rows(rows[chosen] - first_row))
                places.append(chosen)
            first_row += partition.n_cells
        if len(pieces) == 1:
            return pieces[0]
        return csr_matrix(vstack(pieces, format="csr")[np.argsort(np.concatenate(places), kind="stable")])

    def _gene_ids(self, dataset_id: str) -> np.ndarray:
        """Return the gene of each feature in the order of the partitions; empty where it has none."""
        if dataset_id not in self._genes:
            entry = self._entry(dataset_id)
            table = read_table(self.layout.overlay("genes"), entry.tables["alignment"])
            if tuple(table["feature"]) != self.features(dataset_id):
                msg = f"the gene alignment of {dataset_id} is of other features than its counts."
                raise IntegrityError(msg)
            self._genes[dataset_id] = table["gene_id"].to_numpy(dtype=object)
        return self._genes[dataset_id]

    def _entry(self, dataset_id: str) -> DatasetEntry:
        if dataset_id not in self._entries:
            msg = f"{dataset_id!r} is no data set of this snapshot; it has {', '.join(self._entries) or 'none'}."
            raise UsageError(msg)
        return self._entries[dataset_id]

    def _partition_digests(self, dataset_id: str) -> list[str]:
        return [partition.digest for partition in self._entry(dataset_id).partitions]

    def _partition(self, digest: str) -> Partition:
        if digest not in self._partitions:
            self._partitions[digest] = Partition(partition_path(self.layout.partitions, digest))
        return self._partitions[digest]

    def _require_named(self) -> None:
        """Refuse a document that lists other objects than its id covers."""
        listed = {
            "datasets": {dataset_id: entry.logical() for dataset_id, entry in self._entries.items()},
            "overlays": {name: table.digest for name, table in self._overlays.items()},
        }
        named = {key: self._body[key] for key in listed}
        if listed != named:
            msg = f"snapshot {self._snapshot_id[:19]} lists other objects than its id names."
            raise IntegrityError(msg)
