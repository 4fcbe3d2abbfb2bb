"""What a file says beside a matrix that speaks against taking it for the raw counts of genes.

Values alone cannot tell corrected counts from raw ones, nor molecules of antibodies from those of genes; the tables
can: SCTransform leaves the totals of its corrected counts in `nCount_SCT`, and 10x files name the type of each feature.
"""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from cytolabe.ingest.column_names import normalized
from cytolabe.ingest.features import is_counter
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.opened import Source
from cytolabe.ingest.tally import MatrixTally
from cytolabe.records import Finding, Severity

__all__ = ["aliases_of", "corrected_evidence", "foreign_features", "is_unnamed"]

_CORRECTED = frozenset({"n_count_sct", "n_counts_sct", "n_umi_sct"})
_RAW = frozenset({"n_count_rna", "n_counts_rna", "n_count", "n_counts", "n_umi", "total_counts"})
_EQUAL_SHARE = 0.99
_OTHER_MOLECULES = re.compile(
    r"antibody|\badts?\b|\bproteins?\Z|peak|\batac|crispr|\bguides?\b|multiplex|hashtag|\bhtos?\b|antigen|\Acustom\Z|\bvdj",
    re.IGNORECASE,
)
"""Types of features that are no genes. Biotypes such as `protein_coding` are."""


def corrected_evidence(cell_table: pd.DataFrame, tally: MatrixTally) -> str:
    """Say which column proves that integers are corrected counts, or return an empty string.

    The totals have to be those of the corrected counts and not also those of the raw ones.
    """
    equal = {
        str(name): normalized(str(name))
        for name in cell_table.columns
        if normalized(str(name)) in _CORRECTED | _RAW and _equals(cell_table[name], tally.cell_totals)
    }
    corrected = [name for name, plain in equal.items() if plain in _CORRECTED]
    if not corrected or len(corrected) < len(equal):
        return ""
    return f"the totals of the cells are those of obs[{corrected[0]!r}], so these are counts corrected by SCTransform"


def _equals(values: pd.Series, totals: np.ndarray) -> bool:
    if not pd.api.types.is_numeric_dtype(values.dtype) or not len(totals):
        return False
    declared = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return bool(np.mean(np.abs(declared - totals) < 0.5) >= _EQUAL_SHARE)


def foreign_features(source: Source, matrix: MatrixHandle, tally: MatrixTally) -> list[Finding]:
    """Refuse a matrix that mixes genes with other molecules: the total of a cell would be neither's."""
    kinds = source.feature_kinds(matrix)
    if not kinds:
        return []
    foreign = np.array([_OTHER_MOLECULES.search(kind) is not None for kind in kinds], dtype=bool)
    if not foreign.any():
        return []
    said = Counter(kind for kind, other in zip(kinds, foreign, strict=True) if other)
    total = int(tally.feature_totals.sum())
    share = int(tally.feature_totals[foreign].sum()) / total if total else 0.0
    shown = ", ".join(f"{kind} ({times:,})" for kind, times in sorted(said.items(), key=lambda p: (-p[1], p[0])))
    names = source.features(matrix)
    return [
        Finding(
            code="E-FEATURE-04",
            severity=Severity.ERROR,
            where=f"{matrix.name}, var",
            n_affected=int(foreign.sum()),
            n_total=len(kinds),
            examples=tuple(names[place] for place in np.flatnonzero(foreign)[:5]),
            message=(
                f"{int(foreign.sum()):,} of {len(kinds):,} features are no genes: {shown}, with {share:.1%} of the counts. "
                "The total of a cell would mix molecules of RNA with others."
            ),
            remedy="Deliver the genes alone: adata[:, adata.var['feature_types'] == 'Gene Expression'].",
            rule="cytolabe/features",
        )
    ]


def is_unnamed(source: Source, matrix: MatrixHandle) -> bool:
    """Tell whether the features of a matrix are mere counters, so that no count of it belongs to a gene."""
    features = source.features(matrix)
    return bool(features) and sum(map(is_counter, features)) > 0.5 * len(features)


def aliases_of(tallies: Mapping[str, MatrixTally]) -> dict[str, str]:
    """Return matrices that hold the same values as an earlier one: name -> the other's name.

    The usual cause is an assignment without a copy before the values were changed in place.
    """
    seen: dict[str, str] = {}
    names = list(tallies)
    for place, name in enumerate(names):
        for other in names[:place]:
            one, two = tallies[name], tallies[other]
            same = one.n_nonzero == two.n_nonzero and np.array_equal(one.value_sums, two.value_sums)
            if same and name not in seen and one.n_nonzero:
                seen[name] = other
    return seen
