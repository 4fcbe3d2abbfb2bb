"""ingest, validate, reconcile, split and audit: what they print, and with which code they leave."""

import csv
import json
import shutil

import pyarrow.parquet as pq
import pytest

FINDING = {"autofix", "code", "severity", "where", "message", "remedy", "rule", "n_affected", "n_total", "examples"}
DATASET = {
    "source", "dataset_id", "status", "n_cells", "n_genes", "genes_mapped_fraction_of_counts", "findings",
    "label_origin", "label_origin_suspected", "label_origin_evidence", "upstream_fraction_of_counts",
}  # fmt: skip


def edited(table, out, key, **changes):
    """Copy an SSSOM table with other values in the row of one label, as a person would edit it."""
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    head = [line for line in lines if line.startswith("#")]
    rows = list(csv.DictReader([line for line in lines if not line.startswith("#")], delimiter="\t"))
    (row,) = [r for r in rows if (r["dataset_id"], r["subject_label"]) == key and r["decision"] != "evidence"]
    row |= changes
    with out.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(head)
        writer = csv.DictWriter(stream, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out


class TestIngest:
    def test_the_document_has_the_keys_of_the_contract(self, call, labs, tmp_path):
        called = call("ingest", tmp_path / "atlas", labs, "--json")
        assert called.code == 0
        assert {"datasets", "revision"} <= set(called.document)
        assert called.document["revision"] == 1
        assert [row["dataset_id"] for row in called.document["datasets"]] == ["amber", "birch", "elm"]
        for row in called.document["datasets"]:
            assert set(row) >= DATASET
            assert row["status"] == "accepted"
            assert row["n_cells"] > 100
            assert row["genes_mapped_fraction_of_counts"] > 0.95
            assert all(set(finding) == FINDING for finding in row["findings"])
        assert "ingest: 3 of 3 files" in called.err

    def test_the_same_files_again_are_unchanged(self, call, labs, own_atlas):
        before = call("verify", own_atlas, "--json").document["checked"]
        called = call("ingest", own_atlas, labs, "--json")
        assert called.code == 0
        assert {row["status"] for row in called.document["datasets"]} == {"unchanged"}
        assert call("verify", own_atlas, "--json").document["checked"] == before

    def test_a_refused_file_ends_with_1_and_the_others_go_in(self, call, simulated, tmp_path):
        called = call("ingest", tmp_path / "atlas", simulated / "iris_log.h5ad", simulated / "birch.h5ad", "--json")
        assert called.code == 1
        by_id = {row["dataset_id"]: row for row in called.document["datasets"]}
        assert by_id["birch"]["status"] == "accepted"
        assert by_id["iris_log"]["status"] == "refused"
        assert "E-COUNTS-01" in {finding["code"] for finding in by_id["iris_log"]["findings"]}

    def test_the_table_tells_code_place_and_remedy(self, call, simulated, tmp_path):
        called = call("ingest", tmp_path / "atlas", simulated / "iris_ceiling.h5ad")
        assert called.code == 1
        assert "iris_ceiling.h5ad  iris_ceiling  refused" in called.out
        (line,) = [line for line in called.out.splitlines() if "E-COUNTS-02" in line]
        assert line.startswith("iris_ceiling.h5ad: E-COUNTS-02 X ")
        assert "    do: Deliver the matrix before normalization" in called.out

    @pytest.mark.parametrize("name", ["hostile", "cut_off"])
    def test_a_file_that_cannot_be_read_safely_ends_with_3(self, call, name, request, tmp_path):
        called = call("ingest", tmp_path / "atlas", request.getfixturevalue(name), "--json")
        assert called.code == 3
        (row,) = called.document["datasets"]
        assert row["status"] == "refused"
        assert row["findings"][0]["code"] == {"hostile": "E-SEC-01", "cut_off": "E-FILE-07"}[name]

    def test_beside_a_readable_file_it_ends_with_1(self, call, hostile, labs, tmp_path):
        called = call("ingest", tmp_path / "atlas", hostile, labs / "birch.h5ad", "--json")
        assert called.code == 1
        assert {row["status"] for row in called.document["datasets"]} == {"accepted", "refused"}

    def test_a_path_that_is_not_there_is_a_finding_and_makes_no_atlas(self, call, tmp_path):
        called = call("ingest", tmp_path / "atlas", tmp_path / "nobody.h5ad", "--json")
        assert called.code == 1
        assert called.document["datasets"] == []
        assert called.document["revision"] is None
        (finding,) = called.document["findings"]
        assert finding["code"] == "E-SOURCE-01"
        assert "nobody.h5ad" in finding["where"]
        assert not (tmp_path / "atlas").exists()
        assert "no atlas was made" in call("ingest", tmp_path / "atlas", tmp_path / "nobody.h5ad").out

    def test_a_folder_without_h5ad_says_so(self, call, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "notes.txt").write_text("hello")
        called = call("ingest", tmp_path / "atlas", tmp_path / "data", "--json")
        assert called.code == 1
        assert [f["code"] for f in called.document["findings"]] == ["E-SOURCE-02", "N-SOURCE-03"]

    def test_an_id_names_one_file(self, call, labs, tmp_path):
        called = call("ingest", tmp_path / "atlas", labs / "elm.h5ad", "--id", "wych-elm", "--json")
        assert called.code == 0
        assert called.document["datasets"][0]["dataset_id"] == "wych-elm"

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            pytest.param(("--id", "one"), "stand for 3 file(s)", id="one id for three files"),
            pytest.param(("--aliases", "/nowhere.tsv"), "no such alias table", id="aliases that are not there"),
            pytest.param(("--workers", "0"), "--workers", id="no worker"),
        ],
    )
    def test_a_wrong_option_ends_with_2_before_any_work(self, call, labs, tmp_path, words, told):
        called = call("ingest", tmp_path / "atlas", labs, *words, "--json")
        assert called.code == 2
        assert told in called.document["error"]["message"]
        assert not (tmp_path / "atlas").exists()

    def test_sources_before_the_atlas_are_noticed(self, call, labs):
        called = call("ingest", labs / "elm.h5ad", labs)
        assert called.code == 2
        assert "the atlas comes first" in called.err

    def test_a_folder_with_other_things_becomes_no_atlas(self, call, labs):
        called = call("ingest", labs, labs / "elm.h5ad")
        assert called.code == 2
        assert "not empty and no atlas" in called.err


