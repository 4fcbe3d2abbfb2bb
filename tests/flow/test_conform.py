"""Files of one call beside each other, and the command that holds them against a schema."""

import importlib.util
import json
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.flow.meaning import donor_collisions, meaning_findings

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


def test_the_command_says_for_each_pack_whether_a_file_is_valid(written):
    code, document = run(written("fake.h5ad", variants.with_raw(variants.ceil_cp10k)), "--pack", "cellxgene-7")
    [source] = document["sources"]
    assert (code, source["valid"]) == (1, False)
    assert source["packs"] == {"cellxgene-7": True, "cytolabe-2": False}


def test_the_command_writes_a_patch_and_applies_it_to_a_copy(written, tmp_path):
    path = written("title.h5ad", variants.with_uns(title=" Blood  "))
    patch, out = tmp_path / "patch.json", tmp_path / "new.h5ad"
    code, document = run(path, "--pack", "cellxgene-7", "--fix", patch)
    assert (code, document["n_operations"]) == (1, 1)
    code, document = run(path, "--apply", patch, "-o", out)
    assert (code, document["n_operations"]) == (0, 1)
    assert run(out, "--pack", "cellxgene-7")[0] == 0
