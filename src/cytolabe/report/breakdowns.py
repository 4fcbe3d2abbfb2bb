"""The headline taken apart: by cell type, by held-out data set, by gene policy, and by what else moves it."""

from cytolabe.evaluate.measures import UNFLAGGED
from cytolabe.records import Protocol, Score, ScoreStatus
from cytolabe.report.content import ReportContent
from cytolabe.report.leaderboard import (
    HEADLINE,
    POOLED,
    models_first_to_last,
    score_cell,
    splits_of,
    term_name,
)
from cytolabe.report.remarks import first_clause, interval_note
from cytolabe.report.tables import Cell, Column, Table
from cytolabe.report.text import ABSENT, count, counted, inert, number

__all__ = ["class_table", "dataset_table", "policy_table", "quality_scores_table", "rare_table", "sensitivity_table"]

_RARE = "“rare”: under 5 % of the labelled test cells of the fold, or under 50 training cells."


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
    models = [
        model for model in models_first_to_last(found) if any(s.model == model and s.value is not None for s in found)
    ]
    by_class: dict[str, dict[str, Score]] = {}
    for score in found:
        by_class.setdefault(score.stratum.removeprefix(prefix), {})[score.model] = score
    sizes = {term: max(score.n_cells for score in scores.values()) for term, scores in by_class.items()}
    where = (split, level, content.gene_policy)
    rare = {one.term for one in content.rare_types if (one.split, one.resolution, one.gene_policy) == where}
    rows = tuple(
        (
            Cell(inert(term_name(content, term)), detail=inert(term)),
            Cell(count(sizes[term]), detail=_marks(sizes[term], is_rare=term in rare)),
            *(score_cell(by_class[term].get(model)) for model in models),
        )
        for term in sorted(by_class, key=lambda term: (-sizes[term], term))
    )
    silent = [model for model in models_first_to_last(found) if model not in models]
    told = [f"Without a number, so without a column: {', '.join(map(inert, silent))}."] if silent else []
    return Table(
        key="classes",
        caption=f"{inert(split)} · F1 of each cell type · level “{inert(level)}”",
        columns=(Column("Cell type"), Column("Test cells", "number"), *(Column(inert(m), "number") for m in models)),
        rows=rows if models else (),
        remarks=(interval_note(found), *told, *([_RARE] if rare & set(by_class) else [])),
    )


def _marks(n_cells: int, *, is_rare: bool) -> str:
    return "; ".join([*(["rare"] if is_rare else []), *(["under 10: not in the headline"] if n_cells < 10 else [])])


def rare_table(content: ReportContent, split: str) -> Table:
    """Return the rare types of one fold at the decision level: cells, recall, and what each model called them instead.

    Models that are controls are left out; `scores.json` has them.
    """
    controls = {score.model for score in content.scores if score.protocol is Protocol.CONTROL}
    found = [
        one
        for one in content.rare_types
        if (one.split, one.gene_policy) == (split, content.gene_policy) and one.model not in controls
    ]
    missed = {term: sum(not one.n_right for one in found if one.term == term) for term in {one.term for one in found}}
    rows = tuple(
        (
            Cell(inert(one.name), detail=inert(one.term)),
            Cell(inert(one.model)),
            Cell(count(one.n_cells)),
            Cell(number(one.recall), "" if one.n_right else "bad", "" if one.n_right else "none right"),
            Cell(
                "; ".join(f"{inert(other.name, 80)} {count(other.n_cells)}" for other in one.called_instead) or ABSENT
            ),
        )
        # Types that most models miss altogether come first.
        for one in sorted(found, key=lambda one: (-missed[one.term], one.term, one.recall))
    )
    return Table(
        key="rare_types",
        caption=f"{inert(split)} · rare types, and what they were called instead · level “{inert(content.decision_level)}”",
        columns=(
            Column("Rare type"), Column("Model"), Column("Test cells", "number"), Column("Recall", "number"),
            Column("Called instead (cells)", "prose"),
        ),
        rows=rows,
        remarks=(_RARE,),
        note="Of each type the three commonest wrong answers, with the first seed. Controls are in scores.json.",
        is_grouped=True,
    )  # fmt: skip


def dataset_table(content: ReportContent, split: str) -> Table:
    """Return macro-F1 per held-out data set of one fold at the decision level.

    Without rows where the fold holds out one data set only: that is the fold itself.
    """
    prefix = "dataset:"
    found = [
        score
        for score in content.scores
        if (score.split, score.resolution, score.metric, score.gene_policy)
        == (split, content.decision_level, HEADLINE, content.gene_policy)
        and score.stratum.startswith(prefix)
    ]
    by_key = {(score.model, score.stratum): score for score in found}
    strata = sorted({score.stratum for score in found})
    sizes = {name: max(score.n_cells for score in found if score.stratum == name) for name in strata}
    rows = tuple(
        (Cell(inert(model)), *(_with_reason(by_key.get((model, name))) for name in strata))
        for model in models_first_to_last(found)
    )
    return Table(
        key="datasets",
        caption=f"{inert(split)} · macro-F1 per held-out data set",
        columns=(
            Column("Model"),
            *(Column(f"{inert(s.removeprefix(prefix))} ({counted(sizes[s], 'cell')})", "number") for s in strata),
        ),
        rows=rows if len(strata) > 1 else (),
        remarks=(interval_note(found),),
    )


