"""Designs of real files, read from their tables of cells: what must be refused is, and what must pass does."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytolabe.audit.claims import cell_type_claim
from cytolabe.audit.confounding import ConfoundingRow, audit_confounding
from cytolabe.records import ScoreStatus
from cytolabe.snapshot.view import CELL_COLUMNS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "h5ad"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real files (../shared/data/h5ad) are not here")


def cells_of(name: str, *, label: str, batch: str = "batch") -> pd.DataFrame:
    """Return the table of cells of a file: its own columns where they have the names of the schema."""
    obs = ad.read_h5ad(DATA / f"{name}.h5ad", backed="r").obs
    frame = pd.DataFrame({
        "dataset_id": name,
        "contributor_label": obs[label].astype(str),
        "batch": obs[batch].astype(str),
        **{column: obs[column].astype(str) for column in ("assay", "suspension_type", "tissue", "sex") if column in obs},
    })  # fmt: skip
    if "donor_id" in obs:
        frame["person_id"] = obs["donor_id"].astype(str)
    for column in CELL_COLUMNS:
        if column not in frame:
            frame[column] = "unknown"
    frame["person_state"] = np.where(frame["person_id"] == "unknown", "unknown", "resolved")
    return frame.reset_index(drop=True)


def claim(cells: pd.DataFrame, test: np.ndarray):
    labels = cells["contributor_label"].to_numpy(dtype=object)
    return cell_type_claim(cells, labels, train_rows=np.flatnonzero(~test), test_rows=np.flatnonzero(test))


def every_fourth(cells: pd.DataFrame) -> np.ndarray:
    return np.arange(len(cells)) % 4 == 0


def of_batch(rows: tuple[ConfoundingRow, ...], dataset_id: str) -> ConfoundingRow:
    (row,) = [
        row
        for row in rows
        if (row.dataset_id, row.technical, row.biological) == (dataset_id, "batch", "contributor_label")
    ]
    return row


@pytest.fixture(scope="module")
def sorted_cells() -> pd.DataFrame:
    return cells_of("zheng17_sorted_mudan", label="cell_type_author")


def test_sorted_populations_are_refused_within_their_file(sorted_cells):
    found = claim(sorted_cells, every_fourth(sorted_cells))
    assert found.status is ScoreStatus.REFUSED
    assert "never share a library" in found.reason
    codes = {(one.code, one.where.partition(": ")[2]) for one in audit_confounding(sorted_cells)[1]}
    assert ("W-CONF-01", "contributor_label in batch") in codes


def test_sorted_populations_held_out_whole_are_scored_with_a_note(sorted_cells):
    crossed = sorted_cells.assign(dataset_id="reference", batch=[f"r{n % 2}" for n in range(len(sorted_cells))])
    both = pd.concat([crossed, sorted_cells], ignore_index=True)
    found = claim(both, (both["dataset_id"] == "zheng17_sorted_mudan").to_numpy())
    assert (found.status, found.reason) == (ScoreStatus.SCORED, "")
    assert "test batches equal labels" in found.notes


def test_plates_that_cross_the_cell_lines_pass():
    cells = cells_of("tian19_cell_lines", label="cell_type_author")
    assert claim(cells, every_fourth(cells)).status is ScoreStatus.SCORED
    rows, findings = audit_confounding(cells)
    row = of_batch(rows, "tian19_cell_lines")
    assert (row.n_lost, row.status, findings) == (0, ScoreStatus.SCORED, ())


def test_plates_that_cross_the_mixtures_pass_and_the_one_odd_plate_is_told():
    """Plate 5 (21 of 1,128 wells) holds 90-cell mixtures: by name no other plate has them, by proportion all do."""
    named = cells_of("tian19_cellmix", label="mixture")
    found = claim(named, every_fourth(named))
    assert found.status is ScoreStatus.QUALIFIED
    assert found.reason.startswith("21 of 1128 cells")
    assert of_batch(audit_confounding(named)[0], "tian19_cellmix").status is ScoreStatus.QUALIFIED
    parts = named["contributor_label"].str.split("_", expand=True).astype(int)
    shares = parts.div(parts.sum(axis=1), axis=0).round(3).astype(str).agg("/".join, axis=1)
    cells = named.assign(contributor_label=shares)
    assert claim(cells, every_fourth(cells)).status is ScoreStatus.SCORED
    assert of_batch(audit_confounding(cells)[0], "tian19_cellmix").n_lost == 0


def test_chemistry_and_suspension_of_the_liver_file_cannot_be_told_apart_and_its_types_can():
    cells = cells_of("liver_bcells_cxg", label="author_cell_type", batch="library_uuid")
    rows, findings = audit_confounding(cells)
    found = {(one.technical, one.biological): one for one in rows if one.dataset_id == "liver_bcells_cxg"}
    aliased = found["assay", "suspension_type"]
    assert (aliased.nesting, aliased.n_lost, aliased.status) == ("one_to_one", 1, ScoreStatus.REFUSED)
    assert ("N-CONF-03", "liver_bcells_cxg: suspension_type in assay") in {(one.code, one.where) for one in findings}
    assert found["assay", "contributor_label"].n_lost == 0
    assert claim(cells, every_fourth(cells)).status is ScoreStatus.SCORED
