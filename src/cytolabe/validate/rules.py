"""The checks of one data set: pure functions from what is known of it to what was found.

A check yields `Hit`s: which rule, where, how many, and the values for its message. What is said and at which threshold
lies in the pack, so that a threshold is never changed without a new version of it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.genes.organisms import canonical_organism, guess_organism, known_fraction, organism_shares
from cytolabe.genes.reference import shipped_organisms
from cytolabe.records import UNKNOWN, DatasetRecord, FeatureAlignment, HopState

__all__ = [
    "CHECKS",
    "GENE_CHECKS",
    "Check",
    "Examined",
    "Hit",
    "check_assay",
    "check_batch_against_label",
    "check_donors",
    "check_empty_cells",
    "check_genes",
    "check_labels",
    "check_organism",
    "check_panel",
    "check_provenance",
    "check_suspension",
    "check_upstream",
]

Thresholds = Mapping[str, Mapping[str, float]]
_CODE = re.compile(
    r"(?!CL[:_]\d{7})(c|cl|clu|cluster|k|x|v|g|group|type|class|label)?[ _.:#-]*\d+([._-]\d+)*", re.IGNORECASE
)
"""A bare number or the name of a cluster; an id of the Cell Ontology says what is meant."""
_COUNTER = re.compile(r"(gene|feature|var|v|g|x)?[ _.-]?\d+", re.IGNORECASE)
_POOLED = "pooled"
_MIN_SYMBOLS = 20
_MANY_NAMES = 100_000
"""Names of cells that are asked whether they are genes; no reference has more."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What the checks look at: the facts, the standard table of cells, the alignment, and the total per cell."""

    record: DatasetRecord
    cells: pd.DataFrame
    alignment: FeatureAlignment
    cell_totals: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One rule that applies, with the values of its message."""

    code: str
    where: str
    n_affected: int
    n_total: int
    examples: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


Check = Callable[[Examined, Thresholds], Iterator[Hit]]
"""A check."""


# --- genes --------------------------------------------------------------------------------------------------------


def check_genes(examined: Examined, thresholds: Thresholds) -> Iterator[Hit]:
    """Hold the share of counts that maps onto the gene reference against the limits."""
    alignment = examined.alignment
    share = alignment.genes_mapped_fraction_of_counts
    lost = [
        place for place, (gene, status) in enumerate(zip(alignment.gene_ids, alignment.status, strict=True))
        if not gene and status != "spike_in"
    ]  # fmt: skip
    lost.sort(key=lambda place: (-alignment.count_fraction[place], alignment.features[place]))
    heaviest = tuple(f"{alignment.features[at]} ({alignment.count_fraction[at]:.2%})" for at in lost[:5])
    values = {"share": f"{share:.1%}", "reference": alignment.gene_reference, "heaviest": ", ".join(heaviest[:3])}
    limits = thresholds["E-GENES-01"]
    organism = canonical_organism(examined.record.organism)
    unsupported = organism not in {*shipped_organisms(), "", UNKNOWN}
    if share < limits["refused_below"] or unsupported:
        values["cause"] = _cause(examined, share < limits["nothing_below"], values["heaviest"])
        if unsupported:
            values["cause"] = f"there is no gene reference for {organism}, only for {', '.join(shipped_organisms())}"
        code = "E-GENES-01"
    elif share < thresholds["W-GENES-02"]["warned_below"]:
        code = "W-GENES-02"
    else:
        return
    yield Hit(
        code=code,
        where="var index",
        n_affected=len(lost),
        n_total=len(alignment.features),
        examples=heaviest,
        values=values,
    )


def _cause(examined: Examined, is_nothing_mapped: bool, heaviest: str) -> str:  # noqa: FBT001 - private
    """Say what the features probably are instead of genes of this reference."""
    features = examined.alignment.features
    shown = ", ".join(features[:3])
    if _share(features, _COUNTER) > 0.5:
        numbers = {int(feature) for feature in features if feature.isdecimal()}
        if len(numbers) > 0.5 * len(features) and max(numbers) > 10 * len(features):
            return f"features are numbers such as {shown}, perhaps NCBI Gene (Entrez) ids, which are not read"
        return f"gene names are absent: features are mere counters such as {shown}"
    if not is_nothing_mapped:
        return f"the heaviest of them are {heaviest}"
    prefix = len(examined.record.dataset_id) + 1
    cells = [str(name)[prefix:] for name in examined.cells["cell_id"].iloc[:_MANY_NAMES]]
    if any(known_fraction(cells, organism) > 0.5 for organism in shipped_organisms()):
        return f"the cells bear names of genes ({', '.join(cells[:3])}): the matrix is turned over; deliver adata.T"
    return f"no gene of this reference is among names such as {shown}"


def check_panel(examined: Examined, thresholds: Thresholds) -> Iterator[Hit]:
    """Say when a file measures a panel of genes."""
    n_genes = len(examined.alignment.measured_genes)
    if 0 < n_genes < thresholds["W-PANEL-01"]["panel_below"]:
        yield Hit(code="W-PANEL-01", where="var", n_affected=n_genes, n_total=len(examined.alignment.features))
    if 0 < n_genes < thresholds["N-PANEL-02"]["ranked_from"]:
        yield Hit(code="N-PANEL-02", where="var", n_affected=n_genes, n_total=len(examined.alignment.features))


def check_organism(examined: Examined, thresholds: Thresholds) -> Iterator[Hit]:
    """Compare the declared organism with the writing of the gene names: `CD3E` is human, `Cd3e` mouse."""
    organisms = sorted(set(examined.cells["organism"].unique()) - {UNKNOWN}) or [examined.record.organism]
    if len(organisms) > 1:
        n_cells = len(examined.cells)
        shown = tuple(organisms[:5])
        yield Hit(
            code="E-ORGANISM-03",
            where="organism",
            n_affected=n_cells,
            n_total=len(organisms),
            examples=shown,
            values={"example": ", ".join(shown)},
        )
        return
    organism = organisms[0]
    if organism in {"", UNKNOWN}:
        yield Hit(code="W-ORGANISM-01", where="organism", n_affected=1, n_total=1)
        return
    yield from _foreign_names(examined, organism, thresholds["E-ORGANISM-02"]["foreign_above"])


def _foreign_names(examined: Examined, organism: str, foreign_above: float) -> Iterator[Hit]:
    """Say when the names speak of another organism than the file; upper-cased mouse genes are seen through."""
    features = examined.alignment.features
    spoken = guess_organism(features)
    if spoken in {canonical_organism(organism), UNKNOWN} or len(features) < _MIN_SYMBOLS:
        return
    share = max(organism_shares(features)[spoken], known_fraction(features, spoken))
    if share <= foreign_above:
        return
    yield Hit(
        code="E-ORGANISM-02",
        where="var index",
        n_affected=round(share * len(features)),
        n_total=len(features),
        examples=tuple(features[:5]),
        values={
            "organism": organism,
            "other": spoken,
            "share": f"{share:.0%}",
            "example": ", ".join(features[:3]),
        },
    )


def check_upstream(examined: Examined, thresholds: Thresholds) -> Iterator[Hit]:
    """Say what a loss of counts before the file was shared means."""
    left = examined.record.upstream_fraction_of_counts
    if left is not None and left < thresholds["W-UPSTREAM-04"]["subset_below"]:
        n_cells = len(examined.cells)
        yield Hit(
            code="W-UPSTREAM-04",
            where=examined.record.matrix,
            n_affected=n_cells,
            n_total=n_cells,
            examples=(f"{left:.3f}",),
            values={"share": f"{left:.0%}"},
        )


def _cells_of_words(column: pd.Series) -> dict[str, int]:
    """Return the number of cells of each word that occurs."""
    return {str(word): int(n_cells) for word, n_cells in column.value_counts(sort=False).items() if n_cells}


def _labels_by_batch(cells: pd.DataFrame) -> tuple[int, np.ndarray, tuple[list[str], list[str]]]:
    """Return how many cells have a label, (batches x labels) counts of them, and the words of both that occur."""
    codes, words = zip(*(pd.factorize(cells[name]) for name in ("batch", "contributor_label")), strict=True)
    flat = codes[0] * len(words[1]) + codes[1]
    shape = (len(words[0]), len(words[1]))
    table = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
    labels = [str(word) for word in words[1]]
    table = table[:, [place for place, label in enumerate(labels) if label]]
    rows = np.flatnonzero(table.sum(axis=1))
    return int(table.sum()), table[rows], ([str(words[0][row]) for row in rows], [label for label in labels if label])


# --- cells --------------------------------------------------------------------------------------------------------


def check_empty_cells(examined: Examined, _: Thresholds) -> Iterator[Hit]:
    """Count cells without any count."""
    empty = np.flatnonzero(examined.cell_totals == 0)
    if len(empty):
        names = tuple(str(name) for name in examined.cells["cell_id"].iloc[empty[:5]])
        n_cells = len(examined.cell_totals)
        yield Hit(code="W-CELL-07", where="cells", n_affected=len(empty), n_total=n_cells, examples=names)


def check_donors(examined: Examined, _: Thresholds) -> Iterator[Hit]:
    """Say how well the donors are known."""
    cells_of = _cells_of_words(examined.cells["donor_id"])
    words = tuple(sorted({UNKNOWN, _POOLED} & set(cells_of)))
    n_unclear = sum(cells_of[word] for word in words)
    persons = sorted(set(cells_of) - set(words))
    n_cells = len(examined.cells)
    if not persons:
        yield Hit(code="W-DONOR-01", where="donor_id", n_affected=n_cells, n_total=n_cells)
        return
    if n_unclear:
        yield Hit(code="W-DONOR-02", where="donor_id", n_affected=n_unclear, n_total=n_cells, examples=words)
    if len(persons) == 1:
        yield Hit(
            code="N-DONOR-03",
            where="donor_id",
            n_affected=n_cells,
            n_total=n_cells,
            examples=tuple(persons),
            values={"example": persons[0]},
        )


def check_assay(examined: Examined, _: Thresholds) -> Iterator[Hit]:
    """Count cells whose assay is not known."""
    n_unknown = int((examined.cells["assay"] == UNKNOWN).sum())
    if n_unknown:
        yield Hit(code="N-ASSAY-01", where="assay", n_affected=n_unknown, n_total=len(examined.cells))


def check_suspension(examined: Examined, _: Thresholds) -> Iterator[Hit]:
    """Say when whole cells and nuclei lie in one data set."""
    cells_of = _cells_of_words(examined.cells["suspension_type"])
    kinds = {name: cells_of.get(name, 0) for name in ("cell", "nucleus")}
    if min(kinds.values()):
        shown = tuple(f"{name}: {n_cells:,}" for name, n_cells in kinds.items())
        yield Hit(
            code="W-SUSPENSION-01",
            where="suspension_type",
            n_affected=kinds["nucleus"],
            n_total=len(examined.cells),
            examples=shown,
            values={"example": ", ".join(shown)},
        )


# --- labels -------------------------------------------------------------------------------------------------------


def check_labels(examined: Examined, thresholds: Thresholds) -> Iterator[Hit]:
    """Look at the labels as delivered: absent, all the same, or codes."""
    cells_of = _cells_of_words(examined.cells["contributor_label"])
    levels = sorted(set(cells_of) - {""})
    n_labelled = sum(cells_of[level] for level in levels)
    column = examined.record.columns.get("label", "contributor_label")
    n_cells = len(examined.cells)
    if not levels:
        yield Hit(code="W-CLASS-03", where="obs", n_affected=n_cells, n_total=n_cells)
        return
    shown = tuple(levels[:5])
    values = {"column": column, "example": ", ".join(shown)}
    n_codes = sum(_CODE.fullmatch(level) is not None for level in levels)
    if n_codes > thresholds["E-CLASS-01"]["codes_above"] * len(levels):
        yield Hit(
            code="E-CLASS-01",
            where=f"obs[{column!r}]",
            n_affected=n_codes,
            n_total=len(levels),
            examples=shown,
            values=values,
        )
    if len(levels) == 1:
        yield Hit(
            code="W-CLASS-02",
            where=f"obs[{column!r}]",
            n_affected=n_labelled,
            n_total=n_cells,
            examples=shown,
            values=values,
        )
    yield from _label_origin(examined, n_labelled=n_labelled)


def _label_origin(examined: Examined, *, n_labelled: int) -> Iterator[Hit]:
    origin = examined.record.label_origin or UNKNOWN
    n_cells = len(examined.cells)
    if origin in {"automated", "transferred"}:
        values = {"origin": origin}
        yield Hit(code="W-CLASS-04", where="label_origin", n_affected=n_labelled, n_total=n_cells, values=values)
    elif origin == UNKNOWN:
        yield Hit(code="N-CLASS-05", where="label_origin", n_affected=n_labelled, n_total=n_cells)


def check_batch_against_label(examined: Examined, thresholds: Thresholds) -> Iterator[Hit]:
    """Say when every batch holds one label only, so that the two cannot be told apart."""
    n_labelled, table, words = _labels_by_batch(examined.cells)
    if not n_labelled or min(table.shape) < 2:
        return
    agreeing = table.max(axis=1).sum() / table.sum()
    if agreeing < thresholds["W-BATCH-01"]["nested_from"]:
        return
    batches, labels = words
    least = [min(label for label, n_cells in zip(labels, row, strict=True) if n_cells) for row in table]
    shown = tuple(f"{batch} holds {label}" for batch, label in sorted(zip(batches, least, strict=True))[:3])
    yield Hit(
        code="W-BATCH-01",
        where="batch and contributor_label",
        n_affected=n_labelled,
        n_total=table.shape[1],
        examples=shown,
        values={"example": "; ".join(shown)},
    )


# --- provenance ---------------------------------------------------------------------------------------------------


def check_provenance(examined: Examined, _: Thresholds) -> Iterator[Hit]:
    """Name the steps between the reads and the counts of which nothing is known."""
    hops = examined.record.provenance
    unknown = tuple(sorted(hop for hop, state in hops.items() if state is HopState.UNKNOWN))
    if unknown:
        yield Hit(
            code="N-HOP-01",
            where="manifest",
            n_affected=len(unknown),
            n_total=len(hops),
            examples=unknown[:5],
            values={"example": ", ".join(unknown)},
        )


def _share(names: Sequence[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.fullmatch(name) is not None for name in names) / len(names) if names else 0.0


CHECKS: Sequence[Check] = (
    check_genes,
    check_panel,
    check_organism,
    check_upstream,
    check_empty_cells,
    check_donors,
    check_assay,
    check_suspension,
    check_labels,
    check_batch_against_label,
    check_provenance,
)
"""Every check, in the order in which findings are reported."""

GENE_CHECKS: Sequence[Check] = (check_genes, check_panel)
"""Those that look at nothing but the alignment, as long as something maps."""