class TestValidate:
    def test_the_document_has_the_keys_of_the_contract(self, call, labs, simulated):
        called = call("validate", labs / "birch.h5ad", simulated / "iris_log.h5ad", "--json")
        assert called.code == 1
        rows = {row["source"]: row for row in called.document["sources"]}
        assert set(rows) == {"birch.h5ad", "iris_log.h5ad"}
        assert all(set(row) >= {"source", "valid", "findings"} for row in rows.values())
        assert rows["birch.h5ad"]["valid"] is True
        assert rows["iris_log.h5ad"]["valid"] is False
        assert "validate: 2 of 2 files" in called.err

    def test_an_atlas_answers_with_what_was_found_when_its_data_sets_came_in(self, call, ingested, labs):
        of_atlas = call("validate", ingested, "--json")
        assert of_atlas.code == 0
        of_files = call("validate", labs, "--json").document["sources"]
        found = {row["source"]: row["findings"] for row in of_atlas.document["sources"]}
        assert found == {row["source"].removesuffix(".h5ad"): row["findings"] for row in of_files}

    def test_each_wrong_argument_is_a_row_of_its_own(self, call, tmp_path):
        called = call("validate", tmp_path / "one.h5ad", tmp_path / "two.h5ad", "--json")
        assert called.code == 1
        assert [row["source"] for row in called.document["sources"]] == [
            str(tmp_path / "one.h5ad"),
            str(tmp_path / "two.h5ad"),
        ]
        assert not any(row["valid"] for row in called.document["sources"])

    def test_only_unreadable_files_end_with_3(self, call, hostile, cut_off, labs):
        assert call("validate", hostile, cut_off).code == 3
        assert call("validate", hostile, labs / "birch.h5ad").code == 1

    def test_nothing_is_written(self, call, labs):
        before = sorted(labs.rglob("*"))
        assert "birch.h5ad: valid" in call("validate", labs / "birch.h5ad").out
        assert sorted(labs.rglob("*")) == before


