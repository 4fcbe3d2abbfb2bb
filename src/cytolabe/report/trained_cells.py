"""The page of a training of several questions about cells: for each question, whether the network stands above its controls.

Each task is laid out as a study lays out a level: the same tables, figures and words, from rows of scores. Beside every
control stands how much higher the network of all tasks is, paired by donor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from cytolabe.evaluate.cell_tasks import Gain
from cytolabe.evaluate.plan import FLOOR_MODELS
from cytolabe.files import replace_file
from cytolabe.records import Score, ScoreStatus
from cytolabe.report import audit_tables, figures
from cytolabe.report.breakdowns import class_table, rare_table
from cytolabe.report.content import Confusion, ReportContent
from cytolabe.report.leaderboard import is_collapsed, leaderboard, select
from cytolabe.report.matrices import MatrixWords, confusion_figure, mistakes_sentence
from cytolabe.report.tables import Cell, Column, Table, artifacts_table, cut, findings_table, toned
from cytolabe.report.text import ABSENT, count, counted, inert
from cytolabe.report.trained import Answered, Trained, compared, gain_cell, render_training, stands, told_score

__all__ = ["CellTasksPage", "TaskSizes", "render_cell_tasks", "write_cell_tasks_page"]

_WORDS = MatrixWords(kind="class", kinds="classes", place="task")
_GUIDE = (
    "Macro-F1", "Macro-F1, rare types", "Accuracy", "Floor and ceiling", "Intervals and points", "Gain over a control",
    "Confusion matrix",
)  # fmt: skip
_MOST_ROWS = 500
_FLOORS, _RANDOM, _SINGLE = (
    "its floors",
    "a network of the same shape with random weights",
    "a network of this task alone",
)


@dataclass(frozen=True, kw_only=True)
class TaskSizes:
    """One task: cells and donors of its sides, and (class, name, training cells, test cells, donors) of each class."""

    name: str
    n_train: int
    n_masked: int
    n_test: int
    n_test_missing: int
    n_donors: int
    classes: Sequence[tuple[str, str, int, int, int]]


@dataclass(frozen=True, kw_only=True)
class CellTasksPage:
    """What the page is made of.

    `content` has the scores (`resolution` is the task), confusions and rare classes of all tasks; `gains` are those of `model`
    over each other model, by task, and lack what was refused. `single` and `random` name the two networks that are controls.
    """

    content: ReportContent
    split: str
    model: str
    single: str
    random: str
    tasks: Sequence[TaskSizes]
    gains: Mapping[str, Mapping[str, Gain]]
    trained: Trained


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is shown of one task."""

    name: str
    figure: Markup | None
    refusal: str
    status: str
    board: Table
    classes: Table
    rare: Table
    sizes: Table
    matrices: tuple[tuple[Markup, str], ...]
    notes: tuple[str, ...]


def write_cell_tasks_page(page: CellTasksPage, path: Path) -> None:
    """Write the page; a reader of `path` sees the old one or the whole new one."""
    replace_file(path, render_cell_tasks(page).encode("utf-8"))


def render_cell_tasks(page: CellTasksPage) -> str:
    """Return the page."""
    content = page.content
    return render_training(
        "trained_cells.html.j2",
        trained=page.trained,
        guide=_GUIDE,
        content=content,
        split=page.split,
        fold=next((fold for fold in content.folds if fold.split_id == page.split), None),
        model=page.model,
        answers=[_answered(page, task.name) for task in page.tasks],
        sizes=_sizes_table(page.tasks),
        tasks=[_task(page, task) for task in page.tasks],
        findings=replace(findings_table(content), source="cell_scores.json"),
        exposure=audit_tables.exposure_table(content),
        tests=audit_tables.found_table(content),
        certificates=audit_tables.certificates_table(content),
        artifacts=replace(artifacts_table(content), note=""),
    )


def _headline(page: CellTasksPage, task: str) -> Mapping[str, Score]:
    return select(page.content, page.split, resolution=task)


def _answered(page: CellTasksPage, task: str) -> Answered:
    """Say in one sentence where the network stands, floors first and the random network of its shape next."""
    scores, gains = _headline(page, task), page.gains.get(task, {})
    own = scores.get(page.model)
    if own is None or own.value is None:
        status = ScoreStatus.NOT_RUN.value if own is None else own.status.value
        told_why = told_score(own) if own is not None else "no number"
        return Answered(name=task, status=status, stands="Nothing can be said", told=told_why)
    floors = [name for name in FLOOR_MODELS if name in scores and scores[name].value is not None]
    highest = max(floors, key=lambda name: scores[name].value or 0.0, default="")
    accuracy = select(page.content, page.split, resolution=task, metric="accuracy").get(page.model)
    told = [told_score(own)]
    told += [told_score(accuracy, name="accuracy")] if accuracy is not None and accuracy.value is not None else []
    against = {f"its highest floor ({highest})" if highest else "its floors": gains.get(highest)}
    against |= {_RANDOM: gains.get(page.random)} if page.random in scores else {}
    details = [compared(gain, what) for what, gain in against.items()]
    details += [] if page.random in scores else ["no network with random weights stands beside it"]
    details += [compared(gains.get(page.single), _SINGLE)] if page.single in scores else []
    short = {what.partition(" (")[0]: gain for what, gain in against.items()}
    return Answered(
        name=task, status=own.status.value, stands=stands(short), told="; ".join(told), details=tuple(details)
    )


