"""How far back the cells of a number reach: matrix, alignment, reference, kit and reads, each with its state.

A hop is `verified` where the platform proved it itself, `recovered` where it found it by computing (counts under a
normalization), `declared` where somebody said so, `unknown` where nobody did. Coverage counts cells and never files: a
small file with a perfect history does not stand for a large one without any.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolabe.flow.provenance import has_run_accession
from cytolabe.records import HOPS, DatasetRecord, HopEvidence, HopState

__all__ = ["HOPS_BACK", "Coverage", "Hop", "coverage_of", "hops_of"]

HOPS_BACK = ("matrix", *HOPS)
"""From the matrix back to the raw reads."""

_STUDY = re.compile(
    r"\b([SED]R[APSX]\d{5,}|PRJ(NA|EB|DB)\d+|SAM(N|EA|D)\d+|GS[EM]\d+|E-[A-Z]{4}-\d+|EGA[DS]\d{11}|phs\d{6})\b"
)


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One step back from a matrix; `told` is what was said of it, `evidence` what files of the pipeline say."""

    name: str
    state: HopState
    told: str
    evidence: tuple[HopEvidence, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of `n_cells` cells, how many reach what. `by_hop` has per hop the cells in each state.

    `reads_verified` are cells whose reads were compared by digest, `run_accession` those whose reads are named by a run
    (SRR, ERR, DRR), `study_accession` those that only name a study, sample or experiment.
    """

    n_cells: int
    by_hop: Mapping[str, Mapping[str, int]]
    run_accession: int
    study_accession: int
    reads_verified: int

    @property
    def sentence(self) -> str:
        """Return the coverage in one line."""
        if not self.n_cells:
            return "no cell, so nothing to reach back from"
        run, study, exact = (
            _percent(n, self.n_cells) for n in (self.run_accession, self.study_accession, self.reads_verified)
        )
        return (
            f"{run} of {self.n_cells:,} cells reach a run accession, {study} only an accession of a study or sample; "
            f"of {exact} the reads were verified by digest"
        )


def hops_of(record: DatasetRecord) -> tuple[Hop, ...]:
    """Return the hops of a data set from its matrix back; a hop that its record does not know is unknown."""
    names = [*HOPS_BACK, *(name for name in record.provenance if name not in HOPS_BACK)]
    told = {"matrix": f"{record.matrix}: {record.matrix_kind}", **record.declared}
    return tuple(
        Hop(
            name=name,
            state=record.provenance.get(name, HopState.UNKNOWN),
            told=told.get(name, ""),
            evidence=tuple(claim for claim in record.evidence if claim.hop == name),
        )
        for name in names
    )


def coverage_of(records: Mapping[str, DatasetRecord], n_cells: Mapping[str, int]) -> Coverage:
    """Return how far the cells of some data sets reach back; a data set without a record reaches nothing."""
    by_hop: dict[str, dict[str, int]] = {}
    runs = studies = verified = 0
    for dataset_id, n in n_cells.items():
        record = records.get(dataset_id)
        hops = hops_of(record) if record is not None else _nothing_known()
        for hop in hops:
            states = by_hop.setdefault(hop.name, dict.fromkeys((str(state) for state in HopState), 0))
            states[str(hop.state)] += n
        reads = next(hop for hop in hops if hop.name == "reads")
        has_run = record is not None and has_run_accession(record)
        runs += n if has_run else 0
        is_known = reads.state is not HopState.UNKNOWN
        studies += n if is_known and not has_run and _STUDY.search(reads.told) else 0
        verified += n if reads.state is HopState.VERIFIED else 0
    return Coverage(
        n_cells=sum(n_cells.values()),
        by_hop=by_hop,
        run_accession=runs,
        study_accession=studies,
        reads_verified=verified,
    )


def _nothing_known() -> Sequence[Hop]:
    return [Hop(name=name, state=HopState.UNKNOWN, told="") for name in HOPS_BACK]


def _percent(n: int, total: int) -> str:
    """Return a share in percent; what is not nothing never reads as 0 %, and what is not everything never as 100 %."""
    share = 100 * n / total
    if 0 < share < 1:
        return "under 1 %"
    return "over 99 %" if 99 < share < 100 else f"{share:.0f} %"