class TestReconcile:
    def test_the_document_has_the_keys_of_the_contract(self, call, own_atlas):
        called = call("reconcile", own_atlas, "--levels", "--json")
        assert called.code == 0
        document = called.document
        assert {"n_labels", "mapped", "abstained", "review", "findings"} <= set(document)
        assert document["n_labels"] == document["mapped"] + document["abstained"] + document["review"]
        assert document["mapped"] > 30
        assert list(document["levels"]) == ["broad", "mid", "fine"]
        assert any(term.startswith("CL:0000576 monocyte") for term in document["levels"]["mid"])

    def test_a_reviewed_table_goes_in_force_and_stays(self, call, own_atlas, tmp_path):
        exported = tmp_path / "a new folder" / "review.tsv"
        assert call("reconcile", own_atlas, "--export", exported).code == 0
        changed = edited(exported, tmp_path / "edited.tsv", ("elm", "DC"), object_id="CL:0000990", object_label="")
        applied = call("reconcile", own_atlas, "--apply", changed, "--json")
        assert applied.code == 0
        (finding,) = [f for f in applied.document["findings"] if f["code"] == "N-REVIEW-06"]
        assert finding["examples"] == ["elm: 'DC': CL:0000451 -> CL:0000990"]
        again = call("reconcile", own_atlas)
        (line,) = [line for line in again.out.splitlines() if line.startswith("elm") and "  DC " in line]
        assert "CL:0000990" in line
        assert line.endswith("reviewed")

    def test_levels_are_a_tree_with_what_stands_outside(self, call, own_atlas):
        called = call("reconcile", own_atlas, "--levels", "--json").document
        assert called["levels_digest"].startswith("sha256:")
        assert called["levels_digest"] == call("reconcile", own_atlas, "--levels", "--json").document["levels_digest"]
        terms = {term for terms in called["levels"].values() for term in terms}

        def named(nodes):
            return {f"{n['term']} {n['name']}" for n in nodes} | {x for n in nodes for x in named(n["children"])}

        assert named(called["tree"]) == terms
        printed = call("reconcile", own_atlas, "--levels").out
        assert "└─ " in printed
        assert "├─ " in printed
        assert all(row["name"] in printed for row in called["left_out"])
        assert f"levels: {called['levels_digest']}" in printed

    def test_a_page_to_review_on_is_written_beside_the_table(self, call, own_atlas, tmp_path):
        assert call("reconcile", own_atlas, "--export", tmp_path / "review.tsv").code == 0
        page = (tmp_path / "review.html").read_text(encoding="utf-8")
        assert "Content-Security-Policy" in page
        assert '"label":"DC"' in page
        called = call("reconcile", own_atlas, "--export", tmp_path / "review.html", "--json")
        assert called.code == 2
        assert "name the table" in called.document["error"]["message"]

    def test_a_second_review_replaces_the_first(self, call, own_atlas, tmp_path):
        call("reconcile", own_atlas, "--export", tmp_path / "review.tsv")
        for term in ("CL:0000990", "CL:0000784"):
            table = edited(tmp_path / "review.tsv", tmp_path / f"{term[3:]}.tsv", ("elm", "DC"), object_id=term)
            applied = call("reconcile", own_atlas, "--apply", table, "--export", tmp_path / "after.tsv", "--json")
            assert applied.code == 0
            assert "E-REVIEW-04" not in {f["code"] for f in applied.document["findings"]}
            assert f"\t{term}\t" in (tmp_path / "after.tsv").read_text()
        assert "\tCL:0000990\t" not in [
            line for line in (tmp_path / "after.tsv").read_text().splitlines() if line.startswith("elm")
        ]

    def test_a_term_that_does_not_exist_is_an_error_and_changes_nothing(self, call, own_atlas, tmp_path):
        call("reconcile", own_atlas, "--export", tmp_path / "review.tsv")
        table = edited(tmp_path / "review.tsv", tmp_path / "bad.tsv", ("elm", "DC"), object_id="CL:9999999")
        applied = call("reconcile", own_atlas, "--apply", table, "--export", tmp_path / "after.tsv", "--json")
        assert applied.code == 1
        assert "E-REVIEW-02" in {f["code"] for f in applied.document["findings"]}
        assert (tmp_path / "after.tsv").read_bytes() == (tmp_path / "review.tsv").read_bytes()

    def test_a_table_that_is_not_there_ends_with_3_and_a_folder_with_2(self, call, own_atlas, tmp_path):
        assert call("reconcile", own_atlas, "--apply", tmp_path / "nobody.tsv", "--json").code == 3
        called = call("reconcile", own_atlas, "--export", tmp_path, "--json")
        assert called.code == 2
        assert "is a folder" in called.document["error"]["message"]

    def test_a_table_without_its_columns_is_refused(self, call, own_atlas, tmp_path):
        (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
        called = call("reconcile", own_atlas, "--apply", tmp_path / "other.tsv", "--json")
        assert called.code == 1
        assert called.document["error"]["type"] == "UnresolvedLabelError"


class TestSplit:
    def test_the_document_has_the_keys_of_the_contract(self, call, frozen, tmp_path):
        out = tmp_path / "not there yet" / "split.json"
        called = call("split", frozen, "--by", "person,dataset", "-o", out, "--json")
        assert called.code == 0
        assert called.document == json.loads(out.read_bytes())
        assert {"splits", "findings"} <= set(called.document)
        for fold in called.document["splits"]:
            assert {"split_id", "held_out", "n_train", "n_test", "groups_train", "groups_test"} <= set(fold)
            assert not set(fold["groups_train"]) & set(fold["groups_test"])

    def test_what_was_not_searched_for_copies_is_printed_and_not_in_the_document(
        self, call, frozen, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("cytolabe.audit.near_copies.MOST_CELLS", 10)
        out = tmp_path / "s.json"
        assert "N-DUP-04 snapshot" in call("split", frozen, "--by", "dataset", "-o", out).out
        called = call("split", frozen, "--by", "dataset", "-o", out, "--json")
        assert "N-DUP-04 snapshot" in called.err
        assert called.document == json.loads(out.read_bytes())
        assert "N-DUP-04" not in called.out

    def test_cells_that_are_copies_stay_on_one_side(self, call, frozen, tmp_path):
        called = call("split", frozen, "--by", "dataset", "-o", tmp_path / "s.json", "--json")
        sides = [(fold["n_train"], fold["n_test"]) for fold in called.document["splits"]]
        assert sorted(sides) == [(150, 330), (330, 150)]

    def test_spaces_around_words_are_ignored(self, call, frozen, tmp_path):
        assert call("split", frozen, "--by", "person, dataset", "-o", tmp_path / "s.json").code == 0

    def test_folds_and_a_share_of_the_groups(self, call, frozen, tmp_path):
        folds = call("split", frozen, "--by", "person", "--folds", 3, "-o", tmp_path / "s.json", "--json")
        assert folds.code == 0
        assert len(folds.document["splits"]) == 3
        once = [
            call("split", frozen, "--by", "person", "--test-fraction", 0.3, "--seed", seed, "-o", tmp_path / "s.json", "--json")
            for seed in (1, 1, 2)
        ]  # fmt: skip
        assert [len(called.document["splits"]) for called in once] == [1, 1, 1]
        assert once[0].out == once[1].out != once[2].out

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            pytest.param(("--by", "person,color"), "unknown word(s) 'color'. Choose from component, person", id="word"),
            pytest.param(("--by", ""), "Choose from", id="no word"),
            pytest.param(("--folds", "3", "--test-fraction", "0.2"), "give one", id="two ways"),
            pytest.param(("--folds", "50"), "ask for 2 to 2 folds", id="more folds than groups"),
            pytest.param(("--test-fraction", "1"), "above 0 and below 1", id="everything held out"),
            pytest.param(("--test-fraction", "1.5"), "--test-fraction", id="more than everything"),
            pytest.param(("--snapshot", "v9"), "Tags: v1", id="no such snapshot"),
        ],
    )
    def test_a_wrong_option_ends_with_2_and_says_what_would_do(self, call, frozen, tmp_path, words, told):
        called = call("split", frozen, "-o", tmp_path / "s.json", *words, "--json")
        assert called.code == 2
        assert told in called.document["error"]["message"]
        assert not (tmp_path / "s.json").exists()

    def test_an_atlas_without_a_snapshot_says_how_to_get_one(self, call, ingested, tmp_path):
        called = call("split", ingested, "-o", tmp_path / "s.json")
        assert called.code == 2
        assert "`cytolabe snapshot` freezes one" in called.err

    def test_the_table_has_one_row_per_fold(self, call, frozen, tmp_path):
        called = call("split", frozen, "-o", tmp_path / "s.json")
        assert [line.split()[1:4] for line in called.out.splitlines()[2:4]] == [
            ["150", "330", "SCORED"],
            ["330", "150", "SCORED"],
        ]
        assert "comparing 480 cells" in called.err


