"""The folder of a run: its record names everything, and nothing of it can be changed unseen."""

import json

import pytest

from cytolabe.errors import UsageError
from cytolabe.flow.verify import RUN_RECORD, verify_path
from cytolabe.provenance import artifact_of, canonical_json, digest_of, jsonable
from cytolabe.snapshot.atlas import create_atlas


def certificate(split_id):
    body = {"split_id": split_id, "tests": []}
    return {**body, "digest": digest_of(body)}


def write_run(folder, *, snapshot_id, certificates, quoted):
    """Write a run as the flow leaves it: outputs first, the record last."""
    folder.mkdir(exist_ok=True)
    (folder / "certificate.json").write_bytes(canonical_json({"certificates": certificates}))
    rows = [{"certificate": digest} for digest in quoted]
    (folder / "scores.json").write_bytes(canonical_json({"scores": rows}))
    (folder / "report.html").write_text("<p>one report</p>")
    names = ("certificate.json", "scores.json", "report.html")
    outputs = [jsonable(artifact_of(folder / name, "output")) for name in names]
    body = {"kind": "benchmark", "snapshot_id": snapshot_id, "outputs": outputs}
    (folder / RUN_RECORD).write_bytes(canonical_json({**body, "record_id": digest_of(body)}))


@pytest.fixture
def run(tmp_path):
    """Return the folder of an intact run without its atlas."""
    one = certificate("one")
    write_run(tmp_path / "run", snapshot_id="sha256:0", certificates=[one], quoted=[one["digest"], ""])
    return tmp_path / "run"


def found(path):
    return {(finding.code, finding.where) for finding in verify_path(path)[1]}


def test_an_intact_run_has_no_finding(run):
    assert verify_path(run) == (4, ())


@pytest.mark.parametrize("name", ["certificate.json", "scores.json", "report.html"])
def test_a_changed_or_missing_file_is_named(run, name):
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run / name).write_bytes(bytes(content))
    assert ("E-INTEGRITY-09", name) in found(run)
    (run / name).unlink()
    assert ("E-INTEGRITY-09", name) in found(run)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"record_id": 1, "outputs": [1]}', b"\xff\xfe"])
def test_a_damaged_record_is_a_finding_and_no_stranger(run, content):
    (run / RUN_RECORD).write_bytes(content)
    assert found(run) == {("E-INTEGRITY-09", RUN_RECORD)}


def test_a_run_without_its_record_did_not_end(run):
    (run / RUN_RECORD).unlink()
    ((finding),) = verify_path(run)[1]
    assert finding.where == RUN_RECORD
    assert "did not end" in finding.message


def test_an_edited_record_does_not_have_its_digest(run):
    document = json.loads((run / RUN_RECORD).read_bytes())
    document["kind"] = "demo"
    (run / RUN_RECORD).write_bytes(canonical_json(document))
    assert found(run) == {("E-INTEGRITY-09", RUN_RECORD)}


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_a_record_that_points_outside_is_not_followed(run, name):
    document = json.loads((run / RUN_RECORD).read_bytes())
    document["outputs"][0]["name"] = name
    body = {key: value for key, value in document.items() if key != "record_id"}
    (run / RUN_RECORD).write_bytes(canonical_json({**body, "record_id": digest_of(body)}))
    (finding,) = verify_path(run)[1]
    assert "outside of the folder" in finding.message


def test_a_certificate_that_was_edited_with_its_file_digest_is_still_found(tmp_path):
    one = {**certificate("one"), "tests": ["passed"]}
    write_run(tmp_path / "run", snapshot_id="", certificates=[one], quoted=[one["digest"]])
    (finding,) = verify_path(tmp_path / "run")[1]
    assert (finding.where, "of one was edited" in finding.message) == ("certificate.json", True)


def test_a_score_cannot_quote_a_certificate_that_is_not_there(tmp_path):
    write_run(tmp_path / "run", snapshot_id="", certificates=[certificate("one")], quoted=["sha256:made-up"])
    (finding,) = verify_path(tmp_path / "run")[1]
    assert finding.where == "scores.json"


def test_the_atlas_inside_has_to_hold_the_snapshot_of_the_run(tmp_path):
    snapshot_id = run_beside_its_atlas(tmp_path / "run")
    n_checked, findings = verify_path(tmp_path / "run")
    assert findings == ()
    assert n_checked > 5
    write_run(tmp_path / "run", snapshot_id="sha256:another", certificates=[], quoted=[])
    assert found(tmp_path / "run") == {("E-INTEGRITY-09", "atlas")}
    assert snapshot_id != "sha256:another"


def test_a_run_that_was_forged_as_a_whole_is_unknown_to_its_atlas(tmp_path):
    snapshot_id = run_beside_its_atlas(tmp_path / "run")
    forged = certificate("forged")
    write_run(tmp_path / "run", snapshot_id=snapshot_id, certificates=[forged], quoted=[forged["digest"]])
    (finding,) = verify_path(tmp_path / "run")[1]
    assert finding.where == RUN_RECORD
    assert "written anew after the run" in finding.message


def test_an_edited_record_beside_its_atlas_is_told_once(tmp_path):
    run_beside_its_atlas(tmp_path / "run")
    document = json.loads((tmp_path / "run" / RUN_RECORD).read_bytes())
    (tmp_path / "run" / RUN_RECORD).write_bytes(canonical_json({**document, "kind": "demo"}))
    (finding,) = verify_path(tmp_path / "run")[1]
    assert "it was edited" in finding.message


def run_beside_its_atlas(folder):
    """Write a run whose atlas was told of it, and return the snapshot."""
    atlas = create_atlas(folder / "atlas")
    snapshot_id = atlas.freeze().snapshot_id
    write_run(folder, snapshot_id=snapshot_id, certificates=[], quoted=[])
    atlas.register_artifact("run", folder / RUN_RECORD, snapshot_id)
    return snapshot_id


def test_damage_inside_the_atlas_is_told_beside_that_of_the_run(tmp_path):
    atlas = tmp_path / "run" / "atlas"
    snapshot_id = create_atlas(atlas).freeze().snapshot_id
    write_run(tmp_path / "run", snapshot_id=snapshot_id, certificates=[], quoted=[])
    (tmp_path / "run" / "report.html").unlink()
    (atlas / "cytolabe.json").unlink()
    assert found(tmp_path / "run") == {("E-INTEGRITY-09", "report.html"), ("E-INTEGRITY-01", "cytolabe.json")}


def test_a_folder_of_other_things_is_neither(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="neither an atlas nor the folder of a run"):
        verify_path(tmp_path)
