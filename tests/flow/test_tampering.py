"""Whatever a score rests on: if it is exchanged, it is found, and called by its name and field."""

import hashlib
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytolabe.config.study import ModelSpec
from cytolabe.flow.recording import Step, model_parents, record_step, step_record
from cytolabe.flow.verify import RUN_RECORD, verify_path
from cytolabe.provenance import artifact_of, canonical_json, digest_of
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import body_of, read_runs
from cytolabe.split import leave_one_group_out, write_split


@pytest.fixture
def run(demo, tmp_path):
    """Return a copy of a finished run, with its atlas and the files that it read."""
    return shutil.copytree(demo[0], tmp_path / "run")


def found(path, **options):
    return {finding.where: finding for finding in verify_path(path, **options)[1]}


def rewrite(run, change):
    """Change the record of a run and give it the digest that it then has: a forgery that agrees with itself."""
    body = json.loads((run / RUN_RECORD).read_bytes())
    body.pop("record_id")
    change(body)
    (run / RUN_RECORD).write_bytes(canonical_json({**body, "record_id": digest_of(body)}))


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_an_untouched_run_has_nothing_to_tell_but_files_that_are_elsewhere(run):
    assert {finding.code for finding in found(run).values()} == {"N-INTEGRITY-03"}
    assert found(run, data=[run / "contributions"]) == {}


def test_a_flipped_byte_of_a_chunk_names_the_chunk_and_the_scores_that_came_of_it(run):
    chunk = min(path for path in (run / "atlas" / "partitions").rglob("*") if "/X/data/c/" in str(path))
    flip_a_byte(chunk)
    told = found(run)
    (where,) = [where for where in told if "X/data/c" in where]
    assert chunk.name == where.rsplit("/", 1)[1]
    dataset_id = where.split(" of ")[1].split("/")[0]
    assert dataset_id in {path.stem for path in (run / "contributions").glob("*.h5ad")}
    runs = {ledger.kind for ledger in read_runs(Layout(run / "atlas"))} - {"ingest"}
    assert runs == {"map", "persons", "benchmark"}
    assert all(kind in told["runs"].message for kind in runs)


@pytest.mark.parametrize("side", ["atlas", "table"])
def test_an_edited_row_of_the_mappings_is_named_with_both_terms(run, side):
    (overlay,) = (run / "atlas" / "overlays" / "mappings").glob("*.parquet")
    table = pq.read_table(overlay).to_pandas()
    row = table[table["decision"] == "auto"].iloc[0]
    if side == "atlas":
        table.loc[row.name, "term"] = "CL:0000000"
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), overlay)
        assert any(where.startswith("overlays/mappings/") for where in found(run))
    else:
        path = run / "mappings.sssom.tsv"
        text = path.read_text(encoding="utf-8")
        lines = [
            line.replace(row["term"], "CL:0000000", 1)
            if row["contributor_label"] in line and row["dataset_id"] in line else line
            for line in text.splitlines(keepends=True)
        ]  # fmt: skip
        path.write_text("".join(lines), encoding="utf-8")
        assert "mappings.sssom.tsv" in found(run)
    told = found(run)["mapping mappings.sssom.tsv"]
    assert told.code == "E-INTEGRITY-10"
    for word in (row["contributor_label"], row["dataset_id"], row["term"], "CL:0000000", "term"):
        assert word in told.message


def test_a_swapped_split_is_named_with_what_differs(run):
    snapshot = open_atlas(run / "atlas").snapshot()
    write_split(leave_one_group_out(snapshot, by=("dataset",)), run / "split.json")
    told = found(run)
    assert "changed after the run" in told["split.json"].message
    assert "rule.by: ['component'] was asked, ['dataset'] is there" in told["split split.json"].message


def test_a_split_with_one_exchanged_side_is_named_by_its_fold(run):
    document = json.loads((run / "split.json").read_bytes())
    fold = document["splits"][0]
    fold["test_rows_digest"] = "sha256:" + "0" * 64
    (run / "split.json").write_bytes(canonical_json(document))
    assert f"fold {fold['split_id']}.test_rows_digest" in found(run)["split split.json"].message


def test_a_swapped_split_whose_record_was_forged_with_it_is_named_by_the_ledger(run):
    snapshot = open_atlas(run / "atlas").snapshot()
    write_split(leave_one_group_out(snapshot, by=("dataset",)), run / "split.json")
    sha256 = hashlib.sha256((run / "split.json").read_bytes()).hexdigest()

    def forge(body):
        (output,) = [item for item in body["outputs"] if item["name"] == "split.json"]
        output.update(sha256=sha256, n_bytes=(run / "split.json").stat().st_size)
        (parent,) = [item for item in body["parents"] if item["role"] == "split"]
        parent["digest"] = f"sha256:{sha256}"

    rewrite(run, forge)
    told = found(run)
    assert any("outputs[output split.json].sha256" in text for text in told[RUN_RECORD].examples)
    assert "split split.json" in told


