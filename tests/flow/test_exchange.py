"""Runs and releases are read by the libraries of the formats that they claim to follow."""

import datetime as dt
import hashlib
import json
import shutil
import warnings

import anndata
import pytest

from cytolabe.errors import IntegrityError, RefusedError, UsageError
from cytolabe.flow.crates import METADATA, write_crate
from cytolabe.flow.releases import write_release
from cytolabe.snapshot.atlas import open_atlas

DAY = dt.date(2026, 3, 1)


@pytest.fixture(scope="module")
def run(demo, tmp_path_factory):
    """Return a copy of the demonstration's output, without its atlas."""
    out = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(demo[0], out, ignore=shutil.ignore_patterns("atlas", "labs"))
    return out


@pytest.fixture(scope="module")
def crate(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("crate") / "crate"
    write_crate(run, out, published=DAY)
    return out


@pytest.fixture(scope="module")
def released(demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("release") / "release"
    snapshot = open_atlas(demo[0] / "atlas").snapshot("latest")
    write_release(snapshot, out, published=DAY, where="n_counts >= 1")
    return snapshot, out


# --- RO-Crate -----------------------------------------------------------------------------------------------------


def read_crate(path):
    rocrate = pytest.importorskip("rocrate.rocrate")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return rocrate.ROCrate(path)


def several(value):
    """Return what a property has as a list: the library gives one value by itself."""
    return value if isinstance(value, list) else [value]


def test_the_library_of_ro_crate_reads_a_run_without_a_warning_and_finds_its_files(crate, run):
    read = read_crate(crate)
    files = {entity.id for entity in read.data_entities}
    recorded = {item["name"] for item in json.loads((run / "run.json").read_bytes())["outputs"]}
    assert files == recorded | {"run.json"}
    assert read.root_dataset["datePublished"] == "2026-03-01"
    assert all((crate / name).is_file() for name in files)


def test_a_run_follows_the_process_run_profile(crate):
    """What https://w3id.org/ro/wfrun/process/0.5 says an action and its tool MUST be."""
    read = read_crate(crate)
    profiles = several(read.root_dataset["conformsTo"])
    assert [profile.id for profile in profiles] == ["https://w3id.org/ro/wfrun/process/0.5"]
    (action,) = [entity for entity in read.contextual_entities if entity.type == "CreateAction"]
    assert [entity.id for entity in several(read.root_dataset["mentions"])] == [action.id]
    assert action["instrument"].type == "SoftwareApplication"
    assert action["instrument"]["softwareVersion"]
    # Every reference resolves to an entity of the crate, and every result is a file in it.
    assert all(not isinstance(entity, str) for entity in [*action["object"], *action["result"]])
    assert {entity.type for entity in action["result"]} == {"File"}
    assert {entity.type for entity in action["object"]} == {"CreativeWork", "PropertyValue"}


def test_no_entity_is_named_twice_or_meant_and_not_there(crate):
    graph = json.loads((crate / METADATA).read_bytes())["@graph"]
    names = [entity["@id"] for entity in graph]
    assert len(set(names)) == len(names)
    meant = set()
    for entity in graph:
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                meant |= {item["@id"]} if isinstance(item, dict) else set()
    outside = {"https://w3id.org/ro/crate/1.1", "http://schema.org/CompletedActionStatus"}
    assert meant - set(names) == outside


def test_files_and_inputs_are_named_by_the_digests_of_their_bytes(crate, run):
    graph = {entity["@id"]: entity for entity in json.loads((crate / METADATA).read_bytes())["@graph"]}
    for name in ("scores.json", "run.json", "report.html"):
        assert graph[name]["sha256"] == hashlib.sha256((crate / name).read_bytes()).hexdigest()
    recorded = {f"sha256:{item['sha256']}" for item in json.loads((run / "run.json").read_bytes())["inputs"]}
    assert {entity["identifier"] for name, entity in graph.items() if name.startswith("ni:///")} == recorded
    assert recorded


def test_equal_runs_on_one_day_give_equal_crates(crate, run, tmp_path):
    write_crate(run, tmp_path / "again", published=DAY)
    assert (tmp_path / "again" / METADATA).read_bytes() == (crate / METADATA).read_bytes()


@pytest.mark.parametrize("name", ["scores.json", "split.json", "run.json"])
def test_no_crate_is_made_of_a_run_that_was_changed(run, tmp_path, name):
    shutil.copytree(run, tmp_path / "run")
    content = bytearray((tmp_path / "run" / name).read_bytes())
    place = content.index(b"sha256:") + 10
    content[place] = ord("0") if content[place] != ord("0") else ord("1")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(IntegrityError):
        write_crate(tmp_path / "run", tmp_path / "crate", published=DAY)
    assert not (tmp_path / "crate").exists()


def test_a_run_on_managed_data_leaves_only_where_that_is_said(run, tmp_path):
    """The evidence is one of the files that the record names: here it is written anew together with it."""
    from cytolabe.provenance import digest_of  # noqa: PLC0415

    shutil.copytree(run, tmp_path / "run")
    evidence = json.loads((tmp_path / "run" / "evidence.json").read_bytes())
    first = min(evidence["access"])
    evidence["access"][first] = "managed"
    (tmp_path / "run" / "evidence.json").write_text(json.dumps(evidence))
    record = json.loads((tmp_path / "run" / "run.json").read_bytes())
    del record["record_id"]
    for item in record["outputs"]:
        item["sha256"] = hashlib.sha256((tmp_path / "run" / item["name"]).read_bytes()).hexdigest()
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "record_id": digest_of(record)}))
    with pytest.raises(RefusedError, match="managed"):
        write_crate(tmp_path / "run", tmp_path / "crate", published=DAY)
    document = write_crate(tmp_path / "run", tmp_path / "crate", published=DAY, access="managed")
    assert document["@graph"][1]["conditionsOfAccess"] == "managed"


