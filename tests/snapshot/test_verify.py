import dataclasses
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.snapshot import open_atlas, verify_atlas
from cytolabe.store.documents import sealed_bytes


@pytest.fixture
def path(atlas):
    atlas.freeze("v1")
    return atlas.path


def codes(path):
    return [(finding.code, finding.where) for finding in verify_atlas(path)[1]]


def test_an_intact_atlas_has_no_findings(path):
    n_checked, findings = verify_atlas(path)
    assert findings == ()
    documents = [file for file in path.rglob("*.json") if "partitions" not in file.parts]
    assert len(documents) == 1 + 1 + 5 + 1 + 2  # marker, witness, revisions, snapshot, entries
    tables = list(path.rglob("*.parquet"))
    assert n_checked == len(documents) + len(tables) + len(list((path / "partitions").iterdir()))


def test_equal_contributor_tables_are_kept_once(path):
    atlas = open_atlas(path)
    kang, zheng = (atlas.entry(name).tables["contributed"] for name in ("kang", "zheng"))
    assert kang == zheng
    assert atlas.contributed("kang").equals(atlas.contributed("zheng"))


@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_anywhere_is_found_and_attributed(path, data):
    victim = data.draw(st.sampled_from(sorted(file for file in path.rglob("*") if file.is_file())))
    whole = victim.read_bytes()
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    victim.write_bytes(content)
    try:
        findings = verify_atlas(path)[1]
    finally:
        victim.write_bytes(whole)
    named = victim.relative_to(path).parts[-1]
    assert any(named in finding.where for finding in findings if finding.severity.value == "error")


def test_every_missing_file_is_found_and_attributed(path):
    last = max(int(file.stem) for file in (path / "revisions").iterdir())
    rolled_back = path / "revisions" / f"{last}.json"
    victims = sorted(file for file in path.rglob("*") if file.is_file())
    for victim in victims:
        if victim in (rolled_back, path / "cytolabe.json", path / "head.json"):
            continue
        whole = victim.read_bytes()
        victim.unlink()
        findings = verify_atlas(path)[1]
        victim.write_bytes(whole)
        where = victim.relative_to(path).name
        assert any(found.code == "E-INTEGRITY-01" and found.where.endswith(where) for found in findings), victim
    assert verify_atlas(path)[1] == ()


def test_a_log_that_was_rolled_back_shows_by_its_witness_and_its_snapshot(path):
    last = max((path / "revisions").iterdir(), key=lambda file: int(file.stem))
    last.unlink()
    (snapshot,) = (path / "snapshots").iterdir()
    assert codes(path) == [
        ("E-INTEGRITY-07", f"revisions/{last.name}"),
        ("W-INTEGRITY-01", f"snapshots/{snapshot.name}"),
    ]
    with pytest.raises(IntegrityError, match="rolled back"):
        open_atlas(path)


def test_a_log_without_its_witness_is_told_and_still_read(path):
    (path / "head.json").unlink()
    assert codes(path) == [("N-INTEGRITY-01", "head.json")]
    open_atlas(path).freeze("v2")
    assert codes(path) == []


def test_an_edited_mapping_table_is_attributed_and_never_used(path, make):
    (table,) = (path / "overlays" / "mappings").iterdir()
    other = open_atlas(path)
    other.put_mappings([make.mapping("kang", "T cell", "CL:0000236")])
    (new,) = set((path / "overlays" / "mappings").iterdir()) - {table}
    table.write_bytes(new.read_bytes())
    assert codes(path) == [("E-INTEGRITY-02", f"overlays/mappings/{table.name}")]
    with pytest.raises(IntegrityError, match=table.name):
        _ = open_atlas(path).snapshot("v1").cells


def test_a_revision_that_was_edited_and_sealed_again_breaks_the_chain(path):
    document = json.loads((path / "revisions" / "2.json").read_bytes())
    del document["seal"]
    (path / "revisions" / "2.json").write_bytes(sealed_bytes({**document, "author": "somebody else"}))
    assert codes(path) == [("E-INTEGRITY-06", "revisions/3.json")]


def test_a_snapshot_that_was_edited_and_sealed_again_is_another_snapshot(path):
    (victim,) = (path / "snapshots").iterdir()
    document = json.loads(victim.read_bytes())
    del document["seal"]
    document["body"]["ontology_release"] = "cl-next"
    victim.write_bytes(sealed_bytes(document))
    assert codes(path) == [("E-INTEGRITY-05", f"snapshots/{victim.name}")]
    document["body"]["ontology_release"] = "cl-test"
    del document["datasets"]["kang"]
    victim.write_bytes(sealed_bytes(document))
    with pytest.raises(IntegrityError, match="lists other objects"):
        open_atlas(path).snapshot()


def test_an_entry_that_was_pointed_at_another_table_is_found(path):
    kang, zheng = (open_atlas(path).entry(name) for name in ("kang", "zheng"))
    victim = path / "datasets" / f"{kang.digest.removeprefix('sha256:')}.json"
    document = json.loads(victim.read_bytes())
    del document["seal"]
    document["physical"]["tables"]["cells"] = dataclasses.asdict(zheng.tables["cells"])
    victim.write_bytes(sealed_bytes(document))
    assert codes(path) == [("E-INTEGRITY-05", f"datasets/{victim.name}")]
    with pytest.raises(IntegrityError, match="not those that it names"):
        open_atlas(path).snapshot("v1")


def test_exchanged_entries_are_found(path):
    one, two = sorted((path / "datasets").iterdir())
    one.write_bytes(two.read_bytes())
    assert ("E-INTEGRITY-05", f"datasets/{one.name}") in codes(path)


def test_damage_does_not_stop_the_walk(path):
    for directory in ("tables", "partitions"):
        victim = min((path / directory).iterdir())
        shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    assert [code for code, _ in codes(path)] == ["E-INTEGRITY-01", "E-INTEGRITY-01"]


def test_counts_of_a_lost_partition_are_an_error_and_not_zeros(path):
    for victim in (path / "partitions").glob("*/X/data/c/0"):
        victim.unlink()
    snapshot = open_atlas(path).snapshot()
    with pytest.raises(IntegrityError, match="missing"):
        snapshot.counts(snapshot.cells.index.to_numpy(), ["G-CD3D"])


def test_only_an_atlas_can_be_verified(tmp_path):
    with pytest.raises(UsageError, match="is no atlas"):
        verify_atlas(tmp_path / "absent")