class TestAudit:
    def test_the_document_has_the_keys_of_the_contract(self, call, frozen, split_file, tmp_path):
        called = call("audit", frozen, "--split", split_file, "--out", tmp_path / "new" / "audit", "--json")
        assert called.code == 0
        document = called.document
        assert {
            "certificate", "digest", "findings", "n_duplicates", "duplicates_path", "duplicates", "confounding", "exposure",
        } <= set(document)  # fmt: skip
        assert document["n_duplicates"] == len(document["duplicates"]) == 40
        assert set(document["duplicates"][0]) == {"a", "b", "kind", "similarity", "dispersion"}
        assert {pair["a"].split(":")[0] for pair in document["duplicates"]} == {"amber"}
        assert {pair["b"].split(":")[0] for pair in document["duplicates"]} == {"elm"}
        row = {"dataset_id", "technical", "biological", "cramers_v", "n_donors", "estimable", "status"}
        assert all(row <= set(found) for found in document["confounding"])
        assert pq.read_table(document["duplicates_path"]).num_rows == 40
        certificates = json.loads((tmp_path / "new" / "audit" / "certificate.json").read_bytes())["certificates"]
        assert document["certificate"] == str(tmp_path / "new" / "audit" / "certificate.json")
        assert len(certificates) == 2
        assert document["digest"].startswith("sha256:")

    def test_without_a_split_there_is_no_certificate(self, call, frozen, tmp_path):
        called = call("audit", frozen, "--out", tmp_path, "--json")
        assert called.code == 0
        assert called.document["certificate"] is None
        assert "W-DUP-01" in {finding["code"] for finding in called.document["findings"]}
        assert "none without --split" in call("audit", frozen, "--out", tmp_path).out

    def test_a_split_that_was_edited_ends_with_4(self, call, frozen, split_file, tmp_path):
        document = json.loads(split_file.read_bytes())
        document["splits"][0]["n_train"] += 1
        (tmp_path / "edited.json").write_text(json.dumps(document))
        called = call("audit", frozen, "--split", tmp_path / "edited.json", "--out", tmp_path, "--json")
        assert called.code == 4
        assert called.document["error"]["type"] == "IntegrityError"

    def test_a_split_of_another_snapshot_ends_with_2(self, call, split_file, ingested, tmp_path):
        atlas = shutil.copytree(ingested, tmp_path / "other")
        call("snapshot", atlas)
        called = call("audit", atlas, "--split", split_file, "--out", tmp_path)
        assert called.code == 2
        assert "make the split again" in called.err

    def test_a_person_on_both_sides_ends_with_1_and_is_named(self, call, simulated, tmp_path):
        # Both hospitals of one study treated donor S3.
        atlas, split = tmp_path / "atlas", tmp_path / "split.json"
        sources = [simulated / "dahlia_north.h5ad", simulated / "dahlia_south.h5ad"]
        for words in (("ingest", atlas, *sources), ("reconcile", atlas), ("snapshot", atlas)):
            assert call(*words).code == 0
        assert call("split", atlas, "--by", "dataset", "-o", split).code == 0
        called = call("audit", atlas, "--split", split, "--out", tmp_path, "--json")
        assert called.code == 1
        leaks = [finding for finding in called.document["findings"] if finding["code"] == "E-LEAK-01"]
        assert len(leaks) == 2
        assert all("dahlia/S3" in finding["message"] for finding in leaks)

    def test_the_table_leaves_out_what_has_one_level(self, call, frozen, tmp_path):
        called = call("audit", frozen, "--out", tmp_path)
        assert "NOT_RUN" not in called.out
        assert "nothing to compare" in called.out


