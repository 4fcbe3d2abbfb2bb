"""A study run as an RO-Crate: its files with `ro-crate-metadata.json`, which says what made them of what.

The crate follows Process Run Crate 0.5, the profile of Workflow Run RO-Crate for a tool that was run: one CreateAction,
Cytolabe as its instrument, the contributions and every parameter as its objects, the outputs as its results. Inputs
are not in the crate: they are named by the digest of their bytes (RFC 6920). What a run record does not hold is not
invented: there is no time and no person in it, so the crate has no `endTime` and no `agent`.
"""

import base64
import datetime as dt
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.files import publish_directory, sha256_of_file, staged_directory
from cytolabe.flow.verify import RUN_RECORD
from cytolabe.provenance import canonical_json, digest_of
from cytolabe.records.access import UNDECLARED, strictest
from cytolabe.snapshot.access import require_access

__all__ = ["METADATA", "crate_document", "write_crate"]

METADATA = "ro-crate-metadata.json"
_CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
_CRATE = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_RUN, _TOOL = "#run", "#cytolabe"
_FORMATS = {
    ".json": "application/json",
    ".html": "text/html",
    ".tsv": "text/tab-separated-values",
    ".parquet": "application/vnd.apache.parquet",
    ".py": "text/x-python",
}

Entity = dict[str, Any]


def write_crate(run: Path, out: Path, *, published: dt.date, license_text: str = "", access: str = "") -> Entity:
    """Copy the outputs of a run into a new folder with the metadata of a crate, and return the metadata.

    Parameters
    ----------
    run
        Output folder of a study.
    out
        A folder that is not there yet.
    published
        Day of publication, which a crate must state and a run record does not hold.
    license_text
        Terms of the crate; without it the crate says that none were declared.
    access
        The strictest access class that may leave; empty for open and undeclared data sets only.

    Raises
    ------
    UsageError
        If the folder is there already, or `run` is no output folder of a study.
    IntegrityError
        If the record or an output has another digest than was recorded: a crate of it would state what is not so.
    RefusedError
        If a data set of the run is of a stricter access class.
    """
    if out.exists():
        msg = f"{out} is there already and is not replaced. Name another place, or remove it."
        raise UsageError(msg)
    record = _record(run)
    n_cells = _cells_by_access(run)
    require_access(n_cells, access)
    names = [str(item["name"]) for item in record["outputs"]]
    for item in record["outputs"]:
        _require_same(run, str(item["name"]), str(item["sha256"]))
    document = crate_document(
        record, published=published, license_text=license_text, access=strictest(n_cells), run_file=run / RUN_RECORD
    )
    with staged_directory(out.parent) as staged:
        whole = staged / out.name
        whole.mkdir()
        for name in (*names, RUN_RECORD):
            shutil.copyfile(run / name, whole / name)
        (whole / METADATA).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not publish_directory(whole, out):
            msg = f"{out} was made by somebody else in the meantime and is not replaced."
            raise UsageError(msg)
    return document


def _record(run: Path) -> Mapping[str, Any]:
    path = run / RUN_RECORD
    try:
        record = json.loads(path.read_bytes())
        body = {key: value for key, value in record.items() if key != "record_id"}
        recorded = str(record["record_id"])
    except FileNotFoundError:
        msg = f"{run} holds no {RUN_RECORD}: it is no output folder of a study, or the run did not end."
        raise UsageError(msg) from None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        msg = f"{path} is no run record ({type(error).__name__}: {error})."
        raise UnreadableInputError(msg) from None
    if digest_of(body) != recorded:
        msg = f"{path} was edited: it does not have the digest that it states. `cytolabe verify {run}` tells more."
        raise IntegrityError(msg)
    return dict(record)


def _require_same(run: Path, name: str, sha256: str) -> None:
    file = run / name
    if Path(name).name != name or not file.is_file() or sha256_of_file(file) != sha256:
        msg = f"{name} is missing or was changed after the run; a crate would state what is not so. `cytolabe verify {run}` tells more."
        raise IntegrityError(msg)


