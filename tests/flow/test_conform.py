"""Files of one call beside each other, and the command that holds them against a schema."""

import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.flow import conform_child
from cytolabe.flow.conform import conform_file
from cytolabe.flow.meaning import donor_collisions, meaning_findings
from cytolabe.ingest.spill import Spill, spill_received
from cytolabe.snapshot.atlas import open_atlas

_SPEC = importlib.util.spec_from_file_location("variants", Path(__file__).parents[1] / "validate" / "variants.py")
variants = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(variants)


@pytest.fixture
def written(tmp_path):
    def write(name, edit=lambda _: None):
        data = variants.valid_data()
        edit(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.write_h5ad(tmp_path / name)
        return tmp_path / name

    return write


def run(*words):
    ended = CliRunner().invoke(app, ["validate", *map(str, words), "--json"], standalone_mode=False)
    return ended.return_value, json.loads(ended.stdout)


def test_a_donor_that_two_files_name_is_told_of_both_and_unknown_is_nobody(written):
    one, same = written("one.h5ad"), written("same.h5ad", variants.with_some("donor_id", "unknown"))
    other = written("other.h5ad", variants.with_column("donor_id", "lab_b_p1"))
    found = donor_collisions({"one": one, "same": same, "other": other})
    assert sorted(found) == ["one", "same"]
    assert set(found["one"][0].examples) == {"donor_1", "donor_2"}
    assert donor_collisions({"one": one}) == {}


def test_what_ingest_told_is_not_told_again(written):
    path = written("unknown.h5ad", variants.with_column("donor_id", "unknown"))
    [finding] = meaning_findings(path, ())
    assert finding.code == "W-DONOR-01"
    assert meaning_findings(path, (finding,)) == ()


def test_an_ingest_tells_what_the_tables_do_not_mean_and_which_donors_collide_and_changes_nothing(written, tmp_path):
    def codes(row):
        return [finding["code"] for finding in row["findings"]]

    def coded(data):
        data.obs["donor_id"] = "lab_p1"
        data.obs["annotation"] = [str(number % 2) for number in range(data.n_obs)]

    one = written("one.h5ad", coded)
    other = written("other.h5ad", variants.with_column("donor_id", "unknown"))
    third = written("third.h5ad", variants.with_column("donor_id", "lab_p1"))
    ended = CliRunner().invoke(
        app, ["ingest", str(tmp_path / "atlas"), *map(str, (one, other, third)), "--json"], standalone_mode=False
    )
    rows = {row["dataset_id"]: row for row in json.loads(ended.stdout)["datasets"]}
    assert "W-DONOR-05" in codes(rows["one"])
    assert "W-DONOR-05" in codes(rows["third"])
    assert "W-DONOR-05" not in codes(rows["other"])
    assert codes(rows["other"]).count("W-DONOR-01") == 1
    assert "W-CLASS-07" in codes(rows["one"])
    assert {row["status"] for row in rows.values()} == {"accepted"}
    kept = open_atlas(tmp_path / "atlas").findings("one")
    assert "W-CLASS-07" in {finding.code for finding in kept}
    assert "W-DONOR-05" not in {finding.code for finding in kept}


def test_the_command_says_for_each_pack_whether_a_file_is_valid(written):
    code, document = run(written("fake.h5ad", variants.with_raw(variants.ceil_cp10k)), "--pack", "cellxgene-7")
    [source] = document["sources"]
    assert (code, source["valid"]) == (1, False)
    assert source["packs"] == {"cellxgene-7": True, "cytolabe-2": False}


def test_steps_before_the_counts_that_no_manifest_tells_are_named(written, tmp_path):
    def hops(*words):
        [source] = run(*words)[1]["sources"]
        return [finding["examples"] for finding in source["findings"] if finding["code"] == "N-HOP-01"]

    path = written("plain.h5ad")
    assert hops(path, "--pack", "cellxgene-7") == [["alignment", "reference", "kit", "library", "reads"]]
    (tmp_path / "manifest.toml").write_text('kit = "10x 3\' v3"\nreads = "SRR000001"\n', encoding="utf-8")
    assert hops(path, "--pack", "cellxgene-7") == [["alignment", "reference", "library"]]


def test_the_command_writes_a_patch_and_applies_it_to_a_copy(written, tmp_path):
    path = written("title.h5ad", variants.with_uns(title=" Blood  "))
    patch, out = tmp_path / "patch.json", tmp_path / "new.h5ad"
    code, document = run(path, "--pack", "cellxgene-7", "--fix", patch)
    assert (code, document["n_operations"]) == (1, 1)
    code, document = run(path, "--apply", patch, "-o", out)
    assert (code, document["n_operations"]) == (0, 1)
    assert run(out, "--pack", "cellxgene-7")[0] == 0


def _with_copies(data):
    data.raw = None
    counts = data.X.toarray().copy()
    counts[:] = np.round(np.expm1(np.abs(counts))) + 1
    counts[5] = counts[2]
    counts[7] = counts[2]
    data.X = csr_matrix(counts.astype(np.float32))
    data.obs_names = [*data.obs_names[:-2], data.obs_names[0], data.obs_names[0]]


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_marks_that_are_kept_outside_find_the_same_as_held_ones(written, monkeypatch):
    path = written("copies.h5ad", _with_copies)
    packs = ("cellxgene-7", "cytolabe-2")
    inside = conform_child.look_through(path, packs)
    monkeypatch.setattr(conform_child, "_HELD_ROWS", 0)
    with spill_received() as ends:
        kept = Spill(ends)
        outside = conform_child.look_through(path, packs, spill=kept)
        n_kept = kept.n_bytes
    assert outside == inside
    found = {finding.code: finding for finding in inside}
    assert (found["E-RAW-06"].n_affected, found["E-SCHEMA-15"].n_affected) == (3, 2)
    data = variants.valid_data()
    assert n_kept == 8 * (2 * data.n_obs + data.n_vars)
    assert conform_file(path, packs).findings == inside
