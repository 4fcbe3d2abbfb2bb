"""A table of labels scored under a protocol: nothing that a row is scored on has taught the model that scores it.

Two bases. `protocol`: the ranker, its calibration and its accept threshold are fitted anew for every fold, on the
teaching rows that the fold does not bar (`folds`). `shipped`: the model that is in the package, made of CL and the
project's own seed table; it has seen no row of anybody's table.

Inside a fold the teaching studies are halved; each half is ranked by a model of the other, and these rows, whose studies their
ranker had not seen, fit the calibration and the accept threshold, for each family of scored rows by itself: where other
studies of it teach, they say most about how its curators choose. The settings of the models are constants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.cluster_numbers import labels_as_read
from cytolabe.reconcile.ranking.calibration import Calibrator, Ranked, fit_calibrator, ranked_of
from cytolabe.reconcile.ranking.engine import Bench, Group, Weighed, bench_of, weigh
from cytolabe.reconcile.ranking.lexical import term_index_of
from cytolabe.reconcile.ranking.memory import Query, entries_of, joined, seed_entries
from cytolabe.reconcile.ranking.ranker import Ranker, fit_ranker, study_weights
from cytolabe.reconcile.ranking.shipped import shipped_model
from cytolabe.reconcile.scored.folds import Fold, Kinship, folds_of, kinship_of
from cytolabe.reconcile.scored.ladder import ladder_of
from cytolabe.reconcile.scored.measures import (
    Outcome,
    by_source,
    ceiling_of,
    floor_of,
    measures_of,
    outcome_of,
    verbatim_rows,
)
from cytolabe.reconcile.scored.tables import LabelTable
from cytolabe.reconcile.scored.vintage import vintage_shift

__all__ = ["FURTHER_PROTOCOLS", "can_teach_itself", "score_table"]

FURTHER_PROTOCOLS = ("leave_one_study_out", "leave_whole_family_out", "leave_study_or_family_out")
"""Reported beside the headline, where a table teaches itself or another one teaches it."""
_CALIBRATED = frozenset({"leave_one_study_out"})
"""Those of them that state probabilities and accept, too; each takes as long as the headline."""

SEED = 0
_STUDY_POWER = 0.5
"""A study with four times the rows of another counts twice as much to the linear order."""
_LEAST_ROWS = 500
_LEAST_SOURCES = 10
_LEAST_TAUGHT = 100
"""Rows that may teach below which the model of the package answers a fold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """All rows (scored and teaching), which are which, and everything computed once."""

    table: LabelTable
    truth: Int64[np.ndarray, " rows"]
    is_scored: Bool[np.ndarray, " rows"]
    is_teacher: Bool[np.ndarray, " rows"]
    kinship: Kinship
    bench: Bench

    def source_rows(self, source: str, kept: Bool[np.ndarray, " rows"]) -> Int64[np.ndarray, " chosen"]:
        return np.flatnonzero(kept & (np.array(self.table.source) == source)).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """Ranked terms and probabilities of the scored rows, in their order."""

    terms: Int64[np.ndarray, "rows best"]
    exact: Float64[np.ndarray, " rows"]
    lineage: Float64[np.ndarray, " rows"]
    accepted: Bool[np.ndarray, " rows"]
    folds: tuple[dict[str, int], ...] = ()


def can_teach_itself(table: LabelTable) -> bool:
    """Return whether a table has studies enough that each can be scored by a model of the others."""
    return len(table) >= _LEAST_ROWS and len(set(table.source)) >= _LEAST_SOURCES


