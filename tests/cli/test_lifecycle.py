"""withdraw, purge, expire, gc, recover from the command line; and writers that meet."""

import json
import os
import subprocess
import sys
import time

import pytest

from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.store.leases import held_lease, live_leases


def donor_of(atlas):
    cells = open_atlas(atlas).cells()
    cells = cells[(cells["dataset_id"] == "birch") & (cells["donor_id"] != "unknown")]
    return cells["donor_id"].iloc[0], int((cells["donor_id"] == cells["donor_id"].iloc[0]).sum())


def test_a_person_is_withdrawn_and_purged_and_the_commands_say_what_came_of_them(call, own_atlas, labs):
    donor, n_cells = donor_of(own_atlas)
    # The atlas is a copy of one that other tests split as well; this split has a name of its own.
    assert call("split", own_atlas, "--by", "dataset", "-o", own_atlas.parent / "held_out.json").code == 0
    called = call("snapshot", "withdraw", own_atlas, "--donor", f"birch:{donor}", "--json")
    assert called.code == 0
    assert called.document["n_cells"]["birch"] == n_cells
    (old,) = called.document["snapshots"]
    assert ("split", "held_out.json") in {(row["kind"], row["name"]) for row in called.document["artifacts"]}
    told = {made["name"] for run in called.document["runs"] for made in run["results"]}
    assert {"held_out.json", "mappings"} <= told
    refused = call("split", own_atlas, "--snapshot", "v1", "--json")
    assert refused.code == 1
    assert refused.document["error"]["type"] == "WithdrawnError"
    asked = ("snapshot", "query", own_atlas, "SELECT count(*) AS n FROM cells", "--json")
    assert call(*asked).code == 1
    assert call(*asked, "--as-recorded").document["rows"] == [[480]]
    frozen = call("snapshot", own_atlas, "--tag", "v2", "--json").document
    assert frozen["n_cells"] == 480 - sum(called.document["n_cells"].values())
    told = call("snapshot", "diff", own_atlas, "v1", "v2", "--as-recorded", "--json").document
    assert told["n_cells_removed"] == 480 - frozen["n_cells"]
    assert call("snapshot", "purge", own_atlas, "--json").code == 2
    purged = call("snapshot", "purge", own_atlas, "--yes", "--json")
    assert purged.code == 0
    assert old in purged.document["snapshots"]
    assert "birch" in purged.document["datasets"]
    verified = call("verify", own_atlas, "--json")
    assert (verified.code, verified.document["ok"]) == (0, True)
    assert {finding["code"] for finding in verified.document["findings"]} == {"N-INTEGRITY-02"}
    assert call(*asked, "--as-recorded", "--snapshot", "v1").code == 1
    # The files of all labs again: that of the person stays out, and keeps no other one out.
    ingested = call("ingest", own_atlas, labs, "--json")
    assert ingested.code == 1
    told = {
        row["dataset_id"]: (row["status"], [f["code"] for f in row["findings"]][-1:])
        for row in ingested.document["datasets"]
    }
    assert told["birch"] == ("refused", ["E-PURGED-01"])
    assert {told[name][0] for name in ("amber", "elm")} <= {"accepted", "unchanged"}
    assert {row["code"] for row in call("verify", own_atlas, "--json").document["findings"]} == {"N-INTEGRITY-02"}


def test_everything_that_commands_made_of_a_person_is_listed_and_can_be_made_again_as_recorded(
    call, own_atlas, tmp_path
):
    def make(out, *words):
        split = ("--split", out / "split.json")
        made = {
            "split": call("split", own_atlas, "--by", "dataset", "-o", out / "split.json", "--json", *words),
            "certificate": call("audit", own_atlas, *split, "--out", out, "--json", *words),
            "embedding": call(
                "embed", "pca", own_atlas, *split, "-o", out / "e.parquet", "--fold", "1", "--json", *words
            ),
            "store": call("embed", "pca", own_atlas, *split, "-o", out / "e.zarr", "--fold", "1", "--json", *words),
            "export": call("snapshot", "export", own_atlas, "-o", out / "x.h5ad", "--json", *words),
        }
        assert not [made[kind].out for kind in made if "error" in made[kind].document]
        return made

    made = make(tmp_path / "first")
    donor, _ = donor_of(own_atlas)
    told = call("snapshot", "withdraw", own_atlas, "--donor", f"birch:{donor}", "--json").document
    listed = {(row["kind"], row["name"]): row["digest"] for row in told["artifacts"]}
    assert {
        ("split", "split.json"), ("certificate", "certificate.json"), ("duplicates", "duplicates.parquet"),
        ("embedding", "e.parquet"), ("embedding", "e.zarr"), ("export", "x.h5ad"),
    } <= set(listed)  # fmt: skip
    assert listed["embedding", "e.zarr"] == made["store"].document["content"]
    for words in (
        ("split", own_atlas),
        ("audit", own_atlas),
        ("snapshot", "export", own_atlas, "-o", tmp_path / "y.h5ad"),
    ):
        assert call(*words, "--json").document["error"]["type"] == "WithdrawnError"
    again = make(tmp_path / "again", "--as-recorded")
    assert again["embedding"].document["content"] == made["embedding"].document["content"]
    assert (tmp_path / "again/e.parquet").read_bytes() == (tmp_path / "first/e.parquet").read_bytes()
    assert again["export"].document["n_cells"] == made["export"].document["n_cells"] == 480


