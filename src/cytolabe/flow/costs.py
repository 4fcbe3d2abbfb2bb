"""`costs.json` and `costs.html`: what the fits of a run cost, outside of everything that two runs share.

They are no outputs in the record of a run: no digest is over them, and to lose them changes no number.
"""

import dataclasses
from pathlib import Path

from cytolabe.evaluate.costs import StudyCosts
from cytolabe.evaluate.documents import rounded
from cytolabe.files import replace_file
from cytolabe.provenance import canonical_json
from cytolabe.report import ReportContent, write_costs_page

__all__ = ["COSTS_FILE", "COSTS_PAGE", "costs_document", "write_costs"]

COSTS_FILE = "costs.json"
COSTS_PAGE = "costs.html"


def write_costs(content: ReportContent, costs: StudyCosts, out: Path) -> None:
    """Write both files beside the report."""
    replace_file(out / COSTS_FILE, canonical_json(costs_document(costs, content.snapshot_id)))
    write_costs_page(content, costs, out / COSTS_PAGE)


def costs_document(costs: StudyCosts, snapshot_id: str) -> dict[str, object]:
    """Return the document of `costs.json`: the machine, and one row per fit in the order in which they ran."""
    return {
        "snapshot_id": snapshot_id,
        "machine": dict(costs.machine),
        "n_workers": costs.n_workers,
        "rows": [rounded(dataclasses.asdict(row)) for row in costs.rows],
    }