def score_table(
    table: LabelTable, *, ontology: Ontology, train: LabelTable | None = None, protocols: Sequence[str] = ()
) -> dict[str, object]:
    """Score a mapper on a table and return the document of `cytolabe reconcile --score`.

    Parameters
    ----------
    table
        The rows to score.
    ontology
        The release that ids are read in.
    train
        Rows to learn from; without it the table's own, where it can teach itself, under `leave_study_out`.
    protocols
        Further protocols to report beside the headline.
    """
    trial = _trial(table, train, ontology)
    shipped = _outcome(trial, _shipped_answers(trial))
    document: dict[str, object]
    if train is not None or can_teach_itself(table):
        answers = _protocol_answers(trial, "leave_study_out")
        outcome, basis = _outcome(trial, answers), "leave_study_out"
        folds: tuple[dict[str, int], ...] = answers.folds
    else:
        outcome, basis, folds, protocols = shipped, "shipped", (), ()
    document = {"basis": basis, **measures_of(outcome)}
    verbatim = verbatim_rows(table, trial.bench.index)
    truth = trial.truth[trial.is_scored]
    document |= {
        "verbatim_names": measures_of(outcome, rows=verbatim),
        "without_verbatim_names": measures_of(outcome, rows=~verbatim),
        "floor": floor_of(truth, trial.bench.index),
        "ceiling": ceiling_of(table, index=trial.bench.index),
        "baselines": _ladder(trial),
        "shipped": measures_of(shipped),
        "protocols": {name: _measured(trial, name) for name in protocols},
        "folds": list(folds),
        "recurating_families": sorted(trial.kinship.recurating),
        "rows_set_aside": {
            "replaced_ids": table.replaced,
            "unusable": table.unusable,
            "examples": list(table.examples),
        },
        "ontology_release": ontology.release,
        "by_source": by_source(outcome, trial.kinship.family),
    }
    return document


def _trial(table: LabelTable, train: LabelTable | None, ontology: Ontology) -> _Trial:
    index = term_index_of(ontology)
    both = table if train is None else _together(table, train)
    is_scored = np.arange(len(both)) < len(table)
    is_teacher = np.ones(len(both), dtype=bool) if train is None else ~is_scored
    both = replace(both, label=labels_as_read(both.label, both.source))
    teachers = both.rows(np.flatnonzero(is_teacher))
    entries = entries_of(teachers.label, teachers.term, sources=teachers.source, tissues=teachers.tissue, index=index)
    query = Query(label=both.label, tissue=both.tissue, source=both.source)
    return _Trial(
        table=both,
        truth=np.array([index.position[term] for term in both.term], dtype=np.int64),
        is_scored=is_scored,
        is_teacher=is_teacher,
        kinship=kinship_of(both, teachers=is_teacher),
        bench=bench_of(query, joined(entries, seed_entries(index)), index=index, wide=True),
    )


def _together(table: LabelTable, train: LabelTable) -> LabelTable:
    return LabelTable(
        label=table.label + train.label,
        term=table.term + train.term,
        source=table.source + train.source,
        family=table.family + train.family,
        tissue=table.tissue + train.tissue,
    )


def _protocol_answers(trial: _Trial, protocol: str, *, calibrated: bool = True) -> _Answers:
    scored_at = np.cumsum(trial.is_scored) - 1
    n = int(trial.is_scored.sum())
    found: dict[int, tuple[np.ndarray, float, float, bool]] = {}
    told = []
    for fold in folds_of(trial.kinship, sources=_scored_sources(trial), protocol=protocol):
        teaching, test = _weighed_fold(trial, fold, protocol)
        shifts = _shifts(trial, fold, protocol)
        of_row = np.array([trial.kinship.family[trial.table.source[int(row)]] for row in test.rows])
        families = sorted(set(of_row.tolist()))
        ranker, calibrator = shipped_model(trial.bench.index.ontology)
        calibrators: Mapping[str, Calibrator] = dict.fromkeys(families, calibrator)
        if teaching is not None:
            ranker = _fitted(trial, teaching)
            calibrators = _calibrated(trial, teaching, families, shifts=shifts) if calibrated else calibrators
        for family in families:
            asked = test.part(of_row == family)
            scores = ranker.scores(asked.features, asked.pairs)
            if teaching is not None:
                scores += _shift_of(trial, asked, shifts)
            answers = _answer(trial, asked, scores, calibrator=calibrators[family])
            for row, terms, exact, lineage, taken in zip(asked.rows, *answers, strict=True):
                found[int(scored_at[row])] = terms, float(exact), float(lineage), bool(taken)
        told.append({"n": len(test.rows), "n_train": 0 if teaching is None else len(teaching.rows)})
    ordered = [found[row] for row in range(n)]
    return _Answers(
        terms=np.stack([row[0] for row in ordered]),
        exact=np.array([row[1] for row in ordered]),
        lineage=np.array([row[2] for row in ordered]),
        accepted=np.array([row[3] for row in ordered]),
        folds=tuple(told),
    )