def _cells_by_access(run: Path) -> dict[str, int]:
    """Count the cells of the run's data sets by access class, as its evidence has them."""
    path = run / "evidence.json"
    evidence = json.loads(path.read_bytes()) if path.is_file() else {}
    sizes = {source["dataset_id"]: source["n_cells"] for source in evidence.get("sources", [])}
    counts: dict[str, int] = {}
    for dataset_id, word in evidence.get("access", {}).items():
        counts[word] = counts.get(word, 0) + int(sizes.get(dataset_id, 0))
    return counts or {UNDECLARED: 0}


def crate_document(
    record: Mapping[str, Any], *, published: dt.date, license_text: str, access: str, run_file: Path
) -> Entity:
    """Return the JSON-LD of a crate for a run record; entities in a fixed order, so that equal runs give equal crates."""
    outputs = [_file(str(item["name"]), item) for item in record["outputs"]]
    outputs.append(_file(RUN_RECORD, {"sha256": sha256_of_file(run_file), "n_bytes": run_file.stat().st_size}))
    inputs = [_absent(item) for item in record["inputs"]]
    values = [*_parameters(record["parameters"]), *_parents(record.get("parents", []))]
    tool, libraries = _tool(record)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Cytolabe run {str(record['record_id'])[:19]}",
        "description": f"Outputs of a {record['kind']} on snapshot {record['snapshot_id']}, with every input by digest.",
        "datePublished": published.isoformat(),
        "license": license_text or "No license was declared; ask who published this crate.",
        "identifier": record["record_id"],
        "conditionsOfAccess": access,
        "conformsTo": _refs([_PROFILE]),
        "hasPart": _refs(entity["@id"] for entity in outputs),
        "mentions": _refs([_RUN]),
    }
    action = {
        "@id": _RUN,
        "@type": "CreateAction",
        "name": f"cytolabe {record['kind']}",
        "description": "Holds no time, host or person: two runs of the same inputs have one record.",
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "instrument": {"@id": _TOOL},
        "object": _refs(entity["@id"] for entity in (*inputs, *values)),
        "result": _refs(entity["@id"] for entity in outputs),
    }
    descriptor = {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": _CRATE}}
    profile = {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    return {
        "@context": _CONTEXT,
        "@graph": [descriptor, root, profile, action, tool, *libraries, *outputs, *inputs, *values],
    }


def _refs(ids: Iterable[str]) -> list[dict[str, str]]:
    return [{"@id": identifier} for identifier in ids]


def _file(name: str, item: Mapping[str, Any]) -> Entity:
    return {
        "@id": name,
        "@type": "File",
        "name": name,
        "encodingFormat": _FORMATS.get(Path(name).suffix, "application/octet-stream"),
        "sha256": item["sha256"],
        "contentSize": str(item["n_bytes"]),
    }


def _absent(item: Mapping[str, Any]) -> Entity:
    """Return an input that is not in the crate, under the name that its bytes have anywhere (RFC 6920)."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(item["sha256"])).decode().rstrip("=")
    return {
        "@id": f"ni:///sha-256;{digest}",
        "@type": "CreativeWork",
        "name": item["name"],
        "description": f"{item['role']}, not in this crate",
        "identifier": f"sha256:{item['sha256']}",
        "contentSize": str(item["n_bytes"]),
    }


def _parameters(parameters: Mapping[str, Any]) -> list[Entity]:
    return [
        {"@id": f"#parameter-{name}", "@type": "PropertyValue", "name": name, "value": _text(value)}
        for name, value in sorted(parameters.items())
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode()


def _parents(parents: Iterable[Mapping[str, str]]) -> list[Entity]:
    return [
        {
            "@id": f"#parent-{number}",
            "@type": "PropertyValue",
            "name": parent["name"],
            "propertyID": parent["role"],
            "value": parent["digest"],
        }
        for number, parent in enumerate(parents, start=1)
    ]


def _tool(record: Mapping[str, Any]) -> tuple[Entity, list[Entity]]:
    """Return Cytolabe as software, and the environment that it ran in."""
    libraries = [
        {"@id": f"#software-{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in sorted(record["environment"].items())
        if version != "absent"
    ]
    code = record["code"]
    tool = {
        "@id": _TOOL,
        "@type": "SoftwareApplication",
        "name": "Cytolabe",
        "softwareVersion": code["version"],
        "identifier": f"sha256:{code['source_sha256']}",
        "softwareRequirements": _refs(library["@id"] for library in libraries),
    }
    return tool, libraries
