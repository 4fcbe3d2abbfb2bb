"""Which rows may teach the mapper what a row means, so that no curator's work is scored against itself.

Published tables copy each other: one cross-walk re-curates the labels of an annotation tool, several levels of one
reference repeat its labels, two loaders read one study. So six protocols are told apart:

* `leave_study_out` (the headline): a row of source s learns from no row of its study: of s; where its family re-curates
  itself, of every source of the family with a tissue of s (the levels of one reference); of no source that is *linked*
  to one of these, and no other level of its study; and of no other re-curating family that has such a link. Inside a family this leaves one study out,
  across families it leaves out those that curated the same labels.
* `leave_one_study_out`: inside a family only the row's study (as above) is left out, and of the other families those that curated
  the same labels. Two references of one family that share their labels, as of one organ in man and mouse, teach each other.
* `leave_whole_family_out`: as the headline, and a family that re-curates itself teaches nothing about itself at all.
* `leave_study_or_family_out`: only the row's own source, or its own family where that re-curates itself, is left out; a
  cross-walk of another family that copied its labels still teaches.
* `leave_family_out`: only the row's own family is left out (another family may have curated the same labels).
* `leave_source_out`: only the row's own source is left out; what a naive benchmark would report.

Two sources are linked where they share at least `MIN_SHARED` distinct labels and half of the shorter list. A family
re-curates itself where at least a third of its labels (per source) occur in another source too. Both are counted from
the labels alone, never from the answers, so a foreign table needs no list of names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cytolabe.reconcile.ranking.lexical import raw_words
from cytolabe.reconcile.scored.tables import LabelTable

__all__ = ["PROTOCOLS", "Fold", "Kinship", "folds_of", "kinship_of"]

_LEVEL = re.compile(r"(\s*(csv|tsv|v\d+|l(evel)?\s?\d+|\d+))+\Z")
"""What tells levels of one study apart at the end of a tissue's name: `pbmc1.csv`, `lung_L2`."""
PROTOCOLS = (
    "leave_study_out",
    "leave_one_study_out",
    "leave_whole_family_out",
    "leave_study_or_family_out",
    "leave_family_out",
    "leave_source_out",
)
MIN_SHARED = 5
_LINKED_SHARE = 0.5
_RECURATES_SHARE = 1 / 3
_LARGEST_FOLD = 0.08
"""Share of a table's rows up to which small sources are held out together."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Sources that are scored together, and those that none of them may learn from (the scored ones included)."""

    test: frozenset[str]
    barred: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Kinship:
    """Which sources may not teach which. `recurating` names the families that re-curate themselves."""

    family: Mapping[str, str]
    study: Mapping[str, frozenset[str]]
    linked: Mapping[str, frozenset[str]]
    recurating: frozenset[str]
    n_rows: Mapping[str, int]

    def barred(self, source: str, protocol: str) -> frozenset[str]:
        """Return the sources that a row of `source` may not learn from under a protocol; itself is among them."""
        if protocol == "leave_source_out":
            return frozenset({source})
        own = {other for other, family in self.family.items() if family == self.family[source]}
        if protocol == "leave_family_out":
            return frozenset(own)
        one_study = protocol in {"leave_study_out", "leave_one_study_out"}
        mine = self.study[source] if one_study else own
        if self.family[source] not in self.recurating:
            mine = {source}
        if protocol == "leave_study_or_family_out":
            return frozenset(mine)
        linked = frozenset().union(*(self.linked[level] for level in mine))
        if protocol == "leave_one_study_out":
            linked -= own
        families = ({self.family[other] for other in linked} & self.recurating) - {self.family[source]}
        same = {other for other, family in self.family.items() if family in families}
        levels = frozenset().union(*(self.study[o] for o in linked if self.family[o] in self.recurating))
        return frozenset(mine | linked | levels | same)


