"""Which classes each label stands for, as a matrix: all that a model needs to know of an ontology.

A label coarser than the classes (`T cell`, where the classes are CD4 and CD8 T cell) says that one of several is meant. With
the matrix a loss can use such cells (`models.hierarchical`), and probabilities of classes sum up to those of any label above
them: the marginal-sum prediction for models that know nothing of a hierarchy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from cytolabe.errors import UnresolvedLabelError, UsageError
from cytolabe.ontology.graph import Ontology

__all__ = ["Hierarchy", "hierarchy_of", "marginal_probability"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Hierarchy:
    """`covers[m, k]` tells whether label m equals class k or is above it. Labels and classes are sorted.

    Every class is a label, and every label covers a class at least.
    """

    labels: tuple[str, ...]
    classes: tuple[str, ...]
    covers: Bool[np.ndarray, "labels classes"]

    def codes(self, labels: Shaped[np.ndarray, " cells"]) -> Integer[np.ndarray, " cells"]:
        """Return the row of `covers` for each cell.

        Raises
        ------
        UsageError
            If a label is none of the hierarchy; unlabelled is not a class (rule R4), so an empty one is none either.
        """
        position = {label: number for number, label in enumerate(self.labels)}
        unknown = sorted({str(label) for label in labels.tolist()} - set(position))
        if unknown:
            msg = (
                f"{len(unknown)} label(s) stand for no class of the hierarchy: {', '.join(map(repr, unknown[:5]))}. "
                "Leave their cells out, and count them."
            )
            raise UsageError(msg)
        return np.array([position[str(label)] for label in labels.tolist()], dtype=np.int64)


def hierarchy_of(terms: Iterable[str], *, ontology: Ontology, classes: Sequence[str] = ()) -> Hierarchy:
    """Return which classes each term stands for.

    Parameters
    ----------
    terms
        Live terms that cells are labelled with.
    ontology
        The release that relates them.
    classes
        The classes; by default the terms that have no finer one among them. Terms that cover no class are left out of
        the labels: their cells say nothing about these classes.

    Raises
    ------
    UnresolvedLabelError
        If there is no term, or a term or class is not live.
    """
    named = sorted(set(terms))
    dead = [term for term in (*named, *classes) if term not in ontology]
    if dead or not named:
        msg = f"a hierarchy needs live terms of {ontology.prefix} {ontology.release}; got {dead[:5] or 'none'}."
        raise UnresolvedLabelError(msg)
    wanted = sorted(set(classes)) or [term for term in named if not ontology.descendants(term) & set(named)]
    labels = sorted({*wanted, *(term for term in named if any(ontology.is_a(one, term) for one in wanted))})
    covers = np.array([[ontology.is_a(one, label) for one in wanted] for label in labels], dtype=bool)
    return Hierarchy(labels=tuple(labels), classes=tuple(wanted), covers=covers)


def marginal_probability(
    probability: Float[np.ndarray, "cells classes"], hierarchy: Hierarchy
) -> Float[np.ndarray, "cells labels"]:
    """Return the probability of each label: the sum over the classes that it stands for.

    Rows do not sum to 1, because labels lie within each other; a label has at least the probability of any below it.
    """
    if probability.shape[1] != len(hierarchy.classes):
        msg = f"{probability.shape[1]} columns of probability for {len(hierarchy.classes)} classes."
        raise UsageError(msg)
    return np.asarray(probability @ hierarchy.covers.T.astype(probability.dtype))
