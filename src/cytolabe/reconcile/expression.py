"""What the cells of a label look like: evidence from labels of other studies whose terms are accepted.

**The margin** of a term is asked of one rival after the other. In every data set of another study that has a label of the
rival, and one on the term's lineage and not on the rival's, it is the correlation (`likeness`) with the best of the latter less that
with the rival; means over data sets, then over studies. The margin is that against the worst rival: below zero some
other type is nearer. A rival that is not more alike than chance is none. Data sets that lack either side say nothing, so a type that is missing elsewhere is never held against a label.

**From a margin to odds.** A logistic curve over the margins of 34 labels of four PBMC studies under their own terms, and of 210
pretended swaps (the cells of one label under the name of another one of its data set, on another lineage), each side
weighing half (`scripts/measure_expression.py studies/pbmc.toml`). With each study judged by a curve of the others, at a confidence
of .97 before, 170 of the 210 swaps are held back (157 of the 168 that are not among kinds of T cells or of monocytes) and 2 of
the 34 labels, both of the sorted study; the area under the curve is .970. Four studies of one tissue: read it as a check, no more.

**What it may do (rule R6b).** It only holds back. The odds multiply those of the label's confidence where they speak against
the term; a label that so falls below `ACCEPT` waits for a person, its term stands as proposed, and its row says
`InstanceBasedMatching`, which no held-out truth may rest on. It never accepts and never changes a term: that would make later
scores circular, and there is too little to learn it from. Of the labels that words leave open in these files (four)
the nearest label is on the right lineage for all and the very term for two. What is nearest is a reason of its own for the reviewer.

A label that is itself contradicted is no witness against one that is contradicted less.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.resolutions import GROUPING_TERMS
from cytolabe.reconcile.combine import ACCEPT, REVIEW
from cytolabe.reconcile.findings import finding_of
from cytolabe.reconcile.justifications import INSTANCE, Justification
from cytolabe.reconcile.likeness import MIN_CELLS, MIN_SHARED_GENES, LabelProfiles, Likeness, likeness
from cytolabe.records import Finding, LabelMapping, Predicate

__all__ = [
    "CURVE_INTERCEPT",
    "CURVE_SLOPE",
    "ExpressionEvidence",
    "Witness",
    "expression_evidence",
    "held_back",
    "is_alike",
    "margin_of",
    "odds_of",
    "posterior",
    "witnesses_of",
]

CURVE_INTERCEPT = 1.25
CURVE_SLOPE = 13.8
"""Odds that a label is what its term says, at equal odds before: exp(intercept + slope x margin)."""

_MAX_REFERENCES = 16
"""Data sets that one data set is compared with: those that share most genes with it."""
_N_NEAREST = 3
_SAYS_NOTHING = GROUPING_TERMS | {"CL:0000000"}
_RULE = "cytolabe/expression"
_WHERE = "contributor_label"
_Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class ExpressionEvidence:
    """What expression says of the labels of an atlas.

    `reasons` are rows for the mapping table; `against` maps (data set, label) to the odds of its term, in (0, 1), and what
    its cells look like, for accepted labels whose cells look like something else; `silent` says of each other label why there is no evidence.
    """

    reasons: tuple[Justification, ...] = ()
    against: Mapping[_Key, tuple[float, str]] = field(default_factory=dict)
    silent: Mapping[_Key, str] = field(default_factory=dict)
    n_compared: int = 0


def odds_of(margin: float) -> float:
    """Return the odds that a label means a term, at equal odds before, for the term's margin (in [-2, 2])."""
    return float(np.exp(CURVE_INTERCEPT + CURVE_SLOPE * margin))


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A label of another study whose term is accepted, as one label sees it."""

    key: _Key
    study: str
    term: str
    correlation: float
    chance: float
    shown: tuple[str, ...]


def expression_evidence(
    profiles: Sequence[LabelProfiles],
    mappings: Sequence[LabelMapping],
    *,
    ontology: Ontology,
    symbols: Mapping[str, str] | None = None,
) -> ExpressionEvidence:
    """Compare the labels of all data sets with accepted labels of other studies.

    Parameters
    ----------
    profiles
        One per data set; their means may lie on disk.
    mappings
        The mappings as words, studies and persons decided them.
    ontology
        The release that the mappings speak of.
    symbols
        Gene id -> symbol, for the text of the reasons.
    """
    by_key = {(m.dataset_id, m.contributor_label): m for m in mappings}
    accepted = {key: m for key, m in by_key.items() if _is_witness(m)}
    seen: dict[_Key, list[Witness]] = {}
    silent = dict.fromkeys(by_key, f"fewer than {MIN_CELLS} cells are read")
    for own in sorted(profiles, key=lambda profile: profile.dataset_id):
        found, why = witnesses_of(own, profiles, accepted)
        for at in own.compared:
            key = (own.dataset_id, own.labels[at])
            silent[key] = why
            if key in found and key in by_key:
                seen[key] = found[key]
                del silent[key]
    margins = {
        key: margin_of(by_key[key].term, witnesses, ontology)
        for key, witnesses in seen.items()
        if key in accepted
    }  # fmt: skip
    doubted = {
        key: found[0] for key, found in margins.items() if found is not None and _speaks_against(*found, seen[key])
    }
    against = {}
    for key, first in doubted.items():
        trusted = [w for w in seen[key] if doubted.get(w.key, np.inf) > first]
        again = margin_of(by_key[key].term, trusted, ontology)
        if again is not None and _speaks_against(*again, trusted):
            margin, rival = again
            told = f"{rival.term} ({ontology.name(rival.term)}), as {rival.key[1]!r} of {rival.key[0]}, margin {margin:.2f}"
            against[key] = (odds_of(margin), told)
    reasons = [
        reason
        for key, witnesses in sorted(seen.items())
        for reason in _reasons(by_key[key], witnesses, ontology, symbols=symbols or {})
    ]
    return ExpressionEvidence(reasons=tuple(reasons), against=against, silent=silent, n_compared=len(seen))


def held_back(
    mappings: Sequence[LabelMapping], evidence: ExpressionEvidence
) -> tuple[tuple[LabelMapping, ...], tuple[Finding, ...]]:
    """Return the mappings with those held back that expression contradicts, and the findings. What a person decided stands."""
    weighed, held, doubted = [], [], []
    for mapping in mappings:
        key = (mapping.dataset_id, mapping.contributor_label)
        odds, told = evidence.against.get(key, (1.0, ""))
        shown = f"{mapping.dataset_id}: {mapping.contributor_label!r} ({mapping.n_cells} cells) -> {mapping.term}, looks like {told}"
        confidence = posterior(mapping.confidence, odds)
        if not told or mapping.decision not in {"auto", "reviewed"}:
            weighed.append(mapping)
        elif mapping.decision == "reviewed":
            doubted += [shown] if confidence < ACCEPT else []
            weighed.append(mapping)
        elif confidence >= ACCEPT:
            weighed.append(mapping)
        else:
            held.append(shown)
            text = f"{mapping.evidence}; but expression: looks like {told}; waits for a person"
            weighed.append(
                replace(
                    mapping,
                    confidence=max(REVIEW, confidence),
                    decision="review",
                    justification=INSTANCE,
                    evidence=text,
                )
            )
    return tuple(weighed), tuple(_findings(held, doubted, evidence, n_total=len(mappings)))


def posterior(confidence: int, odds: float) -> int:
    """Return a confidence in thousandths after odds that speak against it; 1000 is taken as 995, for nobody is beyond doubt."""
    before = min(confidence, 995) / 1000
    return round(1000 * before * odds / (before * odds + 1 - before))


def _is_witness(mapping: LabelMapping) -> bool:
    decided = mapping.decision in {"auto", "reviewed"} and mapping.term not in {"", *_SAYS_NOTHING}
    return decided and mapping.justification != INSTANCE and mapping.predicate in {Predicate.EXACT, Predicate.BROAD}


def witnesses_of(
    own: LabelProfiles, profiles: Sequence[LabelProfiles], accepted: Mapping[_Key, LabelMapping]
) -> tuple[dict[_Key, list[Witness]], str]:
    """Return what each label of a data set is like elsewhere, and why nothing is said of those that are missing."""
    others = [p for p in profiles if p.study != own.study and any((p.dataset_id, x) in accepted for x in p.labels)]
    found: dict[_Key, list[Witness]] = {}
    for other in _nearest_data_sets(own, others):
        alike = likeness(own, other)
        if alike is not None:
            _collect(found, (own, other), alike, accepted=accepted)
    if not others:
        return found, "no accepted label in another study"
    return found, f"no accepted label elsewhere with {MIN_SHARED_GENES} genes in common"


def _nearest_data_sets(own: LabelProfiles, others: Iterable[LabelProfiles]) -> list[LabelProfiles]:
    genes = set(own.genes)
    shared = [(len(genes.intersection(other.genes)), other) for other in others]
    shared.sort(key=lambda item: (-item[0], item[1].dataset_id))
    return [other for n_genes, other in shared if n_genes >= MIN_SHARED_GENES][:_MAX_REFERENCES]


def _collect(
    found: dict[_Key, list[Witness]],
    pair: tuple[LabelProfiles, LabelProfiles],
    alike: Likeness,
    *,
    accepted: Mapping[_Key, LabelMapping],
) -> None:
    own, other = pair
    for at, row in enumerate(alike.rows):
        for to, column in enumerate(alike.columns):
            key = (other.dataset_id, other.labels[column])
            if key in accepted:
                witness = Witness(
                    key=key, study=other.study, term=accepted[key].term,
                    correlation=float(alike.correlation[at, to]), chance=alike.chance, shown=alike.shown[at][to],
                )  # fmt: skip
                found.setdefault((own.dataset_id, own.labels[row]), []).append(witness)


def margin_of(term: str, witnesses: Sequence[Witness], ontology: Ontology) -> tuple[float, Witness] | None:
    """Return the margin of a term against its worst rival, and the most alike label of the rival; None where no data set has both."""
    data_sets: dict[str, list[Witness]] = {}
    for witness in witnesses:
        data_sets.setdefault(witness.key[0], []).append(witness)
    found: dict[str, dict[str, list[float]]] = {}
    for members in data_sets.values():
        on_lineage = [w for w in members if ontology.related(w.term, term)]
        for rival in {w.term for w in members if not ontology.related(w.term, term)}:
            own = [w.correlation for w in on_lineage if not ontology.related(w.term, rival)]
            if own:
                against = max(w.correlation for w in members if w.term == rival)
                found.setdefault(rival, {}).setdefault(members[0].study, []).append(max(own) - against)
    if not found:
        return None
    means = {
        rival: float(np.mean([np.mean(values) for _, values in sorted(of_study.items())]))
        for rival, of_study in found.items()
    }
    rival = min(means, key=lambda name: (means[name], name))
    return means[rival], max((w for w in witnesses if w.term == rival), key=lambda w: (w.correlation, w.key))


def _speaks_against(margin: float, rival: Witness, witnesses: Sequence[Witness]) -> bool:
    """Whether a label looks like a rival: nearer than its own term, and by itself more alike than chance."""
    return odds_of(margin) < 1 and is_alike(rival.term, witnesses)


def is_alike(term: str, witnesses: Sequence[Witness]) -> bool:
    """Whether a label is more alike to the labels of a term, in the mean over studies, than unrelated values are."""
    found = [w for w in witnesses if w.term == term]
    return _mean_over_studies(found) > max(w.chance for w in found)


def _reasons(
    mapping: LabelMapping, witnesses: Sequence[Witness], ontology: Ontology, *, symbols: Mapping[str, str]
) -> list[Justification]:
    """Return the terms that a label is nearest to, by mean correlation over studies, each with the odds of its margin."""
    by_term: dict[str, list[Witness]] = {}
    for witness in witnesses:
        by_term.setdefault(witness.term, []).append(witness)
    means = {term: _mean_over_studies(found) for term, found in by_term.items()}
    reasons = []
    for term in sorted(means, key=lambda name: (-means[name], name))[:_N_NEAREST]:
        margin = margin_of(term, witnesses, ontology)
        best = max(by_term[term], key=lambda w: (w.correlation, w.key))
        if margin is None or not is_alike(term, witnesses):
            continue
        n_studies = len({w.study for w in by_term[term]})
        genes = ", ".join(symbols.get(gene, gene) for gene in best.shown)
        told = f"cells like {best.key[1]!r} of {best.key[0]}" + (f" ({genes})" if genes else "")
        odds = odds_of(margin[0])
        reasons.append(
            Justification(
                dataset_id=mapping.dataset_id,
                contributor_label=mapping.contributor_label,
                predicate=Predicate.EXACT,
                term=term,
                term_name=ontology.name(term),
                justification=INSTANCE,
                confidence=round(1000 * odds / (1 + odds)),
                similarity=round(1000 * means[term]),
                matched=f"{told}; {n_studies} study(ies), margin {margin[0]:.2f} to {ontology.name(margin[1].term)}",
            )
        )
    return reasons


def _mean_over_studies(witnesses: Iterable[Witness]) -> float:
    best: dict[str, dict[str, float]] = {}
    for witness in witnesses:
        of_study = best.setdefault(witness.study, {})
        of_study[witness.key[0]] = max(witness.correlation, of_study.get(witness.key[0], -1.0))
    return float(np.mean([np.mean(list(values.values())) for values in best.values()]))


def _findings(held: list[str], doubted: list[str], evidence: ExpressionEvidence, *, n_total: int) -> list[Finding]:
    found = []
    if held:
        found.append(finding_of(
            "W-LABEL-11", held, where=_WHERE, n_total=n_total, rule=_RULE,
            text=("the cells of labels look like another type than their words say; held back for a person",
                  "look at the markers, then accept or change the rows in the mapping file"),
        ))  # fmt: skip
    if doubted:
        found.append(finding_of(
            "W-LABEL-12", doubted, where=_WHERE, n_total=n_total, rule=_RULE,
            text=("the cells of reviewed labels look like another type; the review stands",
                  "look at the markers again; nothing was changed"),
        ))  # fmt: skip
    if evidence.silent:
        silent = [f"{dataset_id}: {label!r}, {why}" for (dataset_id, label), why in sorted(evidence.silent.items())]
        found.append(finding_of(
            "N-LABEL-13", silent, where=_WHERE, n_total=n_total, rule=_RULE,
            text=("labels have no evidence from expression", "nothing; their words decide alone"),
        ))  # fmt: skip
    return found
