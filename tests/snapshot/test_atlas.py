import dataclasses
import operator
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytolabe.engine import run_tasks
from cytolabe.errors import (
    ConflictError,
    IntegrityError,
    RefusedError,
    UnmeasuredGeneError,
    UnresolvedLabelError,
    UsageError,
)
from cytolabe.snapshot import SnapshotView, build, create_atlas, open_atlas, write_dataset
from cytolabe.snapshot.diff import diff_snapshots
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store import array_spec
from cytolabe.store.partitions import write_partitions


@pytest.fixture
def snapshot(atlas):
    return atlas.freeze("v1")


def test_a_snapshot_is_what_the_later_stages_expect(snapshot):
    assert isinstance(snapshot, SnapshotView)
    cells = snapshot.cells
    assert list(cells.columns) == list(CELL_COLUMNS)
    assert cells.index.equals(pd.RangeIndex(24))
    assert cells["dataset_id"].tolist() == ["kang"] * 12 + ["zheng"] * 12
    assert cells["row"].tolist() == [*range(12), *range(12)]
    assert not cells.isna().any().any()
    for column, meaning in CELL_COLUMNS.items():
        assert cells[column].dtype == (np.int64 if meaning.startswith("int64") else object)
    assert (snapshot.gene_reference, snapshot.ontology_release) == ("gencode-test", "cl-test")
    assert list(snapshot.datasets) == ["kang", "zheng"]
    assert snapshot.measured_genes("kang") == ("G-CD3D", "G-MS4A1", "G-NKG7")
    assert snapshot.describe()["n_persons"] == 1


def test_only_decided_mappings_give_a_term(snapshot):
    cells = snapshot.cells
    terms = cells.groupby(["dataset_id", "contributor_label"])["cell_type_ontology_term_id"].unique().str.join(",")
    assert terms.to_dict() == {
        ("kang", ""): "unknown",
        ("kang", "B"): "unknown",  # waits for review
        ("kang", "T cell"): "CL:0000084",
        ("zheng", ""): "unknown",
        ("zheng", "B"): "unknown",
        ("zheng", "T cell"): "CL:0000084",
    }
    decisions = cells.groupby(["dataset_id", "contributor_label"])["mapping_decision"].first().to_dict()
    assert decisions[("kang", "B")] == "review"
    assert decisions[("kang", "")] == ""


def test_persons_are_joined_and_the_rest_stays_unknown(snapshot):
    cells = snapshot.cells.groupby(["dataset_id", "donor_id"])[["person_id", "person_state"]].first()
    assert cells.loc[("kang", "d0")].tolist() == ["kang/d0", "resolved"]
    assert cells.loc[("kang", "d1")].tolist() == ["unknown", "pooled"]
    assert cells.loc[("zheng", "d0")].tolist() == ["unknown", "unknown"]


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_are_those_of_the_source_in_any_order_of_rows_and_genes(snapshot, make, data):
    rows = np.array(data.draw(st.lists(st.integers(0, 23), max_size=30)), dtype=np.int64)
    genes = data.draw(st.permutations(["G-CD3D", "G-MS4A1", "G-NKG7"]).map(tuple))
    genes = genes[: data.draw(st.integers(1, 3))]
    found = snapshot.counts(rows, genes)
    assert found.dtype == np.int64
    assert found.shape == (len(rows), len(genes))
    for place, row in enumerate(rows):
        dataset_id, own = ("kang", row) if row < 12 else ("zheng", row - 12)
        source = make.matrix(dataset_id).toarray()[own]
        for column, gene in enumerate(genes):
            features = [at for at, name in enumerate(make.genes[dataset_id]) if name == gene]
            assert found[place, column] == source[features].sum(), "several features of one gene are added up"


def test_an_unmeasured_gene_is_refused_and_never_zero(snapshot):
    with pytest.raises(UnmeasuredGeneError, match="kang does not measure 1 of the 2 genes"):
        snapshot.counts(np.array([0]), ["G-CD3D", "G-XIST"])
    with pytest.raises(UnmeasuredGeneError):
        snapshot.counts(np.array([0]), [""])  # features without a gene have the empty name


