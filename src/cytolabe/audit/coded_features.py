"""Genes that hold a code instead of molecules: the label, the person or the side of a cell, written among its counts.

Such a column gives any model the answer on both sides of a fold. What tells it from a marker is noise. Molecules are
sampled: whatever its mean, no Poisson count takes one value other than 0 with a probability above 1 / e, and biology
adds to the scatter; a code is one value in all cells of a class. On 22 groupings of 17 real files the most constant
gene holds one value in 57 % of the cells of a class of 30 cells or more, and in 71 % of one of 20 or more.

A sample of each class nominates genes (a code is constant there, too), and all cells of the class confirm. Classes are
labels as delivered, persons, and the sides themselves, each inside of one data set and one side. A gene that is in all
cells of one label and in none of the others is told as well, as a suspicion: nearly no marker is so clean.
What a fine code inside of a class tells, and a code that was noised or scaled with depth, is not seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Integer
from scipy.sparse import csr_matrix

from cytolabe.audit.copies import Outcome
from cytolabe.audit.units import donor_keys, is_known
from cytolabe.records import Finding, Fold, Severity
from cytolabe.snapshot.view import SnapshotView

__all__ = ["CODED", "MIN_CODED_CELLS", "MIN_CODED_SHARE", "coded_features"]

CODED = "genes that hold a code"
MIN_CODED_SHARE = 0.9
"""Share of the cells of a class that hold one count other than 0, from which on a gene is a code there."""
MIN_CODED_CELLS = 20
"""Cells of a class below which it is not tested: few cells are equal by chance."""

_MAX_OTHER_SHARE = 0.5
"""Share of the cells of another class up to which they lack the value of a code: the code tells the classes apart."""
_SAMPLE = 64
_SAMPLE_SHARE = 0.75
_SWITCH = (0.99, 0.001)
"""Share of a label's cells from which on, and of all other cells up to which, a gene is a switch."""
_SAMPLE_SWITCH = (0.95, 0.02)
_MIN_OTHERS = 100
_BLOCK_CELLS = 4096
_EXAMPLES = 5
_NOT_ONE_VALUE = -1
_OTHER = {"train": "test", "test": "train"}
_NO_ROWS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class _Class:
    """The cells of one data set, on one side, that have one label (or person; or all of them)."""

    kind: str
    dataset_id: str
    side: str
    name: str
    rows: Integer[np.ndarray, " cells"]


@dataclass(frozen=True, kw_only=True)
class _Code:
    """A gene in a class: the count that nearly all of its cells hold."""

    gene: str
    value: int
    of: _Class


def coded_features(snapshot: SnapshotView, fold: Fold) -> Outcome:
    """Test every gene of a fold for a code of the label, the person or the side.

    Returns
    -------
    A code of labels on both sides is an error: any model can read it. On one side only, or of persons or sides, it is a
    warning, like a gene that is on in one label and off in all others on both sides.
    """
    classes = [one for part in _classes(snapshot.cells, fold) for one in part]
    tested = [one for one in classes if len(one.rows) >= MIN_CODED_CELLS]
    codes: list[_Code] = []
    switches: set[tuple[str, str]] = set()
    n_genes: set[str] = set()
    for dataset_id in sorted({one.dataset_id for one in tested}):
        own = [one for one in tested if one.dataset_id == dataset_id]
        genes = snapshot.measured_genes(dataset_id)
        n_genes |= set(genes)
        found, switched = _of_dataset(snapshot, own, genes)
        codes += found
        switches |= switched
    kinds = _by_kind(codes)
    kinds["side"] = [code for code in kinds["side"] if _is_rare_across(snapshot, code, tested)]
    of_labels = {code.gene for code in kinds["label"]}
    clean = sorted({gene for gene, side in switches if side == "test" and (gene, "train") in switches} - of_labels)
    both = {gene for gene in of_labels if _sides(kinds["label"], gene) == {"train", "test"}}
    untested = np.unique(np.concatenate([_NO_ROWS, *(
        one.rows for one in classes if one.kind == "label" and one.side == "test" and len(one.rows) < MIN_CODED_CELLS
    )]))  # fmt: skip
    test = {
        "test": CODED, "n_tested": len(n_genes), "n_found": len(both), "n_on_one_side": len(of_labels - both),
        "n_of_persons": len({code.gene for code in kinds["person"]}),
        "n_of_sides": len({code.gene for code in kinds["side"]}), "n_switches": len(clean),
        "power": f"codes that hold one count in {MIN_CODED_SHARE:.0%} of the cells of a label, a person or a side, with "
        f"{MIN_CODED_CELLS} cells or more; not codes inside of a label, nor noised ones",
    }  # fmt: skip
    findings = (
        *_coded(snapshot.cells, kinds, both, n_genes=len(n_genes)), *_switched(fold, clean, n_genes=len(n_genes)),
    )  # fmt: skip
    return Outcome(test=test, findings=findings, not_testable={f"{CODED}, cells of small labels": len(untested)})


