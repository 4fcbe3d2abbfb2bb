"""explain, verify and doctor."""

import shutil

import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.snapshot.atlas import open_atlas


class TestExplain:
    def test_a_code_tells_what_why_and_what_to_do(self, call):
        document = call("explain", "E-COUNTS-01", "--json").document
        assert document["code"] == "E-COUNTS-01"
        assert set(document) >= {"title", "why", "remedy", "room"}
        printed = call("explain", "e-counts-01")
        assert printed.code == 0
        assert document["remedy"] in printed.out

    @pytest.mark.parametrize("word", ["CL:0000236", "cl_0000236", "B cell", "b-cell"])
    def test_a_cell_type_is_known_by_id_name_and_synonym(self, call, word):
        called = call("explain", word, "--json")
        assert called.code == 0
        assert called.document["term"] == "CL:0000236"
        assert called.document["name"] == "B cell"
        assert called.document["parents"] == ["CL:0000945 lymphocyte of B lineage"]

    def test_a_term_stands_between_its_parents_and_children_and_names_its_release(self, call):
        document = call("explain", "CL:0000236", "--json").document
        assert "CL:0001201 B cell, CD19-positive" in document["children"]
        assert document["part_of"] == []
        assert document["n_descendants"] > len(document["children"])
        assert document["release"].startswith("v20")
        assert call("explain", "CL:0017500", "--json").document["part_of"] == ["CL:0000000 cell"]

    def test_with_an_atlas_it_tells_which_labels_mean_the_term_or_one_below(self, call, frozen):
        rows = {(m.dataset_id, m.contributor_label): m for m in open_atlas(frozen).mappings()}
        used = call("explain", "CL:0000084", "--atlas", frozen, "--json").document["atlas"]
        below = load_ontology().descendants("CL:0000084")
        meant = {key for key, m in rows.items() if m.term == "CL:0000084" or m.term in below}
        assert {(row["dataset_id"], row["contributor_label"]) for row in used["labels"]} == meant
        assert meant
        decided = [m for key, m in rows.items() if key in meant and m.decision in {"auto", "reviewed"}]
        assert used["n_cells"] + used["n_cells_below"] == sum(m.n_cells for m in decided) > 0
        assert used["ontology_release"] == load_ontology().release
        printed = call("explain", "CL:0000084", "--atlas", frozen)
        assert printed.code == 0
        assert used["labels"][0]["contributor_label"] in printed.out

    def test_a_term_that_no_label_means_has_no_cells(self, call, frozen):
        used = call("explain", "neuron", "--atlas", frozen, "--json").document["atlas"]
        assert (used["n_cells"], used["n_cells_below"], used["labels"]) == (0, 0, [])
        assert call("explain", "neuron", "--atlas", frozen / "nowhere").code == 2

    def test_a_tissue_is_counted_where_the_cells_name_it_or_a_part_of_it(self, call, frozen):
        cells = open_atlas(frozen).cells()
        n_blood = int((cells["tissue"] == "blood").sum())
        assert n_blood
        used = call("explain", "UBERON:0000178", "--atlas", frozen, "--json").document["atlas"]
        assert used["n_cells"] == n_blood
        assert used["ontology_release"] == load_ontology("UBERON").release
        assert {row["decision"] for row in used["labels"]} == {"as delivered (tissue)"}
        above = load_ontology("UBERON").parents("UBERON:0000178")[0]
        higher = call("explain", above, "--atlas", frozen, "--json").document["atlas"]
        assert (higher["n_cells"], higher["n_cells_below"] >= n_blood) == (0, True)

    @pytest.mark.parametrize(
        ("column", "ontology"), [("disease", "PATO"), ("sex", "PATO"), ("assay", "EFO"), ("tissue", "UBERON")]
    )
    def test_disease_sex_and_assay_are_counted_by_what_the_cells_say(self, call, frozen, column, ontology):
        cells = open_atlas(frozen).cells()
        release = load_ontology(ontology)
        named = {release.name(term): term for term in release.terms}
        n_cells = {named[text]: n for text, n in cells[column].value_counts().items() if text in named}
        assert n_cells
        for term, n in n_cells.items():
            used = call("explain", term, "--atlas", frozen, "--json").document["atlas"]
            assert (used["n_cells"], used["not_counted"]) == (n, "")
            own = [row for row in used["labels"] if row["decision"] == f"as delivered ({column})"]
            assert sum(row["n_cells"] for row in own if row["term"] == term) == n
            datasets = {row["dataset_id"] for row in own if row["term"] == term}
            assert datasets == set(cells.loc[cells[column] == release.name(term), "dataset_id"].astype(str))

    def test_a_disease_that_no_cell_has_is_counted_as_none(self, call, frozen):
        used = call("explain", "MONDO:0007915", "--atlas", frozen, "--json").document["atlas"]
        n_lupus = int((open_atlas(frozen).cells()["disease"] == "systemic lupus erythematosus").sum())
        assert (used["n_cells"], used["n_cells_below"], used["not_counted"]) == (n_lupus, 0, "")

    @pytest.mark.parametrize("ontology", ["HANCESTRO", "HsapDv", "MmusDv"])
    def test_what_no_column_of_the_cells_could_name_is_not_counted_and_no_zero(self, call, frozen, ontology):
        release = load_ontology(ontology)
        term = next(one for one in release.terms if one.startswith(ontology) and release.parents(one))
        used = call("explain", term, "--atlas", frozen, "--json").document["atlas"]
        assert (used["n_cells"], used["n_cells_below"], used["labels"]) == (None, None, [])
        assert f"no column for terms of {ontology}" in used["not_counted"]
        printed = call("explain", term, "--atlas", frozen)
        assert printed.code == 0
        assert "not counted: the cells of an atlas have no column" in printed.out
        assert "cell(s)" not in printed.out

    def test_a_withdrawn_id_leads_to_its_successor(self, call):
        document = call("explain", "CL_0000054", "--json").document
        assert (document["term"], document["name"]) == ("CL:0000062", "osteoblast")
        assert document["replaces"] == "CL:0000054 obsolete bone matrix secreting cell"

    @pytest.mark.parametrize(
        ("word", "told"),
        [
            pytest.param("E-COUNT-01", "Near: E-COUNTS-01", id="a code with a slip"),
            pytest.param("CL:9999999", "no term of CL", id="an id without a term"),
            pytest.param("clasical monocyte", "Near: classical monocyte", id="a name with a slip"),
            pytest.param("xyzzy", "neither a finding code nor a cell type", id="neither"),
        ],
    )
    def test_an_unknown_word_ends_with_2_and_names_its_neighbors(self, call, word, told):
        called = call("explain", word, "--json")
        assert called.code == 2
        assert told in called.document["error"]["message"]

    def test_every_finding_of_an_ingest_can_be_explained(self, call, simulated, tmp_path):
        called = call("ingest", tmp_path / "atlas", simulated / "iris_log.h5ad", simulated / "gale.h5ad", "--json")
        codes = {f["code"] for row in called.document["datasets"] for f in row["findings"]}
        assert len(codes) > 4
        assert {code for code in codes if call("explain", code).code != 0} == set()


