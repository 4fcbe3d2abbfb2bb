"""Levels as a tree: every class under the class that it belongs to one level up, with the cells of each.

Levels refine each other, so a tree is all there is to say about them, beside what stands outside of it: labels without a class
at a level, with the reason, and each choice between classes. A class that stays the same at several levels is one node.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.resolutions import Resolution, Resolutions

__all__ = ["LeftOut", "LevelNode", "left_out", "tree_of"]


@dataclass(frozen=True, kw_only=True)
class LevelNode:
    """One class, at all `levels` where it is one. `n_cells` counts cells of labels that it holds at the first of them."""

    term: str
    name: str
    levels: tuple[str, ...]
    n_cells: int
    n_labels: int
    children: tuple["LevelNode", ...] = ()


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One label term that has no class at a level, and why."""

    level: str
    term: str
    name: str
    reason: str
    n_cells: int


def tree_of(resolutions: Resolutions, term_counts: Mapping[str, int], *, ontology: Ontology) -> tuple[LevelNode, ...]:
    """Return the classes of the coarsest level, each with those of the next one under it, by cells.

    Parameters
    ----------
    resolutions
        What `build_resolutions` made of `term_counts`.
    term_counts
        Cells per term.
    ontology
        The release that names the terms.
    """
    first = resolutions.levels[0]
    grower = _Grower(levels=resolutions.levels, counts=term_counts, ontology=ontology)
    return grower.nodes(0, first.terms)


@dataclass(frozen=True, kw_only=True)
class _Grower:
    levels: tuple[Resolution, ...]
    counts: Mapping[str, int]
    ontology: Ontology

    def nodes(self, depth: int, terms: tuple[str, ...]) -> tuple[LevelNode, ...]:
        made = (self._node(depth, term) for term in terms)
        return tuple(sorted(made, key=lambda node: (-node.n_cells, node.term)))

    def _node(self, depth: int, term: str) -> LevelNode:
        level = self.levels[depth]
        held = [label for label, found in level.assignment.items() if found == term]
        below = self._below(depth, term)
        last = depth
        while below == (term,):
            last += 1
            below = self._below(last, term)
        return LevelNode(
            term=term,
            name=self.ontology.name(term),
            levels=tuple(level.name for level in self.levels[depth : last + 1]),
            n_cells=sum(self.counts[label] for label in held),
            n_labels=len(held),
            children=self.nodes(last + 1, below) if below else (),
        )

    def _below(self, depth: int, term: str) -> tuple[str, ...]:
        """Return the classes of the next finer level that belong to a class of this one."""
        if depth + 1 >= len(self.levels):
            return ()
        level = self.levels[depth]
        return tuple(
            finer
            for finer in self.levels[depth + 1].terms
            if (level.assignment.get(finer) or level.below.get(finer)) == term
        )


def left_out(resolutions: Resolutions, term_counts: Mapping[str, int], *, ontology: Ontology) -> tuple[LeftOut, ...]:
    """Return the label terms without a class at some level, from coarse to fine, by cells."""
    found = []
    for level in resolutions.levels:
        rows = [
            LeftOut(
                level=level.name,
                term=term,
                name=ontology.name(ontology.resolve(term)),
                reason=reason,
                n_cells=term_counts[term],
            )
            for term, reason in level.excluded.items()
        ]
        found += sorted(rows, key=lambda row: (-row.n_cells, row.term))
    return tuple(found)