def _sizes_table(tasks: Sequence[TaskSizes]) -> Table:
    rows = tuple(
        (
            Cell(inert(one.name)), Cell(count(one.n_train)), Cell(count(one.n_masked)), Cell(count(one.n_test)),
            Cell(count(one.n_test_missing)), Cell(count(one.n_donors) if one.n_donors else ABSENT),
        )
        for one in tasks
    )  # fmt: skip
    return Table(
        key="sizes",
        caption="What was learned from and what was asked",
        columns=(
            Column("Task"), Column("Training cells", "number"), Column("Training cells masked", "number"), Column("Test cells", "number"),
            Column("Test cells that do not count", "number"), Column("Known donors, test", "number"),
        ),
        rows=rows,
        note="Masked: without a label of this task; such a cell is learned from in the others. A test cell does not count without a label, "
        "or with a copy among the training cells.",
        source="cell_scores.json",
    )  # fmt: skip


def _task(page: CellTasksPage, task: TaskSizes) -> _Task:
    content = replace(page.content, decision_level=task.name)
    scores = _headline(page, task.name)
    board = leaderboard(content, page.split, resolution=task.name)
    collapsed = is_collapsed(scores)
    figure = None if collapsed else figures.score_figure(scores, f"Macro-F1 of each model, task {inert(task.name)}")
    drawn = [one for one in content.confusions if (one.resolution, one.model) in {(task.name, page.model), (task.name, page.random)}]  # fmt: skip
    drawn = [one for one in drawn if one.model in scores and scores[one.model].value is not None]
    own = scores.get(page.model)
    return _Task(
        name=task.name,
        figure=figure,
        refusal=board.remarks[0] if collapsed and board.remarks else "",
        status=own.status.value if own is not None else "",
        board=_of_task(_with_gains(page, board, task.name), task.name),
        classes=cut(_of_task(class_table(content, page.split, resolution=task.name), task.name), _MOST_ROWS),
        rare=cut(_of_task(rare_table(content, page.split), task.name), _MOST_ROWS),
        sizes=cut(_classes_table(task), _MOST_ROWS),
        matrices=tuple((confusion_figure(one, words=_WORDS), _caption(one)) for one in drawn),
        notes=own.notes if own is not None else (),
    )


def _caption(confusion: Confusion) -> str:
    return f"{inert(confusion.model, 60)}. {mistakes_sentence(confusion, words=_WORDS)}"


def _with_gains(page: CellTasksPage, board: Table, task: str) -> Table:
    """Put how much higher the network of all tasks stands in the place of the ceiling, of which a training has none."""
    gains = page.gains.get(task, {})
    place = next(number for number, column in enumerate(board.columns) if column.heading == "Ceiling")
    rows = tuple((*row[:place], gain_cell(gains.get(row[0].text)), *row[place + 1 :]) for row in board.rows)
    columns = (
        *board.columns[:place],
        Column(f"{inert(page.model)} minus this", "number"),
        *board.columns[place + 1 :],
    )
    return replace(board, columns=columns, rows=rows)


def _classes_table(task: TaskSizes) -> Table:
    """Return every class with its cells, those first that only one side has: they are learned or asked for nothing."""
    ordered = sorted(task.classes, key=lambda row: (bool(row[2]) and bool(row[3]), -row[3], row[0]))
    rows = tuple(
        (
            Cell(inert(name), detail="" if name == term else inert(term)), Cell(count(n_train)), Cell(count(n_test)), Cell(count(n_donors)),
            toned("", "never learned" if not n_train else "not asked" if not n_test else ""),
        )
        for term, name, n_train, n_test, n_donors in ordered
    )  # fmt: skip
    return Table(
        key="class_sizes",
        caption=f"Cells of each class of {inert(task.name)}",
        columns=(
            Column("Class"), Column("Training cells", "number"), Column("Test cells", "number"), Column("of donors", "number"),
            Column("Side"),
        ),
        rows=rows,
        note=f"{counted(len(rows), 'row')}; a class that no training cell has cannot be answered, and its test cells enter no score.",
        source="cell_scores.json",
    )  # fmt: skip


def _of_task(table: Table, task: str) -> Table:
    """Say what a table of a level says in the words of a task, and where its rows stand here."""

    def told(text: str) -> str:
        for word, other in (
            (f"level “{inert(task)}”", f"task “{inert(task)}”"), ("rare types", "rare classes"), ("Rare type", "Rare class"),
            ("Cell type", "Class"), ("each cell type", "each class"), ("Of each type", "Of each class"), ("scores.json", "cell_scores.json"),
        ):  # fmt: skip
            text = text.replace(word, other)
        return text

    return replace(
        table,
        caption=told(table.caption),
        columns=tuple(Column(told(column.heading), column.kind) for column in table.columns),
        remarks=tuple(told(text) for text in table.remarks),
        notes=tuple((position, told(text)) for position, text in table.notes),
        note=told(table.note),
        source="cell_scores.json",
    )