@pytest.mark.parametrize("is_forged", [False, True])
def test_a_changed_seed_is_found_and_named(run, is_forged):
    if is_forged:
        rewrite(run, lambda body: body["parameters"].update(seed=1))
    else:
        document = json.loads((run / RUN_RECORD).read_bytes())
        document["parameters"]["seed"] = 1
        (run / RUN_RECORD).write_bytes(canonical_json(document))
    told = found(run)
    assert "parameters.seed: 0 -> 1" in told[RUN_RECORD].message
    # Without the atlas nobody knows which setting it was, but that it was one.
    shutil.rmtree(run / "atlas")
    assert "config parameters" in found(run)


def test_a_replaced_source_is_found_where_its_folder_is_named(run):
    flip_a_byte(run / "contributions" / "birch.h5ad")
    assert "source birch.h5ad" in found(run, data=[run / "contributions"])


def test_another_overlay_in_the_record_than_in_the_snapshot_is_named(run):
    def forge(body):
        (parent,) = [item for item in body["parents"] if item["role"] == "persons"]
        parent["digest"] = "sha256:" + "0" * 64

    rewrite(run, forge)
    assert "the run rests on persons persons of digest 000000000000" in found(run)["persons persons"].message


def test_another_ontology_under_the_same_release_is_an_error_and_another_release_a_note(run):
    def forge(release):
        def change(body):
            (parent,) = [item for item in body["parents"] if item["role"] == "ontology"]
            parent.update(digest="sha256:" + "0" * 64, name=release or parent["name"])

        return change

    rewrite(run, forge(""))
    assert "E-INTEGRITY-10" in {finding.code for finding in found(run).values()}
    rewrite(run, forge("v1999-01-01"))
    told = found(run)
    assert told["ontology"].code == "N-INTEGRITY-04"
    assert "v1999-01-01" in told["ontology"].message


def write_small_run(folder, model):
    """Write a run over an empty atlas that read one file of weights."""
    atlas = create_atlas(folder / "atlas")
    snapshot_id = atlas.freeze().snapshot_id
    spec = ModelSpec(name="mine", kind="precomputed", path=model)
    step = Step(kind="benchmark", inputs=[artifact_of(model, "model")], parents=model_parents([spec]))
    record = step_record(atlas.layout, step, snapshot_id=snapshot_id)
    record_step(atlas.layout, step, snapshot_id=snapshot_id)
    body = body_of(record)
    (folder / RUN_RECORD).write_bytes(canonical_json({**body, "record_id": digest_of(body)}))
    atlas.register_artifact("run", folder / RUN_RECORD, snapshot_id)


def test_a_replaced_model_file_is_named_by_the_run_and_by_the_ledger(tmp_path):
    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "weights.parquet"
    model.write_bytes(b"the weights that were scored")
    write_small_run(tmp_path / "run", model)
    assert found(tmp_path / "run", data=[tmp_path / "models"]) == {}
    assert found(tmp_path / "run" / "atlas", data=[tmp_path / "models"]) == {}
    model.write_bytes(b"the weights of another day")
    assert found(tmp_path / "run", data=[tmp_path / "models"])["model weights.parquet"].code == "E-INTEGRITY-10"
    told = found(tmp_path / "run" / "atlas", data=[tmp_path / "models"])["weights.parquet"]
    assert "model of benchmark sha256:" in told.message


def test_a_file_that_is_not_at_hand_is_told_and_not_called_intact(tmp_path):
    model = tmp_path / "weights.parquet"
    model.write_bytes(b"weights")
    write_small_run(tmp_path / "run", model)
    model.unlink()
    told = found(tmp_path / "run", data=[tmp_path])
    assert (told["inputs"].code, "model weights.parquet" in told["inputs"].message) == ("N-INTEGRITY-03", True)


@pytest.mark.parametrize("parents", [1, [1], [{"role": "config"}], "x"])
def test_parents_that_make_no_sense_are_a_finding_and_no_stranger(tmp_path, parents):
    model = tmp_path / "weights.parquet"
    model.write_bytes(b"weights")
    write_small_run(tmp_path / "run", model)
    rewrite(tmp_path / "run", lambda body: body.update(parents=parents))
    assert RUN_RECORD in found(tmp_path / "run")


def test_an_edited_score_is_named_by_its_row(run):
    document = json.loads((run / "scores.json").read_bytes())
    row = next(row for row in document["scores"] if row["value"] is not None)
    row["value"] = 0.999
    (run / "scores.json").write_bytes(canonical_json(document))
    told = [finding for finding in verify_path(run)[1] if finding.where == "scores.json"]
    (named,) = [finding for finding in told if "do not have their id" in finding.message]
    assert f"{row['metric']} {row['model']} {row['resolution']} {row['split']}" in named.message
