"""Files that releases of AnnData from 0.6 to 0.12 wrote themselves hold the same cells to every reader of ours.

`golden/anndata-releases.zip` was written once, by each release in an environment of its time (Python 3.6 to 3.11), from
the content that `expected` has; `nullable` is a file of 0.12 with nullable texts, integers and truth values. The
categories of 0.6.10 could hold ASCII only.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from cytolabe.flow.sources import ingest_sources
from cytolabe.ingest.h5ad import open_h5ad

ARCHIVE = Path(__file__).parent / "golden" / "anndata-releases.zip"
with zipfile.ZipFile(ARCHIVE) as _archive:
    FILES = tuple(sorted(_archive.namelist()))
N_CELLS, N_GENES = 12, 40
ROWS = np.arange(N_CELLS)


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


def counts():
    cells, genes = np.meshgrid(ROWS, np.arange(N_GENES), indexing="ij")
    return np.where((cells + genes) % 3, (3 * cells + 5 * genes) % 7, 0)


def test_the_archive_has_every_release():
    releases = {name.rsplit("-", 1)[0] for name in FILES}
    assert releases == {
        "0.6.10", "0.6.22.post1", "0.7.8", "0.8.0", "0.9.2", "0.10.9", "0.11.4", "0.12", "0.12-nullable",
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_release_is_read_as_it_was_written(releases, name):
    coffee = "cafe" if name.startswith("0.6.10") else "café"
    with open_h5ad(releases / name) as source:
        assert list(source.cell_names) == [f"cell{row}" for row in ROWS]
        assert source.title == "twelve"
        matrices = {matrix.name: matrix for matrix in source.matrices}
        assert list(matrices) == ["raw/X", "X"]
        for place, expected in (("raw/X", counts()), ("X", np.log1p(counts().astype(np.float32)))):
            blocks = list(source.iter_blocks(matrices[place], dataset_id="", max_nonzero=100))
            assert np.array_equal(np.vstack([block.counts.toarray() for block in blocks]), expected)
        table = source.cell_table
    assert list(table.columns) == ["cell_type", "donor_id", "note", "n", "x", "ok"]
    assert table["cell_type"].isna().tolist() == [False, False, True] * 4
    assert table["cell_type"].dropna().tolist() == ["B cell", "T cell"] * 4
    assert table["donor_id"].tolist() == ["d1"] * 6 + ["d2"] * 6
    assert table["note"].tolist() == [f"{coffee} {row}" for row in ROWS]
    assert table["n"].tolist() == ROWS.tolist()
    assert table["x"].tolist() == np.linspace(0, 1, N_CELLS).tolist()
    assert table["ok"].tolist() == [row % 2 == 0 for row in ROWS]


def test_releases_between_which_the_layout_changed_are_one_data_set_by_its_counts(releases, tmp_path):
    changed = [releases / f"{name}.h5ad" for name in ("0.6.10-dense", "0.7.8-csr", "0.8.0-csr", "0.12-nullable-csr")]
    outcomes, findings, _ = ingest_sources(tmp_path / "atlas", changed)
    assert findings == ()
    assert [outcome.status for outcome in outcomes] == ["accepted"] * 4
    assert len({outcome.entry.partitions[0].digest for outcome in outcomes}) == 1
    assert {outcome.entry.record.matrix for outcome in outcomes} == {"raw/X"}
