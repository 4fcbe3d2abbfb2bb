"""Quality of the cells of a snapshot: measured where it is asked for, kept beside the atlas, never part of an id.

Ingest does not do this: the doublet score reads every count a second time and takes longer than the rest of ingest, and
nothing of it decides whether a file may enter. Per data set one pass over the panel of genes (mitochondrial, MALAT1,
markers), then library by library the doublet score. Measures that nothing supports are `not_assessable` with a reason, and
their column is null.
"""

import dataclasses
import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from cytolabe.genes.reference import shipped_organisms
from cytolabe.ontology.graph import load_ontology
from cytolabe.quality.doublets import fit_doublets
from cytolabe.quality.flags import FLAGS, flag_cells
from cytolabe.quality.nuclear import nuclear_fraction
from cytolabe.quality.panel import PanelCounts, QualityPanel, quality_panel
from cytolabe.quality.purity import LabelledCells, marker_purity
from cytolabe.quality.thresholds import Thresholds, load_thresholds
from cytolabe.randomness import rng_for
from cytolabe.records import DatasetRecord, MatrixKind
from cytolabe.snapshot.cell_quality import (
    QualityRecord,
    quality_key,
    read_quality,
    read_quality_cells,
    write_quality,
)
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.layout import Layout

__all__ = [
    "DatasetQuality",
    "flagged_positions",
    "purity_of",
    "quality_document",
    "quality_of_snapshot",
    "quality_where",
]

_BLOCK_CELLS = 4096
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_AMBIENT = "raw droplets are not kept: an atlas holds called cells only"


@dataclass(frozen=True, kw_only=True)
class DatasetQuality:
    """The quality of one data set in a snapshot: `cells` has one row per cell that the snapshot holds, in its order.

    `chosen` says which of these cells the rows are, where a filter left some out.
    """

    record: QualityRecord
    cells: pd.DataFrame
    chosen: np.ndarray | None = None


def quality_of_snapshot(
    layout: Layout,
    snapshot: Snapshot,
    *,
    datasets: Sequence[str] = (),
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, DatasetQuality]:
    """Return the quality of data sets of a snapshot, all without `datasets`; what is known is read, the rest measured."""
    found = {}
    for dataset_id in datasets or snapshot.datasets:
        entry = snapshot.entries[dataset_id]
        kept = snapshot.kept_rows(dataset_id)
        key = quality_key(entry, np.setdiff1d(np.arange(entry.n_cells), kept).tolist())
        record = read_quality(layout, key)
        if record is not None:
            found[dataset_id] = DatasetQuality(record=record, cells=read_quality_cells(layout, record))
            continue
        on_progress(f"quality of {dataset_id}: {len(kept):,} cells")
        frame, about = _measured(snapshot, dataset_id)
        keep = partial(_kept, key=key, frame=frame, entry_digest=entry.digest, about=about)
        try:
            found[dataset_id] = keep(layout)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            on_progress(f"quality of {dataset_id}: not kept, because this atlas cannot be written ({error.strerror})")
            with TemporaryDirectory(prefix="cytolabe-") as folder:
                found[dataset_id] = keep(Layout(Path(folder)))
    return found


def _kept(
    layout: Layout, *, key: str, frame: pd.DataFrame, entry_digest: str, about: Mapping[str, object]
) -> DatasetQuality:
    """Write what was measured and read it again, so that it is the same whoever measured it."""
    record = write_quality(layout, key, frame, entry_digest=entry_digest, about=about)
    return DatasetQuality(record=record, cells=read_quality_cells(layout, record))


def flagged_positions(snapshot: Snapshot, quality: Mapping[str, DatasetQuality]) -> np.ndarray:
    """Return for each cell of a snapshot whether it is flagged; cells of data sets that were not measured are not."""
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    flagged = np.zeros(len(names), dtype=bool)
    for dataset_id, found in quality.items():
        flagged[names == dataset_id] = found.cells["is_flagged"].to_numpy(dtype=bool)
    return flagged


def purity_of(snapshot: Snapshot, dataset_id: str, quality: DatasetQuality) -> pd.DataFrame:
    """Return the marker purity of the labels of a data set, under the mappings in force."""
    organism = snapshot.datasets[dataset_id].organism
    own = snapshot.cells[(snapshot.cells["dataset_id"] == dataset_id).to_numpy()]
    own = own if quality.chosen is None else own[quality.chosen]
    cells = LabelledCells(
        markers=quality.cells["markers"].to_numpy(dtype=np.int64),
        n_counts=quality.cells["n_counts"].to_numpy(dtype=np.int64),
        labels=own["contributor_label"].to_numpy(dtype=object),
        terms=own["cell_type_ontology_term_id"].to_numpy(dtype=object),
    )
    measured = snapshot.measured_genes(dataset_id)
    return marker_purity(cells, quality_panel(organism), load_ontology("CL"), measured=measured)


