"""The levels at which a study scores: each an antichain of terms, each label under exactly one of them.

Published slims of CL overlap (half of the common labels fall under two of their classes), so a class set is made
here from the data's own terms, and everything that decides is written into the record:

1. `fine` = the data's labels that have no finer label in the data.
2. A coarser level merges classes of the level below under an ancestor whose intrinsic information content reaches the
   level's cut. The most general such ancestor goes first: CD4 and CD8 T cells form before the naive / memory cross-cut.
   Only an ancestor of two classes, or one that is itself a label of the data, is taken; grouping terms never are.
3. A label follows the class that it has in the next finer level, so levels refine each other whatever the
   multiple inheritance of CL offers. A label coarser than that level goes under the one class that covers it, or, under
   several, the one that most other cells of the data belong to, then the more general one; each such choice stands in
   `ties`. Where neither tells the classes apart, the label has none at this level: ids never decide.
4. A label above a class, or above parts of several, is "coarser than the level": excluded and counted, never
   silently right or wrong.

Information content counts terms of the release, not cells, so more cells of one type do not move a level. Levels that
a study declares go through steps 3 and 4 too, but a label under two declared terms is an error there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Shaped

from cytolabe.errors import UnresolvedLabelError, UsageError
from cytolabe.ontology.graph import Ontology
from cytolabe.provenance.canonical import digest_of

__all__ = [
    "COARSER",
    "COMPARTMENT_TERMS",
    "GROUPING",
    "GROUPING_TERMS",
    "LEVEL_CUTS",
    "OUTSIDE",
    "TIED",
    "DeclaredLevel",
    "Resolution",
    "Resolutions",
    "build_resolutions",
]

COARSER = "coarser than the level"
OUTSIDE = "outside the level"
GROUPING = "grouping term, never a class"
TIED = "under several classes of the level, and the data speak for none of them"
FINE = "fine"

LEVEL_CUTS: Mapping[str, float] = {"broad": 2.7, "mid": 4.4}
"""Least information content (nats) of a class that a level may merge into; T cell has 2.96, CD4 T cell 4.50."""

GROUPING_TERMS = frozenset({
    "CL:0000000", "CL:0000048", "CL:0000064", "CL:0000080", "CL:0000081", "CL:0000095", "CL:0000145", "CL:0000150",
    "CL:0000151", "CL:0000152", "CL:0000154", "CL:0000183", "CL:0000211", "CL:0000219", "CL:0000225", "CL:0000226",
    "CL:0000228", "CL:0000234", "CL:0000255", "CL:0000325", "CL:0000327", "CL:0000329", "CL:0000393", "CL:0000404",
    "CL:0000412", "CL:0000518", "CL:0000630", "CL:0000842", "CL:0002242", "CL:0011115",
})  # fmt: skip
"""Terms that cut across lineages by one property (motile, secretory, contractile, nucleate, ...), or say nothing."""

COMPARTMENT_TERMS = frozenset({
    "CL:0000034", "CL:0000113", "CL:0000163", "CL:0000542", "CL:0000710", "CL:0000723", "CL:0000738", "CL:0000763",
    "CL:0000766", "CL:0000988", "CL:0002077", "CL:0002078", "CL:0002319", "CL:0008001", "CL:0011026", "CL:1000497",
    "CL:1100001",
})  # fmt: skip
"""Leukocyte, lymphocyte, stem cell ...: nothing is merged into them, but a contributor's own label may be one."""


@dataclass(frozen=True, kw_only=True)
class DeclaredLevel:
    """A level that a study names itself. `merged` sends a term to an unrelated class (platelet to megakaryocyte).

    A level with `merged` stands beside the others: it neither refines one nor is refined.
    """

    name: str
    terms: tuple[str, ...]
    merged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """One level. `terms` are its classes, sorted, an antichain.

    `assignment` sends each label of the data in scope to its class, `excluded` each other label to the reason.
    `below` does the same for terms that no label has but a prediction may. `ties` says for each label with
    a choice between classes which rule decided.
    """

    name: str
    terms: tuple[str, ...]
    assignment: Mapping[str, str]
    excluded: Mapping[str, str]
    below: Mapping[str, str]
    ties: Mapping[str, str]
    digest: str


@dataclass(frozen=True, kw_only=True)
class Resolutions:
    """Levels from coarse to fine under one release."""

    levels: tuple[Resolution, ...]
    ontology_release: str
    digest: str

    def level(self, name: str) -> Resolution:
        """Return a level by name.

        Raises
        ------
        UsageError
            If there is no level of that name.
        """
        for level in self.levels:
            if level.name == name:
                return level
        msg = f"no resolution is called {name!r}; there are {', '.join(level.name for level in self.levels)}."
        raise UsageError(msg)

    def project(self, level: str, terms: Shaped[np.ndarray, " cells"]) -> Shaped[np.ndarray, " cells"]:
        """Return the class of each term at a level; an empty string where it has none there.

        Empty means coarser than the level, outside of it, or no term at all; `excluded` tells which for labels.
        """
        chosen = self.level(level)
        distinct, position = np.unique(np.asarray(terms, dtype=np.str_), return_inverse=True)
        classes = [chosen.assignment.get(str(t)) or chosen.below.get(str(t), "") for t in distinct]
        return np.asarray(classes, dtype=np.str_)[position] if classes else np.asarray([], dtype=np.str_)


