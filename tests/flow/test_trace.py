"""A number is followed down to the raw reads, and each step says how well it is known."""

import json
import shutil

import pytest

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.evaluate.results import ALL_FOLDS
from cytolabe.flow.tracing import trace


def walk(node):
    yield node
    for child in node.children:
        yield from walk(child)


def by_role(found, role):
    return {node.name: node for node in walk(found.root) if node.role == role}


@pytest.fixture(scope="session")
def score(demo):
    rows = json.loads((demo[0] / "scores.json").read_bytes())["scores"]
    return next(
        row for row in rows if row["model"] == "pca+knn" and row["status"] == "QUALIFIED" and row["split"] != ALL_FOLDS
    )


def test_a_score_is_followed_to_its_model_certificate_split_mappings_and_sources(demo, score):
    out, finished = demo
    found = trace(score["score_id"][7:19], place=out, data=[out / "contributions"])
    assert found.root.digest == score["score_id"]
    assert str(score["value"]) in found.root.detail
    assert set(by_role(found, "model")) == {"pca"}
    assert [node.digest for node in walk(found.root) if node.role == "certificate"] == [score["certificate"]]
    assert by_role(found, "split")["split.json"].state == "verified"
    assert by_role(found, "mapping")["mappings"].state == "verified"
    assert by_role(found, "label_model")["label ranker"].state == "verified"
    accepted = {source.dataset_id for source in finished.content.sources if source.status == "accepted"}
    assert set(by_role(found, "dataset")) == accepted
    assert {node.state for node in by_role(found, "source").values()} == {"verified"}
    assert {f"{name}.h5ad" for name in accepted} <= set(by_role(found, "source"))


def test_a_score_over_all_folds_is_followed_to_the_certificate_of_each(demo):
    rows = json.loads((demo[0] / "scores.json").read_bytes())["scores"]
    pooled = next(row for row in rows if row["split"] == ALL_FOLDS and row["model"] == "pca+knn")
    found = trace(pooled["score_id"], place=demo[0])
    known = [one["digest"] for one in json.loads((demo[0] / "certificate.json").read_bytes())["certificates"]]
    nodes = [node for node in walk(found.root) if node.role == "certificate"]
    assert [node.digest for node in nodes] == known
    assert {node.state for node in nodes} == {"verified"}


def test_each_hop_of_each_data_set_has_its_state(demo, score):
    found = trace(score["score_id"], place=demo[0])
    birch = by_role(found, "dataset")["birch"]
    hops = {node.name: (node.state, node.detail) for node in birch.children if node.role == "hop"}
    assert hops["matrix"] == ("verified", "layers/counts: umi")
    assert hops["kit"] == ("declared", "Chromium Single Cell 3' v2")
    assert [hops[name][0] for name in ("alignment", "reference", "reads")] == ["unknown"] * 3
    assert found.coverage.by_hop["kit"]["declared"] == 150
    assert "0 % of 1,400 cells reach a run accession" in found.coverage.sentence


def test_the_cells_of_a_score_are_those_of_its_fold(demo, score):
    lines = (demo[0] / "cells.tsv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index(f"side:{score['split']}")
    n_cells = sum(line.split("\t")[column] != "" for line in lines[1:])
    assert trace(score["score_id"], place=demo[0]).coverage.n_cells == n_cells


def test_a_source_that_was_not_hashed_here_is_recorded_and_no_more(demo, score):
    found = trace(score["score_id"], place=demo[0])
    assert {node.state for node in by_role(found, "source").values()} == {"recorded"}
    assert {node.state for node in by_role(found, "dataset").values()} == {"recorded"}


def test_a_refused_source_is_named_although_nothing_came_of_it(demo):
    found = trace(str(demo[0]))
    assert "no data set of the snapshot came of it" in by_role(found, "source")["iris_log.h5ad"].detail


@pytest.mark.parametrize("word", ["demo", "birch", "split.json"])
def test_a_tag_a_data_set_and_a_file_are_found_by_name(demo, word):
    path = demo[0] / word
    found = trace(str(path)) if path.is_file() else trace(word, place=demo[0] / "atlas")
    assert found.root.role == {"demo": "snapshot", "birch": "dataset", "split.json": "split"}[word]
    assert "birch" in by_role(found, "dataset")


def test_without_the_atlas_nothing_behind_the_data_sets_is_known(demo, score, tmp_path):
    run = shutil.copytree(demo[0], tmp_path / "run", ignore=shutil.ignore_patterns("atlas", "contributions"))
    found = trace(score["score_id"], place=run)
    assert {node.detail for node in by_role(found, "dataset").values()} == {"the atlas is not at hand"}
    assert found.coverage.by_hop["matrix"]["unknown"] == found.coverage.n_cells > 0


def test_a_score_that_was_edited_is_not_called_verified(demo, score, tmp_path):
    run = shutil.copytree(demo[0], tmp_path / "run", ignore=shutil.ignore_patterns("atlas", "contributions"))
    text = (run / "scores.json").read_text()
    (run / "scores.json").write_text(text.replace(f'"value":{score["value"]}', '"value":0.999'))
    rows = json.loads((run / "scores.json").read_bytes())["scores"]
    (edited,) = [row for row in rows if row["score_id"] == score["score_id"]]
    assert edited["value"] == 0.999
    with pytest.raises(UsageError, match="nothing here is called"):
        trace(score["score_id"], place=run)


def test_a_record_that_was_edited_is_not_followed(demo, tmp_path):
    run = shutil.copytree(demo[0], tmp_path / "run", ignore=shutil.ignore_patterns("atlas", "contributions"))
    (run / "run.json").write_text((run / "run.json").read_text().replace('"seed":0', '"seed":1'))
    with pytest.raises(IntegrityError, match="edited"):
        trace(str(run))


@pytest.mark.parametrize(
    ("word", "cause"), [("deadbeef", "nothing here"), ("ab", "at least 8 digits"), ("Kang", "nothing here")]
)
def test_what_is_not_there_is_a_clear_error(demo, word, cause):
    with pytest.raises(UsageError, match=cause):
        trace(word, place=demo[0])


def test_an_id_needs_a_place_and_an_atlas_an_id(demo):
    with pytest.raises(UsageError, match="--in RUN"):
        trace("deadbeef")
    with pytest.raises(UsageError, match="say what of it"):
        trace(str(demo[0] / "atlas"))
