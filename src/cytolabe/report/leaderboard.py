"""Scores as tables: macro-F1 first, always between its floor and its ceiling.

Order of the rows: controls first (they are the floor), then models by name. Not by score: where a study ranks no
model, its table does not either. A row whose number was refused or never came shows the word for it, never a zero.
"""

from collections.abc import Iterable, Sequence

from cytolabe.records import Protocol, Score, ScoreStatus
from cytolabe.report.content import ReportContent
from cytolabe.report.tables import Cell, Column, Table, toned
from cytolabe.report.text import ABSENT, count, counted, inert, number, score_value, spread

__all__ = [
    "class_table",
    "dataset_table",
    "interval_note",
    "leaderboard",
    "policy_table",
    "resolutions_of",
    "select",
    "sensitivity_table",
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


def resolutions_of(content: ReportContent) -> tuple[str, ...]:
    """Return the levels that have scores: in the order of the hierarchy, unknown ones last."""
    scored = {score.resolution for score in content.scores}
    known = [level for level in content.levels if level in scored]
    return (*known, *sorted(scored - set(known)))


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


def _model_order(score: Score) -> tuple[bool, str]:
    return (score.protocol is not Protocol.CONTROL, score.model)


def leaderboard(content: ReportContent, split: str, *, resolution: str = "", gene_policy: str | None = None) -> Table:
    """Return model x {macro-F1, rare macro-F1, accuracy, floor, ceiling, status, cells, donors, genes} of one fold."""
    level = resolution or content.decision_level
    headline = select(content, split, resolution=level, gene_policy=gene_policy)
    rare = select(content, split, resolution=level, stratum="rare", gene_policy=gene_policy)
    accuracy = select(content, split, resolution=level, metric="accuracy", gene_policy=gene_policy)
    rows = tuple(
        (
            Cell(inert(model), detail=_protocol(score)),
            _number(score),
            _number(rare.get(model)),
            _number(accuracy.get(model)),
            Cell(number(score.floor)),
            Cell(number(score.ceiling)),
            _status(score),
            Cell(count(score.n_cells)),
            Cell(count(score.n_donors) if score.n_donors else ABSENT),
            Cell(count(score.n_genes) if score.n_genes else ABSENT),
        )
        for model, score in headline.items()
    )
    return Table(
        key="leaderboard",
        caption=f"{inert(split)} · level “{inert(level)}” · genes: {inert(gene_policy or content.gene_policy)}",
        columns=(
            Column("Model"),
            Column("Macro-F1", "number"),
            Column("Macro-F1, rare types", "number"),
            Column("Accuracy", "number"),
            Column("Floor", "number"),
            Column("Ceiling", "number"),
            Column("Status", "status"),
            Column("Cells", "number"),
            Column("Donors", "number"),
            Column("Genes", "number"),
        ),
        rows=rows,
        note=interval_note([*headline.values(), *rare.values(), *accuracy.values()]),
    )


def _protocol(score: Score) -> str:
    told = score.protocol.value.replace("_", " ")
    if score.fit_on_query.value != "none":
        told += f", fitted on the query ({score.fit_on_query.value.replace('_', ' ')})"
    return told


def _number(score: Score | None) -> Cell:
    if score is None:
        return Cell(ABSENT)
    return Cell(score_value(score), "" if score.value is not None else "muted", spread(score))


def _status(score: Score) -> Cell:
    reasons = [score.reason, *score.notes]
    if score.raw_value is not None:
        reasons.append(
            f"the refused number is kept in scores.json ({number(score.raw_value)}), outside every aggregate"
        )
    below = score.value is not None and score.floor is not None and score.value <= score.floor
    if below and score.protocol is not Protocol.CONTROL:
        reasons.append("not above its floor")
    return toned(score.status.value, inert("; ".join(reason for reason in reasons if reason), 400))


def interval_note(scores: Iterable[Score]) -> str:
    """Say once what the brackets of a table are, or why there are none (rule R15)."""
    valued = [score for score in scores if score.value is not None]
    if not valued:
        return "No row has a number: the status says why."
    parts = []
    populations = sorted({score.interval or "population not named" for score in valued if score.low is not None})
    if populations:
        parts.append(f"Square brackets: 95 % interval over {inert('; '.join(populations), 200)}.")
    pointed = [score for score in valued if score.low is None and score.points]
    if pointed:
        parts.append("Round brackets: one value per donor; under 6 donors an interval would be a guess.")
    bare = [score for score in valued if score.low is None and not score.points]
    if bare:
        few = max(score.n_donors for score in bare)
        known = f"at most {counted(few, 'donor')} known" if few else "no donors known"
        parts.append(f"{counted(len(bare), 'number')} without brackets ({known}): nothing says how far they vary.")
    return " ".join(parts)


def term_name(content: ReportContent, term: str) -> str:
    """Return the readable name of a term, or the term."""
    for terms in content.levels.values():
        for known, name in terms:
            if known == term:
                return name
    return next((row.term_name for row in content.mappings if row.term == term), term)


def class_table(content: ReportContent, split: str, *, resolution: str = "") -> Table:
    """Return class x model F1 of one fold: common classes first, rare ones marked, thin ones shown but not counted."""
    level = resolution or content.decision_level
    prefix = "class:"
    found = [
        score
        for score in content.scores
        if (score.split, score.resolution, score.gene_policy) == (split, level, content.gene_policy)
        and score.stratum.startswith(prefix)
    ]
    models = _ordered_models(found)
    by_class: dict[str, dict[str, Score]] = {}
    for score in found:
        by_class.setdefault(score.stratum.removeprefix(prefix), {})[score.model] = score
    sizes = {term: max(score.n_cells for score in scores.values()) for term, scores in by_class.items()}
    rows = tuple(
        (
            Cell(inert(term_name(content, term)), detail=inert(term)),
            Cell(count(sizes[term]), detail="under 10: not in the headline" if sizes[term] < 10 else ""),
            *(_number(by_class[term].get(model)) for model in models),
        )
        for term in sorted(by_class, key=lambda term: (-sizes[term], term))
    )
    return Table(
        key="classes",
        caption=f"{inert(split)} · F1 of each cell type · level “{inert(level)}”",
        columns=(Column("Cell type"), Column("Test cells", "number"), *(Column(inert(m), "number") for m in models)),
        rows=rows,
        note=interval_note(found),
    )


def _ordered_models(scores: Sequence[Score]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(score.model for score in sorted(scores, key=_model_order)))


def dataset_table(content: ReportContent, split: str) -> Table:
    """Return macro-F1 per held-out data set of one fold at the decision level."""
    prefix = "dataset:"
    found = [
        score
        for score in content.scores
        if (score.split, score.resolution, score.metric, score.gene_policy)
        == (split, content.decision_level, HEADLINE, content.gene_policy)
        and score.stratum.startswith(prefix)
    ]
    rows = tuple(
        (
            Cell(inert(score.stratum.removeprefix(prefix))),
            Cell(inert(score.model)),
            _number(score),
            _status(score),
            Cell(count(score.n_cells)),
        )
        for score in sorted(found, key=lambda score: (score.stratum, *_model_order(score)))
    )
    return Table(
        key="datasets",
        caption=f"{inert(split)} · macro-F1 per held-out data set",
        columns=(
            Column("Data set"),
            Column("Model"),
            Column("Macro-F1", "number"),
            Column("Status", "status"),
            Column("Cells", "number"),
        ),
        rows=rows,
        note=interval_note(found),
    )


def policy_table(content: ReportContent) -> Table:
    """Return macro-F1 at the decision level, fold and model against gene policy."""
    found = [
        score
        for score in content.scores
        if (score.resolution, score.metric, score.stratum) == (content.decision_level, HEADLINE, "all")
    ]
    policies = sorted({score.gene_policy for score in found}, key=lambda name: (name != content.gene_policy, name))
    by_key = {(score.split, score.model, score.gene_policy): score for score in found}
    rows = tuple(
        (
            Cell(inert(split)),
            Cell(inert(model)),
            *(_policy_cell(by_key.get((split, model, policy))) for policy in policies),
        )
        for split in splits_of(content)
        for model in _ordered_models([score for score in found if score.split == split])
    )
    return Table(
        key="policies",
        caption="The same models under other gene spaces (macro-F1)",
        columns=(Column("Fold"), Column("Model"), *(Column(inert(policy), "number") for policy in policies)),
        rows=rows,
        note="The choice of genes can outweigh the choice of model: compare along a row before comparing along a column.",
    )


def _policy_cell(score: Score | None) -> Cell:
    if score is None:
        return Cell(ABSENT)
    detail = f"{count(score.n_genes)} genes" if score.n_genes else ""
    if score.value is None:
        return Cell(score.status.value, "muted", inert(score.reason, 120))
    return Cell(number(score.value), "", detail)


def sensitivity_table(content: ReportContent) -> Table:
    """Return how far models that are fitted on the query move when the query changes, and how far seeds move them."""
    rows = tuple(
        (Cell(inert(score.split)), Cell(inert(score.model)), Cell(what), Cell(inert(key)), Cell(number(values[key])))
        for score in sorted(content.scores, key=lambda score: (score.split, score.model, score.gene_policy))
        if (score.metric, score.stratum, score.resolution) == (HEADLINE, "all", content.decision_level)
        and score.gene_policy == content.gene_policy
        and score.status is not ScoreStatus.REFUSED
        for what, values in (("seed", score.seeds), ("query composition", score.sensitivity))
        for key in sorted(values)
    )
    return Table(
        key="sensitivity",
        caption="What moves a number besides the model",
        columns=(Column("Fold"), Column("Model"), Column("Changed"), Column("To"), Column("Macro-F1", "number")),
        rows=rows,
        note="A difference between models that is smaller than the differences here says nothing.",
    )
