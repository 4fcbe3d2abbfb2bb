"""An atlas of many simulated donors from one real data set of a study: ingest it, read its types, simulate, write.

The real data set goes the way that every contribution goes (counts proven, genes aligned, labels mapped with what the
study knows of them), into an atlas that is thrown away. It has to carry the whole transcriptome and full totals of
proven counts (rule R3): on a panel a rank among all genes would be simulated from what was never measured.

What may not leak, and where it is stopped: the profiles carry the real cells that they were read from, so simulated and
real cells never enter one score (`evaluate.verdicts`). Between simulated donors only the profiles are shared, which is
what a type is; what a held-out donor is like is drawn from streams of its own. Every second real cell is not read, and
what was simulated is held against those.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytolabe.config.study import Study
from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow.contribute import contribute
from cytolabe.flow.interpret import interpret_labels
from cytolabe.flow.study import study_sources
from cytolabe.genes.panels import why_not_ranked
from cytolabe.records import UNKNOWN, DatasetRecord, MatrixKind
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.view import SnapshotView
from cytolabe.testing.donor_files import ProfileSource, write_donors
from cytolabe.testing.donors import DonorDesign, simulate_donors
from cytolabe.testing.type_profiles import is_read, measure_profiles

__all__ = ["simulate_from_study", "why_no_profiles"]


@dataclass(frozen=True, kw_only=True)
class _Real:
    """Positions of the labelled cells of the data set, and their terms; those that may be read, and the others."""

    rows: np.ndarray
    terms: np.ndarray
    is_read: np.ndarray


def simulate_from_study(
    study: Study,
    dataset_id: str,
    out: Path,
    *,
    design: DonorDesign,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Write simulated donors on the profiles of a data set of a study into `out` and return the truth about them.

    Parameters
    ----------
    study
        Says where the data set is, and what is known of its labels.
    dataset_id
        Which one.
    out
        Folder of the files; see `testing.donor_files`.
    design
        Seed, numbers, and how much donors differ.
    on_progress
        Gets one line per step.

    Raises
    ------
    UsageError
        If the study has no such data set.
    RefusedError
        If it was refused, has no whole transcriptome of proven counts, or labels for fewer than two types.
    """
    sources = {source.dataset_id: source for source in study_sources(study)}
    if dataset_id not in sources:
        msg = f"Study {study.name} has no data set {dataset_id!r}; it has {', '.join(sorted(sources))}."
        raise UsageError(msg)
    with tempfile.TemporaryDirectory(prefix="cytolabe-profiles-") as folder:
        atlas = create_atlas(Path(folder) / "atlas")
        (outcome,) = contribute(atlas, [sources[dataset_id]], on_progress=on_progress)
        if outcome.status == "refused":
            codes = ", ".join(sorted({finding.code for finding in outcome.findings}))
            msg = f"{dataset_id} was refused ({codes}), so no profile can be read from it."
            raise RefusedError(msg)
        interpret_labels(atlas, study=study)
        snapshot = atlas.freeze(tag="profiles")
        return _simulated(snapshot, dataset_id, out, design=design, licence=sources[dataset_id].manifest.licence)


def why_no_profiles(record: DatasetRecord, *, n_genes: int) -> str:
    """Return why no profile may be read from a data set, or an empty text (rule R3)."""
    if record.label_origin == "simulated" or record.label_origin_suspected == "simulated":
        return "it is simulated itself"
    if record.matrix_kind is not MatrixKind.UMI:
        return f"its counts are {record.matrix_kind.value}, and profiles are read from proven UMI counts"
    return why_not_ranked(n_genes, record.upstream_fraction_of_counts)


def _simulated(
    snapshot: SnapshotView, dataset_id: str, out: Path, *, design: DonorDesign, licence: str
) -> dict[str, object]:
    record = snapshot.datasets[dataset_id]
    genes = snapshot.measured_genes(dataset_id)
    why = why_no_profiles(record, n_genes=len(genes))
    if why:
        msg = f"{dataset_id} carries no profiles for a simulation (rule R3): {why}."
        raise RefusedError(msg)
    real = _labelled(snapshot, dataset_id)
    names = dict(zip(snapshot.cells["cell_type_ontology_term_id"], snapshot.cells["cell_type"], strict=True))
    counts = snapshot.counts(real.rows, genes)
    try:
        profiles = measure_profiles(counts[real.is_read], real.terms[real.is_read], genes=genes, names=names)
        sites = simulate_donors(profiles, design)
    except ValueError as error:
        msg = f"{dataset_id}: {error}"
        raise RefusedError(msg) from None
    return write_donors(
        out,
        sites,
        profiles=profiles,
        design=design,
        source=ProfileSource(
            dataset_id=dataset_id,
            study=record.study,
            title=record.title,
            source_digest=record.source_digest,
            snapshot_id=snapshot.snapshot_id,
            licence=licence,
        ),
        unread=(counts[~real.is_read], real.terms[~real.is_read]),
    )


def _labelled(snapshot: SnapshotView, dataset_id: str) -> _Real:
    cells = snapshot.cells
    terms = cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    is_own = (cells["dataset_id"] == dataset_id).to_numpy() & (terms != UNKNOWN)
    rows = np.flatnonzero(is_own)
    return _Real(rows=rows, terms=terms[rows], is_read=is_read(cells["cell_id"].iloc[rows].tolist()))
