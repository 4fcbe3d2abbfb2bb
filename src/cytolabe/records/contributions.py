"""What a lab delivered, and what checks find of it: facts, stored verbatim."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "HOPS",
    "LAYER_COUNTS",
    "MISSING_WORDS",
    "UNKNOWN",
    "DatasetRecord",
    "Finding",
    "HopEvidence",
    "HopState",
    "MatrixKind",
    "Severity",
]

UNKNOWN = "unknown"
"""The one word for a value that was not given. Never a class, never a person."""

MISSING_WORDS = frozenset(
    {
        "", "unknown", "unassigned", "unlabelled", "unlabeled", "unannotated", "undefined", "na", "n/a", "nan", "none",
        "null", "<na>",
    }
)  # fmt: skip
"""What labs write where there is nothing to say, in lower case."""

HOPS = ("alignment", "reference", "kit", "library", "reads")
"""Hops from the counts back to the raw reads; the counts themselves are the hop `matrix`."""

LAYER_COUNTS = "layer_counts."
"""Columns of this prefix stand beside those of a contributor: the counts of each cell in a layer that an atlas does not keep."""


class Severity(StrEnum):
    """How much a finding weighs: an error refuses, a warning qualifies, a note informs."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found, at the place `where`, under `rule`; `autofix` are operations of a patch that repair it."""

    code: str
    severity: Severity
    where: str
    message: str
    remedy: str
    rule: str
    n_affected: int = 0
    n_total: int = 0
    examples: tuple[str, ...] = ()
    autofix: tuple[Mapping[str, object], ...] = ()


class MatrixKind(StrEnum):
    """What the values of a matrix were proven to be."""

    UMI = "umi"
    READS = "reads"
    CORRECTED = "corrected"
    NORMALIZED = "normalized"
    UNKNOWN = "unknown"


class HopState(StrEnum):
    """How well one hop of the provenance is known."""

    VERIFIED = "verified"
    DECLARED = "declared"
    RECOVERED = "recovered"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class HopEvidence:
    """One fact about one hop, as a file says it: the file by relative name and SHA-256, the place inside it.

    `fact` says what the value is (`version of STAR`, `genome`, `library ids`).
    """

    hop: str
    fact: str
    value: str
    file: str
    place: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """What a lab delivered, and what was proven of it. Nothing here is an interpretation.

    `columns` says which contributor column carries which role (`label`, `donor`, `batch`, `label_parent`, ...);
    `inferred` names the roles that nobody declared. `provenance` maps a hop (`matrix`, `alignment`, `reference`,
    `kit`, `library`, `reads`) to its state, `declared` to what was said of it, and `evidence` holds what files of the
    pipeline say of it; `label_origin_suspected` is what the file gives away.
    """

    dataset_id: str
    title: str
    source_digest: str
    matrix: str
    matrix_kind: MatrixKind
    n_cells: int
    n_features: int
    n_nonzero: int
    organism: str
    study: str
    columns: Mapping[str, str] = field(default_factory=dict)
    inferred: tuple[str, ...] = ()
    label_origin: str = UNKNOWN
    label_origin_suspected: str = UNKNOWN
    label_origin_evidence: str = ""
    gene_reference: str = UNKNOWN
    annotation: str = UNKNOWN
    annotation_evidence: str = "none"
    genes_mapped_fraction_of_counts: float = 0.0
    upstream_fraction_of_counts: float | None = None
    provenance: Mapping[str, HopState] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[HopEvidence, ...] = ()