@pytest.mark.parametrize("rows", [np.array([24]), np.array([-1]), np.array([True, False]), np.array([0.0])])
def test_rows_that_are_no_positions_are_refused(snapshot, rows):
    with pytest.raises(UsageError, match="positions"):
        snapshot.counts(rows, ["G-CD3D"])


def test_a_gene_is_asked_for_once(snapshot):
    with pytest.raises(UsageError, match="twice"):
        snapshot.counts(np.array([0]), ["G-CD3D", "G-CD3D"])


def test_blocks_stream_the_same_counts(snapshot):
    genes = snapshot.measured_genes("kang")
    whole = snapshot.counts(np.arange(12), genes).toarray()
    blocks = list(snapshot.iter_blocks("kang", genes))
    assert np.array_equal(np.vstack([block.counts.toarray() for block in blocks]), whole)
    (own,) = snapshot.iter_blocks("kang")
    assert own.counts.shape == (12, len(snapshot.features("kang")))
    assert own.cell_names[0] == "cell0"


def test_a_data_set_of_several_partitions_reads_as_one(tmp_path, make, monkeypatch):
    def write_small(*args, **kwargs):
        return write_partitions(*args, **kwargs, max_cells=5)

    monkeypatch.setattr(build, "write_partitions", write_small)
    atlas = create_atlas(tmp_path / "atlas")
    atlas.publish([write_dataset(atlas.path, content=make.content("kang"))])
    assert len(atlas.entry("kang").partitions) == 3
    rows = np.array([11, 0, 4, 5, 9, 0])
    found = atlas.freeze().counts(rows, ["G-MS4A1"])
    assert np.array_equal(found.toarray().ravel(), make.matrix("kang").toarray()[rows, 2])
    assert [block.start for block in atlas.snapshot().iter_blocks("kang")] == [0, 5, 10]


def test_anndata_comes_out_with_floats_and_cellxgene_names(snapshot):
    whole = snapshot.to_anndata()
    assert whole.shape == (24, 3)
    assert whole.X.dtype == np.float32
    assert whole.obs_names[0] == "kang:cell0"
    assert {"donor_id", "cell_type_ontology_term_id", "suspension_type"} <= set(whole.obs)
    assert whole.uns["snapshot_id"] == snapshot.snapshot_id
    part = snapshot.to_anndata(np.array([13, 2]), ["G-NKG7"])
    assert np.array_equal(part.X.toarray(), snapshot.counts(np.array([13, 2]), ["G-NKG7"]).toarray())


def test_a_count_that_float32_cannot_hold_is_exported_as_float64(tmp_path, make):
    atlas = create_atlas(tmp_path / "atlas")
    matrix = np.array([[2**24 + 1, 0, 0, 0, 0]])
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", matrix))])
    exported = atlas.freeze().to_anndata()
    assert exported.X.dtype == np.float64
    assert exported.X.max() == 2**24 + 1


# --- identity -----------------------------------------------------------------------------------------------------


def frozen_id(path, make, *, order=("kang", "zheng"), size=5, contents=None, n_workers=1):
    atlas = create_atlas(path)
    contents = contents or [make.content(name, size=size) for name in order]
    if n_workers > 1:
        # Generators cannot be sent to a process, lists of blocks can.
        lists = [dataclasses.replace(content, blocks=list(content.blocks())) for content in contents]
        tasks = [partial(write_dataset, atlas.path, content=content) for content in lists]
        entries = run_tasks(operator.call, tasks, n_workers=n_workers)
    else:
        entries = [write_dataset(atlas.path, content=content) for content in contents]
    for entry in entries:
        atlas.publish([entry])
    atlas.put_persons(make.persons(("kang", "d0", "p", "resolved"), ("kang", "d1", "q", "resolved")))
    atlas.put_mappings([make.mapping("zheng", "B", "CL:0000236"), make.mapping("kang", "B", "CL:0000236")])
    return atlas.freeze().snapshot_id


