"""demo, benchmark and embed."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytolabe.cli.options import model_options
from cytolabe.errors import UsageError

STUDY = """
[study]
name = "small"
title = "A small study"
decision_level = "broad"
gene_policies = ["intersection"]
n_seeds = 1
ceilings = false

[[dataset]]
path = "amber.h5ad"

[[dataset]]
path = "birch.h5ad"

[[dataset]]
path = "elm.h5ad"

[[model]]
name = "majority"
"""
SCORE = {
    "task", "study", "split", "model", "protocol", "metric", "resolution", "stratum", "value", "low", "high", "n_cells",
    "n_donors", "floor", "ceiling", "status", "reason", "certificate",
}  # fmt: skip


@pytest.fixture(scope="session")
def finished(call, labs, tmp_path_factory):
    """Return the folder of a finished study and what the command printed."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.toml").write_text(STUDY)
    return folder / "out", call("benchmark", folder / "small.toml", "--out", folder / "out", "--data", labs, "--json")


@pytest.fixture(scope="session")
def specified(finished, call, labs):
    folder = finished[0].parent
    out = folder / "specification"
    called = call("specification", folder / "small.toml", "--out", out, "--data", labs)
    assert called.code == 0, called.err
    return called.out, json.loads((out / "specification.json").read_bytes())


class TestLadder:
    def test_random_cells_stand_beside_harder_splits_and_are_stamped(self, finished, call, labs):
        folder = finished[0].parent
        out = folder / "ladder"
        called = call("benchmark", folder / "small.toml", "--out", out, "--data", labs, "--ladder", "--json")
        assert called.code == finished[1].code
        document = json.loads((out / "ladder.json").read_bytes())
        assert document["stamp"].startswith("LEAKY")
        assert [rung["rung"] for rung in document["rungs"]] == ["random", "person", "batch", "dataset", "time"]
        assert document["rungs"][-1]["status"] == "NOT_RUN"
        assert "none of 3 manifests tells when" in document["rungs"][-1]["reason"]
        assert {row["metric"] for row in document["inflation"]} >= {"macro_f1"}
        assert "ladder" in (out / "report.html").read_text().lower()
        # The scores of the study are those without a ladder: random cells never enter them.
        assert called.document["scores"] == finished[1].document["scores"]
        assert call("verify", out).code == 0


class TestSpecification:
    def test_every_choice_has_a_row_with_refusals_kept_and_overridden(self, specified):
        rows = specified[1]["rows"]
        assert {row["gene_policy"] for row in rows} == {"intersection", "pairwise", "native"}
        assert {row["mapping_set"] for row in rows} == {"in force", "exact matches", "without expression"}
        kept, freed = ([row for row in rows if row["refusals"] == one] for one in ("kept", "overridden"))
        assert len(kept) == len(freed)
        assert all(row["value"] is None for row in kept if row["status"] == "REFUSED")
        assert all(a["value"] == b["value"] for a, b in zip(kept, freed, strict=True) if a["value"] is not None)

    def test_the_choices_of_the_study_are_the_scores_of_the_study(self, specified, finished):
        names = ("split", "resolution", "model", "metric", "stratum")
        key = lambda row: tuple(row[name] for name in names)  # noqa: E731
        chosen = {"mapping_set": "in force", "gene_policy": "intersection", "refusals": "kept"}
        rows = [row for row in specified[1]["rows"] if all(row[k] == v for k, v in chosen.items())]
        scores = [row for row in finished[1].document["scores"] if row["gene_policy"] == "intersection"]
        assert {key(row): row["value"] for row in rows} == {key(row): row["value"] for row in scores}

    def test_the_spread_is_told_for_each_fold_and_model(self, specified):
        assert "least" in specified[0]
        assert "over all specifications" in specified[0]


class TestBenchmark:
    def test_the_document_has_the_keys_of_the_contract(self, finished):
        out, called = finished
        assert called.code == 0, called.err
        assert set(called.document) >= {"snapshot_id", "scores"}
        assert all(set(row) >= SCORE for row in called.document["scores"])
        assert called.document["scores"] == json.loads((out / "scores.json").read_bytes())["scores"]
        assert "looking for copies" in called.err

    def test_every_output_is_there_and_verifies(self, finished, call):
        out, _ = finished
        for name in ("report.html", "scores.parquet", "scores.json", "certificate.json", "run.json", "split.json"):
            assert (out / name).is_file()
        called = call("verify", out, "--json")
        assert called.code == 0
        assert called.document["checked"] > 20

    @pytest.mark.parametrize(
        ("name", "code", "told"),
        [
            pytest.param("bad.toml", 2, "unknown key 'modles'", id="a key with a slip"),
            pytest.param("nobody.toml", 2, "there is no such study file", id="no file"),
            pytest.param(".", 3, "Is a directory", id="a folder"),
        ],
    )
    def test_a_study_that_cannot_be_read_names_the_place(self, call, tmp_path, name, code, told):
        (tmp_path / "bad.toml").write_text('[study]\nname = "x"\nmodles = []\n')
        called = call("benchmark", tmp_path / name, "--out", tmp_path / "out", "--json")
        assert called.code == code
        assert told in called.document["error"]["message"]
        assert str(tmp_path / name) in called.document["error"]["message"]

    def test_files_that_are_not_there_are_named(self, call, tmp_path):
        (tmp_path / "small.toml").write_text(STUDY)
        called = call("benchmark", tmp_path / "small.toml", "--out", tmp_path / "out")
        assert called.code == 2
        assert "amber.h5ad" in called.err
        assert "--data" in called.err


