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

__all__ = [
    "MAX_BYTES",
    "Confusion",
    "PlantedFault",
    "ReportContent",
    "ReviewSheet",
    "RunFacts",
    "SourceRow",
    "faults_table",
    "findings_table",
    "ladder_tables",
    "leaderboard_markdown",
    "leaderboard_table",
    "render_annotation",
    "render_costs",
    "render_report",
    "render_review_sheet",
    "sources_table",
    "verdict_lines",
    "write_annotation_page",
    "write_costs_page",
    "write_report",
    "write_review_sheet",
]
