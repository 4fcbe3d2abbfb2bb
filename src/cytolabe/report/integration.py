"""How well the embeddings of one fold mix batches and keep types apart, between the controls that bound a number."""

from cytolabe.records import Protocol, Score
from cytolabe.report.content import ReportContent
from cytolabe.report.tables import Cell, Column, Table, toned
from cytolabe.report.text import count, counted, inert, score_value

__all__ = ["integration_board"]

_METRICS = {
    "avg_bio": "AvgBIO",
    "nmi": "NMI",
    "ari": "ARI",
    "asw_label": "ASW of types",
    "bras": "BRAS",
    "cilisi": "CiLISI",
    "ilisi": "iLISI",
    "pcr_batch": "Batch variance",
    "pcr_comparison": "of it removed",
}
"""Metric -> heading, in the order of the columns; what is not among them follows under its own name."""

_NOTE = (
    "AvgBIO (the mean of the three behind it): types kept apart. BRAS, CiLISI: batches mixed inside types; iLISI: whatever the types. Batch variance: "
    "explained by batches, less is better, and how much of that of “none” is removed (under 0: added). Read each number between its controls: a "
    "shuffle mixes perfectly and knows nothing."
)


def integration_board(content: ReportContent, split: str) -> Table | None:
    """Return control or embedding x metric of one fold; None where nothing was measured."""
    own = [
        score
        for score in content.integration
        if (score.split, score.resolution, score.gene_policy) == (split, content.decision_level, content.gene_policy)
    ]
    if not own:
        return None
    found = {(score.model, score.metric): score for score in own}
    metrics = [*_METRICS, *sorted({score.metric for score in own}.difference(_METRICS))]
    models = dict.fromkeys(
        score.model for score in sorted(own, key=lambda score: score.protocol is not Protocol.CONTROL)
    )
    sizes = sorted({score.n_cells for score in own})
    return Table(
        key="integration_board",
        caption=f"Batches and types in the embeddings · level “{inert(content.decision_level, 60)}” · "
        f"{' to '.join(count(size) for size in sizes)} cells",
        columns=(
            Column("Embedding"),
            *(Column(_METRICS.get(metric, inert(metric, 60)), "number") for metric in metrics),
            Column("Status", "status"),
        ),
        rows=tuple(
            (
                Cell(inert(model.removeprefix("control: ")), detail="control" if model.startswith("control: ") else ""),
                *(Cell(score_value(found.get((model, metric)))) for metric in metrics),
                _status([found[model, metric] for metric in metrics if (model, metric) in found]),
            )
            for model in models
        ),
        note=_NOTE,
        remarks=tuple(dict.fromkeys(note for score in own for note in score.notes)),
    )


def _status(scores: list[Score]) -> Cell:
    """Return the status that most metrics of one embedding have, with its reason, and how many have another."""
    words = [(score.status.value, score.reason) for score in scores]
    word, reason = max(dict.fromkeys(words), key=words.count)
    n_other = len(words) - words.count((word, reason))
    others = f"; {counted(n_other, 'metric')} otherwise, see scores.json" if n_other else ""
    return toned(word, f"{inert(reason, 240)}{others}")