def kinship_of(table: LabelTable, *, teachers: np.ndarray | None = None) -> Kinship:
    """Find linked sources and re-curating families of a table, from its labels alone.

    `n_rows` counts the rows that may teach: all, or those that `teachers` marks.
    """
    labels = _labels_by_source(table)
    linked: dict[str, set[str]] = {source: set() for source in labels}
    for first, other in combinations(sorted(labels), 2):
        if _are_linked(labels[first], labels[other]):
            linked[first].add(other)
            linked[other].add(first)
    family = dict(zip(table.source, table.family, strict=True))
    times: dict[str, int] = {}
    for texts in labels.values():
        for text in texts:
            times[text] = times.get(text, 0) + 1
    recurating = set()
    for name in sorted(set(family.values())):
        told = [text for source, own in labels.items() if family[source] == name for text in own]
        if sum(times[text] > 1 for text in told) >= _RECURATES_SHARE * len(told):
            recurating.add(name)
    n_rows = dict.fromkeys(table.source, 0)
    for row, source in enumerate(table.source):
        n_rows[source] += 1 if teachers is None else int(teachers[row])
    return Kinship(
        family=family,
        study=_studies(table, family),
        linked={source: frozenset(others) for source, others in linked.items()},
        recurating=frozenset(recurating),
        n_rows=n_rows,
    )


def folds_of(kinship: Kinship, *, sources: Sequence[str] = (), protocol: str = "leave_study_out") -> tuple[Fold, ...]:
    """Group sources with the same barred families into folds, so that few models serve many studies.

    A fold bars the union of what its sources bar: a little less is learned than is allowed, never more. `sources` are
    those to score, all of them if it is empty.
    """
    total = sum(kinship.n_rows.values())
    groups: dict[tuple[str, ...], list[str]] = {}
    for source in sorted(sources or kinship.family):
        barred = kinship.barred(source, protocol)
        families = {kinship.family[other] for other in barred}
        groups.setdefault(tuple(sorted(families)), []).append(source)
    folds = []
    for key in sorted(groups):
        for members in _packed(groups[key], kinship, protocol=protocol, most=_LARGEST_FOLD * total):
            whole = {other for source in members for other in kinship.barred(source, protocol)}
            folds.append(Fold(test=frozenset(members), barred=frozenset(whole)))
    return tuple(folds)


def _packed(sources: Sequence[str], kinship: Kinship, *, protocol: str, most: float) -> list[list[str]]:
    """Fill folds with sources, largest first, while what they bar stays under `most` rows or costs nothing more."""

    def size(barred: set[str]) -> int:
        return sum(kinship.n_rows[other] for other in barred)

    folds: list[tuple[list[str], set[str], float]] = []
    for source in sorted(sources, key=lambda s: (-kinship.n_rows[s], s)):
        barred = set(kinship.barred(source, protocol))
        for members, cost, first in folds:
            held = {*members, source}
            if size(held) <= max(kinship.n_rows[members[0]], most) and size((cost | barred) - held) <= first + most / 2:
                members.append(source)
                cost.update(barred)
                break
        else:
            folds.append(([source], barred, size(barred - {source})))
    return [members for members, _, _ in folds]


def _studies(table: LabelTable, family: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return for each source the sources of its family with one of its tissues: levels of one study, itself among them."""
    tissues: dict[str, set[str]] = {source: set() for source in family}
    for source, tissue in zip(table.source, table.tissue, strict=True):
        tissues[source].add(_LEVEL.sub("", raw_words(tissue)))
    return {
        source: frozenset(
            other for other in family if family[other] == family[source] and (other == source or own & tissues[other])
        )
        for source, own in tissues.items()
    }


def _labels_by_source(table: LabelTable) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for label, source in zip(table.label, table.source, strict=True):
        found.setdefault(source, set()).add(raw_words(label))
    return {source: frozenset(texts) for source, texts in found.items()}


def _are_linked(first: frozenset[str], other: frozenset[str]) -> bool:
    shared = len(first & other)
    return shared >= min(MIN_SHARED, len(first), len(other)) and shared >= _LINKED_SHARE * min(len(first), len(other))