def _with_reason(score: Score | None) -> Cell:
    """Return a number with its spread, or the status with the first words of its reason."""
    if score is None or score.value is not None:
        return score_cell(score)
    return Cell(score.status.value, "muted", inert(first_clause(score.reason), 120))


def quality_scores_table(content: ReportContent) -> Table:
    """Return macro-F1 at the decision level with and without test cells that are flagged for their quality (rule R10)."""
    found = [
        score
        for score in content.scores
        if (score.resolution, score.metric, score.gene_policy)
        == (content.decision_level, HEADLINE, content.gene_policy)
        and score.stratum in {"all", UNFLAGGED}
        and score.split != POOLED
    ]
    by_key = {(score.split, score.model, score.stratum): score for score in found}
    pairs = [
        (split, model)
        for split in splits_of(content)
        for model in models_first_to_last([score for score in found if score.split == split])
        if (split, model, UNFLAGGED) in by_key and by_key[split, model, UNFLAGGED].value is not None
    ]
    rows = tuple(
        (
            Cell(inert(split)),
            Cell(inert(model)),
            score_cell(by_key.get((split, model, "all"))),
            score_cell(by_key[split, model, UNFLAGGED]),
            Cell(count(by_key[split, model, UNFLAGGED].n_cells)),
        )
        for split, model in pairs
    )
    return Table(
        key="quality_scores",
        caption="With and without cells flagged for their quality (macro-F1)",
        columns=(
            Column("Split"), Column("Model"), Column("All test cells", "number"), Column("Without flagged", "number"),
            Column("Cells left", "number"),
        ),
        rows=rows,
        remarks=(
            "Flags of few counts or genes, high mitochondrial share, likely doublets; nothing was removed from training.",
        ),
    )  # fmt: skip


def policy_table(content: ReportContent) -> Table:
    """Return macro-F1 at the decision level, fold and model against gene policy; without controls."""
    found = [
        score
        for score in content.scores
        if (score.resolution, score.metric, score.stratum) == (content.decision_level, HEADLINE, "all")
        and score.protocol is not Protocol.CONTROL
    ]
    policies = sorted({score.gene_policy for score in found}, key=lambda name: (name != content.gene_policy, name))
    by_key = {(score.split, score.model, score.gene_policy): score for score in found}
    numbered = {score.split for score in found if score.value is not None}
    rows = tuple(
        (
            Cell(inert(split)),
            Cell(inert(model)),
            *(_policy_cell(by_key.get((split, model, policy))) for policy in policies),
        )
        for split in splits_of(content)
        if split in numbered
        for model in models_first_to_last([score for score in found if score.split == split])
    )
    return Table(
        key="policies",
        caption="The same models under other gene spaces (macro-F1)",
        columns=(Column("Fold"), Column("Model"), *(Column(inert(policy), "number") for policy in policies)),
        # One policy alone is the table above.
        rows=rows if len(policies) > 1 else (),
        note="The choice of genes can outweigh the choice of model: compare along a row before comparing along a column. "
        "Cells, donors and spread are those of the tables above.",
        is_grouped=True,
    )


def _policy_cell(score: Score | None) -> Cell:
    if score is None:
        return Cell(ABSENT)
    detail = f"{count(score.n_genes)} genes" if score.n_genes else ""
    if score.value is None:
        return Cell(score.status.value, "muted", inert(first_clause(score.reason), 120))
    return Cell(number(score.value), "", detail)


_QUERIES = {
    "before": "the whole query, over the types that stay",
    "after": "the query without its commonest type",
    "difference": "difference of the two",
}
_ORDER = tuple(_QUERIES)


def sensitivity_table(content: ReportContent) -> Table:
    """Return how far models that are fitted on the query move when the query changes, and how far seeds move them."""
    rows = tuple(
        (
            Cell(inert(score.split)),
            Cell(inert(score.model)),
            Cell(what),
            Cell(inert(_QUERIES.get(key, key))),
            Cell(number(values[key])),
        )
        for score in sorted(content.scores, key=lambda score: (score.split == POOLED, score.split, score.model))
        if (score.metric, score.stratum, score.resolution) == (HEADLINE, "all", content.decision_level)
        and score.gene_policy == content.gene_policy
        and score.status is not ScoreStatus.REFUSED
        for what, values in (("seed", score.seeds), ("query composition", score.sensitivity))
        for key in sorted(values, key=lambda key: (_ORDER.index(key) if key in _ORDER else 0, key))
    )
    return Table(
        key="sensitivity",
        caption="What moves a number besides the model",
        columns=(Column("Fold"), Column("Model"), Column("Changed"), Column("To"), Column("Macro-F1", "number")),
        rows=rows,
        note="A difference between models that is smaller than the differences here says nothing.",
        is_grouped=True,
    )