def test_a_place_that_is_taken_or_no_run_is_a_wrong_call(crate, run, tmp_path):
    with pytest.raises(UsageError, match="not replaced"):
        write_crate(run, crate, published=DAY)
    with pytest.raises(UsageError, match=r"holds no run\.json"):
        write_crate(tmp_path, tmp_path / "crate", published=DAY)


# --- Croissant ----------------------------------------------------------------------------------------------------


def read_croissant(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own dependencies
        mlcroissant = pytest.importorskip("mlcroissant")
        return mlcroissant.Dataset(jsonld=path / "croissant.json")


def test_the_library_of_croissant_reads_a_release_without_an_error(released):
    _, out = released
    dataset = read_croissant(out)
    assert list(dataset.metadata.ctx.issues.errors) == []
    assert {file.name for file in dataset.metadata.distribution} == {"cells.h5ad", "cells.parquet"}


def test_records_read_through_croissant_are_the_cells_of_the_snapshot(released):
    snapshot, out = released
    cells = snapshot.cells.set_index("cell_id")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = list(read_croissant(out).records("cells"))
    assert len(records) == len(cells)
    for record in records[:: len(records) // 20]:
        said = {key.removeprefix("cells/"): value for key, value in record.items()}
        expected = cells.loc[said["cell_id"].decode()]
        assert said["donor_id"].decode() == expected["donor_id"]
        assert said["n_counts"] == expected["n_counts"]


def test_the_table_and_the_counts_of_a_release_have_one_order_and_the_digests_that_are_stated(released):
    _, out = released
    document = json.loads((out / "croissant.json").read_bytes())
    for file in document["distribution"]:
        assert file["sha256"] == hashlib.sha256((out / file["contentUrl"]).read_bytes()).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = [record["cells/cell_id"].decode() for record in read_croissant(out).records("cells")]
    assert ids == list(anndata.read_h5ad(out / "cells.h5ad", backed="r").obs_names)


def test_what_no_data_set_declared_is_not_stated(released):
    snapshot, out = released
    document = json.loads((out / "croissant.json").read_bytes())
    licences = {record.declared["licence"] for record in snapshot.datasets.values() if "licence" in record.declared}
    assert ("license" in document) == bool(licences)
    assert document["conditionsOfAccess"].startswith("undeclared")