def test_a_data_set_is_removed_and_time_travel_finds_it_again(call, own_atlas):
    revision = call("snapshot", own_atlas, "--json").document["revision"]
    removed = call("snapshot", "withdraw", own_atlas, "--dataset", "elm", "--json").document
    assert removed == {"dataset": "elm", "revision": revision + 1}
    assert call("snapshot", own_atlas, "--tag", "v2", "--json").document["n_datasets"] == 2
    diff = call("snapshot", "diff", own_atlas, f"@{revision}", "latest", "--json").document
    assert diff["datasets_removed"] == ["elm"]
    listed = call("snapshot", "list", own_atlas, "--json").document["snapshots"]
    assert [row["tags"] for row in listed] == [["v1"], ["v2"]]
    day = listed[-1]["time"][:10]
    assert call("snapshot", "diff", own_atlas, day, "v2", "--json").document["datasets_removed"] == []
    assert call("snapshot", "diff", own_atlas, "2001-01-01", "v2", "--json").code == 2


def test_expire_gc_and_recover_speak_json_and_leave_an_atlas_that_verifies(call, own_atlas):
    gone = call("snapshot", "expire", own_atlas, "--keep", "1", "--json").document
    assert gone["n_expired"] == len(gone["expired"]) > 0
    freed = call("snapshot", "gc", own_atlas, "--grace", "0s", "--dry-run", "--json").document
    assert freed["dry_run"] is True
    assert call("snapshot", "gc", own_atlas, "--grace", "0s", "--json").document["freed"] == freed["freed"]
    assert call("snapshot", "recover", own_atlas, "--grace", "0s", "--json").document["staged"] == []
    assert call("verify", own_atlas).code == 0
    assert call("snapshot", "expire", own_atlas, "--json").code == 2
    assert call("snapshot", "gc", own_atlas, "--grace", "soon", "--json").code == 2


@pytest.mark.parametrize("words", [[], ["--person", "a", "--dataset", "b"], ["--donor", "no-colon"]])
def test_withdraw_needs_to_know_whom(call, own_atlas, words):
    assert call("snapshot", "withdraw", own_atlas, *words, "--json").code == 2


def test_of_writers_that_meet_those_of_different_data_sets_land_and_one_of_the_same(labs, tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    writers = {"amber": "shared", "birch": "shared", "elm": "other"}
    # All have opened the atlas and done their work, and wait for this lease, before the first one publishes.
    with held_lease(atlas.layout.leases, "gc"):
        running = {
            name: subprocess.Popen(  # noqa: S603 - this package
                [sys.executable, "-m", "cytolabe", "ingest", str(atlas.path), str(labs / f"{name}.h5ad"), "--id", dataset_id, "--json"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ), text=True,
            )
            for name, dataset_id in writers.items()
        }  # fmt: skip
        until = time.monotonic() + 50
        while len(live_leases(atlas.layout.leases, kinds=("write",))) < len(writers) and time.monotonic() < until:
            time.sleep(0.05)
    said = {name: json.loads(process.communicate(timeout=60)[0]) for name, process in running.items()}
    assert running["elm"].returncode == 0
    assert sorted([running["amber"].returncode, running["birch"].returncode]) == [0, 5]
    (late,) = [name for name in ("amber", "birch") if running[name].returncode == 5]
    assert "datasets/shared was changed" in said[late]["error"]["message"]
    assert "Open the atlas again" in said[late]["error"]["message"]
    assert open_atlas(atlas.path).dataset_ids == ("other", "shared")
    (winner,) = {"amber", "birch"} - {late}
    assert open_atlas(atlas.path).entry("shared").n_cells == said[winner]["datasets"][0]["n_cells"]
