"""The page of a training of classes of genes: whether held-out genes are told better than by a random network or by their abundance.

Genes are the unit: each was answered by a network that never saw its label. What the page counts are genes, and the
intervals are over groups of genes. The network in the folder is fitted to all labels and has no score of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytolabe.evaluate.cell_tasks import Gain
from cytolabe.evaluate.rare_types import RareType
from cytolabe.files import replace_file
from cytolabe.records import Score
from cytolabe.report.content import Confusion, ReportContent
from cytolabe.report.figures import score_figure
from cytolabe.report.leaderboard import score_cell
from cytolabe.report.matrices import MatrixWords, confusion_figure, mistakes_sentence
from cytolabe.report.remarks import remarks_of
from cytolabe.report.tables import Cell, Column, Table, artifacts_table, cut, toned
from cytolabe.report.text import ABSENT, count, counted, fraction, inert, number
from cytolabe.report.trained import Answered, Trained, compared, gain_cell, render_training, stands, told_score

__all__ = ["GeneClassesPage", "GeneRow", "render_gene_classes", "write_gene_classes_page"]

_WORDS = MatrixWords(unit="gene", kind="class", kinds="classes", place="question")
_GUIDE = ("Macro-F1", "Accuracy", "Gain over a control", "Held-out genes", "Confusion matrix")
_MOST_ROWS = 500
_CONTROLS = {
    "random": "a network of the same shape with random weights", "abundance": "the floor of abundance",
    "majority": "the answer that is always the largest class",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GeneRow:
    """One way to tell genes: macro-F1 (with floor and interval), accuracy, AUROC, F1 by class, macro-F1 by fold, and the gain over it."""

    macro_f1: Score
    accuracy: float
    auroc: float | None
    auroc_bounds: tuple[float, float] | None
    class_f1: Mapping[str, float | None]
    by_fold: Sequence[float]
    gain: Gain | None

    @property
    def name(self) -> str:
        """Name of the model or control."""
        return self.macro_f1.model


@dataclass(frozen=True, kw_only=True)
class GeneClassesPage:
    """What the page is made of; the first of `rows` is the model. `classes` are class -> genes, `left_out` reason -> genes."""

    content: ReportContent
    split: str
    rows: Sequence[GeneRow]
    n_genes: int
    n_folds: int
    n_cells: int
    classes: Mapping[str, int]
    left_out: Mapping[str, Sequence[str]]
    confusions: Sequence[Confusion]
    failures: Sequence[RareType]
    population: str
    trained: Trained


def write_gene_classes_page(page: GeneClassesPage, path: Path) -> None:
    """Write the page; a reader of `path` sees the old one or the whole new one."""
    replace_file(path, render_gene_classes(page).encode("utf-8"))


def render_gene_classes(page: GeneClassesPage) -> str:
    """Return the page."""
    scores = {row.name: row.macro_f1 for row in page.rows}
    return render_training(
        "trained_genes.html.j2",
        trained=page.trained,
        guide=_GUIDE,
        content=page.content,
        split=page.split,
        asked=page,
        artifacts=replace(artifacts_table(page.content), note=""),
        answer=_answered(page),
        figure=score_figure(scores, "Macro-F1 over held-out genes"),
        board=_board(page),
        classes=cut(_classes_table(page), _MOST_ROWS),
        failures=cut(_failures_table(page), _MOST_ROWS),
        folds=_folds_table(page),
        left_out=_left_out_table(page),
        matrices=[(confusion_figure(one, words=_WORDS), f"{inert(one.model, 60)}. {mistakes_sentence(one, words=_WORDS)}") for one in page.confusions],
    )  # fmt: skip


def _answered(page: GeneClassesPage) -> Answered:
    own, *controls = page.rows
    against = {_CONTROLS.get(row.name, inert(row.name)): row.gain for row in controls}
    details = [compared(gain, what) for what, gain in against.items()]
    if not any(row.name == "random" for row in controls):
        details += ["no network with random weights stands beside it"]
    return Answered(
        name="Held-out genes", status=own.macro_f1.status.value, stands=stands(against),
        told=f"{told_score(own.macro_f1)}; accuracy {number(own.accuracy)}", details=tuple(details),
    )  # fmt: skip


def _board(page: GeneClassesPage) -> Table:
    remarks = remarks_of({row.name: row.macro_f1 for row in page.rows})
    rows = tuple(
        (
            Cell(inert(row.name), detail=row.macro_f1.protocol.value.replace("_", " ")), score_cell(row.macro_f1),
            Cell(number(row.accuracy)), Cell(number(row.auroc), detail=_bounds(row.auroc_bounds)), Cell(number(row.macro_f1.floor)),
            gain_cell(row.gain) if place else Cell(ABSENT, "muted"), toned(row.macro_f1.status.value, remarks.short[row.name]),
        )
        for place, row in enumerate(page.rows)
    )  # fmt: skip
    brackets = (
        f"Square brackets: 95 % interval over whole groups of genes ({inert(page.population, 300)})."
        if page.population
        else "Under 20 groups of genes there is no interval: nothing says how far these numbers vary."
    )
    return Table(
        key="genes",
        caption=f"{counted(page.n_genes, 'held-out gene')}, each answered once · {counted(page.n_folds, 'fold')}",
        columns=(
            Column("Told by"), Column("Macro-F1", "number"), Column("Accuracy", "number"), Column("AUROC", "number"),
            Column("Floor", "number"), Column(f"{inert(page.rows[0].name)} minus this", "number"), Column("Status", "status"),
        ),
        rows=rows,
        remarks=(*remarks.sentences, brackets),
        notes=remarks.notes,
        note="Floor: the higher of abundance (how often and how high a gene stands) and the largest class. AUROC: mean over classes, each against the rest.",
        source="gene_scores.json",
    )  # fmt: skip


def _bounds(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def _classes_table(page: GeneClassesPage) -> Table:
    ordered = sorted(page.classes.items(), key=lambda item: (-item[1], item[0]))
    return Table(
        key="classes",
        caption="F1 of each class",
        columns=(
            Column("Class"), Column("Genes", "number"), Column("Share", "number"),
            *(Column(inert(row.name), "number") for row in page.rows),
        ),
        rows=tuple(
            (
                Cell(inert(name)), Cell(count(size), detail="under 10" if size < 10 else ""), Cell(fraction(size / page.n_genes)),
                *(Cell(number(row.class_f1.get(name))) for row in page.rows),
            )
            for name, size in ordered
        ),
        source="gene_scores.json",
    )  # fmt: skip


def _failures_table(page: GeneClassesPage) -> Table:
    """Return what genes of each class were called instead, the class with the lowest recall first."""
    rows = tuple(
        (
            Cell(inert(one.name)), Cell(inert(one.model)), Cell(count(one.n_cells)),
            Cell(number(one.recall), "" if one.n_right else "bad", "" if one.n_right else "none right"),
            Cell("; ".join(f"{inert(other.name, 80)} {count(other.n_cells)}" for other in one.called_instead) or ABSENT),
        )
        for one in page.failures
    )  # fmt: skip
    return Table(
        key="failures",
        caption="What the genes of each class were called instead",
        columns=(
            Column("Class"), Column("Told by"), Column("Genes", "number"), Column("Recall", "number"), Column("Called instead (genes)", "prose"),
        ),
        rows=rows,
        note="Of each class the three commonest wrong answers; every gene with every answer stands in genes.tsv.",
        is_grouped=True,
        source="genes.tsv",
    )  # fmt: skip


def _folds_table(page: GeneClassesPage) -> Table:
    return Table(
        key="folds",
        caption="Macro-F1 of each fold of genes",
        columns=(Column("Told by"), *(Column(f"Fold {place + 1}", "number") for place in range(page.n_folds))),
        rows=tuple((Cell(inert(row.name)), *(Cell(number(value)) for value in row.by_fold)) for row in page.rows),
        source="gene_scores.json",
    )


def _left_out_table(page: GeneClassesPage) -> Table:
    words = {
        "unknown": "the reference has no such gene", "ambiguous": "the name is that of several genes",
        "without_token": "no token in the dictionary", "never_detected": "no cell that was read has it",
    }  # fmt: skip
    rows = tuple(
        (Cell(words.get(why, inert(why))), Cell(count(len(names))), Cell(inert(", ".join(names), 400)))
        for why, names in page.left_out.items()
        if names
    )
    return Table(
        key="left_out",
        caption="Genes of the table that were not scored",
        columns=(Column("Why"), Column("Genes", "number"), Column("Which", "prose")),
        rows=rows,
        source="gene_scores.json",
    )