def test_the_id_does_not_depend_on_order_blocks_or_codec(tmp_path, make, monkeypatch):
    expected = frozen_id(tmp_path / "a", make)
    assert frozen_id(tmp_path / "b", make, order=("zheng", "kang"), size=1) == expected
    monkeypatch.setattr(array_spec, "COMPRESSOR", "lz4")
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 64)
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 16)
    assert frozen_id(tmp_path / "c", make, size=100) == expected


def test_the_id_does_not_depend_on_the_number_of_workers(tmp_path, make):
    assert frozen_id(tmp_path / "b", make, n_workers=2) == frozen_id(tmp_path / "a", make)


def test_the_id_does_not_depend_on_the_bytes_of_the_source_file(tmp_path, make):
    expected = frozen_id(tmp_path / "a", make)
    contents = [make.content(name, source="saved again") for name in ("kang", "zheng")]
    assert frozen_id(tmp_path / "b", make, contents=contents) == expected


def test_the_id_changes_with_every_fact_and_interpretation(tmp_path, make):
    changed_count = make.matrix("kang").toarray()
    changed_count[0, 0] += 1
    cells = make.content("kang").cells.assign(assay="10x 3' v3")
    contributed = make.content("kang").contributed.assign(n=7)
    alignment = dataclasses.replace(make.content("kang").alignment, gene_ids=("", *make.genes["kang"][1:]))
    reference = [make.content(name, gene_reference="gencode-next") for name in ("kang", "zheng")]
    zheng = make.content("zheng")
    ids = [
        frozen_id(tmp_path / "0", make),
        frozen_id(tmp_path / "1", make, contents=[make.content("kang", changed_count), zheng]),
        frozen_id(tmp_path / "2", make, contents=[make.content("kang", cells=cells), zheng]),
        frozen_id(tmp_path / "3", make, contents=[make.content("kang", contributed=contributed), zheng]),
        frozen_id(tmp_path / "4", make, contents=[make.content("kang", alignment=alignment), zheng]),
        frozen_id(tmp_path / "5", make, contents=reference),
        frozen_id(tmp_path / "6", make, order=("kang",)),
    ]
    assert len(set(ids)) == len(ids)


def test_new_mappings_or_persons_are_a_new_snapshot_and_the_old_one_stays(atlas, make):
    before = atlas.freeze("v1")
    terms = before.cells["cell_type_ontology_term_id"].tolist()
    atlas.put_mappings([make.mapping("kang", "T cell", "CL:0000624")])
    atlas.put_persons(make.persons(("kang", "d0", "other", "resolved")))
    after = atlas.freeze()
    assert after.snapshot_id != before.snapshot_id
    again = open_atlas(atlas.path).snapshot("v1")
    assert again.snapshot_id == before.snapshot_id
    assert again.cells["cell_type_ontology_term_id"].tolist() == terms
    difference = diff_snapshots(again, after)
    assert difference.n_cells_relabeled == 8
    assert difference.n_persons_changed == 6, "d0 has another person; d1 stays unknown"
    assert (difference.datasets_added, difference.n_cells_added) == ((), 0)
    assert len(difference.mappings_removed) == 4


def test_a_data_set_that_was_replaced_is_compared_cell_by_cell(atlas, make):
    before = atlas.freeze()
    cells = make.content("kang").cells.copy()
    cells["contributor_label"] = "renamed"
    atlas.publish([write_dataset(atlas.path, content=make.content("kang", cells=cells))])
    after = atlas.freeze()
    difference = diff_snapshots(before, after)
    both = before.cells.merge(after.cells, on="cell_id", suffixes=("", "_b"))
    moved = both["cell_type_ontology_term_id"] != both["cell_type_ontology_term_id_b"]
    assert difference.n_cells_relabeled == int(moved.sum()) > 0
    assert set(difference.relabeled["dataset_id"]) == {"kang"}
    assert (difference.n_cells_added, difference.n_cells_removed) == (0, 0)
    assert difference.n_persons_changed == int((both["person_id"] != both["person_id_b"]).sum())


