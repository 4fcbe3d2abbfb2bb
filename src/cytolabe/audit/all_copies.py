"""Every copy of a cell that a snapshot holds: identical ones, and one droplet counted twice (rule R9)."""

import dataclasses

import pandas as pd

from cytolabe.audit.duplicates import MIN_SHARED_COUNTS, DuplicateReport, find_duplicates, identical_pairs, places_of
from cytolabe.audit.near_copies import NearSearch, find_near_copies
from cytolabe.audit.pair_table import sorted_pairs
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.view import SnapshotView

__all__ = ["MIN_SHARED_NONZERO", "copied_pairs", "find_copies"]

_EXAMPLES = 5
MIN_SHARED_NONZERO = 100
"""Genes with a count on the shared genes below which a cell is not testable (rule R9)."""


def find_copies(snapshot: SnapshotView, *, min_shared_nonzero: int = MIN_SHARED_NONZERO) -> DuplicateReport:
    """Find identical and near-identical cells: `find_duplicates` and `find_near_copies` together.

    Raises
    ------
    UsageError
        If `min_shared_nonzero` is below 1.
    """
    identical = find_duplicates(snapshot, min_shared_nonzero=min_shared_nonzero)
    near = _near(snapshot, min_shared_nonzero)
    return dataclasses.replace(
        identical,
        pairs=sorted_pairs([identical.pairs, near.pairs]),
        near=near,
        findings=(*identical.findings, *_findings(near, snapshot)),
    )


def copied_pairs(snapshot: SnapshotView) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Return the pairs of `find_copies(...)` without telling who could be tested, and findings of what was not searched, or less well."""
    near = _near(snapshot, MIN_SHARED_NONZERO)
    findings = tuple(finding for finding in _findings(near, snapshot) if finding.code in {"N-DUP-04", "N-DUP-05"})
    return sorted_pairs([identical_pairs(snapshot), near.pairs]), findings


def _near(snapshot: SnapshotView, min_shared_nonzero: int) -> NearSearch:
    places = places_of(snapshot)
    genes = {name: snapshot.measured_genes(name) for name in places}
    return find_near_copies(snapshot, genes, places, least=(min_shared_nonzero, MIN_SHARED_COUNTS))


def _findings(near: NearSearch, snapshot: SnapshotView) -> tuple[Finding, ...]:
    n_cells = sum(record.n_cells for record in snapshot.datasets.values())
    found = [
        Finding(
            code="W-DUP-03",
            severity=Severity.WARNING,
            where=f"{a} and {b}" if a != b else str(a),
            message=f"{len(group)} pair(s) of cells differ less than two samples of one cell would: one droplet counted "
            f"twice, or thinned (chi-square per degree of freedom {group['dispersion'].median():.2f} where unrelated cells have about 1)",
            remedy="keep one of the two countings, or pass the pairs to the split, which keeps both sides together",
            rule="R9",
            n_affected=len(set(group["a_row"]) | set(group["b_row"])),
            n_total=n_cells,
            examples=_examples(group),
        )
        for (a, b), group in near.pairs.groupby(["dataset_a", "dataset_b"], sort=True)
    ]
    left = near.comparisons[~near.comparisons["is_searched"].astype(bool)]
    if not left.empty:
        found.append(
            Finding(
                code="N-DUP-04",
                severity=Severity.NOTE,
                where="snapshot",
                message=f"{len(left)} of {len(near.comparisons)} comparisons of data sets were not searched for "
                "near-identical cells: " + "; ".join(sorted(set(left["why_not"]))),
                remedy="of large snapshots freeze parts (by tissue, say) and audit each; of changed counts contribute the raw ones. "
                "Identical cells were searched everywhere",
                rule="R9",
                n_affected=len(left),
                n_total=len(near.comparisons),
                examples=tuple(f"{row.dataset_a}|{row.dataset_b}" for row in left.head(_EXAMPLES).itertuples()),
            )
        )
    if near.one_sided:
        found.append(
            Finding(
                code="N-DUP-05",
                severity=Severity.NOTE,
                where="snapshot",
                message=f"{len(near.one_sided)} of {len(near.comparisons)} comparisons hold so many cells that only the earlier of two "
                "cells asked for partners: a shallow copy behind its deep cell may be missed (how many: `near_search`)",
                remedy="freeze parts of up to 100,000 cells (by tissue, say) and audit each",
                rule="R9",
                n_affected=len(near.one_sided),
                n_total=len(near.comparisons),
                examples=tuple(f"{a}|{b}" for a, b in near.one_sided[:_EXAMPLES]),
            )
        )
    return tuple(found)


def _examples(group: pd.DataFrame) -> tuple[str, ...]:
    return tuple(f"{row.cell_a} ~ {row.cell_b} (r {row.similarity:.3f})" for row in group.head(_EXAMPLES).itertuples())
