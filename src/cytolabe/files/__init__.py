"""Every byte that Cytolabe keeps goes through here: whole or not at all, on a disk or in an object store."""

from cytolabe.files.local import STAGED_PREFIX, GrowingFile, make_directory
from cytolabe.files.places import ObjectPath, Place, place_below, place_of
from cytolabe.files.publishing import (
    create_new,
    publish_directory,
    publish_file,
    remove,
    remove_directory,
    replace_by_file,
    replace_file,
    staged_directory,
)
from cytolabe.files.reading import list_files, modified_at, read_range, read_verified, sha256_of_file, size_of
from cytolabe.files.tsv import tsv_text

__all__ = [
    "STAGED_PREFIX",
    "GrowingFile",
    "ObjectPath",
    "Place",
    "create_new",
    "list_files",
    "make_directory",
    "modified_at",
    "place_below",
    "place_of",
    "publish_directory",
    "publish_file",
    "read_range",
    "read_verified",
    "remove",
    "remove_directory",
    "replace_by_file",
    "replace_file",
    "sha256_of_file",
    "size_of",
    "staged_directory",
    "tsv_text",
]