# --- revisions ----------------------------------------------------------------------------------------------------


def test_publishing_says_what_became_of_each_data_set(atlas, make):
    same = write_dataset(atlas.path, content=make.content("kang"))
    number = atlas.revision
    assert atlas.publish([same]).changes == {"datasets/kang": "unchanged"}
    assert atlas.revision == number, "nothing changed, nothing is published"
    matrix = make.matrix("kang").toarray() * 2
    other = write_dataset(atlas.path, content=make.content("kang", matrix, source="other"))
    revision = atlas.publish([other, atlas.entry("zheng")], author="Ada", message="doubled")
    assert revision.changes == {"datasets/kang": "replaced", "datasets/zheng": "unchanged"}
    assert atlas.history()[-1].message == "doubled"


def test_two_sources_of_one_name_are_refused(atlas, make):
    entries = [write_dataset(atlas.path, content=make.content("kang", source=source)) for source in "ab"]
    with pytest.raises(UsageError, match="--id"):
        atlas.publish(entries)


def test_two_writers_of_different_things_both_succeed_and_of_one_thing_the_second_is_told(atlas, make):
    ours, theirs = open_atlas(atlas.path), open_atlas(atlas.path)
    theirs.put_persons(make.persons(("kang", "d0", "p", "resolved")))
    ours.put_mappings([make.mapping("kang", "B", "CL:0000236")])
    assert len(ours.persons()) == 1
    with pytest.raises(ConflictError, match="overlays/mappings"):
        theirs.put_mappings([make.mapping("kang", "B", "CL:0000785")])
    theirs.refresh().put_mappings([make.mapping("kang", "B", "CL:0000785")])
    assert open_atlas(atlas.path).mappings()[0].term == "CL:0000785"


def test_an_atlas_looks_at_one_revision_until_it_is_refreshed(atlas, make):
    reader = open_atlas(atlas.path)
    atlas.put_mappings([])
    assert len(reader.mappings()) == 4
    assert reader.refresh().mappings() == ()


def test_a_second_organism_is_refused(atlas, make):
    entry = write_dataset(atlas.path, content=make.content("zheng", organism="Mus musculus"))
    with pytest.raises(RefusedError, match="2 organisms"):
        atlas.publish([entry])


def test_two_gene_references_cannot_be_frozen_together(atlas, make):
    atlas.publish([write_dataset(atlas.path, content=make.content("zheng", gene_reference="gencode-next"))])
    with pytest.raises(RefusedError, match="gencode-next"):
        atlas.freeze()


def test_snapshots_are_found_by_tag_id_and_time(atlas, make):
    first = atlas.freeze("v1")
    number = atlas.revision
    assert atlas.freeze("v1").snapshot_id == first.snapshot_id
    assert atlas.revision == number, "freezing an equal state changes nothing"
    atlas.put_mappings([])
    second = atlas.freeze()
    assert atlas.snapshots() == (first.snapshot_id, second.snapshot_id)
    assert atlas.snapshot().snapshot_id == second.snapshot_id
    assert atlas.snapshot("v1").snapshot_id == first.snapshot_id
    assert atlas.snapshot(first.snapshot_id[:20]).snapshot_id == first.snapshot_id
    with pytest.raises(ConflictError, match="never moved"):
        atlas.freeze("v1")
    with pytest.raises(UsageError, match="cannot be a tag"):
        atlas.freeze("latest")
    with pytest.raises(UsageError, match="Tags: v1"):
        atlas.snapshot("v2")


def test_facts_are_there_before_anything_is_frozen(atlas):
    cells = atlas.cells()
    assert len(cells) == 24
    assert "claimed_term" in cells
    assert "person_id" not in cells
    assert atlas.dataset_ids == ("kang", "zheng")
    assert [finding.code for finding in atlas.findings("kang")] == ["N-TEST-01"]
    assert atlas.contributed("kang")["n"].tolist() == list(range(12))
    assert atlas.persons()["person_id"].tolist() == ["kang/d0", "unknown"]
    with pytest.raises(UsageError, match="kang, zheng"):
        atlas.entry("absent")


