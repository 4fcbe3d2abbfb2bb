"""`cytolabe annotate --model scanvi`: a stored scANVI names the cells of a file, held to atlas cells that it never read and to no others."""

import dataclasses
import importlib.util
import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, RefusedError, UsageError
from cytolabe.flow.annotate_stored import _unread, stored_annotator, stored_sides, unread_reference
from cytolabe.flow.interpret import reconcile_atlas
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.ontology.graph import load_ontology
from cytolabe.records import Fold
from cytolabe.snapshot.atlas import open_atlas

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("scvi", "torch", "safetensors")),
        reason="the extra [models] is not installed",
    ),
]

GENES = sorted(load_reference().protein_coding)[:300]
TYPES = ("B cells", "NK cells", "Monocytes")
TERMS = {"B cells": "CL:0000236", "NK cells": "CL:0000623", "Monocytes": "CL:0000576"}
CONFIG = """
n_latent = 4
n_hidden = 32

[training]
max_epochs = 20
label_epochs = 15
"""


def lab(seed, genes=GENES):
    """Return 90 cells of three donors, whose types differ in a third of their genes by much."""
    rng = np.random.default_rng(seed)
    kind = np.arange(90) % 3
    level = np.random.default_rng(0).gamma(1.0, 2.0, 300) + 0.1
    rates = level * np.where(np.arange(300)[None, :] % 3 == kind[:, None], 4.0, 0.4)
    table = pd.DataFrame(
        {"cell_type": np.array(TYPES, dtype=object)[kind], "donor_id": [f"donor{seed}{k // 3 % 3}" for k in range(90)]},
        index=[f"c{k}" for k in range(90)],
    )
    counts = csr_matrix(rng.poisson(rates)[:, : len(genes)], dtype=np.float32)
    return anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=genes))


def frozen_atlas(folder, seeds):
    folder.mkdir()
    for seed in seeds:
        lab(seed).write_h5ad(folder / f"lab{seed}.h5ad")
    ingest_sources(folder / "atlas", [folder])
    reconcile_atlas(folder / "atlas")
    open_atlas(folder / "atlas").freeze()
    return folder / "atlas"


@pytest.fixture(scope="module")
def desk(call, tmp_path_factory):
    """Return a folder with an atlas of two labs, a scANVI of the second alone, and a file of a third."""
    folder = tmp_path_factory.mktemp("desk")
    atlas = frozen_atlas(folder / "labs", (1, 2))
    assert call("split", atlas, "--by", "dataset", "-o", folder / "split.json").code == 0
    (folder / "scanvi.toml").write_text(CONFIG)
    words = [
        "train",
        "scanvi",
        atlas,
        "--split",
        folder / "split.json",
        "--fold",
        "1",
        "--config",
        folder / "scanvi.toml",
    ]
    trained = call(*words, "-o", folder / "model", "--json")
    assert trained.code == 0, trained.err
    lab(3).write_h5ad(folder / "query.h5ad")
    return folder, atlas, trained.document


@pytest.fixture
def annotate(call, desk, tmp_path):
    folder, atlas, _ = desk

    def run(*words, model="model", query="query.h5ad"):
        given = ["annotate", folder / query, "--atlas", atlas, "-o", tmp_path / "out.h5ad", "--model", "scanvi"]
        return call(*given, "--option", f"checkpoint={folder / model}", *words, "--json")

    return run


