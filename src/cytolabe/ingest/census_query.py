"""Queries of the CELLxGENE Census: `census:<filter>`, with one source for each data set that the filter finds.

    census:tissue_general == 'lung' and is_primary_data == True     the stable release, human cells
    census[2025-01-30]:<filter>                                     a release, which never changes
    census[PATH or URI]:<filter>                                    another census or experiment
    census[2025-01-30#mus_musculus]:<filter>                        another organism

Each data set becomes a descriptor in the cache, which `ingest.census` reads. For its digest the cells and counts are
read once when the query is asked; those of a release, which is frozen, only the first time.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cytolabe import files
from cytolabe.config.manifest import Manifest, manifest_of
from cytolabe.errors import UnreachableSourceError, UsageError
from cytolabe.ingest.cellxgene import SCHEMA_ROLES
from cytolabe.ingest.census import DESCRIPTOR_SUFFIX, CensusDescriptor
from cytolabe.ingest.census_experiment import CensusExperiment, digest_of_table, open_experiment
from cytolabe.ingest.sources import SourceFile, slug_of
from cytolabe.ingest.web import WebClient

__all__ = ["CENSUS_DIRECTORY", "DIRECTORY_VARIABLE", "URI_VARIABLE", "describe_query", "is_census_query"]

CENSUS_DIRECTORY = "https://census.cellxgene.cziscience.com/cellxgene-census/v1"
DIRECTORY_VARIABLE = "CYTOLABE_CENSUS_DIRECTORY"
"""Environment variable that names another directory of releases (release.json, mirrors.json)."""
URI_VARIABLE = "CYTOLABE_CENSUS_URI"
"""Environment variable that names the experiment or census which `census:` means."""

_QUERY = re.compile(r"census(?:\[(?P<place>[^\]]*)\])?:(?P<filter>.*)", re.DOTALL)
_RELEASE = re.compile(r"\d{4}-\d{2}-\d{2}|stable|latest|V\d+")
_DATASET_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}")
_ORGANISM = "homo_sapiens"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where an experiment is; `release` is empty where nobody promises that it stays as it is."""

    uri: str
    organism: str
    release: str = ""
    region: str = ""


def is_census_query(text: str) -> bool:
    """Tell whether a text is a query of the Census, and not a path."""
    return _QUERY.fullmatch(text) is not None


def describe_query(
    query: str, cache: Path, *, client: WebClient | None = None, on_progress: Callable[[str], None] = lambda _: None
) -> tuple[SourceFile, ...]:
    """Ask which data sets a query finds, and write a descriptor of each into `cache`.

    Raises
    ------
    UsageError
        If the query is wrong or finds no cell.
    UnreachableSourceError
        If the experiment cannot be opened.
    MissingExtraError
        If tiledbsoma is not installed.
    """
    parsed = _QUERY.fullmatch(query.strip())
    if parsed is None:
        msg = f"{query}: a query of the Census is written census:<filter> or census[PATH]:<filter>."
        raise UsageError(msg)
    where = parsed["filter"].strip()
    place = _place_of((parsed["place"] or "").strip(), client or WebClient())
    with open_experiment(place.uri, organism=place.organism, region=place.region) as experiment:
        found = experiment.datasets_of(where)
        if not found:
            msg = f"{query}: no cell of {place.uri} fits this filter. Check the spelling of its values; they are compared letter by letter."
            raise UsageError(msg)
        on_progress(f"{sum(found.values()):,} cells of {len(found):,} data sets fit {query}")
        key = hashlib.sha256("\0".join((place.uri, place.organism, where)).encode()).hexdigest()[:16]
        folder = cache / "census" / key
        return tuple(_described(experiment, place, dataset_id, where=where, folder=folder) for dataset_id in found)


