"""Judge whether a claim may be made from this training side about this test side (rule R12).

Refusal belongs to the triple (claim, train, test), never to a data set alone.

*Cell types.* In training, labels and libraries form a bipartite graph; the contrast of two labels is estimable only
inside a connected component of it. If it is not, the library answers in place of the biology, and that pays off only
where the test cells come from the same libraries: both together refuse. Labels that keep apart because their tissues
do (types of the gut never share a library with types of the lung) only qualify, as long as each has company; so do
stray groups that hold under 2 % of the cells (one odd plate among four), which a reader is told of by number.

*Donor-level factors* (disease, sex). The unit is the donor: a factor that the technical columns determine (rank
deficiency of the design over training donors) is refused, and one that fewer than three donors untie is qualified.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Integer, Shaped
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from cytolabe.audit.designs import lost_contrasts
from cytolabe.audit.units import donor_keys, is_known, library_keys
from cytolabe.records import UNKNOWN, ScoreStatus

__all__ = ["MAX_STRAY_FRACTION", "MIN_OFF_DIAGONAL_DONORS", "ClaimVerdict", "cell_type_claim", "donor_claim"]

MIN_OFF_DIAGONAL_DONORS = 3
"""Donors that must occupy an off-diagonal cell of factor x technique before a donor-level claim is unqualified."""

MAX_STRAY_FRACTION = 0.02
"""Labelled cells outside the largest group of labels, below which a claim is qualified and not refused."""

_TECHNICAL = ("dataset_id", "assay", "suspension_type", "site", "batch")
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class ClaimVerdict:
    """Whether a claim may be scored: SCORED, QUALIFIED or REFUSED, why, and what a reader should know anyway."""

    status: ScoreStatus
    reason: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Labels:
    """Labelled cells of both sides, over the labels that occur on both; groups are components of the training graph."""

    test: pd.DataFrame
    group_of_label: dict[str, int]
    shared_libraries: set[str]
    tissues: dict[int, set[str]]
    cells_of_group: dict[int, int]


def cell_type_claim(
    cells: pd.DataFrame,
    labels: Shaped[np.ndarray, " cells"],
    *,
    train_rows: Integer[np.ndarray, " train"],
    test_rows: Integer[np.ndarray, " test"],
) -> ClaimVerdict:
    """Judge the claim "the labels of the test cells are recognized by biology".

    Parameters
    ----------
    cells
        A snapshot's table of cells.
    labels
        One label per cell (terms at the level that is scored); empty or `unknown` = unlabelled.
    train_rows, test_rows
        Positions in `cells`.
    """
    found = _labels_of(cells, labels.astype(str), train_rows=train_rows, test_rows=test_rows)
    if found.test.empty:
        return ClaimVerdict(status=ScoreStatus.REFUSED, reason="no test cell has a label that occurs in training")
    notes = _notes(found)
    groups = sorted({found.group_of_label[label] for label in found.test["label"]})
    stray = _stray_reason(found)
    leaking = found.test[found.test["library"].isin(sorted(found.shared_libraries))]
    leaking_groups = {found.group_of_label[label] for label in leaking["label"]}
    if len(groups) < 2 or not leaking_groups:
        return ClaimVerdict(status=ScoreStatus.SCORED, reason="", notes=notes)
    if stray:
        return ClaimVerdict(status=ScoreStatus.QUALIFIED, reason=stray, notes=notes)
    members = {group: sorted(x for x, y in found.group_of_label.items() if y == group) for group in groups}
    alone = sorted(members[group][0] for group in leaking_groups if len(members[group]) == 1)
    if alone:
        return ClaimVerdict(status=ScoreStatus.REFUSED, reason=_alone_reason(alone, found), notes=notes)
    if not _kept_apart_by_tissue(groups, found.tissues):
        reason = (
            f"training labels fall into {len(groups)} groups that never share a library, and "
            f"{len(found.shared_libraries)} of these libraries are on both sides: across groups the library answers"
        )
        return ClaimVerdict(status=ScoreStatus.REFUSED, reason=reason, notes=notes)
    reason = f"contrasts across {len(groups)} tissue-specific groups of labels rest on the library; those inside do not"
    return ClaimVerdict(status=ScoreStatus.QUALIFIED, reason=reason, notes=notes)


def donor_claim(
    cells: pd.DataFrame,
    *,
    factor: str,
    train_rows: Integer[np.ndarray, " train"],
    test_rows: Integer[np.ndarray, " test"],
) -> ClaimVerdict:
    """Judge the claim "`factor` of the test donors is recognized by biology"; the unit is the donor.

    Parameters
    ----------
    cells
        A snapshot's table of cells.
    factor
        A column that is constant within donors, such as `disease` or `sex`.
    train_rows, test_rows
        Positions in `cells`.
    """
    train, test = _donor_table(cells, train_rows, factor), _donor_table(cells, test_rows, factor)
    refusal = _donor_refusal(train, test, factor)
    if refusal:
        return ClaimVerdict(status=ScoreStatus.REFUSED, reason=refusal)
    columns = [column for column in _TECHNICAL if column != factor and _groups_donors(train, column)]
    missing = _rank_deficiency(train, factor, columns)
    if missing:
        reason = (
            f"{missing} contrast(s) of {factor} are determined by {', '.join(columns)} among "
            f"{train['donor'].nunique()} training donors: no model can tell them apart"
        )
        return ClaimVerdict(status=ScoreStatus.REFUSED, reason=reason)
    weakest, where = _support(train, factor, columns)
    notes = () if test[factor].nunique() > 1 else (f"the test donors have one level of {factor}",)
    if weakest < MIN_OFF_DIAGONAL_DONORS:
        reason = f"only {weakest} donor(s) untie {factor} from {where}; {MIN_OFF_DIAGONAL_DONORS} are needed"
        return ClaimVerdict(status=ScoreStatus.QUALIFIED, reason=reason, notes=notes)
    return ClaimVerdict(status=ScoreStatus.SCORED, reason="", notes=notes)


def _labels_of(cells: pd.DataFrame, labels: np.ndarray, *, train_rows: np.ndarray, test_rows: np.ndarray) -> _Labels:
    frame = pd.DataFrame({
        "label": labels, "library": library_keys(cells), "tissue": cells["tissue"].to_numpy(dtype=object),
    })  # fmt: skip
    labelled = ~np.isin(labels, ["", UNKNOWN])
    n_cells = frame["label"].iloc[np.concatenate([train_rows, test_rows])].value_counts()
    train = frame.iloc[train_rows][labelled[train_rows]].drop_duplicates()
    test = frame.iloc[test_rows][labelled[test_rows]].drop_duplicates()
    test = test[test["label"].isin(train["label"])]
    group_of_label = _label_groups(train)
    tissues: dict[int, set[str]] = {}
    for label, tissue in zip(train["label"], train["tissue"], strict=True):
        tissues.setdefault(group_of_label[label], set()).add(tissue)
    cells_of_group: dict[int, int] = {}
    for label, group in group_of_label.items():
        cells_of_group[group] = cells_of_group.get(group, 0) + int(n_cells[label])
    # A library counts as shared even where its training cells have no label: an unsupervised step still sees them.
    shared = set(frame["library"].iloc[train_rows]) & set(test["library"])
    return _Labels(
        test=test,
        group_of_label=group_of_label,
        shared_libraries=shared,
        tissues=tissues,
        cells_of_group=cells_of_group,
    )


def _label_groups(train: pd.DataFrame) -> dict[str, int]:
    """Return the number of the connected component of the graph label x library that each label is in."""
    label_codes, label_names = pd.factorize(train["label"], sort=True)
    library_codes, library_names = pd.factorize(train["library"], sort=True)
    size = len(label_names) + len(library_names)
    edges = (np.ones(len(train), dtype=np.int8), (label_codes, library_codes + len(label_names)))
    component = connected_components(csr_matrix(edges, shape=(size, size)), directed=False)[1]
    return {str(name): int(component[number]) for number, name in enumerate(label_names)}


def _notes(found: _Labels) -> tuple[str, ...]:
    notes = []
    labels_per_library = found.test.groupby("library")["label"].nunique()
    if len(labels_per_library) > 1 and found.test["label"].nunique() > 1 and (labels_per_library == 1).all():
        notes.append("test batches equal labels")
    n_groups = len(set(found.group_of_label.values()))
    if n_groups > 1:
        notes.append(f"training labels fall into {n_groups} groups that never share a library")
    return tuple(notes)


def _stray_reason(found: _Labels) -> str:
    """Tell of the groups beside the largest one where these hold so few cells that the claim stands without them."""
    total, largest = (
        sum(found.cells_of_group.values()),
        max(found.cells_of_group, key=lambda g: found.cells_of_group[g]),
    )
    n_stray = total - found.cells_of_group[largest]
    if n_stray >= MAX_STRAY_FRACTION * total:
        return ""
    n_labels = sum(group != largest for group in found.group_of_label.values())
    return (
        f"{n_stray} of {total} cells ({n_labels} label(s)) never share a library with the others in training: contrasts "
        "with them rest on the library"
    )


def _alone_reason(alone: Sequence[str], found: _Labels) -> str:
    return (
        f"{len(alone)} label(s) never share a library with another label in training, and "
        f"{len(found.shared_libraries)} library(ies) are on both sides: naming the library gives the label "
        f"({', '.join(alone[:_EXAMPLES])})"
    )


def _kept_apart_by_tissue(groups: Sequence[int], tissues: dict[int, set[str]]) -> bool:
    """Tell whether no two groups have a tissue in common, and every tissue is known."""
    every = [tissue for group in groups for tissue in tissues[group]]
    return len(every) == len(set(every)) and not {"", UNKNOWN} & set(every)


def _donor_table(cells: pd.DataFrame, rows: np.ndarray, factor: str) -> pd.DataFrame:
    """Return the distinct (donor, factor, technical levels) with a known factor; unknown donors are `""`."""
    part = cells.iloc[rows]
    table = part[[column for column in _TECHNICAL if column != "batch"]].copy()
    table["batch"], table["donor"] = library_keys(part), donor_keys(part)
    table[factor] = part[factor]
    return table[is_known(part[factor])].drop_duplicates().reset_index(drop=True)


def _donor_refusal(train: pd.DataFrame, test: pd.DataFrame, factor: str) -> str:
    for side, table in (("training", train), ("test", test)):
        if table.empty:
            return f"no {side} cell has a known {factor}"
        if (table["donor"] == "").any():
            return f"donors unknown on the {side} side: {factor} is a property of donors, not of cells"
    if train[factor].nunique() < 2:
        return f"the training donors have one level of {factor}"
    shared = sorted(set(train["donor"]) & set(test["donor"]))
    if shared:
        return f"{len(shared)} donor(s) on both sides: {', '.join(shared[:_EXAMPLES])}"
    levels = train.groupby("donor")[factor].nunique()
    varying = sorted(levels[levels > 1].index)
    if varying:
        return f"{factor} varies within {len(varying)} donor(s) ({', '.join(varying[:_EXAMPLES])}): not a donor factor"
    return ""


def _groups_donors(train: pd.DataFrame, column: str) -> bool:
    """Tell whether a technical column has levels to adjust for.

    A donor's own library is part of the donor: batches say something only where they hold two donors on average.
    """
    # An unknown level is a level of its own: left out, one donor without a value would hide the whole column.
    if train.loc[is_known(train[column]), column].nunique() < 2:
        return False
    return column != "batch" or 2 * train["batch"].nunique() <= train["donor"].nunique()


def _rank_deficiency(train: pd.DataFrame, factor: str, columns: Sequence[str]) -> int:
    """Return how many contrasts of the factor the technical columns leave undetermined.

    A donor that was processed in two ways is one observation of each: it ties the two together.
    """
    observed = [pd.factorize(train[column], sort=True)[0] for column in (*columns, factor)]
    return lost_contrasts(observed[:-1], observed[-1])


def _support(train: pd.DataFrame, factor: str, columns: Sequence[str]) -> tuple[int, str]:
    """Return the smallest number of donors that untie a level of the factor from a technical column, and which.

    For one level: the best technical level is the one where most donors have it beside donors who have it not.
    """
    weakest, where = int(train.groupby(factor)["donor"].nunique().min()), "chance"
    for column in columns:
        counts = train.groupby([column, factor])["donor"].nunique().unstack(fill_value=0).to_numpy()
        others = counts.sum(axis=1, keepdims=True) - counts
        best = int(np.minimum(counts, others).max(axis=0).min())
        if best < weakest:
            weakest, where = best, column
    return weakest, where
