"""What is made of several data sets has the strictest of their access classes, and it leaves only where that is said."""

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.records.access import ACCESS_CLASSES, UNDECLARED, strictest
from cytolabe.snapshot.access import access_by_dataset, declared_access, require_access
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.takeout import export_cells
from cytolabe.split.document import read_split, split_document, write_split
from cytolabe.split.groups import leave_one_group_out

WORDS = st.sampled_from([*ACCESS_CLASSES, UNDECLARED])


def lab_file(folder, name, seed):
    rng = np.random.default_rng(seed)
    genes = sorted(load_reference().protein_coding)[:600]
    counts = csr_matrix(rng.negative_binomial(0.4, 0.08, size=(30, 600)).astype(np.float32))
    table = pd.DataFrame({"cell_type": np.array(["B cells", "NK"])[np.arange(30) % 2], "donor_id": f"{name}-1"})
    table.index = [f"{name}{i}" for i in range(30)]
    anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=genes)).write_h5ad(folder / f"{name}.h5ad")


def declare(folder, **classes):
    tables = [
        f'[[dataset]]\nfile = "{name}.h5ad"\n' + (f'access = "{word}"\n' if word else "")
        for name, word in classes.items()
    ]
    (folder / "manifest.toml").write_text("\n".join(tables))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labs")
    for seed, name in enumerate(("a", "b")):
        lab_file(folder, name, seed)
    return folder


@pytest.fixture
def mixed(folder, tmp_path):
    """Return an atlas with one open and one managed data set, frozen."""
    declare(folder, a="open", b="managed")
    ingest_sources(tmp_path / "atlas", [folder])
    atlas = open_atlas(tmp_path / "atlas")
    return atlas, atlas.freeze()


@given(st.lists(WORDS, min_size=1), WORDS)
def test_nothing_that_joins_makes_a_class_less_strict(classes, other):
    assert strictest([*classes, other]) == strictest([strictest(classes), other])
    assert strictest([strictest([*classes, other]), strictest(classes)]) == strictest([*classes, other])


@given(st.dictionaries(WORDS, st.integers(1, 9), min_size=1))
def test_cells_leave_if_and_only_if_the_strictest_class_may(n_cells):
    for allowed in ("", *ACCESS_CLASSES):
        may = strictest([*n_cells, allowed or UNDECLARED]) == (allowed or UNDECLARED)
        if may:
            require_access(n_cells, allowed)
        else:
            with pytest.raises(RefusedError, match=f"--access {strictest(n_cells)}"):
                require_access(n_cells, allowed)


def test_a_mixed_export_is_refused_with_the_cells_of_each_class(mixed, tmp_path):
    _, snapshot = mixed
    with pytest.raises(RefusedError, match="30 managed, 30 open"):
        export_cells(snapshot, tmp_path / "x.h5ad")
    with pytest.raises(RefusedError):
        export_cells(snapshot, tmp_path / "x.h5ad", access="registered")
    assert not (tmp_path / "x.h5ad").exists()


def test_an_export_that_may_leave_carries_its_class(mixed, tmp_path):
    _, snapshot = mixed
    export_cells(snapshot, tmp_path / "x.h5ad", access="managed")
    export_cells(snapshot, tmp_path / "open.h5ad", where="dataset_id = 'a'")
    whole, part = anndata.read_h5ad(tmp_path / "x.h5ad"), anndata.read_h5ad(tmp_path / "open.h5ad")
    assert (whole.uns["access"], whole.uns["access_cells"]) == ("managed", "30 managed, 30 open")
    assert part.uns["access"] == "open"


def test_what_is_made_of_a_snapshot_is_recorded_with_its_class(mixed):
    atlas, snapshot = mixed
    assert atlas.register_artifact("model", "sha256:1", snapshot.snapshot_id).access == "managed"


def test_a_class_that_is_declared_after_a_freeze_holds_for_the_snapshot_too(folder, tmp_path):
    declare(folder, a="open", b="open")
    ingest_sources(tmp_path / "atlas", [folder])
    snapshot = open_atlas(tmp_path / "atlas").freeze()
    assert declared_access(snapshot) == "open"
    declare(folder, a="open", b="registered")
    ingest_sources(tmp_path / "atlas", [folder])
    assert access_by_dataset(snapshot) == {"a": "open", "b": "registered"}


def test_a_later_word_makes_no_frozen_snapshot_less_strict(mixed, folder):
    atlas, snapshot = mixed
    declare(folder, a="open", b="open")
    ingest_sources(atlas.path, [folder])
    assert open_atlas(atlas.path).freeze().snapshot_id == snapshot.snapshot_id
    assert declared_access(snapshot) == "managed"


def test_a_split_carries_the_class_and_is_the_same_split(mixed, tmp_path):
    _, snapshot = mixed
    split = leave_one_group_out(snapshot)
    document = write_split(split, tmp_path / "split.json", access=declared_access(snapshot))
    assert document["access"] == "managed"
    assert split_document(read_split(tmp_path / "split.json", snapshot)) == split_document(split)


def test_without_a_word_cells_leave_as_before_and_say_that_nothing_was_declared(folder, tmp_path):
    declare(folder, a="", b="open")
    ingest_sources(tmp_path / "atlas", [folder])
    snapshot = open_atlas(tmp_path / "atlas").freeze()
    export_cells(snapshot, tmp_path / "x.h5ad")
    assert anndata.read_h5ad(tmp_path / "x.h5ad").uns["access"] == UNDECLARED
    assert declared_access(snapshot) == ""


def test_a_word_that_is_no_access_class_is_named(folder, tmp_path):
    declare(folder, a="controlled")
    with pytest.raises(UsageError, match="access = 'controlled' is none of open, registered, managed"):
        ingest_sources(tmp_path / "atlas", [folder])