def test_a_stored_scanvi_names_the_cells_of_a_file_and_is_held_to_cells_that_it_never_read(annotate, desk, tmp_path):
    found = annotate("--report", tmp_path / "page.html")
    assert found.code == 0, found.err
    document = found.document
    table = anndata.read_h5ad(tmp_path / "out.h5ad").obs
    named = (table["cytolabe_status"] == "labelled").to_numpy()
    right = (table["cytolabe_term_id"].astype(str) == table["cell_type"].astype(str).map(TERMS)).to_numpy()
    assert named.mean() > 0.5
    assert right[named].mean() > 0.9
    # The 90 cells of the training side would have been called right by heart.
    assert (document["reference"]["n_cells"], document["reference"]["n_units"]) == (90, 3)
    assert document["held_out"]["n_known"] == 90
    assert (document["model"]["weights"], document["model"]["protocol"]) == (desk[2]["weights"], "supervised")
    assert document["model"]["facts"]["classes"] == ", ".join(sorted(TERMS.values()))
    told = " | ".join(document["notes"])
    assert "trained on 90 atlas cells and their labels; held out are 90 others" in told
    assert "mapped data set by data set" in told
    assert "QUALIFIED(query): the weights of the file's batch were fitted on 90 of its cells without labels" in told
    assert "have another most probable class" in told
    assert document["open_set"] == []
    assert document["as_new_dataset"] is None
    assert any("a stored model is not fitted again" in one for one in document["not_evaluated"])
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_where_nobody_is_left_whom_it_has_not_read_there_is_no_annotation(annotate, desk):
    read = next(one for one in ("lab1", "lab2") if f"{one}|" in desk[2]["batches"][0])
    (held,) = {"lab1", "lab2"} - {read}
    error = annotate("--where", f"dataset_id = '{read}'").document["error"]
    assert (
        "has read everybody of the 90 atlas cells, or they are not of the test side: nobody is left" in error["message"]
    )
    assert "cytolabe train scanvi" in error["message"]
    error = annotate("--where", f"donor_id = 'donor{held[-1]}0'").document["error"]
    assert "Of 30 atlas cells, 30 are of nobody whom the stored scANVI has read" in error["message"]
    assert "All 30 labelled cells are of one person" in error["message"]
    # With the cells that it read beside them, the same persons are still one.
    error = annotate("--where", f"donor_id = 'donor{held[-1]}0' or dataset_id = '{read}'").document["error"]
    assert "Of 120 atlas cells, 30 are of nobody" in error["message"]


def test_a_folder_that_proves_nothing_is_refused(annotate, desk, tmp_path):
    folder, atlas, _ = desk
    for name in ("bare", "other"):
        shutil.copytree(folder / "model", folder / name)
    (folder / "bare" / "split.json").unlink()
    error = annotate(model="bare").document["error"]
    assert "bare does not say by which split it was trained (split.json)" in error["message"]
    said = json.loads((folder / "other" / "split.json").read_bytes())
    (folder / "other" / "split.json").write_text(json.dumps({**said, "seed": 7}))
    found = annotate(model="other")
    assert (found.code, found.document["error"]["type"]) == (4, "IntegrityError")
    assert "the model was trained by" in found.document["error"]["message"]
    frozen = open_atlas(atlas).snapshot("latest")
    annotator = stored_annotator("scanvi", {"checkpoint": folder / "model"})
    pairs = pd.DataFrame({"a_row": [], "b_row": []}, dtype=np.int64)

    def sides(snapshot=frozen, scopes=annotator.stored.scopes, **training):
        stored = dataclasses.replace(
            annotator.stored, scopes=scopes, training={**annotator.stored.training, **training}
        )
        return stored_sides(snapshot, folder / "model", dataclasses.replace(annotator, stored=stored), pairs=pairs)

    assert sides().unread.sum() == 90
    elsewhere = open_atlas(frozen_atlas(tmp_path / "else", (4, 5))).snapshot("latest")
    with pytest.raises(UsageError, match="which of these cells it has read is not known"):
        sides(elsewhere)
    with pytest.raises(UsageError, match=r"answers contributed\.x; annotate answers terms of the Cell Ontology"):
        sides(task="contributed.x")
    scopes = tuple(dataclasses.replace(one, cells_digest="sha256:0") for one in annotator.stored.scopes)
    with pytest.raises(IntegrityError, match=r"gives 90 training cells .* that the card does not name"):
        sides(scopes=scopes)