class TestVerify:
    def test_an_intact_atlas(self, call, frozen):
        called = call("verify", frozen, "--json")
        assert called.code == 0
        assert called.document == {"ok": True, "checked": called.document["checked"], "findings": []}
        assert called.document["checked"] > 20

    def test_a_flipped_byte_anywhere_ends_with_4(self, call, frozen, tmp_path):
        # One file of each kind: a chunk of counts, a table, an overlay, a revision, a snapshot. Scratch is no part of it.
        files = [path for path in sorted(frozen.rglob("*")) if path.is_file() and path.stat().st_size]
        kinds = {path.parent.name: path for path in files if ".scratch" not in path.parts}
        assert {"tables", "revisions", "snapshots", "mappings", "persons"} <= set(kinds)
        for number, path in enumerate(kinds.values()):
            atlas = shutil.copytree(frozen, tmp_path / str(number))
            damaged = atlas / path.relative_to(frozen)
            content = bytearray(damaged.read_bytes())
            content[len(content) // 2] ^= 1
            damaged.write_bytes(bytes(content))
            called = call("verify", atlas, "--json")
            assert called.code == 4, path
            assert called.document["ok"] is False
            assert called.document["findings"], path
            shutil.rmtree(atlas)

    def test_a_missing_file_ends_with_4_and_is_named(self, call, own_atlas):
        table = next((own_atlas / "tables").iterdir())
        table.unlink()
        called = call("verify", own_atlas)
        assert called.code == 4
        assert f"E-INTEGRITY-01 tables/{table.name}" in called.out

    def test_an_atlas_without_its_marker_is_damaged_and_no_stranger(self, call, own_atlas):
        (own_atlas / "cytolabe.json").unlink()
        called = call("verify", own_atlas, "--json")
        assert called.code == 4
        assert called.document["findings"][0]["where"] == "cytolabe.json"

    def test_damaged_counts_are_an_error_when_they_are_read(self, call, own_atlas, tmp_path):
        for chunk in (path for path in (own_atlas / "partitions").rglob("*") if path.is_file() and path.suffix == ""):
            content = bytearray(chunk.read_bytes())
            content[len(content) // 2] ^= 1
            chunk.write_bytes(bytes(content))
        called = call("audit", own_atlas, "--out", tmp_path, "--json")
        assert called.code == 4
        assert called.document["error"]["type"] == "IntegrityError"

    def test_a_stranger_ends_with_2(self, call, tmp_path):
        called = call("verify", tmp_path, "--json")
        assert called.code == 2
        assert "neither an atlas nor the folder of a run" in called.document["error"]["message"]


class TestDoctor:
    def test_it_names_versions_and_what_runs_here(self, call):
        called = call("doctor", "--json")
        assert called.code == 0
        assert called.document["environment"]["numpy"].startswith("2.")
        assert called.document["models"]["majority"] == {
            "available": True, "reason": "", "package": "cytolabe", "version": called.document["cytolabe"],
        }  # fmt: skip
        assert "majority" in call("doctor").out

    def test_it_lists_models_of_other_packages_and_what_is_wrong_with_them(self, call, tmp_path, monkeypatch):
        folder = tmp_path / "lab_models-2.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-models\nVersion: 2.1\n")
        (folder / "entry_points.txt").write_text("[cytolabe.models]\nlab_mean = no_such_module:Mean\npca = a:B\n")
        monkeypatch.syspath_prepend(tmp_path)
        document, told = call("doctor", "--json").document, call("doctor").out
        mean = document["models"]["lab_mean"]
        assert (mean["available"], mean["package"], mean["version"]) == (False, "lab-models", "2.1")
        assert "lab-models 2.1" in mean["reason"]
        assert "no_such_module" in mean["reason"]
        assert document["models"]["pca"]["package"] == "cytolabe"
        assert document["models"]["pca"]["available"]
        (refused,) = document["refused_models"]
        assert (refused["name"], refused["package"], refused["version"]) == ("pca", "lab-models", "2.1")
        assert "lab-models 2.1 offers no model pca" in told
