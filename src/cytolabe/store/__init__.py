"""Immutable counts (zarr), tables (Parquet) and the log of revisions: everything that an atlas keeps on disk."""

from cytolabe.store.manifest import Change, Revision, head_revision, publish_change, read_revision
from cytolabe.store.partitions import Partition, PartitionEntry, PartitionWriter, partition_path, write_partitions
from cytolabe.store.tables import TableEntry, read_table, write_table

__all__ = [
    "Change",
    "Partition",
    "PartitionEntry",
    "PartitionWriter",
    "Revision",
    "TableEntry",
    "head_revision",
    "partition_path",
    "publish_change",
    "read_revision",
    "read_table",
    "write_partitions",
    "write_table",
]
