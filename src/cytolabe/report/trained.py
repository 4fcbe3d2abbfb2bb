"""What the pages of trainings share: how far a model stands above its controls, how it was made, and what that took.

A difference between two models is told with its interval or, where there is none, with the words that say so. What was
refused is the word for it, never a number. Seconds and memory are not here: a page is the same bytes for the same
training, and they never are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from cytolabe.evaluate.cell_tasks import Gain
from cytolabe.models.network_size import NetworkSize
from cytolabe.records import ModelCard, Score
from cytolabe.report.guide import GUIDE, STATUS_WORDS, TRAINING_GUIDE
from cytolabe.report.pages import page_environment
from cytolabe.report.tables import Cell, Column, Table
from cytolabe.report.text import ABSENT, count, inert, number, spread
from cytolabe.report.training import loss_figure

__all__ = [
    "Answered",
    "Fitted",
    "Trained",
    "compared",
    "gain_cell",
    "render_training",
    "stands",
    "told_score",
    "work_table",
]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Networks that were fitted alike: what they are called, what to, how often, on how many cells, and steps at most."""

    name: str
    told: str
    n_fits: int
    n_cells: int
    n_steps: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How the network that was kept was made. `losses` are of each step, `looks` are (step, loss) on what was held out."""

    card: ModelCard
    started_from: str
    """Digest of the weights that the training began with."""
    dictionaries: Mapping[str, str]
    """Role -> digest."""
    layer: str
    pooling: str
    precision: str
    max_length: int
    seed: int
    options: Mapping[str, object]
    size: NetworkSize
    fitted: Sequence[Fitted]
    losses: Sequence[float] = ()
    looks: Sequence[tuple[int, float]] = ()
    looked_at: str = "held-out persons"
    notes: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer of the box on top: what was asked, the status, where it stands, the numbers, and each comparison."""

    name: str
    status: str
    stands: str
    told: str
    details: tuple[str, ...] = ()


def stands(gains: Mapping[str, Gain | None]) -> str:
    """Say of which controls a model stands above (an interval of the difference lies above 0), and of which not.

    A difference above 0 without an interval is neither: it is told as higher. A control without a difference was not compared with.
    """
    above = [
        what for what, gain in gains.items() if gain is not None and gain.interval is not None and gain.interval.low > 0
    ]
    higher = [what for what, gain in gains.items() if gain is not None and gain.interval is None and gain.value > 0]
    missing = [what for what, gain in gains.items() if gain is None]
    rest = [what for what in gains if what not in above and what not in higher and what not in missing]
    told = [f"stands above {_listed(above, 'and')}"] if above else []
    told += [f"is higher than {_listed(higher, 'and')}, without an interval"] if higher else []
    told += [f"does not stand above {_listed(rest, 'or')}"] if rest else []
    sentence = ", but ".join(["; ".join(told[:-1]), told[-1]]) if len(told) > 1 and rest else "; ".join(told)
    if missing:
        sentence = f"{sentence}{'; ' if sentence else ''}was not compared with {_listed(missing, 'and')}"
    return f"{sentence[:1].upper()}{sentence[1:]}" if sentence else "No control stands beside it"


def _listed(names: Sequence[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def told_score(score: Score, *, name: str = "macro-F1") -> str:
    """Return a score with its spread in words, or why there is none."""
    if score.value is None:
        return f"no {name}: {inert(score.reason, 300) or score.status.value}"
    around = spread(score)
    return f"{name} {number(score.value)}{f' {around}' if around else ''}"


def compared(gain: Gain | None, what: str) -> str:
    """Say how a model stands to a control, by the difference of macro-F1 paired over the same cells or genes."""
    if gain is None:
        return f"no comparison with {what}"
    size = number(abs(gain.value))
    interval = gain.interval
    if interval is None:
        way = "higher than" if gain.value > 0 else "lower than"
        return f"{way} {what} by {size} (no interval)" if gain.value else f"equal to {what} (no interval)"
    bounds = f"[{number(interval.low)}, {number(interval.high)}]"
    if interval.low > 0:
        return f"above {what} by {size} {bounds}"
    if interval.high < 0:
        return f"below {what} by {size} {bounds}"
    return f"not told apart from {what} (difference {number(gain.value)} {bounds})"


def gain_cell(gain: Gain | None) -> Cell:
    """Return how much higher the model stands than the control of a row, with its interval or single donors."""
    if gain is None:
        return Cell(ABSENT, "muted")
    if gain.interval is not None:
        return Cell(number(gain.value), detail=f"[{number(gain.interval.low)}, {number(gain.interval.high)}]")
    values = sorted(gain.points.values())
    listed = " · ".join(number(value) for value in values[:8]) if len(values) > 1 else ""
    return Cell(number(gain.value), detail=f"({listed}{' · …' if len(values) > 8 else ''})" if listed else "")


def work_table(trained: Trained) -> Table:
    """Return what was fitted: which networks, to what, how often, and how many steps."""
    rows = tuple(
        (
            Cell(inert(one.name)), Cell(inert(one.told, 300)), Cell(count(one.n_fits)), Cell(count(one.n_cells)),
            Cell(count(one.n_steps)),
        )
        for one in trained.fitted
    )  # fmt: skip
    return Table(
        key="work",
        caption="What was fitted",
        columns=(
            Column("Network"), Column("Fitted to", "prose"), Column("Fits", "number"), Column("Training cells", "number"),
            Column("Steps at most", "number"),
        ),
        rows=rows,
        note=f"The network that is kept has {count(trained.size.n_parameters)} parameters, {count(trained.size.n_trained)} of them were "
        "moved. Seconds and memory are not on this page, which is the same bytes each time.",
    )  # fmt: skip


def render_training(template: str, *, trained: Trained, guide: Sequence[str], **told: object) -> str:
    """Return a page of a training: what its template needs, and the parts that all of them share."""
    entries = [entry for entry in (*GUIDE, *TRAINING_GUIDE) if entry.name in guide]
    return page_environment().get_template(template).render(
        trained=trained,
        facts=_facts(trained),
        loss=_loss(trained),
        work=work_table(trained),
        guide=entries,
        status_words=STATUS_WORDS,
        **told,
    )  # fmt: skip


def _loss(trained: Trained) -> Markup | None:
    if not trained.losses:
        return None
    return loss_figure(trained.losses, trained.looks, title="Loss", held_out=trained.looked_at)


def _facts(trained: Trained) -> list[tuple[str, str, bool]]:
    """Return (name, value, whether it is a digest) of everything that makes another network if it is changed."""
    card = trained.card
    scopes = [(f"Seen in {scope.step}", f"{count(scope.n_cells)} cells, {scope.cells_digest}", True) for scope in card.scopes]  # fmt: skip
    known = ", ".join(card.pretraining)
    return [
        ("Weights", card.weights_digest, True),
        ("Begun with", trained.started_from, True),
        *((f"Dictionary, {role}", digest, True) for role, digest in sorted(trained.dictionaries.items())),
        ("Protocol", card.protocol.value.replace("_", " "), False),
        ("Pretrained on", known or "no published corpus is named", False),
        *scopes,
        ("Layer", trained.layer, False),
        ("Pooling", trained.pooling, False),
        ("Precision", trained.precision, False),
        ("Maximum length", f"{count(trained.max_length)} tokens", False),
        ("Seed", str(trained.seed), False),
        ("Options", "; ".join(f"{name} {_option(value)}" for name, value in sorted(trained.options.items())), False),
    ]


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value != "" else "default"
