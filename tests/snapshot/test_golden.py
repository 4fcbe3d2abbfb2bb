"""Atlases that older versions wrote: what they hold is read for good, and they can be worked on.

`golden/atlas-1.zip` was written once (atlas format 1, partition format 2) and is never written again. A version that
cannot read it needs another format word, and a message that says what to do.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from cytolabe.errors import UsageError
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.store.documents import sealed_bytes

GOLDEN = Path(__file__).parent / "golden"
SNAPSHOT = "sha256:cfaf626bd0156725bb1f5e3e2d00d69edd3205e2d0ec7fdaf7478b053b80d750"
COUNTS = {
    "G-MS4A1": [3, 0, 2, 3, 0, 3, 2, 0, 1, 0, 3, 1, 2, 3, 2, 0, 2, 0, 0, 2, 1, 3, 3, 1],
    "G-CD3D": [4, 4, 4, 0, 2, 4, 6, 4, 4, 4, 3, 3, 3, 1, 1, 1, 1, 0, 3, 3, 1, 0, 3, 2],
}


@pytest.fixture
def golden(tmp_path):
    with zipfile.ZipFile(GOLDEN / "atlas-1.zip") as archive:
        archive.extractall(tmp_path / "atlas")
    return tmp_path / "atlas"


def test_an_atlas_of_format_1_is_read_as_it_was_written(golden):
    snapshot = open_atlas(golden).snapshot("v1")
    assert snapshot.snapshot_id == SNAPSHOT
    assert snapshot.counts(np.arange(24), list(COUNTS)).toarray().T.tolist() == list(COUNTS.values())
    assert snapshot.cells["cell_id"].iloc[[0, 23]].tolist() == ["kang:cell0", "zheng:cell11"]
    assert snapshot.cells["person_id"].iloc[:2].tolist() == ["kang/d0", "unknown"]
    assert {mapping.term for mapping in snapshot.mappings} == {"CL:0000084", "CL:0000236", ""}
    assert verify_atlas(golden)[1] == ()


def test_what_this_version_writes_of_the_same_content_is_the_same_snapshot(golden, atlas, make):
    assert atlas.freeze().snapshot_id == SNAPSHOT
    opened = open_atlas(golden)
    revision = opened.publish([write_dataset(opened.path, content=make.content("kang"))])
    assert revision.changes["datasets/kang"] == "unchanged"
    opened.remove_dataset("zheng")
    assert opened.freeze().n_cells == 12
    assert verify_atlas(golden)[1] == ()


def test_an_atlas_of_a_later_format_is_told_as_such(golden):
    (golden / "cytolabe.json").write_bytes(sealed_bytes({"format": "cytolabe/atlas/9"}))
    with pytest.raises(
        UsageError, match=r"has format cytolabe/atlas/9; this version of Cytolabe reads cytolabe/atlas/1"
    ):
        open_atlas(golden)
