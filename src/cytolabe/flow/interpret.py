"""What we make of the contributions of an atlas: label mappings, persons, and the levels that scores speak of.

Interpretations are overlays: they are published as revisions and rewrite no count. A mapping that a person has
reviewed is never overwritten by a later run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cytolabe.config.study import Study
from cytolabe.files import Place
from cytolabe.flow.expression import expression_of_atlas
from cytolabe.flow.overlay_records import Grounds, record_overlay
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.ontology.resolutions import DeclaredLevel, Resolutions, build_resolutions
from cytolabe.ontology.tree import LeftOut, LevelNode, left_out, tree_of
from cytolabe.provenance import artifact_of
from cytolabe.reconcile import (
    DeclaredPerson,
    Justification,
    StudyContext,
    apply_review,
    justify_labels,
    keep_reviewed,
    label_table,
    memory_of,
    read_import,
    read_sssom,
    reconcile_labels,
    release_findings,
    resolve_persons,
    write_sssom,
)
from cytolabe.reconcile.expression import ExpressionEvidence, held_back
from cytolabe.reconcile.open_labels import OPEN_CODES, open_findings
from cytolabe.records import UNKNOWN, Artifact, Finding, LabelMapping, Predicate
from cytolabe.report.review_sheet import ReviewSheet, write_review_sheet
from cytolabe.snapshot.atlas import Atlas, open_atlas
from cytolabe.snapshot.diff import diff_snapshots
from cytolabe.snapshot.overlays import DECIDING
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split import Link

__all__ = [
    "ReconcileSummary",
    "diff_document",
    "export_sheet",
    "import_memory",
    "interpret_labels",
    "interpret_persons",
    "links_of",
    "reconcile_atlas",
    "resolutions_of",
    "resolve_in_force",
    "summary_of",
]

Weigh = Callable[[Sequence[LabelMapping]], tuple[tuple[LabelMapping, ...], tuple[Finding, ...]]]
"""What looks at proposed mappings, and returns them with its findings."""

_DECLARED = "declared"
"""How the evidence of a declared person begins in the table of persons."""


def interpret_labels(
    atlas: Atlas,
    *,
    study: Study | None = None,
    reviewed: Sequence[LabelMapping] = (),
    ontology: Ontology | None = None,
    files: Sequence[Artifact] = (),
    weigh: Weigh | None = None,
) -> tuple[tuple[LabelMapping, ...], tuple[Finding, ...]]:
    """Map the labels of every contribution to the Cell Ontology and put the mappings in force.

    Parameters
    ----------
    atlas
        Its data sets.
    study
        Where given, its `[[context]]` says what the study knows of a label.
    reviewed
        Mappings that a person went over. They win over what the study says, and that over what was reviewed before.
    ontology
        The release to map into; the pinned Cell Ontology where it is not given.
    files
        The files that reviewed and imported mappings came from, for the record of the run.
    weigh
        What is asked last of the mappings, and may hold some of them back.
    """
    release = ontology or load_ontology("CL")
    context = tuple(
        StudyContext(
            dataset_id=item.dataset,
            contributor_label=item.label,
            term=item.term,
            predicate=Predicate(item.predicate),
            evidence=item.evidence,
            reviewer=item.reviewer,
        )
        for item in (study.context if study is not None else ())
    )
    memory = memory_of(atlas.memory(), ontology=release)
    table = label_table(atlas.cells())
    proposed, findings = reconcile_labels(table, ontology=release, context=context, memory=memory)
    in_force = atlas.mappings()
    said = {(item.dataset_id, item.contributor_label) for item in context}
    # One after the other: a person may change what was decided before, and that is no contradiction.
    before = [m for m in in_force if m.decision == "reviewed" and (m.dataset_id, m.contributor_label) not in said]
    kept, kept_findings = keep_reviewed(proposed, before, ontology=release)
    merged, review_findings = apply_review(kept, reviewed, ontology=release)
    merged, weighed_findings = weigh(merged) if weigh is not None else (merged, ())
    changes = release_findings(in_force, merged, ontology=release)
    if merged or in_force:
        before_now = atlas.state.overlays
        after = atlas.put_mappings(merged, message="reconcile labels").overlays
        record_overlay(atlas, "mappings", before=before_now, after=after, rests_on=Grounds(files=files, said=context))
    # A person may have decided meanwhile, and what cells look like may have held labels back.
    settled = (finding for finding in findings if finding.code not in OPEN_CODES)
    return merged, (*settled, *open_findings(merged), *kept_findings, *review_findings, *weighed_findings, *changes)


def interpret_persons(atlas: Atlas, *, study: Study | None = None) -> tuple[Finding, ...]:
    """Resolve donors into persons and put them in force.

    A declaration stays in force where the study, or no study, says nothing about its data set: two donors that were
    declared one person would otherwise fall apart, and stand on both sides of the next split.
    """
    declared = tuple(
        DeclaredPerson(person_id=item.id, dataset_id=item.dataset, donor_id=item.donor, evidence=item.evidence)
        for item in (study.persons if study is not None else ())
    )
    return resolve_in_force(atlas, declared, of_datasets=True)


def resolve_in_force(
    atlas: Atlas,
    declared: Sequence[DeclaredPerson],
    *,
    of_datasets: bool = False,
    files: Sequence[Artifact] = (),
) -> tuple[Finding, ...]:
    """Resolve donors into persons by declarations and those in force, and put them in force.

    `of_datasets` lets the declarations speak for their whole data sets; else only for the donors that they name. `files`
    are those that they came from, for the record of the run.
    """
    cells = atlas.cells()
    in_force = atlas.persons()
    if not of_datasets:
        named = {(person.dataset_id, person.donor_id) for person in declared}
        keys = zip(in_force["dataset_id"], in_force["donor_id"], strict=True)
        in_force = in_force[[key not in named for key in keys]]
    said = {person.dataset_id for person in declared} if of_datasets else set()
    before = _declared_before(in_force, cells, said=said)
    persons, findings = resolve_persons(cells, declared=(*declared, *before))
    before_now = atlas.state.overlays
    after = atlas.put_persons(persons, message="resolve persons").overlays
    record_overlay(atlas, "persons", before=before_now, after=after, rests_on=Grounds(files=files, said=declared))
    return findings


def _declared_before(persons: pd.DataFrame, cells: pd.DataFrame, *, said: set[str]) -> tuple[DeclaredPerson, ...]:
    """Return the declarations in force about donors that are still there, in data sets outside of `said`."""
    there = set(zip(cells["dataset_id"], cells["donor_id"], strict=True))
    return tuple(
        DeclaredPerson(
            person_id=row["person_id"],
            dataset_id=row["dataset_id"],
            donor_id=row["donor_id"],
            evidence=row["evidence"].removeprefix(_DECLARED).removeprefix(": "),
            state=row["person_state"],
        )
        for row in persons.to_dict("records")
        if row["evidence"] == _DECLARED or row["evidence"].startswith(f"{_DECLARED}: ")
        if row["dataset_id"] not in said and (row["dataset_id"], row["donor_id"]) in there
    )


def resolutions_of(snapshot: SnapshotView, *, study: Study | None = None) -> Resolutions:
    """Return the levels that a study declares, or levels chosen from the terms of the snapshot."""
    terms = snapshot.cells["cell_type_ontology_term_id"]
    counts = terms[terms != UNKNOWN].value_counts()
    declared = tuple(
        DeclaredLevel(name=level.name, terms=level.terms, merged=dict(level.merged))
        for level in (study.levels if study is not None else ())
    )
    return build_resolutions(
        {str(term): int(n) for term, n in sorted(counts.items())}, ontology=load_ontology("CL"), declared=declared
    )


def links_of(study: Study) -> tuple[Link, ...]:
    """Return which data sets a study joins because they are not proven to come from other persons."""
    return tuple(
        Link(dataset_a=first, dataset_b=other, reason=joined.reason)
        for joined in study.joined
        for first, other in zip(joined.datasets, joined.datasets[1:], strict=False)
    )


@dataclass(frozen=True, kw_only=True)
class ReconcileSummary:
    """What `cytolabe reconcile` tells. `levels` maps a resolution to its (term, name) pairs.

    `tree` are the same levels as a tree, `left_out` the labels without a class at some level, `ties` each choice between
    classes as (level, term, rule); `levels_digest` is the digest of all of it, which names the release.
    """

    mappings: tuple[LabelMapping, ...]
    findings: tuple[Finding, ...]
    levels: Mapping[str, Sequence[tuple[str, str]]]
    tree: tuple[LevelNode, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    ties: tuple[tuple[str, str, str], ...] = ()
    levels_digest: str = ""

    def count(self, *decisions: str) -> int:
        """Return how many labels have one of the decisions."""
        return sum(mapping.decision in decisions for mapping in self.mappings)


def reconcile_atlas(
    atlas: Place,
    *,
    export: Path | None = None,
    reviewed: Path | None = None,
    imports: Sequence[Path] = (),
    expression: bool = True,
    on_progress: Callable[[str], None] = lambda _: None,
) -> ReconcileSummary:
    """Map the labels of an atlas, apply a reviewed table if there is one, and write the table for review.

    Parameters
    ----------
    atlas
        Where it lies.
    export
        The table for review; a page is written beside it.
    reviewed
        A table that a person went over.
    imports
        Mapping tables of others. They become the atlas's memory, in place of an earlier import of the same name, and help this run and
        later ones; no reviewed row changes through them.
    expression
        Whether counts are read, so that labels whose cells look like another type are held back.
    on_progress
        Told whose counts are read.
    """
    ontology = load_ontology("CL")
    rows = read_sssom(reviewed) if reviewed is not None else ()
    opened = open_atlas(atlas)
    import_findings = import_memory(opened, imports, ontology=ontology)
    files = [artifact_of(path, "imported") for path in imports]
    files += [artifact_of(reviewed, "reviewed")] if reviewed is not None else []
    evidence = ExpressionEvidence()

    def weigh(proposed: Sequence[LabelMapping]) -> tuple[tuple[LabelMapping, ...], tuple[Finding, ...]]:
        nonlocal evidence
        evidence = expression_of_atlas(opened, proposed, ontology=ontology, on_progress=on_progress)
        return held_back(proposed, evidence)

    mappings, findings = interpret_labels(opened, reviewed=rows, files=files, weigh=weigh if expression else None)
    person_findings = interpret_persons(opened)
    if export is not None:
        memory = memory_of(opened.memory(), ontology=ontology)
        labels = label_table(opened.cells())
        reasons = (*justify_labels(labels, ontology=ontology, memory=memory), *evidence.reasons)
        export_sheet(export, mappings, title=opened.path.name, labels=labels, reasons=reasons)
    return summary_of(mappings, (*import_findings, *findings, *person_findings))


def summary_of(mappings: Sequence[LabelMapping], findings: Sequence[Finding]) -> ReconcileSummary:
    """Return mappings and findings with the levels of the terms that are decided, which are those that scores speak of."""
    ontology = load_ontology("CL")
    counts: dict[str, int] = {}
    for mapping in mappings:
        if mapping.term and mapping.decision in DECIDING:
            counts[mapping.term] = counts.get(mapping.term, 0) + mapping.n_cells
    summary = ReconcileSummary(mappings=tuple(mappings), findings=tuple(findings), levels={})
    if not counts:
        return summary
    found = build_resolutions(counts, ontology=ontology)
    return replace(
        summary,
        levels={level.name: [(term, ontology.name(term)) for term in level.terms] for level in found.levels},
        tree=tree_of(found, counts, ontology=ontology),
        left_out=left_out(found, counts, ontology=ontology),
        ties=tuple((level.name, term, rule) for level in found.levels for term, rule in level.ties.items()),
        levels_digest=found.digest,
    )


def import_memory(atlas: Atlas, paths: Sequence[Path], *, ontology: Ontology) -> tuple[Finding, ...]:
    """Put what mapping tables of others say into the atlas's memory; all files are read before anything is changed.

    Raises
    ------
    UnreadableInputError
        If one of them is none of the kinds that are known.
    """
    found = [read_import(path, ontology=ontology) for path in paths]
    replaced = {path.name for path in paths}
    before = atlas.memory()
    rows = [row for row in before if row.source not in replaced]
    rows += [row for said, _ in found for row in said]
    if paths and set(rows) != set(before):
        atlas.put_memory(rows, message=f"import {', '.join(sorted(replaced))}")
    return tuple(finding for _, findings in found for finding in findings)


def export_sheet(
    path: Path, mappings: Sequence[LabelMapping], *, title: str, labels: pd.DataFrame, reasons: Sequence[Justification]
) -> None:
    """Write the table for review, and the same beside it as a page with the suffix `.html`."""
    ontology = load_ontology("CL")
    write_sssom(mappings, path, ontology=ontology, justifications=reasons)
    sheet = ReviewSheet(title=title, mappings=mappings, justifications=reasons, labels=labels, ontology=ontology)
    write_review_sheet(sheet, path.with_suffix(".html"))


def diff_document(atlas: Place, first: str, second: str, *, as_recorded: bool = False) -> dict[str, object]:
    """Return what changed from one snapshot of an atlas to another."""
    opened = open_atlas(atlas)
    found = diff_snapshots(
        opened.snapshot(first, as_recorded=as_recorded), opened.snapshot(second, as_recorded=as_recorded)
    )
    return {
        "before": found.before,
        "after": found.after,
        "datasets_added": list(found.datasets_added),
        "datasets_removed": list(found.datasets_removed),
        "n_cells_added": found.n_cells_added,
        "n_cells_removed": found.n_cells_removed,
        "n_cells_relabeled": found.n_cells_relabeled,
        "n_persons_changed": found.n_persons_changed,
        "relabeled": found.relabeled.to_dict("records"),
    }