class TestGenes:
    def test_every_data_set_has_its_annotation_statuses_and_coverage(self, own_atlas, call, tmp_path):
        vocabulary = tmp_path / "vocab.json"
        vocabulary.write_text('{"<pad>": 0, "CD4": 1}', encoding="utf-8")
        called = call("genes", own_atlas, "--vocabulary", vocabulary, "--out", tmp_path / "tables", "--json")
        assert called.code == 0
        rows, coverages = called.document["datasets"], called.document["vocabularies"]
        assert [item["dataset_id"] for item in coverages] == [row["dataset_id"] for row in rows]
        for row in rows:
            assert sum(status["n_features"] for status in row["statuses"].values()) == row["n_features"]
            assert sum(status["fraction_of_counts"] for status in row["statuses"].values()) == pytest.approx(1.0)
            assert (tmp_path / "tables" / f"{row['dataset_id']}.genes.tsv").exists()
        assert "revision" in call("genes", own_atlas).out

    def test_aliases_without_align_are_a_usage_error(self, own_atlas, call, tmp_path):
        assert call("genes", own_atlas, "--aliases", tmp_path / "a.tsv", "--json").code == 2

    def test_orthologs_are_told_with_the_digest_of_their_table(self, call, own_atlas, tmp_path):
        assert call("genes", own_atlas, "--json").document["orthologs"] is None
        table = tmp_path / "orthologs.tsv"
        table.write_text("mouse\thuman\nCd4\tCD4\nCd8a\tCD8A\nCd8b1\tCD8A\n", encoding="utf-8")
        found = call("genes", own_atlas, "--orthologs", table, "--json").document["orthologs"]
        assert found["table"] == "orthologs.tsv"
        assert found["sha256"].startswith("sha256:")
        assert (found["organism"], found["ortholog_organism"]) == ("Homo sapiens", "Mus musculus")
        assert found["relations"] == {"one_to_many": 2, "one_to_one": 1}
        assert len(found["datasets"]) > 1
        assert "counts that map" in call("genes", own_atlas).out  # it stays in force
        table.write_text("mouse\trat\nCd4\tCd4\n", encoding="utf-8")
        assert call("genes", own_atlas, "--orthologs", table, "--json").code == 2
