"""Digests and run records: what names a thing, and what went into it."""

from cytolabe.provenance.canonical import canonical_json, cells_digest, digest_of, jsonable, sorted_cells_digest
from cytolabe.provenance.runs import artifact_of, code_identity, environment_identity

__all__ = [
    "artifact_of",
    "canonical_json",
    "cells_digest",
    "code_identity",
    "digest_of",
    "environment_identity",
    "jsonable",
    "sorted_cells_digest",
]