class TestDemo:
    def test_a_folder_without_files_ends_with_2(self, call, tmp_path):
        called = call("demo", "--data", tmp_path, "--out", tmp_path / "out", "--json")
        assert called.code == 2
        assert "holds no .h5ad file" in called.document["error"]["message"]

    def test_an_out_that_is_a_file_is_told_before_the_work(self, call, tmp_path):
        (tmp_path / "taken").write_text("")
        called = call("demo", "--out", tmp_path / "taken", "--json")
        assert called.code == 2
        assert "cannot be made" in called.document["error"]["message"]


class TestEmbed:
    def test_both_sides_of_a_fold_get_an_embedding_that_names_its_split(self, call, frozen, split_file, tmp_path):
        out = tmp_path / "made" / "e.parquet"
        called = call("embed", "pca", frozen, "--split", split_file, "--fold", "1", "-o", out, "--json")
        assert called.code == 0
        document = called.document
        table = pq.read_table(out)
        assert table.num_rows == document["n_cells"] == 480
        assert table.column_names == ["cell_id", *(f"d{i}" for i in range(document["n_dims"]))]
        assert table.schema.metadata[b"split_id"].decode() == document["split_id"]
        assert table.schema.metadata[b"snapshot_id"].decode() == document["snapshot_id"]
        assert np.isfinite(np.column_stack([table[name].to_numpy() for name in table.column_names[1:]])).all()
        again = call("embed", "pca", frozen, "--split", split_file, "--fold", document["split_id"], "-o", out, "--json")
        assert again.document == document

    def test_an_embedding_of_nearly_one_vector_is_a_finding_and_any_other_is_none(
        self, call, frozen, split_file, tmp_path
    ):
        whole = tmp_path / "e.parquet"
        called = call("embed", "pca", frozen, "--split", split_file, "--fold", "1", "-o", whole, "--json")
        assert called.document["findings"] == []
        cells = pq.read_table(whole)["cell_id"].to_pylist()
        values = np.array([3.0, -1.0, 2.0]) + 1e-4 * np.random.default_rng(3).normal(size=(len(cells), 3))
        flat = tmp_path / "flat.parquet"
        pq.write_table(pa.table({"cell_id": cells, **{f"d{k}": values[:, k] for k in range(3)}}), flat)
        words = ("embed", "precomputed", frozen, "--split", split_file, "--fold", "1", "--option", f"path={flat}")
        called = call(*words, "-o", tmp_path / "f.parquet", "--json")
        assert called.code == 0
        (finding,) = called.document["findings"]
        assert (finding["code"], finding["severity"], finding["where"]) == ("W-MODEL-02", "warning", "precomputed")
        assert "all 480 cells looked at have one vector" in finding["message"]
        assert "W-MODEL-02 precomputed: the embedding collapsed" in call(*words, "-o", tmp_path / "g.zarr").out

    @pytest.mark.parametrize(
        ("model", "fold", "told"),
        [
            pytest.param("scfoundation", "1", "There is no model 'scfoundation'", id="unknown model"),
            pytest.param("majority", "1", "embeds no cells", id="a classifier"),
            pytest.param("pca", "", "one has to be chosen", id="no fold"),
            pytest.param("pca", "7", "'7' is none of them", id="unknown fold"),
        ],
    )
    def test_a_wrong_choice_ends_with_2(self, call, frozen, split_file, tmp_path, model, fold, told):
        called = call(
            "embed", model, frozen, "--split", split_file, "--fold", fold, "-o", tmp_path / "e.parquet", "--json"
        )
        assert called.code == 2
        assert told in called.document["error"]["message"]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["layer=-1", "pooling=mean", "weights=random"], {"layer": -1, "pooling": "mean", "weights": "random"}),
        (
            ['corpus=["a", "b"]', "rate=0.5", "flag=true", "none="],
            {"corpus": ["a", "b"], "rate": 0.5, "flag": True, "none": ""},
        ),
    ],
)
def test_options_of_a_model_are_read_as_in_a_study(words, options):
    assert model_options(words) == options


@pytest.mark.parametrize("word", ["layer", "=1"])
def test_an_option_without_name_or_value_is_refused(word):
    with pytest.raises(UsageError, match="NAME=VALUE"):
        model_options([word])
