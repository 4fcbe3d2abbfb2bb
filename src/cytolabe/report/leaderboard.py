"""Scores of one fold as a table: macro-F1 first, always between its floor and its ceiling.

Order of the rows: controls first (they are the floor), then models by name. Not by score: where a study ranks no
model, its table does not either. A row whose number was refused or never came shows the word for it, never a zero.
What is equal in all rows (cells, donors, genes) stands once in the caption; what all rows share in words, once below.
"""

from collections.abc import Iterable, Mapping

from cytolabe.records import FitOnQuery, Protocol, Score
from cytolabe.report.content import ReportContent
from cytolabe.report.remarks import (
    NOTHING_SAID,
    Said,
    ceiling_sentences,
    first_clause,
    interval_note,
    is_leaky,
    remarks_of,
)
from cytolabe.report.tables import Cell, Column, Table, toned
from cytolabe.report.text import ABSENT, count, counted, inert, number, score_value, spread

__all__ = [
    "HEADLINE",
    "POOLED",
    "fold_name",
    "is_collapsed",
    "leaderboard",
    "levels_board",
    "models_first_to_last",
    "resolutions_of",
    "score_cell",
    "select",
    "splits_of",
    "term_name",
]

HEADLINE = "macro_f1"
POOLED = "all folds"


def splits_of(content: ReportContent) -> tuple[str, ...]:
    """Return the folds that have scores: in the order of the split, the pooled one last."""
    scored = {score.split for score in content.scores}
    known = [fold.split_id for fold in content.folds if fold.split_id in scored]
    others = sorted(scored - set(known) - {POOLED})
    return (*known, *others, *([POOLED] if POOLED in scored else []))


def fold_name(split: str) -> str:
    """Return the groups that a fold holds out, readable: `component=amber+elm` becomes `amber + elm`."""
    return inert(split.partition("=")[2].replace("+", " + ") or split, 120)


def resolutions_of(content: ReportContent) -> tuple[str, ...]:
    """Return the levels that have scores: in the order of the hierarchy, unknown ones last."""
    scored = {score.resolution for score in content.scores}
    known = [level for level in content.levels if level in scored]
    return (*known, *sorted(scored - set(known)))


def term_name(content: ReportContent, term: str) -> str:
    """Return the readable name of a term, or the term."""
    for terms in content.levels.values():
        for known, name in terms:
            if known == term:
                return name
    return next((row.term_name for row in content.mappings if row.term == term), term)


def select(
    content: ReportContent,
    split: str,
    *,
    resolution: str,
    metric: str = HEADLINE,
    stratum: str = "all",
    gene_policy: str | None = None,
) -> dict[str, Score]:
    """Return model -> score for one fold, level, metric, stratum and gene policy; controls first."""
    policy = content.gene_policy if gene_policy is None else gene_policy
    found = [
        score
        for score in content.scores
        if (score.split, score.resolution, score.metric, score.stratum, score.gene_policy)
        == (split, resolution, metric, stratum, policy)
    ]
    return {score.model: score for score in sorted(found, key=_model_order)}


def models_first_to_last(scores: Iterable[Score]) -> tuple[str, ...]:
    """Return the models of some scores: controls first, then by name."""
    return tuple(dict.fromkeys(score.model for score in sorted(scores, key=_model_order)))


def _model_order(score: Score) -> tuple[bool, str]:
    return (score.protocol is not Protocol.CONTROL, score.model)


def leaderboard(
    content: ReportContent,
    split: str,
    *,
    resolution: str = "",
    gene_policy: str | None = None,
    said: Said = NOTHING_SAID,
) -> Table:
    """Return model x {macro-F1, rare macro-F1, accuracy, floor, ceiling, status} of one fold, and what qualifies them.

    `said` is what tables before this one say already. A fold in which no model has a number,
    all for one reason, is one row.
    """
    level = resolution or content.decision_level
    headline = select(content, split, resolution=level, gene_policy=gene_policy)
    rare = select(content, split, resolution=level, stratum="rare", gene_policy=gene_policy)
    accuracy = select(content, split, resolution=level, metric="accuracy", gene_policy=gene_policy)
    equal, columns = _sizes(headline)
    policy = inert(gene_policy or content.gene_policy)
    last = f"{equal.pop()} ({policy})" if equal and equal[-1].endswith(("gene", "genes")) else f"genes: {policy}"
    facts = [inert(split), f"level “{inert(level)}”", *equal, last]
    remarks = remarks_of(headline, said=said)
    if is_collapsed(headline):
        rows: tuple[tuple[Cell, ...], ...] = (_all_models(headline),)
        columns = {}
    else:
        rows = tuple(
            (
                Cell(inert(model), detail=_protocol(score)),
                score_cell(score),
                _dash_if_absent(rare.get(model)),
                _dash_if_absent(accuracy.get(model)),
                Cell(number(score.floor)),
                Cell(number(score.ceiling), detail="leaky" if is_leaky(score) else ""),
                toned(score.status.value, remarks.short[model]),
                *(Cell(shown[model]) for shown in columns.values()),
            )
            for model, score in headline.items()
        )
    brackets = interval_note([*headline.values(), *rare.values(), *accuracy.values()]) if headline else ""
    sentences = [*remarks.sentences, brackets, *ceiling_sentences(headline), _why_no_rare(rare)]
    return Table(
        key="leaderboard",
        caption=" · ".join(facts),
        columns=(
            Column("Model"),
            Column("Macro-F1", "number"),
            Column("Macro-F1, rare types", "number"),
            Column("Accuracy", "number"),
            Column("Floor", "number"),
            Column("Ceiling", "number"),
            Column("Status", "status"),
            *(Column(heading, "number") for heading in columns),
        ),
        rows=rows,
        remarks=tuple(sentence for sentence in sentences if sentence),
        notes=remarks.notes,
    )