def test_an_empty_atlas_can_be_asked(tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    assert create_atlas(tmp_path / "atlas").revision == 0
    assert (atlas.dataset_ids, len(atlas.cells()), atlas.mappings(), len(atlas.persons())) == ((), 0, (), 0)
    assert atlas.freeze().describe()["n_cells"] == 0
    with pytest.raises(UsageError, match="is no atlas"):
        open_atlas(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"):
        create_atlas(tmp_path / "full")


# --- overlays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decision": "maybe"}, "is none of"),
        ({"confidence": 1001}, "outside"),
        ({"term": ""}, "has no term"),
    ],
)
def test_malformed_mappings_are_refused(atlas, make, changes, message):
    bad = dataclasses.replace(make.mapping("kang", "B", "CL:0000236"), **changes)
    with pytest.raises(UnresolvedLabelError, match=message):
        atlas.put_mappings([bad])


def test_a_label_with_two_mappings_or_releases_is_refused(atlas, make):
    one = make.mapping("kang", "B", "CL:0000236")
    with pytest.raises(UnresolvedLabelError, match="two mappings"):
        atlas.put_mappings([one, dataclasses.replace(one, term="CL:0000785")])
    with pytest.raises(UsageError, match="2 ontology releases"):
        atlas.put_mappings([one, make.mapping("zheng", "B", "CL:0000236", ontology_release="cl-next")])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("kang", "d0", "p", "resolved"), ("kang", "d0", "q", "resolved")], "two rows"),
        ([("kang", "d0", "p", "certain")], "certain"),
        ([("kang", "d0", "unknown", "resolved")], "resolved to nobody"),
    ],
)
def test_malformed_persons_are_refused(atlas, make, rows, message):
    with pytest.raises(UsageError, match=message):
        atlas.put_persons(make.persons(*rows))


# --- building -----------------------------------------------------------------------------------------------------


def test_counts_that_differ_from_the_cell_table_are_refused(tmp_path, make):
    cells = make.content("kang").cells
    cells.loc[7, "n_counts"] += 1
    with pytest.raises(IntegrityError, match="rows 5-9"):
        write_dataset(tmp_path, content=make.content("kang", cells=cells))
    content = make.content("kang")
    with pytest.raises(IntegrityError, match="10 cells streamed"):
        write_dataset(tmp_path, content=dataclasses.replace(content, blocks=list(content.blocks())[:2]))
    assert not list(tmp_path.glob("partitions/*"))
    assert not list(tmp_path.glob("datasets/*"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda cells: cells.drop(columns="assay"), "assay"),
        (lambda cells: cells.assign(person_id="p"), "person_id"),
        (lambda cells: cells.assign(tissue=None), "no text"),
        (lambda cells: cells.assign(n_counts=cells["n_counts"].astype(float)), "integers"),
        (lambda cells: cells.assign(cell_id="kang:cell0"), "more than once"),
        (lambda cells: cells.assign(row=0), "0, 1, 2"),
        (lambda cells: cells.assign(dataset_id="other"), "other data sets"),
        (lambda cells: cells.iloc[:-1], "11 rows"),
    ],
)
def test_a_cell_table_that_is_not_whole_is_refused(tmp_path, make, edit, message):
    content = make.content("kang", cells=edit(make.content("kang").cells))
    with pytest.raises(UsageError, match=message):
        write_dataset(tmp_path, content=content)


def test_an_alignment_of_other_features_is_refused(tmp_path, make):
    content = make.content("kang", alignment=make.content("zheng").alignment)
    with pytest.raises(UsageError, match="other features"):
        write_dataset(tmp_path, content=content)
    with pytest.raises(UsageError, match="contributor columns"):
        write_dataset(tmp_path, content=make.content("kang", contributed=pd.DataFrame({"a": [1]})))
