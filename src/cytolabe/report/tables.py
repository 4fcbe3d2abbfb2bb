"""Report content as rows of text: the one place that decides which columns a reader sees.

The page, the terminal and the README print the same tables. A table says in one `note` what holds for all of its rows
(why there are no intervals, what a column hides), so that no cell has to repeat it. Bad news comes first: refused
files before accepted ones, errors before warnings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cytolabe.records import UNKNOWN, Finding, LabelMapping, Severity
from cytolabe.report.content import ReportContent, SourceRow
from cytolabe.report.grouping import shape_of, spanning
from cytolabe.report.text import anything, count, counted, fraction, inert
from cytolabe.snapshot.access import access_of

__all__ = [
    "Cell",
    "Column",
    "Table",
    "artifacts_table",
    "cut",
    "findings_table",
    "levels_table",
    "mappings_table",
    "open_labels_table",
    "planted_faults_table",
    "provenance_table",
    "row_groups",
    "sources_table",
    "toned",
]


@dataclass(frozen=True)
class Cell:
    """One text; `tone` is `good`, `warn`, `bad`, `muted` or empty; `detail` is a second, smaller line."""

    text: str
    tone: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Column:
    """A heading; `kind` is `text`, `prose` (wide), `number`, `status` or `code`."""

    heading: str
    kind: str = "text"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a caption. `n_left_out` counts rows that were cut, `source` names what has all of them.

    `note` is one sentence on how to read the table; `remarks` hold for all of its rows, and the numbered `notes` for
    the rows whose cells refer to them. `is_grouped` lets consecutive rows with one first cell share it.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    remarks: tuple[str, ...] = ()
    notes: tuple[tuple[int, str], ...] = ()
    is_grouped: bool = False
    n_left_out: int = 0
    source: str = "scores.json"


STATUS_TONES: Mapping[str, str] = {
    "SCORED": "good",
    "QUALIFIED": "warn",
    "REFUSED": "bad",
    "FAILED": "bad",
    "NOT_RUN": "muted",
    "accepted": "good",
    "refused": "bad",
    "unchanged": "muted",
    "error": "bad",
    "warning": "warn",
    "note": "muted",
    "auto": "good",
    "reviewed": "good",
    "review": "warn",
    "abstained": "bad",
    "reserved": "muted",
    "in": "bad",
    "out": "good",
    "unknown": "warn",
    "caught": "good",
    "missed": "bad",
    "possible": "good",
}
"""Word -> tone. The word is always printed: color only repeats it."""

_SOURCE_ORDER = {"refused": 0, "accepted": 1, "unchanged": 2}
_SEVERITY_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
_DECISION_ORDER = {"abstained": 0, "review": 1, "auto": 2, "reviewed": 3, "reserved": 4}


def toned(word: str, detail: str = "") -> Cell:
    """Return a status word with its tone."""
    return Cell(word, STATUS_TONES.get(word, ""), detail)


def cut(table: Table, n_rows: int) -> Table:
    """Return a table of at most `n_rows` rows that says how many it left out."""
    if len(table.rows) <= n_rows:
        return table
    return replace(table, rows=table.rows[:n_rows], n_left_out=table.n_left_out + len(table.rows) - n_rows)


def row_groups(table: Table) -> tuple[int, ...]:
    """Return for each row how many rows its first cell spans: 1 in a plain table, 0 where the row above has it."""
    if not table.is_grouped:
        return (1,) * len(table.rows)
    spans: list[int] = []
    start = 0
    for position, row in enumerate(table.rows):
        if position and row[0] == table.rows[start][0]:
            spans[start] += 1
            spans.append(0)
        else:
            start = position
            spans.append(1)
    return tuple(spans)


def sources_table(content: ReportContent) -> Table:
    """Return one row per offered file, the refused ones first."""
    ordered = sorted(content.sources, key=lambda row: (_SOURCE_ORDER.get(row.status, 3), row.source))
    return Table(
        key="files",
        caption="Files that were offered",
        columns=(
            Column("File"),
            Column("Status", "status"),
            Column("What was found", "prose"),
            Column("Cells", "number"),
            Column("Genes", "number"),
            Column("Counts on known genes", "number"),
        ),
        rows=tuple(_source_cells(row) for row in ordered),
        note="“Counts on known genes” is the share of all non-spike-in counts that map onto the gene reference; "
        "it cannot see genes that were removed before the file was made.",
        source="evidence.json",
    )


def _source_cells(row: SourceRow) -> tuple[Cell, ...]:
    worst = sorted(row.findings, key=lambda finding: (_SEVERITY_ORDER[finding.severity], finding.code))
    refused = row.status == "refused"
    why = Cell("nothing found", "muted")
    weighty = [finding for finding in worst if finding.severity is not Severity.NOTE]
    if weighty or (worst and refused):
        finding = worst[0]
        more = f" ({counted(len(weighty) - 1, 'more warning')} in the findings)" if len(weighty) > 1 else ""
        why = Cell(
            f"{finding.code}: {inert(finding.message, 400)}{more}", detail=f"Remedy: {inert(finding.remedy, 400)}"
        )
    elif refused:
        why = Cell("refused without a finding: this is a defect of the run", "bad")
    read = row.n_cells > 0
    return (
        Cell(inert(row.source), detail=inert(row.dataset_id)),
        toned(row.status),
        why,
        Cell(count(row.n_cells) if read else anything(None)),
        Cell(count(row.n_genes) if read else anything(None)),
        Cell(fraction(row.genes_mapped_fraction_of_counts)),
    )


def findings_table(content: ReportContent) -> Table:
    """Return every finding of every file and of the run, errors first.

    Findings of one code that say the same of several files are one row, with the files and how much of each is affected.
    """
    named = [(row.source, finding) for row in content.sources for finding in row.findings]
    named += [("whole run", finding) for finding in content.findings]
    named.sort(key=lambda pair: (_SEVERITY_ORDER[pair[1].severity], pair[1].code, pair[0], pair[1].where))
    groups: dict[tuple[str, tuple[str, ...], str], list[tuple[str, Finding]]] = {}
    for source, finding in named:
        groups.setdefault((finding.code, shape_of(finding.message), finding.remedy), []).append((source, finding))
    return Table(
        key="findings",
        caption="Findings",
        columns=(
            Column("Code", "code"),
            Column("Severity", "status"),
            Column("What", "prose"),
            Column("Remedy", "prose"),
            Column("File, place and how much of it", "prose"),
        ),
        rows=tuple(_finding_cells(group) for group in groups.values()),
        note="An error refuses, a warning qualifies, a note informs. “cytolabe explain CODE” tells more.",
        source="evidence.json",
    )


def _finding_cells(group: Sequence[tuple[str, Finding]]) -> tuple[Cell, ...]:
    first = group[0][1]
    message = spanning([finding.message for _, finding in group])
    # An example that the message already tells is not told twice.
    examples = [text for _, finding in group for text in finding.examples[:5] if text not in finding.message]
    told = ", ".join(inert(example, 60) for example in list(dict.fromkeys(examples))[:5])
    return (
        Cell(first.code),
        toned(first.severity.value),
        Cell(inert(message, 500), detail=f"e.g. {told}" if told else ""),
        Cell(inert(first.remedy, 500)),
        Cell("; ".join(_place(source, finding) for source, finding in group)),
    )


def _place(source: str, finding: Finding) -> str:
    """Return the file, the place in it, and how many of its parts are affected."""
    place = "" if finding.where in {"", source} else f", {inert(finding.where, 80)}"
    affected = ""
    if finding.n_affected or finding.n_total:
        affected = f" ({count(finding.n_affected)}{f' of {count(finding.n_total)}' if finding.n_total else ''})"
    return f"{inert(source, 80)}{place}{affected}"


def mappings_table(content: ReportContent) -> Table:
    """Return what became of each contributor label: abstentions and open questions first."""
    ordered = sorted(
        content.mappings,
        key=lambda row: (_DECISION_ORDER.get(row.decision, 5), row.dataset_id, -row.n_cells, row.contributor_label),
    )
    return Table(
        key="labels",
        caption="What the labs wrote, and what it was taken to mean",
        columns=(
            Column("Data set"),
            Column("Label of the lab"),
            Column("Cell Ontology term"),
            Column("Decision", "status"),
            Column("Confidence", "number"),
            Column("Cells", "number"),
            Column("Evidence"),
        ),
        rows=tuple(_mapping_cells(row) for row in ordered),
        note="Confidence is the mapper's own probability of being right. Nothing below its threshold is used: "
        "those cells stay unlabeled until a person decides.",
        source="the SSSOM table",
        is_grouped=True,
    )


def open_labels_table(content: ReportContent) -> Table:
    """Return the labels that wait for a person: abstained, or not sure enough to be used."""
    waiting = [row for row in content.mappings if row.decision in {"abstained", "review"}]
    table = mappings_table(replace(content, mappings=waiting))
    return replace(table, key="open_labels", caption="Labels that wait for a person")


def _mapping_cells(row: LabelMapping) -> tuple[Cell, ...]:
    term = Cell(inert(row.term_name), detail=inert(row.term)) if row.term else Cell("no term", "muted")
    evidence = inert(row.evidence or row.comment or row.justification, 200)
    return (
        Cell(inert(row.dataset_id)),
        Cell(inert(row.contributor_label)),
        term,
        toned(row.decision),
        Cell(fraction(row.confidence / 1000) if row.term else anything(None)),
        Cell(count(row.n_cells)),
        Cell(evidence, detail=f"reviewed by {inert(row.reviewer)}" if row.reviewer else ""),
    )


def levels_table(content: ReportContent) -> Table:
    """Return the classes of each resolution, coarse to fine."""
    rows = tuple(
        (
            Cell(inert(level), detail="headline level" if level == content.decision_level else ""),
            Cell(count(len(terms))),
            Cell(", ".join(inert(name, 60) for _, name in terms)),
        )
        for level, terms in content.levels.items()
    )
    return Table(
        key="levels",
        caption="Levels of the cell-type hierarchy",
        columns=(Column("Level"), Column("Classes", "number"), Column("Names", "prose")),
        rows=rows,
        note="Cells whose label is coarser than a level are left out there and counted, never called right or wrong.",
    )


def planted_faults_table(content: ReportContent) -> Table:
    """Return each planted fault: missed ones first."""
    rows = tuple(
        (Cell(inert(fault.title, 200)), toned("caught" if fault.caught else "missed"), Cell(inert(fault.how, 400)))
        for fault in sorted(content.planted_faults, key=lambda fault: fault.caught)
    )
    return Table(
        key="faults",
        caption="Faults that were planted on purpose",
        columns=(Column("Planted fault"), Column("Result", "status"), Column("How", "prose")),
        rows=rows,
        note="These data are simulated: the truth is known, and so is every defect that was put in.",
        source="evidence.json",
    )


def provenance_table(content: ReportContent) -> Table:
    """Return where each data set comes from, hop by hop."""
    hops = sorted({hop for dataset in content.datasets for hop in dataset.provenance})
    rows = tuple(
        (
            Cell(inert(dataset.dataset_id), detail=inert(dataset.title)),
            Cell(dataset.matrix_kind.value, detail=inert(dataset.matrix)),
            Cell(count(dataset.n_cells)),
            Cell(inert(dataset.label_origin)),
            Cell(_columns(dataset.columns, dataset.inferred)),
            Cell(fraction(dataset.upstream_fraction_of_counts)),
            Cell(access_of(dataset)),
            *(
                Cell(str(dataset.provenance.get(hop, UNKNOWN)), detail=inert(dataset.declared.get(hop, ""), 300))
                for hop in hops
            ),
        )
        for dataset in content.datasets
    )
    return Table(
        key="provenance",
        caption="Accepted data sets, and how far each can be traced",
        columns=(
            Column("Data set"),
            Column("Values proven to be"),
            Column("Cells", "number"),
            Column("Labels made by"),
            Column("Columns used"),
            Column("Counts kept upstream", "number"),
            Column("Access"),
            *(Column(f"{hop.capitalize()}") for hop in hops),
        ),
        rows=rows,
        note="verified = checked here; declared = the contributor said so; recovered = computed back from transformed "
        "values; unknown = nobody said. A dash under “counts kept upstream” means that no declared total allows a check.",
        source="the atlas",
    )


def _columns(columns: Mapping[str, str], inferred: Sequence[str]) -> str:
    parts = [f"{role}: {columns[role]}{' (inferred)' if role in inferred else ''}" for role in sorted(columns)]
    return inert("; ".join(parts), 300) or "none"


def artifacts_table(content: ReportContent) -> Table:
    """Return the files beside the report, by digest."""
    return Table(
        key="artifacts",
        caption="Files of this run",
        columns=(Column("File"), Column("SHA-256", "code")),
        rows=tuple((Cell(inert(name)), Cell(inert(digest, 80))) for name, digest in content.artifacts),
        note="“cytolabe verify” recomputes them; “cytolabe trace” follows a number back by its score_id in scores.json.",
        source="run.json",
    )