def build_resolutions(
    term_counts: Mapping[str, int], *, ontology: Ontology, declared: Sequence[DeclaredLevel] = ()
) -> Resolutions:
    """Choose levels for the terms of a study's labels, or check and fill those that the study declares.

    Parameters
    ----------
    term_counts
        Cells per term, over all labelled cells; keys are ids in any spelling that `Ontology.resolve` reads. Empty
        and `unknown` keys are no labels and are left out.
    ontology
        The release that relates them.
    declared
        Levels from coarse to fine. Where none is declared, `broad`, `mid` and `fine` are made.

    Raises
    ------
    UnresolvedLabelError
        If a term is unknown or dead, a level is no antichain, or a label lies under two declared classes.
    """
    spelled = {key: ontology.resolve(key) for key in sorted(term_counts) if key not in {"", "unknown"}}
    counts: dict[str, int] = {}
    for key, term in spelled.items():
        counts[term] = counts.get(term, 0) + int(term_counts[key])
    levels = tuple(_checked(level, ontology) for level in declared) or _chosen_levels(counts, ontology)
    if len({level.name for level in levels}) < len(levels):
        msg = "two declared levels have the same name; a score names its level."
        raise UsageError(msg)
    made: list[Resolution] = []
    finer: Mapping[str, str] = {}
    for level in reversed(levels):
        # A level that merges unrelated terms stands apart: no other level follows its choices.
        apart = bool(level.merged)
        followed = {} if apart else finer
        filler = _Filler(level=level, finer=followed, ontology=ontology, counts=counts, declared=bool(declared))
        made.append(filler.resolution(spelled))
        if not apart:
            finer = {**made[-1].below, **{spelled[key]: found for key, found in made[-1].assignment.items()}}
    made.reverse()
    digests = [level.digest for level in made]
    return Resolutions(
        levels=tuple(made),
        ontology_release=ontology.release,
        digest=digest_of({"levels": digests, "ontology": ontology.digest}),
    )


def _checked(level: DeclaredLevel, ontology: Ontology) -> DeclaredLevel:
    """Return a declared level with resolved ids, after it proved to be an antichain."""
    terms = tuple(sorted({ontology.resolve(term) for term in level.terms}))
    merged = {ontology.resolve(source): ontology.resolve(target) for source, target in level.merged.items()}
    for term in terms:
        above = sorted(ontology.ancestors(term) & set(terms))
        if above:
            msg = (
                f"level {level.name!r}: {term} ({ontology.name(term)}) lies under {above[0]} "
                f"({ontology.name(above[0])}), so a cell could belong to both. Take one of the two out."
            )
            raise UnresolvedLabelError(msg)
    for source, target in sorted(merged.items()):
        if target not in terms or source in terms:
            msg = (
                f"level {level.name!r}: merged sends {source} to {target}; the first must not be a class of the "
                "level and the second must be one."
            )
            raise UnresolvedLabelError(msg)
    return DeclaredLevel(name=level.name, terms=terms, merged=merged)


def _chosen_levels(counts: Mapping[str, int], ontology: Ontology) -> tuple[DeclaredLevel, ...]:
    """Return `broad`, `mid` and `fine` for the data's own terms."""
    labels = frozenset(counts) - GROUPING_TERMS
    frontier = frozenset(term for term in labels if not ontology.descendants(term) & labels)
    levels = [DeclaredLevel(name=FINE, terms=tuple(sorted(frontier)))]
    for name, cut in sorted(LEVEL_CUTS.items(), key=lambda item: -item[1]):
        frontier = _merged_frontier(frontier, labels, counts, ontology=ontology, cut=cut)
        levels.append(DeclaredLevel(name=name, terms=tuple(sorted(frontier))))
    return tuple(reversed(levels))


