"""Labels of files that are in no atlas: the same reconciliation and the same sheet, with nothing put in force.

Labels can be reviewed before counts are delivered, and of files whose counts are refused. Only the table of cells is read,
or a bare list of labels; counts are neither proven nor looked at. The decisions apply to an atlas later, where data sets have the same ids.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.errors import RefusedError, UnreadableInputError, UsageError
from cytolabe.files import Place
from cytolabe.flow.interpret import ReconcileSummary, export_sheet, reconcile_atlas, summary_of
from cytolabe.flow.label_lists import LIST_SUFFIXES, labels_of_list
from cytolabe.ingest.columns import infer_columns
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.safety import raise_if_unsafe
from cytolabe.ingest.source import open_source, scan_source
from cytolabe.ingest.sources import SourceFile, find_sources, without_clashes
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile import justify_labels, label_table, memory_of, read_import, reconcile_labels
from cytolabe.records import UNKNOWN, Finding, Severity
from cytolabe.snapshot.layout import Layout
from cytolabe.standardize.obs import CellFacts, standardize_cells

__all__ = ["reconcile_files", "reconcile_list", "reconcile_place"]

_NO_LABELS = Finding(
    code="N-LABEL-14",
    severity=Severity.NOTE,
    where="contributor_label",
    message="The atlas holds no labelled cell: nothing is mapped. A file that ingest refused is not in it.",
    remedy="Map the labels of a file that is in no atlas: cytolabe reconcile FILE --export review.tsv.",
    rule="cytolabe/labels",
)
_LABEL_ROLES = ("label", "label_parent", "tissue", "claimed_term")


def reconcile_place(
    place: Place,
    *,
    export: Path | None = None,
    reviewed: Path | None = None,
    imports: Sequence[Path] = (),
    expression: bool = True,
    on_progress: Callable[[str], None] = lambda _: None,
) -> ReconcileSummary:
    """Reconcile an atlas, the labels of a file, folder or manifest that is in none, or a bare list of labels.

    Parameters
    ----------
    place
        An atlas, what ingest takes, or a list of labels (.csv, .tsv).
    export, reviewed, imports, expression, on_progress
        As of `reconcile_atlas`.

    Raises
    ------
    UsageError
        If a reviewed table is given and there is no atlas to put it in force in.
    """
    is_list = isinstance(place, Path) and place.suffix.lower() in LIST_SUFFIXES and place.is_file()
    if not is_list and (not isinstance(place, Path) or Layout(place).marker.exists() or not _holds_sources(place)):
        summary = reconcile_atlas(
            place, export=export, reviewed=reviewed, imports=imports, expression=expression, on_progress=on_progress
        )
        return summary if summary.mappings else dataclasses.replace(summary, findings=(*summary.findings, _NO_LABELS))
    if reviewed is not None:
        msg = f"--apply: {place} is no atlas, so there is nothing to put {reviewed.name} in force in. Ingest it first."
        raise UsageError(msg)
    path = Path(str(place))
    return (
        reconcile_list(path, export=export, imports=imports)
        if is_list
        else reconcile_files([path], export=export, imports=imports)
    )


def _holds_sources(path: Path) -> bool:
    return path.exists() and bool(find_sources([path])[0])


def reconcile_files(
    paths: Sequence[Path], *, export: Path | None = None, imports: Sequence[Path] = ()
) -> ReconcileSummary:
    """Map the labels of files, and write the table for review with its page; nothing else is written.

    Parameters
    ----------
    paths
        What ingest takes: files, folders, a manifest.
    export
        The table for review.
    imports
        Mapping tables of others, for this run.

    Raises
    ------
    UnreadableInputError
        If no file can be read, or an import is none of the kinds that are known.
    """
    told: list[Finding] = []
    sources, findings = find_sources(paths)
    told += findings
    cells = [part for source in without_clashes(sources, told) if (part := _cells_of(source, told)) is not None]
    if not cells:
        msg = f"no labels can be read of {', '.join(path.name for path in paths)}: " + (
            "; ".join(f"{finding.code} {finding.message}" for finding in told[:3]) or "no source of a known format."
        )
        raise UnreadableInputError(msg)
    labels = label_table(pd.concat(cells, ignore_index=True))
    return _drafted(labels, told, title=", ".join(path.stem for path in paths[:3]), export=export, imports=imports)


def reconcile_list(path: Path, *, export: Path | None = None, imports: Sequence[Path] = ()) -> ReconcileSummary:
    """Map a bare list of labels as `reconcile_files` does those of files; there are no cells, and that is said.

    Raises
    ------
    UnreadableInputError
        If the list or an import is no such table.
    RefusedError
        If rows of the list cannot be used.
    """
    labels, finding = labels_of_list(path)
    return _drafted(labels, [finding], title=path.stem, export=export, imports=imports)


def _drafted(
    labels: pd.DataFrame, told: Sequence[Finding], *, title: str, export: Path | None, imports: Sequence[Path]
) -> ReconcileSummary:
    ontology = load_ontology("CL")
    said = [read_import(path, ontology=ontology) for path in imports]
    memory = memory_of([row for rows, _ in said for row in rows], ontology=ontology)
    of_imports = [finding for _, findings in said for finding in findings]
    mappings, label_findings = reconcile_labels(labels, ontology=ontology, memory=memory)
    if export is not None:
        reasons = justify_labels(labels, ontology=ontology, memory=memory)
        export_sheet(export, mappings, title=title, labels=labels, reasons=reasons)
    return summary_of(mappings, (*of_imports, *told, *label_findings))


def _cells_of(source: SourceFile, told: list[Finding]) -> pd.DataFrame | None:
    """Return the columns of one file's cells that labels need, as texts; its findings go to `told`."""
    scan = scan_source(source.path)
    try:
        raise_if_unsafe(scan)
        with open_source(source.path, part=source.manifest.part) as opened:
            roles = infer_columns(opened.cell_table, source.manifest)
            zeros = np.zeros(len(opened.cell_names), dtype=np.int64)
            facts = CellFacts(
                dataset_id=source.dataset_id,
                study=source.manifest.study or source.dataset_id,
                columns={role: column for role, column in roles.columns.items() if role in _LABEL_ROLES},
                constants={role: value for role, value in roles.constants.items() if role in _LABEL_ROLES},
                label_origin=source.manifest.label_origin or UNKNOWN,
                unlabelled=source.manifest.unlabelled,
                cell_totals=zeros,
                cell_genes=zeros,
            )
            cells, _ = standardize_cells(opened.cell_table, opened.cell_names, facts=facts)
    except (RefusedError, UnreadableInputError) as error:
        told.extend([*scan, *findings_of(error)])
        return None
    wanted = cells[["dataset_id", "contributor_label", "label_parent", "tissue", "claimed_term"]]
    return wanted.astype(str)