def _described(experiment: CensusExperiment, place: _Place, dataset_id: str, *, where: str, folder: Path) -> SourceFile:
    if not _DATASET_ID.fullmatch(dataset_id):
        # It becomes part of a condition and of a file name.
        msg = f"{place.uri}: {dataset_id[:80]!r} is no id of a data set (letters, digits, space, point, dash)."
        raise UsageError(msg)
    cells = experiment.cells_of(where, dataset_id)
    path = folder / f"{slug_of(dataset_id)}{DESCRIPTOR_SUFFIX}"
    descriptor = CensusDescriptor(
        uri=place.uri,
        region=place.region,
        organism=place.organism,
        release=place.release,
        filter=where,
        dataset_id=dataset_id,
        n_cells=cells.num_rows,
        cells_digest=digest_of_table(cells),
        counts_digest="",
    )
    known = _known_digest(path, descriptor) if place.release else ""
    digest = known or experiment.digest_of_counts(cells.column("soma_joinid").to_numpy())
    descriptor = replace(descriptor, counts_digest=digest)
    if not path.is_file() or path.read_bytes() != descriptor.document():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, descriptor.document())
    manifest = _manifest(experiment, place, dataset_id)
    return SourceFile(path=path, manifest=manifest, dataset_id=slug_of(dataset_id))


def _known_digest(path: Path, descriptor: CensusDescriptor) -> str:
    """Return the digest of the counts that the cache knows, where it is of the same release and the same cells."""
    if not path.is_file():
        return ""
    found = re.search(rb'"counts_digest": "(sha256:[0-9a-f]{64})"', path.read_bytes())
    digest = found[1].decode() if found else ""
    return digest if path.read_bytes() == replace(descriptor, counts_digest=digest).document() else ""


def _manifest(experiment: CensusExperiment, place: _Place, dataset_id: str) -> Manifest:
    """Turn what the census says of a data set into declared facts; roles only for columns that are there."""
    told = experiment.facts_of(dataset_id)
    roles = {key: column for key, column in SCHEMA_ROLES.items() if column in experiment.columns}
    organism = place.organism.replace("_", " ").capitalize() if told else ""
    facts = Manifest(
        title=_text(told, "dataset_title"),
        organism=organism,
        study=_text(told, "collection_id"),
        licence="CC-BY-4.0" if place.release else "",
        citation=_text(told, "citation"),
        doi=_text(told, "collection_doi"),
        collection=_text(told, "collection_name"),
        version=_text(told, "dataset_version_id") or (f"census {place.release}" if place.release else ""),
        source_url=place.uri,
    )
    return manifest_of(roles, place.uri).merged_with(facts)


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _place_of(said: str, client: WebClient) -> _Place:
    """Return where the experiment is that square brackets, the environment or the directory of releases names."""
    place, _, organism = said.partition("#")
    place, organism = place or os.environ.get(URI_VARIABLE, "") or "stable", organism or _ORGANISM
    if not _RELEASE.fullmatch(place):
        return _Place(uri=place, organism=organism)
    base = os.environ.get(DIRECTORY_VARIABLE, CENSUS_DIRECTORY).rstrip("/")
    releases, mirrors = client.json(f"{base}/release.json"), client.json(f"{base}/mirrors.json")
    if not isinstance(releases, dict) or not isinstance(mirrors, dict):
        msg = f"{base}: this is no directory of the releases of the Census."
        raise UnreachableSourceError(msg)
    # `stable` and `latest` are names of a release, which the directory resolves.
    name = releases[place] if isinstance(releases.get(place), str) else place
    release = releases.get(name)
    mirror = mirrors.get(str(mirrors.get("default", "")))
    soma = release.get("soma") if isinstance(release, dict) else None
    if not isinstance(soma, dict) or not isinstance(mirror, dict):
        known = ", ".join(sorted(key for key, value in releases.items() if isinstance(value, dict))[-5:])
        msg = f"census[{place}]: there is no such release; among the newest are {known}."
        raise UsageError(msg)
    uri = _text(mirror, "base_uri").rstrip("/") + "/" + _text(soma, "relative_uri").strip("/")
    return _Place(uri=uri, organism=organism, release=str(name), region=_text(mirror, "region"))