def _classes(cells: pd.DataFrame, fold: Fold) -> Iterator[list[_Class]]:
    """Yield the classes of each kind."""
    rows = np.concatenate([fold.train_rows, fold.test_rows]).astype(np.int64)
    part = cells.iloc[rows]
    sides = np.repeat(["train", "test"], [len(fold.train_rows), len(fold.test_rows)])
    given = is_known(part["contributor_label"])
    labels = np.where(given, part["contributor_label"], part["cell_type_ontology_term_id"]).astype(str)
    persons = donor_keys(part)
    keys = {
        "label": (labels, given | is_known(part["cell_type_ontology_term_id"])),
        "person": (persons, persons != ""),
        "side": (np.full(len(rows), "", dtype=object), np.ones(len(rows), dtype=bool)),
    }
    for kind, (names, known) in keys.items():
        table = pd.DataFrame({"dataset": part["dataset_id"].to_numpy(), "side": sides, "name": names, "row": rows})
        groups = table[known].groupby(["dataset", "side", "name"], sort=True)["row"]
        yield [
            _Class(kind=kind, dataset_id=str(key[0]), side=str(key[1]), name=str(key[2]), rows=np.sort(own.to_numpy()))
            for key, own in groups
        ]


def _of_dataset(
    snapshot: SnapshotView, classes: Sequence[_Class], genes: Sequence[str]
) -> tuple[list[_Code], set[tuple[str, str]]]:
    """Return the codes of one data set, and its switches as (gene, side)."""
    samples = [_sample(one.rows) for one in classes]
    values, detected = np.zeros((2, len(classes), len(genes)), dtype=np.int64)
    nominated = np.zeros(len(genes), dtype=bool)
    for number, rows in enumerate(samples):
        counts = snapshot.counts(rows, genes)
        values[number], is_constant = _one_value(counts)
        detected[number] = np.bincount(counts.indices[counts.data != 0], minlength=len(genes))
        nominated |= is_constant
    suspects = _could_switch(classes, samples, detected)
    chosen = np.flatnonzero(nominated | suspects)
    if not len(chosen):
        return [], set()
    names = [genes[place] for place in chosen.tolist()]
    shares = np.zeros((len(classes), len(chosen)))
    on = np.zeros((len(classes), len(chosen)), dtype=np.int64)
    for number, one in enumerate(classes):
        n_equal = np.zeros(len(chosen), dtype=np.int64)
        for start in range(0, len(one.rows), _BLOCK_CELLS):
            dense = snapshot.counts(one.rows[start : start + _BLOCK_CELLS], names).toarray()
            n_equal += (dense == values[number, chosen]).sum(axis=0)
            on[number] += (dense != 0).sum(axis=0)
        shares[number] = n_equal / len(one.rows)
    states = np.where(shares >= MIN_CODED_SHARE, values[:, chosen], _NOT_ONE_VALUE)
    told = _told_apart(snapshot, classes, states, names=names)
    codes = [
        _Code(gene=names[place], value=int(states[number, place]), of=one)
        for number, one in enumerate(classes)
        for place in np.flatnonzero((states[number] > 0) & told[number]).tolist()
    ]
    return codes, _switches(classes, on, names)


def _sample(rows: np.ndarray) -> np.ndarray:
    """Return some cells spread evenly over a class."""
    return rows if len(rows) <= _SAMPLE else rows[np.linspace(0, len(rows) - 1, _SAMPLE).astype(np.int64)]


