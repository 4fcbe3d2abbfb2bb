"""How far counts can be traced: the hops that a folder of a pipeline shows, and those of the data sets of an atlas.

Coverage is by cells, never by data sets: a hop of a small data set says little about an atlas. A run accession counts
where it stands in what was declared of the reads or in the name of a file that went in.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files import Place
from cytolabe.ingest.pipelines import Hop, PipelineFacts, read_pipeline
from cytolabe.records import HOPS, UNKNOWN, DatasetRecord, HopState
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.layout import Layout

__all__ = ["TracedAtlas", "facts_of_folder", "has_run_accession", "manifest_fragment", "trace_hops"]

_RUN = re.compile(r"(?<![A-Za-z0-9])[SED]RR[0-9]{5,12}(?![0-9])")


@dataclass(frozen=True, kw_only=True)
class TracedAtlas:
    """Records of the data sets in force, and fractions in [0, 1] of their cells: by hop and state, and with a run accession."""

    records: tuple[DatasetRecord, ...]
    coverage: Mapping[str, Mapping[str, float]]
    run_accession_fraction: float


def facts_of_folder(folder: Path) -> PipelineFacts:
    """Return what the files of a pipeline's folder say.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    if not folder.is_dir():
        msg = f"{folder} is no folder of a pipeline and no atlas. Name the folder that holds its logs."
        raise UsageError(msg)
    return read_pipeline(folder)


def manifest_fragment(facts: PipelineFacts) -> str:
    """Return lines of TOML for a manifest: a key for each hop that is known, a comment for each that is not."""
    return "".join(_line(hop) for hop in facts.hops)


def _line(hop: Hop) -> str:
    # A JSON text is a TOML basic string: both escape quotes, backslashes and control characters alike.
    return f"{hop.hop} = {json.dumps(hop.value, ensure_ascii=False)}\n" if hop.value else f"# {hop.hop}: unknown\n"


def trace_hops(place: Place) -> TracedAtlas | None:
    """Return how far the cells of an atlas can be traced; None where the place is no atlas."""
    if not Layout(place).marker.exists():
        return None
    atlas = open_atlas(place)
    records = tuple(atlas.entry(dataset_id).record for dataset_id in atlas.dataset_ids)
    n_cells = sum(record.n_cells for record in records)
    coverage = {
        hop: {state.value: _share(records, n_cells, partial(_is_in, hop=hop, state=state)) for state in HopState}
        for hop in ("matrix", *HOPS)
    }
    return TracedAtlas(
        records=records, coverage=coverage, run_accession_fraction=_share(records, n_cells, has_run_accession)
    )


def _is_in(record: DatasetRecord, *, hop: str, state: HopState) -> bool:
    return _state(record, hop) == state.value


def _state(record: DatasetRecord, hop: str) -> str:
    return str(record.provenance.get(hop, UNKNOWN))


def has_run_accession(record: DatasetRecord) -> bool:
    """Tell whether a run (SRR, ERR, DRR) is named in what was declared of the reads, or by a file of the pipeline."""
    if _state(record, "reads") == UNKNOWN:
        return False
    return _RUN.search(record.declared.get("reads", "")) is not None or any(
        claim.fact == "run accessions" for claim in record.evidence
    )


def _share(records: tuple[DatasetRecord, ...], n_cells: int, holds: Callable[[DatasetRecord], bool]) -> float:
    return sum(record.n_cells for record in records if holds(record)) / n_cells if n_cells else 0.0