def _weighed_fold(trial: _Trial, fold: Fold, protocol: str) -> tuple[Weighed | None, Weighed]:
    """Return the teaching and the scored rows of a fold, each asking a memory without what bars it."""
    groups, n_teaching = [], 0
    for source in sorted(trial.kinship.family):
        if source not in fold.barred:
            rows = trial.source_rows(source, trial.is_teacher)
            barred = fold.barred | trial.kinship.barred(source, protocol)
        elif source in fold.test:
            rows, barred = trial.source_rows(source, trial.is_scored), fold.barred
        else:
            continue
        if len(rows):
            n_teaching += len(rows) if source not in fold.barred else 0
            groups.append(Group(rows=rows, barred=barred))
    weighed = weigh(trial.bench, groups, wide=n_teaching >= _LEAST_TAUGHT)
    is_test = np.isin(np.array(trial.table.source)[weighed.rows], sorted(fold.test))
    teaching = weighed.part(~is_test) if n_teaching >= _LEAST_TAUGHT else None
    return teaching, weighed.part(is_test)


def _shifts(trial: _Trial, fold: Fold, protocol: str) -> Mapping[str, Float64[np.ndarray, " terms"]]:
    """Return the vintage of the family of each source, from the sources that may teach its rows."""
    sources, families = np.array(trial.table.source), np.array(trial.table.family)
    found = {}
    for source in {*fold.test, *(set(trial.kinship.family) - fold.barred)}:
        barred = fold.barred | trial.kinship.barred(source, protocol)
        may_teach = trial.is_teacher & ~np.isin(sources, sorted(barred))
        is_own = families[may_teach] == trial.kinship.family[source]
        found[source] = vintage_shift(trial.truth[may_teach], is_own, index=trial.bench.index)
    return found