def test_nobody_who_was_read_is_held_out_by_person_by_library_or_as_a_copy():
    cells = pd.DataFrame({
        "dataset_id": ["a", "a", "b", "b", "b", "c", "c", "b"],
        "batch": ["1", "2", "1", "1", "2", "1", "2", "1"],
        "person_id": ["p", "p", "unknown", "unknown", "unknown", "unknown", "unknown", "q"],
        "person_state": ["resolved", "resolved", "unknown", "unknown", "unknown", "unknown", "unknown", "resolved"],
    })  # fmt: skip
    fold = Fold(
        split_id="s", held_out="x", groups_train=(), groups_test=(), train_rows=np.array([0, 2]), test_rows=np.array([1, 3, 4, 5, 6, 7])
    )  # fmt: skip
    none = pd.DataFrame({"a_row": [], "b_row": []}, dtype=np.int64)

    def unread(pairs=none, held_out="person", fold=fold):
        return np.flatnonzero(_unread(cells, fold, pairs=pairs, held_out=held_out)).tolist()

    # The known person in the library of cell 2 may be the one who was read there.
    assert unread() == [4, 5, 6]
    assert unread(fold=dataclasses.replace(fold, test_rows=np.array([4, 6]))) == [4, 6]
    assert unread(held_out="dataset") == [5, 6]
    # A copy was read, and so was the library that it lies in, under another name.
    assert unread(pd.DataFrame({"a_row": [2], "b_row": [5]})) == [4, 6]
    cells.loc[6, "batch"] = "1"
    assert unread(pd.DataFrame({"a_row": [5], "b_row": [2]})) == [4]


def test_cells_of_types_that_it_does_not_have_calibrate_nothing(desk):
    folder, atlas, _ = desk
    frozen, pairs = open_atlas(atlas).snapshot("latest"), pd.DataFrame({"a_row": [], "b_row": []}, dtype=np.int64)
    annotator = stored_annotator("scanvi", {"checkpoint": folder / "model"})
    sides = stored_sides(frozen, folder / "model", annotator, pairs=pairs)
    fewer = dataclasses.replace(annotator.stored, classes=(TERMS["B cells"], TERMS["NK cells"]))
    sides = dataclasses.replace(sides, annotator=dataclasses.replace(annotator, stored=fewer))

    def chosen(rows):
        return unread_reference(
            frozen, sides, rows=rows, pairs=pairs, ontology=load_ontology("CL"), held_out="person"
        )  # fmt: skip

    kept = chosen(np.arange(frozen.n_cells))
    assert set(kept.terms.tolist()) == set(fewer.classes)
    assert kept.left_out == {"a type that the stored model does not have": 30}
    assert (kept.n_units, kept.kinds, kept.n_folds) == (3, {"person": 3}, 3)
    donors = frozen.cells["donor_id"].where(sides.unread, "")
    first = donors == sorted(set(donors))[1]
    monocytes = (frozen.cells["contributor_label"] == "Monocytes") & (donors != "")
    with pytest.raises(
        RefusedError, match=r"20 others are of a type that it does not have. All 20 labelled cells are of one person"
    ):
        chosen(np.flatnonzero(first & ~monocytes | ~first & monocytes))


def test_a_file_without_a_gene_that_it_reads_and_what_is_no_stored_scanvi_are_refused(annotate, call, desk):
    folder, atlas, _ = desk
    lab(3, GENES[:250]).write_h5ad(folder / "short.h5ad")
    error = annotate(query="short.h5ad").document["error"]
    assert error["type"] == "UnmeasuredGeneError"
    assert "short.h5ad lacks 50 of 300 genes that the stored scANVI reads" in error["message"]
    assert "holds no stored scanvi. It holds a stored scvi" in annotate(model="model/scvi").document["error"]["message"]
    assert annotate("--option", "expected=sha256:0").document["error"]["type"] == "IntegrityError"
    bare = call("annotate", folder / "query.h5ad", "--atlas", atlas, "-o", folder / "x.h5ad", "--model", "scanvi")
    assert "a scANVI that is stored (--option checkpoint=FOLDER)" in bare.err
