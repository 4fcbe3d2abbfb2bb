"""Dimensions of an embedding that hold a code: the label of a cell, written among its coordinates.

An embedding that was made elsewhere may carry labels as one-hot columns or scaled numbers; any probe reads them. What
tells such a dimension from a learned one is its width: coordinates scatter, a code is one number in all cells of a
label, but for rounding and a touch of noise. Widths are measured against the spread of the whole dimension, so that
neither scale nor offset hides a code. A dimension that is exactly 0 in a label (a unit that never fires there) is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from cytolabe.audit.coded_features import MIN_CODED_CELLS, MIN_CODED_SHARE
from cytolabe.audit.units import is_known
from cytolabe.records import Finding, Fold, Severity

__all__ = ["CODE_WIDTH", "CodedDimensions", "coded_dimensions", "dimensions_test"]

CODE_WIDTH = 0.001
"""Distance from the median of a label, in standard deviations of the dimension, within which a coordinate is that code."""

_MAX_OTHER_SHARE = 0.5
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class CodedDimensions:
    """Which dimensions hold a code of labels on both sides, and which on one side only; examples name cells of both."""

    n_dims: int
    both: tuple[int, ...]
    one_side: tuple[int, ...]
    n_untested: int
    examples: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """Why the scores of the embedding are refused; empty where they are not."""
        if not self.both:
            return ""
        named = ", ".join(f"d{dim}" for dim in self.both[:_EXAMPLES])
        return (
            f"E-LEAK-10: {len(self.both)} of {self.n_dims} dimensions ({named}) hold a code of the label on both sides"
        )

    def findings(self, model: str) -> tuple[Finding, ...]:
        """Report the dimensions that hold a code on both sides."""
        if not self.both:
            return ()
        return (
            Finding(
                code="E-LEAK-10",
                severity=Severity.ERROR,
                where=model,
                message=f"{len(self.both)} dimension(s) hold one number in all cells of a label, on both sides: a code of the label, which "
                "every probe can read",
                remedy="embed the cells without their labels; leave out columns that are no coordinates",
                rule="R16",
                n_affected=len(self.both),
                n_total=self.n_dims,
                examples=self.examples,
            ),
        )


def coded_dimensions(
    embedding: Float[np.ndarray, "cells dims"], cells: pd.DataFrame, fold: Fold, *, rows: Shaped[np.ndarray, " cells"]
) -> CodedDimensions:
    """Look for codes of labels in the dimensions of an embedding.

    Parameters
    ----------
    embedding
        One row for each of `rows`, which are positions in `cells`.
    cells
        Table of cells; classes are labels as delivered (else terms), each inside of one data set and one side.
    fold
        Which cells are on which side; others are not looked at.
    """
    side = np.where(np.isin(rows, fold.train_rows), "train", np.where(np.isin(rows, fold.test_rows), "test", ""))
    part = cells[["dataset_id", "contributor_label", "cell_type_ontology_term_id"]].iloc[rows]
    given = is_known(part["contributor_label"])
    labels = np.where(given, part["contributor_label"], part["cell_type_ontology_term_id"]).astype(str)
    known = (given | is_known(part["cell_type_ontology_term_id"])) & (side != "")
    names = pd.MultiIndex.from_arrays([side[known], part["dataset_id"].to_numpy(dtype=object)[known], labels[known]])
    codes, keys = pd.factorize(names, sort=True)
    places = [np.flatnonzero(known)[codes == number] for number in range(len(keys))]
    classes = [(key, own) for key, own in zip(keys, places, strict=True) if len(own) >= MIN_CODED_CELLS]
    n_untested = sum(len(own) for key, own in zip(keys, places, strict=True) if key[0] == "test") - sum(
        len(own) for key, own in classes if key[0] == "test"
    )
    values = embedding.astype(np.float64)
    width = CODE_WIDTH * values.std(axis=0)
    found = {one: _codes(values, width, [own for key, own in classes if key[0] == one]) for one in ("train", "test")}
    any_ = {one: np.flatnonzero(told.any(axis=0)) for one, told in found.items()}
    both = np.intersect1d(any_["train"], any_["test"])
    ids = cells["cell_id"].to_numpy(dtype=object)[rows]
    examples = []
    for dim in both[:_EXAMPLES].tolist():
        told = []
        for one in ("train", "test"):
            of_side = [(key, own) for key, own in classes if key[0] == one]
            key, own = of_side[int(np.argmax(found[one][:, dim]))]
            told.append(f"{one} {ids[own[0]]} ({key[2]}) {values[own[0], dim]:.6g}")
        examples.append(f"d{dim}: {', '.join(told)}")
    return CodedDimensions(
        n_dims=values.shape[1],
        both=tuple(both.tolist()),
        one_side=tuple(np.setxor1d(any_["train"], any_["test"]).tolist()),
        n_untested=n_untested,
        examples=tuple(examples),
    )


def dimensions_test(model: str, found: Sequence[CodedDimensions]) -> dict[str, object]:
    """Return the test of a certificate over all embeddings that a model gave in a fold: the worst of them counts."""
    return {
        "test": f"dimensions of {model} that hold a code",
        "n_tested": max((one.n_dims for one in found), default=0),
        "n_found": max((len(one.both) for one in found), default=0),
        "n_on_one_side": max((len(one.one_side) for one in found), default=0),
        "n_cells_of_small_labels": max((one.n_untested for one in found), default=0),
        "n_embeddings": len(found),
        "power": f"numbers that {MIN_CODED_SHARE:.0%} of the cells of a label share, to {CODE_WIDTH} of the spread of the dimension, in labels of "
        f"{MIN_CODED_CELLS} cells or more; not a code that is spread over several dimensions by a rotation",
    }


def _codes(
    values: Float[np.ndarray, "cells dims"], width: Float[np.ndarray, " dims"], classes: Sequence[np.ndarray]
) -> Bool[np.ndarray, "classes dims"]:
    """Tell in which dimensions nearly all cells of a class share a number that another class mostly lacks."""
    found = np.zeros((len(classes), values.shape[1]), dtype=bool)
    for number, own in enumerate(classes):
        middle = np.median(values[own], axis=0)
        is_one = (np.abs(values[own] - middle) <= width).mean(axis=0) >= MIN_CODED_SHARE
        chosen = np.flatnonzero(is_one & (middle != 0) & (width > 0))
        for other in (one for place, one in enumerate(classes) if place != number and len(chosen)):
            share = (np.abs(values[np.ix_(other, chosen)] - middle[chosen]) <= width[chosen]).mean(axis=0)
            found[number, chosen[share <= _MAX_OTHER_SHARE]] = True
    return found