def _shift_of(
    trial: _Trial, weighed: Weighed, shifts: Mapping[str, Float64[np.ndarray, " terms"]]
) -> Float64[np.ndarray, " pairs"]:
    """Return the vintage of each pair."""
    sources = [trial.table.source[int(row)] for row in weighed.rows]
    pairs = weighed.pairs
    parts = [
        shifts[source][pairs.term[start:end]]
        for source, start, end in zip(sources, pairs.starts[:-1], pairs.starts[1:], strict=True)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _calibrated(
    trial: _Trial,
    teaching: Weighed,
    families: Sequence[str],
    *,
    shifts: Mapping[str, Float64[np.ndarray, " terms"]],
) -> Mapping[str, Calibrator]:
    """Fit a calibration for each family of scored rows, on rows of studies that a ranker had not seen."""
    halves = _halves(trial, teaching)
    unseen: list[Ranked] = []
    for own in (True, False):
        fitted = _fitted(trial, teaching.part(halves != own))
        rest = teaching.part(halves == own)
        scores = fitted.scores(rest.features, rest.pairs) + _shift_of(trial, rest, shifts)
        unseen.append(ranked_of(rest, scores, index=trial.bench.index))
    rows = np.concatenate([part.rows for part in unseen])
    terms = np.concatenate([part.terms for part in unseen])
    facts = np.concatenate([part.facts for part in unseen])
    sources = [trial.table.source[int(row)] for row in rows]
    outcome = outcome_of(terms, trial.truth[rows], source=sources, index=trial.bench.index)
    study, of_row = _studies(trial, rows), np.array([trial.kinship.family[source] for source in sources])
    return {
        family: fit_calibrator(facts, outcome.hit_1, outcome.lineage, study=study, own=of_row == family)
        for family in families
    }


def _halves(trial: _Trial, teaching: Weighed) -> Bool[np.ndarray, " rows"]:
    """Return which teaching rows are in the first half: studies, largest first, each to the smaller half.

    A family that re-curates itself stays together, or one half would know the answers of the other.
    """
    kinship = trial.kinship
    own = [trial.table.source[int(row)] for row in teaching.rows]
    sources = np.array([kinship.family[s] if kinship.family[s] in kinship.recurating else s for s in own])
    names, n = np.unique(sources, return_counts=True)
    sizes, first = [0, 0], set()
    for at in np.lexsort((names, -n)):
        half = 0 if sizes[0] <= sizes[1] else 1
        sizes[half] += int(n[at])
        if half == 0:
            first.add(str(names[at]))
    return np.isin(sources, sorted(first))


def _fitted(trial: _Trial, teaching: Weighed) -> Ranker:
    is_right = teaching.pairs.term == trial.truth[teaching.rows][teaching.pairs.row]
    weight = study_weights(_studies(trial, teaching.rows), power=_STUDY_POWER)
    return fit_ranker(teaching.features, is_right, pairs=teaching.pairs, seed=SEED, weight=weight)


def _studies(trial: _Trial, rows: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """Return the sources of some rows as numbers."""
    sources = np.array(trial.table.source)[rows]
    return np.unique(sources, return_inverse=True)[1].astype(np.int64)


def _answer(
    trial: _Trial, weighed: Weighed, scores: Float64[np.ndarray, " pairs"], *, calibrator: Calibrator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    ranked = ranked_of(weighed, scores, index=trial.bench.index)
    exact, lineage = calibrator.probabilities(ranked.facts)
    return ranked.terms, exact, lineage, calibrator.accepts(exact, lineage)


def _shipped_answers(trial: _Trial) -> _Answers:
    """Answer with the model of the package, whose memory is the seed table alone."""
    barred = frozenset(trial.table.source)
    groups = [
        Group(rows=rows, barred=barred)
        for source in _scored_sources(trial)
        if len(rows := trial.source_rows(source, trial.is_scored))
    ]
    weighed = weigh(trial.bench, groups)
    ranker, calibrator = shipped_model(trial.bench.index.ontology)
    scores = ranker.scores(weighed.features, weighed.pairs)
    terms, exact, lineage, accepted = _answer(trial, weighed, scores, calibrator=calibrator)
    return _Answers(terms=terms, exact=exact, lineage=lineage, accepted=accepted)


def _measured(trial: _Trial, name: str) -> dict[str, object]:
    """Return the measures of a further protocol; most state no probability, which halves what is fitted."""
    answers = _protocol_answers(trial, name, calibrated=name in _CALIBRATED)
    if name in _CALIBRATED:
        return measures_of(_outcome(trial, answers))
    sources = [s for s, scored in zip(trial.table.source, trial.is_scored, strict=True) if scored]
    truth = trial.truth[trial.is_scored]
    return measures_of(outcome_of(answers.terms, truth, source=sources, index=trial.bench.index))


def _scored_sources(trial: _Trial) -> tuple[str, ...]:
    return tuple(sorted({s for s, scored in zip(trial.table.source, trial.is_scored, strict=True) if scored}))


def _outcome(trial: _Trial, answers: _Answers) -> Outcome:
    sources = [s for s, scored in zip(trial.table.source, trial.is_scored, strict=True) if scored]
    return outcome_of(
        answers.terms,
        trial.truth[trial.is_scored],
        source=sources,
        index=trial.bench.index,
        probabilities=(answers.exact, answers.lineage),
        accepted=answers.accepted,
    )


def _ladder(trial: _Trial) -> dict[str, object]:
    scored = np.flatnonzero(trial.is_scored)
    sources = [trial.table.source[int(row)] for row in scored]
    return {
        rung: measures_of(outcome_of(terms[scored], trial.truth[scored], source=sources, index=trial.bench.index))
        for rung, terms in ladder_of(trial.bench).items()
    }
