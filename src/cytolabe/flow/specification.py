"""The specification table: every score of a study under each gene policy, mapping set and refusal setting (rule R16).

A result that holds under one choice only is a result about the choice. Three choices are taken apart here:

* gene policies: all that there are, whatever the study names;
* mapping sets: the mappings in force, exact matches alone, and those that no expression decided. Labels outside of the
  set are unlabelled. Sets that keep the same labels share one evaluation;
* refusals: kept, and overridden. The overridden number is the `raw_value` that was computed anyway.

Ceilings are left out: they say how much is possible, not which choice was made.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.audit.evidence import is_by_expression
from cytolabe.config.study import GENE_POLICIES, Study
from cytolabe.evaluate import evaluate_study
from cytolabe.evaluate.documents import rounded
from cytolabe.evaluate.kept_fits import KEPT_FITS, remove_kept_fits
from cytolabe.files import replace_file
from cytolabe.flow.study import StudyEvidence, plan_of_study, run_study
from cytolabe.ingest.sources import SourceFile
from cytolabe.provenance import canonical_json
from cytolabe.records import UNKNOWN, DatasetRecord, LabelMapping, Predicate, Score
from cytolabe.snapshot.view import SnapshotView

__all__ = ["MAPPING_SETS", "RelabelledView", "relabelled", "run_specification", "specification_rows", "spread_table"]

MAPPING_SETS: Mapping[str, Callable[[LabelMapping], bool]] = {
    "in force": lambda _: True,
    "exact matches": lambda mapping: mapping.predicate is Predicate.EXACT,
    "without expression": lambda mapping: not is_by_expression(mapping),
}
"""Which mappings keep their labels, by the name of the set."""

_WHAT = ("split", "resolution", "model", "metric", "stratum")
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RelabelledView:
    """A snapshot in which some labels count as not mapped; counts and cells are those of `base`."""

    base: SnapshotView
    cells: pd.DataFrame
    mappings: tuple[LabelMapping, ...]

    @property
    def snapshot_id(self) -> str:
        """Of the snapshot behind it: the cells are the same."""
        return self.base.snapshot_id

    @property
    def datasets(self) -> Mapping[str, DatasetRecord]:
        """What each lab delivered."""
        return self.base.datasets

    @property
    def gene_reference(self) -> str:
        """Name of the gene reference."""
        return self.base.gene_reference

    @property
    def ontology_release(self) -> str:
        """Release of the Cell Ontology behind the mappings."""
        return self.base.ontology_release

    def measured_genes(self, dataset_id: str) -> tuple[str, ...]:
        """Return the reference genes that a data set measures."""
        return self.base.measured_genes(dataset_id)

    def counts(self, rows: np.ndarray, genes: Sequence[str]) -> csr_matrix:
        """Return raw counts of positions in `cells`."""
        return self.base.counts(rows, genes)


def run_specification(
    study: Study,
    out: Path,
    *,
    sources: Sequence[SourceFile],
    n_workers: int = 1,
    on_progress: Progress = lambda _: None,
) -> dict[str, object]:
    """Run a study under every specification, write `specification.json` into `out`, and return its document."""
    whole = dataclasses.replace(study, gene_policies=GENE_POLICIES, ceilings=False, override="", limited_labels=None)
    evidence = run_study(whole, out, sources=sources, n_workers=n_workers, on_progress=on_progress)
    document: dict[str, object] = {
        "snapshot_id": evidence.snapshot.snapshot_id,
        "ontology_release": evidence.result.ontology_release,
        "levels_digest": evidence.result.levels_digest,
        "decision_level": study.decision_level,
        "rows": rounded(specification_rows(evidence, n_workers=n_workers, on_progress=on_progress)),
    }
    replace_file(out / "specification.json", canonical_json(document))
    remove_kept_fits(out / KEPT_FITS)
    return document


def specification_rows(
    evidence: StudyEvidence, *, n_workers: int = 1, on_progress: Progress = lambda _: None
) -> list[dict[str, object]]:
    """Return one row per score, mapping set, gene policy and refusal setting; `evidence` covers the mappings in force."""
    results = {_kept(evidence, "in force"): evidence.result.scores}
    rows: list[dict[str, object]] = []
    for name in MAPPING_SETS:
        kept = _kept(evidence, name)
        if kept not in results:
            on_progress(f"mapping set: {name}")
            results[kept] = evaluate_study(
                relabelled(evidence.snapshot, kept),
                split=evidence.split,
                plan=dataclasses.replace(
                    plan_of_study(evidence.study, n_workers=n_workers), flagged_rows=evidence.flagged_rows
                ),
                resolutions=evidence.resolutions,
                duplicates=evidence.duplicates,
                on_progress=on_progress,
            ).scores
        rows += [row for score in results[kept] for row in _rows(score, name)]
    return rows


def relabelled(snapshot: SnapshotView, kept: frozenset[tuple[str, str]]) -> RelabelledView:
    """Return a snapshot in which only the labels of these (data set, label) pairs are mapped."""
    pairs = zip(snapshot.cells["dataset_id"], snapshot.cells["contributor_label"], strict=True)
    is_kept = np.array([pair in kept for pair in pairs], dtype=bool)
    unmapped: dict[str, object] = {
        "cell_type_ontology_term_id": UNKNOWN, "cell_type": UNKNOWN, "mapping_decision": "", "mapping_confidence": 0,
    }  # fmt: skip
    columns = {name: snapshot.cells[name].where(is_kept, value) for name, value in unmapped.items()}
    mappings = tuple(m for m in snapshot.mappings if (m.dataset_id, m.contributor_label) in kept)
    return RelabelledView(base=snapshot, cells=snapshot.cells.assign(**columns), mappings=mappings)


def spread_table(rows: Sequence[Mapping[str, object]], *, level: str) -> pd.DataFrame:
    """Return, per fold and model, the least and the most that macro-F1 is over all specifications of a level.

    Columns: split, model, refusals, n_specifications (those with a number), least, most.
    """
    frame = pd.DataFrame(list(rows))
    chosen = (frame["metric"] == "macro_f1") & (frame["stratum"] == "all") & (frame["resolution"] == level)
    found = frame[chosen].groupby(["split", "model", "refusals"], sort=True)["value"]
    return found.agg(n_specifications="count", least="min", most="max").reset_index()


def _kept(evidence: StudyEvidence, name: str) -> frozenset[tuple[str, str]]:
    keeps = MAPPING_SETS[name]
    mappings = evidence.snapshot.mappings
    return frozenset((m.dataset_id, m.contributor_label) for m in mappings if m.term and keeps(m))


def _rows(score: Score, mapping_set: str) -> list[dict[str, object]]:
    """Return a score with refusals kept and with refusals overridden."""
    shared = {name: getattr(score, name) for name in _WHAT}
    shared |= {"mapping_set": mapping_set, "gene_policy": score.gene_policy, "n_genes": score.n_genes}
    freed = score.value if score.value is not None else score.raw_value
    is_freed = score.value is None and score.raw_value is not None
    return [
        {**shared, "refusals": "kept", "value": score.value, "status": score.status.value, "reason": score.reason},
        {
            **shared,
            "refusals": "overridden",
            "value": freed,
            "status": "QUALIFIED" if is_freed else score.status.value,
            "reason": f"refusal overridden: {score.reason}" if is_freed else score.reason,
        },
    ]