def quality_where(snapshot: Snapshot, quality: Mapping[str, DatasetQuality], where: str) -> dict[str, DatasetQuality]:
    """Return the quality of the cells that a filter matches; data sets without one of them are left out.

    What was measured stays: thresholds and doublet scores are those of whole libraries, whatever is looked at.
    """
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    matched = np.zeros(len(names), dtype=bool)
    matched[snapshot.rows(where)] = True
    found = {}
    for dataset_id, whole in quality.items():
        own = matched[names == dataset_id]
        if own.any():
            found[dataset_id] = dataclasses.replace(whole, cells=whole.cells[own].reset_index(drop=True), chosen=own)
    return found


def quality_document(snapshot: Snapshot, quality: Mapping[str, DatasetQuality]) -> dict[str, object]:
    """Return what `cytolabe snapshot quality` says."""
    return {
        "snapshot_id": snapshot.snapshot_id,
        "thresholds": load_thresholds().name,
        "datasets": [_described(snapshot, name, found) for name, found in quality.items()],
    }


def _described(snapshot: Snapshot, dataset_id: str, found: DatasetQuality) -> dict[str, object]:
    cells = found.cells
    medians = {
        name: None if cells[name].isna().all() else float(cells[name].median())
        for name in ("n_counts", "n_genes", "mt_fraction", "malat1_fraction", "nuclear_fraction", "doublet_score")
    }
    purity = purity_of(snapshot, dataset_id, found)
    return {
        "dataset_id": dataset_id,
        "n_cells": len(cells),
        "n_flagged": int(cells["is_flagged"].sum()),
        "flagged": {name: int(cells[name].sum()) for name in FLAGS},
        "medians": medians,
        "states": found.record.states,
        "libraries": list(found.record.libraries),
        "label_origin": snapshot.datasets[dataset_id].label_origin,
        "label_origin_suspected": snapshot.datasets[dataset_id].label_origin_suspected,
        "marker_purity": purity.astype(object).where(purity.notna(), None).to_dict("records"),
    }


# --- measuring ----------------------------------------------------------------------------------------------------


def _measured(snapshot: Snapshot, dataset_id: str) -> tuple[pd.DataFrame, dict[str, object]]:
    record, thresholds = snapshot.datasets[dataset_id], load_thresholds()
    own = snapshot.cells[(snapshot.cells["dataset_id"] == dataset_id).to_numpy()]
    measured = snapshot.measured_genes(dataset_id)
    panel = quality_panel(record.organism if record.organism in shipped_organisms() else "Homo sapiens")
    counts = _panel_counts(snapshot, dataset_id, panel, measured=measured)
    total = own["n_counts"].to_numpy(dtype=np.float64)
    libraries = own["batch"].to_numpy(dtype=object)
    nuclear, nuclear_reason = nuclear_fraction(snapshot.contributed(dataset_id))
    doublets = _doublet_scores(snapshot, own, libraries, measured=measured, record=record)
    has_malat1 = panel.malat1 in measured
    n_coding = len(panel.coding & set(measured))
    is_whole = _is_whole(record, len(measured), thresholds)
    nothing = np.full(len(own), np.nan)
    measures = {
        "n_counts": own["n_counts"].to_numpy(dtype=np.int64),
        "n_genes": own["n_genes"].to_numpy(dtype=np.int64),
        "mt_fraction": _share(counts.mitochondrial, total) if n_coding else nothing,
        "malat1_fraction": _share(counts.malat1, total) if has_malat1 else nothing,
        "nuclear_fraction": nothing if nuclear is None else nuclear,
        "doublet_score": doublets.scores,
    }
    has_whole_mt = is_whole and n_coding >= thresholds.mt_whole_from
    flags = flag_cells(measures, libraries, thresholds, is_whole=is_whole, has_whole_mt=has_whole_mt)
    about: dict[str, object] = {
        "dataset_id": dataset_id,
        "thresholds": thresholds.name,
        "states": {
            "counts": _counts_state(record, len(measured), is_whole=is_whole),
            "mt_fraction": _mt_state(n_coding, record, thresholds),
            "malat1_fraction": _state(has_malat1, "MALAT1 is not measured"),
            "nuclear_fraction": {
                "state": "not_assessable" if nuclear is None else "measured",
                "reason": nuclear_reason,
            },
            "doublet_score": doublets.state,
            "ambient_fraction": {"state": "not_assessable", "reason": _AMBIENT},
        },
        "libraries": doublets.libraries,
    }
    frame = pd.DataFrame(
        {"row": own["row"].to_numpy(dtype=np.int64), "library": libraries, "markers": counts.markers, **measures}
    )
    return pd.concat([frame, flags], axis=1), about


def _panel_counts(snapshot: Snapshot, dataset_id: str, panel: QualityPanel, *, measured: Sequence[str]) -> PanelCounts:
    genes = [gene for gene in measured if gene in panel.genes]
    blocks = [panel.counts(block.counts, genes) for block in snapshot.iter_blocks(dataset_id, genes)] if genes else []
    n_cells = snapshot.datasets[dataset_id].n_cells
    zeros = np.zeros(0 if blocks else n_cells, dtype=np.int64)
    pieces = {
        name: np.concatenate([zeros, *(getattr(block, name) for block in blocks)])
        for name in ("mitochondrial", "malat1", "markers")
    }
    return PanelCounts(**pieces)


