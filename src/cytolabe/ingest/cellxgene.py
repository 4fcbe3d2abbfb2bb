"""Data sets of CELLxGENE Discover, by the id of a collection, a data set or one version of a data set.

An id of Discover does not say what it names, so it is asked for in this order: collection, data set (its newest
version), version of a data set, version of a collection. A version never changes; to read the same bytes next year,
name a version. What Discover says of a data set (title, DOI, citation, schema, version, date) becomes what is declared
of the source, beneath whatever a study or manifest says; the columns of its schema carry the roles. The data set keeps
its Discover id in the atlas, so that a newer version replaces the older one.

The API is that of `curation-api.yml` (chanzuckerberg/single-cell-data-portal): `collections/{id}`,
`datasets/{id}/versions` (newest first), `dataset_versions/{id}`, `collection_versions/{id}`; each data set has `assets`
with `filetype`, `filesize` (-1 where Discover does not know it) and `url`. An id that is of another kind is answered
with 403 or 404, a withdrawn one with 410.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cytolabe.config.manifest import Manifest, manifest_of
from cytolabe.errors import UnreachableSourceError, UsageError
from cytolabe.ingest.downloads import Downloaded, download
from cytolabe.ingest.web import WebClient

__all__ = ["API_VARIABLE", "DISCOVER_API", "SCHEMA_ROLES", "DiscoverDataset", "fetch_dataset", "find_datasets"]

DISCOVER_API = "https://api.cellxgene.cziscience.com/curation/v1"
API_VARIABLE = "CYTOLABE_CELLXGENE_API"
"""Environment variable that names another server of the same API."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OTHER_KIND = frozenset({403, 404})
_LICENCE = "CC-BY-4.0"
"""Terms under which Discover and the Census distribute every data set."""
SCHEMA_ROLES: Mapping[str, str] = {
    "label": "cell_type",
    "donor": "donor_id",
    "assay_column": "assay",
    "suspension_type_column": "suspension_type",
    "tissue_column": "tissue",
    "disease_column": "disease",
    "sex_column": "sex",
}
"""Columns that every file of the schema has; they are declared, so they are not guessed."""

Record = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class DiscoverDataset:
    """One version of one data set: where its file is, and what Discover says of it."""

    dataset_id: str
    version_id: str
    url: str
    n_bytes: int | None
    manifest: Manifest


def find_datasets(
    identifier: str, *, api: str | None = None, client: WebClient | None = None
) -> tuple[DiscoverDataset, ...]:
    """Ask Discover what an id names.

    Parameters
    ----------
    identifier
        Of a collection, a data set, or a version of either.
    api
        Address of the API; the environment or Discover itself by default.
    client
        How to ask.

    Returns
    -------
    datasets
        In the order of their ids.

    Raises
    ------
    UsageError
        If the text is no id of Discover.
    UnreachableSourceError
        If there is no answer, nothing of this id, or no h5ad file of it.
    """
    wanted = identifier.strip().lower()
    if not _UUID.fullmatch(wanted):
        msg = f"cellxgene:{identifier}: this is no id of CELLxGENE Discover; one looks like 066943a2-fdac-4b29-b348-40cede398e4e. The address of a collection or of its explorer ends with it."
        raise UsageError(msg)
    catalog = _Catalog(api or os.environ.get(API_VARIABLE) or DISCOVER_API, client or WebClient())
    found = catalog.datasets(wanted)
    return tuple(sorted(found, key=lambda dataset: dataset.dataset_id))