def _one_value(counts: csr_matrix) -> tuple[Integer[np.ndarray, " genes"], Bool[np.ndarray, " genes"]]:
    """Return for each gene the median count, and whether nearly all cells hold it and it is not 0.

    What most cells hold is the median, so that nothing has to be tallied.
    """
    n_cells, n_genes = counts.shape
    often = np.flatnonzero(np.bincount(counts.indices[counts.data != 0], minlength=n_genes) >= n_cells / 2)
    dense = counts[:, often].toarray()
    values, is_constant = np.zeros(n_genes, dtype=np.int64), np.zeros(n_genes, dtype=bool)
    values[often] = np.sort(dense, axis=0)[n_cells // 2]
    is_constant[often] = ((dense == values[often]).mean(axis=0) >= _SAMPLE_SHARE) & (values[often] > 0)
    return values, is_constant


def _told_apart(
    snapshot: SnapshotView, classes: Sequence[_Class], states: np.ndarray, *, names: Sequence[str]
) -> Bool[np.ndarray, "classes genes"]:
    """Tell in which genes the one value of a class tells it from another class of its kind and side.

    The other class holds another value in nearly all of its cells, or this one in half of them at most: a column that
    is nearly constant, in some classes just more than in others, tells nothing. Sides are compared once all data sets
    are known (`_is_rare_across`).
    """
    told = np.zeros(states.shape, dtype=bool)
    groups: dict[tuple[str, str], list[int]] = {}
    for number, one in enumerate(classes):
        groups.setdefault((one.kind, one.side), []).append(number)
    for (kind, _), numbers in groups.items():
        own = states[numbers]
        if kind == "side":
            told[numbers] = True
            continue
        has_code = own > 0
        other = np.stack([((own != row) & (own != _NOT_ONE_VALUE)).any(axis=0) for row in own])
        # Where no two values meet, all that is coded is coded alike.
        open_ = np.flatnonzero((has_code & ~other).any(axis=0))
        rare = np.zeros(own.shape, dtype=bool)
        if len(open_):
            value, chosen = own[:, open_].max(axis=0), [names[place] for place in open_.tolist()]
            shares = np.stack([_share_of(snapshot, classes[number].rows, chosen, value=value) for number in numbers])
            rare[:, open_] = (shares <= _MAX_OTHER_SHARE).any(axis=0)
        told[numbers] = other | rare
    return told


def _share_of(
    snapshot: SnapshotView, rows: np.ndarray, genes: Sequence[str], *, value: np.ndarray
) -> Float[np.ndarray, " genes"]:
    """Return the share of some cells that hold a value, by gene."""
    n_equal = np.zeros(len(genes), dtype=np.int64)
    for start in range(0, len(rows), _BLOCK_CELLS):
        dense = snapshot.counts(rows[start : start + _BLOCK_CELLS], genes).toarray()
        n_equal += (dense == value).sum(axis=0)
    return np.asarray(n_equal / len(rows))


def _could_switch(
    classes: Sequence[_Class], samples: Sequence[np.ndarray], detected: np.ndarray
) -> Bool[np.ndarray, " genes"]:
    """Nominate genes that a label's sample has and the samples of all others lack."""
    sizes = np.array([len(rows) for rows in samples])
    is_sample = [one.kind == "label" for one in classes]
    found = np.zeros(detected.shape[1], dtype=bool)
    for mine, others in _against_others(classes):
        if is_sample[mine] and sizes[others].sum():
            on = detected[mine] / sizes[mine]
            off = detected[others].sum(axis=0) / sizes[others].sum()
            found |= (on >= _SAMPLE_SWITCH[0]) & (off <= _SAMPLE_SWITCH[1])
    return found


def _switches(classes: Sequence[_Class], on: np.ndarray, names: Sequence[str]) -> set[tuple[str, str]]:
    """Return (gene, side) of the genes that nearly all cells of one label have and no other labelled cell has."""
    sizes = np.array([len(one.rows) for one in classes])
    found = set()
    for mine, others in _against_others(classes):
        if sizes[others].sum() < _MIN_OTHERS:
            continue
        shares: Float[np.ndarray, " genes"] = on[mine] / sizes[mine]
        elsewhere = on[others].sum(axis=0) / sizes[others].sum()
        clean = np.flatnonzero((shares >= _SWITCH[0]) & (elsewhere <= _SWITCH[1]))
        found |= {(names[place], classes[mine].side) for place in clean.tolist()}
    return found


def _against_others(classes: Sequence[_Class]) -> Iterator[tuple[int, list[int]]]:
    """Yield each label with the other labels of its side."""
    for mine, one in enumerate(classes):
        if one.kind == "label":
            yield mine, [
                number for number, other in enumerate(classes)
                if other.kind == "label" and other.side == one.side and number != mine
            ]  # fmt: skip


def _by_kind(codes: Sequence[_Code]) -> dict[str, list[_Code]]:
    """Ascribe each gene to the finest thing that it tells: labels before persons before sides."""
    of_labels = {code.gene for code in codes if code.of.kind == "label"}
    of_persons = {code.gene for code in codes if code.of.kind == "person"} - of_labels
    own = {"label": of_labels, "person": of_persons}
    kinds = {kind: [code for code in codes if code.of.kind == kind and code.gene in own[kind]] for kind in own}
    rest = [code for code in codes if code.of.kind == "side" and code.gene not in of_labels | of_persons]
    values = {(code.gene, code.of.side): set[int]() for code in rest}
    for code in rest:
        values[code.gene, code.of.side].add(code.value)
    # One count in all cells of both sides tells nothing.
    same = {gene for gene, side in values if values[gene, side] & values.get((gene, _OTHER[side]), set())}
    return {**kinds, "side": [code for code in rest if code.gene not in same]}


def _is_rare_across(snapshot: SnapshotView, code: _Code, classes: Sequence[_Class]) -> bool:
    """Tell whether at most half of the other side's cells hold the value of a side, where the gene is measured there."""
    others = [
        one.rows for one in classes
        if one.kind == "side" and one.side != code.of.side and code.gene in snapshot.measured_genes(one.dataset_id)
    ]  # fmt: skip
    if not others:
        return True
    share = _share_of(snapshot, np.sort(np.concatenate(others)), [code.gene], value=np.array([code.value]))
    return bool(share[0] <= _MAX_OTHER_SHARE)


def _sides(codes: Sequence[_Code], gene: str) -> set[str]:
    return {code.of.side for code in codes if code.gene == gene}


def _coded(cells: pd.DataFrame, kinds: dict[str, list[_Code]], both: set[str], *, n_genes: int) -> Iterator[Finding]:
    """Report codes: of labels on both sides, then everything else."""
    labels = kinds["label"]
    on_both = [code for code in labels if code.gene in both]
    if on_both:
        yield _finding(
            cells, on_both, code="E-LEAK-08", n_genes=n_genes,
            message="hold one count in all cells of a label, on both sides: a code of the label, which every model can read",
        )  # fmt: skip
    for what, codes in (
        ("a label, on one side only", [code for code in labels if code.gene not in both]),
        ("a person", kinds["person"]),
        ("one side of the fold (and not that one on the other side)", kinds["side"]),
    ):
        if codes:
            yield _finding(
                cells, codes, code="W-LEAK-08", n_genes=n_genes,
                message=f"hold one count in all cells of {what}: no molecules, but a code",
            )  # fmt: skip


def _finding(cells: pd.DataFrame, codes: Sequence[_Code], *, code: str, n_genes: int, message: str) -> Finding:
    """Return a finding over some codes, with a cell of each side."""
    genes = sorted({one.gene for one in codes})
    rows = np.unique(np.concatenate([one.of.rows for one in codes]))
    return Finding(
        code=code,
        severity=Severity.ERROR if code.startswith("E") else Severity.WARNING,
        where=", ".join(sorted({one.of.dataset_id for one in codes})),
        message=f"{len(genes)} gene(s) {message} ({len(rows)} cells; counts of molecules scatter)",
        remedy="deliver the counts without this column: labels, scores and tags belong into obs, not among the genes",
        rule="R16",
        n_affected=len(genes),
        n_total=n_genes,
        examples=tuple(_example(cells, [one for one in codes if one.gene == gene]) for gene in genes[:_EXAMPLES]),
    )


def _example(cells: pd.DataFrame, codes: Sequence[_Code]) -> str:
    """Name a gene with a cell and its count on each side."""
    ids = cells["cell_id"]
    told = []
    for side in ("train", "test"):
        of_side = [code for code in codes if code.of.side == side]
        told += [
            f"{side} {ids.iloc[int(code.of.rows[0])]} ({code.of.name or 'all cells'}) {code.value}"
            for code in of_side[:2]
        ]
    return f"{codes[0].gene}: {', '.join(told)}"


def _switched(fold: Fold, genes: Sequence[str], *, n_genes: int) -> Iterator[Finding]:
    """Report genes that are on in one label and off in all others, on both sides."""
    if genes:
        yield Finding(
            code="W-LEAK-09",
            severity=Severity.WARNING,
            where=fold.split_id,
            message=f"{len(genes)} gene(s) are found in {_SWITCH[0]:.0%} of the cells of one label or more and in "
            f"{_SWITCH[1]:.1%} of the other cells or fewer, on both sides: cleaner than nearly every marker",
            remedy="look whether they are genes at all: a tag, a guide, a transgene or a score; leave those out of the counts",
            rule="R16",
            n_affected=len(genes),
            n_total=n_genes,
            examples=tuple(genes[:_EXAMPLES]),
        )