def _merged_frontier(
    frontier: frozenset[str], labels: frozenset[str], counts: Mapping[str, int], *, ontology: Ontology, cut: float
) -> frozenset[str]:
    """Merge classes under ancestors that reach the cut, the most general first; at least two classes stay."""
    never = GROUPING_TERMS | COMPARTMENT_TERMS
    members: dict[str, set[str]] = {}
    for term in sorted(frontier):
        for above in ontology.ancestors(term) - never:
            if ontology.information_content(above) >= cut:
                members.setdefault(above, set()).add(term)

    def rank(term: str) -> tuple[float, int, str]:
        support = sum(counts.get(member, 0) for member in members[term])
        return ontology.information_content(term), -support, term

    waiting, taken = set(frontier), set[str]()
    # What lies under a taken term was absorbed with it, so the frontier stays an antichain.
    for term in sorted(members, key=rank):
        absorbed = members[term] & waiting
        useful = len(absorbed) > 1 or (len(absorbed) == 1 and term in labels)
        collapses = len(waiting) - len(absorbed) + len(taken) + 1 < 2 <= len(frontier)
        if not useful or collapses:
            continue
        waiting -= absorbed
        taken.add(term)
    return frozenset(waiting | taken)


@dataclass(frozen=True, kw_only=True)
class _Filler:
    """Decides for one level which class every term has; `finer` holds the classes of the next finer level by term."""

    level: DeclaredLevel
    finer: Mapping[str, str]
    ontology: Ontology
    counts: Mapping[str, int]
    declared: bool
    ties: dict[str, str] = field(default_factory=dict)

    @cached_property
    def covers(self) -> Mapping[str, frozenset[str]]:
        """The classes that equal or are above a term, or that it is merged into."""
        found = {term: {term} for term in self.level.terms}
        for term in self.level.terms:
            for below in self.ontology.descendants(term):
                found.setdefault(below, set()).add(term)
        for source, target in sorted(self.level.merged.items()):
            for below in {source} | self.ontology.descendants(source):
                found[below] = {target}
        return {term: frozenset(classes) for term, classes in found.items()}

    def resolution(self, spelled: Mapping[str, str]) -> Resolution:
        assignment, excluded = {}, {}
        for key, term in spelled.items():
            found = self._class_of(term)
            if found:
                assignment[key] = found
            else:
                excluded[key] = self._reason(term)
        labels = set(spelled) | set(spelled.values())
        below = {term: self._class_of_unlabelled(term) for term in sorted(self.covers) if term not in labels}
        content: dict[str, object] = {
            "name": self.level.name,
            "terms": self.level.terms,
            "assignment": assignment,
            "excluded": excluded,
            "below": {term: found for term, found in below.items() if found},
            "ties": dict(sorted(self.ties.items())),
        }
        return Resolution(**content, digest=digest_of(content))  # type: ignore[arg-type]

    def _class_of(self, term: str) -> str:
        """Return the class of a label, or an empty string."""
        finer = self.finer.get(term, "")
        candidates = self.covers.get(term, frozenset())
        if finer and finer != term and self.level.merged.get(term) is None:
            found = self._class_of(finer)
            others = sorted(candidates - {found})
            if others:
                self.ties[term] = f"also under {', '.join(others)}; follows {finer} of the finer level"
            return found
        if len(candidates) <= 1:
            return next(iter(candidates), "")
        return self._broken_tie(term, candidates)

    def _class_of_unlabelled(self, term: str) -> str:
        """Return the class of a term that no label has; empty where two classes could claim it."""
        finer = self.finer.get(term, "")
        if finer and finer != term:
            return self._class_of(finer)
        candidates = self.covers[term]
        return next(iter(candidates)) if len(candidates) == 1 else ""

    def _broken_tie(self, term: str, candidates: frozenset[str]) -> str:
        names = ", ".join(f"{c} ({self.ontology.name(c)})" for c in sorted(candidates))
        if self.declared:
            msg = (
                f"level {self.level.name!r}: the label {term} ({self.ontology.name(term)}) lies under {names}. "
                f"A cell must have one class: say which with merged = {{'{term}' = '...'}}, or drop one class."
            )
            raise UnresolvedLabelError(msg)
        below = self.ontology.descendants(term) | {term}

        def rank(candidate: str) -> tuple[int, float]:
            # What is below the label is below every candidate: only its other members tell them apart.
            others = (self.ontology.descendants(candidate) | {candidate}) - below
            support = sum(self.counts.get(other, 0) for other in others)
            return -support, self.ontology.information_content(candidate)

        best = min(rank(candidate) for candidate in candidates)
        found, *equal = sorted(candidate for candidate in candidates if rank(candidate) == best)
        if equal:
            self.ties[term] = f"under {names}; equal in other cells and generality, so it has no class"
            return ""
        self.ties[term] = f"under {names}; most other cells of the class, then the more general class"
        return found

    def _reason(self, term: str) -> str:
        if term in GROUPING_TERMS:
            return GROUPING
        if len(self.covers.get(term, frozenset())) > 1:
            return TIED
        # A label such as `memory T cell` is above no class when the classes are CD4 and CD8 T cell, and yet
        # holds cells of both: it is too coarse to decide, not foreign.
        return COARSER if self.ontology.descendants(term) & self.covers.keys() else OUTSIDE
