"""Records of runs are joined by digests: what descends from what follows from them alone."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError
from cytolabe.records import NamedDigest, RunRecord
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.run_ledger import LedgerRun, descendants, read_runs, write_run
from cytolabe.snapshot.verify import verify_atlas

RECORD = RunRecord(
    kind="split", inputs=(), outputs=(), parameters={"seed": 0}, code={}, environment={}, ontology_release="r",
    ontology_digest="", gene_reference="g", gene_reference_digest="", snapshot_id="",
)  # fmt: skip


def ledger_run(number, parents, made):
    def named(digests):
        return [{"role": "x", "name": "", "digest": digest} for digest in digests]

    body = {
        "kind": "x", "snapshot_id": "", "parents": named(parents), "made": named(made), "inputs": [], "outputs": [],
    }  # fmt: skip
    return LedgerRun(record_id=f"run{number}", body=body)


@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef"))), max_size=8),
    st.sets(st.sampled_from("abcdef"), max_size=2),
)
def test_descendants_are_what_the_powers_of_the_relation_reach(made_from, start):
    runs = [ledger_run(number, sorted(parents), sorted(made)) for number, (parents, made) in enumerate(made_from)]
    follows = np.array([[bool(a_made & b_from) for b_from, _ in made_from] for _, a_made in made_from], dtype=bool)
    reached = np.array([bool(parents & start) for parents, _ in made_from], dtype=bool)
    for _ in runs:
        reached = reached | (follows.T @ reached)
    expected = [f"run{number}" for number in np.flatnonzero(reached)]
    assert [run.record_id for run in descendants(runs, start)] == expected


def test_a_record_is_written_once_and_read_back(tmp_path):
    layout = create_atlas(tmp_path / "atlas").layout
    record = dataclasses.replace(RECORD, parents=(NamedDigest(role="code", name="c", digest="sha256:1"),))
    assert write_run(layout, record) == write_run(layout, record)
    (run,) = read_runs(layout)
    assert (run.kind, run.parents) == ("split", record.parents)


def test_the_ledger_names_no_donor_that_a_study_declared(tmp_path):
    layout = create_atlas(tmp_path / "atlas").layout
    persons = [{"id": "lupus-101", "dataset": "kang", "donor": "101", "evidence": "the paper"}]
    declared = dataclasses.replace(RECORD, parameters={"persons": persons})
    other = dataclasses.replace(RECORD, parameters={"persons": [{**persons[0], "donor": "102"}]})
    assert write_run(layout, declared) != write_run(layout, other)
    texts = [path.read_text() for path in layout.runs.glob("*.json")]
    assert len(texts) == 2
    assert not any("lupus" in text or '"101"' in text for text in texts)


def test_an_edited_record_is_found_and_never_read(tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    write_run(atlas.layout, RECORD)
    assert verify_atlas(tmp_path / "atlas")[1] == ()
    (path,) = atlas.layout.runs.glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"seed":0', b'"seed":1'))
    assert [finding.where for finding in verify_atlas(tmp_path / "atlas")[1]] == [f"runs/{path.name}"]
    with pytest.raises(IntegrityError, match="edited"):
        read_runs(atlas.layout)


def test_a_record_under_the_name_of_another_is_found(tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    write_run(atlas.layout, RECORD)
    write_run(atlas.layout, dataclasses.replace(RECORD, kind="audit"))
    first, second = sorted(atlas.layout.runs.glob("*.json"))
    second.write_bytes(first.read_bytes())
    (finding,) = verify_atlas(tmp_path / "atlas")[1]
    assert (finding.code, finding.where) == ("E-INTEGRITY-05", f"runs/{second.name}")