def _share(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.where(total > 0, part / np.maximum(total, 1.0), np.nan)


def _is_whole(record: DatasetRecord, n_measured: int, thresholds: Thresholds) -> bool:
    left = record.upstream_fraction_of_counts
    is_left = left is None or left >= thresholds.whole_upstream_from
    return record.matrix_kind is MatrixKind.UMI and is_left and n_measured >= thresholds.whole_min_genes


def _counts_state(record: DatasetRecord, n_measured: int, *, is_whole: bool) -> dict[str, str]:
    if is_whole:
        return {"state": "measured", "reason": ""}
    left = record.upstream_fraction_of_counts
    why = f"{n_measured:,} genes are measured, {record.matrix_kind!s} counts"
    if left is not None and left < 1.0:
        why += f", {left:.2f} of the declared totals left"
    return {"state": "partial", "reason": f"{why}: fixed bounds do not apply, only those of the library"}


def _mt_state(n_coding: int, record: DatasetRecord, thresholds: Thresholds) -> dict[str, str]:
    if not n_coding:
        return {"state": "not_assessable", "reason": "no mitochondrial gene is measured"}
    left = record.upstream_fraction_of_counts
    if n_coding < thresholds.mt_whole_from:
        return {"state": "partial", "reason": f"{n_coding} of 13 protein-coding mitochondrial genes are measured"}
    if left is not None and left < thresholds.whole_upstream_from:
        return {"state": "partial", "reason": f"only {left:.2f} of the counts of a cell are left to divide by"}
    return {"state": "measured", "reason": ""}


def _state(is_measured: bool, why_not: str) -> dict[str, str]:  # noqa: FBT001 - private
    return {"state": "measured", "reason": ""} if is_measured else {"state": "not_assessable", "reason": why_not}


# --- doublets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Doublets:
    scores: np.ndarray
    state: dict[str, str]
    libraries: list[dict[str, object]]


def _doublet_scores(
    snapshot: Snapshot, own: pd.DataFrame, libraries: np.ndarray, *, measured: Sequence[str], record: DatasetRecord
) -> _Doublets:
    """Score each library by itself; those that cannot be assessed say why."""
    settings = load_thresholds().doublet
    scores = np.full(len(own), np.nan)
    refused = ""
    if len(measured) < settings.min_genes_measured:
        refused = f"a panel of {len(measured)} genes"
    elif record.matrix_kind is not MatrixKind.UMI:
        refused = f"{record.matrix_kind!s} counts: two cells do not add up to a doublet of reads"
    rows: list[dict[str, object]] = []
    for library in sorted(set(libraries.tolist())):
        places = np.flatnonzero((libraries == library) & (own["n_counts"].to_numpy() > 0))
        row: dict[str, object] = {"library": library, "n_cells": int((libraries == library).sum())}
        why = refused or (f"under {settings.min_cells} cells" if len(places) < settings.min_cells else "")
        detectable = None
        if not why:
            detectable = _score_library(snapshot, own.index.to_numpy()[places], measured, out=(scores, places))
            why = "" if detectable is not None else "no gene varies beyond sampling"
        rows.append({**row, **_state(not why, why), "detectable_doublet_fraction": detectable})
    n_scored = sum(row["state"] == "measured" for row in rows)
    state = "measured" if n_scored == len(rows) else "partial" if n_scored else "not_assessable"
    reason = refused or ("" if n_scored == len(rows) else f"{n_scored} of {len(rows)} libraries can be assessed")
    return _Doublets(scores=scores, state={"state": state, "reason": reason}, libraries=rows)


def _score_library(
    snapshot: Snapshot, positions: np.ndarray, genes: Sequence[str], *, out: tuple[np.ndarray, np.ndarray]
) -> float | None:
    """Put the scores of one library where they belong and return which share of simulated doublets shows."""
    settings = load_thresholds().doublet
    scores, places = out
    rng = rng_for(settings.seed, "quality", "doublets")
    n_cells = len(positions)
    chosen = np.arange(n_cells)
    if n_cells > settings.max_reference:
        chosen = np.sort(rng.choice(n_cells, size=settings.max_reference, replace=False))
    model = fit_doublets(snapshot.counts(positions[chosen], genes), settings, rng=rng)
    if model is None:
        return None
    place_in_model = np.full(n_cells, -1, dtype=np.int64)
    place_in_model[chosen] = np.arange(len(chosen))
    for start in range(0, n_cells, _BLOCK_CELLS):
        here = slice(start, start + _BLOCK_CELLS)
        counts = snapshot.counts(positions[here], genes)
        scores[places[here]] = model.scores(counts, own=place_in_model[here])
    found = scores[places]
    deviation = 1.4826 * float(np.median(np.abs(found - np.median(found))))
    bound = max(settings.at_least, float(np.median(found)) + settings.n_deviations * deviation)
    return float((model.pair_scores() >= bound).mean())
