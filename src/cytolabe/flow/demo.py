"""The demonstration: simulated contributions with planted faults, and whether each of them was caught.

A fault counts as caught only if every finding code that it must raise was reported about its own data sets, and, where
the truth has a number, if the number is right: all copied cells and no other, both files of the shared person on one
side. The run ends with 0 only if all were caught.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from cytolabe.audit import audit_split, donor_claim
from cytolabe.config.study import ModelSpec, Study
from cytolabe.flow.publish import publish_run
from cytolabe.flow.runs import FinishedRun, finished_run
from cytolabe.flow.study import StudyEvidence, run_study
from cytolabe.ingest.sources import SourceFile, find_sources
from cytolabe.provenance import jsonable
from cytolabe.records import Finding, ScoreStatus
from cytolabe.report import PlantedFault
from cytolabe.split import leave_one_group_out
from cytolabe.testing.faults import PlantedFault as Plan
from cytolabe.testing.simulate import SimulatedTruth, simulate_contributions

__all__ = ["DEMO_STUDY", "planted_faults", "run_demo"]

DEMO_STUDY = Study(
    name="demo",
    title="Simulated contributions with planted faults",
    n_seeds=1,
    gene_policies=("intersection",),
    claims=(
        "All cells are simulated: the report shows what Cytolabe does with contributions, and says nothing about biology.",
        "It ranks no model: the simulation has its own idea of what separates cell types.",
    ),
    models=(
        ModelSpec(name="majority"),
        ModelSpec(name="metadata_only"),
        ModelSpec(name="pca"),
        ModelSpec(name="harmony"),
        # A demonstration is not the place to train to convergence; the score says that it was cut short.
        ModelSpec(name="scvi", options={"max_epochs": 15}),
    ),
)
"""What the demonstration runs."""


def run_demo(
    out: Path,
    *,
    study: Study = DEMO_STUDY,
    scale: float = 1.0,
    n_workers: int = 1,
    arranged: Callable[[Sequence[SourceFile]], Sequence[SourceFile]] = tuple,
    on_progress: Callable[[str], None] = lambda _: None,
) -> FinishedRun:
    """Simulate contributions under `out`, run the main job on them, and check every planted fault.

    Parameters
    ----------
    out
        Folder of the results; the simulated files go into `out/contributions`.
    study
        What is run on them; its seed is that of the simulation, too.
    scale
        Multiplies the cells per file.
    n_workers
        Processes that share the work.
    arranged
        Puts the files into the order in which they are handed over; nothing may depend on it.
    on_progress
        Gets one line per step.
    """
    on_progress("simulating contributions")
    truth = simulate_contributions(out / "contributions", seed=study.seed, scale=scale)
    sources, _ = find_sources([out / "contributions"])
    evidence = run_study(study, out, sources=arranged(sources), n_workers=n_workers, on_progress=on_progress)
    planted = planted_faults(evidence, truth)
    finished = finished_run(
        evidence, publish_run(evidence, out, planted=planted, asked={"simulation": {"scale": scale}})
    )
    return dataclasses.replace(
        finished,
        document={**finished.document, "planted_faults": jsonable(planted)},
        exit_code=0 if all(fault.caught for fault in planted) else 1,
    )


def planted_faults(evidence: StudyEvidence, truth: SimulatedTruth) -> tuple[PlantedFault, ...]:
    """Return, for each planted fault, whether it was caught and by what."""
    naive = leave_one_group_out(evidence.snapshot, by=("dataset",))
    leaks = audit_split(evidence.snapshot, naive, duplicates=evidence.duplicates)
    by_dataset = {outcome.dataset_id: outcome.findings for outcome in evidence.outcomes}
    shared = (*evidence.findings, *leaks)
    return tuple(_judged(plan, evidence, truth, findings=_about(plan, by_dataset, shared)) for plan in truth.faults)


def _about(plan: Plan, by_dataset: dict[str, tuple[Finding, ...]], shared: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings that speak of the data sets of a fault: their own, and the atlas-wide ones that name them."""
    own = [finding for name in plan.dataset_ids for finding in by_dataset.get(name, ())]
    texts = {id(f): f"{f.where} {f.message} {' '.join(f.examples)}" for f in shared}
    return (*own, *(f for f in shared if any(name in texts[id(f)] for name in plan.dataset_ids)))


def _judged(
    plan: Plan, evidence: StudyEvidence, truth: SimulatedTruth, *, findings: tuple[Finding, ...]
) -> PlantedFault:
    found = {finding.code: finding for finding in reversed(findings)}
    missing = [code for code in plan.expected_codes if code not in found]
    wrong = _CHECKS[plan.name](plan, evidence, truth) if plan.name in _CHECKS else ""
    if missing or wrong:
        reasons = [f"not reported: {', '.join(missing)}"] if missing else []
        return PlantedFault(title=plan.title, caught=False, how="; ".join([*reasons, wrong] if wrong else reasons))
    how = "; ".join(f"{code} {found[code].message}" for code in plan.expected_codes)
    return PlantedFault(title=plan.title, caught=True, how=how)


def _refused_sources(plan: Plan, evidence: StudyEvidence, _: SimulatedTruth) -> str:
    status = {outcome.dataset_id: outcome.status for outcome in evidence.outcomes}
    let_in = [name for name in plan.dataset_ids if status.get(name) != "refused"]
    return f"let in: {', '.join(let_in)}" if let_in else ""


def _all_copies(_: Plan, evidence: StudyEvidence, truth: SimulatedTruth) -> str:
    pairs = evidence.duplicates.pairs
    found = {frozenset(pair) for pair in zip(pairs["cell_a"], pairs["cell_b"], strict=True)}
    planted = {frozenset(pair) for pair in truth.duplicates}
    if found == planted:
        return ""
    return (
        f"{len(planted - found)} planted pair(s) were not found, {len(found - planted)} found pair(s) were not planted"
    )


def _on_one_side(plan: Plan, evidence: StudyEvidence, _: SimulatedTruth) -> str:
    datasets = evidence.snapshot.cells["dataset_id"].to_numpy(dtype=object)
    for fold in evidence.split.folds:
        held_out = set(datasets[fold.test_rows]) & set(plan.dataset_ids)
        if held_out and held_out != set(plan.dataset_ids):
            return f"{fold.split_id} holds out {', '.join(sorted(held_out))} alone"
    return ""


def _claim_refused(plan: Plan, evidence: StudyEvidence, _: SimulatedTruth) -> str:
    cells = evidence.snapshot.cells
    inside = cells[cells["dataset_id"].isin(plan.dataset_ids)]
    # Every second person of each level is held out, so that nothing but the nesting can refuse the claim.
    persons = inside.groupby(["disease", "person_id"]).size().index.to_frame(index=False)
    odd = persons[persons.groupby("disease").cumcount() % 2 == 1]["person_id"]
    held_out = inside["person_id"].isin(odd)
    verdict = donor_claim(
        cells,
        factor="disease",
        train_rows=inside.index[~held_out].to_numpy(),
        test_rows=inside.index[held_out].to_numpy(),
    )
    if verdict.status is ScoreStatus.REFUSED and "determined by" in verdict.reason:
        return ""
    return f"the disease claim was {verdict.status}: {verdict.reason}"


_CHECKS: dict[str, Callable[[Plan, StudyEvidence, SimulatedTruth], str]] = {
    "normalized_as_raw": _refused_sources,
    "duplicated_cells": _all_copies,
    "donor_on_both_sides": _on_one_side,
    "disease_nested_in_platform": _claim_refused,
}
"""What must hold beside the codes: an empty text if it does, else what is wrong."""
