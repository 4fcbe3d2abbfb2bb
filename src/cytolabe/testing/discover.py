"""CELLxGENE Discover in small: a web server with collections, data sets and versions in the shape of its API."""

from collections.abc import Mapping
from dataclasses import dataclass

from cytolabe.testing.web_server import WebServer

__all__ = ["SimulatedDataset", "publish_collection", "simulated_id"]


@dataclass(frozen=True, kw_only=True)
class SimulatedDataset:
    """A data set of a collection: the numbers that its ids are made of, its title and the bytes of each version.

    Versions are in the order of their publication.
    """

    number: int
    title: str
    versions: tuple[bytes, ...]


def simulated_id(kind: int, number: int) -> str:
    """Return an id of the form of Discover's: the kind of thing and its number."""
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def publish_collection(
    server: WebServer, number: int, datasets: tuple[SimulatedDataset, ...], *, organism: str = "Homo sapiens"
) -> str:
    """Publish a collection on a server and return its id.

    Data sets have ids of kind 2, their versions of kind 3 (number of the data set times 100, plus that of the
    version), collections of kind 1 and their one version of kind 4. Answers of other kinds are 404, as at Discover.
    """
    collection_id = simulated_id(1, number)
    newest = []
    for dataset in datasets:
        records = [
            _record(server, dataset, at=position, content=content, organism=organism)
            for position, content in enumerate(dataset.versions)
        ]
        told = [{**record, "collection_id": collection_id} for record in records]
        server.documents[f"/curation/v1/datasets/{simulated_id(2, dataset.number)}/versions"] = told[::-1]
        for record in told:
            server.documents[f"/curation/v1/dataset_versions/{record['dataset_version_id']}"] = record
        newest.append({**records[-1], "revised_at": "2026-02-03T04:05:06.789000+00:00"})
    head = {
        "collection_id": collection_id,
        "collection_url": f"https://cellxgene.cziscience.com/collections/{collection_id}",
        "collection_version_id": simulated_id(4, number),
        "name": f"Collection {number}",
        "doi": f"10.1234/simulated.{number}",
        "visibility": "PUBLIC",
    }
    server.documents[f"/curation/v1/collections/{collection_id}"] = {**head, "datasets": newest}
    server.documents[f"/curation/v1/collection_versions/{simulated_id(4, number)}"] = {
        **head,
        "dataset_versions": newest,
    }
    return collection_id


def _record(
    server: WebServer, dataset: SimulatedDataset, *, at: int, content: bytes, organism: str
) -> Mapping[str, object]:
    version_id = simulated_id(3, dataset.number * 100 + at)
    server.files[f"/{version_id}.h5ad"] = content
    return {
        "dataset_id": simulated_id(2, dataset.number),
        "dataset_version_id": version_id,
        "title": dataset.title,
        "organism": [{"label": organism, "ontology_term_id": "NCBITaxon:9606"}],
        "assay": [{"label": "10x 3' v3", "ontology_term_id": "EFO:0009922"}],
        "is_primary_data": [True],
        "donor_id": ["d1", "d2"],
        "schema_version": "7.0.0",
        "published_at": "2025-01-02T03:04:05.678000+00:00",
        "assets": [
            {"filesize": -1, "filetype": "RDS", "url": f"{server.address}/{version_id}.rds"},
            {"filesize": len(content), "filetype": "H5AD", "url": f"{server.address}/{version_id}.h5ad"},
        ],
    }
