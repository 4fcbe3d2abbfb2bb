"""Files as they are named on a command line: what enters, what is only looked at, and what is never made."""

import os
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.flow.sources import ingest_sources, validate_paths
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import open_atlas


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return the file of a lab with 60 cells."""
    rng = np.random.default_rng(3)
    counts = csr_matrix(rng.negative_binomial(0.4, 0.08, size=(60, 800)).astype(np.float32))
    table = pd.DataFrame({"cell_type": np.array(["B cells", "NK"])[np.arange(60) % 2], "donor_id": "d1"})
    table.index = [f"cell{i}" for i in range(60)]
    path = tmp_path_factory.mktemp("lab") / "lab.h5ad"
    genes = pd.DataFrame(index=sorted(load_reference().protein_coding)[:800])
    anndata.AnnData(X=counts, obs=table, var=genes).write_h5ad(path)
    return path


def test_a_file_is_named_once_however_often_it_is_pointed_at(lab, tmp_path):
    outcomes, findings, revision = ingest_sources(tmp_path / "atlas", [lab, lab.parent, lab])
    assert [outcome.dataset_id for outcome in outcomes] == ["lab"]
    assert findings == ()
    assert revision == 1


def test_what_is_missing_beside_a_good_file_is_told_and_the_good_one_goes_in(lab, tmp_path):
    outcomes, findings, _ = ingest_sources(tmp_path / "atlas", [lab, tmp_path / "gone.h5ad"])
    assert [outcome.status for outcome in outcomes] == ["accepted"]
    assert [(finding.code, finding.where) for finding in findings] == [("E-SOURCE-01", str(tmp_path / "gone.h5ad"))]


def test_nothing_to_read_makes_no_atlas_and_leaves_one_that_is_there(lab, tmp_path):
    assert ingest_sources(tmp_path / "atlas", [tmp_path / "gone.h5ad"])[2] is None
    assert not (tmp_path / "atlas").exists()
    ingest_sources(tmp_path / "atlas", [lab])
    assert ingest_sources(tmp_path / "atlas", [tmp_path / "gone.h5ad"])[2] == 1


@pytest.mark.parametrize("wrong", ["Big Lab", "../lab", "", "läb"])
def test_an_id_is_a_slug(lab, tmp_path, wrong):
    if not wrong:
        assert ingest_sources(tmp_path / "atlas", [lab], dataset_id=wrong)[0][0].dataset_id == "lab"
        return
    with pytest.raises(UsageError, match="would do"):
        ingest_sources(tmp_path / "atlas", [lab], dataset_id=wrong)
    assert not (tmp_path / "atlas").exists()


def test_the_same_file_under_two_ids_is_two_data_sets_of_copies(lab, tmp_path):
    for name in ("one", "two"):
        ingest_sources(tmp_path / "atlas", [lab], dataset_id=name)
    assert open_atlas(tmp_path / "atlas").dataset_ids == ("one", "two")


def test_validation_tells_files_atlases_and_wrong_arguments_apart(lab, tmp_path):
    ingest_sources(tmp_path / "atlas", [lab])
    told = []
    rows = validate_paths([tmp_path / "atlas", tmp_path / "gone.h5ad", lab], on_progress=told.append)
    assert [row.source for row in rows] == ["lab", str(tmp_path / "gone.h5ad"), "lab.h5ad"]
    assert [row.valid for row in rows] == [True, False, True]
    assert not any(row.unreadable for row in rows)
    assert told == ["validate: 1 of 1 files"]


def test_a_note_about_an_argument_is_a_row_that_is_valid(lab, tmp_path):
    (tmp_path / "lab.h5ad").write_bytes(lab.read_bytes())
    (tmp_path / "notes.txt").write_text("hello")
    rows = validate_paths([tmp_path])
    assert [(row.source, row.valid) for row in rows] == [(str(tmp_path), True), ("lab.h5ad", True)]


def test_a_folder_whose_name_is_no_text_is_read_and_may_hold_the_atlas(lab, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(lab, folder / "lab.h5ad")
    (outcome,), _, _ = ingest_sources(folder / "atlas", [folder / "lab.h5ad"])
    assert outcome.status == "accepted"
    assert open_atlas(folder / "atlas").dataset_ids == ("lab",)