def is_collapsed(scores: Mapping[str, Score]) -> bool:
    """Whether no model has a number and all of several models have one status and one reason."""
    told = {(score.status, score.reason) for score in scores.values()}
    return len(scores) > 1 and len(told) == 1 and all(score.value is None for score in scores.values())


def _all_models(scores: Mapping[str, Score]) -> tuple[Cell, ...]:
    one = next(iter(scores.values()))
    status = one.status.value
    short = inert(first_clause(one.reason), 80)
    return (
        Cell(f"all {counted(len(scores), 'model')}"), Cell(status, "muted"), *(Cell(ABSENT),) * 4, toned(status, short),
    )  # fmt: skip


def _sizes(scores: Mapping[str, Score]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the sizes that all numbers share as words, and the others as columns: heading -> model -> text."""
    valued = [score for score in scores.values() if score.value is not None] or list(scores.values())
    equal: list[str] = []
    columns: dict[str, dict[str, str]] = {}
    for noun in ("cell", "donor", "gene"):
        found = {score.model: int(getattr(score, f"n_{noun}s")) for score in scores.values()}
        sizes = {found[score.model] for score in valued}
        if len(sizes) == 1:
            size = sizes.pop()
            equal += [counted(size, noun)] if size else ["no donor known"] if noun == "donor" else []
        elif sizes:
            columns[f"{noun.capitalize()}s"] = {model: count(n) if n else ABSENT for model, n in found.items()}
    return equal, columns


def _protocol(score: Score) -> str:
    told = score.protocol.value.replace("_", " ")
    if score.fit_on_query is FitOnQuery.NONE:
        return told
    return f"{told}; query: {score.fit_on_query.value.removesuffix('_query').replace('unlabelled', 'unlabeled')}"


def score_cell(score: Score | None) -> Cell:
    """Return a number with its spread, or the status word in its place."""
    if score is None:
        return Cell(ABSENT)
    return Cell(score_value(score), "" if score.value is not None else "muted", spread(score))


def _dash_if_absent(score: Score | None) -> Cell:
    """Return a number, or a dash: the status of the row already says why there is none."""
    return Cell(ABSENT, "muted") if score is None or score.value is None else score_cell(score)


def _why_no_rare(rare: Mapping[str, Score]) -> str:
    reasons = {score.reason for score in rare.values()}
    if not rare or len(reasons) > 1 or any(score.value is not None for score in rare.values()):
        return ""
    told = reasons.pop().removeprefix("not_applicable: ")
    return f"No macro-F1 of rare types: {inert(first_clause(told), 80)}." if told else ""


def levels_board(content: ReportContent, split: str) -> Table:
    """Return macro-F1 of each model of one fold at every level, coarse to fine."""
    levels = resolutions_of(content)
    found = {level: select(content, split, resolution=level) for level in levels}
    everything = [score for scores in found.values() for score in scores.values()]
    sizes = {level: len(content.levels.get(level, ())) for level in levels}
    shown = [level for level in levels if found[level]]
    # The level's own types: how many of them the fold can score is in the table of cell types.
    types = {level: f" ({counted(sizes[level], 'type')})" if sizes[level] else "" for level in shown}
    return Table(
        key="levels_board",
        caption="Macro-F1 at every level",
        columns=(Column("Model"), *(Column(inert(level, 60) + types[level], "number") for level in shown)),
        rows=tuple(
            (Cell(inert(model)), *(score_cell(found[level].get(model)) for level in shown))
            for model in models_first_to_last(everything)
        ),
    )
