"""The page, the terminal and the README: one content, laid out three times.

`ReportContent` is what the flow hands over. Nothing here computes a score.
"""

from cytolabe.report.annotation import render_annotation, write_annotation_page
from cytolabe.report.content import Confusion, PlantedFault, ReportContent, RunFacts, SourceRow
from cytolabe.report.costs import render_costs, write_costs_page
from cytolabe.report.html import MAX_BYTES, render_report, write_report
from cytolabe.report.review_sheet import ReviewSheet, render_review_sheet, write_review_sheet
from cytolabe.report.terminal import (
    faults_table,
    findings_table,
    ladder_tables,
    leaderboard_markdown,
    leaderboard_table,
    sources_table,
    verdict_lines,
)
from cytolabe.report.trained import Fitted, Trained
from cytolabe.report.trained_cells import CellTasksPage, TaskSizes, render_cell_tasks, write_cell_tasks_page
from cytolabe.report.trained_genes import GeneClassesPage, GeneRow, render_gene_classes, write_gene_classes_page

__all__ = [
    "MAX_BYTES",
    "CellTasksPage",
    "Confusion",
    "Fitted",
    "GeneClassesPage",
    "GeneRow",
    "PlantedFault",
    "ReportContent",
    "ReviewSheet",
    "RunFacts",
    "SourceRow",
    "TaskSizes",
    "Trained",
    "faults_table",
    "findings_table",
    "ladder_tables",
    "leaderboard_markdown",
    "leaderboard_table",
    "render_annotation",
    "render_cell_tasks",
    "render_costs",
    "render_gene_classes",
    "render_report",
    "render_review_sheet",
    "sources_table",
    "verdict_lines",
    "write_annotation_page",
    "write_cell_tasks_page",
    "write_costs_page",
    "write_gene_classes_page",
    "write_report",
    "write_review_sheet",
]
