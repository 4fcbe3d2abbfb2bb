"""Find the raw counts of a file and prove them on every non-zero.

Order of search: `raw/X`, `layers/counts`, `X`, then the other layers by name. A candidate is proven when every
non-zero is a non-negative, finite integer up to 2^53. Integers are then asked whether they are counts: rounded
normalized values skip small values or have (almost) equal totals in all cells, and counts corrected by SCTransform have
the totals that the file gives for these. Two proven matrices with different values are a finding, and the first of the
order is used, one with named features before one without; a declared matrix is used instead of the
search, but proven all the same. What is not proven is never used, and the message says what it looks like.

Sources of the failures looked for: values scaled to 10,000 per cell and rounded pass other validators as raw counts;
`layers['counts']` often aliases a matrix that was logged in place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int, UInt64

from cytolabe.ingest.compare_counts import compare_candidates
from cytolabe.ingest.count_context import aliases_of, corrected_evidence, foreign_features, is_unnamed
from cytolabe.ingest.count_shape import SMALL_SCATTER, looks_like, rounded_evidence, total_scatter
from cytolabe.ingest.intron_layers import layer_counts
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.native import exact_below
from cytolabe.ingest.opened import Source
from cytolabe.ingest.tally import MatrixTally, tally_matrix
from cytolabe.records import Finding, HopState, MatrixKind, Severity

__all__ = ["CandidateMatrix", "CountsProof", "find_counts"]

_FIRST = ("raw/X", "layers/counts", "X")
_READS_LARGEST = 65_535
"""A UMI count of one gene in one cell above this would need more molecules than a droplet library holds."""
_KINDS = {kind.value: kind for kind in (MatrixKind.UMI, MatrixKind.READS)}


@dataclass(frozen=True, kw_only=True)
class CandidateMatrix:
    """What one matrix of the file was found to be; `verdict` is counts, rounded, not_integer or empty."""

    name: str
    verdict: str
    n_nonzero: int
    broken_fraction: float
    looks_like: str


@dataclass(frozen=True, kw_only=True)
class CountsProof:
    """Which matrix holds the raw counts, how that is known, and its sums. `matrix` is empty where none does.

    `layer_counts` are the totals per cell of layers of introns and exons beside it, if any (`intron_layers`).
    """

    matrix: str
    kind: MatrixKind
    state: HopState
    n_nonzero: int
    cell_totals: Int[np.ndarray, " cells"]
    cell_genes: Int[np.ndarray, " cells"]
    feature_totals: Int[np.ndarray, " features"]
    fingerprints: UInt64[np.ndarray, " cells"]
    largest: int = 0
    findings: tuple[Finding, ...] = ()
    candidates: tuple[CandidateMatrix, ...] = field(default=())
    layer_counts: Mapping[str, np.ndarray] = field(default_factory=dict)


def find_counts(
    source: Source,
    *,
    declared: str = "",
    declared_kind: str = "",
    tally_of: Callable[[MatrixHandle], MatrixTally] | None = None,
) -> CountsProof:
    """Find and prove the raw counts of an open file.

    Parameters
    ----------
    declared
        Name of the matrix that the manifest says holds the counts (`X`, `raw/X`, `counts`, `layers/counts`).
    declared_kind
        `umi` or `reads`, if the manifest says so.
    tally_of
        Runs one pass over a matrix; by default it is streamed here.

    Raises
    ------
    RefusedError
        If the structure of a matrix is damaged.
    """
    matrices = {matrix.name: matrix for matrix in source.matrices if min(matrix.shape)}
    order = [name for name in _FIRST if name in matrices] + sorted(set(matrices) - set(_FIRST))
    findings: list[Finding] = []
    if declared:
        name = _declared_name(declared, order)
        if not name:
            return _nothing(source, [_unknown_matrix(declared, order)], ())
        order = [name]
    if not order:
        return _nothing(source, [_no_matrix(source)], ())
    tally_of = tally_of or (lambda matrix: _tally(source, matrix))
    tallies = {name: tally_of(matrices[name]) for name in order}
    introns, intron_findings = layer_counts(matrices, tallies, tally_of)
    rounded = {
        name: rounded_evidence(tallies[name]) or corrected_evidence(source.cell_table, tallies[name])
        for name in order
        if tallies[name].is_integer
    }
    candidates = tuple(_candidate(name, tallies[name], rounded.get(name, "")) for name in order)
    proven = [name for name in order if tallies[name].is_integer and not rounded[name]]
    # Counts whose features have no names belong to no gene; they stand behind any that have.
    proven.sort(key=lambda name: is_unnamed(source, matrices[name]))
    if not proven:
        return _nothing(source, _not_counts(source, tallies, rounded), candidates)
    chosen = proven[0]
    findings += [compare_candidates(source, matrices[chosen], matrices[other]) for other in proven[1:]]
    findings += [_rounded_beside(name, why) for name, why in rounded.items() if why]
    findings += foreign_features(source, matrices[chosen], tallies[chosen])
    findings += _precision(matrices[chosen], tallies[chosen])
    findings += _equal_totals(chosen, tallies[chosen])
    kind, kind_findings = _kind(chosen, tallies[chosen], declared_kind)
    state, state_findings = _state(source, chosen)
    return CountsProof(
        matrix=chosen,
        kind=kind,
        state=state,
        n_nonzero=tallies[chosen].n_nonzero,
        cell_totals=tallies[chosen].cell_totals,
        cell_genes=tallies[chosen].cell_genes,
        feature_totals=tallies[chosen].feature_totals,
        fingerprints=tallies[chosen].fingerprints,
        largest=int(tallies[chosen].largest),
        findings=(*findings, *kind_findings, *state_findings, *intron_findings),
        candidates=candidates,
        layer_counts=introns,
    )


def _tally(source: Source, matrix: MatrixHandle) -> MatrixTally:
    blocks = source.iter_blocks(matrix, dataset_id=source.path.stem)
    limit = exact_below(matrix.dtype)
    return tally_matrix(blocks, n_cells=matrix.shape[0], n_features=matrix.shape[1], exact_below=limit)


def _candidate(name: str, tally: MatrixTally, rounded: str) -> CandidateMatrix:
    verdict = (
        "empty" if not tally.n_nonzero else "rounded" if rounded else "counts" if tally.is_integer else "not_integer"
    )
    return CandidateMatrix(
        name=name,
        verdict=verdict,
        n_nonzero=tally.n_nonzero,
        broken_fraction=tally.broken_fraction,
        looks_like=rounded or ("counts" if tally.is_integer else looks_like(tally)),
    )


def _nothing(source: Source, findings: list[Finding], candidates: tuple[CandidateMatrix, ...]) -> CountsProof:
    normalized = any(candidate.verdict in {"rounded", "not_integer"} for candidate in candidates)
    return CountsProof(
        matrix="",
        kind=MatrixKind.NORMALIZED if normalized else MatrixKind.UNKNOWN,
        state=HopState.UNKNOWN,
        n_nonzero=0,
        cell_totals=np.zeros(source.n_cells, dtype=np.int64),
        cell_genes=np.zeros(source.n_cells, dtype=np.int64),
        feature_totals=np.zeros(0, dtype=np.int64),
        fingerprints=np.zeros(source.n_cells, dtype=np.uint64),
        findings=tuple(findings),
        candidates=candidates,
    )


def _declared_name(declared: str, names: list[str]) -> str:
    """Match what people write (`raw.X`, `layers['counts']`, `counts`) with a matrix of the file."""
    plain = declared.strip().replace("['", "/").replace('["', "/").replace("']", "").replace('"]', "")
    plain = plain.replace("raw.X", "raw/X").removeprefix("adata.")
    for name in (plain, f"layers/{plain}"):
        if name in names:
            return name
    return ""


# --- findings -----------------------------------------------------------------------------------------------------


def _not_counts(source: Source, tallies: Mapping[str, MatrixTally], rounded: Mapping[str, str]) -> list[Finding]:
    findings = []
    integers = {name: why for name, why in rounded.items() if why}
    if integers:
        name = next(iter(integers))
        findings.append(
            Finding(
                code="E-COUNTS-02",
                severity=Severity.ERROR,
                where=name,
                n_affected=tallies[name].n_nonzero,
                n_total=tallies[name].n_nonzero,
                examples=tuple(f"{other}: {why}" for other, why in integers.items()),
                message=f"The values are integers, but no counts: {integers[name]}.",
                remedy="Deliver the matrix before normalization and rounding, for example as layers['counts'].",
                rule="cytolabe/counts",
            )
        )
    fractional = {name: tally for name, tally in tallies.items() if not tally.is_integer}
    if fractional:
        copies = aliases_of(fractional)
        texts = [
            f"{name}: holds the same values as {copies[name]}; probably assigned without a copy before they were changed."
            if name in copies
            else _describe(source, name, tally)
            for name, tally in fractional.items()
        ]
        findings.append(
            Finding(
                code="E-COUNTS-01",
                severity=Severity.ERROR,
                where=", ".join(fractional),
                n_affected=sum(sum(tally.broken.values()) for tally in fractional.values()),
                n_total=sum(tally.n_nonzero for tally in fractional.values()),
                examples=tuple(texts[:5]),
                message="No matrix of the file is raw counts. " + " ".join(texts),
                remedy=(
                    "Deliver the raw counts (integers, before any scaling or logarithm) as X, raw.X or "
                    "layers['counts']; they cannot be had back from these values. Labels need no counts: cytolabe reconcile FILE."
                ),
                rule="cytolabe/counts",
            )
        )
    return findings


def _describe(source: Source, name: str, tally: MatrixTally) -> str:
    if not tally.n_nonzero:
        return f"{name}: holds no value but zero."
    words = {
        "fractional": "not whole",
        "negative": "negative",
        "nonfinite": "NaN or infinite",
        "oversized": "over 2^53",
    }
    parts = [
        f"{100 * tally.broken[kind] / tally.n_nonzero:.3g} % {words[kind]}" for kind in words if kind in tally.broken
    ]
    cell, feature, value = min(tally.first.values())
    features = {matrix.name: source.features(matrix) for matrix in source.matrices}[name]
    place = f"first at cell {source.cell_names[cell]}, gene {features[feature]} = {value:.6g}"
    return f"{name}: {', '.join(parts)} of {tally.n_nonzero:,} values ({place}); {looks_like(tally)}."


def _rounded_beside(name: str, why: str) -> Finding:
    return Finding(
        code="N-COUNTS-05",
        severity=Severity.NOTE,
        where=name,
        n_affected=1,
        n_total=1,
        examples=(why,),
        message=f"{name} holds integers that are no counts ({why}); it is not used.",
        remedy="Nothing to do.",
        rule="cytolabe/counts",
    )


def _precision(matrix: MatrixHandle, tally: MatrixTally) -> list[Finding]:
    if not tally.n_inexact:
        return []
    power = int(np.log2(tally.exact_below))
    return [
        Finding(
            code="W-COUNTS-06",
            severity=Severity.WARNING,
            where=matrix.name,
            n_affected=tally.n_inexact,
            n_total=tally.n_nonzero,
            examples=(f"{tally.largest:.0f}",),
            message=(
                f"{tally.n_inexact:,} values reach 2^{power} in {matrix.dtype}, which cannot tell neighboring integers "
                "apart there."
            ),
            remedy="Write the counts as int32, int64 or float64; these may have been rounded already.",
            rule="cytolabe/counts",
        )
    ]


def _equal_totals(name: str, tally: MatrixTally) -> list[Finding]:
    scatter = total_scatter(tally)
    if scatter is None or scatter >= SMALL_SCATTER:
        return []
    return [
        Finding(
            code="W-COUNTS-11",
            severity=Severity.WARNING,
            where=name,
            n_affected=len(tally.cell_totals),
            n_total=len(tally.cell_totals),
            examples=(f"coefficient of variation {scatter:.3f}",),
            message=f"The totals of the cells vary by {100 * scatter:.1f} % only; real cells vary by 26 % and more.",
            remedy="Make sure that these are the raw counts: scaled and rounded, or down-sampled, values look like this.",
            rule="cytolabe/counts",
        )
    ]


def _kind(name: str, tally: MatrixTally, declared: str) -> tuple[MatrixKind, list[Finding]]:
    """Molecules or reads: the file cannot prove it, but very large values or few ones speak against molecules."""
    reads_like = tally.largest > _READS_LARGEST or tally.n_ones < 0.05 * tally.n_nonzero
    if declared and declared not in _KINDS:
        finding = _kind_finding(name, f"matrix_kind = {declared!r} is neither 'umi' nor 'reads'.", tally)
        return MatrixKind.UNKNOWN, [finding]
    if declared:
        kind = _KINDS[declared]
        if kind is MatrixKind.UMI and reads_like:
            return kind, [_kind_finding(name, "Declared as molecules (umi), but the values look like reads.", tally)]
        return kind, []
    if reads_like:
        return MatrixKind.UNKNOWN, [_kind_finding(name, "The values look like reads, and nothing is declared.", tally)]
    return MatrixKind.UMI, []


def _kind_finding(name: str, message: str, tally: MatrixTally) -> Finding:
    share = tally.n_ones / tally.n_nonzero
    return Finding(
        code="W-COUNTS-07",
        severity=Severity.WARNING,
        where=name,
        n_affected=1,
        n_total=1,
        examples=(f"largest {tally.largest:.0f}", f"share of ones {share:.3f}"),
        message=f"{message} Largest value {tally.largest:,.0f}; {100 * share:.1f} % of the non-zeros are 1.",
        remedy="Say what was counted in the manifest: matrix_kind = 'umi' or 'reads'.",
        rule="cytolabe/counts",
    )


def _state(source: Source, name: str) -> tuple[HopState, list[Finding]]:
    """Say how the counts are known: computed back from logarithms is recovered, never verified (rule R2)."""
    columns = [str(column) for column in source.cell_table.columns if "recovery_residual" in str(column).lower()]
    keys = [
        f"uns/{key}" for key in source.uns_keys if "count_recovery" in key.lower() or "recovered_counts" in key.lower()
    ]
    said = [f"obs[{column!r}]" for column in columns] + keys
    if not said:
        return HopState.VERIFIED, []
    finding = Finding(
        code="N-COUNTS-08",
        severity=Severity.NOTE,
        where=name,
        n_affected=source.n_cells,
        n_total=source.n_cells,
        examples=tuple(said[:5]),
        message=f"The file says that its counts were recovered from log values ({', '.join(said[:3])}).",
        remedy="Nothing to do; the matrix is recorded as recovered, never as verified.",
        rule="R2",
    )
    return HopState.RECOVERED, [finding]


def _unknown_matrix(declared: str, names: list[str]) -> Finding:
    return Finding(
        code="E-COUNTS-09",
        severity=Severity.ERROR,
        where=f"manifest: matrix = {declared!r}",
        n_affected=1,
        n_total=1,
        examples=tuple(names[:5]),
        message=f"The file has no matrix {declared!r}; it has {', '.join(names) or 'none'}.",
        remedy="Correct the name in the manifest, or remove it to have the counts looked for.",
        rule="cytolabe/counts",
    )


def _no_matrix(source: Source) -> Finding:
    message = f"The file has {source.n_cells:,} cells, but no matrix with a gene in it: only results, no counts."
    unread = [finding for finding in source.findings if finding.code in {"W-MATRIX-05", "E-MATRIX-06"}]
    if not source.n_cells:
        message = "The file has no cells: its table of cells has no row."
    elif unread:
        message = (
            f"None of the matrices of the file can be used: {', '.join(finding.where for finding in unread)} (see "
            f"{unread[0].code})."
        )
    return Finding(
        code="E-COUNTS-10",
        severity=Severity.ERROR,
        where=source.path.name,
        n_affected=source.n_cells,
        n_total=source.n_cells,
        message=message,
        remedy="Deliver the raw counts (cells x genes) as X, raw.X or layers['counts'].",
        rule="cytolabe/counts",
    )