def fetch_dataset(
    dataset: DiscoverDataset,
    cache: Path,
    *,
    client: WebClient | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Downloaded:
    """Fetch the file of a data set into `cache`, under the id of its version.

    Raises
    ------
    UnreachableSourceError
        If it cannot be fetched; what arrived is kept for the next call.
    IntegrityError
        If the server offers another size than Discover says.
    """
    target = cache / "cellxgene" / f"{dataset.version_id}.h5ad"
    return download(dataset.url, target, n_bytes=dataset.n_bytes, client=client, on_progress=on_progress)


class _Catalog:
    """The API of Discover, asked with ids that may be of any kind."""

    def __init__(self, api: str, client: WebClient) -> None:
        self._api = api.rstrip("/")
        self._client = client

    def datasets(self, identifier: str) -> list[DiscoverDataset]:
        """Return the data sets that an id stands for."""
        collection = self._record(f"collections/{identifier}")
        if collection is not None:
            return [self._described(record, collection) for record in _records(collection, "datasets")]
        versions = self._get(f"datasets/{identifier}/versions")
        if isinstance(versions, list) and versions:
            return [self._of_version(_as_record(versions[0], identifier))]
        version = self._record(f"dataset_versions/{identifier}")
        if version is not None:
            return [self._of_version(version)]
        frozen = self._record(f"collection_versions/{identifier}")
        if frozen is not None:
            return [self._described(record, frozen) for record in _records(frozen, "dataset_versions")]
        msg = f"cellxgene:{identifier}: Discover has no collection, data set or version of this id. Check it at https://cellxgene.cziscience.com/collections."
        raise UnreachableSourceError(msg)

    def _of_version(self, record: Record) -> DiscoverDataset:
        """Describe a version, with what its collection says."""
        collection_id = _text(record, "collection_id")
        collection = self._record(f"collections/{collection_id}") if _UUID.fullmatch(collection_id) else None
        return self._described(record, collection or {})

    def _described(self, record: Record, collection: Record) -> DiscoverDataset:
        dataset_id, version_id = _text(record, "dataset_id"), _text(record, "dataset_version_id")
        if not (_UUID.fullmatch(dataset_id) and _UUID.fullmatch(version_id)):
            # Ids become names of files and of data sets; an answer is no reason to trust its text.
            msg = f"{self._api}: the answer names a data set {dataset_id[:80]!r} of version {version_id[:80]!r}, which are no ids."
            raise UnreachableSourceError(msg)
        asset = next((asset for asset in _records(record, "assets") if asset.get("filetype") == "H5AD"), None)
        if asset is None or not _text(asset, "url"):
            msg = f"cellxgene:{dataset_id}: Discover offers no h5ad file of {_text(record, 'title')!r}; it may still be processed there."
            raise UnreachableSourceError(msg)
        size = asset.get("filesize")
        n_bytes = int(size) if isinstance(size, int | float) and size > 0 else None
        return DiscoverDataset(
            dataset_id=dataset_id,
            version_id=version_id,
            url=_text(asset, "url"),
            n_bytes=n_bytes,
            manifest=_manifest(record, collection, url=_text(asset, "url")),
        )

    def _record(self, path: str) -> Record | None:
        found = self._get(path)
        return None if found is None else _as_record(found, path)

    def _get(self, path: str) -> object:
        try:
            return self._client.json(f"{self._api}/{path}", absent=_OTHER_KIND)
        except UnreachableSourceError as error:
            if error.status == 410:
                msg = f"cellxgene:{path.split('/')[1]}: Discover has withdrawn it. What was made of it can be withdrawn from an atlas too."
                raise UnreachableSourceError(msg) from None
            raise


def _manifest(record: Record, collection: Record, *, url: str) -> Manifest:
    """Turn what Discover says into declared facts; what it does not say stays empty."""
    doi = _text(collection, "doi") or _text(record, "collection_doi")
    address = _text(collection, "collection_url")
    organisms = [_text(organism, "label") for organism in _records(record, "organism")]
    date = _text(record, "revised_at") or _text(record, "published_at")
    collection_id = _text(collection, "collection_id") or _text(record, "collection_id")
    facts = Manifest(
        id=_text(record, "dataset_id"),
        title=_text(record, "title"),
        organism=organisms[0] if len(organisms) == 1 else "",
        study=collection_id,
        licence=_LICENCE,
        citation=_text(record, "citation") or _citation(doi, url, address),
        doi=doi,
        collection=" ".join(filter(None, (_text(collection, "name"), address))),
        version=_text(record, "dataset_version_id"),
        schema_version=_text(record, "schema_version"),
        source_url=url,
        date=date[:10],
    )
    return manifest_of(SCHEMA_ROLES, "cellxgene").merged_with(facts)


def _citation(doi: str, url: str, address: str) -> str:
    """Write the citation as the schema of Discover prescribes it."""
    publication = f"Publication: https://doi.org/{doi} " if doi else ""
    where = f" in Collection: {address}" if address else ""
    return f"{publication}Dataset Version: {url} curated and distributed by CZ CELLxGENE Discover{where}"


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _records(record: Record, key: str) -> list[Record]:
    value = record.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _as_record(value: object, what: str) -> Record:
    if not isinstance(value, dict):
        msg = f"{what}: the server answered with {type(value).__name__} where a description was asked for; is it the API of Discover?"
        raise UnreachableSourceError(msg)
    return cast("Record", value)
